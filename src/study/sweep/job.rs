//! The jobs of a study, their identifiers and their results.

use serde::{Deserialize, Serialize};

use crate::data::tasks::{TaskConfig, TaskSupervision};
use crate::distill::{Init, RepetitionSampling};
use crate::error::{Error, Result};
use crate::halting::Risk;
use crate::model::{Injection, Relaxation, StateNorm};
use crate::pretrain::{ModelConfig, Supervision};
use crate::study::halting::stops::Exits;
use crate::study::law::config::{Start, StepsConfig, StudyEvalConfig, TextConfig};

/// A piece of work that depends on nothing but itself and the jobs it names. Its identifier is a hash
/// of its content.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Job {
    /// Trains a deep model on a task.
    Teacher(TeacherJob),
    /// Distils that model into a small block.
    Student(StudentJob),
    /// Distils a teacher of text into a small block.
    Text(TextJob),
    /// Trains a small block on a task without a teacher and evaluates it on longer chains.
    Learner(LearnerJob),
    /// Measures how many examples such a block needs.
    Samples(SamplesJob),
    /// Trains a factored language model on text.
    Language(LanguageJob),
    /// Trains a small block on chains of many lengths and measures when policies stop it.
    Exits(ExitsJob),
}

/// See [`Job::Teacher`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TeacherJob {
    /// The task.
    pub task: TaskConfig,
    /// The model.
    pub model: ModelConfig,
    /// What it is told of the chains.
    pub supervision: Supervision,
    /// Length and learning rate of the training.
    pub train: StepsConfig,
    /// Seed of its weights and its examples.
    pub seed: u64,
    /// Settings of the evaluation.
    pub eval: StudyEvalConfig,
}

/// The role of a student in a study.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Trained at the number of repetitions it is measured at.
    AtN,
    /// Trained at sampled numbers, measured at all.
    RandomN,
    /// Control: the same number of applications with separate weights.
    Untied,
    /// Control: no teacher.
    Scratch,
    /// Control: a LoRA for each repetition.
    Lora,
}

/// See [`Job::Student`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StudentJob {
    /// The job of the teacher.
    pub teacher: TeacherJob,
    /// Its role.
    pub role: Role,
    /// K.
    pub core_layers: usize,
    /// D.
    pub width: usize,
    /// N.
    pub repetitions: usize,
    /// Repetitions of a training step.
    pub depth: RepetitionSampling,
    /// The numbers of repetitions it is measured at.
    pub read_at: Vec<usize>,
    /// Parameters of each repetition.
    pub relaxation: Relaxation,
    /// Injection of the first state into every repetition.
    pub injection: Injection,
    /// Normalisation of the state between repetitions; left out of the identifier when there is
    /// none.
    #[serde(default, skip_serializing_if = "StateNorm::is_none", alias = "between")]
    pub state_norm: StateNorm,
    /// Initialisation of the student.
    pub start: Start,
    /// Initialisation of the core, when it starts from its teacher.
    pub init: Init,
    /// Weight of the hidden-state loss.
    pub hidden_weight: f64,
    /// Weight of the early-exit loss against the logits of the teacher's layers.
    pub layers_weight: f64,
    /// Weight of KL(teacher || student).
    pub kl_weight: f64,
    /// Length and learning rate of the training.
    pub train: StepsConfig,
    /// Seed of its examples.
    pub seed: u64,
}

/// See [`Job::Text`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TextJob {
    /// The teacher and the recipe.
    pub text: TextConfig,
    /// Layers of the teacher.
    pub teacher_layers: usize,
    /// Width of the teacher.
    pub teacher_width: usize,
    /// Its role: trained at N, or at sampled numbers.
    pub role: Role,
    /// K.
    pub core_layers: usize,
    /// D.
    pub width: usize,
    /// N.
    pub repetitions: usize,
    /// The numbers of repetitions it is measured at.
    pub read_at: Vec<usize>,
    /// Steps of its training.
    pub steps: u64,
    /// Seed of the run.
    pub seed: u64,
}

/// See [`Job::Learner`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LearnerJob {
    /// The task; its length is that of the chains.
    pub task: TaskConfig,
    /// The block; `layers` of it are K.
    pub model: ModelConfig,
    /// N, repetitions for the longest chain.
    pub repetitions: usize,
    /// Injection of the first state into every repetition.
    pub injection: Injection,
    /// What it is told of the chains.
    pub supervision: Supervision,
    /// Length and learning rate of the training.
    pub train: StepsConfig,
    /// Seed of its weights and its examples.
    pub seed: u64,
    /// Lengths of the chains it is evaluated on, with the repetitions per step of the training.
    pub lengths: Vec<usize>,
    /// Settings of the evaluation.
    pub eval: StudyEvalConfig,
}

/// See [`Job::Samples`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SamplesJob {
    /// The learner; every trial starts it anew.
    pub learner: LearnerJob,
    /// Shortest chain among its examples; the task has the longest.
    pub shortest: usize,
    /// Numbers of examples to try, rising.
    pub examples: Vec<u64>,
    /// Target accuracy.
    pub accuracy: f64,
}

/// See [`Job::Language`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LanguageJob {
    /// A model whose tokenizer is used.
    pub tokenizer: String,
    /// Text files to train on.
    pub files: Vec<String>,
    /// Text files to evaluate on.
    pub test: Vec<String>,
    /// The layers that have weights: those around the core, and K.
    pub model: ModelConfig,
    /// Layers before the core, and as many after it.
    pub outer_layers: usize,
    /// N.
    pub repetitions: usize,
    /// Tokens of a window.
    pub window_tokens: usize,
    /// Length and learning rate of the training.
    pub train: StepsConfig,
    /// Seed of its weights and of the order of its text.
    pub seed: u64,
    /// Tokens of the evaluation.
    pub test_tokens: usize,
}

