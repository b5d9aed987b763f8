//! States and halting signals of the tokens of a pass while the core is repeated.

use super::depth::ReadDepth;
use crate::halting::{ActMean, Mix, Output, Signal};
use crate::kernels::host;

/// States and halting signals of the tokens of a pass while the core is repeated.
pub(super) struct TokenStates<'a> {
    depth: ReadDepth<'a>,
    width: usize,
    /// States after the prelude, (tokens, D).
    pub(super) prelude_states: Vec<f32>,
    /// States after the last repetition, or those that tokens stopped with, (tokens, D).
    pub(super) states: Vec<f32>,
    /// The last change of each state, (tokens, D); empty without a policy.
    step: Vec<f32>,
    signals: Vec<Vec<Signal>>,
    /// The last logits of each token, (V); empty unless the policy reads outputs.
    logits: Vec<Vec<f32>>,
    /// Running means of the states, for policies that average them.
    means: Vec<ActMean>,
}

impl<'a> TokenStates<'a> {
    pub(super) fn new(
        prelude_states: Vec<f32>,
        states: Vec<f32>,
        width: usize,
        depth: ReadDepth<'a>,
    ) -> Self {
        let tokens = if depth.policy.is_some() { prelude_states.len() / width } else { 0 };
        let averages = depth.policy.is_some_and(|(policy, _)| policy.mix() == Mix::States);
        let means = if averages { vec![ActMean::new(width); tokens] } else { Vec::new() };
        Self {
            depth,
            width,
            step: vec![0.0; tokens * width],
            signals: vec![Vec::new(); tokens],
            logits: vec![Vec::new(); tokens],
            prelude_states,
            states,
            means,
        }
    }

    /// Takes the states `x` of the `active` tokens after `repetition`, counted from 1, and their
    /// logits, (active, V), which are empty unless the policy reads outputs. Returns the tokens that
    /// stop.
    pub(super) fn advance(
        &mut self,
        repetition: usize,
        x: &[f32],
        active: &[usize],
        logits: &[f32],
    ) -> Vec<usize> {
        let mut stopped = Vec::new();
        let vocabulary = logits.len() / active.len().max(1);
        for (row, &token) in active.iter().enumerate() {
            let new = &x[row * self.width..(row + 1) * self.width];
            let is_last = repetition == self.depth.most;
            let stops = match self.depth.policy {
                None => false,
                Some((policy, gate)) => {
                    let logits = &logits[row * vocabulary..(row + 1) * vocabulary];
                    let mut signal = self.signal(token, new, logits, repetition);
                    signal.gate = gate.map(|gate| gate.logit(new, signal.change, repetition));
                    self.signals[token].push(signal);
                    policy.stops(&self.signals[token])
                }
            };
            let state = &mut self.states[token * self.width..(token + 1) * self.width];
            state.copy_from_slice(new);
            if stops || is_last {
                if let Some(mean) = self.means.get(token) {
                    state.copy_from_slice(&mean.stop_with(new));
                }
                stopped.push(token);
            } else if let Some(mean) = self.means.get_mut(token) {
                let gate = self.signals[token].last().and_then(|signal| signal.gate);
                mean.add(new, gate.unwrap_or_default());
            }
        }
        stopped
    }

    fn signal(&mut self, token: usize, new: &[f32], logits: &[f32], repetition: usize) -> Signal {
        let row = token * self.width..(token + 1) * self.width;
        let (old, step) = (&self.states[row.clone()], &mut self.step[row]);
        let (mut size, mut change, mut second_difference) = (0.0_f32, 0.0_f32, 0.0_f32);
        for ((new, old), step) in new.iter().zip(old).zip(step) {
            let now = new - old;
            size += new * new;
            change += now * now;
            second_difference += (now - *step) * (now - *step);
            *step = now;
        }
        let size = size.sqrt().max(1e-12);
        let output = (!logits.is_empty()).then(|| {
            let output = output_signal(&self.logits[token], logits);
            self.logits[token] = logits.to_vec();
            output
        });
        Signal {
            change: change.sqrt() / size,
            second_difference: (repetition > 1).then_some(second_difference.sqrt() / size),
            gate: None,
            output,
        }
    }

    /// The states that the tokens stopped with, (tokens, D).
    pub(super) fn into_states(self) -> Vec<f32> {
        self.states
    }
}

/// The halting signal of logits, compared with those of the previous repetition, (V) each; `before`
/// may be empty.
pub(crate) fn output_signal(before: &[f32], now: &[f32]) -> Output {
    host::vectorised(
        #[inline(always)]
        || {
            let max = host::max(now);
            let top = now.iter().position(|&logit| logit >= max).unwrap_or_default();
            let second = host::max(&now[..top]).max(host::max(&now[top + 1..]));
            let sum: f32 = host::sum_of(now, |logit| host::exp(logit - max));
            let gap = (1.0 - (second - max).exp()) / sum;
            let kl = (!before.is_empty()).then(|| {
                let max_before = host::max(before);
                let total = host::sum_of(before, |logit| host::exp(logit - max_before));
                let mut lanes = [0.0_f32; 16];
                for (before, now) in before.chunks(16).zip(now.chunks(16)) {
                    for (lane, (before, now)) in lanes.iter_mut().zip(before.iter().zip(now)) {
                        let log_ratio = (before - max_before) - (now - max);
                        *lane += host::exp(before - max_before) * log_ratio;
                    }
                }
                (lanes.iter().sum::<f32>() / total + (sum / total).ln()).max(0.0)
            });
            Output { top: top as u32, gap, kl }
        },
    )
}

/// The rows of (tokens, D) at `indices`.
pub(super) fn rows(all: &[f32], width: usize, indices: &[usize]) -> Vec<f32> {
    indices.iter().flat_map(|&row| &all[row * width..(row + 1) * width]).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_signal_is_that_of_the_softmax() {
        // Probabilities 0.5, 0.3, 0.2 before, and 0.2, 0.2, 0.6 now.
        let logits = |p: [f32; 3]| p.map(|p| p.ln() + 3.0);
        let signal = output_signal(&logits([0.5, 0.3, 0.2]), &logits([0.2, 0.2, 0.6]));
        let kl = 0.5 * 2.5_f32.ln() + 0.3 * 1.5_f32.ln() + 0.2 * (1.0_f32 / 3.0).ln();
        assert_eq!(signal.top, 2);
        assert!((signal.gap - 0.4).abs() < 1e-6, "{signal:?}");
        assert!((signal.kl.unwrap() - kl).abs() < 1e-6, "{signal:?} {kl}");
        assert_eq!(output_signal(&[], &logits([0.2, 0.2, 0.6])).kl, None);
    }
}
