//! Halting loss: the expected loss under the halting distribution of a gate, and the gate's cost.

use candle_core::Tensor;

use super::loss_terms::LossTerm;
use super::output_loss::OutputLoss;
use crate::autograd::{Tape, Value};
use crate::distill::halting::{HaltingConfig, Trains};
use crate::error::{Error, Result};
use crate::halting::{ACT_THRESHOLD, JointPolicy, act_stop, expected, survival};
use crate::nn::{gather, weighted_mean};

/// The halting loss of a step.
pub(super) struct HaltingLoss<'a> {
    outputs: &'a OutputLoss<'a>,
    config: &'a HaltingConfig,
    weight: f64,
}

/// The logits of the gate.
struct Gates {
    /// After each repetition, (tokens, 1) or (B, T, 1).
    values: Vec<Value>,
    /// By token, (tokens, N).
    logits: Vec<Vec<f32>>,
}

/// Means over tokens of the halting loss.
struct Expectation {
    loss: f64,
    cost: f64,
    repetitions: f64,
}

impl<'a> HaltingLoss<'a> {
    /// None if no gate is trained in this step.
    pub(super) fn new(outputs: &'a OutputLoss<'a>) -> Option<Self> {
        let config = outputs.inputs.config.loss.halting.as_ref()?;
        let weight = config.weight.at(outputs.inputs.progress);
        (weight > 0.0).then_some(Self { outputs, config, weight })
    }

    /// The output loss of the last repetition and the halting loss, from the states after each
    /// repetition, N of (B, T, D).
    pub(super) fn terms(&self, tape: &Tape, states: &[Value]) -> Result<[LossTerm; 2]> {
        match self.config.policy {
            JointPolicy::Ponder | JointPolicy::ExitGate => self.expected_loss(tape, states),
            JointPolicy::Act => self.loss_of_mean(tape, states),
        }
    }

    fn term(&self, expectation: &Expectation) -> LossTerm {
        let Expectation { loss, cost, repetitions } = *expectation;
        LossTerm {
            weight: self.weight,
            value: loss + self.config.beta() * cost,
            metrics: vec![
                ("halting", loss),
                ("halting_cost", cost),
                ("halting_repetitions", repetitions),
            ],
        }
    }

    /// `PonderNet` and exit gate: every output's loss, weighted by the probability of stopping there.
    fn expected_loss(&self, tape: &Tape, states: &[Value]) -> Result<[LossTerm; 2]> {
        let OutputLoss { inputs, weights, supervised, .. } = self.outputs;
        let positions = supervised.as_ref().map(|tokens| &tokens.places[..]);
        let gates = self.gates(tape, states, positions)?;
        let stops: Vec<Vec<f32>> = gates.logits.iter().map(|logits| survival(logits)).collect();
        let (off, target) = (Tape::off(), inputs.teacher_outputs.output()?);
        let compare = |tape: &Tape, n: usize, token_weights: &[f32]| {
            let weights = weights.scaled(1.0);
            self.outputs.compare(tape, &states[n], target, weights, Some(token_weights))
        };
        let expected_weight = match self.config.trains {
            Trains::Both => self.weight as f32,
            Trains::Gate => 0.0,
        };
        let mut losses = Vec::with_capacity(states.len());
        let last = states.len() - 1;
        for n in 0..last {
            let token_weights: Vec<f32> = stops.iter().map(|p| expected_weight * p[n]).collect();
            let tape = if self.config.trains == Trains::Both { tape } else { &off };
            losses.push(weights.token_losses(&compare(tape, n, &token_weights)?));
        }
        // The last output has its own loss as well.
        let token_weights: Vec<f32> =
            stops.iter().map(|p| 1.0 + expected_weight * p[last]).collect();
        let terms = compare(tape, last, &token_weights)?;
        losses.push(weights.token_losses(&terms));
        let expectation = self.train_gates(tape, &gates, &losses)?;
        Ok([self.outputs.last_term(&terms), self.term(&expectation)])
    }

