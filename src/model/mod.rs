//! The models: an unshared stack of layers (the teacher) and its factorization (the student).

pub mod alignment;
pub mod causal_lm;
pub mod config;
pub mod describe;
mod embedding_and_head;
pub mod halting_head;
pub mod injection;
pub mod looped;
pub mod looped_config;
pub mod per_token_depth;
pub mod repetition_input;
pub mod state_norm;
pub mod transformer;
pub mod unroll;

pub use alignment::{Alignment, TeacherLayer};
pub use causal_lm::{CausalLm, KvCache, LayerStacks};
pub use config::{RopeScaling, TransformerConfig};
pub use describe::{Description, Factorization, Parameters};
pub use embedding_and_head::EmbeddingAndHead;
pub use injection::Injection;
pub use looped::LoopedTransformer;
pub use looped_config::{LoopedConfig, Relaxation};
pub use per_token_depth::PerTokenStates;
pub use repetition_input::RepetitionInput;
pub use state_norm::StateNorm;
pub use transformer::Transformer;
