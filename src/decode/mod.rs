//! Decoding: reading new tokens with a cache, each token at its own depth.
//!
//! A pass takes any number of new tokens of any number of sequences. The prelude, the repetitions of
//! the core until the token stops, and the coda are applied to each; keys and values are cached by
//! layer and repetition.

mod cache;
mod decoder;
mod depth;
mod layer;
mod pass;
mod token_states;

pub use cache::{CacheSharing, DecodeCache};
pub use decoder::{Decoder, Read};
pub use depth::ReadDepth;
pub(crate) use token_states::output_signal;
