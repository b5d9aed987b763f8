//! The distillation objective: it chooses the kind of a step and runs it.

use std::rc::Rc;

use super::cache::TeacherCache;
use super::config::DistillConfig;
use super::depth::{self, SampledPer};
use super::init::MAP;
use super::init::project_width::MAP_NAME;
use super::step::{
    FreeRunning, PerToken, RequiredLayers, StepInputs, TeacherForced, TeacherOutputs, TeacherSource,
};
use crate::autograd::Params;
use crate::data::Batch;
use crate::error::{Error, Result};
use crate::model::{CausalLm, LoopedTransformer, Transformer};
use crate::nn::Linear;
use crate::train::{Loss, Objective, StepContext};

/// Trains a looped student on the hidden states and outputs of its teacher.
#[derive(Debug)]
pub struct Distillation<'a> {
    source: TeacherSource<'a>,
    required: RequiredLayers,
    student: LoopedTransformer,
    params: Params,
    /// From the student's width to the teacher's, if they differ.
    width_map: Option<Linear>,
    config: DistillConfig,
}

impl<'a> Distillation<'a> {
    /// An objective whose `student` computes with `params`; the `teacher` is frozen.
    ///
    /// # Errors
    /// A weight, phase or range of `config` is invalid, or the two models do not fit together.
    pub fn new(
        teacher: Transformer,
        student: LoopedTransformer,
        params: Params,
        config: DistillConfig,
    ) -> Result<Self> {
        config.validate()?;
        let width_map =
            params.get(MAP).map(|_| Linear::new(&params, MAP_NAME, None)).transpose()?;
        if width_map.is_some() && config.phases.scheduled_until > 0.0 {
            return Err(Error::input(
                "a student narrower than its teacher cannot start from the teacher's states",
            )
            .at("phases")
            .hint("set phases.teacher_forced and phases.scheduled_until to 0"));
        }
        let (ours, theirs) = (student.base(), teacher.base());
        let compares_states = !config.loss.hidden.weight.is_zero();
        let comparable = ours.width == theirs.width || width_map.is_some() || !compares_states;
        if ours.vocabulary != theirs.vocabulary || !comparable {
            return Err(Error::input(format!(
                "the student has width {} and {} tokens, the teacher width {} and {} tokens",
                ours.width, ours.vocabulary, theirs.width, theirs.vocabulary
            )));
        }
        let gate = config.loss.halting.map(|halting| halting.policy);
        if gate.is_some() && gate != student.config().gate {
            return Err(Error::internal("the student lacks the gate of loss.halting.policy"));
        }
        let required = RequiredLayers::new(student.config(), &config);
        let source = TeacherSource::live(teacher);
        Ok(Self { source, required, student, params, width_map, config })
    }

    /// Reads the teacher's outputs from `cache`, and stores there what is missing.
    #[must_use]
    pub fn with_cache(mut self, cache: TeacherCache<'a>) -> Self {
        self.source = self.source.with_cache(cache);
        self
    }

    /// Writes pending outputs of the teacher to the cache.
    pub fn close(&self) {
        self.source.close();
    }

    /// The teacher.
    #[must_use]
    pub fn teacher(&self) -> &Transformer {
        self.source.teacher()
    }

    /// The student with its current parameters.
    #[must_use]
    pub fn student(&self) -> &LoopedTransformer {
        &self.student
    }
}

impl Objective for Distillation<'_> {
    fn params(&self) -> &Params {
        &self.params
    }

    fn phase(&self, step: u64, steps: u64) -> Option<&'static str> {
        let phases = self.config.phases;
        let progress = step as f64 / steps.max(1) as f64;
        (phases.scheduled_until > 0.0).then_some(if progress < phases.teacher_forced {
            "teacher-forced"
        } else if progress < phases.scheduled_until {
            "scheduled sampling"
        } else {
            "free-running"
        })
    }

    fn loss(&self, batch: &Batch, context: &mut StepContext) -> Result<Loss> {
        let Self { source, required, config, .. } = self;
        let (student, phases) = (self.student.config(), config.phases);
        let progress = context.step as f64 / context.steps.max(1) as f64;
        let ids = batch.input_tensor(self.student.embedding_and_head().device())?;
        let inputs = |teacher_outputs: TeacherOutputs| StepInputs {
            student: &self.student,
            teacher: source.teacher(),
            teacher_outputs: Rc::new(teacher_outputs),
            width_map: self.width_map.as_ref(),
            config,
            batch,
            ids: &ids,
            progress,
        };
        let rng = &mut context.rng;
        if progress < phases.teacher_forced {
            let repetitions = depth::sample(&config.depth, student.repetitions, progress, rng);
            let states = source.states(batch, &ids, &required.teacher_forced)?;
            return TeacherForced { repetitions }.run(inputs(states));
        }
        let inputs = inputs(source.states_and_output(batch, &ids, &required.free_running)?);
        if config.depth.sampled_per == SampledPer::Token && progress >= phases.scheduled_until {
            return PerToken::sample(&inputs, rng).run(inputs);
        }
        FreeRunning::sample(&inputs, rng).run(inputs)
    }
}
