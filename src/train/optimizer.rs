//! The AdamW optimizer with parameter groups and gradient clipping.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor, Var};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ema::{Ema, EmaUpdate};
use super::gradients::GradientSum;
use super::kernels::{self, Moments, Update};
use super::store::{Saved, Store, is_fused};
use crate::autograd::Params;
use crate::error::{Error, Result};

/// `AdamW` with decoupled weight decay; Loshchilov and Hutter 2019.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OptimizerConfig {
    /// The highest learning rate; the schedule scales it.
    pub lr: f64,
    /// Decay of the running means of the gradient and of its square.
    pub betas: [f64; 2],
    /// Added to the square root of the second moment.
    pub eps: f64,
    /// Weight decay per unit of learning rate. Tensors of one dimension (norms, biases) do not decay
    /// unless a group sets it.
    pub weight_decay: f64,
    /// Largest norm of the gradient over all parameters; larger ones are scaled down; 0: no
    /// clipping.
    pub clip_norm: f64,
    /// Parameter groups by name; the first group that matches a name applies.
    pub groups: Vec<GroupConfig>,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self {
            lr: 1e-3,
            betas: [0.9, 0.95],
            eps: 1e-8,
            weight_decay: 0.01,
            clip_norm: 1.0,
            groups: Vec::new(),
        }
    }
}

/// A parameter group with its own learning rate and weight decay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GroupConfig {
    /// Names, with `*` for any characters: `core.*.lora.*`.
    pub pattern: String,
    /// Multiplies the learning rate.
    pub lr_scale: f64,
    /// Replaces the weight decay, including that of tensors of one dimension.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f64>,
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self { pattern: String::new(), lr_scale: 1.0, weight_decay: None }
    }
}

impl GroupConfig {
    fn glob(&self, index: usize) -> Result<glob::Pattern> {
        let key = format!("train.optimizer.groups[{index}].pattern");
        if self.pattern.is_empty() {
            return Err(Error::input("pattern is empty, expected names such as `core.*`").at(key));
        }
        glob::Pattern::new(&self.pattern).map_err(|error| {
            Error::input(format!("`{}` is not a pattern: {error}", self.pattern)).at(key)
        })
    }
}

impl OptimizerConfig {
    /// Refuses values out of range.
    ///
    /// # Errors
    /// The first key out of its range, with the range.
    pub fn validate(&self) -> Result<()> {
        let refuse = |key: &str, value: String, expected: &str| {
            Err(Error::input(format!("{key} is {value}, expected {expected}"))
                .at(format!("train.optimizer.{key}")))
        };
        if !(self.lr > 0.0 && self.lr.is_finite()) {
            return refuse("lr", self.lr.to_string(), "more than 0");
        }
        if !self.betas.iter().all(|beta| (0.0..1.0).contains(beta)) {
            return refuse("betas", format!("{:?}", self.betas), "two values of 0 to below 1");
        }
        if !(self.eps > 0.0 && self.eps.is_finite()) {
            return refuse("eps", self.eps.to_string(), "more than 0");
        }
        let at_least_zero = |value: f64| value >= 0.0 && value.is_finite();
        if !at_least_zero(self.weight_decay) {
            return refuse("weight_decay", self.weight_decay.to_string(), "0 or more");
        }
        if !at_least_zero(self.clip_norm) {
            return refuse("clip_norm", self.clip_norm.to_string(), "0 (no clipping) or more");
        }
        for (index, group) in self.groups.iter().enumerate() {
            group.glob(index)?;
            let key = |name: &str| format!("groups[{index}].{name}");
            if !at_least_zero(group.lr_scale) {
                return refuse(&key("lr_scale"), group.lr_scale.to_string(), "0 or more");
            }
            if let Some(decay) = group.weight_decay.filter(|decay| !at_least_zero(*decay)) {
                return refuse(&key("weight_decay"), decay.to_string(), "0 or more");
            }
        }
        Ok(())
    }
}

/// The optimizer state of one parameter.
#[derive(Debug)]
struct Slot {
    m: Store,
    v: Store,
    /// Updates of this parameter. Counted for each parameter, so that the bias correction of one
    /// that is first trained in a later phase starts there.
    updates: u64,
    lr_scale: f64,
    weight_decay: f64,
}

