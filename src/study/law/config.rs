//! The recipe of a depth law.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::data::tasks::TaskConfig;
use crate::distill::{Init, RepetitionSampling};
use crate::error::{Error, Result};
use crate::model::{Injection, Relaxation, StateNorm};
use crate::pretrain::{ModelConfig, Supervision};
use crate::train::{OptimizerConfig, Schedule, TrainConfig};

/// How many repetitions does a small block need to do what a deep stack does? A grid over tasks or
/// a text, teachers, students and seeds: the recipe of `factorize law`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LawRecipe {
    /// What it is called; the name of the file when absent. Its results are in `runs/<name>`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Every cell of the grid is measured once for each.
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
    /// What else is trained, to compare with.
    pub controls: ControlsConfig,
    /// When a student is as good as its teacher. The law is that of the first; what the others
    /// take stands beside it.
    pub targets: Vec<Target>,
    /// How answers are counted.
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

/// Deep models trained on a task from nothing: `[teachers]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TeachersConfig {
    /// Numbers of layers, one teacher for each; when empty, a layer for each step of the task.
    pub layers: Vec<usize>,
    /// Their shape; `layers` wins over the one in it.
    pub model: ModelConfig,
    /// What they are told of the chains.
    pub supervision: Supervision,
    /// How long and how fast they learn.
    pub train: StepsConfig,
}

impl Default for TeachersConfig {
    fn default() -> Self {
        let model = ModelConfig { width: 64, max_positions: 512, ..ModelConfig::default() };
        let (layers, supervision) = (vec![8], Supervision::Chain);
        Self { layers, model, supervision, train: StepsConfig::default() }
    }
}

/// Training by numbers alone.
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
    /// The same for the one trainer.
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

/// Where a student starts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// From its teacher: its own embedding and layers, projected where it is narrower.
    #[default]
    Teacher,
    /// From random numbers, as models that have no teacher: only what the teacher says is learned.
    Nothing,
}

/// Students by the grid they are taken from: `[students]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StudentsConfig {
    /// K, layers of the core.
    pub core_layers: Vec<usize>,
    /// D; the teacher's own when empty.
    pub widths: Vec<usize>,
    /// N: one student is trained at each.
    pub repetitions: Vec<usize>,
    /// Layer applications of a student at most, as a multiple of its teacher's layers: no cell of
    /// the grid is deeper.
    pub deepest: f64,
    /// One more student is trained at a depth drawn anew in every step, 1 to the largest N.
    pub random_depth: bool,
    /// Whether the teacher's states are given: the weight of matching them.
    pub hidden_weight: f64,
    /// Whether what the teacher says on the way is given: the weight of every repetition saying
    /// what the teacher's head reads out of the layer it stands for.
    pub layers_weight: f64,
    /// Weight of KL(teacher || student).
    pub kl_weight: f64,
    /// Where the whole student starts.
    pub start: Start,
    /// What the core starts as, when it starts from its teacher.
    pub init: Init,
    /// What differs between repetitions.
    pub relaxation: Relaxation,
    /// What of the first state every repetition hears.
    pub injection: Injection,
    /// What is done to the state between two repetitions.
    #[serde(alias = "between")]
    pub state_norm: StateNorm,
    /// How long and how fast they learn.
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

/// What else is trained beside the smallest core of the teacher's width, at as many applications as
/// the teacher has layers: `[controls]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ControlsConfig {
    /// The same applications with weights of their own: equal arithmetic.
    pub untied: bool,
    /// The same student without its teacher, from random weights and the answers alone.
    pub scratch: bool,
    /// The same student with low-rank corrections of each repetition: what tying costs.
    pub lora_ranks: Vec<usize>,
}

/// A teacher of text, and the recipe by which each student is made of it: `[text]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TextConfig {
    /// The deep model.
    pub teacher: String,
    /// A recipe of `factorize distill`; the grid wins over its student, `students.train.steps` over
    /// its steps.
    pub recipe: String,
    /// What else is changed about it, as in `--set`.
    pub set: Vec<String>,
}

/// When a student is as good as its teacher, in the unfavourable 95 % bound of a bootstrap over
/// test examples. Fixed before anything is run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Target {
    /// Accuracy at most this much below the teacher's.
    Accuracy {
        /// For example 0.01.
        within: f64,
    },
    /// The same likeliest token at this share of places.
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
                .hint("ask for kind = \"kl\" or kind = \"agreement\""));
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
    /// Refuses grids that measure nothing.
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

    /// So small that it takes a minute: does everything work?
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
