//! How long does one training step of a student take?

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use candle_core::{Device, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};

use super::clock;
use super::shape::{StepGraph, StepShape, at_least_one};
use crate::autograd::checkpoint::{Link, recompute_chain};
use crate::autograd::{Params, Tape, Value};
use crate::data::Batch;
use crate::error::{Error, Result};
use crate::eval::cost::peak_rss_mib;
use crate::losses::hidden::compare_states;
use crate::losses::output::compare;
use crate::losses::terms::{HeadWeights, StateComparison, StateScale, TeacherOutput, mean};
use crate::model::{CausalLm, LoopedConfig, LoopedTransformer};
use crate::nn::RopeTable;
use crate::train::{
    GradientSum, Interrupt, Loss, Objective, Optimizer, OptimizerConfig, StepContext, in_shards,
};

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
    work: Work,
    optimizer: Optimizer,
    batch: Batch,
}

/// What is learned of any rows of the batch.
struct Work {
    graph: StepGraph,
    params: Params,
    model: LoopedTransformer,
    /// Where the rows stand in what is given, by their tokens.
    rows: BTreeMap<Vec<u32>, usize>,
    /// States to be like, each (B, T, D).
    given: Vec<Tensor>,
    /// (B, T, V).
    logits: Tensor,
}

/// What a repetition needs, also when it is computed anew.
struct Core {
    model: LoopedTransformer,
    table: RopeTable,
    /// States to be like, each (rows, T, D).
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
        let (rows, columns) = (shape.batch, shape.tokens);
        let batch = Batch {
            inputs: draw.tokens(shape),
            targets: draw.tokens(shape),
            rows,
            columns,
            ..Batch::default()
        };
        let given = (0..shape.repetitions.min(GIVEN_STATES))
            .map(|_| draw.normal(&[rows, columns, shape.width], 1.0))
            .collect::<Result<_>>()?;
        let logits = draw.normal(&[rows, columns, shape.vocab], 1.0)?;
        let places = batch.inputs.chunks(columns).map(<[u32]>::to_vec).zip(0..);
        let (optimizer, rows) = (Optimizer::new(&clipped, &params)?, places.collect());
        Ok(Self { work: Work { graph, params, model, rows, given, logits }, optimizer, batch })
    }

    /// Forward, back, and one step of the optimizer; gives the loss.
    fn step(&mut self) -> Result<f64> {
        let lanes = in_shards(&self.work, &self.batch, &StepContext::new(SEED, 0, 1, 0))?;
        let (mut sum, mut loss) = (GradientSum::new(), 0.0);
        let share = 1.0 / lanes.len() as f64;
        for mut lane in lanes {
            loss += share * lane.total;
            sum.add(&self.work.params, &mut lane.gradients)?;
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
        let first = first.ok_or_else(|| Error::internal("a row that nothing was given for"))?;
        let of_rows = |tensor: &Tensor| Ok::<_, Error>(tensor.narrow(0, first, batch.rows)?);
        let core = Rc::new(Core {
            model: self.model.clone(),
            table: embedding_and_head.rope(0, batch.columns),
            given: self.given.iter().map(of_rows).collect::<Result<_>>()?,
            hidden: Cell::default(),
        });
        let embedded =
            embedding_and_head.embed(&tape, &batch.input_tensor(embedding_and_head.device())?)?;
        let last = self.repeat(&tape, &core, &embedded)?;
        let hidden = embedding_and_head.normed(&tape, &last)?;
        let weights = HeadWeights { cross_entropy: 1.0, kl: 1.0, temperature: 1.0 };
        let logits = TeacherOutput::Logits(of_rows(&self.logits)?);
        let found = compare(
            &tape,
            &hidden,
            embedding_and_head.head(),
            Some(&logits),
            &batch.targets,
            weights,
        )?;
        let outputs = mean(&found.cross_entropy) + mean(&found.kl);
        let gradients = tape.backward()?;
        // A repetition that is computed anew is compared on the way back.
        let total = outputs + core.hidden.get();
        Ok(Loss { total, terms: BTreeMap::new(), gradients, partial: false })
    }
}

impl Work {
    /// The state after the last repetition, each compared with its given one.
    fn repeat(&self, tape: &Tape, core: &Rc<Core>, embedded: &Value) -> Result<Value> {
        let repetitions = 0..self.model.config().repetitions;
        if self.graph.recomputes() {
            let core = core.clone();
            let link: Link = Rc::new(move |tape, at, state, _| core.repeat(tape, at, state));
            return recompute_chain(tape, embedded, &[], repetitions, &link);
        }
        repetitions
            .into_iter()
            .try_fold(embedded.clone(), |state, at| core.repeat(tape, at, &state))
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
