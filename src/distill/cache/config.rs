//! Configuration of the teacher cache.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::precision::StatePrecision;
use crate::error::{Error, Result};

/// What the cache stores of the teacher's outputs: `cache` in `[teacher]` of a recipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TeacherCacheConfig {
    /// Precision of hidden states: f32, f16, bf16 or int8.
    pub states: StatePrecision,
    /// k, the top tokens stored for each position; all other tokens are one event, the tail.
    pub top_k: usize,
}

impl Default for TeacherCacheConfig {
    fn default() -> Self {
        Self { states: StatePrecision::default(), top_k: 64 }
    }
}

impl TeacherCacheConfig {
    /// Refuses an empty top k.
    ///
    /// # Errors
    /// `top_k` is 0.
    pub fn validate(&self) -> Result<()> {
        if self.top_k == 0 {
            return Err(Error::input("top_k is 0, expected 1 or more")
                .at("teacher.cache.top_k")
                .hint("leave [teacher] cache out to compute the teacher at every step"));
        }
        Ok(())
    }
}
