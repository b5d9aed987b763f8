//! Losses of a student: cross entropy, KL from the teacher's outputs or top-k tokens, hidden states.

pub mod batched;
mod composed;
pub mod hidden;
pub mod output;
pub mod terms;
mod top_k;
