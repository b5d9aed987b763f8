//! What does the student's next step make smaller?

use std::rc::Rc;

use candle_core::Tensor;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::cache::TeacherCache;
use super::config::{Compared, DistillConfig};
use super::depth::{self, Recompute, SampledPer};
use super::granularity::Granularity;
use super::halting::HaltingConfig;
use super::init::MAP;
use super::init::project_width::MAP_NAME;
use super::step::hidden_loss::{Loop, Matching, Start, Step};
use super::step::output_loss::Outputs;
use super::step::teacher_layers::RequiredLayers;
use super::step::teacher_outputs::{TeacherOutputs, TeacherSource};
use crate::autograd::{Params, Tape, Value};
use crate::data::{Batch, SupervisedTokens};
use crate::error::{Error, Result};
use crate::losses::hidden::compare_states;
use crate::losses::terms::StateComparison;
use crate::model::alignment::{TeacherLayer, equal_steps, monotone};
use crate::model::{Alignment, CausalLm, LoopedTransformer, Transformer};
use crate::nn::Linear;
use crate::train::{Loss, Objective, StepContext};

/// Teaches a looped student to think as its teacher does.
#[derive(Debug)]
pub struct Distillation<'a> {
    pub(super) teaching: TeacherSource<'a>,
    pub(super) needs: RequiredLayers,
    pub(super) student: LoopedTransformer,
    params: Params,
    /// From the width of the student to that of its teacher, where they differ.
    map: Option<Linear>,
    pub(super) config: DistillConfig,
}

impl<'a> Distillation<'a> {
    /// `student` computes with `params`, `teacher` is frozen.
    ///
    /// # Errors
    /// A weight, phase or range of `config` means nothing, or the two models do not fit.
    pub fn new(
        teacher: Transformer,
        student: LoopedTransformer,
        params: Params,
        config: DistillConfig,
    ) -> Result<Self> {
        config.validate()?;
        let (ours, theirs) = (student.base(), teacher.base());
        let mapped = params.get(MAP).is_some();
        let compared = !config.loss.hidden.weight.is_zero();
        let fits = ours.width == theirs.width || mapped || !compared;
        if ours.vocabulary != theirs.vocabulary || !fits {
            return Err(Error::input(format!(
                "the student is {} wide over {} tokens, the teacher {} over {}",
                ours.width, ours.vocabulary, theirs.width, theirs.vocabulary
            )));
        }
        let map = mapped.then(|| Linear::new(&params, MAP_NAME, None)).transpose()?;
        if map.is_some() {
            refuse_its_states(&config)?;
        }
        let gate = config.loss.halting.map(|halting| halting.policy);
        if gate.is_some() && gate != student.config().gate {
            return Err(Error::internal("the student was made without the gate that is to learn"));
        }
        let needs = RequiredLayers::new(student.config(), &config);
        Ok(Self { teaching: TeacherSource::live(teacher), needs, student, params, map, config })
    }

    /// What the teacher said before is read from `cache`, what it says is kept there.
    #[must_use]
    pub fn with_cache(mut self, cache: TeacherCache<'a>) -> Self {
        self.teaching = self.teaching.with_cache(cache);
        self
    }

    /// Writes what is still to be kept of the teacher.
    pub fn close(&self) {
        self.teaching.close();
    }

    /// The teacher.
    #[must_use]
    pub fn teacher(&self) -> &Transformer {
        self.teaching.teacher()
    }

    /// The student, with the parameters as they stand.
    #[must_use]
    pub fn student(&self) -> &LoopedTransformer {
        &self.student
    }

    fn comparison(&self) -> StateComparison {
        let hidden = &self.config.loss.hidden;
        StateComparison {
            squared: hidden.squared as f32,
            cosine: hidden.cosine as f32,
            scale: hidden.scale,
            skip_tokens: hidden.skip_tokens,
        }
    }

