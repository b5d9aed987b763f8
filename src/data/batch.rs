//! A batch of tokens: inputs, targets and the loss mask of one training step.

use candle_core::{Device, Tensor};

use crate::error::Result;

/// The target of a token that is asked nothing.
pub const IGNORED: u32 = u32::MAX;

/// Rows of tokens, with what is asked of each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// Input tokens, (B, T) row by row.
    pub inputs: Vec<u32>,
    /// What each input is to say, (B, T) row by row: the next token, or [`IGNORED`].
    pub targets: Vec<u32>,
    /// What it is to say after each step of a chain, where that is known: S of (B, T). The last step
    /// is the answer in `targets`, unless a control shows the chain of another example.
    pub chain: Vec<Vec<u32>>,
    /// B.
    pub rows: usize,
    /// T.
    pub columns: usize,
}

/// The tokens that are asked something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Where they stand, counted through (B, T) row by row.
    pub places: Vec<usize>,
    /// What they are to say.
    pub targets: Vec<u32>,
}

impl Asked {
    /// Those of `targets`; none where all are, as in text.
    #[must_use]
    pub fn of(targets: &[u32]) -> Option<Self> {
        if !targets.contains(&IGNORED) {
            return None;
        }
        let asked = targets.iter().enumerate().filter(|(_, target)| **target != IGNORED);
        let (places, targets) = asked.map(|(place, target)| (place, *target)).unzip();
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
