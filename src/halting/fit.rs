//! Fitting a halting gate to a frozen student.
//!
//! The losses of stopping a token after each repetition are measured once, and only the gate is
//! trained on them, which takes seconds.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::exit_gate::continue_target;
use super::gate::{Gate, log_change, sigmoid, survival};
use super::name::PolicyName;
use super::ponder::{PONDER_PRIOR, divergence, geometric};
use super::traces::Traces;
use super::{act, correctness};
use crate::error::{Error, Result};

/// beta, weight of the cost of PonderNet.
const PONDER_WEIGHT: f32 = 0.01;
/// tau, weight of the cost of ACT, nats per repetition.
const ACT_TAU: f32 = 0.01;
/// gamma of the exit gate as a share of the mean KL after the first repetition.
const GAMMA_SHARE: f32 = 0.01;

const BATCH: usize = 256;
const STEPS: usize = 2000;
const LEARNING_RATE: f32 = 1e-2;
/// Steps between evaluations on the held-out tokens; the gate with the lowest loss is returned.
const STEPS_PER_EVALUATION: usize = 50;
/// One token of this many is held out.
const HELD_OUT_EVERY: usize = 5;

/// Fits the gate of `policy` to `traces`. None for policies without a gate.
///
/// # Errors
/// The traces hold no states, or too few tokens.
pub fn fit_gate(policy: PolicyName, traces: &Traces, seed: u64) -> Result<Option<Gate>> {
    let start = match policy {
        PolicyName::Act => act::START_LOGIT,
        PolicyName::Correctness => correctness::START_LOGIT,
        PolicyName::Ponder | PolicyName::ExitGate => 0.0,
        _ => return Ok(None),
    };
    let tokens = traces.tokens();
    if traces.states.len() != tokens * traces.repetitions * traces.width
        || tokens < 2 * HELD_OUT_EVERY
    {
        return Err(Error::input(format!("{tokens} tokens are too few to fit a gate on"))
            .hint("give more text, or a larger --max-tokens"));
    }
    let loss = TokenLoss::new(policy, traces);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (held_out, mut training): (Vec<usize>, Vec<usize>) =
        (0..tokens).partition(|token| token % HELD_OUT_EVERY == HELD_OUT_EVERY - 1);
    let mut model = GateOptimizer::new(Gate::new(traces.width, traces.repetitions, start));
    let (mut best, mut lowest) = (model.gate.clone(), f64::INFINITY);
    let mut next = training.len();
    for step in 1..=STEPS {
        if next >= training.len() {
            training.shuffle(&mut rng);
            next = 0;
        }
        let batch = &training[next..(next + BATCH).min(training.len())];
        next += BATCH;
        model.step(batch, traces, &loss);
        if step % STEPS_PER_EVALUATION != 0 {
            continue;
        }
        let held_out_loss = mean_loss(&model.gate, &held_out, traces, &loss);
        if held_out_loss < lowest {
            (best, lowest) = (model.gate.clone(), held_out_loss);
        }
    }
    Ok(Some(best))
}

fn mean_loss(gate: &Gate, tokens: &[usize], traces: &Traces, loss: &TokenLoss) -> f64 {
    let mut gradient = vec![0.0; traces.repetitions];
    let losses = tokens.iter().map(|&token| {
        let logits = traces.logits(gate, token);
        let (kl, agree) = (traces.token_kl(token), traces.token_agreement(token));
        f64::from(loss.evaluate(&logits, kl, agree, &mut gradient))
    });
    losses.sum::<f64>() / tokens.len() as f64
}

/// The loss of a token's gate logits under a policy, with its gradient.
struct TokenLoss {
    policy: PolicyName,
    gamma: f32,
    prior: Vec<f32>,
}

impl TokenLoss {
    fn new(policy: PolicyName, traces: &Traces) -> Self {
        let first: f32 = (0..traces.tokens()).map(|token| traces.token_kl(token)[0]).sum();
        let gamma = (GAMMA_SHARE * first / traces.tokens().max(1) as f32).max(1e-6);
        Self { policy, gamma, prior: geometric(PONDER_PRIOR, traces.repetitions) }
    }

