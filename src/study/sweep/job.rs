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

/// A piece of work that needs nothing but itself, and the points it names, to be done. What it is
/// called is a hash of what it says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Job {
    /// A deep model learns a task.
    Teacher(TeacherJob),
    /// A small block learns from it.
    Student(StudentJob),
    /// A small block learns from a teacher of text.
    Text(TextJob),
    /// A small block learns a task by itself, and is asked for longer chains than it saw.
    Learner(LearnerJob),
    /// How many examples does it need?
    Samples(SamplesJob),
    /// A factored language model learns from text.
    Language(LanguageJob),
    /// A small block learns chains of many lengths: when do policies stop it?
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
    /// How long and how fast it learns.
    pub train: StepsConfig,
    /// Of its start and its examples.
    pub seed: u64,
    /// How answers are counted.
    pub eval: StudyEvalConfig,
}

/// What a student is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Trained at the number of repetitions it is measured at.
    AtN,
    /// Trained at a drawn one, measured at all.
    RandomN,
    /// Control: as many applications, each with weights of its own.
    Untied,
    /// Control: no teacher.
    Scratch,
    /// Control: low-rank corrections of each repetition.
    Lora,
}

/// See [`Job::Student`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StudentJob {
    /// The teacher's own point.
    pub teacher: TeacherJob,
    /// What it is there for.
    pub role: Role,
    /// K.
    pub core_layers: usize,
    /// D.
    pub width: usize,
    /// N.
    pub repetitions: usize,
    /// How many a step takes.
    pub depth: RepetitionSampling,
    /// The numbers of repetitions it is measured at.
    pub read_at: Vec<usize>,
    /// What differs between repetitions.
    pub relaxation: Relaxation,
    /// What every repetition hears of the first state.
    pub injection: Injection,
    /// What is done to the state between two repetitions; what it is called does not change when
    /// that is nothing.
    #[serde(default, skip_serializing_if = "StateNorm::is_none", alias = "between")]
    pub state_norm: StateNorm,
    /// Where the whole student starts.
    pub start: Start,
    /// What the core starts as, when it starts from its teacher.
    pub init: Init,
    /// Weight of matching the teacher's states.
    pub hidden_weight: f64,
    /// Weight of saying what the teacher's head reads out of its layers.
    pub layers_weight: f64,
    /// Weight of KL(teacher || student).
    pub kl_weight: f64,
    /// How long and how fast it learns.
    pub train: StepsConfig,
    /// Of its examples.
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
    /// Trained at N, or at a drawn one.
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
    /// Of the run.
    pub seed: u64,
}

/// See [`Job::Learner`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LearnerJob {
    /// The task; chains are as long as it says.
    pub task: TaskConfig,
    /// The block; `layers` of it are K.
    pub model: ModelConfig,
    /// N, repetitions for the longest chain.
    pub repetitions: usize,
    /// What every repetition hears of the first state.
    pub injection: Injection,
    /// What it is told of the chains.
    pub supervision: Supervision,
    /// How long and how fast it learns.
    pub train: StepsConfig,
    /// Of its start and its examples.
    pub seed: u64,
    /// Lengths of the chains it is asked for, each after as many steps as were trained for one.
    pub lengths: Vec<usize>,
    /// How answers are counted.
    pub eval: StudyEvalConfig,
}

/// See [`Job::Samples`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SamplesJob {
    /// The learner; every trial starts it anew.
    pub learner: LearnerJob,
    /// Shortest chain among its examples; the task says the longest.
    pub shortest: usize,
    /// Numbers of examples to try, rising.
    pub examples: Vec<u64>,
    /// Accuracy that is enough.
    pub accuracy: f64,
}

/// See [`Job::Language`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LanguageJob {
    /// A model whose tokenizer is used.
    pub tokenizer: String,
    /// Files of text to learn from.
    pub files: Vec<String>,
    /// Files of text to be measured on.
    pub test: Vec<String>,
    /// The layers that have weights: those around the core, and K.
    pub model: ModelConfig,
    /// Layers before the core, and as many after it.
    pub outer_layers: usize,
    /// N.
    pub repetitions: usize,
    /// Tokens of a window.
    pub window_tokens: usize,
    /// How long and how fast it learns.
    pub train: StepsConfig,
    /// Of its start and of the order of its text.
    pub seed: u64,
    /// Tokens it is measured on.
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
    /// What thresholds keep.
    pub risk: Risk,
}

/// What a job gave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Outcome {
    /// How good answers are, at every number of repetitions.
    Measured(Measured),
    /// How many examples were enough.
    Enough(Enough),
    /// How surprising text is.
    LanguageModelScore(LanguageModelScore),
    /// When policies stop.
    Exits(Exits),
}

/// How good answers are, at every number of repetitions; lists are in the order of `repetitions`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Repetitions, or lengths of chains.
    pub repetitions: Vec<usize>,
    /// Share of examples answered right in every place.
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
    /// The upper 95 % bound of how far the accuracy is below the teacher's.
    pub behind_high: Vec<f64>,
    /// The lower 95 % bound of the agreement.
    pub agreement_low: Vec<f64>,
    /// The upper 95 % bound of the KL.
    pub kl_high: Vec<f64>,
    /// Numbers in the blocks.
    pub block_parameters: usize,
    /// Applications of a layer at the first of `repetitions`.
    pub applications: usize,
    /// The last loss.
    pub loss: f64,
}

/// How many examples were enough.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Enough {
    /// The most that were not enough; 0: the fewest tried were.
    pub low: u64,
    /// The fewest that were; none: none of those tried.
    pub high: Option<u64>,
    /// What was tried, and the accuracy on test examples.
    pub tried: Vec<(u64, f64)>,
}

/// How surprising text is to a factored model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LanguageModelScore {
    /// Numbers in layers that are applied once.
    pub n_once: f64,
    /// Numbers in the core.
    pub n_rec: f64,
    /// N.
    pub repetitions: f64,
    /// Tokens learned from.
    pub tokens: f64,
    /// -log p of the next token, nats.
    pub loss: f64,
    /// The same at other numbers of repetitions.
    pub by_repetition: Vec<(usize, f64)>,
}

impl Job {
    /// A hash of all it says: 16 hexadecimal digits.
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
    /// numbers, three times for the way back.
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
