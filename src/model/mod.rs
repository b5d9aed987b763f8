//! What is factored into what?

pub mod alignment;
pub mod between;
pub mod causal_lm;
pub mod config;
pub mod describe;
pub mod gate;
pub mod injection;
pub mod looped;
pub mod staggered;
pub mod transformer;
pub mod unroll;

pub use alignment::{Alignment, Depth};
pub use between::Between;
pub use causal_lm::{Anatomy, CausalLm, Frame, KvCache};
pub use config::{RopeScaling, TransformerConfig};
pub use describe::{Description, Factorization, Parameters};
pub use injection::Injection;
pub use looped::{LoopedConfig, LoopedTransformer, Relaxation};
pub use staggered::Staggered;
pub use transformer::Transformer;