/// See [`Job::Exits`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExitsJob {
    /// The learner; its lengths are those it learns and is asked for, its N repetitions are taken
    /// for each.
    pub learner: LearnerJob,
    /// What is asked after each step.
    pub told: TaskSupervision,
    /// S, steps in which something is asked, evenly spread over N.
    pub steps: usize,
    /// Risk that the thresholds keep.
    pub risk: Risk,
}

/// The result of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Outcome {
    /// Accuracy of answers at every number of repetitions.
    Measured(Measured),
    /// Sample complexity.
    Enough(Enough),
    /// Language-model scores.
    LanguageModelScore(LanguageModelScore),
    /// When policies stop.
    Exits(Exits),
}

/// Accuracy of answers at every number of repetitions; lists are in the order of `repetitions`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Repetitions, or lengths of chains.
    pub repetitions: Vec<usize>,
    /// Share of examples with every token right.
    pub accuracy: Vec<f64>,
    /// -log p of the right answer, nats a place.
    pub nll_nats: Vec<f64>,
    /// Examples behind each.
    pub examples: usize,
    /// The teacher's share.
    pub teacher_accuracy: Option<f64>,
    /// Share of places answered as the teacher does.
    pub agreement: Vec<f64>,
    /// KL(teacher || student), nats a place.
    pub kl_nats: Vec<f64>,
    /// Upper 95 % bound of the accuracy gap to the teacher.
    pub behind_high: Vec<f64>,
    /// The lower 95 % bound of the agreement.
    pub agreement_low: Vec<f64>,
    /// The upper 95 % bound of the KL.
    pub kl_high: Vec<f64>,
    /// Parameters in the blocks.
    pub block_parameters: usize,
    /// Applications of a layer at the first of `repetitions`.
    pub applications: usize,
    /// The last loss.
    pub loss: f64,
}

/// The fewest examples that reach the target accuracy, as a bracket.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Enough {
    /// The most examples that miss the target; 0 if the fewest tried reach it.
    pub low: u64,
    /// The fewest examples that reach it; `None` if none of those tried do.
    pub high: Option<u64>,
    /// Numbers of examples tried, with the test accuracy of each.
    pub tried: Vec<(u64, f64)>,
}

/// Scores of a factored language model on held-out text.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LanguageModelScore {
    /// Parameters of the layers that are applied once.
    pub n_once: f64,
    /// Parameters of the core.
    pub n_rec: f64,
    /// N.
    pub repetitions: f64,
    /// Training tokens.
    pub tokens: f64,
    /// -log p of the next token, nats.
    pub loss: f64,
    /// The same at other numbers of repetitions.
    pub by_repetition: Vec<(usize, f64)>,
}

impl Job {
    /// The identifier: a hash of the content, 16 hexadecimal digits.
    ///
    /// # Errors
    /// A number in it cannot be written.
    pub fn id(&self) -> Result<String> {
        let text = serde_json::to_vec(self)
            .map_err(|error| Error::internal(format!("writing a job: {error}")))?;
        let mut hasher = blake3::Hasher::new_derive_key("factorexe study job 1");
        hasher.update(&text);
        Ok(hasher.finalize().to_hex()[..16].to_owned())
    }

    /// The jobs that have to be done before it.
    #[must_use]
    pub fn after(&self) -> Option<Self> {
        match self {
            Self::Student(student) => Some(Self::Teacher(student.teacher.clone())),
            _ => None,
        }
    }

    /// Multiply-adds of the training, roughly: tokens times applications of a layer times its
    /// parameters, three times with the backward pass.
    #[must_use]
    pub fn cost(&self) -> f64 {
        let layer = |width: usize| 12.0 * (width * width) as f64;
        let tokens = |task: &TaskConfig, train: &StepsConfig| {
            (train.steps as usize * train.batch_rows * task.tokens()) as f64
        };
        match self {
            Self::Teacher(job) => {
                3.0 * tokens(&job.task, &job.train)
                    * job.model.layers as f64
                    * layer(job.model.width)
            }
            Self::Student(job) => {
                let teacher = &job.teacher;
                let own = 3.0 * (job.core_layers * job.repetitions) as f64 * layer(job.width);
                let given = teacher.model.layers as f64 * layer(teacher.model.width);
                tokens(&teacher.task, &job.train) * (own + given)
            }
            Self::Text(job) => {
                let own = 3.0 * (job.core_layers * job.repetitions) as f64 * layer(job.width);
                let given = job.teacher_layers as f64 * layer(job.teacher_width);
                (job.steps * 1024) as f64 * (own + given)
            }
            Self::Learner(job) => learner_cost(job, tokens(&job.task, &job.train)),
            Self::Exits(job) => {
                learner_cost(&job.learner, tokens(&job.learner.task, &job.learner.train))
            }
            Self::Samples(job) => {
                let learner = &job.learner;
                // Halved until one is left.
                let trials = ((job.examples.len() + 1) as f64).log2().ceil();
                trials * learner_cost(learner, tokens(&learner.task, &learner.train))
            }
            Self::Language(job) => {
                let outer = 2 * job.outer_layers;
                let applied = (job.model.layers - outer) * job.repetitions + outer;
                let read = job.train.steps as usize * job.train.batch_rows * job.window_tokens;
                3.0 * (read * applied) as f64 * layer(job.model.width)
            }
        }
    }
}

fn learner_cost(job: &LearnerJob, tokens: f64) -> f64 {
    let applied = job.model.layers * job.repetitions;
    3.0 * tokens * applied as f64 * 12.0 * (job.model.width * job.model.width) as f64
}
