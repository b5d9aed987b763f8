//! A small language for students and what they learn.
//!
//! ```text
//! let training = student().core(2).repetitions(3).gate(JointPolicy::Ponder).learning(free_running().exits(0.7, 1));
//! let loss = training.step();
//! ```

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use factorexe::autograd::{Params, Tape};
use factorexe::context::Context;
use factorexe::data::{Batch, IGNORED};
use factorexe::distill::*;
use factorexe::halting::JointPolicy;
use factorexe::model::*;
use factorexe::train::{Loss, Objective, StepContext};

use super::objectives::ObjectiveBuilder;
use super::{difference, random, random_params, tiny_config};

/// Two orders of summing, through a stack of layers.
pub const F32_STACK: f32 = 2e-4;

/// Central differences in f32 of a loss near 1: half the digits are lost.
const F32_DIFFERENCES: f64 = 2e-2;

/// A deep model of random numbers, and its tensors by name.
#[derive(Clone)]
pub struct Teacher {
    pub model: Transformer,
    pub tensors: BTreeMap<String, Tensor>,
}

impl Teacher {
    /// Of [`tiny_config`].
    pub fn random(layers: usize) -> Self {
        let config = tiny_config(layers);
        Self::of(&config, random_params(&config.tensors()).tensors())
    }

    pub fn of(config: &TransformerConfig, tensors: BTreeMap<String, Tensor>) -> Self {
        Self { model: Transformer::new(config, &tensors).unwrap(), tensors }
    }
}

/// Three rows of twenty tokens.
pub fn batch(seed: u32) -> Batch {
    let token = |i: u32| (i * i * 5 + i * 3 + seed * 7) % 37;
    Batch {
        inputs: (0..60).map(token).collect(),
        targets: (1..61).map(token).collect(),
        rows: 3,
        columns: 20,
        ..Batch::default()
    }
}

/// The batch of [`Training::step`] with no target at every second place, from the first on.
pub fn half_batch() -> Batch {
    let mut batch = batch(2);
    batch.targets.iter_mut().step_by(2).for_each(|target| *target = IGNORED);
    batch
}

/// What an initialisation reads, each (B, T).
pub fn calibration() -> Vec<Tensor> {
    (0..6).map(|seed| batch(seed + 50).input_tensor(&Device::Cpu).unwrap()).collect()
}

/// The logits of a model after so many repetitions, (B, T, V).
pub fn logits(model: &dyn CausalLm, ids: &Tensor, repetitions: usize) -> Tensor {
    let states = model.states(&Tape::off(), ids, repetitions).unwrap();
    model.embedding_and_head().logits(states[states.len() - 1].tensor()).unwrap()
}

/// The middle of a run.
pub fn step_context() -> StepContext {
    StepContext::new(9, 5, 10, 0)
}

/// A student of a random teacher of six layers, 16 wide: prelude 1, core 1 x 2, coda 1, all of it
/// trained.
pub fn student() -> Student {
    let config = StudentConfig {
        prelude_layers: Layers::Count(1),
        core_layers: 1,
        repetitions: 2,
        coda_layers: Layers::Count(1),
        frozen: Vec::new(),
        ..StudentConfig::default()
    };
    Student { config, gate: None, replaced: Vec::new() }
}

#[derive(Clone)]
pub struct Student {
    pub config: StudentConfig,
    gate: Option<JointPolicy>,
    replaced: Vec<(String, Tensor)>,
}

impl Student {
    pub fn prelude(mut self, layers: usize) -> Self {
        self.config.prelude_layers = Layers::Count(layers);
        self
    }

    pub fn core(mut self, layers: usize) -> Self {
        self.config.core_layers = layers;
        self
    }

    pub fn repetitions(mut self, repetitions: usize) -> Self {
        self.config.repetitions = repetitions;
        self
    }

    pub fn coda(mut self, layers: usize) -> Self {
        self.config.coda_layers = Layers::Count(layers);
        self
    }

    pub fn lora(self, rank: usize) -> Self {
        self.relaxed(Relaxation::Lora { rank })
    }

    pub fn relaxed(mut self, relaxation: Relaxation) -> Self {
        self.config.relaxation = relaxation;
        self
    }

    pub fn injection(mut self, injection: Injection) -> Self {
        self.config.injection = injection;
        self
    }

    pub fn state_norm(mut self) -> Self {
        self.config.state_norm = StateNorm::Norm;
        self
    }

    pub fn init(mut self, init: Init) -> Self {
        self.config.init = init;
        self
    }

    /// Half as wide as its teacher.
    pub fn narrow(mut self) -> Self {
        self.config.width = Some(tiny_config(1).width / 2);
        self
    }

    pub fn frozen(mut self, names: &[&str]) -> Self {
        self.config.frozen = names.iter().map(|&name| name.to_owned()).collect();
        self
    }

    /// With a gate that learns together with it.
    pub fn gate(mut self, policy: JointPolicy) -> Self {
        self.gate = Some(policy);
        self
    }

    /// With other numbers in a parameter than it starts as.
    pub fn with(mut self, name: &str, values: Tensor) -> Self {
        self.replaced.push((name.to_owned(), values));
        self
    }

    /// How `teacher` is factored.
    pub fn looped(&self, teacher: &Teacher) -> LoopedConfig {
        let seen = calibration();
        let mut looped = find_split(&teacher.model, &self.config, &seen, &Context::cpu()).unwrap();
        looped.gate = self.gate;
        looped
    }

    /// As it starts from `teacher`.
    pub fn params(&self, teacher: &Teacher) -> (LoopedConfig, Params) {
        let looped = self.looped(teacher);
        let (model, tensors, context) = (&teacher.model, &teacher.tensors, Context::cpu());
        let seen = calibration();
        let params =
            student_params(model, tensors, &looped, &self.config, &seen, 7, &context).unwrap();
        for (name, values) in &self.replaced {
            params.set(name, values).unwrap();
        }
        (looped, params)
    }

