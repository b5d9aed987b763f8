//! What should a gate say, when the student stays as it is?
//!
//! The student is frozen: what it would lose by stopping a token after each repetition is a number
//! that was measured, and only the gate learns. It takes seconds.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::exit_gate::goes_on;
use super::gate::{Gate, log_change, sigmoid, survival};
use super::name::PolicyName;
use super::ponder::{PRIOR, divergence, geometric};
use super::traces::Traces;
use super::{act, correctness};
use crate::error::{Error, Result};

/// Weight of PonderNet's cost.
const PONDER_WEIGHT: f32 = 0.01;
/// ACT: nats that a repetition must be worth.
const ACT_TAU: f32 = 0.01;
/// Exit gate: gamma is this share of the mean KL after the first repetition.
const GAMMA_SHARE: f32 = 0.01;

const BATCH: usize = 256;
const STEPS: usize = 2000;
const LEARNING_RATE: f32 = 1e-2;
/// After so many steps the gate is tried on tokens kept aside; the best one is taken.
const STEPS_A_TRIAL: usize = 50;
/// Every so many tokens one is kept aside.
const ASIDE: usize = 5;

/// Fits the gate of `policy` on what `traces` say. None for policies without a gate.
///
/// # Errors
/// The traces hold no states, or too few tokens.
pub fn fit(policy: PolicyName, traces: &Traces, seed: u64) -> Result<Option<Gate>> {
    let start = match policy {
        PolicyName::Act => act::START_LOGIT,
        PolicyName::Correctness => correctness::START_LOGIT,
        PolicyName::Ponder | PolicyName::ExitGate => 0.0,
        _ => return Ok(None),
    };
    let tokens = traces.tokens();
    if traces.states.len() != tokens * traces.repetitions * traces.width || tokens < 2 * ASIDE {
        return Err(Error::input(format!("{tokens} tokens are too few to fit a gate on"))
            .hint("give more text, or a larger --max-tokens"));
    }
    let loss = TokenLoss::new(policy, traces);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (aside, mut learned): (Vec<usize>, Vec<usize>) =
        (0..tokens).partition(|token| token % ASIDE == ASIDE - 1);
    let mut model = Fitted::new(Gate::new(traces.width, traces.repetitions, start));
    let (mut best, mut lowest) = (model.gate.clone(), f64::INFINITY);
    let mut at = learned.len();
    for step in 1..=STEPS {
        if at >= learned.len() {
            learned.shuffle(&mut rng);
            at = 0;
        }
        let batch = &learned[at..(at + BATCH).min(learned.len())];
        at += BATCH;
        model.step(batch, traces, &loss);
        if step % STEPS_A_TRIAL != 0 {
            continue;
        }
        let found = mean_loss(&model.gate, &aside, traces, &loss);
        if found < lowest {
            (best, lowest) = (model.gate.clone(), found);
        }
    }
    Ok(Some(best))
}

fn mean_loss(gate: &Gate, tokens: &[usize], traces: &Traces, loss: &TokenLoss) -> f64 {
    let mut gradient = vec![0.0; traces.repetitions];
    let each = tokens.iter().map(|&token| {
        let logits = traces.logits(gate, token);
        f64::from(loss.of(&logits, traces.kl_of(token), traces.agree_of(token), &mut gradient))
    });
    each.sum::<f64>() / tokens.len() as f64
}

/// What a token loses by the gates' say, and how that changes with each gate.
struct TokenLoss {
    policy: PolicyName,
    gamma: f32,
    prior: Vec<f32>,
}

impl TokenLoss {
    fn new(policy: PolicyName, traces: &Traces) -> Self {
        let first: f32 = (0..traces.tokens()).map(|token| traces.kl_of(token)[0]).sum();
        let gamma = (GAMMA_SHARE * first / traces.tokens().max(1) as f32).max(1e-6);
        Self { policy, gamma, prior: geometric(PRIOR, traces.repetitions) }
    }

    /// `kl` and `agree` are what stopping after each repetition gives, (N); the gradient of
    /// `logits`, (N), is written to `gradient`.
    fn of(&self, logits: &[f32], kl: &[f32], agree: &[bool], gradient: &mut [f32]) -> f32 {
        gradient.fill(0.0);
        let last = logits.len() - 1;
        match self.policy {
            PolicyName::Correctness => {
                let share = 1.0 / logits.len() as f32;
                let mut sum = 0.0;
                for ((gradient, &logit), &right) in gradient.iter_mut().zip(logits).zip(agree) {
                    sum += share * binary(logit, f32::from(right));
                    *gradient = share * (sigmoid(logit) - f32::from(right));
                }
                sum
            }
            PolicyName::ExitGate => {
                let share = 1.0 / last.max(1) as f32;
                let mut sum = 0.0;
                for r in 0..last {
                    let stops = 1.0 - goes_on(kl[r] - kl[r + 1], self.gamma);
                    sum += share * binary(logits[r], stops);
                    gradient[r] = share * (sigmoid(logits[r]) - stops);
                }
                sum
            }
            PolicyName::Act => Self::act(logits, kl, gradient),
            _ => self.ponder(logits, kl, gradient),
        }
    }

