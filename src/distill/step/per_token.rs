//! How does a step go when every token has a depth of its own?

use std::collections::BTreeSet;
use std::rc::Rc;

use candle_core::Tensor;

use super::hidden_loss::{Later, Matching, Step};
use super::output_loss::Outputs;
use super::teacher_outputs::TeacherOutputs;
use crate::autograd::checkpoint::{Link, recompute_chain};
use crate::autograd::{Tape, Value};
use crate::data::Batch;
use crate::distill::depth::Recompute;
use crate::distill::objective::Distillation;
use crate::error::Result;
use crate::model::alignment::equal_steps;
use crate::model::per_token_depth::active_tokens;
use crate::model::{CausalLm, LoopedTransformer, PerTokenStates};
use crate::nn::{RopeTable, scatter};

/// The core, which some tokens leave before others.
struct Course {
    student: LoopedTransformer,
    table: RopeTable,
    teacher: Rc<TeacherOutputs>,
    /// Of every token, (B, T) row by row.
    depths: Vec<usize>,
    /// How the tokens of each depth are compared, and which share of all they are.
    matchings: Vec<(Matching, f64)>,
    found: Rc<Later>,
}

impl Course {
    /// One repetition, counted from 0. What it is compared with adds to the loss where `tape`
    /// records.
    fn repeat(
        &self,
        tape: &Tape,
        tokens: &mut PerTokenStates,
        first: &Value,
        repetition: usize,
    ) -> Result<()> {
        let places = active_tokens(&self.depths, repetition);
        let before = tokens.state.detached();
        let states =
            self.student.repeat_active(tape, tokens, first, (repetition, &places), &self.table)?;
        if self.matchings.is_empty() || !tape.is_recording() {
            return Ok(());
        }
        let whole = |state: &Value| scatter(tape, &before, state, &places);
        let states: Vec<Value> = states.iter().map(whole).collect::<Result<_>>()?;
        for (matching, share) in &self.matchings {
            if matching.repetitions > repetition {
                let found = matching.repetition(tape, repetition, &states, &self.teacher)?;
                *self.found.matched.borrow_mut() += found.times(*share);
            }
        }
        Ok(())
    }
}

impl Distillation<'_> {
    /// The whole student on its own states, each token as deep as `depths` says, (B, T) row by row.
    pub(crate) fn staggered(
        &self,
        batch: &Batch,
        ids: &Tensor,
        depths: Vec<usize>,
        progress: f64,
    ) -> Result<Step> {
        let teacher = self.teaching.states_and_output(batch, ids, &self.needs.closed)?;
        let teacher = Rc::new(teacher);
        let config = self.student.config().clone();
        let most = depths.iter().copied().max().unwrap_or(0);
        let mut step = Step::new(Tape::recording());
        let table = self.student.embedding_and_head().rope(0, ids.dim(1)?);
        let prelude = self.student.prelude(&step.tape, ids, &table)?;
        let first = &prelude[prelude.len() - 1];
        let found = Rc::new(Later::default());
        let course = Rc::new(Course {
            student: self.student.clone(),
            table: table.clone(),
            teacher: teacher.clone(),
            matchings: self.matchings(batch, &depths, progress),
            depths,
            found: found.clone(),
        });
        let last = if self.config.depth.recompute == Recompute::Always {
            let of = config.clone();
            let link: Link = Rc::new(move |tape, repetition, packed, beside| {
                let mut tokens = PerTokenStates::unpacked(tape, packed, &of)?;
                course.repeat(tape, &mut tokens, &beside[0], repetition)?;
                tokens.packed(tape)
            });
            let beside = std::slice::from_ref(first);
            let packed = recompute_chain(&step.tape, first, beside, 0..most, &link)?;
            PerTokenStates::unpacked(&step.tape, &packed, &config)?.state
        } else {
            let mut tokens = PerTokenStates::new(first.clone(), config.core_layers);
            for repetition in 0..most {
                course.repeat(&step.tape, &mut tokens, first, repetition)?;
            }
            tokens.state
        };
        let count = most * config.core_layers;
        let named = self.matching(
            batch,
            most,
            equal_steps(&config, count, self.alignment()),
            self.config.loss.hidden.weight.at(progress),
        );
        // It is set once.
        let _ = found.matching.set(named);
        step.later = Some(found);
        let output_at = |depth| self.teaching.output_at(&teacher, depth);
        let outputs = Outputs {
            student: &self.student,
            table: &table,
            loss: &self.config.loss,
            teacher: &teacher,
            output_at: &output_at,
            depths: Vec::new(),
            batch,
            progress,
        };
        outputs.last(&mut step, &last)?;
        Ok(step)
    }

    /// The tokens of each depth are compared as in a step of that depth.
    fn matchings(&self, batch: &Batch, depths: &[usize], progress: f64) -> Vec<(Matching, f64)> {
        let weight = self.config.loss.hidden.weight.at(progress);
        if weight <= 0.0 {
            return Vec::new();
        }
        let (config, skip) = (self.student.config(), self.config.loss.hidden.skip_tokens);
        let whole = self.matching(batch, 1, Vec::new(), weight);
        let all = whole.places.unwrap_or_else(|| (0..depths.len()).collect());
        let compared: Vec<usize> =
            all.into_iter().filter(|place| place % batch.columns >= skip).collect();
        let drawn: BTreeSet<usize> = compared.iter().map(|&place| depths[place]).collect();
        let of_depth = |depth: usize| {
            let places: Vec<usize> =
                compared.iter().copied().filter(|&place| depths[place] == depth).collect();
            let share = places.len() as f64 / compared.len() as f64;
            let steps = equal_steps(config, depth * config.core_layers, self.alignment());
            let mut matching = self.matching(batch, depth, steps, weight * share);
            matching.places = Some(places);
            matching.how.skip_tokens = 0;
            (matching, share)
        };
        drawn.into_iter().map(of_depth).collect()
    }
}
