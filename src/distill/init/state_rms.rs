//! How large are the numbers of a teacher's states?

use std::ops::Range;

use candle_core::{D, DType, Tensor};

use crate::context::Context;
use crate::error::{Error, Result};
use crate::model::Transformer;

/// The root of the mean square of the states after each layer of `middle`, (B, T, D), on the
/// `calibration` tokens, each (B, T): the geometric mean over tokens and layers, so that the few
/// tokens whose states are a hundred times larger do not decide.
pub(crate) fn typical_size(
    teacher: &Transformer,
    middle: Range<usize>,
    calibration: &[Tensor],
    context: &Context,
) -> Result<f32> {
    let (mut sum, mut count) = (0.0, 0.0);
    for ids in calibration {
        context.check_cancelled("while the teacher's states were measured")?;
        let states = teacher.states_through(ids, middle.end)?;
        for state in states.iter().skip(middle.start + 1) {
            let squares = state.to_dtype(DType::F32)?.sqr()?.mean(D::Minus1)?;
            // Of the root: half the logarithm.
            let logs = ((squares + f64::from(f32::MIN_POSITIVE))?.log()? * 0.5)?;
            sum += f64::from(logs.sum_all()?.to_scalar::<f32>()?);
            count += logs.elem_count() as f64;
        }
    }
    if count == 0.0 {
        return Err(Error::input(
            "there is no calibration text to measure the teacher's states on",
        )
        .hint("raise student.calibration_tokens, or write student.state_norm = \"none\""));
    }
    Ok((sum / count).exp() as f32)
}
