//! Layers and operations on the tape, one to a file: its formula, its CPU kernel with the backward
//! pass, the same composed of candle's operations for other devices, and its form for single rows in
//! decoding.

mod act_mean;
mod add;
mod attention;
mod block;
mod embedding;
mod gated;
mod gather;
mod gelu;
mod halting_head;
mod injection;
mod linear;
mod norm;
mod rope;
mod sigmoid;
mod swiglu;
#[cfg(test)]
mod test_support;

pub use act_mean::weighted_mean;
#[cfg(test)]
pub(crate) use add::add;
pub use attention::{AttentionShape, attention};
pub(crate) use attention::{CachedKeys, Heads};
pub use block::{Block, BlockInputs, BlockShape, LastKeys, LayerCache};
pub(crate) use embedding::check_tokens;
pub use embedding::embedding;
pub use gather::{gather, gather_tensor, scatter};
pub use gelu::{GeluForm, gated_gelu, gelu};
pub(crate) use halting_head::halting_logit;
pub(crate) use injection::{inject_gated, inject_linear};
pub use linear::{Linear, LowRank};
pub(crate) use linear::{MatrixStore, QuantizedLinear};
pub(crate) use norm::rms_norm_rows;
pub use norm::{layer_norm, rms_norm};
pub use rope::{RopeTable, rope};
pub use swiglu::swiglu;
pub(crate) use swiglu::swiglu_in_place;
