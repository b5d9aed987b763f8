//! Unrolling: the unshared stack that computes the same as a student.

use std::collections::BTreeMap;

use candle_core::Tensor;

use super::config::TransformerConfig;
use super::looped_config::LoopedConfig;
use crate::error::{Error, Result};

/// One application of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Application {
    part: &'static str,
    layer: usize,
    /// The repetition whose relaxation it has; in the core alone.
    repetition: Option<usize>,
    /// Its layer in the teacher's stack, which determines its attention window.
    teacher_layer: usize,
}

impl LoopedConfig {
    fn applied(&self, repetitions: usize) -> impl Iterator<Item = Application> {
        let part = |part, layers, first, repetition| {
            (0..layers).map(move |layer| Application {
                part,
                layer,
                repetition,
                teacher_layer: first + layer,
            })
        };
        let (prelude, coda) = (self.prelude_layers, self.coda_layers);
        let core = self.core_layers;
        let trained = self.repetitions - 1;
        // Past the trained repetitions the last relaxation is used.
        let middle = (0..repetitions).map(move |r| Some(r.min(trained)));
        part("prelude", prelude, 0, None)
            .chain(middle.flat_map(move |repetition| part("core", core, prelude, repetition)))
            .chain(part("coda", coda, self.base.layers - coda, None))
    }

    /// The teacher's layer of each application of a layer, in order.
    #[must_use]
    pub fn applied_layers(&self, repetitions: usize) -> Vec<usize> {
        self.applied(repetitions).map(|application| application.teacher_layer).collect()
    }

    /// Configuration of the unshared stack that computes the same at `repetitions`.
    #[must_use]
    pub fn unrolled(&self, repetitions: usize) -> TransformerConfig {
        let layers = self.applied_layers(repetitions);
        let windowed: Vec<bool> =
            layers.iter().map(|&layer| self.base.window(layer).is_some()).collect();
        let sliding_window = self.base.sliding_window.filter(|_| windowed.contains(&true));
        TransformerConfig {
            layers: layers.len(),
            sliding_window,
            windowed_layers: (sliding_window.is_some() && windowed.contains(&false))
                .then_some(windowed),
            ..self.base.clone()
        }
    }
}

/// The tensors of [`LoopedConfig::unrolled`] from those of the student: low-rank corrections are
/// merged into their matrices, W + B A.
///
/// # Errors
/// A tensor is missing or has another shape, or the student has an injection or a state norm.
pub fn unroll(
    config: &LoopedConfig,
    tensors: &BTreeMap<String, Tensor>,
    repetitions: usize,
) -> Result<BTreeMap<String, Tensor>> {
    if !config.injection.is_none() {
        return Err(Error::input(format!(
            "this student cannot be unrolled: its repetitions have an injection (injection = \"{}\"), \
             and a layer of an unshared stack reads the previous layer alone",
            config.injection.name()
        ))
        .hint("export it without --unrolled, or distil one with student.injection = \"none\""));
    }
    if !config.state_norm.is_none() {
        return Err(Error::input(format!(
            "this student cannot be unrolled: its state is normed between repetitions \
             (state_norm = \"{}\"), and an unshared stack has no norm between its layers",
            config.state_norm.name()
        ))
        .hint("export it without --unrolled, or distil one with student.state_norm = \"none\""));
    }
    let find = |name: &str| {
        let tensor = tensors.get(name).cloned();
        tensor.ok_or_else(|| Error::input(format!("tensor `{name}` is missing from the student")))
    };
    let mut unrolled = BTreeMap::new();
    for (name, _) in config.base.outer_tensors() {
        unrolled.insert(name.to_owned(), find(name)?);
    }
    for (index, application) in config.applied(repetitions).enumerate() {
        for (tensor, _) in config.base.layer_tensors() {
            let name = format!("{}.{}.{tensor}", application.part, application.layer);
            let value = match application.repetition {
                Some(repetition) => relaxed(tensors, &name, repetition, &find)?,
                None => find(&name)?,
            };
            unrolled.insert(format!("layers.{index}.{tensor}"), value);
        }
    }
    Ok(unrolled)
}

/// The core's tensor `name` with the relaxation of `repetition`.
fn relaxed(
    tensors: &BTreeMap<String, Tensor>,
    name: &str,
    repetition: usize,
    find: &dyn Fn(&str) -> Result<Tensor>,
) -> Result<Tensor> {
    let (stem, kind) = name.rsplit_once('.').unwrap_or((name, "weight"));
    if let Some(own) = tensors.get(&format!("{stem}.repetition.{repetition}.{kind}")) {
        return Ok(own.clone());
    }
    let shared = find(name)?;
    let part = |part: &str| format!("{stem}.lora.{repetition}.{part}");
    match tensors.get(&part("a")).filter(|_| kind == "weight") {
        Some(a) => Ok((shared + find(&part("b"))?.matmul(a)?)?),
        None => Ok(shared),
    }
}
