//! How surprising is the next token?

use std::collections::BTreeMap;

use candle_core::Tensor;

use crate::data::Batch;
use crate::error::Result;
use crate::model::{CausalLm, Transformer, TransformerConfig};
use crate::nn::head::{HeadWeights, compare, mean};
use crate::nn::{Params, Tape};
use crate::train::{Loss, Moment, Objective};

/// Cross entropy of the next token, with every weight trainable.
#[derive(Debug)]
pub struct LanguageModeling {
    params: Params,
    model: Transformer,
}

impl LanguageModeling {
    /// A model that starts as `tensors` and shares its numbers with [`Objective::params`].
    ///
    /// # Errors
    /// A tensor is missing.
    pub fn new(config: &TransformerConfig, tensors: &BTreeMap<String, Tensor>) -> Result<Self> {
        let mut params = Params::new();
        for (name, values) in tensors {
            params.insert(name, values, true)?;
        }
        let model = Transformer::new(config, &params)?;
        Ok(Self { params, model })
    }

    /// The model as it stands.
    #[must_use]
    pub fn model(&self) -> &Transformer {
        &self.model
    }
}

impl Objective for LanguageModeling {
    fn params(&self) -> &Params {
        &self.params
    }

    fn loss(&self, batch: &Batch, _moment: &mut Moment) -> Result<Loss> {
        let tape = Tape::recording();
        let frame = self.model.frame();
        let ids = batch.input_tensor(frame.device())?;
        let states = self.model.states(&tape, &ids, 1)?;
        let hidden = frame.normed(&tape, &states[states.len() - 1])?;
        drop(states);
        let weights = HeadWeights { cross_entropy: 1.0, kl: 0.0, temperature: 1.0 };
        let found = compare(&tape, &hidden, frame.head(), None, &batch.targets, weights)?;
        let total = mean(&found.cross_entropy);
        let gradients = tape.backward()?;
        let terms = BTreeMap::from([("cross_entropy".to_owned(), total)]);
        Ok(Loss { total, terms, gradients, partial: false })
    }
}
