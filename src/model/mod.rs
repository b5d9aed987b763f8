//! What is factored into what?

pub mod config;

pub use config::{RopeScaling, TransformerConfig};
