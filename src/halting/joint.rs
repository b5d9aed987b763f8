//! The loss of a halting gate that is trained jointly with its student.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::gate::{sigmoid, survival};
use super::name::PolicyName;

/// The policies whose gate can be trained jointly with the student.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum JointPolicy {
    /// `PonderNet`: sum p_n L_n + beta KL(p || geometric prior). Banino et al. 2021.
    Ponder,
    /// The first stage of Ouro: sum p_n L_n - beta H(p), a uniform prior but for a constant.
    /// Zhu et al. 2025.
    ExitGate,
    /// Adaptive computation time: the loss of the mean of the states, each weighted by its gate and
    /// the last by the remainder, and repetitions plus remainder as the cost. Graves 2016.
    Act,
}

impl JointPolicy {
    /// The policy that stops by the gate.
    #[must_use]
    pub fn policy(self) -> PolicyName {
        match self {
            Self::Ponder => PolicyName::Ponder,
            Self::ExitGate => PolicyName::ExitGate,
            Self::Act => PolicyName::Act,
        }
    }

    /// Initial biases b of the gates after the repetitions 1 to N - 1. Ponder and exit gate: uniform
    /// over the N repetitions, sigmoid(b_n) = 1 / (N - n + 1). ACT: tokens reach the last
    /// repetition, which has four fifths of the mean, sigmoid(b_n) = 1 / (5 (N - 1)).
    #[must_use]
    pub fn start(self, repetitions: usize) -> Vec<f32> {
        let logit = |n: usize| match self {
            Self::Ponder | Self::ExitGate => -((repetitions - n) as f32).ln(),
            Self::Act => -(5.0 * (repetitions - 1) as f32 - 1.0).ln(),
        };
        (1..repetitions).map(logit).collect()
    }
}

/// Expectations of a token under its halting distribution p.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Expected {
    /// sum p_n L_n.
    pub loss: f32,
    /// sum p_n ln(p_n / q_n): KL to the prior q, or the negative entropy where q is 1 everywhere.
    pub cost: f32,
    /// sum n p_n.
    pub repetitions: f32,
}

/// Expected loss and cost of a token with the gate logits `logits`, (N), the last of which is not
/// used, and the losses `losses`, (N), when it stops after each repetition; `prior` is q, (N). The
/// gradient of loss + `beta` cost with respect to the logits is written to `gradient`, (N).
pub fn expected(
    logits: &[f32],
    losses: &[f32],
    prior: &[f32],
    beta: f32,
    gradient: &mut [f32],
) -> Expected {
    gradient.fill(0.0);
    // p_n = l_n * prod_{m<n}(1 - l_m); Banino et al. 2021
    let p = survival(logits);
    let last = logits.len() - 1;
    // Lower than any probability that a sum of f32 notices: its logarithm stays finite.
    let log_ratio = |n: usize| (p[n].max(1e-30) / prior[n]).ln();
    let slope = |n: usize| losses[n] + beta * (log_ratio(n) + 1.0);
    // Later probabilities shrink as a gate grows: -lambda_n sum over m > n of p_m dL/dp_m.
    let mut later_sum = p[last] * slope(last);
    for n in (0..last).rev() {
        let lambda = sigmoid(logits[n]);
        gradient[n] = p[n] * (1.0 - lambda) * slope(n) - lambda * later_sum;
        later_sum += p[n] * slope(n);
    }
    Expected {
        loss: p.iter().zip(losses).map(|(p, loss)| p * loss).sum(),
        cost: (0..=last).map(|n| p[n] * log_ratio(n)).sum(),
        repetitions: p.iter().zip(1..).map(|(p, n)| p * n as f32).sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::ponder::geometric;
    use super::*;

    #[test]
    fn the_gradient_is_that_of_finite_differences() {
        let (logits, losses) = ([-1.0, 0.4, -1.6, 0.2], [2.0, 0.7, 0.9, 0.2]);
        for (prior, beta) in [(geometric(0.3, 4), 0.5), (vec![1.0; 4], 0.3), (vec![1.0; 4], 0.0)] {
            let (mut gradient, mut unused) = ([9.0; 4], [0.0; 4]);
            expected(&logits, &losses, &prior, beta, &mut gradient);
            assert!(gradient[3].abs() < f32::EPSILON, "the last gate is not used");
            for n in 0..4 {
                let mut loss_at = |offset: f32| {
                    let mut logits = logits;
                    logits[n] += offset;
                    let expected = expected(&logits, &losses, &prior, beta, &mut unused);
                    expected.loss + beta * expected.cost
                };
                let slope = (loss_at(1e-2) - loss_at(-1e-2)) / 2e-2;
                assert!((slope - gradient[n]).abs() < 2e-3, "{n}: {slope} {gradient:?}");
            }
        }
    }

    #[test]
    fn expectations_are_sums_over_the_repetition_at_which_a_token_stops() {
        // Stops with 1/4, 3/8, 3/8.
        let logits = [(1.0_f32 / 3.0).ln(), 0.0, 7.0];
        let token = expected(&logits, &[4.0, 2.0, 1.0], &[1.0; 3], 0.1, &mut [0.0; 3]);
        assert!((token.loss - (1.0 + 0.75 + 0.375)).abs() < 1e-6, "{token:?}");
        assert!((token.repetitions - (0.25 + 0.75 + 1.125)).abs() < 1e-6, "{token:?}");
        let entropy = -(0.25 * 0.25_f32.ln() + 0.75 * 0.375_f32.ln());
        assert!((token.cost + entropy).abs() < 1e-6, "{token:?}");
        // The divergence from p itself is 0.
        let prior = [0.25, 0.375, 0.375];
        assert!(expected(&logits, &[0.0; 3], &prior, 1.0, &mut [0.0; 3]).cost.abs() < 1e-6);
    }

    #[test]
    fn it_starts_as_a_uniform_distribution() {
        for repetitions in [2, 3, 7] {
            let mut logits = JointPolicy::Ponder.start(repetitions);
            assert_eq!(logits.len(), repetitions - 1);
            logits.push(0.0);
            for p in survival(&logits) {
                assert!((p * repetitions as f32 - 1.0).abs() < 1e-5, "{p}");
            }
        }
    }

    #[test]
    fn act_starts_deep() {
        for repetitions in [2, 5, 30] {
            let mut gates: Vec<f32> =
                JointPolicy::Act.start(repetitions).into_iter().map(sigmoid).collect();
            gates.push(1.0 - gates.iter().sum::<f32>());
            assert!((gates[repetitions - 1] - 0.8).abs() < 1e-5, "{gates:?}");
            let mean: f32 = gates.iter().zip(1..).map(|(p, n)| p * n as f32).sum();
            assert!(mean >= 0.89 * repetitions as f32, "{mean} of {repetitions}");
        }
    }

    #[test]
    fn saturated_gates_leave_every_value_finite() {
        for logit in [-200.0, 200.0] {
            let mut gradient = [0.0; 3];
            let token = expected(&[logit; 3], &[3.0, 2.0, 1.0], &[1.0; 3], 0.1, &mut gradient);
            assert!(token.loss.is_finite() && token.cost.is_finite(), "{token:?}");
            assert!(gradient.iter().all(|x| x.is_finite()), "{gradient:?}");
        }
    }
}
