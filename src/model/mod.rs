//! The models: an unshared stack of layers (the teacher) and its factorization (the student).

mod alignment;
mod causal_lm;
mod config;
mod describe;
mod embedding_and_head;
mod halting_head;
mod injection;
mod looped;
mod looped_config;
mod per_token_depth;
mod repetition_input;
mod state_norm;
mod transformer;
mod unroll;

pub use alignment::{Alignment, TeacherLayer, equal_steps, monotone};
pub use causal_lm::{CausalLm, KvCache, LayerStacks};
pub use config::{RopeScaling, TransformerConfig};
pub use describe::{Description, Factorization, Parameters};
pub use embedding_and_head::EmbeddingAndHead;
pub use halting_head::initial_halting_head;
pub use injection::Injection;
pub use looped::LoopedTransformer;
pub use looped_config::{LoopedConfig, Relaxation};
pub use per_token_depth::{PerTokenStates, active_tokens};
pub use repetition_input::RepetitionInput;
pub use state_norm::StateNorm;
pub use transformer::Transformer;
pub use unroll::unroll;
