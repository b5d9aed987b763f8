//! A free-running step: the whole student runs on its own states, all tokens for the same number of
//! repetitions.

use std::rc::Rc;

use rand::Rng;

use super::core::{Core, Start};
use super::halting_loss::HaltingLoss;
use super::hidden_loss::{HiddenLoss, HiddenTargets, TokenGroup};
use super::inputs::StepInputs;
use super::loss_terms::LossSum;
use super::output_loss::OutputLoss;
use super::state_distances::{is_monotone, state_distances};
use crate::autograd::{Link, Tape, Value, recompute_chain};
use crate::distill::depth::{self, Recompute};
use crate::distill::early_exit::EarlyExit;
use crate::error::Result;
use crate::model::monotone;
use crate::train::Loss;

/// A step in which every repetition starts from the state before it, or from the teacher's with the
/// probability of scheduled sampling.
pub(crate) struct FreeRunning {
    /// The start of each repetition, (N).
    starts: Vec<Start>,
    early_exits: Vec<EarlyExit>,
}

impl FreeRunning {
    /// Samples the number of repetitions, their starts and the early exits.
    pub(crate) fn sample(inputs: &StepInputs, rng: &mut impl Rng) -> Self {
        let StepInputs { student, config, progress, .. } = *inputs;
        let student = student.config();
        let repetitions = depth::sample(&config.depth, student.repetitions, progress, rng);
        let teacher_probability = config.phases.teacher_probability(progress);
        let truncated = config.depth.backprop_repetitions;
        let start = |repetition: usize| {
            if repetition > 0 && rng.random::<f64>() < teacher_probability {
                Start::Teacher
            } else if truncated > 0 && repetition + truncated == repetitions {
                Start::Detached
            } else {
                Start::Previous
            }
        };
        let starts = (0..repetitions).map(start).collect();
        let early_exit = &config.loss.early_exit;
        let early_exits = if early_exit.weight.at(progress) > 0.0 {
            early_exit.exits(repetitions, student.core_layers, rng)
        } else {
            Vec::new()
        };
        Self { starts, early_exits }
    }

    /// Loss and gradients of the step.
    pub(crate) fn run(&self, inputs: StepInputs) -> Result<Loss> {
        let tape = Tape::recording();
        let (losses, hidden) = self.forward(&inputs, &tape)?;
        // Parameters of later repetitions and of a gate whose weight is 0 get no gradient.
        let gate = inputs.config.loss.halting;
        let gate_waits = gate.is_some_and(|gate| gate.weight.at(inputs.progress) <= 0.0);
        let partial = gate_waits || self.starts.len() < inputs.student.config().repetitions;
        // With stored activations the teacher's states are not needed in the backward pass.
        drop(inputs);
        Ok(Loss { partial, ..losses.finish(tape, || hidden.terms())? })
    }

    fn forward(&self, inputs: &StepInputs, tape: &Tape) -> Result<(LossSum, Rc<HiddenLoss>)> {
        let table = inputs.rope()?;
        let outputs = OutputLoss::new(inputs, &table);
        let halting = HaltingLoss::new(&outputs);
        let mut losses = LossSum::default();
        let pass = CorePass {
            inputs,
            tape,
            prelude: inputs.prelude(tape, &table)?,
            core: Rc::new(Core::new(inputs, &table, &self.starts)),
            hidden: Rc::default(),
            outputs: &outputs,
            early_exits: &self.early_exits,
        };
        let read = if halting.is_some() { Read::EveryRepetition } else { Read::Last };
        let states = match inputs.config.depth.recompute {
            Recompute::Always => pass.checkpointed(read, &mut losses)?,
            Recompute::Auto | Recompute::Never => pass.stored(read, &mut losses)?,
        };
        match &halting {
            Some(halting) => {
                halting.terms(tape, &states)?.into_iter().for_each(|term| losses.add(term));
            }
            None => losses.add(outputs.last(tape, &states[states.len() - 1])?),
        }
        losses.metric("repetitions", self.starts.len() as f64);
        Ok((losses, pass.hidden))
    }
}

/// The states whose outputs are compared after the forward pass of the core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Read {
    Last,
    EveryRepetition,
}

/// The forward pass of the core, with the losses that are recorded on the way.
struct CorePass<'a> {
    inputs: &'a StepInputs<'a>,
    tape: &'a Tape,
    /// The state after the prelude, (B, T, D).
    prelude: Value,
    core: Rc<Core>,
    hidden: Rc<HiddenLoss>,
    outputs: &'a OutputLoss<'a>,
    early_exits: &'a [EarlyExit],
}