    /// The loss of `logits`, (N), where `kl` and `agree`, (N), are KL to the teacher and agreement
    /// after each repetition. The gradient with respect to `logits` is written to `gradient`, (N).
    fn evaluate(&self, logits: &[f32], kl: &[f32], agree: &[bool], gradient: &mut [f32]) -> f32 {
        gradient.fill(0.0);
        let last = logits.len() - 1;
        match self.policy {
            PolicyName::Correctness => {
                let share = 1.0 / logits.len() as f32;
                let mut sum = 0.0;
                for ((gradient, &logit), &right) in gradient.iter_mut().zip(logits).zip(agree) {
                    sum += share * binary_cross_entropy(logit, f32::from(right));
                    *gradient = share * (sigmoid(logit) - f32::from(right));
                }
                sum
            }
            PolicyName::ExitGate => {
                let share = 1.0 / last.max(1) as f32;
                let mut sum = 0.0;
                for r in 0..last {
                    let target = 1.0 - continue_target(kl[r] - kl[r + 1], self.gamma);
                    sum += share * binary_cross_entropy(logits[r], target);
                    gradient[r] = share * (sigmoid(logits[r]) - target);
                }
                sum
            }
            PolicyName::Act => Self::act(logits, kl, gradient),
            _ => self.ponder(logits, kl, gradient),
        }
    }

    /// sum p_n KL_n + tau (N + R), where p ends at the repetition N at which ACT stops.
    fn act(logits: &[f32], kl: &[f32], gradient: &mut [f32]) -> f32 {
        let (mut stop, mut sum, mut remainder, mut loss) = (logits.len() - 1, 0.0, 1.0, 0.0);
        for (r, &logit) in logits[..logits.len() - 1].iter().enumerate() {
            sum += sigmoid(logit);
            if sum >= act::ACT_THRESHOLD {
                stop = r;
                break;
            }
            remainder -= sigmoid(logit);
            loss += sigmoid(logit) * kl[r];
        }
        for r in 0..stop {
            let gate = sigmoid(logits[r]);
            gradient[r] = gate * (1.0 - gate) * (kl[r] - kl[stop] - ACT_TAU);
        }
        loss + remainder * kl[stop] + ACT_TAU * ((stop + 1) as f32 + remainder)
    }

    /// sum p_n KL_n + beta KL(p || prior).
    fn ponder(&self, logits: &[f32], kl: &[f32], gradient: &mut [f32]) -> f32 {
        let p = survival(logits);
        let expected: f32 = p.iter().zip(kl).map(|(p, kl)| p * kl).sum();
        let slope =
            |n: usize| kl[n] + PONDER_WEIGHT * ((p[n].max(1e-12) / self.prior[n]).ln() + 1.0);
        // Later probabilities shrink as a gate grows: -lambda_n sum over m > n of p_m dL/dp_m.
        let mut later_sum = p[logits.len() - 1] * slope(logits.len() - 1);
        for n in (0..logits.len() - 1).rev() {
            let lambda = sigmoid(logits[n]);
            gradient[n] = p[n] * (1.0 - lambda) * slope(n) - lambda * later_sum;
            later_sum += p[n] * slope(n);
        }
        expected + PONDER_WEIGHT * divergence(&p, &self.prior)
    }
}

/// Binary cross entropy of a logit with a target from 0 to 1.
fn binary_cross_entropy(logit: f32, target: f32) -> f32 {
    logit.max(0.0) - logit * target + (-logit.abs()).exp().ln_1p()
}

/// A gate and its Adam moments. Kingma and Ba 2015.
struct GateOptimizer {
    gate: Gate,
    first: Vec<f32>,
    second: Vec<f32>,
    steps: i32,
}

impl GateOptimizer {
    fn new(gate: Gate) -> Self {
        let count = gate.weight.len() + gate.bias.len() + 1;
        Self { gate, first: vec![0.0; count], second: vec![0.0; count], steps: 0 }
    }

