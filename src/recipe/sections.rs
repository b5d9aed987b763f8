//! The sections of a recipe.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::data::DataConfig;
use crate::distill::{
    DepthConfig, DistillConfig, LossConfig, PhaseConfig, StudentConfig, TeacherCacheConfig,
};
use crate::error::{Error, Result};
use crate::eval::EvalConfig;
use crate::pretrain::{ModelConfig, TokenizerConfig};
use crate::train::TrainConfig;

/// An experiment, as a recipe file describes it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Recipe {
    /// Name of the experiment; the name of the file when absent. Its run folder is `runs/<name>`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Seed of all randomness.
    pub seed: u64,
    /// The model to distil; `--teacher` overrides it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teacher: Option<TeacherConfig>,
    /// How the teacher is factored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub student: Option<StudentConfig>,
    /// The decoder to pretrain; such a recipe has no teacher and no student.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelConfig>,
    /// The tokenizer of a decoder to pretrain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<TokenizerConfig>,
    /// The text to train, validate and test on.
    pub data: DataConfig,
    /// The losses of the distillation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<LossConfig>,
    /// The phases of the distillation: teacher-forced, scheduled sampling, free-running.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phases: Option<PhaseConfig>,
    /// Number of repetitions of a training step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depth: Option<DepthConfig>,
    /// Steps, optimizer, schedule and checkpoints.
    pub train: TrainConfig,
    /// The evaluation at the end, on the test split.
    pub eval: EvalConfig,
    /// The samples generated at the end.
    pub generate: SamplesConfig,
}

/// The model to distil: `[teacher]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TeacherConfig {
    /// A folder, a GGUF file, or owner/name of the Hugging Face Hub.
    pub source: String,
    /// Branch, tag or commit of the Hub; `main` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Caches its states and most likely tokens on disk for later epochs, runs and sweeps; when
    /// absent, the teacher is computed at every step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<TeacherCacheConfig>,
    /// Computes the teacher at every step, ignoring `cache`; `--live` sets it.
    pub live: bool,
}

/// Prompts that both models continue: `[generate]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SamplesConfig {
    /// Prompts to continue.
    pub prompts: Vec<String>,
    /// Most tokens of a continuation.
    pub max_tokens: usize,
}

impl Default for SamplesConfig {
    fn default() -> Self {
        Self { prompts: Vec::new(), max_tokens: 40 }
    }
}

impl Recipe {
    /// The same with the shape and the initialisation of a student.
    #[must_use]
    pub fn with_student(mut self, student: StudentConfig) -> Self {
        self.student = Some(student);
        self
    }

    /// The same with text: files, folders or globs.
    #[must_use]
    pub fn with_text<T: Into<String>>(mut self, files: impl IntoIterator<Item = T>) -> Self {
        self.data.files = files.into_iter().map(Into::into).collect();
        self
    }

    /// Whether this is a recipe of pretraining.
    #[must_use]
    pub fn is_pretraining(&self) -> bool {
        self.model.is_some()
    }

    /// The sections `[loss]`, `[phases]` and `[depth]` together.
    #[must_use]
    pub fn distillation(&self) -> DistillConfig {
        DistillConfig {
            loss: self.loss.clone().unwrap_or_default(),
            phases: self.phases.unwrap_or_default(),
            depth: self.depth.unwrap_or_default(),
        }
    }

    /// The student as written, or the default one.
    #[must_use]
    pub fn student(&self) -> StudentConfig {
        self.student.clone().unwrap_or_default()
    }

    /// Fills in the sections of its kind of experiment, and refuses values out of range.
    ///
    /// # Errors
    /// The first key that is out of its range, or sections that exclude each other.
    pub(super) fn resolve(mut self) -> Result<Self> {
        if i64::try_from(self.seed).is_err() {
            return Err(Error::input(format!("seed is {}, expected at most 2^63 - 1", self.seed)));
        }
        self.data.validate()?;
        self.train.validate()?;
        if let Some(cache) = self.teacher.as_ref().and_then(|teacher| teacher.cache) {
            cache.validate()?;
        }
        self.eval.validate().map_err(|error| error.at("eval"))?;
        if let Some(model) = &self.model {
            let filled = model.filled();
            self.refuse_beside_model()?;
            self.model = Some(filled);
            self.tokenizer = Some(self.tokenizer.unwrap_or_default());
        } else {
            if self.tokenizer.is_some() {
                return Err(Error::input("[tokenizer] is given without [model]")
                    .hint("a student uses its teacher's tokenizer: leave it out"));
            }
            let distillation = self.distillation();
            distillation.validate()?;
            self.student = Some(self.student());
            self.loss = Some(distillation.loss);
            self.phases = Some(distillation.phases);
            self.depth = Some(distillation.depth);
        }
        Ok(self)
    }

    fn refuse_beside_model(&self) -> Result<()> {
        let sections = [
            ("teacher", self.teacher.is_some()),
            ("student", self.student.is_some()),
            ("loss", self.loss.is_some()),
            ("phases", self.phases.is_some()),
            ("depth", self.depth.is_some()),
        ];
        match sections.into_iter().find(|(_, present)| *present) {
            None => Ok(()),
            Some((section, _)) => Err(Error::input(format!(
                "[model] is for pretraining and [{section}] for distillation: a recipe does one of them"
            ))
            .hint("write two recipes: the first makes the teacher of the second")),
        }
    }
}
