//! Speed of one training step of a student.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use candle_core::{Device, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};

use super::clock::{self, Rounds};
use super::shape::{StepGraph, StepShape, at_least_one};
use crate::autograd::{Link, Params, Tape, Value, recompute_chain};
use crate::context::Context;
use crate::data::Batch;
use crate::error::{Error, Result};
use crate::eval::cost::peak_rss_mib;
use crate::losses::{
    HeadWeights, StateComparison, StateScale, TeacherOutput, compare, compare_states, mean,
};
use crate::model::{CausalLm, LoopedConfig, LoopedTransformer};
use crate::nn::RopeTable;
use crate::train::{
    GradientSum, Loss, Objective, Optimizer, OptimizerConfig, StepContext, in_shards,
};

/// Most target states: one for each repetition up to here, then the first again.
const GIVEN_STATES: usize = 8;
/// Standard deviation of the student's matrices.
const SPREAD: f32 = 0.02;
/// Seed of all random values.
const SEED: u64 = 0;

/// The measured speed of a training step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// The sizes of the student and the batch.
    #[serde(flatten)]
    pub shape: StepShape,
    /// The graph of the gradients.
    pub graph: StepGraph,
    /// Steps timed.
    pub steps: usize,
    /// Threads of the arithmetic.
    pub threads: usize,
    /// Median wall-clock time of a step.
    pub wall_s: f64,
    /// How the times of all of them spread.
    pub rounds: Rounds,
    /// Median processor time of a step, over all threads; none where the system does not report it.
    pub cpu_s: Option<f64>,
    /// Tokens of a step over `wall_s`.
    pub tokens_per_s: f64,
    /// Peak resident memory of the process; none where the system does not report it.
    pub peak_rss_mib: Option<f64>,
    /// Estimated arithmetic of a step, [`StepShape::flops`] in 1e9.
    pub gflop: f64,
    /// Loss of the last step.
    pub loss: f64,
}

/// Times `steps` training steps on fixed random data. The loss is the cross entropy of random
/// targets, the KL divergence from fixed logits, and after every repetition the relative squared
/// error from a fixed target state; the gradient is clipped to 1, and AdamW updates every parameter.
///
/// Repetitions past the eighth use the target states of the first ones again: target states are
/// data, which would otherwise grow with N and hide the memory of the graph.
///
/// # Errors
/// No such student can be built, the device fails, or the context is cancelled.
pub fn time_step(
    shape: &StepShape,
    graph: StepGraph,
    steps: usize,
    context: &Context,
) -> Result<StepReport> {
    at_least_one("steps", steps)?;
    let gflop = shape.flops(graph)? / 1e9;
    let device = context.device();
    let mut student = Student::new(shape, graph, device)?;
    let mut loss = f64::NAN;
    let timing = clock::time(steps, context, || {
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
        rounds: timing.rounds,
        cpu_s: timing.cpu_s,
        tokens_per_s: shape.step_tokens() as f64 / timing.wall_s,
        peak_rss_mib: peak_rss_mib(),
        gflop,
        loss,
    })
}

/// A student in training, with the batch of every step.
struct Student {
    work: Work,
    optimizer: Optimizer,
    batch: Batch,
}

/// The objective: the losses of any rows of the batch.
struct Work {
    graph: StepGraph,
    params: Params,
    model: LoopedTransformer,
    /// The index of each row in the targets, by its tokens.
    rows: BTreeMap<Vec<u32>, usize>,
    /// Target states, each (B, T, D).
    target_states: Vec<Tensor>,
    /// Teacher logits, (B, T, V).
    logits: Tensor,
}

/// What a repetition needs in the forward pass and when it is recomputed.
struct Core {
    model: LoopedTransformer,
    table: RopeTable,
    /// Target states, each (rows, T, D).
    target_states: Vec<Tensor>,
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
        let (rows, columns) = (shape.batch, shape.tokens);
        let batch = Batch {
            inputs: draw.tokens(shape),
            targets: draw.tokens(shape),
            rows,
            columns,
            ..Batch::default()
        };
        let target_states = (0..shape.repetitions.min(GIVEN_STATES))
            .map(|_| draw.normal(&[rows, columns, shape.width], 1.0))
            .collect::<Result<_>>()?;
        let logits = draw.normal(&[rows, columns, shape.vocab], 1.0)?;
        let places = batch.inputs.chunks(columns).map(<[u32]>::to_vec).zip(0..);
        let (optimizer, rows) = (Optimizer::new(&clipped, &params)?, places.collect());
        Ok(Self {
            work: Work { graph, params, model, rows, target_states, logits },
            optimizer,
            batch,
        })
    }

    /// Forward pass, backward pass and one step of the optimizer; returns the loss.
    fn step(&mut self) -> Result<f64> {
        let shards = in_shards(&self.work, &self.batch, &StepContext::new(SEED, 0, 1, 0))?;
        let (mut sum, mut loss) = (GradientSum::new(), 0.0);
        let share = 1.0 / shards.len() as f64;
        for mut shard in shards {
            loss += share * shard.total;
            sum.add(&self.work.params, &mut shard.gradients)?;
        }
        let norm = sum.norm()?;
        self.optimizer.step(&self.work.params, &sum, norm, OptimizerConfig::default().lr)?;
        Ok(loss)
    }
}

