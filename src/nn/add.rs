//! The residual sum.

use crate::autograd::{Tape, Value};
use crate::error::{Error, Result};
use crate::kernels::host;

/// a + b of equal shapes.
///
/// # Errors
/// The shapes differ.
pub(crate) fn add(tape: &Tape, a: &Value, b: &Value) -> Result<Value> {
    if a.tensor().dims() != b.tensor().dims() {
        return Err(Error::internal(format!(
            "a sum of tensors of {:?} and {:?}",
            a.tensor().dims(),
            b.tensor().dims()
        )));
    }
    if !tape.has_cpu_kernel(a.tensor()) {
        return tape.composed(&[a, b], &[], |x, _| Ok((&x[0] + &x[1])?));
    }
    let output = host::sum(a.tensor(), b.tensor())?;
    if !tape.requires_grad(&[a, b], &[]) {
        return Ok(Value::constant(output));
    }
    let (a_slot, b_slot) = (a.slot(), b.slot());
    Ok(tape.push(output, move |gradient, backward| {
        backward.add(a_slot, gradient.clone())?;
        backward.add(b_slot, gradient)
    }))
}
