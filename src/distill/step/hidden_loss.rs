//! Hidden-state loss: states of the core are compared with states of the teacher, and with the last
//! state of the core.

use std::cell::{Cell, OnceCell};
use std::ops::Range;

use candle_core::Tensor;

use super::inputs::StepInputs;
use super::loss_terms::LossTerm;
use super::teacher_outputs::TeacherOutputs;
use crate::autograd::{Tape, Value};
use crate::data::SupervisedTokens;
use crate::distill::config::{Compared, HiddenConfig};
use crate::distill::granularity::Granularity;
use crate::error::Result;
use crate::losses::{StateComparison, StateTerms, compare_states};
use crate::model::TeacherLayer;
use crate::nn::{Linear, gather, gather_tensor};

/// The hidden-state loss of a step.
///
/// [`HiddenLoss::record`] is called for every repetition on a recording tape. With stored activations
/// that is during the forward pass. With activation checkpointing the states of a repetition exist
/// on a recording tape only while the backward pass recomputes it, so that the loss is recorded and
/// summed there. It is therefore read with [`HiddenLoss::terms`] after the backward pass. The targets
/// are set when the forward pass is done, because they may depend on the last state.
#[derive(Default)]
pub(crate) struct HiddenLoss {
    targets: OnceCell<HiddenTargets>,
    sums: Cell<Sums>,
}

/// Sums over the repetitions so far of their shares of the means over all compared states.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    squared: f64,
    cosine: f64,
    settle: f64,
}

impl HiddenLoss {
    /// A loss with known targets.
    pub(super) fn new(targets: HiddenTargets) -> Self {
        Self { targets: OnceCell::from(targets), sums: Cell::default() }
    }

    /// Sets the targets of a loss made without them.
    pub(super) fn set_targets(&self, targets: HiddenTargets) {
        let unset = self.targets.set(targets).is_ok();
        debug_assert!(unset, "the targets of a step are set once");
    }

    /// Whether [`HiddenLoss::record`] compares states on this tape.
    pub(super) fn compares(&self, tape: &Tape) -> bool {
        tape.is_recording() && self.targets.get().is_some_and(HiddenTargets::any)
    }

    /// Compares the states after each layer of a repetition, K of (B, T, D), with their targets, and
    /// records the gradients.
    pub(super) fn record(
        &self,
        tape: &Tape,
        repetition: usize,
        states: &[Value],
        teacher: &TeacherOutputs,
    ) -> Result<()> {
        let Some(targets) = self.targets.get().filter(|_| self.compares(tape)) else {
            return Ok(());
        };
        let mut sums = self.sums.get();
        for group in targets.groups.iter().filter(|group| group.repetitions > repetition) {
            let terms = targets.compare(tape, repetition, states, teacher, group)?;
            sums.squared += group.share * terms.squared;
            sums.cosine += group.share * terms.cosine;
        }
        sums.settle += targets.compare_with_last(tape, repetition, &states[states.len() - 1])?;
        self.sums.set(sums);
        Ok(())
    }

    /// The terms of the loss, once every repetition is recorded.
    pub(super) fn terms(&self) -> Vec<LossTerm> {
        let Some(targets) = self.targets.get() else { return Vec::new() };
        let Sums { squared, cosine, settle } = self.sums.get();
        let mut terms = Vec::new();
        if targets.weight > 0.0 {
            let comparison = &targets.comparison;
            let value = f64::from(comparison.squared) * squared
                + f64::from(comparison.cosine) * (1.0 - cosine);
            let metrics = vec![("hidden", squared), ("cosine", cosine)];
            terms.push(LossTerm { weight: targets.weight, value, metrics });
        }
        if let Some(target) =
            targets.settle.as_ref().filter(|target| !target.repetitions.is_empty())
        {
            let metrics = vec![("settle", settle)];
            terms.push(LossTerm { weight: target.weight, value: settle, metrics });
        }
        terms
    }
}

/// Tokens with the same number of repetitions, whose states are compared together.
pub(super) struct TokenGroup {
    /// Their positions, counted through (B, T) row by row; None: all tokens.
    pub(super) positions: Option<Vec<usize>>,
    /// Their share of all compared tokens.
    pub(super) share: f64,
    pub(super) repetitions: usize,
    /// The teacher layer of each of their states, (N K).
    pub(super) layers: Vec<TeacherLayer>,
}

impl TokenGroup {
    /// All tokens that `config` compares.
    pub(super) fn all(inputs: &StepInputs, repetitions: usize, layers: Vec<TeacherLayer>) -> Self {
        Self { positions: compared_positions(inputs), share: 1.0, repetitions, layers }
    }
}

/// Positions of the tokens that are compared; None: all tokens.
pub(super) fn compared_positions(inputs: &StepInputs) -> Option<Vec<usize>> {
    match inputs.config.loss.hidden.tokens {
        Compared::All => None,
        Compared::Supervised => {
            SupervisedTokens::in_targets(&inputs.batch.targets).map(|tokens| tokens.places)
        }
    }
}

