//! Assembly of the cached rows of a batch into tensors.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};

use super::format::{Format, Item};
use crate::error::Result;
use crate::losses::TopTokens;

/// Hidden states and outputs of the teacher for a batch.
pub(in crate::distill) struct CachedOutputs {
    /// Hidden states by index, each (B, T, D).
    pub(in crate::distill) states: BTreeMap<usize, Tensor>,
    /// Top tokens, if they were requested.
    pub(in crate::distill) outputs: Option<TopTokens>,
}

/// [`CachedOutputs`] under construction, filled row by row.
pub(super) struct Sheet {
    format: Format,
    rows: usize,
    tokens: usize,
    states: BTreeMap<usize, Vec<f32>>,
    outputs: Option<TopTokens>,
}

impl Sheet {
    pub(super) fn new(format: Format, rows: usize, tokens: usize, wanted: &[Item]) -> Self {
        let mut sheet = Self { format, rows, tokens, states: BTreeMap::new(), outputs: None };
        let positions = rows * tokens;
        for item in wanted {
            match item {
                Item::State(index) => {
                    sheet.states.insert(*index, vec![0.0; positions * format.width]);
                }
                Item::Outputs => {
                    sheet.outputs = Some(TopTokens {
                        ids: vec![0; positions * format.top_k],
                        log_p: vec![0.0; positions * format.top_k],
                        log_tail: vec![0.0; positions],
                        temperature: format.temperature,
                    });
                }
            }
        }
        sheet
    }

    /// Decodes the pieces of an item into a row. Their lengths must be those of the item's columns.
    ///
    /// # Errors
    /// A description of the damage; the row must then be written again.
    pub(super) fn write(
        &mut self,
        row: usize,
        item: Item,
        pieces: &[&[u8]],
    ) -> std::result::Result<(), String> {
        let (format, tokens) = (self.format, self.tokens);
        let span = |width: usize| row * tokens * width..(row + 1) * tokens * width;
        match (item, &mut self.outputs) {
            (Item::State(index), _) => {
                let scales = pieces.get(1).copied().unwrap_or_default();
                if let Some(state) = self.states.get_mut(&index) {
                    let into = &mut state[span(format.width)];
                    format.precision.decode(pieces[0], scales, format.width, into);
                }
            }
            (Item::Outputs, Some(outputs)) => {
                let ids = &mut outputs.ids[span(format.top_k)];
                for (id, four) in ids.iter_mut().zip(pieces[0].as_chunks::<4>().0) {
                    *id = u32::from_le_bytes(*four);
                    if *id as usize >= format.vocabulary {
                        return Err(format!("token {id} is not in the vocabulary"));
                    }
                }
                read_f32(pieces[1], &mut outputs.log_p[span(format.top_k)]);
                read_f32(pieces[2], &mut outputs.log_tail[span(1)]);
            }
            (Item::Outputs, None) => {}
        }
        Ok(())
    }

    pub(super) fn finish(self, device: &Device) -> Result<CachedOutputs> {
        let shape = (self.rows, self.tokens, self.format.width);
        let tensor = |(index, values)| Ok((index, Tensor::from_vec(values, shape, device)?));
        Ok(CachedOutputs {
            states: self.states.into_iter().map(tensor).collect::<Result<_>>()?,
            outputs: self.outputs,
        })
    }
}

fn read_f32(bytes: &[u8], into: &mut [f32]) {
    for (number, four) in into.iter_mut().zip(bytes.as_chunks::<4>().0) {
        *number = f32::from_le_bytes(*four);
    }
}
