//! What does the student say, after the last repetition or an earlier one, beside its teacher?

use super::hidden_loss::Step;
use super::teacher_outputs::TeacherOutputs;
use crate::autograd::{Tape, Value};
use crate::data::{Batch, SupervisedTokens};
use crate::distill::config::LossConfig;
use crate::distill::early_exit::EarlyExitTarget;
use crate::distill::halting::HaltingConfig;
use crate::error::Result;
use crate::losses::output::compare_weighted;
use crate::losses::terms::{HeadTerms, HeadWeights, TeacherOutput, mean};
use crate::model::alignment::TeacherLayer;
use crate::model::{CausalLm, LoopedTransformer};
use crate::nn::{RopeTable, gather};

/// What is read out of a state of the core, and what it is compared with.
pub(crate) struct Outputs<'a> {
    pub(crate) student: &'a LoopedTransformer,
    pub(crate) table: &'a RopeTable,
    pub(crate) loss: &'a LossConfig,
    pub(crate) teacher: &'a TeacherOutputs,
    /// What the teacher's head reads out of its state at a depth.
    pub(crate) output_at: &'a dyn Fn(TeacherLayer) -> Result<TeacherOutput>,
    /// The teacher's depth of each state of the core, in order of application.
    pub(crate) depths: Vec<TeacherLayer>,
    /// What is asked.
    pub(crate) batch: &'a Batch,
    /// Of the run, 0 to 1.
    pub(crate) progress: f64,
}

impl Outputs<'_> {
    /// Whether anything before the last state is read out.
    pub(crate) fn reads_early(&self) -> bool {
        self.loss.early_exit.weight.at(self.progress) > 0.0
    }

    /// The gate that learns in this step, if one does.
    pub(crate) fn halting(&self) -> Option<&HaltingConfig> {
        self.loss.halting.as_ref().filter(|halting| halting.weight.at(self.progress) > 0.0)
    }

    /// Reads out the state after the last repetition.
    pub(crate) fn last(&self, step: &mut Step, state: &Value) -> Result<()> {
        let ce = self.loss.cross_entropy.at(self.progress);
        let found = self.read(&step.tape, state, self.teacher.output()?, ce, (1.0, None))?;
        step.total += self.loss_of(&found, ce);
        Self::note_last(step, &found);
        Ok(())
    }

    pub(crate) fn note_last(step: &mut Step, found: &HeadTerms) {
        let agreeing = found.agree.iter().filter(|&&agree| agree).count();
        let terms = [
            ("cross_entropy", mean(&found.cross_entropy)),
            ("kl", mean(&found.kl)),
            ("agreement", agreeing as f64 / found.agree.len().max(1) as f64),
        ];
        step.terms.extend(terms.map(|(name, value)| (name.to_owned(), value)));
    }

    /// Reads out the state after an earlier `application` of a layer of the core, counted from 0, for
    /// its `part` of the mean.
    pub(crate) fn exit(
        &self,
        step: &mut Step,
        state: &Value,
        application: usize,
        part: f64,
    ) -> Result<()> {
        let share = self.loss.early_exit.weight.at(self.progress) * part;
        let (found, ce) = match self.loss.early_exit.imitate {
            EarlyExitTarget::Answer => {
                let ce = self.loss.cross_entropy.at(self.progress);
                let said = self.teacher.output()?;
                (self.read(&step.tape, state, said, ce, (share, None))?, ce)
            }
            EarlyExitTarget::Layer => {
                let said = (self.output_at)(self.depths[application])?;
                (self.read(&step.tape, state, &said, 0.0, (share, None))?, 0.0)
            }
        };
        step.total += share * self.loss_of(&found, ce);
        *step.terms.entry("exit_kl".to_owned()).or_default() += part * mean(&found.kl);
        Ok(())
    }

    /// Records the gradient of `share` times the loss of this output beside what was `said`, each
    /// token with a weight of its own if it has one.
    pub(crate) fn read(
        &self,
        tape: &Tape,
        state: &Value,
        said: &TeacherOutput,
        ce: f64,
        (share, of_tokens): (f64, Option<&[f32]>),
    ) -> Result<HeadTerms> {
        let (loss, embedding_and_head) = (self.loss, self.student.embedding_and_head());
        let last = self.student.coda(tape, state, self.table)?.pop();
        let last = last.as_ref().unwrap_or(state);
        let kl = loss.kl.at(self.progress);
        let weights = HeadWeights {
            cross_entropy: (share * ce) as f32,
            kl: (share * kl) as f32,
            temperature: loss.temperature as f32,
        };
        if let Some(SupervisedTokens { places, targets }) =
            SupervisedTokens::in_targets(&self.batch.targets)
        {
            let hidden = embedding_and_head.normed(tape, &gather(tape, last, &places)?)?;
            let (said, targets) = (said.gather(&places)?, (&targets[..], of_tokens));
            compare_weighted(
                tape,
                &hidden,
                embedding_and_head.head(),
                Some(&said),
                targets,
                weights,
            )
        } else {
            let hidden = embedding_and_head.normed(tape, last)?;
            let targets = (&self.batch.targets[..], of_tokens);
            compare_weighted(tape, &hidden, embedding_and_head.head(), Some(said), targets, weights)
        }
    }

    /// The mean over tokens of what they lose.
    pub(crate) fn loss_of(&self, found: &HeadTerms, ce: f64) -> f64 {
        ce * mean(&found.cross_entropy) + self.kl_weight() * mean(&found.kl)
    }

    /// What each token loses.
    pub(crate) fn losses_of(&self, found: &HeadTerms, ce: f64) -> Vec<f32> {
        let (ce, kl) = (ce as f32, self.kl_weight() as f32);
        let both = found.cross_entropy.iter().zip(&found.kl);
        both.map(|(of_text, of_teacher)| ce * of_text + kl * of_teacher).collect()
    }

    /// Of KL(teacher || student). Hinton et al. 2015.
    fn kl_weight(&self) -> f64 {
        self.loss.kl.at(self.progress) * self.loss.temperature.powi(2)
    }
}
