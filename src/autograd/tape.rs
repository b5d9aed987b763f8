//! How does a gradient find its way back?
//!
//! A tape of explicit backward steps, instead of candle's graph: steps run last to first, so there
//! is no recursion to overflow; a step is dropped when it has run, and its saved activations with
//! it; the gradient of a weight used N times is summed in place; and nothing is computed for what
//! is frozen. Where the CPU kernels do not apply, a step holds a candle graph of one operation.

use std::cell::RefCell;

use candle_core::{Shape, Tensor, Var};

use super::backward::{Backward, Gradient, Slots, Step};
use super::params::{Gradients, Weight};
use crate::error::{Error, Result};
use crate::kernels::host;

/// A tensor in a computation, and where its gradient is summed if anything asks for it.
#[derive(Debug, Clone)]
pub struct Value {
    tensor: Tensor,
    slot: Option<usize>,
}

impl Value {
    /// A value that no gradient passes.
    #[must_use]
    pub fn constant(tensor: Tensor) -> Self {
        Self { tensor, slot: None }
    }

    /// The numbers.
    #[must_use]
    pub fn tensor(&self) -> &Tensor {
        &self.tensor
    }

    /// The same numbers in another shape, with the same gradient.
    ///
    /// # Errors
    /// The shapes hold different counts.
    pub(crate) fn reshaped(&self, shape: impl std::convert::Into<Shape>) -> Result<Self> {
        Ok(Self { tensor: self.tensor.reshape(shape.into())?, slot: self.slot })
    }

    /// The same numbers; gradients stop here.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self::constant(self.tensor.clone())
    }

    pub(crate) fn slot(&self) -> Option<usize> {
        self.slot
    }
}

#[derive(Default)]
struct Recording {
    steps: Vec<Step>,
    slots: usize,
}

/// Records what has to be undone, or nothing.
pub struct Tape {
    recording: Option<RefCell<Recording>>,
    reference: bool,
}

impl Tape {
    /// A tape for training.
    #[must_use]
    pub fn recording() -> Self {
        Self { recording: Some(RefCell::default()), reference: false }
    }

    /// No tape: a frozen model keeps nothing.
    #[must_use]
    pub fn off() -> Self {
        Self { recording: None, reference: false }
    }

    /// The same, computed by candle's composed operations instead of the kernels here: slow, and
    /// the reference of every kernel.
    #[must_use]
    pub fn with_reference(mut self) -> Self {
        self.reference = true;
        self
    }

    /// Whether anything is recorded.
    #[must_use]
    pub fn is_recording(&self) -> bool {
        self.recording.is_some()
    }

    /// A value whose gradient [`Tape::backward_to`] gives.
    #[must_use]
    pub fn leaf(&self, tensor: Tensor) -> Value {
        let slot = self.recording.as_ref().map(|recording| {
            let mut recording = recording.borrow_mut();
            recording.slots += 1;
            recording.slots - 1
        });
        Value { tensor, slot }
    }

    /// Whether the CPU kernels compute on `tensor`.
    pub(crate) fn has_cpu_kernel(&self, tensor: &Tensor) -> bool {
        !self.reference && host::is_host(tensor)
    }

    /// Whether a step that reads these must be recorded.
    pub(crate) fn requires_grad(&self, values: &[&Value], weights: &[&Weight]) -> bool {
        self.is_recording()
            && (values.iter().any(|value| value.slot.is_some())
                || weights.iter().any(|weight| weight.trained_name().is_some()))
    }

    /// Whether kernels that know no way back may compute what reads these: never on the reference.
    pub(crate) fn is_inference(&self, values: &[&Value], weights: &[&Weight]) -> bool {
        !self.reference && !self.requires_grad(values, weights)
    }

    /// Adds the step that turns the gradient of `output` into gradients of its inputs.
    pub(crate) fn push(
        &self,
        output: Tensor,
        step: impl FnOnce(Tensor, &mut Backward) -> Result<()> + 'static,
    ) -> Value {
        let value = self.leaf(output);
        if let (Some(recording), Some(slot)) = (&self.recording, value.slot) {
            let shape = value.tensor.shape().clone();
            recording.borrow_mut().steps.push(Box::new(move |backward| {
                match backward.take(Some(slot)) {
                    Some(gradient) => step(gradient.tensor()?.reshape(shape)?, backward),
                    None => Ok(()),
                }
            }));
        }
        value
    }

    /// The same for a kernel that may write into the gradient of its output.
    pub(crate) fn push_host(
        &self,
        output: Tensor,
        step: impl FnOnce(Vec<f32>, &mut Backward) -> Result<()> + 'static,
    ) -> Value {
        let value = self.leaf(output);
        if let (Some(recording), Some(slot)) = (&self.recording, value.slot) {
            recording.borrow_mut().steps.push(Box::new(move |backward| {
                match backward.take(Some(slot)) {
                    Some(gradient) => step(gradient.numbers()?, backward),
                    None => Ok(()),
                }
            }));
        }
        value
    }

    /// Adds a term of the loss: its gradient for `value`, known already.
    pub(crate) fn push_loss(&self, value: &Value, gradient: Tensor) {
        if let (Some(recording), Some(slot)) = (&self.recording, value.slot) {
            let step = move |backward: &mut Backward| backward.add(Some(slot), gradient);
            recording.borrow_mut().steps.push(Box::new(step));
        }
    }

