//! The one integration-test binary: candle links slowly.
#![allow(clippy::unwrap_used, clippy::pedantic, missing_docs, unreachable_pub)]

mod gradients;
mod support;
