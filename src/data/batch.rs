//! What does one training step read?

use candle_core::{Device, Tensor};

use crate::error::Result;

/// Windows of tokens, row by row, with the token that follows each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Input tokens, (B, T) row by row.
    pub inputs: Vec<u32>,
    /// The next token of each input, (B, T) row by row.
    pub targets: Vec<u32>,
    /// B.
    pub rows: usize,
    /// T.
    pub columns: usize,
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
        let parts = self.inputs.chunks(tokens).zip(self.targets.chunks(tokens));
        parts
            .map(|(inputs, targets)| Self {
                inputs: inputs.to_vec(),
                targets: targets.to_vec(),
                rows,
                columns: self.columns,
            })
            .collect()
    }

    /// How many tokens are predicted.
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
