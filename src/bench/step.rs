//! How long does one training step of a student take?

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use candle_core::{Device, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};

use super::clock;
use super::shape::{StepGraph, StepShape, at_least_one};
use crate::error::{Error, Result};
use crate::eval::cost::peak_rss_mib;
use crate::model::{CausalLm, LoopedConfig, LoopedTransformer};
use crate::nn::head::{HeadWeights, TeacherOutput, compare, mean};
use crate::nn::recompute::{Link, recompute_chain};
use crate::nn::state_error::{StateComparison, StateScale, compare_states};
use crate::nn::{Params, RopeTable, Tape, Value};
use crate::train::{GradientSum, Interrupt, Optimizer, OptimizerConfig};

/// States that are given at most: one for each repetition up to here, then from the first again.
const GIVEN_STATES: usize = 8;
/// Spread of the student's matrices.
const SPREAD: f32 = 0.02;
/// All that is random follows from it.
const SEED: u64 = 0;

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// What was computed.
    #[serde(flatten)]
    pub shape: StepShape,
    /// And how.
    pub graph: StepGraph,
    /// Steps timed.
    pub steps: usize,
    /// Threads of the arithmetic.
    pub threads: usize,
    /// Median of a step.
    pub wall_s: f64,
    /// Median of the processor time of a step, over all threads; none where the system does not
    /// tell.
    pub cpu_s: Option<f64>,
    /// Tokens of a step over `wall_s`.
    pub tokens_per_s: f64,
    /// Most memory the process ever held; none where the system does not tell.
    pub peak_rss_mib: Option<f64>,
    /// Estimated arithmetic of a step, [`StepShape::flops`] in 1e9.
    pub gflop: f64,
    /// Loss of the last step.
    pub loss: f64,
}

/// Times `steps` training steps on fixed random data: a student trained by cross entropy with
/// random tokens, by KL with given logits, and after every repetition by the relative squared
/// error with a given state; the gradient is clipped to 1, and AdamW steps every parameter.
///
/// A repetition past the eighth reads a given state again, as that of a teacher of few layers:
/// given states are data, which would otherwise grow with N and hide what the graph takes.
///
/// # Errors
/// No such student can be built, the device fails, or the interrupt is set.
pub fn time_step(
    shape: &StepShape,
    graph: StepGraph,
    steps: usize,
    device: &Device,
    interrupt: &Interrupt,
) -> Result<StepReport> {
    at_least_one("steps", steps)?;
    let gflop = shape.flops(graph)? / 1e9;
    let mut student = Student::new(shape, graph, device)?;
    let mut loss = f64::NAN;
    let timing = clock::time(steps, interrupt, || {
        loss = student.step()?;
        Ok(device.synchronize()?)
    })?;
    if !loss.is_finite() {
        return Err(Error::input(format!(
            "the loss of {} repetitions is not finite, expected a number",
            shape.repetitions
        ))
        .hint("make --repetitions or --width smaller"));
    }
    Ok(StepReport {
        shape: *shape,
        graph,
        steps,
        threads: rayon::current_num_threads(),
        wall_s: timing.wall_s,
        cpu_s: timing.cpu_s,
        tokens_per_s: shape.step_tokens() as f64 / timing.wall_s,
        peak_rss_mib: peak_rss_mib(),
        gflop,
        loss,
    })
}

/// One student in training, and what it is shown at every step.
struct Student {
    graph: StepGraph,
    params: Params,
    optimizer: Optimizer,
    core: Rc<Core>,
    /// (B, T) u32.
    ids: Tensor,
    targets: Vec<u32>,
    logits: TeacherOutput,
}

/// What a repetition needs, also when it is computed anew.
struct Core {
    model: LoopedTransformer,
    table: RopeTable,
    /// States to be like, each (B, T, D).
    given: Vec<Tensor>,
    /// Sum over repetitions of the relative squared error.
    hidden: Cell<f64>,
}