    /// The core alone, each layer or repetition on the teacher's own state.
    fn forced(&self, batch: &Batch, ids: &Tensor, repetitions: usize, weight: f64) -> Result<Step> {
        let middle = self.student.config().middle();
        let teacher = self.teaching.states(batch, ids, &self.needs.forced)?;
        let tape = Tape::recording();
        let table = self.student.embedding_and_head().rope(0, ids.dim(1)?);
        let count = repetitions * self.student.config().core_layers;
        let depths = equal_steps(self.student.config(), count, self.alignment());
        let start = TeacherLayer { lower: middle.start, fraction: 0.0 };
        // The teacher's state stands for the prelude's as well.
        let said = Value::constant(teacher.at_depth(start)?);
        let matching = self.matching(batch, repetitions, depths.clone(), weight);
        let mut step = Step::new(tape);
        let mut at = 0;
        for repetition in 0..repetitions {
            let mut state = Value::constant(teacher.at_depth(start)?);
            let mut states = Vec::new();
            for (layer, block) in self.student.core_at(repetition).iter().enumerate() {
                if layer == 0 || self.config.phases.force == Granularity::Layer {
                    let before = if at == 0 { start } else { depths[at - 1] };
                    state = Value::constant(teacher.at_depth(before)?);
                }
                if layer == 0 {
                    state = self.student.inject(&step.tape, &state, &said, repetition)?;
                }
                state = block.forward(&step.tape, &state, &table, None)?;
                states.push(state.clone());
                at += 1;
            }
            step.matched += matching.repetition(&step.tape, repetition, &states, &teacher)?;
        }
        step.matching = Some(matching);
        Ok(step)
    }

    /// Pairs that monotone alignment cannot know before the states exist are spaced equally.
    pub(super) fn alignment(&self) -> Alignment {
        match self.config.loss.hidden.alignment {
            Alignment::Monotone => Alignment::Uniform,
            other => other,
        }
    }

    /// The whole student on its own states, but for repetitions that are set back on the teacher's
    /// with probability `forced`.
    fn closed(
        &self,
        batch: &Batch,
        ids: &Tensor,
        repetitions: usize,
        progress: f64,
        forced: f64,
        rng: &mut ChaCha8Rng,
    ) -> Result<Step> {
        let teacher = self.teaching.states_and_output(batch, ids, &self.needs.closed)?;
        let teacher = Rc::new(teacher);
        let tape = Tape::recording();
        let table = self.student.embedding_and_head().rope(0, ids.dim(1)?);
        let layers = self.student.config().core_layers;
        let depths = equal_steps(self.student.config(), repetitions * layers, self.alignment());
        let truncated = self.config.depth.backprop_repetitions;
        let start = |repetition: usize| {
            if repetition > 0 && rng.random::<f64>() < forced {
                Start::Teacher(depths[repetition * layers - 1])
            } else if truncated > 0 && repetition + truncated == repetitions {
                Start::Detached
            } else {
                Start::Own
            }
        };
        let starts = (0..repetitions).map(start).collect();
        let exits = &self.config.loss.early_exit;
        let read_early = exits.weight.at(progress) > 0.0 && exits.every == Granularity::Repetition;
        let exits = if read_early { exits.sample(repetitions, rng) } else { Vec::new() };
        let prelude = self.student.prelude(&tape, ids, &table)?;
        let first = &prelude[prelude.len() - 1];
        let looped = Rc::new(Loop {
            student: self.student.clone(),
            table: table.clone(),
            teacher: teacher.clone(),
            starts,
        });
        let output_at = |depth| self.teaching.output_at(&teacher, depth);
        let outputs = Outputs {
            student: &self.student,
            table: &table,
            loss: &self.config.loss,
            teacher: &teacher,
            output_at: &output_at,
            depths: depths.clone(),
            batch,
            progress,
        };
        let mut step = Step::new(tape);
        let ends = if self.config.depth.recompute == Recompute::Always {
            self.recomputed(&mut step, &looped, first, depths, (&outputs, &exits))?
        } else {
            self.kept(&mut step, &looped, first, depths, (&outputs, &exits))?
        };
        match (outputs.halting(), ends.last()) {
            (Some(halting), _) => outputs.halted(&mut step, &ends, halting)?,
            (None, last) => outputs.last(&mut step, last.unwrap_or(first))?,
        }
        Ok(step)
    }

    pub(super) fn matching(
        &self,
        batch: &Batch,
        repetitions: usize,
        depths: Vec<TeacherLayer>,
        weight: f64,
    ) -> Matching {
        let (layers, hidden) = (self.student.config().core_layers, &self.config.loss.hidden);
        let stride = match hidden.every {
            Granularity::Layer => 1,
            Granularity::Repetition => layers,
        };
        let how = self.comparison();
        let map = self.map.clone();
        let asked = SupervisedTokens::in_targets(&batch.targets)
            .filter(|_| hidden.tokens == Compared::Supervised);
        let places = asked.map(|asked| asked.places);
        Matching { map, places, how, weight, stride, layers, repetitions, depths, settle: None }
    }