/// How states are compared, by the configuration.
pub(super) fn state_comparison(config: &HiddenConfig) -> StateComparison {
    StateComparison {
        squared: config.squared as f32,
        cosine: config.cosine as f32,
        scale: config.scale,
        skip_tokens: config.skip_tokens,
    }
}

/// What the states of the core are compared with.
pub(super) struct HiddenTargets {
    /// Weight of the mean over all states that are compared with the teacher's.
    weight: f64,
    comparison: StateComparison,
    width_map: Option<Linear>,
    /// K.
    core_layers: usize,
    /// Every state whose number of applied layers is a multiple of this is compared.
    stride: usize,
    groups: Vec<TokenGroup>,
    settle: Option<SettleTarget>,
}

/// The last state, with which those of the second half of the repetitions are compared.
struct SettleTarget {
    weight: f64,
    /// (B, T, D).
    last: Tensor,
    repetitions: Range<usize>,
}

impl HiddenTargets {
    /// The teacher's states as targets of `groups`.
    pub(super) fn new(inputs: &StepInputs, groups: Vec<TokenGroup>) -> Self {
        let (hidden, core_layers) =
            (&inputs.config.loss.hidden, inputs.student.config().core_layers);
        Self {
            weight: hidden.weight.at(inputs.progress),
            comparison: state_comparison(hidden),
            width_map: inputs.width_map.cloned(),
            core_layers,
            stride: match hidden.every {
                Granularity::Layer => 1,
                Granularity::Repetition => core_layers,
            },
            groups,
            settle: None,
        }
    }

    /// Compares every token of the groups, including the first `skip_tokens` of a row.
    pub(super) fn without_skipping(mut self) -> Self {
        self.comparison.skip_tokens = 0;
        self
    }

    /// Adds the last state, (B, T, D), of `repetitions` as a target, if its weight is above 0.
    pub(super) fn with_last(
        mut self,
        inputs: &StepInputs,
        repetitions: usize,
        last: &Value,
    ) -> Self {
        let weight = inputs.config.loss.settle.at(inputs.progress);
        self.settle = (weight > 0.0).then(|| SettleTarget {
            weight,
            last: last.tensor().clone(),
            repetitions: repetitions / 2..repetitions - 1,
        });
        self
    }

    fn any(&self) -> bool {
        (self.weight > 0.0 && !self.groups.is_empty()) || self.settle.is_some()
    }

    /// The repetition's shares of the means over all states of `group`.
    fn compare(
        &self,
        tape: &Tape,
        repetition: usize,
        states: &[Value],
        teacher: &TeacherOutputs,
        group: &TokenGroup,
    ) -> Result<StateTerms> {
        let mut sums = StateTerms::default();
        if self.weight <= 0.0 {
            return Ok(sums);
        }
        let compared = (self.core_layers * group.repetitions / self.stride) as f64;
        let gradient_weight = (self.weight * group.share / compared) as f32;
        let first = repetition * self.core_layers;
        for (layer, state) in (first..).zip(states) {
            if !(layer + 1).is_multiple_of(self.stride) {
                continue;
            }
            let target = teacher.at_layer(group.layers[layer])?;
            let (state, target) = self.select(tape, state, target, group)?;
            let terms = compare_states(tape, &state, &target, &self.comparison, gradient_weight)?;
            sums.squared += terms.squared / compared;
            sums.cosine += terms.cosine / compared;
        }
        Ok(sums)
    }

    /// The tokens of `group` of a state and its target, the state in the teacher's width.
    fn select(
        &self,
        tape: &Tape,
        state: &Value,
        target: Tensor,
        group: &TokenGroup,
    ) -> Result<(Value, Tensor)> {
        let (state, target) = match &group.positions {
            None => (state.clone(), target),
            Some(positions) => {
                let shape = |width: usize| (1, positions.len(), width);
                let target_shape = shape(target.dim(2)?);
                let state = gather(tape, state, positions)?;
                let state_shape = shape(state.tensor().dim(1)?);
                let target = gather_tensor(&target, positions)?.reshape(target_shape)?;
                (state.reshaped(state_shape)?, target)
            }
        };
        match &self.width_map {
            None => Ok((state, target)),
            Some(map) => Ok((map.forward(tape, &state)?, target)),
        }
    }

    /// The repetition's share of the mean squared error to the last state.
    fn compare_with_last(&self, tape: &Tape, repetition: usize, state: &Value) -> Result<f64> {
        let Some(target) = &self.settle else { return Ok(0.0) };
        if !target.repetitions.contains(&repetition) {
            return Ok(0.0);
        }
        let compared = target.repetitions.len() as f64;
        let comparison = StateComparison { squared: 1.0, cosine: 0.0, ..self.comparison };
        let gradient_weight = (target.weight / compared) as f32;
        let terms = compare_states(tape, state, &target.last, &comparison, gradient_weight)?;
        Ok(terms.squared / compared)
    }
}
