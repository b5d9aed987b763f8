//! The one integration-test binary: candle links slowly.
mod data;
