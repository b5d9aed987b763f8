//! Initial parameters of the student.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};

use super::load::{Loaded, on};
use super::options::Options;
use crate::autograd::Params;
use crate::distill::init::params::{Frozen, params};
use crate::distill::{MAP, StudentConfig, student_params};
use crate::error::Result;
use crate::model::LoopedConfig;

/// Parameters of a student that is initialised from its teacher.
pub(super) fn initial(
    teacher: &Loaded,
    config: &LoopedConfig,
    student: &StudentConfig,
    calibration: &[Tensor],
    seed: u64,
    options: &Options,
) -> Result<Params> {
    let tensors = on(&teacher.checkpoint.tensors, options.context.device())?;
    student_params(
        (teacher.deep()?, &tensors),
        config,
        student,
        calibration,
        seed,
        &options.context,
    )
}

/// Parameters whose values a checkpoint is about to replace: trained ones are zero, frozen ones are
/// copied from the teacher. None when a frozen one is not a copy of the teacher's.
pub(super) fn to_restore(
    teacher: &Loaded,
    config: &LoopedConfig,
    student: &StudentConfig,
    options: &Options,
) -> Result<Option<Params>> {
    let frozen = Frozen::new(student)?;
    let (wide, width) = (teacher.model.lm().base().width, config.base.width);
    let mut tensors = BTreeMap::new();
    for (name, shape) in config.tensors() {
        let values = if frozen.matches(&name) {
            let copied = teacher_name(&name, config).filter(|_| wide == width);
            let Some(tensor) = copied.and_then(|name| teacher.checkpoint.tensors.get(&name)) else {
                return Ok(None);
            };
            tensor.clone()
        } else {
            Tensor::zeros(shape, DType::F32, &Device::Cpu)?
        };
        tensors.insert(name, values);
    }
    let mut params = params(&tensors, config, student, options.context.device())?;
    if wide != width {
        params.insert(
            MAP,
            &Tensor::zeros((wide, width), DType::F32, options.context.device())?,
            true,
        )?;
    }
    Ok(Some(params))
}

/// Name of the teacher's tensor that a tensor outside the core is a copy of.
fn teacher_name(name: &str, config: &LoopedConfig) -> Option<String> {
    let (part, rest) = name.split_once('.')?;
    let first = match part {
        "core" => return None,
        "prelude" => 0,
        "coda" => config.base.layers - config.coda_layers,
        _ => return Some(name.to_owned()),
    };
    let (layer, rest) = rest.split_once('.')?;
    Some(format!("layers.{}.{rest}", first + layer.parse::<usize>().ok()?))
}
