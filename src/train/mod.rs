//! Training: objectives, optimizer, learning-rate schedule, checkpoints and metrics.

pub mod checkpoint;
pub mod config;
pub mod ema;
pub mod gradients;
mod kernels;
pub mod metrics;
pub mod objective;
pub mod optimizer;
mod resume;
mod run;
pub mod schedule;
pub mod shards;
mod state;
mod store;
pub mod tensorboard;
pub mod trainer;

pub use checkpoint::{Checkpoints, Weights, restore_parameters};
pub use config::TrainConfig;
pub use ema::Ema;
pub use gradients::GradientSum;
pub use metrics::{StepMetrics, read_steps};
pub use objective::{Loss, Objective, StepContext};
pub use optimizer::{GroupConfig, Optimizer, OptimizerConfig};
pub use resume::Resume;
pub use schedule::{Schedule, ScheduleKind};
pub use shards::in_shards;
pub use trainer::{Summary, Trainer, Validate};
