//! A batch of tokens: inputs, targets and the loss mask of one training step.

use candle_core::{Device, Tensor};

use crate::error::Result;

/// Target of a position without supervision (`ignore_index` of other libraries).
pub const IGNORED: u32 = u32::MAX;

/// Rows of tokens with their targets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// Input tokens, (B, T) row by row.
    pub inputs: Vec<u32>,
    /// The target of each position, (B, T) row by row: the next token, or [`IGNORED`].
    pub targets: Vec<u32>,
    /// Targets after each step of a chain, where they are known: S of (B, T). The last step is the
    /// answer in `targets`, unless a control shows the chain of another example.
    pub chain: Vec<Vec<u32>>,
    /// B.
    pub rows: usize,
    /// T.
    pub columns: usize,
}

/// The positions that have a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SupervisedTokens {
    /// Their indices, counted through (B, T) row by row.
    pub places: Vec<usize>,
    /// Their targets.
    pub targets: Vec<u32>,
}

impl SupervisedTokens {
    /// The supervised positions of `targets`; None if every position is, as in text.
    #[must_use]
    pub fn in_targets(targets: &[u32]) -> Option<Self> {
        if !targets.contains(&IGNORED) {
            return None;
        }
        let supervised = targets.iter().enumerate().filter(|(_, target)| **target != IGNORED);
        let (places, targets) = supervised.map(|(place, target)| (place, *target)).unzip();
        Some(Self { places, targets })
    }
}

impl Batch {
    /// Input tokens as a tensor, (B, T) u32.
    ///
    /// # Errors
    /// The device is out of memory.
    pub fn input_tensor(&self, device: &Device) -> Result<Tensor> {
        Ok(Tensor::from_slice(&self.inputs, (self.rows, self.columns), device)?)
    }

    /// The rows in `count` equal parts, in order; `count` divides them.
    #[must_use]
    pub fn parts(&self, count: usize) -> Vec<Self> {
        let rows = self.rows / count.max(1);
        let tokens = (rows * self.columns).max(1);
        let part = |all: &[u32], start: usize| all[start..start + tokens].to_vec();
        let starts = (0..self.inputs.len() / tokens).map(|index| index * tokens);
        starts
            .map(|start| Self {
                inputs: part(&self.inputs, start),
                targets: part(&self.targets, start),
                chain: self.chain.iter().map(|step| part(step, start)).collect(),
                rows,
                columns: self.columns,
            })
            .collect()
    }

    /// B T.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.targets.len()
    }
}

/// An endless stream of batches that needs no state: batch `index` depends on nothing but the
/// stream's seed and `index`, so a resumed run reads what an uninterrupted one reads.
pub trait Batches {
    /// The batch of that index.
    ///
    /// # Errors
    /// The data cannot be read.
    fn batch(&self, index: u64) -> Result<Batch>;
}
