//! What are the gradients while a tape runs back?

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{Shape, Tensor};

use super::params::{Gradients, Weight};
use crate::error::Result;
use crate::kernels::gemm::{Into, Matrix, Threads, new_product, product};
use crate::kernels::host::{self, Host};

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
    pub(crate) fn tensor(self) -> Result<Tensor> {
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

pub(crate) type Slots = Vec<Option<Gradient>>;

fn empty(slots: usize) -> Slots {
    (0..slots).map(|_| None).collect()
}

/// The gradients known so far while the tape runs back.
pub(crate) struct Backward {
    slots: Slots,
    weights: BTreeMap<Arc<str>, Sum>,
}

impl Backward {
    pub(crate) fn new(slots: usize) -> Self {
        Self { slots: empty(slots), weights: BTreeMap::new() }
    }

    /// The gradients of the weights, and of what nothing has taken.
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

    /// Goes back through the steps of another tape of `slots` values, whose weights are summed
    /// with those of this one: from the gradient of its output, if there is any, to those of its
    /// inputs.
    pub(crate) fn through(
        &mut self,
        steps: Vec<Step>,
        slots: usize,
        gradient: Option<Gradient>,
        (output, inputs): (Option<usize>, &[Option<usize>]),
    ) -> Result<Vec<Option<Gradient>>> {
        let outer = std::mem::replace(&mut self.slots, empty(slots));
        if let Some(gradient) = gradient {
            self.give(output, gradient)?;
        }
        for step in steps.into_iter().rev() {
            step(self)?;
        }
        let mut inner = std::mem::replace(&mut self.slots, outer);
        Ok(inputs.iter().map(|input| input.and_then(|slot| inner[slot].take())).collect())
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

    pub(crate) fn give(&mut self, slot: Option<usize>, gradient: Gradient) -> Result<()> {
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

/// Turns the gradient of an output into gradients of inputs.
pub(crate) type Step = Box<dyn FnOnce(&mut Backward) -> Result<()>>;
