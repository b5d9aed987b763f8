//! How surprising is what comes next, or what is asked?

use std::collections::BTreeMap;

use candle_core::Tensor;

use super::config::Supervision;
use crate::autograd::{Params, Tape, Value};
use crate::data::{Asked, Batch};
use crate::error::{Error, Result};
use crate::losses::output::compare;
use crate::losses::terms::{HeadWeights, mean};
use crate::model::{CausalLm, LoopedConfig, LoopedTransformer, Transformer, TransformerConfig};
use crate::nn::gather::gather;
use crate::train::{Loss, Objective, StepContext};

/// Cross entropy of every token that is asked something, with every weight trainable. Where a batch
/// knows the steps of a chain, they may be asked on the way: step s of S after that share of the
/// layers or repetitions.
#[derive(Debug)]
pub struct LanguageModeling<M = Transformer> {
    params: Params,
    model: M,
    supervision: Supervision,
    /// Steps of the longest chain, for which all repetitions are taken; 0: always all are.
    longest: usize,
}

impl LanguageModeling<Transformer> {
    /// A model that starts as `tensors` and shares its numbers with [`Objective::params`].
    ///
    /// # Errors
    /// A tensor is missing.
    pub fn new(config: &TransformerConfig, tensors: &BTreeMap<String, Tensor>) -> Result<Self> {
        let params = trainable(tensors)?;
        let model = Transformer::new(config, &params)?;
        Ok(Self { params, model, supervision: Supervision::Final, longest: 0 })
    }
}

impl LanguageModeling<LoopedTransformer> {
    /// The same of a factored model.
    ///
    /// # Errors
    /// A tensor is missing.
    pub fn looped(config: &LoopedConfig, tensors: &BTreeMap<String, Tensor>) -> Result<Self> {
        let params = trainable(tensors)?;
        let model = LoopedTransformer::new(config, &params)?;
        Ok(Self { params, model, supervision: Supervision::Final, longest: 0 })
    }
}

fn trainable(tensors: &BTreeMap<String, Tensor>) -> Result<Params> {
    let mut params = Params::new();
    for (name, values) in tensors {
        params.insert(name, values, true)?;
    }
    Ok(params)
}

impl<M: CausalLm> LanguageModeling<M> {
    /// Asks for the steps of chains too, of which the longest has `longest`; a shorter one takes
    /// its share of the repetitions.
    #[must_use]
    pub fn supervised(mut self, supervision: Supervision, longest: usize) -> Self {
        (self.supervision, self.longest) = (supervision, longest);
        self
    }

    /// The model as it stands.
    #[must_use]
    pub fn model(&self) -> &M {
        &self.model
    }

    /// Repetitions for a chain of so many steps.
    fn repetitions(&self, steps: usize) -> usize {
        let all = self.model.repetitions();
        let (Some(_), 1..) = (self.model.factorization(), self.longest.min(steps)) else {
            return all;
        };
        (all * steps).div_ceil(self.longest).clamp(1, all)
    }

    /// What is read out: the index of a state, and what its tokens are to say there. The last one
    /// is the answer.
    fn readings<'b>(&self, batch: &'b Batch, states: usize) -> Vec<(usize, &'b [u32])> {
        let steps = batch.chain.len();
        // A looped model thinks between its prelude and its coda, a deep one in all layers.
        let (first, last) = match self.model.factorization() {
            Some(config) => (config.prelude_layers, states - 1 - config.coda_layers),
            None => (0, states - 1),
        };
        let on_the_way = self.supervision.steps(steps).into_iter().map(|step| {
            let share = (last - first) * (step + 1);
            (first + share.div_ceil(steps), batch.chain[step].as_slice())
        });
        on_the_way.chain([(states - 1, batch.targets.as_slice())]).collect()
    }

    /// A state of the core goes through the coda before it is read.
    fn read(&self, tape: &Tape, states: &[Value], index: usize) -> Result<Value> {
        let state = &states[index];
        if index + 1 == states.len() {
            return Ok(state.clone());
        }
        self.model.after_core(tape, state)
    }
}

impl<M: CausalLm + Sync> Objective for LanguageModeling<M> {
    fn params(&self) -> &Params {
        &self.params
    }

    fn loss(&self, batch: &Batch, _moment: &mut StepContext) -> Result<Loss> {
        let tape = Tape::recording();
        let embedding_and_head = self.model.embedding_and_head();
        let ids = batch.input_tensor(embedding_and_head.device())?;
        let repetitions = self.repetitions(batch.chain.len());
        let states = self.model.states(&tape, &ids, repetitions)?;
        let readings = self.readings(batch, states.len());
        let share = 1.0 / readings.len() as f64;
        let weights = HeadWeights { cross_entropy: share as f32, kl: 0.0, temperature: 1.0 };
        let (mut total, mut answer) = (0.0, 0.0);
        for (index, targets) in readings {
            let state = self.read(&tape, &states, index)?;
            let asked = Asked::of(targets);
            let (state, targets) = match &asked {
                Some(asked) if asked.places.is_empty() => {
                    return Err(Error::input("a batch asks nothing of any token"));
                }
                Some(asked) => (gather(&tape, &state, &asked.places)?, asked.targets.as_slice()),
                None => (state, targets),
            };
            let hidden = embedding_and_head.normed(&tape, &state)?;
            let found = compare(&tape, &hidden, embedding_and_head.head(), None, targets, weights)?;
            answer = mean(&found.cross_entropy);
            total += share * answer;
        }
        drop(states);
        let gradients = tape.backward()?;
        let terms = BTreeMap::from([("cross_entropy".to_owned(), answer)]);
        Ok(Loss { total, terms, gradients, partial: repetitions < self.model.repetitions() })
    }
}