impl Objective for Work {
    fn params(&self) -> &Params {
        &self.params
    }

    fn loss(&self, batch: &Batch, _: &mut StepContext) -> Result<Loss> {
        let tape = Tape::recording();
        let tape = if self.graph.is_reference() { tape.with_reference() } else { tape };
        let embedding_and_head = self.model.embedding_and_head();
        let first = self.rows.get(&batch.inputs[..batch.columns]).copied();
        let first = first.ok_or_else(|| Error::internal("a row without targets"))?;
        let rows_of = |tensor: &Tensor| Ok::<_, Error>(tensor.narrow(0, first, batch.rows)?);
        let core = Rc::new(Core {
            model: self.model.clone(),
            table: embedding_and_head.rope(0, batch.columns),
            target_states: self.target_states.iter().map(rows_of).collect::<Result<_>>()?,
            hidden: Cell::default(),
        });
        let embedded =
            embedding_and_head.embed(&tape, &batch.input_tensor(embedding_and_head.device())?)?;
        let last = self.repeat(&tape, &core, &embedded)?;
        let hidden = embedding_and_head.normed(&tape, &last)?;
        let weights = HeadWeights { cross_entropy: 1.0, kl: 1.0, temperature: 1.0 };
        let logits = TeacherOutput::Logits(rows_of(&self.logits)?);
        let terms = compare(
            &tape,
            &hidden,
            embedding_and_head.head(),
            Some(&logits),
            &batch.targets,
            weights,
        )?;
        let outputs = mean(&terms.cross_entropy) + mean(&terms.kl);
        let gradients = tape.backward()?;
        // A repetition that is recomputed is compared in the backward pass.
        let total = outputs + core.hidden.get();
        Ok(Loss { total, terms: BTreeMap::new(), gradients, partial: false })
    }
}

impl Work {
    /// The state after the last repetition; each repetition is compared with its target state.
    fn repeat(&self, tape: &Tape, core: &Rc<Core>, embedded: &Value) -> Result<Value> {
        let repetitions = 0..self.model.config().repetitions;
        if self.graph.recomputes() {
            let core = core.clone();
            let link: Link =
                Rc::new(move |tape, repetition, state, _| core.repeat(tape, repetition, state));
            return recompute_chain(tape, embedded, &[], repetitions, &link);
        }
        repetitions
            .into_iter()
            .try_fold(embedded.clone(), |state, repetition| core.repeat(tape, repetition, &state))
    }
}

impl Core {
    fn repeat(&self, tape: &Tape, repetition: usize, state: &Value) -> Result<Value> {
        let states = self.model.repeat(tape, state, repetition, &self.table)?;
        let state = states.into_iter().next_back();
        let state = state.ok_or_else(|| Error::internal("a core without layers"))?;
        if tape.is_recording() {
            let comparison = StateComparison {
                squared: 1.0,
                cosine: 0.0,
                scale: StateScale::Raw,
                skip_tokens: 0,
            };
            let target = &self.target_states[repetition % self.target_states.len()];
            let terms = compare_states(tape, &state, target, &comparison, 1.0)?;
            self.hidden.set(self.hidden.get() + terms.squared);
        }
        Ok(state)
    }
}

/// Draws random values in a fixed order.
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

    /// Random tokens, B T of them.
    fn tokens(&self, shape: &StepShape) -> Vec<u32> {
        let mut rng = self.rng.borrow_mut();
        (0..shape.step_tokens()).map(|_| rng.random_range(0..shape.vocab as u32)).collect()
    }

    /// Parameters of the student: norms of 1 and normally distributed matrices, all trained.
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
