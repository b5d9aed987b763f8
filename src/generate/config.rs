//! How is the next token chosen, and when is a text over?

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// How a text is continued.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GenerateConfig {
    /// The continuation is at most this long.
    pub max_tokens: usize,
    /// Divides the logits; 0 always takes the likeliest token.
    pub temperature: f64,
    /// Draw from this many of the likeliest tokens only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_k: Option<usize>,
    /// Draw from the likeliest tokens that together have this probability only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// Draw from tokens at least this share as likely as the likeliest only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_p: Option<f64>,
    /// Divides the logits of tokens that came before, multiplies them where they are negative; 1
    /// does nothing.
    pub repetition_penalty: f64,
    /// Of the draws.
    pub seed: u64,
    /// The continuation ends before any of these texts.
    pub stop: Vec<String>,
    /// Repetitions of the core, or the most when a policy decides; those it was trained for when
    /// absent.
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
    /// Refuses values that draw nothing.
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
            return refuse("an empty text to stop at is everywhere".to_owned());
        }
        Ok(())
    }
}
