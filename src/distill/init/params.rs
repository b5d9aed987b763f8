//! Which parameters does a student start with, and which of them stay?

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};

use super::project_width::{MAP, project_width};
use super::tensors::student_tensors;
use crate::autograd::Params;
use crate::context::Context;
use crate::distill::config::StudentConfig;
use crate::error::{Error, Result};
use crate::model::{CausalLm, LoopedConfig, Transformer};

/// Parameters, on the device of `context`, of a student of `teacher`, whose own tensors are `tensors`,
/// both on that device too. Initialisations that need text use the `calibration` tokens, each (B, T).
/// A student of reduced width has [`MAP`] among them.
///
/// # Errors
/// The factorization does not fit the teacher, a decomposition fails, or the user stopped it.
pub fn student_params(
    (teacher, tensors): (&Transformer, &BTreeMap<String, Tensor>),
    config: &LoopedConfig,
    student: &StudentConfig,
    calibration: &[Tensor],
    seed: u64,
    context: &Context,
) -> Result<Params> {
    let device = context.device();
    let start = |teacher: &Transformer, tensors: &BTreeMap<String, Tensor>| {
        student_tensors(teacher, tensors, config, student, calibration, seed, context)
    };
    if config.base.width == teacher.base().width {
        return params(&start(teacher, tensors)?, config, student, device);
    }
    let narrow = project_width(teacher, tensors, &config.base, calibration, context)?;
    let on = |(name, tensor): (&String, &Tensor)| Ok((name.clone(), tensor.to_device(device)?));
    let tensors: BTreeMap<String, Tensor> = narrow.tensors.iter().map(on).collect::<Result<_>>()?;
    let start = start(&Transformer::new(&config.base, &tensors)?, &tensors)?;
    let mut params = params(&start, config, student, device)?;
    params.insert(MAP, &narrow.map.to_device(device)?, true)?;
    Ok(params)
}

/// The tensors of [`LoopedConfig::tensors`] as parameters, those that `student` freezes frozen.
///
/// # Errors
/// One is missing, or a pattern of names is none.
pub fn params(
    tensors: &BTreeMap<String, Tensor>,
    config: &LoopedConfig,
    student: &StudentConfig,
    device: &Device,
) -> Result<Params> {
    let frozen = Frozen::new(student)?;
    let mut params = Params::new();
    for (name, _) in config.tensors() {
        let values = tensors
            .get(&name)
            .ok_or_else(|| Error::internal(format!("the student starts without `{name}`")))?;
        params.insert(&name, &values.to_device(device)?, !frozen.holds(&name))?;
    }
    Ok(params)
}

/// Which parameters stay as they start.
pub struct Frozen(Vec<glob::Pattern>);

impl Frozen {
    /// As the recipe says.
    ///
    /// # Errors
    /// A pattern of names is none.
    pub fn new(student: &StudentConfig) -> Result<Self> {
        let pattern = |text: &String| {
            glob::Pattern::new(text).map_err(|error| {
                Error::input(format!("`{text}` is no pattern of names: {error}"))
                    .at("student.frozen")
            })
        };
        Ok(Self(student.frozen.iter().map(pattern).collect::<Result<_>>()?))
    }

    /// Whether this one stays.
    #[must_use]
    pub fn holds(&self, name: &str) -> bool {
        self.0.iter().any(|pattern| pattern.matches(name))
    }
}
