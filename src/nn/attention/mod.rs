//! Causal softmax attention with grouped key heads and an optional sliding window: softmax(q k^T /
//! sqrt(head width)) v over the visible keys. Vaswani et al. 2017; Ainslie et al. 2023.

mod cached;
mod composed;
mod kernel;
mod shape;

pub(crate) use cached::{CachedKeys, Heads};
pub use kernel::attention;
pub use shape::AttentionShape;
