//! The recipe of a depth law.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::data::tasks::TaskConfig;
use crate::distill::{Init, RepetitionSampling};
use crate::error::{Error, Result};
use crate::model::{Injection, Relaxation, StateNorm};
use crate::pretrain::{ModelConfig, Supervision};
use crate::train::{OptimizerConfig, Schedule, TrainConfig};

/// The recipe of `factorize law`: a grid over tasks or a text, teachers, students and seeds that
/// measures how many repetitions a small block needs to match a deep stack.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LawRecipe {
    /// Name of the study; the name of the file when absent. Results go to `runs/<name>`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Seeds; every cell of the grid is measured once for each.
    pub seeds: Vec<u64>,
    /// Tasks with exact chains, each with teachers of its own.
    pub tasks: Vec<TaskConfig>,
    /// The teachers of the tasks.
    pub teachers: TeachersConfig,
    /// A teacher of text in place of tasks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<TextConfig>,
    /// The students.
    pub students: StudentsConfig,
    /// The controls.
    pub controls: ControlsConfig,
    /// Targets a student has to reach. The law is fitted to the first; the repetitions needed for
    /// the others are reported beside it.
    pub targets: Vec<Target>,
    /// Settings of the evaluation.
    pub eval: StudyEvalConfig,
}

impl Default for LawRecipe {
    fn default() -> Self {
        Self {
            name: String::new(),
            seeds: Vec::new(),
            tasks: Vec::new(),
            teachers: TeachersConfig::default(),
            text: None,
            students: StudentsConfig::default(),
            controls: ControlsConfig::default(),
            targets: vec![Target::Accuracy { within: 0.01 }],
            eval: StudyEvalConfig::default(),
        }
    }
}

/// Deep models trained on a task from random weights: `[teachers]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TeachersConfig {
    /// Numbers of layers, one teacher for each; when empty, a layer for each step of the task.
    pub layers: Vec<usize>,
    /// Their shape; `layers` overrides the one in it.
    pub model: ModelConfig,
    /// Supervision of the chains.
    pub supervision: Supervision,
    /// Length and learning rate of the training.
    pub train: StepsConfig,
}

impl Default for TeachersConfig {
    fn default() -> Self {
        let model = ModelConfig { width: 64, max_positions: 512, ..ModelConfig::default() };
        let (layers, supervision) = (vec![8], Supervision::Chain);
        Self { layers, model, supervision, train: StepsConfig::default() }
    }
}

/// The settings of a training that a study varies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StepsConfig {
    /// Optimizer steps.
    pub steps: u64,
    /// Examples of a step.
    pub batch_rows: usize,
    /// The highest learning rate.
    pub lr: f64,
    /// Steps until the learning rate is reached.
    pub warmup_steps: u64,
    /// Weight decay.
    pub weight_decay: f64,
}

impl Default for StepsConfig {
    fn default() -> Self {
        Self { steps: 600, batch_rows: 64, lr: 2e-3, warmup_steps: 30, weight_decay: 0.01 }
    }
}

impl StepsConfig {
    /// These settings as a [`TrainConfig`].
    #[must_use]
    pub fn train(&self) -> TrainConfig {
        TrainConfig {
            steps: self.steps,
            batch_rows: self.batch_rows,
            optimizer: OptimizerConfig {
                lr: self.lr,
                weight_decay: self.weight_decay,
                ..OptimizerConfig::default()
            },
            schedule: Schedule { warmup_steps: self.warmup_steps, ..Schedule::default() },
            checkpoint_every_steps: 0,
            keep_checkpoints: 1,
            ..TrainConfig::default()
        }
    }
}

/// Initialisation of a student.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// From its teacher: its own embedding and layers, projected where it is narrower.
    #[default]
    Teacher,
    /// From random weights, as a model without a teacher: only the outputs of the teacher are learned.
    Nothing,
}

/// The grid of students: `[students]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StudentsConfig {
    /// K, layers of the core.
    pub core_layers: Vec<usize>,
    /// D; that of the teacher when empty.
    pub widths: Vec<usize>,
    /// N: one student is trained at each.
    pub repetitions: Vec<usize>,
    /// Layer applications of a student at most, as a multiple of its teacher's layers: no cell of
    /// the grid is deeper.
    pub deepest: f64,
    /// Trains one more student with repetitions sampled in every step, 1 to the largest N.
    pub random_depth: bool,
    /// Weight of the hidden-state loss; 0 turns it off.
    pub hidden_weight: f64,
    /// Weight of the early-exit loss of every repetition, whose targets are the logits that the
    /// teacher's head gives for the aligned layer; 0 turns it off.
    pub layers_weight: f64,
    /// Weight of KL(teacher || student).
    pub kl_weight: f64,
    /// Initialisation of the student.
    pub start: Start,
    /// Initialisation of the core, when it starts from its teacher.
    pub init: Init,
    /// Parameters of each repetition.
    pub relaxation: Relaxation,
    /// Injection of the first state into every repetition.
    pub injection: Injection,
    /// Normalisation of the state between repetitions.
    #[serde(alias = "between")]
    #[schemars(extend("x-alias" = "between"))]
    pub state_norm: StateNorm,
    /// Length and learning rate of the training.
    pub train: StepsConfig,
}

impl Default for StudentsConfig {
    fn default() -> Self {
        Self {
            core_layers: vec![1, 2, 4],
            widths: Vec::new(),
            repetitions: vec![1, 2, 3, 4, 6, 8],
            deepest: 2.0,
            random_depth: true,
            hidden_weight: 1.0,
            layers_weight: 0.0,
            kl_weight: 1.0,
            start: Start::Teacher,
            init: Init::EveryNth,
            relaxation: Relaxation::None,
            injection: Injection::None,
            state_norm: StateNorm::None,
            train: StepsConfig::default(),
        }
    }
}

