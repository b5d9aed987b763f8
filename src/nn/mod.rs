//! Layers and operations on the tape, each with a fused CPU kernel where it pays.

pub mod act_mean;
pub mod attention;
pub mod block;
pub mod embedding;
pub mod gather;
pub mod gelu;
pub mod halting_head;
pub mod injection;
pub mod linear;
pub mod mlp;
pub mod norm;
mod ops;
mod reference;
pub mod rope;
pub mod shapes;

pub use block::{Block, BlockInputs, BlockShape, LastKeys, LayerCache};
pub use linear::Linear;
pub use rope::RopeTable;