    /// As it starts, ready to run.
    pub fn model(&self, teacher: &Teacher) -> LoopedTransformer {
        let (looped, params) = self.params(teacher);
        LoopedTransformer::new(&looped, &params).unwrap()
    }

    /// The same as tensors by name.
    pub fn tensors(&self, teacher: &Teacher) -> (LoopedConfig, BTreeMap<String, Tensor>) {
        let (looped, params) = self.params(teacher);
        (looped, params.tensors())
    }

    /// Beside the random teacher of six layers.
    pub fn learning(&self, objective: impl Into<DistillConfig>) -> Training {
        self.learning_from(Teacher::random(6), objective)
    }

    pub fn learning_from(&self, teacher: Teacher, objective: impl Into<DistillConfig>) -> Training {
        self.try_learning(teacher, objective.into()).unwrap()
    }

    pub fn try_learning(
        &self,
        teacher: Teacher,
        objective: DistillConfig,
    ) -> factorexe::Result<Training> {
        let (looped, params) = self.params(&teacher);
        Training::new(teacher, &looped, params, objective)
    }
}

/// A student at its teacher's side.
pub struct Training {
    pub objective: Distillation<'static>,
    pub params: Params,
}

impl Training {
    pub fn new(
        teacher: Teacher,
        looped: &LoopedConfig,
        params: Params,
        config: DistillConfig,
    ) -> factorexe::Result<Self> {
        let made = LoopedTransformer::new(looped, &params)?;
        let objective = Distillation::new(teacher.model, made, params.clone(), config)?;
        Ok(Self { objective, params })
    }

    pub fn student(&self) -> &LoopedTransformer {
        self.objective.student()
    }

    /// Loss and gradients of one batch in the middle of a run.
    pub fn loss(&self, batch: &Batch) -> Loss {
        self.loss_at(batch, &step_context())
    }

    pub fn loss_at(&self, batch: &Batch, context: &StepContext) -> Loss {
        self.objective.loss(batch, &mut context.clone()).unwrap()
    }

    /// The same of one batch for all.
    pub fn step(&self) -> Loss {
        self.loss(&batch(2))
    }

    /// Plain descent: every trainable parameter a little along its gradient.
    pub fn descend(&self, loss: &Loss, rate: f64) {
        for (name, var) in self.params.trainable() {
            let Some(gradient) = loss.gradients.get(name) else { continue };
            let moved = (var.as_tensor() - (gradient * rate).unwrap()).unwrap();
            var.set(&moved.detach()).unwrap();
        }
    }

    /// [`Self::step`] before and after so many steps of descent by it.
    pub fn learned(&self, steps: usize) -> [Loss; 2] {
        let first = self.step();
        for _ in 0..steps {
            self.descend(&self.step(), 0.02);
        }
        [first, self.step()]
    }

    pub fn assert_differences(&self, batch: &Batch) {
        assert_differences(&self.objective, batch, &self.params);
    }
}

/// The gradient of every parameter against central differences along a random direction.
pub fn assert_differences(objective: &dyn Objective, batch: &Batch, params: &Params) {
    let loss = || objective.loss(batch, &mut step_context()).unwrap();
    let first = loss();
    for (index, (name, var)) in params.trainable().enumerate() {
        let size = size(&first, name);
        assert!(size.is_finite() && size > 0.0, "the gradient of {name} is {size}");
        let direction = random(700 + index as u64, var.dims());
        let slope = (&first.gradients[name] * &direction).unwrap().sum_all().unwrap();
        let slope = slope.to_scalar::<f32>().unwrap();
        let before = var.as_tensor().copy().unwrap();
        let at = |step: f64| {
            var.set(&(&before + &(&direction * step).unwrap()).unwrap()).unwrap();
            loss().total
        };
        let step = 2e-3;
        let numeric = (at(step) - at(-step)) / (2.0 * step);
        var.set(&before).unwrap();
        let error = (numeric - f64::from(slope)).abs();
        let allowed = F32_DIFFERENCES * (f64::from(slope).abs() + 0.05);
        assert!(error < allowed, "{name}: slope {slope}, differences {numeric}");
    }
}

/// Losses, terms and gradients that are the same but for rounding.
#[track_caller]
pub fn assert_near(found: &Loss, expected: &Loss) {
    let near = |a: f64, b: f64, tolerance: f64| (a - b).abs() < tolerance * b.abs().max(1.0);
    assert!(near(found.total, expected.total, 1e-5), "{} {}", found.total, expected.total);
    assert!(found.terms.keys().eq(expected.terms.keys()), "{found:?} {expected:?}");
    for (name, value) in &expected.terms {
        assert!(near(found.terms[name], *value, 1e-4), "{name}: {} {value}", found.terms[name]);
    }
    assert_eq!(found.gradients.len(), expected.gradients.len());
    for (name, expected) in &expected.gradients {
        let error = difference(&found.gradients[name], expected);
        assert!(error < F32_STACK, "{name} is off by {error}");
    }
}

/// A step whose repetitions are recomputed is one whose activations are stored.
#[track_caller]
pub fn assert_recomputes(student: &Student, objective: &ObjectiveBuilder) {
    let step = |recompute| student.learning(objective.clone().recompute(recompute)).step();
    assert_near(&step(Recompute::Always), &step(Recompute::Never));
}

/// The largest number of a gradient; 0 where there is none.
pub fn size(loss: &Loss, name: &str) -> f32 {
    let gradient = loss.gradients.get(name);
    gradient.map_or(0.0, |g| g.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap())
}
