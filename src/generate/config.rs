//! Settings of generation: how the next token is chosen, and when a text ends.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Settings of the continuation of a prompt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GenerateConfig {
    /// Most tokens of the continuation.
    pub max_tokens: usize,
    /// Divisor of the logits; 0 always takes the most likely token.
    pub temperature: f64,
    /// Samples only from this many of the most likely tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_k: Option<usize>,
    /// Samples only from the most likely tokens that together have this probability.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// Samples only from tokens at least this fraction as likely as the most likely one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_p: Option<f64>,
    /// Divisor of the positive logits, and factor of the negative logits, of tokens that came before;
    /// 1 changes nothing.
    pub repetition_penalty: f64,
    /// Seed of the sampling.
    pub seed: u64,
    /// Stop strings: the continuation ends before any of them.
    pub stop: Vec<String>,
    /// Repetitions of the core, or the most when a policy decides; when absent, the N it was trained
    /// for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repetitions: Option<usize>,
}

impl Default for GenerateConfig {
    fn default() -> Self {
        Self {
            max_tokens: 128,
            temperature: 0.0,
            top_k: None,
            top_p: None,
            min_p: None,
            repetition_penalty: 1.0,
            seed: 0,
            stop: Vec::new(),
            repetitions: None,
        }
    }
}

impl GenerateConfig {
    /// Refuses values with which nothing can be sampled.
    ///
    /// # Errors
    /// The first value out of its range.
    pub fn validate(&self) -> Result<()> {
        let refuse = |message: String| Err(Error::input(message));
        if !self.temperature.is_finite() || self.temperature < 0.0 {
            return refuse(format!("temperature is {}, expected 0 or more", self.temperature));
        }
        if self.top_k == Some(0) {
            return refuse("top_k is 0, expected 1 or more".to_owned());
        }
        for (name, share) in [("top_p", self.top_p), ("min_p", self.min_p)] {
            if let Some(p) = share.filter(|p| !(*p > 0.0 && *p <= 1.0)) {
                return refuse(format!("{name} is {p}, expected a number above 0 and up to 1"));
            }
        }
        if !self.repetition_penalty.is_finite() || self.repetition_penalty <= 0.0 {
            let penalty = self.repetition_penalty;
            return refuse(format!("repetition_penalty is {penalty}, expected a number above 0"));
        }
        if let Some(n) = self.repetitions.filter(|n| !(1..=1 << 16).contains(n)) {
            return refuse(format!("repetitions is {n}, expected 1 to {}", 1 << 16));
        }
        if self.stop.iter().any(String::is_empty) {
            return refuse("a stop string is empty, expected at least one character".to_owned());
        }
        Ok(())
    }
}
