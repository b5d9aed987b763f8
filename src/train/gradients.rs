//! Gradient accumulation over the micro-batches of a step.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};
use rayon::prelude::*;

use super::kernels;
use crate::autograd::{Gradients, Params};
use crate::error::{Error, Result};

/// The sum of the gradients of some micro-batches by parameter name, in f32.
#[derive(Debug, Default)]
pub struct GradientSum {
    sums: BTreeMap<String, Tensor>,
    micro_batches: u64,
}

impl GradientSum {
    /// The sum over no micro-batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the gradients of one micro-batch, or of one of its shards of equal size. Parameters
    /// without a gradient are left out.
    ///
    /// # Errors
    /// A gradient has another shape than its parameter, or the device fails.
    pub fn add(&mut self, params: &Params, gradients: &mut Gradients) -> Result<()> {
        let mut on_host = Vec::new();
        for (name, var) in params.trainable() {
            let Some(gradient) = gradients.remove(name) else { continue };
            if gradient.dims() != var.dims() {
                return Err(Error::internal(format!(
                    "the gradient of `{name}` is {:?}, the parameter {:?}",
                    gradient.dims(),
                    var.dims()
                )));
            }
            let gradient = gradient.to_dtype(DType::F32)?;
            match self.sums.get_mut(name) {
                Some(sum) if sum.device().is_cpu() => on_host.push((sum.clone(), gradient)),
                Some(sum) => *sum = (&*sum + gradient)?,
                None => drop(self.sums.insert(name.to_owned(), gradient.contiguous()?)),
            }
        }
        on_host.par_iter().try_for_each(|(sum, gradient)| kernels::add_to(sum, gradient))?;
        self.micro_batches += 1;
        Ok(())
    }

    /// The sum over micro-batches for one parameter.
    #[must_use]
    pub fn sum(&self, name: &str) -> Option<&Tensor> {
        self.sums.get(name)
    }

    /// The factor that turns the sums into means.
    #[must_use]
    pub fn mean_factor(&self) -> f64 {
        1.0 / self.micro_batches.max(1) as f64
    }

    /// The trainable parameters that have no gradient.
    #[must_use]
    pub fn missing<'a>(&self, params: &'a Params) -> Vec<&'a str> {
        params.trainable().map(|(name, _)| name).filter(|n| !self.sums.contains_key(*n)).collect()
    }

    /// The Euclidean norm of the mean gradient over all parameters, summed in the order of names.
    ///
    /// # Errors
    /// The device fails.
    pub fn norm(&self) -> Result<f64> {
        let (host, device): (Vec<&Tensor>, Vec<&Tensor>) =
            self.sums.values().partition(|gradient| gradient.device().is_cpu());
        let squares = |gradient: &&Tensor| kernels::with_host(gradient, kernels::sum_of_squares);
        let squares: Vec<f64> = host.par_iter().map(squares).collect::<Result<_>>()?;
        let mut host: f64 = squares.iter().sum();
        let device: Vec<Tensor> = device
            .into_iter()
            .map(|sum| sum.sqr()?.sum_all())
            .collect::<candle_core::Result<_>>()?;
        if !device.is_empty() {
            // One transfer for all parameters.
            let squares: Vec<f32> = Tensor::stack(&device, 0)?.to_vec1()?;
            host += squares.into_iter().map(f64::from).sum::<f64>();
        }
        Ok(host.sqrt() * self.mean_factor())
    }
}
