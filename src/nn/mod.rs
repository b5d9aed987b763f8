//! What is a model made of?

pub mod along;
mod arithmetic;
pub mod attention;
mod backward;
pub mod block;
pub mod compare_each;
mod composed_loss;
mod few_rows;
pub mod gelu;
pub(crate) mod gemm;
pub mod head;
pub(crate) mod host;
pub mod injection;
pub mod linear;
pub(crate) mod loops;
pub mod mean;
pub mod mlp;
pub mod norm;
mod ops;
pub mod params;
pub mod pick;
pub mod recompute;
mod reference;
pub mod rope;
pub mod state_error;
pub mod stored;
pub mod tape;
pub mod top_tokens;

pub use block::{Block, BlockInputs, BlockShape, LastKeys, LayerCache};
pub use linear::Linear;
pub use params::{Gradients, Param, Params, Placement, Weight, Weights};
pub use rope::RopeTable;
pub use tape::{Tape, Value};
