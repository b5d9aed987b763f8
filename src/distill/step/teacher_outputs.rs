//! The teacher's hidden states and outputs for a batch, computed or read from the cache.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use candle_core::Tensor;

use crate::autograd::{Tape, Value};
use crate::data::Batch;
use crate::distill::cache::{Item, TeacherCache};
use crate::error::{Error, Result};
use crate::losses::{TeacherHead, TeacherOutput};
use crate::model::{CausalLm, TeacherLayer, Transformer};

/// The teacher, with or without a cache of its outputs.
#[derive(Debug)]
pub(crate) struct TeacherSource<'a> {
    teacher: Transformer,
    /// None: everything is computed.
    cache: Option<Mutex<TeacherCache<'a>>>,
}

/// Hidden states and output of the teacher for one batch.
#[derive(Debug)]
pub(crate) struct TeacherOutputs {
    /// By index, 0 for the embedding; each (B, T, D of the teacher).
    states: BTreeMap<usize, Tensor>,
    /// None if it was not requested.
    output: Option<TeacherOutput>,
}

impl<'a> TeacherSource<'a> {
    pub(crate) fn live(teacher: Transformer) -> Self {
        Self { teacher, cache: None }
    }

    pub(crate) fn with_cache(self, cache: TeacherCache<'a>) -> Self {
        Self { cache: Some(Mutex::new(cache)), ..self }
    }

    pub(crate) fn teacher(&self) -> &Transformer {
        &self.teacher
    }

    pub(crate) fn close(&self) {
        if let Some(cache) = &self.cache {
            cache.lock().unwrap_or_else(PoisonError::into_inner).close();
        }
    }

    /// The states of the indices `required` for the tokens `ids` of `batch`, (B, T).
    pub(crate) fn states(
        &self,
        batch: &Batch,
        ids: &Tensor,
        required: &BTreeSet<usize>,
    ) -> Result<TeacherOutputs> {
        if let Some(cache) = &self.cache {
            return self.cached(cache, batch, required, None);
        }
        let deepest = required.last().copied().unwrap_or(0);
        let states = self.teacher.states_through(ids, deepest)?;
        Ok(TeacherOutputs { states: select(states, required), output: None })
    }

    /// The same with the output.
    pub(crate) fn states_and_output(
        &self,
        batch: &Batch,
        ids: &Tensor,
        required: &BTreeSet<usize>,
    ) -> Result<TeacherOutputs> {
        if let Some(cache) = &self.cache {
            return self.cached(cache, batch, required, Some(Item::Outputs));
        }
        let states = self.teacher.states_through(ids, self.teacher.base().layers)?;
        let output = head_output(&self.teacher, states[states.len() - 1].clone())?;
        Ok(TeacherOutputs { states: select(states, required), output: Some(output) })
    }

    fn cached(
        &self,
        cache: &Mutex<TeacherCache<'a>>,
        batch: &Batch,
        required: &BTreeSet<usize>,
        output: Option<Item>,
    ) -> Result<TeacherOutputs> {
        let items: Vec<Item> = required.iter().copied().map(Item::State).chain(output).collect();
        let cached = TeacherCache::outputs(cache, &self.teacher, batch, &items)?;
        Ok(TeacherOutputs { states: cached.states, output: cached.outputs.map(TeacherOutput::Top) })
    }
}

fn select(states: Vec<Tensor>, required: &BTreeSet<usize>) -> BTreeMap<usize, Tensor> {
    states.into_iter().enumerate().filter(|(index, _)| required.contains(index)).collect()
}

/// The output of the teacher's last norm and head on a state, (B, T, D of the teacher).
fn head_output(teacher: &Transformer, state: Tensor) -> Result<TeacherOutput> {
    let embedding_and_head = teacher.embedding_and_head();
    let hidden = embedding_and_head.normed(&Tape::off(), &Value::constant(state))?.tensor().clone();
    let weight = embedding_and_head.head().tensor().clone();
    Ok(TeacherOutput::Head(TeacherHead { hidden, weight }))
}

impl TeacherOutputs {
    /// The state of an index, (B, T, D of the teacher).
    pub(crate) fn state(&self, index: usize) -> Result<&Tensor> {
        self.states.get(&index).ok_or_else(|| {
            Error::internal(format!("state {index} of the teacher was not requested"))
        })
    }

    /// The state at a layer, interpolated between two if the layer is fractional.
    pub(crate) fn at_layer(&self, layer: TeacherLayer) -> Result<Tensor> {
        let lower = self.state(layer.lower)?;
        if layer.fraction <= 0.0 {
            return Ok(lower.clone());
        }
        let upper = self.state(layer.lower + 1)?;
        Ok(((lower * (1.0 - layer.fraction))? + (upper * layer.fraction)?)?)
    }

    /// The output of `teacher` after the last layer.
    pub(crate) fn output(&self) -> Result<&TeacherOutput> {
        let missing = || Error::internal("the teacher's output was not requested");
        self.output.as_ref().ok_or_else(missing)
    }

    /// The output of the head of `teacher`, whose states these are, on its state at a layer.
    pub(crate) fn output_at(
        &self,
        teacher: &Transformer,
        layer: TeacherLayer,
    ) -> Result<TeacherOutput> {
        head_output(teacher, self.at_layer(layer)?)
    }
}
