//! How are the next tokens read, when each may stop at its own depth?
//!
//! A pass takes any number of new tokens of any number of texts. Each goes through the prelude, as
//! often through the core as it needs, and through the coda; keys and values are kept by layer and
//! repetition.

mod attention;
mod cache;
mod decoder;
mod depth;
mod layer;
mod pass;
mod running;

pub use cache::{CacheSharing, DecodeCache};
pub use decoder::{Decoder, Read};
pub use depth::ReadDepth;
pub(crate) use running::output;
