//! The typical size of a teacher's states, from which the state norm is initialized.

use std::ops::Range;

use candle_core::{D, DType, Tensor};

use crate::context::Context;
use crate::error::{Error, Result};
use crate::model::Transformer;

/// Root mean square of the states after each layer of `middle` on the `calibration` tokens, each
/// (B, T): the geometric mean over tokens and layers, which the few tokens with states a hundred
/// times larger do not dominate.
pub(crate) fn state_rms(
    teacher: &Transformer,
    middle: Range<usize>,
    calibration: &[Tensor],
    context: &Context,
) -> Result<f32> {
    let (mut sum, mut count) = (0.0, 0.0);
    for ids in calibration {
        context.check_cancelled("during the measurement of the teacher's states")?;
        let states = teacher.states_through(ids, middle.end)?;
        for state in states.iter().skip(middle.start + 1) {
            let squares = state.to_dtype(DType::F32)?.sqr()?.mean(D::Minus1)?;
            // ln sqrt(x) = ln(x) / 2.
            let logs = ((squares + f64::from(f32::MIN_POSITIVE))?.log()? * 0.5)?;
            sum += f64::from(logs.sum_all()?.to_scalar::<f32>()?);
            count += logs.elem_count() as f64;
        }
    }
    if count == 0.0 {
        return Err(Error::input(
            "there is no calibration text to initialize student.state_norm with",
        )
        .hint("raise student.calibration_tokens, or write student.state_norm = \"none\""));
    }
    Ok((sum / count).exp() as f32)
}
