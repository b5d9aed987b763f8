//! How does a gradient find its way back?
//!
//! A tape of explicit backward steps, instead of candle's graph: steps run last to first, so there
//! is no recursion to overflow; a step is dropped when it has run, and its saved activations with
//! it; the gradient of a weight used N times is summed in place; and nothing is computed for what
//! is frozen. Where the CPU kernels do not apply, a step holds a candle graph of one operation.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{Shape, Tensor, Var};

use super::gemm::{Into, Matrix, Threads, new_product, product};
use super::host::{self, Host};
use super::params::{Gradients, Weight};
use crate::error::{Error, Result};

type Step = Box<dyn FnOnce(&mut Backward) -> Result<()>>;

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
    /// the yardstick of every kernel.
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
    pub(crate) fn fuses(&self, tensor: &Tensor) -> bool {
        !self.reference && host::is_host(tensor)
    }

    /// Whether a step that reads these must be recorded.
    pub(crate) fn needs(&self, values: &[&Value], weights: &[&Weight]) -> bool {
        self.is_recording()
            && (values.iter().any(|value| value.slot.is_some())
                || weights.iter().any(|weight| weight.trained_name().is_some()))
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
                match backward.slots[slot].take() {
                    Some(gradient) => step(gradient.reshape(shape)?, backward),
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
        if !self.needs(inputs, weights) {
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

    /// Applies `compute` to `input` and keeps nothing but `input`: the way back applies it again,
    /// recording, and goes back through that. What `compute` adds to the loss it adds there.
    ///
    /// # Errors
    /// `compute` fails.
    pub fn recompute(
        &self,
        input: &Value,
        compute: impl Fn(&Self, &Value) -> Result<Value> + 'static,
    ) -> Result<Value> {
        let off = Self { recording: None, reference: self.reference };
        let output = self.leaf(compute(&off, &input.detached())?.tensor);
        if let (Some(recording), Some(slot)) = (&self.recording, output.slot) {
            let (kept, reference) = (input.clone(), self.reference);
            recording.borrow_mut().steps.push(Box::new(move |backward| {
                let gradient = backward.slots[slot].take();
                let inner = Self { recording: Some(RefCell::default()), reference };
                let input = kept.slot.map_or_else(
                    || Value::constant(kept.tensor.clone()),
                    |_| inner.leaf(kept.tensor.clone()),
                );
                let output = compute(&inner, &input)?;
                let gradient = backward.through(inner, &output, gradient, &input)?;
                gradient.map_or(Ok(()), |gradient| backward.add(kept.slot, gradient))
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
        let of = leaves.iter().map(|leaf| leaf.slot.and_then(|slot| slots[slot].take())).collect();
        Ok((gradients, of))
    }

    fn run(self, outputs: &[(&Value, Tensor)]) -> Result<(Gradients, Vec<Option<Tensor>>)> {
        let Some(recording) = self.recording else {
            return Err(Error::internal("backward on a tape that records nothing"));
        };
        let recording = recording.into_inner();
        let mut backward =
            Backward { slots: vec![None; recording.slots], weights: BTreeMap::new() };
        for (value, gradient) in outputs {
            backward.add(value.slot, gradient.clone())?;
        }
        for step in recording.steps.into_iter().rev() {
            step(&mut backward)?;
        }
        let mut gradients = Gradients::new();
        for (name, sum) in backward.weights {
            let gradient = match sum {
                Sum::Host(values, shape) => host::tensor(values, shape)?,
                Sum::Device(tensor) => tensor,
            };
            gradients.insert(name, gradient);
        }
        Ok((gradients, backward.slots))
    }
}

/// The gradient of one weight while it is summed.
enum Sum {
    Host(Vec<f32>, Shape),
    Device(Tensor),
}

/// The gradients known so far while the tape runs back.
pub(crate) struct Backward {
    slots: Vec<Option<Tensor>>,
    weights: BTreeMap<Arc<str>, Sum>,
}

impl Backward {
    /// Goes back through another tape, whose weights are summed with those of this one: from the
    /// gradient of its output, if there is any, to that of its input.
    fn through(
        &mut self,
        tape: Tape,
        output: &Value,
        gradient: Option<Tensor>,
        input: &Value,
    ) -> Result<Option<Tensor>> {
        let recording = tape.recording.map(RefCell::into_inner).unwrap_or_default();
        let outer = std::mem::replace(&mut self.slots, vec![None; recording.slots]);
        if let Some(gradient) = gradient {
            self.add(output.slot, gradient)?;
        }
        for step in recording.steps.into_iter().rev() {
            step(self)?;
        }
        let mut inner = std::mem::replace(&mut self.slots, outer);
        Ok(input.slot.and_then(|slot| inner[slot].take()))
    }

    /// Adds to the gradient of a value; nothing when it has none.
    pub(crate) fn add(&mut self, slot: Option<usize>, gradient: Tensor) -> Result<()> {
        let Some(slot) = slot else { return Ok(()) };
        let sum = match self.slots[slot].take() {
            None => gradient,
            Some(before) if host::is_host(&before) => host::sum(&before, &gradient)?,
            Some(before) => (&before + gradient.reshape(before.shape())?)?,
        };
        self.slots[slot] = Some(sum);
        Ok(())
    }

    /// Lets `add` add to the gradient of a trainable weight on the CPU, row by row in its shape.
    pub(crate) fn sum_weight(&mut self, weight: &Weight, add: impl FnOnce(&mut [f32])) {
        let Some(name) = weight.trained_name() else { return };
        let zeros =
            || Sum::Host(vec![0.0; weight.tensor().elem_count()], weight.tensor().shape().clone());
        if let Sum::Host(values, _) = self.weights.entry(name.clone()).or_insert_with(zeros) {
            add(values);
        }
    }

    /// Adds `a b` to the gradient of a trainable weight on the CPU.
    pub(crate) fn add_product(&mut self, weight: &Weight, a: Matrix<'_>, b: Matrix<'_>) {
        let Some(name) = weight.trained_name() else { return };
        if let Some(Sum::Host(sum, _)) = self.weights.get_mut(name) {
            product(sum, Into::Add, 1.0, a, b, Threads::All);
        } else {
            let first = new_product(a, b, Threads::All);
            let sum = Sum::Host(first, weight.tensor().shape().clone());
            self.weights.insert(name.clone(), sum);
        }
    }

    /// Adds a whole gradient of a trainable weight.
    pub(crate) fn add_weight(&mut self, weight: &Weight, gradient: &Tensor) -> Result<()> {
        if host::is_host(gradient) {
            let gradient = Host::new(gradient)?;
            self.sum_weight(weight, |sums| {
                host::fill_ranges(sums, |range, sums| {
                    for (sum, value) in sums.iter_mut().zip(&gradient[range]) {
                        *sum += value;
                    }
                });
            });
        } else if let Some(name) = weight.trained_name() {
            let sum = match self.weights.remove(name) {
                Some(Sum::Device(before)) => (before + gradient)?,
                _ => gradient.clone(),
            };
            self.weights.insert(name.clone(), Sum::Device(sum));
        }
        Ok(())
    }
}