/// Controls trained beside the smallest core of the teacher's width, at as many applications as
/// the teacher has layers: `[controls]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ControlsConfig {
    /// The same number of applications with separate weights: equal FLOPs.
    pub untied: bool,
    /// The same student without a teacher, from random weights and final answers alone.
    pub scratch: bool,
    /// The same student with a LoRA for each repetition: measures the cost of tying.
    pub lora_ranks: Vec<usize>,
}

/// A teacher of text, and the recipe by which each student is distilled from it: `[text]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TextConfig {
    /// The deep model.
    pub teacher: String,
    /// A recipe of `factorize distill`; the grid overrides its student, `students.train.steps` its
    /// steps.
    pub recipe: String,
    /// Further changes to it, as in `--set`.
    pub set: Vec<String>,
}

/// The target a student has to reach, by the unfavourable 95 % bound of a bootstrap over test
/// examples. Fixed before the study runs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Target {
    /// Accuracy at most this much below the teacher's.
    Accuracy {
        /// For example 0.01.
        within: f64,
    },
    /// The same top-1 token at this share of positions.
    Agreement {
        /// For example 0.95.
        least: f64,
    },
    /// A mean KL(teacher || student) of at most so many nats.
    Kl {
        /// For example 0.1.
        most: f64,
    },
}

impl Target {
    /// Refuses what no student can reach, on text or on tasks.
    fn validate(self, on_text: bool) -> Result<()> {
        let possible = match self {
            Self::Accuracy { within: x } | Self::Kl { most: x } => x.is_finite() && x >= 0.0,
            Self::Agreement { least } => (0.0..=1.0).contains(&least),
        };
        if !possible {
            return Err(Error::input(format!("`{self}` can never be reached"))
                .at("targets")
                .hint("expected within or most of 0 or more, least between 0 and 1"));
        }
        if on_text && matches!(self, Self::Accuracy { .. }) {
            return Err(Error::input("on text, answers are neither right nor wrong")
                .at("targets")
                .hint("write kind = \"kl\" or kind = \"agreement\""));
        }
        Ok(())
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Accuracy { within } => write!(f, "accuracy within {within} of the teacher's"),
            Self::Agreement { least } => write!(f, "agreement of {least}"),
            Self::Kl { most } => write!(f, "KL of {most}"),
        }
    }
}

/// How answers are counted: `[eval]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StudyEvalConfig {
    /// Test examples of each task.
    pub examples: usize,
    /// Draws of a bootstrap.
    pub bootstrap_samples: usize,
}

impl Default for StudyEvalConfig {
    fn default() -> Self {
        Self { examples: 2048, bootstrap_samples: 1000 }
    }
}

impl LawRecipe {
    /// Checks the grid.
    ///
    /// # Errors
    /// The first key that is empty or out of its range.
    pub fn validate(&self) -> Result<()> {
        let empty = |key: &str, is_empty: bool| {
            if is_empty {
                return Err(Error::input(format!("{key} is empty: there is nothing to measure"))
                    .hint(format!("list at least one value, as in {key} = [1]")));
            }
            Ok(())
        };
        empty("seeds", self.seeds.is_empty())?;
        empty("students.core_layers", self.students.core_layers.is_empty())?;
        empty("students.repetitions", self.students.repetitions.is_empty())?;
        if self.text.is_none() {
            empty("tasks", self.tasks.is_empty())?;
        } else if !self.tasks.is_empty() {
            return Err(Error::input("a law is measured on [[tasks]] or on [text], not on both"));
        }
        self.tasks.iter().try_for_each(TaskConfig::validate)?;
        let zero = |key: &str, values: &[usize]| {
            if values.contains(&0) {
                return Err(Error::input(format!("{key} has a 0 in it")).at(key.to_owned()));
            }
            Ok(())
        };
        zero("students.core_layers", &self.students.core_layers)?;
        zero("students.repetitions", &self.students.repetitions)?;
        zero("teachers.layers", &self.teachers.layers)?;
        if !(self.students.deepest.is_finite() && self.students.deepest > 0.0) {
            return Err(Error::input("students.deepest must be above 0"));
        }
        empty("targets", self.targets.is_empty())?;
        self.targets.iter().try_for_each(|target| target.validate(self.text.is_some()))?;
        self.students.train.train().validate()
    }

    /// The depth of a student trained at a drawn number of repetitions.
    #[must_use]
    pub fn random_depth(&self) -> RepetitionSampling {
        let most = self.students.repetitions.iter().copied().max().unwrap_or(1);
        RepetitionSampling::Uniform { least: 1, most }
    }

    /// The study at smoke size: every part runs, in about a minute.
    #[must_use]
    pub fn smoke(mut self) -> Self {
        self.seeds.truncate(2);
        self.tasks.truncate(1);
        self.teachers.layers.truncate(1);
        for grid in [&mut self.students.core_layers, &mut self.students.widths] {
            grid.truncate(2);
        }
        self.students.repetitions.truncate(2);
        self.controls.lora_ranks.truncate(1);
        for train in [&mut self.teachers.train, &mut self.students.train] {
            (train.steps, train.batch_rows) = (train.steps.min(8), train.batch_rows.min(16));
            train.warmup_steps = train.warmup_steps.min(2);
        }
        self.eval.examples = self.eval.examples.min(64);
        self.eval.bootstrap_samples = self.eval.bootstrap_samples.min(100);
        self
    }
}
