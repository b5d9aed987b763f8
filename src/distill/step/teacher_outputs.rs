//! What does the teacher say of a batch, computed now or remembered?

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use candle_core::Tensor;

use crate::autograd::{Tape, Value};
use crate::data::Batch;
use crate::distill::cache::{Item, TeacherCache};
use crate::error::{Error, Result};
use crate::losses::terms::{TeacherHead, TeacherOutput};
use crate::model::alignment::TeacherLayer;
use crate::model::{CausalLm, Transformer};

/// A teacher that is asked, whether or not it was asked the same before.
#[derive(Debug)]
pub(crate) struct TeacherSource<'a> {
    teacher: Transformer,
    /// None: it computes every answer.
    cache: Option<Mutex<TeacherCache<'a>>>,
}

/// What it said of one batch.
#[derive(Debug)]
pub(crate) struct TeacherOutputs {
    states: BTreeMap<usize, Tensor>,
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

    /// The states of the indices `wanted`, 0 for the embedding.
    pub(crate) fn states(
        &self,
        batch: &Batch,
        ids: &Tensor,
        wanted: &BTreeSet<usize>,
    ) -> Result<TeacherOutputs> {
        if let Some(cache) = &self.cache {
            return self.remembered(cache, batch, wanted, None);
        }
        let deepest = wanted.last().copied().unwrap_or(0);
        let states = self.teacher.states_through(ids, deepest)?;
        Ok(TeacherOutputs { states: only(states, wanted), output: None })
    }

    /// The same, and what it says of the next token.
    pub(crate) fn states_and_output(
        &self,
        batch: &Batch,
        ids: &Tensor,
        wanted: &BTreeSet<usize>,
    ) -> Result<TeacherOutputs> {
        if let Some(cache) = &self.cache {
            return self.remembered(cache, batch, wanted, Some(Item::Outputs));
        }
        let states = self.teacher.states_through(ids, self.teacher.base().layers)?;
        let output = self.head_of(states[states.len() - 1].clone())?;
        Ok(TeacherOutputs { states: only(states, wanted), output: Some(output) })
    }

    /// What its head reads out of the state at a depth of a lesson.
    pub(crate) fn output_at(
        &self,
        lesson: &TeacherOutputs,
        depth: TeacherLayer,
    ) -> Result<TeacherOutput> {
        self.head_of(lesson.at_depth(depth)?)
    }

    fn head_of(&self, state: Tensor) -> Result<TeacherOutput> {
        let embedding_and_head = self.teacher.embedding_and_head();
        Ok(TeacherOutput::Head(TeacherHead {
            hidden: embedding_and_head
                .normed(&Tape::off(), &Value::constant(state))?
                .tensor()
                .clone(),
            weight: embedding_and_head.head().tensor().clone(),
        }))
    }

    fn remembered(
        &self,
        cache: &Mutex<TeacherCache<'a>>,
        batch: &Batch,
        wanted: &BTreeSet<usize>,
        more: Option<Item>,
    ) -> Result<TeacherOutputs> {
        let items: Vec<Item> = wanted.iter().copied().map(Item::State).chain(more).collect();
        let answer = TeacherCache::outputs(cache, &self.teacher, batch, &items)?;
        Ok(TeacherOutputs { states: answer.states, output: answer.outputs.map(TeacherOutput::Top) })
    }
}

fn only(states: Vec<Tensor>, wanted: &BTreeSet<usize>) -> BTreeMap<usize, Tensor> {
    states.into_iter().enumerate().filter(|(index, _)| wanted.contains(index)).collect()
}

impl TeacherOutputs {
    /// The state of an index, (B, T, D).
    pub(crate) fn state(&self, index: usize) -> Result<&Tensor> {
        self.states
            .get(&index)
            .ok_or_else(|| Error::internal(format!("state {index} of the teacher was not asked")))
    }

    /// The state at a depth: one of them, or a blend of two.
    pub(crate) fn at_depth(&self, depth: TeacherLayer) -> Result<Tensor> {
        let lower = self.state(depth.lower)?;
        if depth.fraction <= 0.0 {
            return Ok(lower.clone());
        }
        let upper = self.state(depth.lower + 1)?;
        Ok(((lower * (1.0 - depth.fraction))? + (upper * depth.fraction)?)?)
    }

    /// What it says of the next token.
    pub(crate) fn output(&self) -> Result<&TeacherOutput> {
        let missing = || Error::internal("the teacher's output was not asked");
        self.output.as_ref().ok_or_else(missing)
    }
}
