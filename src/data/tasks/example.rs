//! One example of a task, and the split it belongs to.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One problem with its exact chain of steps, in token ids.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Example {
    /// The problem.
    pub input: Vec<u32>,
    /// The state after each step, all of one width.
    pub steps: Vec<Vec<u32>>,
    /// The answer: the last step, or all steps in a row where the answer is a path.
    pub answer: Vec<u32>,
}

/// An example in the names of its tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedExample {
    /// The problem.
    pub input: Vec<String>,
    /// The state after each step.
    pub chain: Vec<Vec<String>>,
    /// The answer.
    pub answer: Vec<String>,
}

/// Whose chain an example shows. Its answer is always its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Chains {
    /// Its own.
    #[default]
    Exact,
    /// The chain of another example of the same length: a control whose chains carry no information.
    Shuffled,
}

/// A share of all inputs. No input is in two of them, whatever the seeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TaskSplit {
    /// Eight tenths: to learn from.
    Train,
    /// One tenth: to choose by.
    Validation,
    /// One tenth: to report.
    Test,
}

impl TaskSplit {
    /// The split of an input, which depends on its tokens alone.
    pub fn of(input: &[u32]) -> Self {
        let mut hasher = blake3::Hasher::new();
        for token in input {
            hasher.update(&token.to_le_bytes());
        }
        let mut bucket = [0; 8];
        hasher.finalize_xof().fill(&mut bucket);
        match u64::from_le_bytes(bucket) % 10 {
            0..=7 => Self::Train,
            8 => Self::Validation,
            _ => Self::Test,
        }
    }
}
