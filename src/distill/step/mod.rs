//! One step of distillation: what the teacher gives, what the student is run on, and the losses.

mod free_running;
mod halting_loss;
pub(super) mod hidden_loss;
mod memory;
pub(super) mod output_loss;
mod per_token;
pub(super) mod teacher_layers;
pub(super) mod teacher_outputs;

pub use memory::graph_bytes;
