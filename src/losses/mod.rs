//! Comparisons of a student with its targets: outputs, the likeliest tokens, hidden states.

pub mod batched;
mod composed;
pub mod hidden;
pub mod output;
pub mod terms;
mod top_k;
