//! Training: objectives, optimizer, learning-rate schedule, checkpoints and metrics.

mod checkpoint;
mod config;
mod ema;
mod gradients;
mod kernels;
mod metrics;
mod objective;
mod optimizer;
mod resume;
mod run;
mod schedule;
mod shards;
mod state;
mod store;
mod tensorboard;
mod trainer;

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
pub use tensorboard::read_records;
pub use trainer::{Summary, Trainer, Validate};
