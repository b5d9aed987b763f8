//! What does the student start as?

use std::collections::BTreeMap;

use candle_core::Tensor;

use super::Options;
use super::load::{Loaded, on};
use crate::distill::{StudentConfig, student_tensors};
use crate::error::{Error, Result};
use crate::model::LoopedConfig;
use crate::nn::Params;

/// Parameters of a student that starts from its teacher.
pub(super) fn initial(
    teacher: &Loaded,
    config: &LoopedConfig,
    student: &StudentConfig,
    calibration: &[Tensor],
    seed: u64,
    options: &Options,
) -> Result<Params> {
    let tensors = on(&teacher.checkpoint.tensors, &options.device)?;
    let start = student_tensors(
        teacher.deep()?,
        &tensors,
        config,
        student,
        calibration,
        seed,
        options.observer,
        &|| options.interrupt.is_set(),
    )?;
    params(&start, config, student, options)
}

/// Parameters whose values a checkpoint is about to replace: those that are trained are zero,
/// those that are not are the teacher's. None when a frozen one is not simply the teacher's.
pub(super) fn to_restore(
    teacher: &Loaded,
    config: &LoopedConfig,
    student: &StudentConfig,
    options: &Options,
) -> Result<Option<Params>> {
    let frozen = Frozen::new(student)?;
    let mut tensors = BTreeMap::new();
    for (name, shape) in config.tensors() {
        let values = if frozen.holds(&name) {
            let own = of_teacher(&name, config);
            let Some(found) = own.and_then(|own| teacher.checkpoint.tensors.get(&own)) else {
                return Ok(None);
            };
            found.clone()
        } else {
            Tensor::zeros(shape, candle_core::DType::F32, &candle_core::Device::Cpu)?
        };
        tensors.insert(name, values);
    }
    params(&tensors, config, student, options).map(Some)
}

/// The teacher's tensor that one outside the core is a copy of.
fn of_teacher(name: &str, config: &LoopedConfig) -> Option<String> {
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

fn params(
    tensors: &BTreeMap<String, Tensor>,
    config: &LoopedConfig,
    student: &StudentConfig,
    options: &Options,
) -> Result<Params> {
    let frozen = Frozen::new(student)?;
    let mut params = Params::new();
    for (name, _) in config.tensors() {
        let values = tensors
            .get(&name)
            .ok_or_else(|| Error::internal(format!("the student starts without `{name}`")))?;
        params.insert(&name, &values.to_device(&options.device)?, !frozen.holds(&name))?;
    }
    Ok(params)
}

/// Which parameters stay as they start.
struct Frozen(Vec<glob::Pattern>);

impl Frozen {
    fn new(student: &StudentConfig) -> Result<Self> {
        let pattern = |text: &String| {
            glob::Pattern::new(text).map_err(|error| {
                Error::input(format!("`{text}` is no pattern of names: {error}"))
                    .at("student.frozen")
            })
        };
        Ok(Self(student.frozen.iter().map(pattern).collect::<Result<_>>()?))
    }

    fn holds(&self, name: &str) -> bool {
        self.0.iter().any(|pattern| pattern.matches(name))
    }
}
