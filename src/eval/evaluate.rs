//! Comparison of a student with its teacher on held-out text, at every number of repetitions.

use std::collections::BTreeMap;
use std::ops::Range;

use candle_core::Tensor;

use super::bootstrap::{DocumentSums, Interval, intervals, means};
use super::config::EvalConfig;
use super::cost::{ModelCost, flops_per_token, peak_rss_mib};
use super::report::{Evaluation, SizeRatio, StudentScore, TeacherScore};
use super::student::{Cosines, readouts};
use super::telemetry::{Motion, repetition_norms};
use super::windows::{batches, inputs, targets};
use crate::autograd::Tape;
use crate::context::Context;
use crate::data::EvaluationWindow;
use crate::error::{Error, Result};
use crate::losses::{HeadTerms, TeacherHead, compare_students};
use crate::model::{CausalLm, LoopedTransformer};

/// Tokens at which Jacobians are estimated, and rounds of power iteration. Each estimate costs as
/// much as one repetition over a few hundred tokens.
const JACOBIAN_TOKENS: usize = 16;
const JACOBIAN_ROUNDS: usize = 8;
/// Seed of the vector from which the power iteration starts.
const JACOBIAN_SEED: u64 = 0;

/// Compares `teacher` and `student` on `windows`; `context` is polled for cancellation between
/// repetitions.
///
/// # Errors
/// There is nothing to evaluate, the vocabularies differ, the user stopped it, or a device fails.
pub fn evaluate(
    teacher: &dyn CausalLm,
    student: Option<&LoopedTransformer>,
    windows: &[EvaluationWindow],
    config: &EvalConfig,
    context: &Context,
) -> Result<Evaluation> {
    config.validate()?;
    check(teacher, student, windows)?;
    let repetitions = student.map_or_else(Vec::new, |s| config.repetitions_of(s.repetitions()));
    let mut tally = Tally::new(teacher, student, &repetitions, context);
    context.begin("evaluate", windows.len() as u64, "windows");
    let read = batches(windows, config.batch_rows).into_iter().try_fold(0, |done, batch| {
        let done = done + batch.len() as u64;
        tally.add(&batch)?;
        context.advance(done, "");
        Ok(done)
    });
    context.end();
    read.map_err(|error: Error| error.hint("nothing was written: run the same command again"))?;
    tally.finish(config, windows)
}

fn check(
    teacher: &dyn CausalLm,
    student: Option<&LoopedTransformer>,
    windows: &[EvaluationWindow],
) -> Result<()> {
    let vocabulary = teacher.base().vocabulary;
    if let Some(student) = student.filter(|student| student.base().vocabulary != vocabulary) {
        return Err(Error::input(format!(
            "the student's vocabulary is {}, the teacher's {vocabulary}: they cannot be compared",
            student.base().vocabulary
        ))
        .hint("was this student made from another teacher?"));
    }
    if windows.is_empty() {
        return Err(Error::input("there is no text to evaluate on: expected 2 tokens or more")
            .hint("give files with more text, or a larger held-out split"));
    }
    if windows.iter().any(|window| window.tokens.len() < 2) {
        return Err(Error::internal("a window of one token predicts nothing"));
    }
    Ok(())
}

/// Quantities of a student at a repetition, in this order; the teacher's NLL stands before them.
const NLL: usize = 0;
const KL: usize = 1;
const AGREEMENT: usize = 2;
const QUANTITIES: usize = 3;

/// Sums over the windows evaluated so far.
struct Tally<'a> {
    teacher: &'a dyn CausalLm,
    student: Option<&'a LoopedTransformer>,
    repetitions: &'a [usize],
    context: &'a Context,
    documents: BTreeMap<usize, DocumentSums>,
    /// Sums over tokens, by repetition; none once a state cannot be compared.
    cosines: Vec<Option<Cosines>>,
    /// Sums over tokens, by repetition.
    motions: Vec<Motion>,
}

impl<'a> Tally<'a> {
    fn new(
        teacher: &'a dyn CausalLm,
        student: Option<&'a LoopedTransformer>,
        repetitions: &'a [usize],
        context: &'a Context,
    ) -> Self {
        let cosines = vec![Some(Cosines::default()); repetitions.len()];
        let motions = vec![Motion::default(); repetitions.len()];
        let documents = BTreeMap::new();
        Self { teacher, student, repetitions, context, documents, cosines, motions }
    }

    fn add(&mut self, batch: &[&EvaluationWindow]) -> Result<()> {
        self.context.check_cancelled("while evaluating")?;
        let tokens = batch[0].tokens.len() - 1;
        let embedding_and_head = self.teacher.embedding_and_head();
        let ids = inputs(batch, embedding_and_head.device())?;
        let tape = Tape::off();
        let states = self.teacher.states(&tape, &ids, self.teacher.repetitions())?;
        let last = states.last().expect("there is always the embedding");
        let hidden = embedding_and_head.normed(&tape, last)?.tensor().clone();
        let side = TeacherHead { hidden, weight: embedding_and_head.head().tensor().clone() };
        let readouts = match self.student {
            Some(student) => {
                let ids = ids.to_device(student.embedding_and_head().device())?;
                readouts(student, &ids, self.repetitions, &states, self.context)?
            }
            None => Vec::new(),
        };
        let normed: Vec<Tensor> = readouts.iter().map(|readout| readout.normed.clone()).collect();
        let targets = targets(batch);
        let head = self.student.map_or(embedding_and_head, CausalLm::embedding_and_head).head();
        let (teacher_nll, terms) = compare_students(&side, &normed, head, &targets)?;
        let weight = targets.len() as f64;
        for (sum, readout) in self.cosines.iter_mut().zip(&readouts) {
            *sum = sum.zip(readout.cosines).map(|(sum, cosines)| Cosines {
                plain: sum.plain + weight * cosines.plain,
                scaled: sum.scaled + weight * cosines.scaled,
            });
        }
        for (sum, readout) in self.motions.iter_mut().zip(&readouts) {
            sum.rms += weight * readout.motion.rms;
            sum.step_ratio += weight * readout.motion.step_ratio;
        }
        for (row, window) in batch.iter().enumerate() {
            let document = self.documents.entry(window.document).or_default();
            add_row(document, row * tokens..(row + 1) * tokens, &teacher_nll, &terms);
        }
        Ok(())
    }