    /// sum p_n KL_n + tau (N + R), p cut where the gates are spent.
    fn act(logits: &[f32], kl: &[f32], gradient: &mut [f32]) -> f32 {
        let (mut stop, mut spent, mut left, mut loss) = (logits.len() - 1, 0.0, 1.0, 0.0);
        for (r, &logit) in logits[..logits.len() - 1].iter().enumerate() {
            spent += sigmoid(logit);
            if spent >= act::SPENT {
                stop = r;
                break;
            }
            left -= sigmoid(logit);
            loss += sigmoid(logit) * kl[r];
        }
        for r in 0..stop {
            let gate = sigmoid(logits[r]);
            gradient[r] = gate * (1.0 - gate) * (kl[r] - kl[stop] - ACT_TAU);
        }
        loss + left * kl[stop] + ACT_TAU * ((stop + 1) as f32 + left)
    }

    /// sum p_n KL_n + beta KL(p || prior).
    fn ponder(&self, logits: &[f32], kl: &[f32], gradient: &mut [f32]) -> f32 {
        let p = survival(logits);
        let expected: f32 = p.iter().zip(kl).map(|(p, kl)| p * kl).sum();
        let slope =
            |n: usize| kl[n] + PONDER_WEIGHT * ((p[n].max(1e-12) / self.prior[n]).ln() + 1.0);
        // What lies past a gate falls with it: -lambda_n sum over m > n of p_m dL/dp_m.
        let mut later = p[logits.len() - 1] * slope(logits.len() - 1);
        for n in (0..logits.len() - 1).rev() {
            let gate = sigmoid(logits[n]);
            gradient[n] = p[n] * (1.0 - gate) * slope(n) - gate * later;
            later += p[n] * slope(n);
        }
        expected + PONDER_WEIGHT * divergence(&p, &self.prior)
    }
}

/// Binary cross entropy of a logit with a target from 0 to 1.
fn binary(logit: f32, target: f32) -> f32 {
    logit.max(0.0) - logit * target + (-logit.abs()).exp().ln_1p()
}

/// A gate and what Adam remembers of it. Kingma & Ba 2015.
struct Fitted {
    gate: Gate,
    first: Vec<f32>,
    second: Vec<f32>,
    steps: i32,
}

impl Fitted {
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
            loss.of(&logits, traces.kl_of(token), traces.agree_of(token), &mut gradient);
            for (r, gradient) in gradient.iter().enumerate().filter(|(_, g)| **g != 0.0) {
                let by = share * gradient;
                let state = traces.state(token, r);
                for (sum, x) in sums[..width].iter_mut().zip(state) {
                    *sum += by * x;
                }
                sums[width] += by * log_change(traces.change[token * repetitions + r]);
                sums[width + 1 + r] += by;
            }
        }
        self.adam(&sums);
    }

    fn adam(&mut self, gradient: &[f32]) {
        const BETAS: (f32, f32) = (0.9, 0.99);
        self.steps += 1;
        let (one, two) = (1.0 - BETAS.0.powi(self.steps), 1.0 - BETAS.1.powi(self.steps));
        let gate = &mut self.gate;
        let values = gate.weight.iter_mut().chain([&mut gate.change]).chain(&mut gate.bias);
        let moments = self.first.iter_mut().zip(&mut self.second);
        for ((value, (first, second)), gradient) in values.zip(moments).zip(gradient) {
            *first += (1.0 - BETAS.0) * (gradient - *first);
            *second += (1.0 - BETAS.1) * (gradient * gradient - *second);
            *value -= LEARNING_RATE * (*first / one) / ((*second / two).sqrt() + 1e-8);
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
            loss.of(&logits, &kl, &agree, &mut gradient);
            assert!(gradient[..3].iter().all(|g| *g != 0.0), "{policy}: {gradient:?}");
            for r in 0..4 {
                let mut moved = |by: f32| {
                    let mut logits = logits;
                    logits[r] += by;
                    loss.of(&logits, &kl, &agree, &mut unused)
                };
                let slope = (moved(1e-2) - moved(-1e-2)) / 2e-2;
                assert!((slope - gradient[r]).abs() < 2e-3, "{policy} {r}: {slope} {gradient:?}");
            }
        }
    }

    #[test]
    fn a_fitted_gate_stops_easy_tokens_at_once_and_hard_ones_when_they_are_done() {
        let (traces, unseen) = (easy_and_hard(2000, 1), easy_and_hard(300, 2));
        for (policy, threshold) in FITTED.into_iter().zip([0.99, 0.5, 0.5, 0.5]) {
            let gate = fit(policy, &traces, 0).unwrap().unwrap();
            let rule = policy.with(threshold).unwrap();
            let right = |token: &usize| {
                let expected = if unseen.agree_of(*token)[0] { 1 } else { 3 };
                rule.stop(&unseen.signals(*token, Some(&gate))) == expected
            };
            let share = (0..300).filter(right).count() as f64 / 300.0;
            assert!(share > 0.95, "{policy}: {share}");
        }
    }

    #[test]
    fn rules_have_no_gate_and_too_little_text_is_refused() {
        assert!(fit(PolicyName::Kl, &easy_and_hard(4, 1), 0).unwrap().is_none());
        assert!(fit(PolicyName::Act, &easy_and_hard(4, 1), 0).is_err());
    }
}
