//! What does the student's next step make smaller?

use std::collections::BTreeMap;

use candle_core::Tensor;
use rand::Rng;

use super::cache::TeacherCache;
use super::config::{DistillConfig, Every};
use super::depth;
use super::needs::Needs;
use super::teaching::{Lesson, Teaching};
use crate::data::Batch;
use crate::error::{Error, Result};
use crate::model::alignment::{Depth, equal_steps, monotone};
use crate::model::{Alignment, CausalLm, LoopedTransformer, Transformer};
use crate::nn::head::{HeadWeights, compare, mean};
use crate::nn::state_error::{StateComparison, compare_states};
use crate::nn::{Params, Tape, Value};
use crate::train::{Loss, Moment, Objective};

/// Teaches a looped student to think as its teacher does.
#[derive(Debug)]
pub struct Distillation<'a> {
    teaching: Teaching<'a>,
    needs: Needs,
    student: LoopedTransformer,
    params: Params,
    config: DistillConfig,
}

/// The states of the core, in order of application, and how many layers one repetition has.
struct CoreStates {
    states: Vec<Value>,
    repetitions: usize,
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
        if ours.vocabulary != theirs.vocabulary || ours.width != theirs.width {
            return Err(Error::input(format!(
                "the student is {} wide over {} tokens, the teacher {} over {}",
                ours.width, ours.vocabulary, theirs.width, theirs.vocabulary
            )));
        }
        let needs = Needs::new(student.config(), &config);
        Ok(Self { teaching: Teaching::live(teacher), needs, student, params, config })
    }

    /// What the teacher said before is read from `cache`, what it says is kept there.
    #[must_use]
    pub fn remembering(mut self, cache: TeacherCache<'a>) -> Self {
        self.teaching = self.teaching.remembering(cache);
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
        let table = self.student.frame().rope(0, ids.dim(1)?);
        let count = repetitions * self.student.config().core_layers;
        let depths = equal_steps(self.student.config(), count, self.alignment());
        let start = Depth { lower: middle.start, fraction: 0.0 };
        let mut states = Vec::with_capacity(count);
        for repetition in 0..repetitions {
            let mut state = Value::constant(teacher.at_depth(start)?);
            for (layer, block) in self.student.core_at(repetition).iter().enumerate() {
                let at = states.len();
                if layer == 0 || self.config.phases.force == Every::Layer {
                    let before = if at == 0 { start } else { depths[at - 1] };
                    state = Value::constant(teacher.at_depth(before)?);
                }
                state = block.forward(&tape, &state, &table, None)?;
                states.push(state.clone());
            }
        }
        let mut step = Step::default();
        let core = CoreStates { states, repetitions };
        self.match_states(&tape, &core, &depths, &teacher, weight, &mut step)?;
        step.tape = Some(tape);
        Ok(step)
    }

    /// Pairs that monotone alignment cannot know before the states exist are spaced equally.
    fn alignment(&self) -> Alignment {
        match self.config.loss.hidden.alignment {
            Alignment::Monotone => Alignment::Uniform,
            other => other,
        }
    }

    /// The whole student on its own states, but for repetitions that `forced` sets back on the
    /// teacher's.
    fn closed(
        &self,
        batch: &Batch,
        ids: &Tensor,
        repetitions: usize,
        progress: f64,
        mut forced: impl FnMut() -> bool,
    ) -> Result<Step> {
        let teacher = self.teaching.states_and_output(batch, ids, &self.needs.closed)?;
        let tape = Tape::recording();
        let table = self.student.frame().rope(0, ids.dim(1)?);
        let count = repetitions * self.student.config().core_layers;
        let steps = equal_steps(self.student.config(), count, self.alignment());
        let prelude = self.student.prelude(&tape, ids, &table)?;
        let mut state = prelude[prelude.len() - 1].clone();
        let mut core = CoreStates { states: Vec::with_capacity(count), repetitions };
        let truncated = self.config.depth.backprop_repetitions;
        for repetition in 0..repetitions {
            if repetition > 0 && forced() {
                let depth = steps[core.states.len() - 1];
                state = Value::constant(teacher.at_depth(depth)?);
            } else if truncated > 0 && repetition + truncated == repetitions {
                state = state.detached();
            }
            core.states.extend(self.student.repeat(&tape, &state, repetition, &table)?);
            state = core.states[core.states.len() - 1].clone();
        }
        let mut step = Step::default();
        let loss = &self.config.loss;
        let weight = loss.hidden.weight.at(progress);
        if weight > 0.0 {
            let depths = match loss.hidden.alignment {
                Alignment::Monotone => self.monotone(&core, &teacher)?,
                _ => steps,
            };
            self.match_states(&tape, &core, &depths, &teacher, weight, &mut step)?;
        }
        self.settle(&tape, &core, loss.settle.at(progress), &mut step)?;
        let last = self.student.coda(&tape, &state, &table)?.pop().unwrap_or(state);
        self.match_outputs(&tape, batch, &last, &teacher, progress, &mut step)?;
        step.tape = Some(tape);
        Ok(step)
    }

    /// The cheapest pairing of the core's states with the teacher's that never goes back.
    fn monotone(&self, core: &CoreStates, teacher: &Lesson) -> Result<Vec<Depth>> {
        let config = self.student.config();
        let middle = config.middle();
        let how = self.comparison();
        let off = Tape::off();
        let mut costs = Vec::with_capacity(core.states.len());
        for state in &core.states {
            let mut row = Vec::with_capacity(middle.len() + 1);
            for layer in middle.start..=middle.end {
                let target = teacher.state(layer)?;
                row.push(compare_states(&off, &state.detached(), target, &how, 0.0)?.squared);
            }
            costs.push(row);
        }
        Ok(monotone(config, &costs))
    }

    fn match_states(
        &self,
        tape: &Tape,
        core: &CoreStates,
        depths: &[Depth],
        teacher: &Lesson,
        weight: f64,
        step: &mut Step,
    ) -> Result<()> {
        let stride = match self.config.loss.hidden.every {
            Every::Layer => 1,
            Every::Repetition => core.states.len() / core.repetitions,
        };
        let how = self.comparison();
        let compared = core.states.len() / stride;
        let share = weight / compared as f64;
        let (mut squared, mut cosine) = (0.0, 0.0);
        for at in (stride - 1..core.states.len()).step_by(stride) {
            let target = teacher.at_depth(depths[at])?;
            let terms = compare_states(tape, &core.states[at], &target, &how, share as f32)?;
            squared += terms.squared / compared as f64;
            cosine += terms.cosine / compared as f64;
        }
        step.total +=
            weight * (f64::from(how.squared) * squared + f64::from(how.cosine) * (1.0 - cosine));
        step.terms.insert("hidden".into(), squared);
        step.terms.insert("cosine".into(), cosine);
        Ok(())
    }

    /// Pulls the states of the second half of the repetitions towards the last.
    fn settle(&self, tape: &Tape, core: &CoreStates, weight: f64, step: &mut Step) -> Result<()> {
        let layers = core.states.len() / core.repetitions;
        let pulled = core.repetitions / 2..core.repetitions - 1;
        if weight <= 0.0 || pulled.is_empty() {
            return Ok(());
        }
        let target = core.states[core.states.len() - 1].tensor().clone();
        let (how, count) = (self.comparison(), pulled.len() as f64);
        let mut sum = 0.0;
        for repetition in pulled {
            let state = &core.states[(repetition + 1) * layers - 1];
            let how = StateComparison { squared: 1.0, cosine: 0.0, ..how };
            let terms = compare_states(tape, state, &target, &how, (weight / count) as f32)?;
            sum += terms.squared / count;
        }
        step.total += weight * sum;
        step.terms.insert("settle".into(), sum);
        Ok(())
    }

    fn match_outputs(
        &self,
        tape: &Tape,
        batch: &Batch,
        last: &Value,
        teacher: &Lesson,
        progress: f64,
        step: &mut Step,
    ) -> Result<()> {
        let loss = &self.config.loss;
        let (ce, kl) = (loss.cross_entropy.at(progress), loss.kl.at(progress));
        let hidden = self.student.frame().normed(tape, last)?;
        let weights = HeadWeights {
            cross_entropy: ce as f32,
            kl: kl as f32,
            temperature: loss.temperature as f32,
        };
        let head = self.student.frame().head();
        let found = compare(tape, &hidden, head, Some(teacher.output()?), &batch.targets, weights)?;
        let agreeing = found.agree.iter().filter(|&&agree| agree).count();
        let terms = [
            ("cross_entropy", mean(&found.cross_entropy)),
            ("kl", mean(&found.kl)),
            ("agreement", agreeing as f64 / found.agree.len().max(1) as f64),
        ];
        step.total += ce * terms[0].1 + kl * loss.temperature.powi(2) * terms[1].1;
        step.terms.extend(terms.map(|(name, value)| (name.to_owned(), value)));
        Ok(())
    }
}

