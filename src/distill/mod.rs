//! How does a student learn from its teacher?

mod algebra;
pub mod config;
pub mod init;
mod products;
pub mod split;

pub use config::{
    Auto, DepthConfig, DepthLaw, DistillConfig, Every, HiddenConfig, Init, Layers, LoraInit,
    LossConfig, PhaseConfig, StudentConfig, Weighting,
};
