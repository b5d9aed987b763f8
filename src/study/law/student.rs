//! Distillation of a task teacher into a small block.

use std::collections::BTreeMap;

use candle_core::Tensor;

use super::config::Start;
use super::teacher;
use crate::autograd::Params;
use crate::data::Batches;
use crate::data::tasks::{Task, TaskBatches, TaskSplit};
use crate::distill::{
    Compared, DepthConfig, DistillConfig, Distillation, EarlyExitConfig, EarlyExitTarget,
    Granularity, HiddenConfig, Layers, LossConfig, PhaseConfig, Recompute, StudentConfig,
    WeightSchedule, find_split, initial_params, student_params,
};
use crate::error::Result;
use crate::model::{CausalLm, LoopedConfig, LoopedTransformer, Parameters, Transformer};
use crate::pretrain::{LanguageModeling, initial_looped_tensors};
use crate::study::scoring::measure;
use crate::study::sweep::job::{Measured, Role, StudentJob};
use crate::study::sweep::work::{Work, test_batches, trained};
use crate::train::Summary;

/// Keeps the examples of an initialisation apart from those of the first steps.
const CALIBRATION: u64 = 0x00CA_11B8;
/// Batches an initialisation looks at.
const CALIBRATION_BATCHES: u64 = 8;

pub(crate) fn learn(job: &StudentJob, work: &Work) -> Result<Measured> {
    let task = job.teacher.task.build()?;
    let (deep, tensors) = teacher::load(&job.teacher, work.study)?;
    let student = student_config(job, deep.base().width);
    let mut config = find_split(&deep, &student, &[], work.context())?;
    if job.start == Start::Nothing {
        // What is projected needs a head of its own; what starts from nothing has its teacher's kind.
        config.base.tied_head = deep.base().tied_head;
    }
    let batches = TaskBatches::new(&task, TaskSplit::Train, job.seed, job.train.batch_rows);
    let (model, summary) = if job.role == Role::Scratch {
        from_nothing(job, &config, &batches, work)?
    } else {
        let params = start(job, &task, &deep, &tensors, &config, &student, work)?;
        let learner = LoopedTransformer::new(&config, &params)?;
        let objective = Distillation::new(deep.clone(), learner, params, distillation(job))?;
        let summary = work.fit(&objective, &batches, &job.train.train(), job.seed, None)?;
        (objective.student().clone(), summary)
    };
    let tests = test_batches(&task, task.chain_length(), job.teacher.eval.examples)?;
    let (read_at, draws) = (&job.read_at, job.teacher.eval.bootstrap_samples);
    let mut found =
        measure(&model, Some(&deep), &tests, read_at, task.width(), draws, work.context())?;
    found.block_parameters = Parameters::of_student(&config).blocks;
    found.applications = config.applications(job.repetitions);
    Ok(trained(found, &summary))
}

/// What the student starts as.
fn start(
    job: &StudentJob,
    task: &Task,
    teacher: &Transformer,
    tensors: &BTreeMap<String, Tensor>,
    config: &LoopedConfig,
    student: &StudentConfig,
    work: &Work,
) -> Result<Params> {
    match job.start {
        Start::Nothing => initial_params(
            &initial_looped_tensors(config, job.seed)?,
            config,
            student,
            work.context().device(),
        ),
        Start::Teacher => {
            let seen = calibration(task, job)?;
            student_params(teacher, tensors, config, student, &seen, job.seed, work.context())
        }
    }
}

fn from_nothing(
    job: &StudentJob,
    config: &LoopedConfig,
    batches: &dyn Batches,
    work: &Work,
) -> Result<(LoopedTransformer, Summary)> {
    let start = initial_looped_tensors(config, job.seed)?;
    let objective = LanguageModeling::looped(config, &start)?;
    let summary = work.fit(&objective, batches, &job.train.train(), job.seed, None)?;
    Ok((objective.model().clone(), summary))
}

/// Inputs of training examples that no step sees first, each (B, T).
fn calibration(task: &Task, job: &StudentJob) -> Result<Vec<Tensor>> {
    let seed = job.seed ^ CALIBRATION;
    let stream = TaskBatches::new(task, TaskSplit::Train, seed, job.train.batch_rows);
    let ids = |index| stream.batch(index)?.input_tensor(&candle_core::Device::Cpu);
    (0..CALIBRATION_BATCHES).map(ids).collect()
}

fn student_config(job: &StudentJob, teacher_width: usize) -> StudentConfig {
    StudentConfig {
        prelude_layers: Layers::Count(0),
        core_layers: job.core_layers,
        repetitions: job.repetitions,
        width: Some(job.width).filter(|&width| width != teacher_width),
        coda_layers: Layers::Count(0),
        relaxation: job.relaxation,
        injection: job.injection,
        state_norm: job.state_norm,
        init: job.init,
        frozen: Vec::new(),
        ..StudentConfig::default()
    }
}

fn distillation(job: &StudentJob) -> DistillConfig {
    DistillConfig {
        loss: LossConfig {
            kl: WeightSchedule::Constant(job.kl_weight),
            hidden: HiddenConfig {
                weight: WeightSchedule::Constant(job.hidden_weight),
                skip_tokens: 0,
                tokens: Compared::Supervised,
                ..HiddenConfig::default()
            },
            early_exit: EarlyExitConfig {
                weight: WeightSchedule::Constant(job.layers_weight),
                draws: job.repetitions.saturating_sub(1).max(1),
                imitate: EarlyExitTarget::Layer,
                every: Granularity::Layer,
                ..EarlyExitConfig::default()
            },
            ..LossConfig::default()
        },
        // A narrow state cannot start from a wide one, and all widths are treated alike.
        phases: PhaseConfig { teacher_forced: 0.0, scheduled_until: 0.0, ..PhaseConfig::default() },
        depth: DepthConfig {
            sampling: job.depth,
            recompute: Recompute::Never,
            ..DepthConfig::default()
        },
    }
}
