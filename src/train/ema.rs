//! What is the average of the weights over the last steps?

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};

use super::kernels;
use super::store::{Saved, Store};
use crate::error::Result;
use crate::nn::Params;

/// An exponential moving average of the trainable parameters, in f32 on their device.
#[derive(Debug)]
pub struct Ema {
    decay: f64,
    averages: BTreeMap<String, Store>,
}

impl Ema {
    /// Starts at the parameters as they are.
    ///
    /// # Errors
    /// The device is out of memory.
    pub fn new(decay: f64, params: &Params) -> Result<Self> {
        let averages = params
            .trainable()
            .map(|(name, var)| Ok((name.to_owned(), Store::copy_of(var)?)))
            .collect::<Result<_>>()?;
        Ok(Self { decay, averages })
    }

    /// Follows the parameters after step `step`, counted from 0.
    ///
    /// # Errors
    /// The device fails.
    pub fn update(&mut self, params: &Params, step: u64) -> Result<()> {
        // The average forgets its start: (1 + t) / (10 + t) at first, as in TensorFlow's.
        let decay = self.decay.min((1.0 + step as f64) / (10.0 + step as f64));
        let rest = 1.0 - decay;
        for (name, var) in params.trainable() {
            match self.averages.get_mut(name) {
                None => {}
                Some(Store::Host(average)) => {
                    kernels::with_host(var, |values| {
                        kernels::average(average, values, rest as f32);
                    })?;
                }
                Some(Store::Tensor(average)) => {
                    let values = var.as_detached_tensor().to_dtype(DType::F32)?;
                    *average = (&*average + ((values - &*average)? * rest)?)?;
                }
            }
        }
        Ok(())
    }

    /// Copies the averages into the parameters.
    ///
    /// # Errors
    /// The parameters are those of another model.
    pub fn apply(&self, params: &Params) -> Result<()> {
        for (name, var) in params.trainable() {
            if let Some(average) = self.averages.get(name) {
                params.set(name, &average.to_tensor(var)?)?;
            }
        }
        Ok(())
    }

    pub(super) fn saved<'a>(&'a self, params: &'a Params) -> Vec<(String, Saved<'a>)> {
        params
            .trainable()
            .filter_map(|(name, var)| Some((name, var, self.averages.get(name)?)))
            .map(|(name, var, average)| (format!("ema.{name}"), average.saved(var)))
            .collect()
    }

    /// Takes over a checkpoint's averages, where it has them.
    pub(super) fn load(
        &mut self,
        params: &Params,
        tensors: &BTreeMap<String, Tensor>,
    ) -> Result<()> {
        for (name, var) in params.trainable() {
            let key = format!("ema.{name}");
            if let (Some(saved), Some(average)) = (tensors.get(&key), self.averages.get_mut(name)) {
                average.load(&key, saved, var)?;
            }
        }
        Ok(())
    }
}