    pub(super) fn closed_matching(
        &self,
        batch: &Batch,
        repetitions: usize,
        depths: Vec<TeacherLayer>,
        costs: &[Vec<f64>],
        last: &Value,
        progress: f64,
    ) -> Matching {
        let loss = &self.config.loss;
        let depths = if costs.is_empty() { depths } else { monotone(self.student.config(), costs) };
        let settle = loss.settle.at(progress);
        let weight = loss.hidden.weight.at(progress);
        let mut matching = self.matching(batch, repetitions, depths, weight);
        matching.settle = (settle > 0.0).then(|| (settle, last.tensor().clone()));
        matching
    }

    /// Whether pairs of states are found anew on every batch.
    pub(super) fn finds_pairs(&self, progress: f64) -> bool {
        let hidden = &self.config.loss.hidden;
        hidden.alignment == Alignment::Monotone && hidden.weight.at(progress) > 0.0
    }

    /// How far each state is from each of the teacher's middle.
    pub(super) fn costs(
        &self,
        states: &[Value],
        teacher: &TeacherOutputs,
    ) -> Result<Vec<Vec<f64>>> {
        let (middle, how) = (self.student.config().middle(), self.comparison());
        let off = Tape::off();
        let to = |state: &Value, layer: usize| {
            let target = teacher.state(layer)?;
            let state = match &self.map {
                Some(map) => map.forward(&off, &state.detached())?,
                None => state.detached(),
            };
            Ok(compare_states(&off, &state, target, &how, 0.0)?.squared)
        };
        let row = |state| (middle.start..=middle.end).map(|layer| to(state, layer)).collect();
        states.iter().map(row).collect()
    }
}

/// A state of another width can be compared, not stood on.
fn refuse_its_states(config: &DistillConfig) -> Result<()> {
    if config.phases.scheduled_until <= 0.0 {
        return Ok(());
    }
    Err(Error::input("a student narrower than its teacher cannot start from its states")
        .at("phases")
        .hint("set phases.teacher_forced and phases.scheduled_until to 0"))
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

    fn loss(&self, batch: &Batch, moment: &mut StepContext) -> Result<Loss> {
        let progress = moment.step as f64 / moment.steps.max(1) as f64;
        let ids = batch.input_tensor(self.student.embedding_and_head().device())?;
        let (phases, depth) = (self.config.phases, &self.config.depth);
        let made_for = self.student.config().repetitions;
        let mut draw = || depth::sample(depth, made_for, progress, &mut moment.rng);
        if depth.sampled_per == SampledPer::Token && progress >= phases.scheduled_until {
            let depths: Vec<usize> = (0..batch.tokens()).map(|_| draw()).collect();
            let deepest = depths.iter().copied().max().unwrap_or(0);
            let mean = depths.iter().sum::<usize>() as f64 / batch.tokens() as f64;
            let mut step = self.staggered(batch, &ids, depths, progress)?;
            step.terms.insert("repetitions".into(), mean);
            return step.finish(deepest < made_for);
        }
        let repetitions = draw();
        let partial = progress < phases.teacher_forced;
        let mut step = if partial {
            let weight = self.config.loss.hidden.weight.at(progress);
            self.forced(batch, &ids, repetitions, weight)?
        } else {
            let mixing = (phases.scheduled_until - phases.teacher_forced).max(1e-12);
            let share = 1.0 - (progress - phases.teacher_forced) / mixing;
            // Without a forced or mixed phase not even the first step knows the teacher's states.
            let forced = if phases.scheduled_until > 0.0 { share } else { 0.0 };
            self.closed(batch, &ids, repetitions, progress, forced, &mut moment.rng)?
        };
        step.terms.insert("repetitions".into(), repetitions as f64);
        // What only later repetitions have gets no gradient from fewer, nor a gate before its time.
        let waits = |halting: HaltingConfig| halting.weight.at(progress) <= 0.0;
        let waits = self.config.loss.halting.is_some_and(waits);
        step.finish(partial || waits || repetitions < made_for)
    }
}