    fn step(&mut self, batch: &[usize], traces: &Traces, loss: &TokenLoss) {
        let (width, repetitions) = (traces.width, traces.repetitions);
        let mut sums = vec![0.0; self.first.len()];
        let mut gradient = vec![0.0; repetitions];
        let share = 1.0 / batch.len() as f32;
        for &token in batch {
            let logits = traces.logits(&self.gate, token);
            let (kl, agree) = (traces.token_kl(token), traces.token_agreement(token));
            loss.evaluate(&logits, kl, agree, &mut gradient);
            for (r, gradient) in gradient.iter().enumerate().filter(|(_, g)| **g != 0.0) {
                let scaled = share * gradient;
                let state = traces.state(token, r);
                for (sum, x) in sums[..width].iter_mut().zip(state) {
                    *sum += scaled * x;
                }
                sums[width] += scaled * log_change(traces.change[token * repetitions + r]);
                sums[width + 1 + r] += scaled;
            }
        }
        self.adam(&sums);
    }

    fn adam(&mut self, gradient: &[f32]) {
        const BETAS: (f32, f32) = (0.9, 0.99);
        self.steps += 1;
        let first_correction = 1.0 - BETAS.0.powi(self.steps);
        let second_correction = 1.0 - BETAS.1.powi(self.steps);
        let gate = &mut self.gate;
        let values = gate.weight.iter_mut().chain([&mut gate.change]).chain(&mut gate.bias);
        let moments = self.first.iter_mut().zip(&mut self.second);
        for ((value, (first, second)), gradient) in values.zip(moments).zip(gradient) {
            *first += (1.0 - BETAS.0) * (gradient - *first);
            *second += (1.0 - BETAS.1) * (gradient * gradient - *second);
            *value -= LEARNING_RATE * (*first / first_correction)
                / ((*second / second_correction).sqrt() + 1e-8);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::traces::examples::easy_and_hard;
    use super::*;

    const FITTED: [PolicyName; 4] =
        [PolicyName::Act, PolicyName::Ponder, PolicyName::ExitGate, PolicyName::Correctness];

    #[test]
    fn every_loss_has_the_gradient_of_its_finite_differences() {
        let traces = easy_and_hard(50, 1);
        let (kl, agree) = ([2.0, 0.7, 0.9, 0.2], [false, false, true, true]);
        for policy in FITTED {
            let loss = TokenLoss::new(policy, &traces);
            let logits = [-1.0, -0.7, -1.4, 0.2];
            let (mut gradient, mut unused) = ([0.0; 4], [0.0; 4]);
            loss.evaluate(&logits, &kl, &agree, &mut gradient);
            assert!(gradient[..3].iter().all(|g| *g != 0.0), "{policy}: {gradient:?}");
            for r in 0..4 {
                let mut loss_at = |offset: f32| {
                    let mut logits = logits;
                    logits[r] += offset;
                    loss.evaluate(&logits, &kl, &agree, &mut unused)
                };
                let slope = (loss_at(1e-2) - loss_at(-1e-2)) / 2e-2;
                assert!((slope - gradient[r]).abs() < 2e-3, "{policy} {r}: {slope} {gradient:?}");
            }
        }
    }

    #[test]
    fn a_fitted_gate_stops_easy_tokens_at_once_and_hard_ones_when_they_are_done() {
        let (traces, unseen) = (easy_and_hard(2000, 1), easy_and_hard(300, 2));
        for (policy, threshold) in FITTED.into_iter().zip([0.99, 0.5, 0.5, 0.5]) {
            let gate = fit_gate(policy, &traces, 0).unwrap().unwrap();
            let rule = policy.with(threshold).unwrap();
            let right = |token: &usize| {
                let expected = if unseen.token_agreement(*token)[0] { 1 } else { 3 };
                rule.stop(&unseen.signals(*token, Some(&gate))) == expected
            };
            let share = (0..300).filter(right).count() as f64 / 300.0;
            assert!(share > 0.95, "{policy}: {share}");
        }
    }

    #[test]
    fn rules_have_no_gate_and_too_little_text_is_refused() {
        assert!(fit_gate(PolicyName::Kl, &easy_and_hard(4, 1), 0).unwrap().is_none());
        assert!(fit_gate(PolicyName::Act, &easy_and_hard(4, 1), 0).is_err());
    }
}
