//! Output loss: the student's next-token distribution is compared with the teacher's and with the
//! target tokens.

use super::inputs::StepInputs;
use super::loss_terms::LossTerm;
use crate::autograd::{Tape, Value};
use crate::data::SupervisedTokens;
use crate::distill::config::LossConfig;
use crate::distill::early_exit::{EarlyExit, EarlyExitTarget};
use crate::error::Result;
use crate::losses::{HeadTerms, HeadWeights, TeacherOutput, compare_weighted, mean};
use crate::model::{CausalLm, TeacherLayer};
use crate::nn::{RopeTable, gather};

/// Weights of the two parts of an output loss in one step.
#[derive(Debug, Clone, Copy)]
pub(super) struct OutputWeights {
    cross_entropy: f64,
    kl: f64,
    temperature: f64,
}

impl OutputWeights {
    fn new(config: &LossConfig, progress: f64) -> Self {
        Self {
            cross_entropy: config.cross_entropy.at(progress),
            kl: config.kl.at(progress),
            temperature: config.temperature,
        }
    }

    /// The weights of the gradient of `scale` times the loss.
    pub(super) fn scaled(self, scale: f64) -> HeadWeights {
        HeadWeights {
            cross_entropy: (scale * self.cross_entropy) as f32,
            kl: (scale * self.kl) as f32,
            temperature: self.temperature as f32,
        }
    }

    /// The loss, a mean over tokens.
    pub(super) fn mean_loss(self, terms: &HeadTerms) -> f64 {
        self.cross_entropy * mean(&terms.cross_entropy) + self.kl_factor() * mean(&terms.kl)
    }

    /// The loss of each token.
    pub(super) fn token_losses(self, terms: &HeadTerms) -> Vec<f32> {
        let (cross_entropy, kl) = (self.cross_entropy as f32, self.kl_factor() as f32);
        let tokens = terms.cross_entropy.iter().zip(&terms.kl);
        tokens.map(|(token_ce, token_kl)| cross_entropy * token_ce + kl * token_kl).collect()
    }

    /// The squared temperature keeps the size of the KL's gradient. Hinton et al. 2015.
    fn kl_factor(self) -> f64 {
        self.kl * self.temperature.powi(2)
    }
}

/// The output loss of a step.
pub(super) struct OutputLoss<'a> {
    pub(super) inputs: &'a StepInputs<'a>,
    table: &'a RopeTable,
    pub(super) weights: OutputWeights,
    /// The tokens whose outputs are compared; None: all tokens.
    pub(super) supervised: Option<SupervisedTokens>,
}

impl<'a> OutputLoss<'a> {
    pub(super) fn new(inputs: &'a StepInputs<'a>, table: &'a RopeTable) -> Self {
        let weights = OutputWeights::new(&inputs.config.loss, inputs.progress);
        let supervised = SupervisedTokens::in_targets(&inputs.batch.targets);
        Self { inputs, table, weights, supervised }
    }

    /// The loss of the output after the last repetition, whose state is (B, T, D).
    pub(super) fn last(&self, tape: &Tape, state: &Value) -> Result<LossTerm> {
        let target = self.inputs.teacher_outputs.output()?;
        let terms = self.compare(tape, state, target, self.weights.scaled(1.0), None)?;
        Ok(self.last_term(&terms))
    }

    /// The term of the last repetition, given its comparison.
    pub(super) fn last_term(&self, terms: &HeadTerms) -> LossTerm {
        let agreeing = terms.agree.iter().filter(|&&agree| agree).count();
        let metrics = vec![
            ("cross_entropy", mean(&terms.cross_entropy)),
            ("kl", mean(&terms.kl)),
            ("agreement", agreeing as f64 / terms.agree.len().max(1) as f64),
        ];
        LossTerm { weight: 1.0, value: self.weights.mean_loss(terms), metrics }
    }

    /// The loss of an early exit, whose state is (B, T, D) and aligned with `layer` of the teacher.
    pub(super) fn early_exit(
        &self,
        tape: &Tape,
        state: &Value,
        exit: EarlyExit,
        layer: TeacherLayer,
    ) -> Result<LossTerm> {
        let StepInputs { config, teacher, teacher_outputs, progress, .. } = self.inputs;
        let early_exit = &config.loss.early_exit;
        let weight = early_exit.weight.at(*progress) * exit.share;
        let layer_output;
        let (target, weights) = match early_exit.imitate {
            EarlyExitTarget::Answer => (teacher_outputs.output()?, self.weights),
            EarlyExitTarget::Layer => {
                layer_output = teacher_outputs.output_at(teacher, layer)?;
                // The target tokens belong to the final output.
                (&layer_output, OutputWeights { cross_entropy: 0.0, ..self.weights })
            }
        };
        let terms = self.compare(tape, state, target, weights.scaled(weight), None)?;
        let metrics = vec![("exit_kl", exit.share * mean(&terms.kl))];
        Ok(LossTerm { weight, value: weights.mean_loss(&terms), metrics })
    }

    /// Compares the output on `state`, (B, T, D), with `target`, and records the gradient of the mean
    /// loss with `weights`. `token_weights` are factors of the gradient of each compared token.
    pub(super) fn compare(
        &self,
        tape: &Tape,
        state: &Value,
        target: &TeacherOutput,
        weights: HeadWeights,
        token_weights: Option<&[f32]>,
    ) -> Result<HeadTerms> {
        let StepInputs { student, batch, .. } = self.inputs;
        let embedding_and_head = student.embedding_and_head();
        let last = student.coda(tape, state, self.table)?.pop();
        let last = last.as_ref().unwrap_or(state);
        let head = embedding_and_head.head();
        if let Some(SupervisedTokens { places, targets }) = &self.supervised {
            let hidden = embedding_and_head.normed(tape, &gather(tape, last, places)?)?;
            let (target, tokens) = (target.gather(places)?, (&targets[..], token_weights));
            compare_weighted(tape, &hidden, head, Some(&target), tokens, weights)
        } else {
            let hidden = embedding_and_head.normed(tape, last)?;
            let tokens = (&batch.targets[..], token_weights);
            compare_weighted(tape, &hidden, head, Some(target), tokens, weights)
        }
    }
}
