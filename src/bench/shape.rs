//! What is one timed step of a student made of?

use serde::{Deserialize, Serialize};

use crate::autograd::checkpoint::KEPT;
use crate::error::{Error, Result};
use crate::eval::cost::flops_per_token;
use crate::model::{
    Injection, LoopedConfig, Relaxation, RopeScaling, StateNorm, TransformerConfig,
};

/// The largest tensor a step may ask for (numbers): 32 GiB.
const LARGEST: u128 = 1 << 33;

/// Which graph the gradients come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepGraph {
    /// The kernels, with every activation kept.
    Kept,
    /// The kernels, with the repetitions computed anew on the way back.
    Recomputed,
    /// candle's composed operations, with every activation kept.
    Reference,
    /// candle's composed operations, with the repetitions computed anew on the way back.
    RecomputedReference,
}

impl StepGraph {
    /// Whether repetitions are computed anew.
    #[must_use]
    pub fn recomputes(self) -> bool {
        matches!(self, Self::Recomputed | Self::RecomputedReference)
    }

    /// Whether candle's composed operations compute.
    #[must_use]
    pub fn is_reference(self) -> bool {
        matches!(self, Self::Reference | Self::RecomputedReference)
    }
}

/// The sizes of a student and of what it reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepShape {
    /// D.
    pub width: usize,
    /// Inner width of the mlp.
    pub ffn: usize,
    /// K, layers of the core.
    pub core: usize,
    /// N.
    pub repetitions: usize,
    /// H, heads of queries, keys and values.
    pub heads: usize,
    /// B, rows.
    pub batch: usize,
    /// T, tokens of a row.
    pub tokens: usize,
    /// V.
    pub vocab: usize,
}

impl StepShape {
    /// The student: nothing around the core, nothing that differs between repetitions, one matrix
    /// for embedding and head.
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
                "a tensor of {largest} numbers is too large to time, expected at most {LARGEST}"
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
    /// numbers, head and attention included), twice that for the way back, so 6 W; and, of a graph
    /// that recomputes, the forward pass of the core once more, twice more when the chain is cut
    /// into pieces. Norms, rotations, losses and the optimizer are left out.
    ///
    /// # Errors
    /// As [`StepShape::student`].
    pub fn flops(&self, graph: StepGraph) -> Result<f64> {
        let student = self.student()?;
        let of = |repetitions: usize| {
            flops_per_token(&student.base, Some(&student), repetitions, self.tokens)
        };
        let forward = of(self.repetitions);
        let head = 2.0 * (self.width * self.vocab) as f64;
        let again = if !graph.recomputes() {
            0.0
        } else if self.repetitions <= KEPT {
            1.0
        } else {
            2.0
        };
        Ok(self.step_tokens() as f64 * (3.0 * forward + again * (forward - head)))
    }
}

/// Refuses nothing where something is counted.
pub(super) fn at_least_one(name: &str, count: usize) -> Result<()> {
    if count == 0 {
        return Err(Error::input(format!("--{name} is 0, expected 1 or more")));
    }
    Ok(())
}