/// `AdamW` and its f32 moments by parameter name.
#[derive(Debug)]
pub struct Optimizer {
    config: OptimizerConfig,
    slots: BTreeMap<String, Slot>,
    unmatched: Vec<String>,
}

impl Optimizer {
    /// An optimizer of the trainable parameters of `params`, with fused kernels for f32 parameters on
    /// the CPU.
    ///
    /// # Errors
    /// The configuration is invalid, or the device is out of memory.
    pub fn new(config: &OptimizerConfig, params: &Params) -> Result<Self> {
        Self::build(config, params, is_fused)
    }

    /// The same with tensor operations only, the reference of the fused kernels in tests.
    ///
    /// # Errors
    /// As [`Optimizer::new`].
    pub fn composed(config: &OptimizerConfig, params: &Params) -> Result<Self> {
        Self::build(config, params, |_| false)
    }

    fn build(config: &OptimizerConfig, params: &Params, fused: fn(&Var) -> bool) -> Result<Self> {
        config.validate()?;
        let globs: Vec<glob::Pattern> = config
            .groups
            .iter()
            .enumerate()
            .map(|(i, group)| group.glob(i))
            .collect::<Result<_>>()?;
        let mut matched = vec![false; globs.len()];
        let mut slots = BTreeMap::new();
        for (name, var) in params.trainable() {
            let decay = if var.rank() > 1 { config.weight_decay } else { 0.0 };
            let group = globs.iter().position(|glob| glob.matches(name));
            let (lr_scale, weight_decay) = group.map_or((1.0, decay), |index| {
                matched[index] = true;
                let group = &config.groups[index];
                (group.lr_scale, group.weight_decay.unwrap_or(decay))
            });
            let (m, v) = (Store::zeros(var, fused(var))?, Store::zeros(var, fused(var))?);
            slots.insert(name.to_owned(), Slot { m, v, updates: 0, lr_scale, weight_decay });
        }
        let unmatched = config.groups.iter().zip(matched).filter(|(_, matched)| !matched);
        let unmatched = unmatched.map(|(group, _)| group.pattern.clone()).collect();
        Ok(Self { config: config.clone(), slots, unmatched })
    }

    /// The patterns of groups that match no trainable parameter.
    #[must_use]
    pub fn unmatched_groups(&self) -> &[String] {
        &self.unmatched
    }

    /// Updates every parameter that has a gradient, with learning rate `lr`. `norm` is the norm of
    /// the mean gradient, by which gradients are clipped.
    ///
    /// # Errors
    /// The device fails.
    pub fn step(
        &mut self,
        params: &Params,
        gradients: &GradientSum,
        norm: f64,
        lr: f64,
    ) -> Result<()> {
        self.step_with_update(params, gradients, norm, lr, None)
    }

    /// [`Optimizer::step`] of step `step`, counted from 0, which updates the averages in `ema` in the
    /// same pass over memory.
    ///
    /// # Errors
    /// The device fails.
    pub fn step_with_ema(
        &mut self,
        params: &Params,
        gradients: &GradientSum,
        norm: f64,
        lr: f64,
        ema: &mut Ema,
        step: u64,
    ) -> Result<()> {
        let mut ema_update = ema.begin_update(step);
        self.step_with_update(params, gradients, norm, lr, Some(&mut ema_update))?;
        ema_update.finish(params)
    }

