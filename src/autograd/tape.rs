//! A tape of explicit backward steps, used instead of candle's graph.
//!
//! Steps run last to first, so there is no recursion to overflow; a step is dropped with its stored
//! activations when it has run; the gradient of a weight used N times is summed in place; nothing
//! is computed for frozen weights. Where the CPU kernels do not apply, a step holds a candle graph
//! of one operation.

use std::cell::RefCell;

use candle_core::{Shape, Tensor, Var};

use super::backward::{Backward, Gradient, Slots, Step};
use super::params::{Gradients, Weight};
use crate::error::{Error, Result};
use crate::kernels::host;

/// A tensor in a computation, and the slot its gradient is summed in, if it requires one.
#[derive(Debug, Clone)]
pub struct Value {
    tensor: Tensor,
    slot: Option<usize>,
}

impl Value {
    /// A value without a gradient.
    #[must_use]
    pub fn constant(tensor: Tensor) -> Self {
        Self { tensor, slot: None }
    }

    /// The tensor.
    #[must_use]
    pub fn tensor(&self) -> &Tensor {
        &self.tensor
    }

    /// The same values in another shape, with the same gradient.
    ///
    /// # Errors
    /// The shapes have different element counts.
    pub(crate) fn reshaped(&self, shape: impl std::convert::Into<Shape>) -> Result<Self> {
        Ok(Self { tensor: self.tensor.reshape(shape.into())?, slot: self.slot })
    }

    /// The same values without a gradient.
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

/// Records the backward steps of a computation, or nothing.
pub struct Tape {
    recording: Option<RefCell<Recording>>,
    reference: bool,
}

impl Tape {
    /// A tape that records, for training.
    #[must_use]
    pub fn recording() -> Self {
        Self { recording: Some(RefCell::default()), reference: false }
    }

    /// A tape that records nothing, for inference.
    #[must_use]
    pub fn off() -> Self {
        Self { recording: None, reference: false }
    }

    /// The same tape with every operation composed of candle's instead of the kernels: slow, and the
    /// reference that the kernels are tested against.
    #[must_use]
    pub fn with_reference(mut self) -> Self {
        self.reference = true;
        self
    }

    /// Whether the tape records.
    #[must_use]
    pub fn is_recording(&self) -> bool {
        self.recording.is_some()
    }

    /// A value whose gradient [`Tape::backward_to`] returns.
    #[must_use]
    pub fn leaf(&self, tensor: Tensor) -> Value {
        let slot = self.recording.as_ref().map(|recording| {
            let mut recording = recording.borrow_mut();
            recording.slots += 1;
            recording.slots - 1
        });
        Value { tensor, slot }
    }

    /// Whether `tensor` is computed on by a CPU kernel: f32, on the CPU, and not on the reference.
    pub(crate) fn has_cpu_kernel(&self, tensor: &Tensor) -> bool {
        !self.reference && host::is_host(tensor)
    }

    /// Whether an operation with these inputs must be recorded.
    pub(crate) fn requires_grad(&self, values: &[&Value], weights: &[&Weight]) -> bool {
        self.is_recording()
            && (values.iter().any(|value| value.slot.is_some())
                || weights.iter().any(|weight| weight.trained_name().is_some()))
    }

    /// Whether an inference-only kernel may compute an operation with these inputs: never on the
    /// reference.
    pub(crate) fn is_inference(&self, values: &[&Value], weights: &[&Weight]) -> bool {
        !self.reference && !self.requires_grad(values, weights)
    }

