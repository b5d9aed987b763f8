//! Which unshared stack computes what a student computes?

use std::collections::BTreeMap;

use candle_core::Tensor;

use super::config::TransformerConfig;
use super::looped_config::LoopedConfig;
use crate::error::{Error, Result};

/// One application of a layer: the layer that is applied, and as what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Application {
    part: &'static str,
    layer: usize,
    /// Whose corrections and vectors it has; only in the core.
    repetition: Option<usize>,
    /// Its place in the published stack, which decides its attention window.
    published: usize,
}

impl LoopedConfig {
    fn applied(&self, repetitions: usize) -> impl Iterator<Item = Application> {
        let part = |part, layers, first, repetition| {
            (0..layers).map(move |layer| Application {
                part,
                layer,
                repetition,
                published: first + layer,
            })
        };
        let (prelude, coda) = (self.prelude_layers, self.coda_layers);
        let core = self.core_layers;
        let trained = self.repetitions - 1;
        // Past the last repetition trained, its relaxation goes on.
        let middle = (0..repetitions).map(move |r| Some(r.min(trained)));
        part("prelude", prelude, 0, None)
            .chain(middle.flat_map(move |repetition| part("core", core, prelude, repetition)))
            .chain(part("coda", coda, self.base.layers - coda, None))
    }

    /// The place in the published stack that each application of a layer takes, in order.
    #[must_use]
    pub fn applied_layers(&self, repetitions: usize) -> Vec<usize> {
        self.applied(repetitions).map(|application| application.published).collect()
    }

    /// The unshared decoder that computes the same at `repetitions`.
    #[must_use]
    pub fn unrolled(&self, repetitions: usize) -> TransformerConfig {
        let places = self.applied_layers(repetitions);
        let windowed: Vec<bool> =
            places.iter().map(|&layer| self.base.window(layer).is_some()).collect();
        let some = self.base.sliding_window.filter(|_| windowed.contains(&true));
        TransformerConfig {
            layers: places.len(),
            sliding_window: some,
            windowed_layers: (some.is_some() && windowed.contains(&false)).then_some(windowed),
            ..self.base.clone()
        }
    }
}

/// The tensors of [`LoopedConfig::unrolled`], from those of the student: corrections merged into
/// their matrices, W + B A, and the vectors of each repetition in their places.
///
/// # Errors
/// A tensor is missing or has another shape, or the student has an injection or a norm between its
/// repetitions.
pub fn unroll(
    config: &LoopedConfig,
    tensors: &BTreeMap<String, Tensor>,
    repetitions: usize,
) -> Result<BTreeMap<String, Tensor>> {
    if !config.injection.is_none() {
        return Err(Error::input(format!(
            "this student cannot be unrolled: its repetitions hear the prelude (injection = \"{}\"), \
             and layers of a plain stack hear only the layer before them",
            config.injection.name()
        ))
        .hint("export it without --unrolled, or distil one with student.injection = \"none\""));
    }
    if !config.state_norm.is_none() {
        return Err(Error::input(format!(
            "this student cannot be unrolled: its state is normed between repetitions \
             (state_norm = \"{}\"), and layers of a plain stack add to a state that nothing else \
             changes",
            config.state_norm.name()
        ))
        .hint("export it without --unrolled, or distil one with student.state_norm = \"none\""));
    }
    let find = |name: &str| {
        let found = tensors.get(name).cloned();
        found.ok_or_else(|| Error::input(format!("tensor `{name}` is missing from the student")))
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

/// The core's tensor `name` as `repetition` applies it.
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
