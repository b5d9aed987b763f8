//! What is a step expected to lose, over where its gate stops each token?

use candle_core::Tensor;

use super::hidden_loss::Step;
use super::output_loss::Outputs;
use crate::autograd::{Tape, Value};
use crate::data::SupervisedTokens;
use crate::distill::halting::{HaltingConfig, Trains};
use crate::error::{Error, Result};
use crate::halting::gate::survival;
use crate::halting::joint::expected;
use crate::halting::{JointPolicy, act};
use crate::model::LoopedTransformer;
use crate::nn::{gather, weighted_mean};

/// What the gate says of the tokens that are asked.
struct Gates {
    /// After each repetition, (tokens, 1) or (B, T, 1).
    values: Vec<Value>,
    /// The same by token, (tokens, N).
    logits: Vec<Vec<f32>>,
}

impl Outputs<'_> {
    /// Reads out the states `ends` after each repetition, by how likely a token is to stop there:
    /// the loss that is expected, what the gate's policy costs, and the last repetition's own loss.
    pub(crate) fn halted(
        &self,
        step: &mut Step,
        ends: &[Value],
        halting: &HaltingConfig,
    ) -> Result<()> {
        if halting.policy == JointPolicy::Act {
            return self.averaged(step, ends, halting);
        }
        let asked = SupervisedTokens::in_targets(&self.batch.targets).map(|asked| asked.places);
        let gates = self.gates(&step.tape, ends, halting.trains, asked.as_deref())?;
        let stops: Vec<Vec<f32>> = gates.logits.iter().map(|logits| survival(logits)).collect();
        let (off, said) = (Tape::off(), self.teacher.output()?);
        let ce = self.loss.cross_entropy.at(self.progress);
        let (weight, last) = (halting.weight.at(self.progress) as f32, ends.len() - 1);
        let mut losses: Vec<Vec<f32>> = Vec::with_capacity(ends.len());
        for (n, end) in ends.iter().enumerate() {
            let own = if n == last { 1.0 } else { 0.0 };
            let (tape, weight) = match halting.trains {
                Trains::Both => (&step.tape, weight),
                Trains::Gate if n == last => (&step.tape, 0.0),
                Trains::Gate => (&off, 0.0),
            };
            let of_tokens: Vec<f32> = stops.iter().map(|p| own + weight * p[n]).collect();
            let found = self.read(tape, end, said, ce, (1.0, Some(&of_tokens)))?;
            losses.push(self.losses_of(&found, ce));
            if n == last {
                step.total += self.loss_of(&found, ce);
                Self::note_last(step, &found);
            }
        }
        self.learn_to_stop(step, &gates, &losses, halting)
    }

    /// Adds the loss that is expected and what the policy costs, with their gradient for the gate.
    /// `losses` are those of every token at each repetition.
    fn learn_to_stop(
        &self,
        step: &mut Step,
        gates: &Gates,
        losses: &[Vec<f32>],
        halting: &HaltingConfig,
    ) -> Result<()> {
        let (repetitions, tokens) = (losses.len(), gates.logits.len());
        let (weight, beta) = (halting.weight.at(self.progress), halting.beta());
        let prior = halting.prior(repetitions);
        let mut back = vec![vec![0.0; tokens]; repetitions];
        let (mut gradient, share) = (vec![0.0; repetitions], weight as f32 / tokens as f32);
        let (mut loss, mut cost, mut stopped) = (0.0, 0.0, 0.0);
        for (token, logits) in gates.logits.iter().enumerate() {
            let lost: Vec<f32> = losses.iter().map(|all| all[token]).collect();
            let found = expected(logits, &lost, &prior, beta as f32, &mut gradient);
            loss += f64::from(found.loss) / tokens as f64;
            cost += f64::from(found.cost) / tokens as f64;
            stopped += f64::from(found.repetitions) / tokens as f64;
            for (back, gradient) in back.iter_mut().zip(&gradient) {
                back[token] = share * gradient;
            }
        }
        for (gate, back) in gates.values.iter().zip(back) {
            let like = gate.tensor();
            step.tape.push_loss(gate, Tensor::from_vec(back, like.shape(), like.device())?);
        }
        step.total += weight * (loss + beta * cost);
        let terms = [("halting", loss), ("halting_cost", cost), ("halting_repetitions", stopped)];
        step.terms.extend(terms.map(|(name, value)| (name.to_owned(), value)));
        Ok(())
    }

    /// ACT: the last repetition's own loss, and what the mean of the states says of every token.
    fn averaged(&self, step: &mut Step, ends: &[Value], halting: &HaltingConfig) -> Result<()> {
        self.last(step, &ends[ends.len() - 1])?;
        let gates = self.gates(&step.tape, ends, halting.trains, None)?;
        let stops: Vec<usize> =
            gates.logits.iter().map(|logits| act::stop(logits, act::SPENT)).collect();
        let (mean, left) = weighted_mean(&step.tape, ends, &gates.values, &stops)?;
        let (weight, beta) = (halting.weight.at(self.progress), halting.beta());
        let ce = self.loss.cross_entropy.at(self.progress);
        let found = self.read(&step.tape, &mean, self.teacher.output()?, ce, (weight, None))?;
        let tokens = stops.len() as f64;
        // The repetitions themselves have no gradient. Graves 2016.
        let share = (weight * beta / tokens) as f32;
        step.tape.push_loss(&left, left.tensor().ones_like()?.affine(f64::from(share), 0.0)?);
        let left = f64::from(left.tensor().sum_all()?.to_scalar::<f32>()?) / tokens;
        let taken = stops.iter().sum::<usize>() as f64 / tokens;
        let loss = self.loss_of(&found, ce);
        step.total += weight * (loss + beta * (taken + left));
        let terms =
            [("halting", loss), ("halting_cost", taken + left), ("halting_repetitions", taken)];
        step.terms.extend(terms.map(|(name, value)| (name.to_owned(), value)));
        Ok(())
    }

    /// What the gate says of the tokens at `places`, of all where there are none.
    fn gates(
        &self,
        tape: &Tape,
        ends: &[Value],
        trains: Trains,
        places: Option<&[usize]>,
    ) -> Result<Gates> {
        let gate = |(n, end): (usize, &Value)| {
            let heard = match trains {
                Trains::Both => end.clone(),
                Trains::Gate => end.detached(),
            };
            let heard = match places {
                Some(places) => gather(tape, &heard, places)?,
                None => heard,
            };
            said_of(self.student, tape, &heard, n)
        };
        let values: Vec<Value> = ends.iter().enumerate().map(gate).collect::<Result<_>>()?;
        let numbers = |value: &Value| Ok(value.tensor().flatten_all()?.to_vec1::<f32>()?);
        let by_repetition: Vec<Vec<f32>> = values.iter().map(numbers).collect::<Result<_>>()?;
        let tokens = by_repetition.first().map_or(0, Vec::len);
        let of_token = |token: usize| by_repetition.iter().map(|all| all[token]).collect();
        Ok(Gates { values, logits: (0..tokens).map(of_token).collect() })
    }
}

fn said_of(student: &LoopedTransformer, tape: &Tape, state: &Value, n: usize) -> Result<Value> {
    let said = student.halting_logits(tape, state, n)?;
    said.ok_or_else(|| Error::internal("this student has no gate"))
}