impl CorePass<'_> {
    /// Runs the core with stored activations; gives the states to `read`, each (B, T, D).
    fn stored(&self, read: Read, losses: &mut LossSum) -> Result<Vec<Value>> {
        let (tape, core) = (self.tape, &self.core);
        let mut repetitions: Vec<Vec<Value>> = Vec::with_capacity(core.repetitions());
        let mut state = self.prelude.clone();
        for repetition in 0..core.repetitions() {
            let states = core.repeat(tape, repetition, &state, &self.prelude)?;
            state = states[states.len() - 1].clone();
            repetitions.push(states);
        }
        let mut distances = Vec::new();
        if is_monotone(self.inputs) {
            for states in &repetitions {
                distances.extend(state_distances(self.inputs, states)?);
            }
        }
        self.set_targets(&distances, &state);
        for (repetition, states) in repetitions.iter().enumerate() {
            self.hidden.record(tape, repetition, states, &core.teacher)?;
        }
        let states: Vec<&Value> = repetitions.iter().flatten().collect();
        for exit in self.early_exits {
            self.read_early(states[exit.applications - 1], *exit, losses)?;
        }
        Ok(match read {
            Read::Last => vec![state],
            Read::EveryRepetition => {
                repetitions.into_iter().filter_map(|mut states| states.pop()).collect()
            }
        })
    }

    /// Runs the core with activation checkpointing; gives the states to `read`, each (B, T, D).
    fn checkpointed(&self, read: Read, losses: &mut LossSum) -> Result<Vec<Value>> {
        let (tape, link) = (self.tape, self.link());
        let prelude = std::slice::from_ref(&self.prelude);
        let repetitions = self.core.repetitions();
        let distances = self.distances_before()?;
        let (mut state, mut done) = (self.prelude.clone(), 0);
        for exit in self.early_exits {
            let after = exit.applications / self.inputs.student.config().core_layers;
            state = recompute_chain(tape, &state, prelude, done..after, &link)?;
            self.read_early(&state, *exit, losses)?;
            done = after;
        }
        let mut states = Vec::new();
        while read == Read::EveryRepetition && done + 1 < repetitions {
            state = recompute_chain(tape, &state, prelude, done..done + 1, &link)?;
            states.push(state.clone());
            done += 1;
        }
        let last = recompute_chain(tape, &state, prelude, done..repetitions, &link)?;
        self.set_targets(&distances, &last);
        states.push(last);
        Ok(states)
    }

    /// One checkpointed repetition, which records its hidden-state loss when it is recomputed.
    fn link(&self) -> Link {
        let (core, hidden) = (self.core.clone(), self.hidden.clone());
        Rc::new(move |tape, repetition, state, prelude| {
            let states = core.repeat(tape, repetition, state, &prelude[0])?;
            hidden.record(tape, repetition, &states, &core.teacher)?;
            Ok(states[states.len() - 1].clone())
        })
    }

    /// The distances of monotone alignment, which need a forward pass over all states of their own
    /// when activations are not stored; none for other alignments.
    fn distances_before(&self) -> Result<Vec<Vec<f64>>> {
        let mut distances = Vec::new();
        if is_monotone(self.inputs) {
            let prelude = self.prelude.detached();
            let mut state = prelude.clone();
            for repetition in 0..self.core.repetitions() {
                let states = self.core.repeat(&Tape::off(), repetition, &state, &prelude)?;
                distances.extend(state_distances(self.inputs, &states)?);
                state = states[states.len() - 1].clone();
            }
        }
        Ok(distances)
    }

    /// Sets the targets of the hidden-state loss, once the `last` state, (B, T, D), is known.
    fn set_targets(&self, distances: &[Vec<f64>], last: &Value) {
        let repetitions = self.core.repetitions();
        let layers = if distances.is_empty() {
            self.core.layers.clone()
        } else {
            monotone(self.inputs.student.config(), distances)
        };
        let group = TokenGroup::all(self.inputs, repetitions, layers);
        let targets = HiddenTargets::new(self.inputs, vec![group]);
        self.hidden.set_targets(targets.with_last(self.inputs, repetitions, last));
    }

    fn read_early(&self, state: &Value, exit: EarlyExit, losses: &mut LossSum) -> Result<()> {
        let layer = self.core.layers[exit.applications - 1];
        losses.add(self.outputs.early_exit(self.tape, state, exit, layer)?);
        Ok(())
    }
}
