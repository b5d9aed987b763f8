//! Distillation: a looped student is trained on the hidden states and outputs of its teacher.

pub mod cache;
pub mod config;
pub mod depth;
pub mod early_exit;
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
pub use depth::{DepthConfig, Recompute, RepetitionSampling, SampledPer};
pub use early_exit::{EarlyExitConfig, EarlyExitPrior, EarlyExitTarget};
pub use granularity::Granularity;
pub use halting::{HaltingConfig, Trains};
pub use init::{
    MAP, ReducedWidth, project_width, reduced_width_config, student_params, student_tensors,
};
pub use objective::Distillation;
pub use step::activation_bytes;
pub use weight_schedule::WeightSchedule;
