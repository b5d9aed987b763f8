//! A step with per-token depth: every token runs for its own number of repetitions.

use std::collections::BTreeSet;
use std::rc::Rc;

use rand::Rng;

use super::hidden_loss::{HiddenLoss, HiddenTargets, TokenGroup, compared_positions};
use super::inputs::StepInputs;
use super::loss_terms::LossSum;
use super::output_loss::OutputLoss;
use super::teacher_outputs::TeacherOutputs;
use crate::autograd::{Link, Tape, Value, recompute_chain};
use crate::distill::depth::{self, Recompute};
use crate::error::Result;
use crate::model::{LoopedTransformer, PerTokenStates, active_tokens};
use crate::nn::{RopeTable, scatter};
use crate::train::Loss;

/// A free-running step in which a token keeps its state after its last repetition.
pub(crate) struct PerToken {
    /// Repetitions of each token, (B, T) row by row.
    depths: Vec<usize>,
}

impl PerToken {
    /// Samples the repetitions of each token.
    pub(crate) fn sample(inputs: &StepInputs, rng: &mut impl Rng) -> Self {
        let made_for = inputs.student.config().repetitions;
        let depth = |_| depth::sample(&inputs.config.depth, made_for, inputs.progress, rng);
        Self { depths: (0..inputs.batch.tokens()).map(depth).collect() }
    }

    /// Loss and gradients of the step.
    pub(crate) fn run(&self, inputs: StepInputs) -> Result<Loss> {
        let tape = Tape::recording();
        let (losses, hidden) = self.forward(&inputs, &tape)?;
        // Parameters of later repetitions get no gradient.
        let partial = self.deepest() < inputs.student.config().repetitions;
        // With stored activations the teacher's states are not needed in the backward pass.
        drop(inputs);
        Ok(Loss { partial, ..losses.finish(tape, || hidden.terms())? })
    }

    fn deepest(&self) -> usize {
        self.depths.iter().copied().max().unwrap_or(0)
    }

    fn forward(&self, inputs: &StepInputs, tape: &Tape) -> Result<(LossSum, Rc<HiddenLoss>)> {
        let table = inputs.rope()?;
        let prelude = inputs.prelude(tape, &table)?;
        let hidden = Rc::new(HiddenLoss::new(self.hidden_targets(inputs)));
        let core = Rc::new(PerTokenCore {
            student: inputs.student.clone(),
            table: table.clone(),
            teacher: inputs.teacher_outputs.clone(),
            depths: self.depths.clone(),
            hidden: hidden.clone(),
        });
        let last = match inputs.config.depth.recompute {
            Recompute::Always => core.checkpointed(tape, &prelude, self.deepest())?,
            Recompute::Auto | Recompute::Never => core.stored(tape, &prelude, self.deepest())?,
        };
        let mut losses = LossSum::default();
        losses.add(OutputLoss::new(inputs, &table).last(tape, &last)?);
        let mean = self.depths.iter().sum::<usize>() as f64 / self.depths.len() as f64;
        losses.metric("repetitions", mean);
        Ok((losses, hidden))
    }

    /// The tokens of each depth are compared as in a step of that depth.
    fn hidden_targets(&self, inputs: &StepInputs) -> HiddenTargets {
        let skip = inputs.config.loss.hidden.skip_tokens;
        let all = || (0..self.depths.len()).collect();
        let compared: Vec<usize> = compared_positions(inputs)
            .unwrap_or_else(all)
            .into_iter()
            .filter(|position| position % inputs.batch.columns >= skip)
            .collect();
        let depths: BTreeSet<usize> = compared.iter().map(|&token| self.depths[token]).collect();
        let group = |repetitions: usize| {
            let positions: Vec<usize> = compared
                .iter()
                .copied()
                .filter(|&token| self.depths[token] == repetitions)
                .collect();
            TokenGroup {
                share: positions.len() as f64 / compared.len() as f64,
                positions: Some(positions),
                repetitions,
                layers: inputs.aligned_layers(repetitions),
            }
        };
        // Skipped tokens are in no group.
        HiddenTargets::new(inputs, depths.into_iter().map(group).collect()).without_skipping()
    }
}

/// The core, in which every token stops after its own number of repetitions.
struct PerTokenCore {
    student: LoopedTransformer,
    table: RopeTable,
    teacher: Rc<TeacherOutputs>,
    /// Repetitions of each token, (B, T) row by row.
    depths: Vec<usize>,
    hidden: Rc<HiddenLoss>,
}

impl PerTokenCore {
    /// Runs `repetitions` with stored activations; gives the last state of every token, (B, T, D).
    fn stored(&self, tape: &Tape, prelude: &Value, repetitions: usize) -> Result<Value> {
        let mut tokens = PerTokenStates::new(prelude.clone(), self.student.config().core_layers);
        for repetition in 0..repetitions {
            self.repeat(tape, &mut tokens, prelude, repetition)?;
        }
        Ok(tokens.state)
    }

    /// The same with activation checkpointing.
    fn checkpointed(
        self: &Rc<Self>,
        tape: &Tape,
        prelude: &Value,
        repetitions: usize,
    ) -> Result<Value> {
        let core = self.clone();
        let link: Link = Rc::new(move |tape, repetition, packed, prelude| {
            let mut tokens = PerTokenStates::unpacked(tape, packed, core.student.config())?;
            core.repeat(tape, &mut tokens, &prelude[0], repetition)?;
            tokens.packed(tape)
        });
        let inputs = std::slice::from_ref(prelude);
        let packed = recompute_chain(tape, prelude, inputs, 0..repetitions, &link)?;
        Ok(PerTokenStates::unpacked(tape, &packed, self.student.config())?.state)
    }

    /// Runs one repetition, counted from 0, of the tokens that have not stopped, and records their
    /// hidden-state loss.
    fn repeat(
        &self,
        tape: &Tape,
        tokens: &mut PerTokenStates,
        prelude: &Value,
        repetition: usize,
    ) -> Result<()> {
        let active = active_tokens(&self.depths, repetition);
        let before = tokens.state.detached();
        let states = self.student.repeat_active(
            tape,
            tokens,
            prelude,
            (repetition, &active),
            &self.table,
        )?;
        if !self.hidden.compares(tape) {
            return Ok(());
        }
        let all_tokens = |state: &Value| scatter(tape, &before, state, &active);
        let states: Vec<Value> = states.iter().map(all_tokens).collect::<Result<_>>()?;
        self.hidden.record(tape, repetition, &states, &self.teacher)
    }
}
