//! How does a student learn from its teacher?

pub mod config;

pub use config::{
    Auto, DepthConfig, DepthLaw, DistillConfig, Every, HiddenConfig, Init, Layers, LoraInit,
    LossConfig, PhaseConfig, StudentConfig, Weighting,
};
