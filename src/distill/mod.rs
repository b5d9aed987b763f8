//! Distillation: a looped student is trained on the hidden states and outputs of its teacher.

mod cache;
mod config;
mod depth;
mod early_exit;
mod granularity;
mod halting;
mod init;
mod objective;
mod step;
mod weight_schedule;

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
    Frozen, MAP, ReducedWidth, angular_distances, find_split, initial_params, knees, project_width,
    reduced_width_config, student_params, student_tensors,
};
pub use objective::Distillation;
pub use step::activation_bytes;
pub use weight_schedule::WeightSchedule;