    fn step_with_update(
        &mut self,
        params: &Params,
        gradients: &GradientSum,
        norm: f64,
        lr: f64,
        mut ema_update: Option<&mut EmaUpdate<'_>>,
    ) -> Result<()> {
        let clip = self.config.clip_norm;
        let clipped = if clip > 0.0 && norm > clip { clip / norm } else { 1.0 };
        let gradient_scale = gradients.mean_factor() * clipped;
        let mut fused = Vec::new();
        for (name, slot) in &mut self.slots {
            let Some(param) = params.get(name).filter(|param| param.is_trainable()) else {
                continue;
            };
            let Some(gradient) = gradients.sum(name) else { continue };
            slot.updates += 1;
            let update = slot.update(&self.config, lr, gradient_scale);
            let var = param.var();
            match (&mut slot.m, &mut slot.v) {
                (Store::Host(m), Store::Host(v)) => {
                    let average = ema_update.as_mut().and_then(|ema_update| ema_update.take(name));
                    fused.push((name, var, gradient, update, Moments { m, v, average }));
                }
                (Store::Tensor(m), Store::Tensor(v)) => {
                    composed(var, gradient, update, m, v).map_err(|error| in_step(error, name))?;
                }
                _ => return Err(Error::internal("the two moments are stored differently")),
            }
        }
        // Nested parallel loops over parameters and their chunks: a thread that is done with the
        // small parameters takes chunks of the large ones.
        fused.into_par_iter().try_for_each(|(name, var, gradient, update, moments)| {
            kernels::adamw(var, gradient, update, moments).map_err(|error| in_step(error, name))
        })
    }

    /// Number of updates of each parameter.
    #[must_use]
    pub fn updates(&self) -> BTreeMap<String, u64> {
        self.slots.iter().map(|(name, slot)| (name.clone(), slot.updates)).collect()
    }

    pub(super) fn saved<'a>(&'a self, params: &'a Params) -> Vec<(String, Saved<'a>)> {
        params
            .trainable()
            .filter_map(|(name, var)| Some((name, var, self.slots.get(name)?)))
            .flat_map(|(name, var, slot)| {
                [(format!("m.{name}"), slot.m.saved(var)), (format!("v.{name}"), slot.v.saved(var))]
            })
            .collect()
    }

    pub(super) fn load(
        &mut self,
        params: &Params,
        tensors: &BTreeMap<String, Tensor>,
        updates: &BTreeMap<String, u64>,
    ) -> Result<()> {
        for (name, var) in params.trainable() {
            let Some(slot) = self.slots.get_mut(name) else { continue };
            for (key, store) in [("m", &mut slot.m), ("v", &mut slot.v)] {
                let key = format!("{key}.{name}");
                let saved = tensors.get(&key).ok_or_else(|| {
                    Error::input(format!("the checkpoint has no `{key}`, which the model trains"))
                })?;
                store.load(&key, saved, var)?;
            }
            slot.updates = updates.get(name).copied().unwrap_or(0);
        }
        Ok(())
    }
}

impl Slot {
    fn update(&self, config: &OptimizerConfig, lr: f64, gradient_scale: f64) -> Update {
        let [beta1, beta2] = config.betas;
        let lr = lr * self.lr_scale;
        let t = self.updates as f64;
        Update {
            beta1: beta1 as f32,
            beta2: beta2 as f32,
            eps: config.eps as f32,
            keep: (1.0 - lr * self.weight_decay) as f32,
            step_size: (lr / (1.0 - beta1.powf(t))) as f32,
            inverse_root: (1.0 / (1.0 - beta2.powf(t)).sqrt()) as f32,
            gradient_scale: gradient_scale as f32,
        }
    }
}

fn in_step(error: Error, name: &str) -> Error {
    error.at(format!("the update of parameter `{name}`"))
}

/// Updates a parameter of any type on any device.
fn composed(var: &Var, gradient: &Tensor, u: Update, m: &mut Tensor, v: &mut Tensor) -> Result<()> {
    let scale = |tensor: &Tensor, factor: f32| tensor.affine(f64::from(factor), 0.0);
    let gradient = scale(gradient, u.gradient_scale)?;
    *m = (scale(m, u.beta1)? + scale(&gradient, 1.0 - u.beta1)?)?;
    *v = (scale(v, u.beta2)? + scale(&gradient.sqr()?, 1.0 - u.beta2)?)?;
    let root = v.sqrt()?.affine(f64::from(u.inverse_root), f64::from(u.eps))?;
    let values = scale(&var.as_detached_tensor().to_dtype(DType::F32)?, u.keep)?;
    let values = (values - (scale(m, u.step_size)? / root)?)?;
    Ok(var.set(&values.to_dtype(var.dtype())?)?)
}
