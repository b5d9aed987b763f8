//! How does a student learn from its teacher?

mod algebra;
mod between;
pub mod cache;
mod closed;
pub mod config;
pub mod depth;
pub mod exits;
mod halted;
pub mod halting;
pub mod init;
mod matching;
mod memory;
pub mod narrow;
mod needs;
pub mod objective;
mod outputs;
mod products;
pub mod split;
mod staggered;
pub mod start;
mod teaching;
pub mod weighting;

pub use cache::{CachePlace, StatePrecision, TeacherCache, TeacherCacheConfig};
pub use config::{
    Auto, Compared, DistillConfig, Every, HiddenConfig, Init, Layers, LoraInit, LossConfig,
    PhaseConfig, StudentConfig,
};
pub use depth::{DepthConfig, DepthLaw, DrawnFor, Recompute};
pub use exits::{ExitPrior, ExitsConfig, Imitated};
pub use halting::{HaltingConfig, Learns};
pub use init::student_tensors;
pub use memory::graph_bytes;
pub use narrow::{MAP, Narrow, narrow, narrow_config};
pub use objective::Distillation;
pub use start::student_params;
pub use weighting::Weighting;
