//! The state of a backward pass: gradients of values by slot, and of weights by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{Shape, Tensor};

use super::params::{Gradients, Weight};
use crate::error::Result;
use crate::kernels::gemm::{Into, Matrix, Threads, new_product, product};
use crate::kernels::host::{self, Host};

/// The gradient of one weight, a sum over its uses.
enum Sum {
    Host(Vec<f32>, Shape),
    Device(Tensor),
}

/// The gradient of a value, in memory of its own or in a tensor that others may read.
pub(crate) enum Gradient {
    /// In memory of its own, which may be written to.
    Own(Vec<f32>, Shape),
    /// In a tensor that another slot or another step may read.
    Shared(Tensor),
}

impl Gradient {
    pub(crate) fn into_tensor(self) -> Result<Tensor> {
        match self {
            Self::Own(values, shape) => host::tensor(values, shape),
            Self::Shared(tensor) => Ok(tensor),
        }
    }

    /// Its values, to write to: copied when they are shared.
    pub(crate) fn into_vec(self) -> Result<Vec<f32>> {
        match self {
            Self::Own(values, _) => Ok(values),
            Self::Shared(tensor) => Ok(host::copy(&Host::new(&tensor.contiguous()?)?)),
        }
    }
}

pub(crate) type Slots = Vec<Option<Gradient>>;

fn empty(slots: usize) -> Slots {
    (0..slots).map(|_| None).collect()
}

/// The gradients known so far in a backward pass.
pub(crate) struct Backward {
    slots: Slots,
    weights: BTreeMap<Arc<str>, Sum>,
}

impl Backward {
    pub(crate) fn new(slots: usize) -> Self {
        Self { slots: empty(slots), weights: BTreeMap::new() }
    }

    /// The gradients of the weights, and of the values that no step has taken.
    pub(crate) fn finish(self) -> Result<(Gradients, Slots)> {
        let mut gradients = Gradients::new();
        for (name, sum) in self.weights {
            let gradient = match sum {
                Sum::Host(values, shape) => host::tensor(values, shape)?,
                Sum::Device(tensor) => tensor,
            };
            gradients.insert(name, gradient);
        }
        Ok((gradients, self.slots))
    }

    /// Runs the steps of an inner tape of `slots` values, from the gradient of its output, if there
    /// is one, to the gradients of its inputs; gradients of weights are added to those of this pass.
    pub(crate) fn run_inner(
        &mut self,
        steps: Vec<Step>,
        slots: usize,
        gradient: Option<Gradient>,
        (output, inputs): (Option<usize>, &[Option<usize>]),
    ) -> Result<Vec<Option<Gradient>>> {
        let outer = std::mem::replace(&mut self.slots, empty(slots));
        if let Some(gradient) = gradient {
            self.accumulate(output, gradient)?;
        }
        for step in steps.into_iter().rev() {
            step(self)?;
        }
        let mut inner = std::mem::replace(&mut self.slots, outer);
        Ok(inputs.iter().map(|input| input.and_then(|slot| inner[slot].take())).collect())
    }

    /// Takes the gradient that a value has so far.
    pub(crate) fn take(&mut self, slot: Option<usize>) -> Option<Gradient> {
        self.slots[slot?].take()
    }

    /// Adds to the gradient of a value; a value without a slot is ignored.
    pub(crate) fn add(&mut self, slot: Option<usize>, gradient: Tensor) -> Result<()> {
        self.accumulate(slot, Gradient::Shared(gradient))
    }

    /// Adds to the gradient of a value by a vector, which it may keep; `shape` has as many elements.
    pub(crate) fn add_vec(
        &mut self,
        slot: Option<usize>,
        gradient: Vec<f32>,
        shape: &Shape,
    ) -> Result<()> {
        self.accumulate(slot, Gradient::Own(gradient, shape.clone()))
    }

    /// Adds to the gradient of a value; a value without a slot is ignored.
    pub(crate) fn accumulate(&mut self, slot: Option<usize>, gradient: Gradient) -> Result<()> {
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
                let mut sum = before.into_vec()?;
                product(&mut sum, Into::Add, 1.0, a, b, Threads::All);
                sum
            }
        };
        self.add_vec(slot, sum, shape)
    }

    /// Lets `add` add to the gradient of a trainable weight on the CPU, a slice in row-major order.
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

    /// Adds to the gradient of a trainable weight.
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

/// A backward step: turns the gradient of an output into gradients of its inputs.
pub(crate) type Step = Box<dyn FnOnce(&mut Backward) -> Result<()>>;
