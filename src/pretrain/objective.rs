//! The pretraining objective: cross entropy of the supervised tokens.

use std::collections::BTreeMap;

use candle_core::Tensor;

use super::config::Supervision;
use crate::autograd::{Params, Tape, Value};
use crate::data::{Batch, SupervisedTokens};
use crate::error::{Error, Result};
use crate::losses::{HeadWeights, compare, mean};
use crate::model::{CausalLm, LoopedConfig, LoopedTransformer, Transformer, TransformerConfig};
use crate::nn::gather;
use crate::train::{Loss, Objective, StepContext};

/// Cross entropy of every supervised token, with every parameter trainable. Where a batch has the
/// steps of a chain, they can be supervised as well: step s of S after the share s / S of the layers
/// or repetitions.
#[derive(Debug)]
pub struct LanguageModeling<M = Transformer> {
    params: Params,
    model: M,
    supervision: Supervision,
    /// Steps of the longest chain, which takes all repetitions; 0: every chain does.
    longest_chain: usize,
}

impl LanguageModeling<Transformer> {
    /// A model initialized with `tensors`, whose parameters are [`Objective::params`].
    ///
    /// # Errors
    /// A tensor is missing.
    pub fn new(config: &TransformerConfig, tensors: &BTreeMap<String, Tensor>) -> Result<Self> {
        let params = trainable(tensors)?;
        let model = Transformer::new(config, &params)?;
        Ok(Self { params, model, supervision: Supervision::Final, longest_chain: 0 })
    }
}

impl LanguageModeling<LoopedTransformer> {
    /// The same for a looped model.
    ///
    /// # Errors
    /// A tensor is missing.
    pub fn looped(config: &LoopedConfig, tensors: &BTreeMap<String, Tensor>) -> Result<Self> {
        let params = trainable(tensors)?;
        let model = LoopedTransformer::new(config, &params)?;
        Ok(Self { params, model, supervision: Supervision::Final, longest_chain: 0 })
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
    /// Supervises the steps of chains as well. The longest chain has `longest_chain` steps; a
    /// shorter one takes its share of the repetitions.
    #[must_use]
    pub fn supervised(self, supervision: Supervision, longest_chain: usize) -> Self {
        Self { supervision, longest_chain, ..self }
    }

    /// The model with its current parameters.
    #[must_use]
    pub fn model(&self) -> &M {
        &self.model
    }

    /// Repetitions for a chain of `steps` steps.
    fn repetitions(&self, steps: usize) -> usize {
        let all = self.model.repetitions();
        let (Some(_), 1..) = (self.model.factorization(), self.longest_chain.min(steps)) else {
            return all;
        };
        (all * steps).div_ceil(self.longest_chain).clamp(1, all)
    }

    /// The supervised states: the index of each among `states`, and the targets of its tokens. The
    /// last entry is the answer.
    fn supervised_states<'b>(&self, batch: &'b Batch, states: usize) -> Vec<(usize, &'b [u32])> {
        let steps = batch.chain.len();
        // The steps of a looped model are spread over its core, those of a deep one over all layers.
        let (first, last) = match self.model.factorization() {
            Some(config) => (config.prelude_layers, states - 1 - config.coda_layers),
            None => (0, states - 1),
        };
        let intermediate = self.supervision.steps(steps).into_iter().map(|step| {
            let share = (last - first) * (step + 1);
            (first + share.div_ceil(steps), batch.chain[step].as_slice())
        });
        intermediate.chain([(states - 1, batch.targets.as_slice())]).collect()
    }

    /// The input of the last norm for the state `index`: a state of the core goes through the coda.
    fn coda_output(&self, tape: &Tape, states: &[Value], index: usize) -> Result<Value> {
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

    fn loss(&self, batch: &Batch, _context: &mut StepContext) -> Result<Loss> {
        let tape = Tape::recording();
        let embedding_and_head = self.model.embedding_and_head();
        let ids = batch.input_tensor(embedding_and_head.device())?;
        let repetitions = self.repetitions(batch.chain.len());
        let states = self.model.states(&tape, &ids, repetitions)?;
        let supervised_states = self.supervised_states(batch, states.len());
        let share = 1.0 / supervised_states.len() as f64;
        let weights = HeadWeights { cross_entropy: share as f32, kl: 0.0, temperature: 1.0 };
        let (mut total, mut answer) = (0.0, 0.0);
        for (index, targets) in supervised_states {
            let state = self.coda_output(&tape, &states, index)?;
            let supervised = SupervisedTokens::in_targets(targets);
            let (state, targets) = match &supervised {
                Some(tokens) if tokens.places.is_empty() => {
                    return Err(Error::input("a batch has no supervised token"));
                }
                Some(tokens) => (gather(&tape, &state, &tokens.places)?, tokens.targets.as_slice()),
                None => (state, targets),
            };
            let hidden = embedding_and_head.normed(&tape, &state)?;
            let head = embedding_and_head.head();
            let terms = compare(&tape, &hidden, head, None, targets, weights)?;
            answer = mean(&terms.cross_entropy);
            total += share * answer;
        }
        drop(states);
        let gradients = tape.backward()?;
        let terms = BTreeMap::from([("cross_entropy".to_owned(), answer)]);
        Ok(Loss { total, terms, gradients, partial: repetitions < self.model.repetitions() })
    }
}