    /// Adds a term of the loss: its gradient for a weight, known already.
    pub(crate) fn push_weight_loss(&self, weight: &Weight, gradient: Tensor) {
        if let Some(recording) = &self.recording {
            let weight = weight.clone();
            let step = move |backward: &mut Backward| backward.add_weight(&weight, &gradient);
            recording.borrow_mut().steps.push(Box::new(step));
        }
    }

    /// One operation as a candle graph of its own: for devices and types without a kernel.
    pub(crate) fn composed(
        &self,
        inputs: &[&Value],
        weights: &[&Weight],
        compute: impl Fn(&[Tensor], &[Tensor]) -> Result<Tensor>,
    ) -> Result<Value> {
        if !self.requires_grad(inputs, weights) {
            let inputs: Vec<Tensor> = inputs.iter().map(|value| value.tensor.clone()).collect();
            let weights: Vec<Tensor> = weights.iter().map(|w| w.tensor().clone()).collect();
            return Ok(Value::constant(compute(&inputs, &weights)?));
        }
        let mut tracked = Vec::new();
        let mut tensors = Vec::new();
        for value in inputs {
            let var =
                value.slot.map(|slot| Ok::<_, Error>((slot, Var::from_tensor(&value.tensor)?)));
            let var = var.transpose()?;
            tensors.push(var.as_ref().map_or(&value.tensor, |(_, var)| var.as_tensor()).clone());
            tracked.extend(var);
        }
        let weights: Vec<Weight> = weights.iter().map(|weight| (*weight).clone()).collect();
        let weight_tensors: Vec<Tensor> = weights
            .iter()
            .map(|weight| weight.var().map_or(weight.tensor(), |var| var.as_tensor()).clone())
            .collect();
        let output = compute(&tensors, &weight_tensors)?;
        Ok(self.push(output.detach(), move |gradient, backward| {
            let mut gradients = (output * gradient)?.sum_all()?.backward()?;
            for (slot, var) in &tracked {
                if let Some(gradient) = gradients.remove(var.as_tensor()) {
                    backward.add(Some(*slot), gradient)?;
                }
            }
            for weight in &weights {
                let gradient = weight.var().and_then(|var| gradients.remove(var.as_tensor()));
                if let Some(gradient) = gradient {
                    backward.add_weight(weight, &gradient)?;
                }
            }
            Ok(())
        }))
    }

    /// Applies `compute` to `inputs` and keeps nothing but them: the way back applies it again,
    /// recording, and goes back through that. What `compute` adds to the loss it adds there.
    ///
    /// # Errors
    /// `compute` fails.
    pub fn recompute(
        &self,
        inputs: &[&Value],
        compute: impl Fn(&Self, &[Value]) -> Result<Value> + 'static,
    ) -> Result<Value> {
        let off = Self { recording: None, reference: self.reference };
        let detached: Vec<Value> = inputs.iter().map(|input| input.detached()).collect();
        let output = self.leaf(compute(&off, &detached)?.tensor);
        if let (Some(recording), Some(slot)) = (&self.recording, output.slot) {
            let kept: Vec<Value> = inputs.iter().map(|input| (*input).clone()).collect();
            let reference = self.reference;
            recording.borrow_mut().steps.push(Box::new(move |backward| {
                let gradient = backward.take(Some(slot));
                let inner = Self { recording: Some(RefCell::default()), reference };
                let again = |kept: &Value| match kept.slot {
                    Some(_) => inner.leaf(kept.tensor.clone()),
                    None => kept.clone(),
                };
                let inputs: Vec<Value> = kept.iter().map(again).collect();
                let output = compute(&inner, &inputs)?;
                let recording = inner.recording.map(RefCell::into_inner).unwrap_or_default();
                let (steps, slots) = (recording.steps, recording.slots);
                let starts: Vec<_> = inputs.iter().map(|input| input.slot).collect();
                let ends = (output.slot, starts.as_slice());
                let gradients = backward.through(steps, slots, gradient, ends)?;
                let found = kept.iter().zip(gradients);
                let mut found = found.filter_map(|(kept, gradient)| Some((kept.slot, gradient?)));
                found.try_for_each(|(slot, gradient)| backward.give(slot, gradient))
            }));
        }
        Ok(output)
    }

    /// Runs the steps last to first and gives the gradient of every trainable weight they reach.
    ///
    /// # Errors
    /// A step fails on its device.
    pub fn backward(self) -> Result<Gradients> {
        Ok(self.run(&[])?.0)
    }

    /// The same, with gradients of outputs to start from, sums to add to, and the gradients of the
    /// given leaves.
    ///
    /// # Errors
    /// A step fails on its device.
    pub fn backward_to(
        self,
        outputs: &[(&Value, Tensor)],
        leaves: &[&Value],
    ) -> Result<(Gradients, Vec<Option<Tensor>>)> {
        let (gradients, mut slots) = self.run(outputs)?;
        let of = leaves.iter().map(|leaf| {
            let gradient = leaf.slot.and_then(|slot| slots[slot].take());
            gradient.map(Gradient::tensor).transpose()
        });
        Ok((gradients, of.collect::<Result<_>>()?))
    }

    fn run(self, outputs: &[(&Value, Tensor)]) -> Result<(Gradients, Slots)> {
        let Some(recording) = self.recording else {
            return Err(Error::internal("backward on a tape that records nothing"));
        };
        let recording = recording.into_inner();
        let mut backward = Backward::new(recording.slots);
        for (value, gradient) in outputs {
            backward.add(value.slot, gradient.clone())?;
        }
        for step in recording.steps.into_iter().rev() {
            step(&mut backward)?;
        }
        backward.finish()
    }
}
