//! How does a student learn from its teacher?

pub mod cache;
pub mod config;
pub mod depth;
pub mod exits;
pub mod granularity;
pub mod halting;
pub mod init;
pub mod objective;
mod step;
pub mod weight_schedule;

pub use cache::{StatePrecision, TeacherCache, TeacherCacheConfig};
pub use config::{
    Auto, Compared, DistillConfig, HiddenConfig, Init, Layers, LoraInit, LossConfig, PhaseConfig,
    StudentConfig,
};
pub use depth::{DepthConfig, DrawnFor, Recompute, RepetitionSampling};
pub use exits::{ExitPrior, ExitTarget, ExitsConfig};
pub use granularity::Every;
pub use halting::{HaltingConfig, Learns};
pub use init::{
    MAP, ReducedWidth, project_width, reduced_width_config, student_params, student_tensors,
};
pub use objective::Distillation;
pub use step::graph_bytes;
pub use weight_schedule::WeightSchedule;