impl Student {
    fn new(shape: &StepShape, graph: StepGraph, device: &Device) -> Result<Self> {
        let config = shape.student()?;
        let draw = Draw { rng: RefCell::new(ChaCha8Rng::seed_from_u64(SEED)), device };
        let params = draw.params(&config)?;
        let model = LoopedTransformer::new(&config, &params)?;
        let clipped = OptimizerConfig { clip_norm: 1.0, ..OptimizerConfig::default() };
        let (batch, tokens) = (shape.batch, shape.tokens);
        let ids = Tensor::from_vec(draw.tokens(shape), (batch, tokens), device)?;
        let targets = draw.tokens(shape);
        let given = (0..shape.repetitions.min(GIVEN_STATES))
            .map(|_| draw.normal(&[batch, tokens, shape.width], 1.0))
            .collect::<Result<_>>()?;
        let logits = TeacherOutput::Logits(draw.normal(&[batch, tokens, shape.vocab], 1.0)?);
        let table = model.frame().rope(0, tokens);
        Ok(Self {
            graph,
            optimizer: Optimizer::new(&clipped, &params)?,
            params,
            core: Rc::new(Core { model, table, given, hidden: Cell::default() }),
            ids,
            targets,
            logits,
        })
    }

    /// Forward, back, and one step of the optimizer; gives the loss.
    fn step(&mut self) -> Result<f64> {
        let tape = Tape::recording();
        let tape = if self.graph.is_reference() { tape.with_reference() } else { tape };
        let (core, frame) = (&self.core, self.core.model.frame());
        core.hidden.set(0.0);
        let embedded = frame.embed(&tape, &self.ids)?;
        let last = self.repeat(&tape, &embedded)?;
        let hidden = frame.normed(&tape, &last)?;
        let weights = HeadWeights { cross_entropy: 1.0, kl: 1.0, temperature: 1.0 };
        let (logits, targets) = (Some(&self.logits), &self.targets);
        let found = compare(&tape, &hidden, frame.head(), logits, targets, weights)?;
        let outputs = mean(&found.cross_entropy) + mean(&found.kl);
        let mut sum = GradientSum::new();
        sum.add(&self.params, &mut tape.backward()?)?;
        let norm = sum.norm()?;
        self.optimizer.step(&self.params, &sum, norm, OptimizerConfig::default().lr)?;
        // A repetition that is computed anew is compared on the way back.
        Ok(outputs + core.hidden.get())
    }

    /// The state after the last repetition, each compared with its given one.
    fn repeat(&self, tape: &Tape, embedded: &Value) -> Result<Value> {
        let repetitions = 0..self.core.model.config().repetitions;
        if self.graph.recomputes() {
            let core = self.core.clone();
            let link: Link = Rc::new(move |tape, at, state| core.repeat(tape, at, state));
            return recompute_chain(tape, embedded, repetitions, &link);
        }
        repetitions
            .into_iter()
            .try_fold(embedded.clone(), |state, at| self.core.repeat(tape, at, &state))
    }
}

impl Core {
    fn repeat(&self, tape: &Tape, repetition: usize, state: &Value) -> Result<Value> {
        let states = self.model.repeat(tape, state, repetition, &self.table)?;
        let state = states.into_iter().next_back();
        let state = state.ok_or_else(|| Error::internal("a core without layers"))?;
        if tape.is_recording() {
            let how = StateComparison {
                squared: 1.0,
                cosine: 0.0,
                scale: StateScale::Raw,
                skip_tokens: 0,
            };
            let given = &self.given[repetition % self.given.len()];
            let terms = compare_states(tape, &state, given, &how, 1.0)?;
            self.hidden.set(self.hidden.get() + terms.squared);
        }
        Ok(state)
    }
}

/// Draws what is random, in a fixed order.
struct Draw<'a> {
    rng: RefCell<ChaCha8Rng>,
    device: &'a Device,
}

impl Draw<'_> {
    fn normal(&self, shape: &[usize], spread: f32) -> Result<Tensor> {
        let rng = &mut *self.rng.borrow_mut();
        let normal = StandardNormal.sample_iter(rng);
        let values: Vec<f32> =
            normal.take(shape.iter().product()).map(|value: f32| value * spread).collect();
        Ok(Tensor::from_vec(values, shape, self.device)?)
    }

    /// B T of them.
    fn tokens(&self, shape: &StepShape) -> Vec<u32> {
        let mut rng = self.rng.borrow_mut();
        (0..shape.step_tokens()).map(|_| rng.random_range(0..shape.vocab as u32)).collect()
    }

    /// Norms of 1 and normal matrices, all of them trained.
    fn params(&self, config: &LoopedConfig) -> Result<Params> {
        let mut params = Params::new();
        for (name, shape) in config.tensors() {
            let values = if shape.len() == 1 {
                Tensor::from_vec(vec![1.0_f32; shape[0]], shape, self.device)?
            } else {
                self.normal(&shape, SPREAD)?
            };
            params.insert(&name, &values, true)?;
        }
        Ok(params)
    }
}