    fn finish(self, config: &EvalConfig, windows: &[EvaluationWindow]) -> Result<Evaluation> {
        let documents: Vec<DocumentSums> = self.documents.values().cloned().collect();
        let means = means(documents.iter());
        let intervals = intervals(&documents, config.bootstrap_samples, config.bootstrap_seed);
        let longest = windows.iter().max_by_key(|window| window.tokens.len());
        let longest = [longest.expect("there is a window")];
        let cost = |model: &dyn CausalLm| {
            ModelCost::measure(model, &inputs(&longest, model.embedding_and_head().device())?)
        };
        let teacher_cost = cost(self.teacher)?;
        let student_cost = self.student.map(|student| cost(student)).transpose()?;
        let tokens = documents.iter().map(|document| document.tokens).sum::<f64>();
        let jacobians = self.jacobians(longest[0])?;
        let context = longest[0].tokens.len() - 1;
        let score = |(index, &jacobian)| self.score(index, &means, &intervals, context, jacobian);
        Ok(Evaluation {
            teacher: TeacherScore {
                perplexity: means[0].exp(),
                nll_nats: means[0],
                bits_per_byte: None,
                tokens: tokens as u64,
                perplexity_interval: intervals[0].map(|nll| nll.map(f64::exp)),
            },
            student: jacobians.iter().enumerate().map(score).collect(),
            halting: None,
            trained_repetitions: self.student.map(CausalLm::repetitions),
            documents: documents.len(),
            window_tokens: config.window_tokens,
            text_bytes: None,
            size_ratio: student_cost.as_ref().map(|cost| SizeRatio::of(cost, &teacher_cost)),
            teacher_cost,
            student_cost,
            peak_rss_mib: peak_rss_mib(),
        })
    }

    /// Largest singular value of the Jacobian of each repetition, on the first tokens of `window`.
    fn jacobians(&self, window: &EvaluationWindow) -> Result<Vec<f64>> {
        let Some(student) = self.student else { return Ok(Vec::new()) };
        let ids = inputs(&[window], student.embedding_and_head().device())?;
        let ids = ids.narrow(1, 0, ids.dim(1)?.min(JACOBIAN_TOKENS))?;
        let (rounds, seed) = (JACOBIAN_ROUNDS, JACOBIAN_SEED);
        repetition_norms(student, &ids, self.repetitions, rounds, seed, self.context)
    }

    /// The score of the student at the repetitions of this index.
    fn score(
        &self,
        index: usize,
        means: &[f64],
        intervals: &[Option<Interval>],
        context: usize,
        jacobian_norm: f64,
    ) -> StudentScore {
        let (first, repetitions) = (1 + index * QUANTITIES, self.repetitions[index]);
        let looped = self.student.map(LoopedTransformer::config);
        let tokens: f64 = self.documents.values().map(|document| document.tokens).sum();
        StudentScore {
            repetitions,
            perplexity: means[first + NLL].exp(),
            nll_nats: means[first + NLL],
            bits_per_byte: None,
            kl_nats: means[first + KL],
            agreement: means[first + AGREEMENT],
            cosine: self.cosines[index].map(|sum| sum.plain / tokens),
            cosine_scaled: self.cosines[index].map(|sum| sum.scaled / tokens),
            state_rms: Some(self.motions[index].rms / tokens),
            step_ratio: Some(self.motions[index].step_ratio / tokens),
            jacobian_norm: Some(jacobian_norm),
            perplexity_interval: intervals[first + NLL].map(|nll| nll.map(f64::exp)),
            kl_interval: intervals[first + KL],
            agreement_interval: intervals[first + AGREEMENT],
            flops_per_token: flops_per_token(
                self.student.map_or(self.teacher.base(), CausalLm::base),
                looped,
                repetitions,
                context,
            ),
        }
    }
}

/// Adds the tokens of one window to the sums of its document.
fn add_row(document: &mut DocumentSums, span: Range<usize>, teacher: &[f32], terms: &[HeadTerms]) {
    let total = |values: &[f32]| values[span.clone()].iter().copied().map(f64::from).sum();
    let mut sums: Vec<f64> = vec![total(teacher)];
    for terms in terms {
        let agreed = terms.agree[span.clone()].iter().filter(|&&agree| agree).count();
        sums.extend([total(&terms.cross_entropy), total(&terms.kl), agreed as f64]);
    }
    document.tokens += span.len() as f64;
    document.sums.resize(sums.len(), 0.0);
    document.sums.iter_mut().zip(sums).for_each(|(all, sum)| *all += sum);
}
