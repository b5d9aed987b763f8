//! Tasks with an exact chain of steps, and the views that show an example to a model.

mod addition;
mod baselines;
mod batches;
mod build;
mod check;
mod config;
mod digits;
mod example;
mod group;
mod multiplication;
mod path_star;
mod pointer;
mod reversible;
mod rules;
mod special;
mod table;
mod task;
mod view;
mod word;

pub use addition::AdditionConfig;
pub use baselines::{Baselines, baselines};
pub use batches::{TaskBatches, TaskSupervision};
pub use check::check;
pub use config::TaskConfig;
pub use example::{Chains, Example, NamedExample, TaskSplit};
pub use group::GroupName;
pub use multiplication::MultiplicationConfig;
pub use path_star::PathStarConfig;
pub use pointer::{PointerConfig, Pointers};
pub use reversible::ReversibleConfig;
pub use special::{ANS, BOS, EOS, FILL, FIRST_SYMBOL, LATENT, PAD, SEP, STEP};
pub use table::TableConfig;
pub use task::Task;
pub use view::{Sequence, View, encode};
pub use word::WordConfig;