/// What one step found, before its gradients.
#[derive(Default)]
struct Step {
    tape: Option<Tape>,
    total: f64,
    terms: BTreeMap<String, f64>,
}

impl Objective for Distillation<'_> {
    fn params(&self) -> &Params {
        &self.params
    }

    fn loss(&self, batch: &Batch, moment: &mut Moment) -> Result<Loss> {
        let progress = moment.step as f64 / moment.steps.max(1) as f64;
        let ids = batch.input_tensor(self.student.frame().device())?;
        let (phases, depth) = (self.config.phases, &self.config.depth);
        let made_for = self.student.config().repetitions;
        let repetitions = depth::draw(depth, made_for, progress, &mut moment.rng);
        let partial = progress < phases.teacher_forced;
        let mut step = if partial {
            let weight = self.config.loss.hidden.weight.at(progress);
            self.forced(batch, &ids, repetitions, weight)?
        } else {
            let mixing = (phases.mixed_until - phases.teacher_forced).max(1e-12);
            let forced = 1.0 - (progress - phases.teacher_forced) / mixing;
            let coin = || moment.rng.random::<f64>() < forced;
            self.closed(batch, &ids, repetitions, progress, coin)?
        };
        step.terms.insert("repetitions".into(), repetitions as f64);
        let gradients = match step.tape {
            Some(tape) if step.total.is_finite() => tape.backward()?,
            _ => crate::nn::Gradients::new(),
        };
        Ok(Loss { total: step.total, terms: step.terms, gradients, partial })
    }
}