    /// Records the gradients of the gates. `losses` are those of every token after each repetition,
    /// N of (tokens).
    fn train_gates(&self, tape: &Tape, gates: &Gates, losses: &[Vec<f32>]) -> Result<Expectation> {
        let (repetitions, tokens) = (losses.len(), gates.logits.len());
        let prior = self.config.prior(repetitions);
        let mut gradients = vec![vec![0.0; tokens]; repetitions];
        let mut gradient = vec![0.0; repetitions];
        let scale = self.weight as f32 / tokens as f32;
        let mut mean = Expectation { loss: 0.0, cost: 0.0, repetitions: 0.0 };
        for (token, logits) in gates.logits.iter().enumerate() {
            let token_losses: Vec<f32> = losses.iter().map(|losses| losses[token]).collect();
            let beta = self.config.beta() as f32;
            let expected = expected(logits, &token_losses, &prior, beta, &mut gradient);
            mean.loss += f64::from(expected.loss) / tokens as f64;
            mean.cost += f64::from(expected.cost) / tokens as f64;
            mean.repetitions += f64::from(expected.repetitions) / tokens as f64;
            for (gradients, gradient) in gradients.iter_mut().zip(&gradient) {
                gradients[token] = scale * gradient;
            }
        }
        for (gate, gradient) in gates.values.iter().zip(gradients) {
            let (shape, device) = (gate.tensor().shape(), gate.tensor().device());
            tape.push_loss(gate, Tensor::from_vec(gradient, shape, device)?);
        }
        Ok(mean)
    }

    /// ACT: the loss of the output on the mean of the states. Graves 2016.
    fn loss_of_mean(&self, tape: &Tape, states: &[Value]) -> Result<[LossTerm; 2]> {
        let OutputLoss { inputs, weights, .. } = self.outputs;
        let output = self.outputs.last(tape, &states[states.len() - 1])?;
        let gates = self.gates(tape, states, None)?;
        let stops: Vec<usize> =
            gates.logits.iter().map(|logits| act_stop(logits, ACT_THRESHOLD)).collect();
        let (mean, remainder) = weighted_mean(tape, states, &gates.values, &stops)?;
        let target = inputs.teacher_outputs.output()?;
        let terms = self.outputs.compare(tape, &mean, target, weights.scaled(self.weight), None)?;
        let tokens = stops.len() as f64;
        // Only the remainder has a gradient: the number of repetitions is piecewise constant.
        let scale = (self.weight * self.config.beta() / tokens) as f32;
        let gradient = remainder.tensor().ones_like()?.affine(f64::from(scale), 0.0)?;
        tape.push_loss(&remainder, gradient);
        let remainder = f64::from(remainder.tensor().sum_all()?.to_scalar::<f32>()?) / tokens;
        let repetitions = stops.iter().sum::<usize>() as f64 / tokens;
        let (loss, cost) = (weights.mean_loss(&terms), repetitions + remainder);
        Ok([output, self.term(&Expectation { loss, cost, repetitions })])
    }

    /// The gate's logits after each repetition, of the tokens at `positions`; None: of all tokens.
    fn gates(&self, tape: &Tape, states: &[Value], positions: Option<&[usize]>) -> Result<Gates> {
        let gate = |(n, state): (usize, &Value)| {
            let state = match self.config.trains {
                Trains::Both => state.clone(),
                Trains::Gate => state.detached(),
            };
            let state = match positions {
                Some(positions) => gather(tape, &state, positions)?,
                None => state,
            };
            let logits = self.outputs.inputs.student.halting_logits(tape, &state, n)?;
            logits.ok_or_else(|| Error::internal("this student has no gate"))
        };
        let values: Vec<Value> = states.iter().enumerate().map(gate).collect::<Result<_>>()?;
        let flat = |value: &Value| Ok(value.tensor().flatten_all()?.to_vec1::<f32>()?);
        let by_repetition: Vec<Vec<f32>> = values.iter().map(flat).collect::<Result<_>>()?;
        let tokens = by_repetition.first().map_or(0, Vec::len);
        let token_logits =
            |token: usize| by_repetition.iter().map(|logits| logits[token]).collect();
        Ok(Gates { values, logits: (0..tokens).map(token_logits).collect() })
    }
}
