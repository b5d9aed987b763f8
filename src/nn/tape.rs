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

    /// Whether kernels that know no way back may compute what reads these: never on the yardstick.
    pub(crate) fn forgets(&self, values: &[&Value], weights: &[&Weight]) -> bool {
        !self.reference && !self.needs(values, weights)
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
                let gradient = backward.take(Some(slot));
                let inner = Self { recording: Some(RefCell::default()), reference };
                let input = kept.slot.map_or_else(
                    || Value::constant(kept.tensor.clone()),
                    |_| inner.leaf(kept.tensor.clone()),
                );
                let output = compute(&inner, &input)?;
                let gradient = backward.through(inner, &output, gradient, &input)?;
                gradient.map_or(Ok(()), |gradient| backward.give(kept.slot, gradient))
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
        let mut backward = Backward { slots: empty(recording.slots), weights: BTreeMap::new() };
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

/// The gradient of a value: of numbers that nothing else reads, or of shared ones.
pub(crate) enum Gradient {
    /// May be written into.
    Own(Vec<f32>, Shape),
    /// Another slot, or another step, may read it too.
    Shared(Tensor),
}

impl Gradient {
    fn tensor(self) -> Result<Tensor> {
        match self {
            Self::Own(values, shape) => host::tensor(values, shape),
            Self::Shared(tensor) => Ok(tensor),
        }
    }

    /// Its numbers, to write into: copied when they are shared.
    pub(crate) fn numbers(self) -> Result<Vec<f32>> {
        match self {
            Self::Own(values, _) => Ok(values),
            Self::Shared(tensor) => Ok(host::copy(&Host::new(&tensor.contiguous()?)?)),
        }
    }
}

type Slots = Vec<Option<Gradient>>;

fn empty(slots: usize) -> Slots {
    (0..slots).map(|_| None).collect()
}

/// The gradients known so far while the tape runs back.
pub(crate) struct Backward {
    slots: Slots,
    weights: BTreeMap<Arc<str>, Sum>,
}

impl Backward {
    /// Goes back through another tape, whose weights are summed with those of this one: from the
    /// gradient of its output, if there is any, to that of its input.
    fn through(
        &mut self,
        tape: Tape,
        output: &Value,
        gradient: Option<Gradient>,
        input: &Value,
    ) -> Result<Option<Gradient>> {
        let recording = tape.recording.map(RefCell::into_inner).unwrap_or_default();
        let outer = std::mem::replace(&mut self.slots, empty(recording.slots));
        if let Some(gradient) = gradient {
            self.give(output.slot, gradient)?;
        }
        for step in recording.steps.into_iter().rev() {
            step(self)?;
        }
        let mut inner = std::mem::replace(&mut self.slots, outer);
        Ok(input.slot.and_then(|slot| inner[slot].take()))
    }

    /// What the gradient of a value is so far; it has none afterwards.
    pub(crate) fn take(&mut self, slot: Option<usize>) -> Option<Gradient> {
        self.slots[slot?].take()
    }

    /// Adds to the gradient of a value; nothing when it has none.
    pub(crate) fn add(&mut self, slot: Option<usize>, gradient: Tensor) -> Result<()> {
        self.give(slot, Gradient::Shared(gradient))
    }

    /// The same with numbers that nothing else reads, in any shape of as many.
    pub(crate) fn add_own(
        &mut self,
        slot: Option<usize>,
        gradient: Vec<f32>,
        shape: &Shape,
    ) -> Result<()> {
        self.give(slot, Gradient::Own(gradient, shape.clone()))
    }

    fn give(&mut self, slot: Option<usize>, gradient: Gradient) -> Result<()> {
        let Some(slot) = slot else { return Ok(()) };
        let sum = match (self.slots[slot].take(), gradient) {
            (None, gradient) => gradient,
            (Some(Gradient::Own(mut sum, shape)), other)
            | (Some(other), Gradient::Own(mut sum, shape)) => {
                match other {
                    Gradient::Own(other, _) => host::add_to(&mut sum, &other),
                    Gradient::Shared(other) => {
                        host::add_to(&mut sum, &Host::new(&other.contiguous()?)?);
                    }
                }
                Gradient::Own(sum, shape)
            }
            (Some(Gradient::Shared(a)), Gradient::Shared(b)) if host::is_host(&a) => {
                let mut sum = host::copy(&Host::new(&a.contiguous()?)?);
                host::add_to(&mut sum, &Host::new(&b.contiguous()?)?);
                Gradient::Own(sum, a.shape().clone())
            }
            (Some(Gradient::Shared(a)), Gradient::Shared(b)) => {
                Gradient::Shared((&a + b.reshape(a.shape())?)?)
            }
        };
        self.slots[slot] = Some(sum);
        Ok(())
    }

    /// Adds `a b` to the gradient of a value on the CPU.
    pub(crate) fn add_product_to(
        &mut self,
        slot: Option<usize>,
        a: Matrix<'_>,
        b: Matrix<'_>,
        shape: &Shape,
    ) -> Result<()> {
        if slot.is_none() {
            return Ok(());
        }
        let sum = match self.take(slot) {
            None => new_product(a, b, Threads::All),
            Some(before) => {
                let mut sum = before.numbers()?;
                product(&mut sum, Into::Add, 1.0, a, b, Threads::All);
                sum
            }
        };
        self.add_own(slot, sum, shape)
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
            self.sum_weight(weight, |sums| host::add_to(sums, &gradient));
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
