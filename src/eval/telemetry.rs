//! Motion of the state from one repetition to the next: its size, its step, its Jacobian.

use candle_core::{D, DType, Tensor};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::autograd::{Tape, Value};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::model::{CausalLm, LoopedTransformer};

/// Half the step of a central difference, relative to the norm of the state: f32 keeps three digits
/// of it.
const DIFFERENCE: f64 = 1e-3;

/// The size of a state h after a repetition, and of the step from the state h' before it; means over
/// tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Motion {
    /// Root mean square of h.
    pub rms: f64,
    /// |h - h'| / |h|: falls towards 0 where the repetitions converge.
    pub step_ratio: f64,
}

impl Motion {
    /// The motion between the states before and after a repetition, each (B, T, D).
    ///
    /// # Errors
    /// The shapes differ.
    pub fn between(before: &Tensor, after: &Tensor) -> Result<Self> {
        let (before, after) = (before.to_dtype(DType::F32)?, after.to_dtype(DType::F32)?);
        let squares = |x: &Tensor| Ok::<_, Error>(x.sqr()?.mean_keepdim(D::Minus1)?);
        let rms = squares(&after)?.sqrt()?;
        let step = (squares(&(&after - &before)?)?.sqrt()? / rms.maximum(f32::MIN_POSITIVE)?)?;
        let mean = |x: Tensor| Ok::<_, Error>(f64::from(x.mean_all()?.to_scalar::<f32>()?));
        Ok(Self { rms: mean(rms)?, step_ratio: mean(step)? })
    }
}

/// The largest singular value of the Jacobian J of `map` at `state`: the largest factor by which a
/// small change of the whole state can grow.
///
/// It is estimated by `rounds` rounds of power iteration on J^T J from a random vector of `seed`,
/// where J v is a central difference and J^T u a backward pass. The estimate is a lower bound: the
/// closer the second singular value, the more rounds it takes.
///
/// # Errors
/// `map` fails, or its output does not depend on the state.
pub fn jacobian_norm(
    map: impl Fn(&Tape, &Value) -> Result<Value>,
    state: &Tensor,
    rounds: usize,
    seed: u64,
) -> Result<f64> {
    let half = DIFFERENCE * length(state)?.max(1e-6);
    let shifted = |direction: &Tensor, length: f64| {
        let moved = Value::constant((state + (direction * length)?)?);
        Ok::<_, Error>(map(&Tape::off(), &moved)?.tensor().clone())
    };
    let rng = ChaCha8Rng::seed_from_u64(seed);
    let values: Vec<f32> = StandardNormal.sample_iter(rng).take(state.elem_count()).collect();
    let start = Tensor::from_vec(values, state.shape(), state.device())?;
    let mut direction = (&start / length(&start)?)?.to_dtype(state.dtype())?;
    let mut norm = 0.0;
    for _ in 0..rounds.max(1) {
        let change = ((shifted(&direction, half)? - shifted(&direction, -half)?)? / (2.0 * half))?;
        norm = length(&change)?;
        let tape = Tape::recording();
        let leaf = tape.leaf(state.clone());
        let output = map(&tape, &leaf)?;
        let (_, back) = tape.backward_to(&[(&output, change)], &[&leaf])?;
        let back = back.into_iter().next().flatten();
        let back =
            back.ok_or_else(|| Error::internal("a map whose output does not depend on its state"))?;
        let longer = length(&back)?;
        if !(longer.is_finite() && longer > 0.0) {
            break;
        }
        direction = (back.reshape(state.shape())? / longer)?;
    }
    Ok(norm)
}

fn length(x: &Tensor) -> Result<f64> {
    Ok(f64::from(x.to_dtype(DType::F32)?.sqr()?.sum_all()?.to_scalar::<f32>()?).sqrt())
}

/// [`jacobian_norm`] of `repetition`, counted from 0, injection included, at the state of `student`
/// after the repetitions before it; `ids` (B, T). Below 1 the repetition is contractive.
///
/// # Errors
/// An id is past the vocabulary, or the device fails.
pub fn repetition_norm(
    student: &LoopedTransformer,
    ids: &Tensor,
    repetition: usize,
    rounds: usize,
    seed: u64,
) -> Result<f64> {
    let norms = repetition_norms(student, ids, &[repetition + 1], rounds, seed, &Context::cpu())?;
    norms.first().copied().ok_or_else(|| Error::internal("a repetition was not reached"))
}

