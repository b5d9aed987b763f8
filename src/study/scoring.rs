//! Scoring of answers on a task, beside those of a teacher.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::sweep::job::Measured;
use crate::context::Context;
use crate::data::{Batch, SupervisedTokens};
use crate::error::{Error, Result};
use crate::eval::{Reading, read};
use crate::model::CausalLm;

/// The share of draws beyond which a bound lies.
const BEYOND: f64 = 0.05;

/// One example: whether it is right, and how it compares with the teacher's answer to it.
#[derive(Debug, Clone, Copy, Default)]
struct Score {
    right: f64,
    teacher_right: f64,
    agreement: f64,
    kl_nats: f64,
    nll_nats: f64,
}

/// What `model` answers on `batches` after each of `repetitions`, beside `teacher` if there is one.
/// Answers have `width` places. Bounds are percentiles of `draws` bootstrap draws of examples
/// (Efron 1979), one-sided 95 %.
///
/// # Errors
/// A batch asks nothing, or the user stopped it.
pub(super) fn measure(
    model: &dyn CausalLm,
    teacher: Option<&dyn CausalLm>,
    batches: &[Batch],
    repetitions: &[usize],
    width: usize,
    draws: usize,
    context: &Context,
) -> Result<Measured> {
    let mut scores: Vec<Vec<Score>> = vec![Vec::new(); repetitions.len()];
    for batch in batches {
        context.check_cancelled("while answers were counted")?;
        let targets = SupervisedTokens::in_targets(&batch.targets)
            .map_or_else(|| batch.targets.clone(), |asked| asked.targets);
        let said = teacher.map(|teacher| read(teacher, batch, &[1])).transpose()?;
        let said = said.as_ref().and_then(|said| said.first());
        for (all, reading) in scores.iter_mut().zip(read(model, batch, repetitions)?) {
            all.extend(examples(&reading, said, &targets, width));
        }
    }
    let first = scores.first().ok_or_else(|| Error::input("no repetitions to measure at"))?;
    let mut found = Measured {
        repetitions: repetitions.to_vec(),
        examples: first.len(),
        teacher_accuracy: teacher.map(|_| mean(first, |score| score.teacher_right)),
        ..Measured::default()
    };
    for scores in &scores {
        found.accuracy.push(mean(scores, |score| score.right));
        found.nll_nats.push(mean(scores, |score| score.nll_nats));
        if teacher.is_some() {
            found.agreement.push(mean(scores, |score| score.agreement));
            found.kl_nats.push(mean(scores, |score| score.kl_nats));
            let bounds = bounds(scores, draws);
            found.behind_high.push(bounds.behind_high);
            found.agreement_low.push(bounds.agreement_low);
            found.kl_high.push(bounds.kl_high);
        }
    }
    Ok(found)
}

/// The examples of one batch.
fn examples(
    reading: &Reading,
    said: Option<&Reading>,
    targets: &[u32],
    width: usize,
) -> Vec<Score> {
    let right = reading.correct(targets, width);
    let teacher_right = said.map(|said| said.correct(targets, width));
    let score = |(example, right): (usize, &bool)| {
        let places = example * width..(example + 1) * width;
        let own = reading.part(places.clone());
        let mut score = Score {
            right: f64::from(u8::from(*right)),
            nll_nats: own.nll(&targets[places.clone()]),
            ..Score::default()
        };
        if let (Some(said), Some(right)) = (said, &teacher_right) {
            (score.agreement, score.kl_nats) = own.beside(&said.part(places));
            score.teacher_right = f64::from(u8::from(right[example]));
        }
        score
    };
    right.iter().enumerate().map(score).collect()
}

fn mean(scores: &[Score], of: impl Fn(&Score) -> f64) -> f64 {
    scores.iter().map(of).sum::<f64>() / scores.len().max(1) as f64
}

struct Bounds {
    behind_high: f64,
    agreement_low: f64,
    kl_high: f64,
}

/// The unfavourable bounds of the differences to the teacher: examples are drawn in pairs, so what
/// is hard for both does not count.
fn bounds(scores: &[Score], draws: usize) -> Bounds {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let (mut behind, mut agreement, mut kl) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..draws.max(1) {
        let mut sums = [0.0; 3];
        for _ in 0..scores.len() {
            let score = &scores[rng.random_range(0..scores.len())];
            sums[0] += score.teacher_right - score.right;
            sums[1] += score.agreement;
            sums[2] += score.kl_nats;
        }
        let count = scores.len().max(1) as f64;
        behind.push(sums[0] / count);
        agreement.push(sums[1] / count);
        kl.push(sums[2] / count);
    }
    Bounds {
        behind_high: quantile(&mut behind, 1.0 - BEYOND),
        agreement_low: quantile(&mut agreement, BEYOND),
        kl_high: quantile(&mut kl, 1.0 - BEYOND),
    }
}

fn quantile(values: &mut [f64], fraction: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let place = (fraction * values.len().saturating_sub(1) as f64).round() as usize;
    values.get(place).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hard_for_both_does_not_widen_the_bound() {
        let score =
            |right: f64, teacher_right: f64| Score { right, teacher_right, ..Score::default() };
        let same: Vec<Score> =
            (0..200).map(|i| score(f64::from(i % 2), f64::from(i % 2))).collect();
        assert!(bounds(&same, 200).behind_high.abs() < 1e-12);
        // One of a hundred is lost: the bound lies above 1 %, the mean at it.
        let behind: Vec<Score> =
            (0..1000).map(|i| score(f64::from(u8::from(i % 100 > 0)), 1.0)).collect();
        let high = bounds(&behind, 500).behind_high;
        // Standard error: sqrt(0.01 * 0.99 / 1000) = 0.00315; 1.645 of it above 0.01.
        assert!((high - 0.0152).abs() < 0.0025, "{high}");
    }
}
