//! One step of distillation: the three kinds of step, and the losses they share.

mod activation_bytes;
mod core;
mod free_running;
mod halting_loss;
mod hidden_loss;
mod inputs;
mod loss_terms;

mod output_loss;
mod per_token;
mod state_distances;
mod teacher_forced;
mod teacher_layers;
mod teacher_outputs;

pub use activation_bytes::activation_bytes;
pub(super) use free_running::FreeRunning;
pub(super) use inputs::StepInputs;
pub(super) use per_token::PerToken;
pub(super) use teacher_forced::TeacherForced;
pub(super) use teacher_layers::RequiredLayers;
pub(super) use teacher_outputs::{TeacherOutputs, TeacherSource};