    /// Records the step that turns the gradient of `output` into gradients of its inputs.
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
                    Some(gradient) => step(gradient.into_tensor()?.reshape(shape)?, backward),
                    None => Ok(()),
                }
            }));
        }
        value
    }

    /// As [`Self::push`], for a CPU kernel that may overwrite the gradient of its output.
    pub(crate) fn push_host(
        &self,
        output: Tensor,
        step: impl FnOnce(Vec<f32>, &mut Backward) -> Result<()> + 'static,
    ) -> Value {
        let value = self.leaf(output);
        if let (Some(recording), Some(slot)) = (&self.recording, value.slot) {
            recording.borrow_mut().steps.push(Box::new(move |backward| {
                match backward.take(Some(slot)) {
                    Some(gradient) => step(gradient.into_vec()?, backward),
                    None => Ok(()),
                }
            }));
        }
        value
    }

    /// Adds a term of the loss by its gradient with respect to `value`.
    pub(crate) fn push_loss(&self, value: &Value, gradient: Tensor) {
        if let (Some(recording), Some(slot)) = (&self.recording, value.slot) {
            let step = move |backward: &mut Backward| backward.add(Some(slot), gradient);
            recording.borrow_mut().steps.push(Box::new(step));
        }
    }

    /// Adds a term of the loss by its gradient with respect to a weight.
    pub(crate) fn push_weight_loss(&self, weight: &Weight, gradient: Tensor) {
        if let Some(recording) = &self.recording {
            let weight = weight.clone();
            let step = move |backward: &mut Backward| backward.add_weight(&weight, &gradient);
            recording.borrow_mut().steps.push(Box::new(step));
        }
    }

    /// One operation composed of candle's, with a graph of its own for the backward pass: for
    /// devices and types without a kernel.
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

    /// Applies `compute` to `inputs` and stores nothing but them; the backward pass recomputes it on
    /// a recording tape and runs through that. `compute` adds terms of the loss to that tape alone.
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
            let stored: Vec<Value> = inputs.iter().map(|input| (*input).clone()).collect();
            let reference = self.reference;
            recording.borrow_mut().steps.push(Box::new(move |backward| {
                let gradient = backward.take(Some(slot));
                let inner = Self { recording: Some(RefCell::default()), reference };
                let leaf = |input: &Value| match input.slot {
                    Some(_) => inner.leaf(input.tensor.clone()),
                    None => input.clone(),
                };
                let inputs: Vec<Value> = stored.iter().map(leaf).collect();
                let output = compute(&inner, &inputs)?;
                let recording = inner.recording.map(RefCell::into_inner).unwrap_or_default();
                let (steps, slots) = (recording.steps, recording.slots);
                let input_slots: Vec<_> = inputs.iter().map(|input| input.slot).collect();
                let ends = (output.slot, input_slots.as_slice());
                let gradients = backward.run_inner(steps, slots, gradient, ends)?;
                for (input, gradient) in stored.iter().zip(gradients) {
                    if let Some(gradient) = gradient {
                        backward.accumulate(input.slot, gradient)?;
                    }
                }
                Ok(())
            }));
        }
        Ok(output)
    }

    /// The backward pass: the gradient of the loss with respect to every trainable weight it reaches.
    ///
    /// # Errors
    /// A step fails on its device.
    pub fn backward(self) -> Result<Gradients> {
        Ok(self.run(&[])?.0)
    }

    /// The backward pass from the gradients of `outputs` and the terms of the loss: the gradients of
    /// the trainable weights, and those of `leaves`, none where the loss does not depend on one.
    ///
    /// # Errors
    /// A step fails on its device.
    pub fn backward_to(
        self,
        outputs: &[(&Value, Tensor)],
        leaves: &[&Value],
    ) -> Result<(Gradients, Vec<Option<Tensor>>)> {
        let (gradients, mut slots) = self.run(outputs)?;
        let of_leaves = leaves.iter().map(|leaf| {
            let gradient = leaf.slot.and_then(|slot| slots[slot].take());
            gradient.map(Gradient::into_tensor).transpose()
        });
        Ok((gradients, of_leaves.collect::<Result<_>>()?))
    }

    fn run(self, outputs: &[(&Value, Tensor)]) -> Result<(Gradients, Slots)> {
        let Some(recording) = self.recording else {
            return Err(Error::internal("a backward pass on a tape that does not record"));
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
