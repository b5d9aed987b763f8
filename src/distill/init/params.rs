//! The parameters of a new student, and which of them are frozen.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};

use super::project_width::{MAP, project_width};
use super::tensors::student_tensors;
use crate::autograd::Params;
use crate::context::Context;
use crate::distill::config::StudentConfig;
use crate::error::{Error, Result};
use crate::model::{CausalLm, LoopedConfig, Transformer};

/// Parameters of a student of `teacher`, whose tensors are `tensors`, on the device of
/// `context`, where `tensors` are too. Initializations that need text use the `calibration` tokens, each (B, T). The parameters of a student of reduced
/// width include [`MAP`].
///
/// # Errors
/// The factorization does not fit the teacher, a decomposition fails, or the user stopped it.
pub fn student_params(
    teacher: &Transformer,
    tensors: &BTreeMap<String, Tensor>,
    config: &LoopedConfig,
    student: &StudentConfig,
    calibration: &[Tensor],
    seed: u64,
    context: &Context,
) -> Result<Params> {
    let device = context.device();
    let initial = |teacher: &Transformer, tensors: &BTreeMap<String, Tensor>| {
        student_tensors(teacher, tensors, config, student, calibration, seed, context)
    };
    if config.base.width == teacher.base().width {
        return initial_params(&initial(teacher, tensors)?, config, student, device);
    }
    let projected = project_width(teacher, tensors, &config.base, calibration, context)?;
    let move_to_device =
        |(name, tensor): (&String, &Tensor)| Ok((name.clone(), tensor.to_device(device)?));
    let tensors: BTreeMap<String, Tensor> =
        projected.tensors.iter().map(move_to_device).collect::<Result<_>>()?;
    let initial = initial(&Transformer::new(&config.base, &tensors)?, &tensors)?;
    let mut params = initial_params(&initial, config, student, device)?;
    params.insert(MAP, &projected.map.to_device(device)?, true)?;
    Ok(params)
}

/// The tensors of [`LoopedConfig::tensors`] as parameters; those that match `student.frozen` are
/// frozen.
///
/// # Errors
/// A tensor is missing, or a pattern is malformed.
pub fn initial_params(
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
            .ok_or_else(|| Error::internal(format!("the student has no initial `{name}`")))?;
        params.insert(&name, &values.to_device(device)?, !frozen.matches(&name))?;
    }
    Ok(params)
}

/// The name patterns of frozen parameters.
pub struct Frozen(Vec<glob::Pattern>);

impl Frozen {
    /// The patterns of `student.frozen`.
    ///
    /// # Errors
    /// A pattern is malformed.
    pub fn new(student: &StudentConfig) -> Result<Self> {
        let pattern = |text: &String| {
            glob::Pattern::new(text).map_err(|error| {
                Error::input(format!("`{text}` is not a pattern of names: {error}"))
                    .at("student.frozen")
            })
        };
        Ok(Self(student.frozen.iter().map(pattern).collect::<Result<_>>()?))
    }

    /// Whether the parameter `name` is frozen.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        self.0.iter().any(|pattern| pattern.matches(name))
    }
}
