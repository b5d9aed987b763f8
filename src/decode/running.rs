//! How far is each token, and which of them stop?

use super::depth::ReadDepth;
use crate::halting::act::Mean;
use crate::halting::{Mix, Output, Signal};
use crate::kernels::host;

/// The tokens of a pass while they go through the core.
pub(super) struct Running<'a> {
    depth: ReadDepth<'a>,
    width: usize,
    /// After the prelude, (tokens, D).
    pub(super) start: Vec<f32>,
    /// After its last repetition, or what it stopped with, (tokens, D).
    pub(super) state: Vec<f32>,
    /// The last step of each token, (tokens, D); empty while nobody asks.
    step: Vec<f32>,
    signals: Vec<Vec<Signal>>,
    /// What each token said last, before the softmax; empty while nobody asks.
    said: Vec<Vec<f32>>,
    /// Of policies that average states.
    means: Vec<Mean>,
}

impl<'a> Running<'a> {
    pub(super) fn new(
        start: Vec<f32>,
        state: Vec<f32>,
        width: usize,
        depth: ReadDepth<'a>,
    ) -> Self {
        let tokens = if depth.policy.is_some() { start.len() / width } else { 0 };
        let averages = depth.policy.is_some_and(|(policy, _)| policy.mix() == Mix::States);
        let means = if averages { vec![Mean::new(width); tokens] } else { Vec::new() };
        Self {
            depth,
            width,
            step: vec![0.0; tokens * width],
            signals: vec![Vec::new(); tokens],
            said: vec![Vec::new(); tokens],
            start,
            state,
            means,
        }
    }

    /// Takes the states `x` of the `active` tokens after `repetition`, from 1, and what they would
    /// say, (active, V) logits or none. Gives the tokens that stop.
    pub(super) fn after(
        &mut self,
        repetition: usize,
        x: &[f32],
        active: &[usize],
        said: &[f32],
    ) -> Vec<usize> {
        let mut stopped = Vec::new();
        let vocabulary = said.len() / active.len().max(1);
        for (at, &token) in active.iter().enumerate() {
            let new = &x[at * self.width..(at + 1) * self.width];
            let last = repetition == self.depth.most;
            let stops = match self.depth.policy {
                None => false,
                Some((policy, gate)) => {
                    let said = &said[at * vocabulary..(at + 1) * vocabulary];
                    let mut signal = self.signal(token, new, said, repetition);
                    signal.gate = gate.map(|gate| gate.logit(new, signal.change, repetition));
                    self.signals[token].push(signal);
                    policy.stops(&self.signals[token])
                }
            };
            let state = &mut self.state[token * self.width..(token + 1) * self.width];
            state.copy_from_slice(new);
            if stops || last {
                if let Some(mean) = self.means.get(token) {
                    state.copy_from_slice(&mean.stopped(new));
                }
                stopped.push(token);
            } else if let Some(mean) = self.means.get_mut(token) {
                let gate = self.signals[token].last().and_then(|signal| signal.gate);
                mean.goes_on(new, gate.unwrap_or_default());
            }
        }
        stopped
    }

    fn signal(&mut self, token: usize, new: &[f32], said: &[f32], repetition: usize) -> Signal {
        let row = token * self.width..(token + 1) * self.width;
        let (old, step) = (&self.state[row.clone()], &mut self.step[row]);
        let (mut size, mut change, mut bend) = (0.0_f32, 0.0_f32, 0.0_f32);
        for ((new, old), step) in new.iter().zip(old).zip(step) {
            let now = new - old;
            size += new * new;
            change += now * now;
            bend += (now - *step) * (now - *step);
            *step = now;
        }
        let size = size.sqrt().max(1e-12);
        let output = (!said.is_empty()).then(|| {
            let output = output(&self.said[token], said);
            self.said[token] = said.to_vec();
            output
        });
        Signal {
            change: change.sqrt() / size,
            bend: (repetition > 1).then_some(bend.sqrt() / size),
            gate: None,
            output,
        }
    }

    /// The state that each token stopped with, (tokens, D).
    pub(super) fn finish(self) -> Vec<f32> {
        self.state
    }
}

/// What the logits say, beside those of a repetition ago, (V) each; the latter may be empty.
pub(crate) fn output(before: &[f32], now: &[f32]) -> Output {
    host::vectorised(
        #[inline(always)]
        || {
            let highest = host::highest(now);
            let top = now.iter().position(|&logit| logit >= highest).unwrap_or_default();
            let second = host::highest(&now[..top]).max(host::highest(&now[top + 1..]));
            let sum: f32 = host::sum_of(now, |logit| host::exp(logit - highest));
            let gap = (1.0 - (second - highest).exp()) / sum;
            let kl = (!before.is_empty()).then(|| {
                let peak = host::highest(before);
                let total = host::sum_of(before, |logit| host::exp(logit - peak));
                let mut lanes = [0.0_f32; 16];
                for (before, now) in before.chunks(16).zip(now.chunks(16)) {
                    for (lane, (before, now)) in lanes.iter_mut().zip(before.iter().zip(now)) {
                        let shift = (before - peak) - (now - highest);
                        *lane += host::exp(before - peak) * shift;
                    }
                }
                (lanes.iter().sum::<f32>() / total + (sum / total).ln()).max(0.0)
            });
            Output { top: top as u32, gap, kl }
        },
    )
}

/// Some rows of (tokens, D).
pub(super) fn rows(all: &[f32], width: usize, picked: &[usize]) -> Vec<f32> {
    picked.iter().flat_map(|&row| &all[row * width..(row + 1) * width]).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_is_its_softmax() {
        // Probabilities 0.5, 0.3, 0.2 before; 0.2, 0.2, 0.6 now.
        let logits = |p: [f32; 3]| p.map(|p| p.ln() + 3.0);
        let found = output(&logits([0.5, 0.3, 0.2]), &logits([0.2, 0.2, 0.6]));
        let kl = 0.5 * 2.5_f32.ln() + 0.3 * 1.5_f32.ln() + 0.2 * (1.0_f32 / 3.0).ln();
        assert_eq!(found.top, 2);
        assert!((found.gap - 0.4).abs() < 1e-6, "{found:?}");
        assert!((found.kl.unwrap() - kl).abs() < 1e-6, "{found:?} {kl}");
        assert_eq!(output(&[], &logits([0.2, 0.2, 0.6])).kl, None);
    }
}