/// [`repetition_norm`] of every one of `repetitions`, which are counted from 1 and rise, in one
/// forward pass; `context` is polled for cancellation before each.
///
/// # Errors
/// As [`repetition_norm`], or the user stopped it.
pub fn repetition_norms(
    student: &LoopedTransformer,
    ids: &Tensor,
    repetitions: &[usize],
    rounds: usize,
    seed: u64,
    context: &Context,
) -> Result<Vec<f64>> {
    let table = student.embedding_and_head().rope(0, ids.dim(1)?);
    let end = |mut states: Vec<Value>| {
        states.pop().ok_or_else(|| Error::internal("a part of the student has no layers"))
    };
    let first = end(student.prelude(&Tape::off(), ids, &table)?)?;
    let repeat = |tape: &Tape, state: &Value, repetition: usize| {
        let state = student.inject(tape, state, &first, repetition)?;
        end(student.repeat(tape, &state, repetition, &table)?)
    };
    let (mut state, mut norms) = (first.clone(), Vec::with_capacity(repetitions.len()));
    for repetition in 0..repetitions.last().copied().unwrap_or(0) {
        context.check_cancelled("while evaluating")?;
        if repetitions.contains(&(repetition + 1)) {
            let map = |tape: &Tape, state: &Value| repeat(tape, state, repetition);
            norms.push(jacobian_norm(map, state.tensor(), rounds, seed)?);
        }
        state = repeat(&Tape::off(), &state, repetition)?;
    }
    Ok(norms)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::autograd::Weight;
    use crate::nn::{Linear, add};

    fn linear(rows: [[f32; 2]; 2]) -> Linear {
        let weight = Weight::frozen(Tensor::new(&rows, &Device::Cpu).unwrap());
        Linear { weight, bias: None, low_rank: None }
    }

    fn state() -> Tensor {
        Tensor::new(&[[[0.3_f32, -0.7], [1.1, 0.2], [0.0, 0.4]]], &Device::Cpu).unwrap()
    }

    #[test]
    fn the_norm_of_a_linear_map_is_its_largest_singular_value() {
        // A turn by 30 degrees after a stretch by 3 and 0.5; and a shear, whose largest singular
        // value is the golden ratio though both of its eigenvalues are 1.
        let (sin, cos) = (0.5_f32, 0.75_f32.sqrt());
        let turned = linear([[3.0 * cos, -0.5 * sin], [3.0 * sin, 0.5 * cos]]);
        let shear = linear([[1.0, 1.0], [0.0, 1.0]]);
        for (map, expected) in [(&turned, 3.0), (&shear, f64::midpoint(1.0, 5.0_f64.sqrt()))] {
            let norm = jacobian_norm(|tape, x| map.forward(tape, x), &state(), 20, 7).unwrap();
            // Central differences of a linear map: rounding alone.
            assert!((norm - expected).abs() < 1e-3 * expected, "{norm} {expected}");
        }
        // What is linear in the state counts; a constant does not.
        let shifted = |tape: &Tape, x: &Value| {
            add(tape, &turned.forward(tape, x)?, &Value::constant((state() * 9.0)?))
        };
        let norm = jacobian_norm(shifted, &state(), 20, 7).unwrap();
        assert!((norm - 3.0).abs() < 3e-3, "{norm}");
    }

    #[test]
    fn motion_is_the_mean_over_tokens() {
        let after = Tensor::new(&[[[3.0_f32, 4.0], [0.0, 2.0]]], &Device::Cpu).unwrap();
        let before = Tensor::new(&[[[0.0_f32, 0.0], [0.0, 1.0]]], &Device::Cpu).unwrap();
        let motion = Motion::between(&before, &after).unwrap();
        let rms = f64::midpoint(12.5_f64.sqrt(), 2.0_f64.sqrt());
        assert!((motion.rms - rms).abs() < 1e-6 && (motion.step_ratio - 0.75).abs() < 1e-6);
    }
}
