//! Exponential moving average of the weights.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};

use super::kernels::{self, Average};
use super::store::{Saved, Store};
use crate::autograd::Params;
use crate::error::Result;

/// An exponential moving average of the trainable parameters, in f32 on their device.
#[derive(Debug)]
pub struct Ema {
    decay: f64,
    averages: BTreeMap<String, Store>,
}

impl Ema {
    /// An average that starts at the current parameters.
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

    /// Updates the averages after step `step`, counted from 0.
    ///
    /// # Errors
    /// The device fails.
    pub fn update(&mut self, params: &Params, step: u64) -> Result<()> {
        self.begin_update(step).finish(params)
    }

    /// The update of step `step`, counted from 0, part of which a fused kernel may do.
    pub(super) fn begin_update(&mut self, step: u64) -> EmaUpdate<'_> {
        // (1 + t) / (10 + t) at first, as in TensorFlow, so that the average forgets its start.
        let decay = self.decay.min((1.0 + step as f64) / (10.0 + step as f64));
        let averages = self.averages.iter_mut().map(|(name, store)| (name.as_str(), store));
        EmaUpdate { rest: 1.0 - decay, averages: averages.collect() }
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

    /// Loads the averages of a checkpoint, where it has them.
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

/// The averages that are not updated yet in a step.
pub(super) struct EmaUpdate<'a> {
    /// 1 - decay.
    rest: f64,
    averages: BTreeMap<&'a str, &'a mut Store>,
}

impl<'a> EmaUpdate<'a> {
    /// Removes the average of one parameter, for a fused kernel that updates both.
    pub(super) fn take(&mut self, name: &str) -> Option<Average<'a>> {
        if !matches!(self.averages.get(name)?, Store::Host(_)) {
            return None;
        }
        match self.averages.remove(name)? {
            Store::Host(values) => Some(Average { values, rest: self.rest as f32 }),
            Store::Tensor(_) => None,
        }
    }

    /// Updates the averages that were not taken.
    pub(super) fn finish(self, params: &Params) -> Result<()> {
        let Self { rest, mut averages } = self;
        for (name, var) in params.trainable() {
            match averages.get_mut(name) {
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
}
