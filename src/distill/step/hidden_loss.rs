//! What is each repetition compared with, now or when it is computed anew?

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::ops::{AddAssign, Range};
use std::rc::Rc;

use candle_core::Tensor;

use super::teacher_outputs::TeacherOutputs;
use crate::autograd::{Gradients, Tape, Value};
use crate::error::Result;
use crate::losses::hidden::compare_states;
use crate::losses::terms::StateComparison;
use crate::model::LoopedTransformer;
use crate::model::alignment::TeacherLayer;
use crate::nn::{Linear, RopeTable, gather, gather_tensor};
use crate::train::Loss;

/// What a repetition starts from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Start {
    /// The state before it.
    Own,
    /// That state, but no gradient goes back to it.
    Detached,
    /// The teacher's state at a depth.
    Teacher(TeacherLayer),
}

/// The core, closed on itself.
pub(crate) struct Loop {
    pub(crate) student: LoopedTransformer,
    pub(crate) table: RopeTable,
    pub(crate) teacher: Rc<TeacherOutputs>,
    /// One for each repetition.
    pub(crate) starts: Vec<Start>,
}

impl Loop {
    /// The states after each layer of a repetition that follows `state`; the prelude gave `first`.
    pub(crate) fn repeat(
        &self,
        tape: &Tape,
        repetition: usize,
        state: &Value,
        first: &Value,
    ) -> Result<Vec<Value>> {
        let state = match self.starts[repetition] {
            Start::Own => state.clone(),
            Start::Detached => state.detached(),
            Start::Teacher(depth) => Value::constant(self.teacher.at_depth(depth)?),
        };
        let state = self.student.inject(tape, &state, first, repetition)?;
        self.student.repeat(tape, &state, repetition, &self.table)
    }
}

/// How the states of the core are compared.
pub(crate) struct Matching {
    /// From the width of the student to that of its teacher, where they differ.
    pub(crate) map: Option<Linear>,
    /// The tokens whose states are compared, counted through (B, T); none: all.
    pub(crate) places: Option<Vec<usize>>,
    pub(crate) how: StateComparison,
    /// Of the mean over all states compared with the teacher's; 0: none is.
    pub(crate) weight: f64,
    /// Every so many states one is compared.
    pub(crate) stride: usize,
    /// K, states of one repetition.
    pub(crate) layers: usize,
    pub(crate) repetitions: usize,
    /// The teacher's depth of each state, in order of application.
    pub(crate) depths: Vec<TeacherLayer>,
    /// Weight of the pull towards the last state, and that state.
    pub(crate) settle: Option<(f64, Tensor)>,
}

/// Means over what was compared so far, of all that will be.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Matched {
    squared: f64,
    cosine: f64,
    settle: f64,
}

impl Matched {
    pub(crate) fn times(self, share: f64) -> Self {
        let Self { squared, cosine, settle } = self;
        Self { squared: share * squared, cosine: share * cosine, settle: share * settle }
    }
}

impl AddAssign for Matched {
    fn add_assign(&mut self, other: Self) {
        self.squared += other.squared;
        self.cosine += other.cosine;
        self.settle += other.settle;
    }
}

impl Matching {
    /// Compares the states after each layer of a repetition, and records the gradients.
    pub(crate) fn repetition(
        &self,
        tape: &Tape,
        repetition: usize,
        states: &[Value],
        teacher: &TeacherOutputs,
    ) -> Result<Matched> {
        let mut matched = Matched::default();
        let first = repetition * self.layers;
        let compared = (self.layers * self.repetitions / self.stride) as f64;
        for (layer, state) in states.iter().enumerate() {
            if self.weight <= 0.0 || !(first + layer + 1).is_multiple_of(self.stride) {
                continue;
            }
            let target = teacher.at_depth(self.depths[first + layer])?;
            let share = (self.weight / compared) as f32;
            let (state, target) = self.compared(tape, state, target)?;
            let terms = compare_states(tape, &state, &target, &self.how, share)?;
            matched.squared += terms.squared / compared;
            matched.cosine += terms.cosine / compared;
        }
        let pulled = self.pulled();
        if let (Some((weight, target)), true) = (&self.settle, pulled.contains(&repetition)) {
            let count = pulled.len() as f64;
            let how = StateComparison { squared: 1.0, cosine: 0.0, ..self.how };
            let last = &states[states.len() - 1];
            let terms = compare_states(tape, last, target, &how, (weight / count) as f32)?;
            matched.settle += terms.squared / count;
        }
        Ok(matched)
    }

    /// A state and its target, where they are compared and in one width.
    fn compared(&self, tape: &Tape, state: &Value, target: Tensor) -> Result<(Value, Tensor)> {
        let (state, target) = match &self.places {
            None => (state.clone(), target),
            Some(places) => {
                let row = |width: usize| (1, places.len(), width);
                let wide = row(target.dim(2)?);
                let state = gather(tape, state, places)?;
                let own = row(state.tensor().dim(1)?);
                (state.reshaped(own)?, gather_tensor(&target, places)?.reshape(wide)?)
            }
        };
        match &self.map {
            None => Ok((state, target)),
            Some(map) => Ok((map.forward(tape, &state)?, target)),
        }
    }

    /// The second half of the repetitions is pulled towards the last.
    fn pulled(&self) -> Range<usize> {
        self.repetitions / 2..self.repetitions - 1
    }

    /// Adds to the loss what was found, and names it.
    fn note(&self, found: Matched, total: &mut f64, terms: &mut BTreeMap<String, f64>) {
        let Matched { squared, cosine, settle } = found;
        if self.weight > 0.0 {
            let (of_squared, of_cosine) = (f64::from(self.how.squared), f64::from(self.how.cosine));
            *total += self.weight * (of_squared * squared + of_cosine * (1.0 - cosine));
            terms.insert("hidden".into(), squared);
            terms.insert("cosine".into(), cosine);
        }
        if let (Some((weight, _)), false) = (&self.settle, self.pulled().is_empty()) {
            *total += weight * settle;
            terms.insert("settle".into(), settle);
        }
    }
}

/// What is known, and what is found, when repetitions are computed anew.
#[derive(Default)]
pub(crate) struct Later {
    pub(crate) matching: OnceCell<Matching>,
    pub(crate) matched: RefCell<Matched>,
}

/// What one step found.
pub(crate) struct Step {
    pub(crate) tape: Tape,
    pub(crate) total: f64,
    pub(crate) terms: BTreeMap<String, f64>,
    pub(crate) matching: Option<Matching>,
    pub(crate) matched: Matched,
    pub(crate) later: Option<Rc<Later>>,
}

impl Step {
    pub(crate) fn new(tape: Tape) -> Self {
        let (terms, matched) = (BTreeMap::new(), Matched::default());
        Self { tape, total: 0.0, terms, matching: None, matched, later: None }
    }

    /// Goes back, unless the loss is lost already.
    pub(crate) fn finish(mut self, partial: bool) -> Result<Loss> {
        if let Some(matching) = &self.matching {
            matching.note(self.matched, &mut self.total, &mut self.terms);
        }
        let gradients =
            if self.total.is_finite() { self.tape.backward()? } else { Gradients::new() };
        if let Some(matching) = self.later.as_ref().and_then(|later| later.matching.get()) {
            let found = self.later.as_ref().map(|later| *later.matched.borrow());
            matching.note(found.unwrap_or_default(), &mut self.total, &mut self.terms);
        }
        Ok(Loss { total: self.total, terms: self.terms, gradients, partial })
    }
}
