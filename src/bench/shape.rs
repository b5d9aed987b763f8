//! The student and the batch of a timed training step.

use serde::{Deserialize, Serialize};

use crate::autograd::MAX_STORED_LINKS;
use crate::error::{Error, Result};
use crate::eval::cost::flops_per_token;
use crate::model::{
    Injection, LoopedConfig, Relaxation, RopeScaling, StateNorm, TransformerConfig,
};

/// Most elements of one tensor: 32 GiB.
const LARGEST: u128 = 1 << 33;

/// The graph from which the gradients are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepGraph {
    /// The kernels, with all activations stored.
    Kept,
    /// The kernels, with activation checkpointing.
    Recomputed,
    /// candle's composed operations, with all activations stored.
    Reference,
    /// candle's composed operations, with activation checkpointing.
    RecomputedReference,
}

impl StepGraph {
    /// Whether the backward pass recomputes the repetitions.
    #[must_use]
    pub fn recomputes(self) -> bool {
        matches!(self, Self::Recomputed | Self::RecomputedReference)
    }

    /// Whether candle's composed operations are used.
    #[must_use]
    pub fn is_reference(self) -> bool {
        matches!(self, Self::Reference | Self::RecomputedReference)
    }
}

/// The sizes of a student and of its batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepShape {
    /// D, width of the state.
    pub width: usize,
    /// Inner width of the mlp.
    pub ffn: usize,
    /// K, layers of the core.
    pub core: usize,
    /// N, repetitions of the core.
    pub repetitions: usize,
    /// H, heads of queries, keys and values.
    pub heads: usize,
    /// B, rows of the batch.
    pub batch: usize,
    /// T, tokens of a row.
    pub tokens: usize,
    /// V, vocabulary.
    pub vocab: usize,
}

impl StepShape {
    /// The student: no prelude and no coda, identical repetitions, and a head tied to the embedding.
    ///
    /// # Errors
    /// No such student can be built, or it does not fit into any memory.
    pub fn student(&self) -> Result<LoopedConfig> {
        self.check()?;
        let config = LoopedConfig {
            base: TransformerConfig {
                family: "llama".to_owned(),
                layers: self.core,
                width: self.width,
                heads: self.heads,
                kv_heads: self.heads,
                head_width: self.width / self.heads,
                mlp_width: self.ffn,
                vocabulary: self.vocab,
                max_positions: self.tokens,
                norm_eps: 1e-5,
                rope_theta: 1e4,
                rope_scaling: RopeScaling::None,
                tied_head: true,
                qkv_bias: false,
                output_bias: false,
                mlp_bias: false,
                qk_norm: false,
                sliding_window: None,
                windowed_layers: None,
                bos_token: None,
                eos_tokens: Vec::new(),
            },
            prelude_layers: 0,
            core_layers: self.core,
            repetitions: self.repetitions,
            coda_layers: 0,
            relaxation: Relaxation::None,
            injection: Injection::None,
            state_norm: StateNorm::None,
            gate: None,
        };
        config.validate()?;
        Ok(config)
    }

    fn check(&self) -> Result<()> {
        let sizes = [
            ("width", self.width),
            ("ffn", self.ffn),
            ("core", self.core),
            ("repetitions", self.repetitions),
            ("heads", self.heads),
            ("batch", self.batch),
            ("tokens", self.tokens),
            ("vocab", self.vocab),
        ];
        for (name, size) in sizes {
            at_least_one(name, size)?;
        }
        if !self.width.is_multiple_of(self.heads) {
            return Err(Error::input(format!(
                "a width of {} cannot be cut into {} heads: expected a multiple",
                self.width, self.heads
            ))
            .hint("change --width or --heads"));
        }
        let sides = [self.vocab, self.width, self.ffn].map(|side| side as u128);
        let widest = sides.into_iter().max().unwrap_or(0);
        let rows = self.batch as u128 * self.tokens as u128;
        let largest = widest.saturating_mul(rows.max(self.width as u128));
        if largest > LARGEST {
            return Err(Error::input(format!(
                "a tensor of {largest} elements is too large to time, expected at most {LARGEST}"
            ))
            .hint("make --batch, --tokens, --vocab or --width smaller"));
        }
        Ok(())
    }

    /// Tokens of one step.
    #[must_use]
    pub fn step_tokens(&self) -> usize {
        self.batch * self.tokens
    }

    /// An estimate of the arithmetic of one step, in floating point operations:
    ///
    /// [`flops_per_token`] for the forward pass (2 W for every application of a matrix of W
    /// parameters, head and attention included), twice that for the backward pass, so 6 W; and, with
    /// activation checkpointing, the forward pass of the core once more, twice more when the chain is
    /// cut into pieces. Norms, rotations, losses and the optimizer are left out.
    ///
    /// # Errors
    /// As [`StepShape::student`].
    pub fn flops(&self, graph: StepGraph) -> Result<f64> {
        let student = self.student()?;
        let forward = flops_per_token(&student.base, Some(&student), self.repetitions, self.tokens);
        let head = 2.0 * (self.width * self.vocab) as f64;
        let recomputed = if !graph.recomputes() {
            0.0
        } else if self.repetitions <= MAX_STORED_LINKS {
            1.0
        } else {
            2.0
        };
        Ok(self.step_tokens() as f64 * (3.0 * forward + recomputed * (forward - head)))
    }
}

/// Refuses a count of 0.
pub(super) fn at_least_one(name: &str, count: usize) -> Result<()> {
    if count == 0 {
        return Err(Error::input(format!("--{name} is 0, expected 1 or more")));
    }
    Ok(())
}
