//! How does a step go through the core, its graphs kept or computed anew?

use std::rc::Rc;

use super::hidden_loss::{Later, Loop, Step};
use super::output_loss::Outputs;
use crate::autograd::checkpoint::{Link, recompute_chain};
use crate::autograd::{Tape, Value};
use crate::distill::early_exit::EarlyExit;
use crate::distill::granularity::Granularity;
use crate::distill::objective::Distillation;
use crate::error::Result;
use crate::model::alignment::TeacherLayer;

impl Distillation<'_> {
    /// Every repetition with its graph on the tape; the states after those that `outputs` wants to
    /// read together, the last among them.
    pub(in crate::distill) fn kept(
        &self,
        step: &mut Step,
        looped: &Loop,
        first: &Value,
        depths: Vec<TeacherLayer>,
        (outputs, exits): (&Outputs, &[EarlyExit]),
    ) -> Result<Vec<Value>> {
        let progress = outputs.progress;
        let mut repetitions: Vec<Vec<Value>> = Vec::with_capacity(looped.starts.len());
        for repetition in 0..looped.starts.len() {
            let state = repetitions.last().and_then(|states| states.last()).unwrap_or(first);
            repetitions.push(looped.repeat(&step.tape, repetition, state, first)?);
        }
        let mut costs = Vec::new();
        if self.finds_pairs(progress) {
            for states in &repetitions {
                costs.extend(self.costs(states, &looped.teacher)?);
            }
        }
        let last = repetitions.last().and_then(|states| states.last()).unwrap_or(first).clone();
        let matching =
            self.closed_matching(outputs.batch, repetitions.len(), depths, &costs, &last, progress);
        for (repetition, states) in repetitions.iter().enumerate() {
            let tape = &step.tape;
            step.matched += matching.repetition(tape, repetition, states, &looped.teacher)?;
        }
        step.matching = Some(matching);
        if outputs.loss.early_exit.every == Granularity::Layer && outputs.reads_early() {
            let states: Vec<&Value> = repetitions.iter().flatten().collect();
            let part = 1.0 / (states.len() - 1).max(1) as f64;
            for (application, state) in states[..states.len() - 1].iter().enumerate() {
                outputs.exit(step, state, application, part)?;
            }
            return Ok(vec![last]);
        }
        for exit in exits {
            let states = &repetitions[exit.after - 1];
            let application = exit.after * states.len() - 1;
            outputs.exit(step, &states[states.len() - 1], application, exit.share)?;
        }
        if outputs.halting().is_none() {
            return Ok(vec![last]);
        }
        Ok(repetitions.into_iter().filter_map(|mut states| states.pop()).collect())
    }

    /// Every repetition by its first state alone: what it is compared with is known when it is
    /// computed anew. Gives the states that [`Self::kept`] gives.
    pub(in crate::distill) fn recomputed(
        &self,
        step: &mut Step,
        looped: &Rc<Loop>,
        first: &Value,
        depths: Vec<TeacherLayer>,
        (outputs, exits): (&Outputs, &[EarlyExit]),
    ) -> Result<Vec<Value>> {
        let progress = outputs.progress;
        let repetitions = looped.starts.len();
        let mut costs = Vec::new();
        if self.finds_pairs(progress) {
            // Pairs are found from all states: one more pass that keeps none.
            let first = first.detached();
            let mut state = first.clone();
            for repetition in 0..repetitions {
                let states = looped.repeat(&Tape::off(), repetition, &state, &first)?;
                costs.extend(self.costs(&states, &looped.teacher)?);
                state = states[states.len() - 1].clone();
            }
        }
        let later = Rc::new(Later::default());
        let link: Link = {
            let (looped, later) = (looped.clone(), later.clone());
            Rc::new(move |tape, repetition, state, beside| {
                let states = looped.repeat(tape, repetition, state, &beside[0])?;
                if let Some(matching) = later.matching.get().filter(|_| tape.is_recording()) {
                    let found = matching.repetition(tape, repetition, &states, &looped.teacher)?;
                    *later.matched.borrow_mut() += found;
                }
                Ok(states[states.len() - 1].clone())
            })
        };
        let beside = std::slice::from_ref(first);
        let (mut state, mut done) = (first.clone(), 0);
        for exit in exits {
            state = recompute_chain(&step.tape, &state, beside, done..exit.after, &link)?;
            let application = exit.after * self.student.config().core_layers - 1;
            outputs.exit(step, &state, application, exit.share)?;
            done = exit.after;
        }
        let mut ends = Vec::new();
        if outputs.halting().is_some() {
            // Each state is kept, for each is read.
            while done + 1 < repetitions {
                state = recompute_chain(&step.tape, &state, beside, done..done + 1, &link)?;
                ends.push(state.clone());
                done += 1;
            }
        }
        let last = recompute_chain(&step.tape, &state, beside, done..repetitions, &link)?;
        let matching =
            self.closed_matching(outputs.batch, repetitions, depths, &costs, &last, progress);
        // It is set once.
        let _ = later.matching.set(matching);
        step.later = Some(later);
        ends.push(last);
        Ok(ends)
    }
}
