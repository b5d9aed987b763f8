//! What are the sections of a recipe?

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

/// An experiment: what a recipe file holds, every default filled in.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Recipe {
    /// What it is called; the name of the file when absent. Its runs are in `runs/<name>`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// All randomness follows from it.
    pub seed: u64,
    /// The model to distil; `--teacher` wins over it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teacher: Option<TeacherConfig>,
    /// How the teacher is factored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub student: Option<StudentConfig>,
    /// The decoder to train from nothing; then there is no teacher and no student.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelConfig>,
    /// Where the tokens of such a decoder come from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<TokenizerConfig>,
    /// The text.
    pub data: DataConfig,
    /// What the distillation makes smaller.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<LossConfig>,
    /// When the student stands on its own states.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phases: Option<PhaseConfig>,
    /// How many repetitions a step takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depth: Option<DepthConfig>,
    /// How long, how fast and how carefully.
    pub train: TrainConfig,
    /// What is measured at the end, on the test split.
    pub eval: EvalConfig,
    /// What is written at the end.
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
    /// Keep its states and likeliest tokens on disk, for every later epoch, run and sweep; when
    /// absent it is computed at every step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<TeacherCacheConfig>,
    /// Compute it at every step, whatever `cache` says; so does `--live`.
    pub live: bool,
}

/// Text the models continue side by side: `[generate]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SamplesConfig {
    /// Beginnings to continue.
    pub prompts: Vec<String>,
    /// Tokens of a continuation.
    pub max_tokens: usize,
}

impl Default for SamplesConfig {
    fn default() -> Self {
        Self { prompts: Vec::new(), max_tokens: 40 }
    }
}

impl Recipe {
    /// Whether it trains a model from nothing.
    #[must_use]
    pub fn is_pretraining(&self) -> bool {
        self.model.is_some()
    }

    /// The three sections of distillation together.
    #[must_use]
    pub fn distillation(&self) -> DistillConfig {
        DistillConfig {
            loss: self.loss.clone().unwrap_or_default(),
            phases: self.phases.unwrap_or_default(),
            depth: self.depth.unwrap_or_default(),
        }
    }

    /// The student, as written or by default.
    #[must_use]
    pub fn student(&self) -> StudentConfig {
        self.student.clone().unwrap_or_default()
    }

    /// Fills in the sections its kind of experiment reads, and refuses values that mean nothing.
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
                return Err(Error::input("[tokenizer] stands without [model]")
                    .hint("a student reads its teacher's tokens: leave it out"));
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
        let beside = [
            ("teacher", self.teacher.is_some()),
            ("student", self.student.is_some()),
            ("loss", self.loss.is_some()),
            ("phases", self.phases.is_some()),
            ("depth", self.depth.is_some()),
        ];
        match beside.into_iter().find(|(_, there)| *there) {
            None => Ok(()),
            Some((section, _)) => Err(Error::input(format!(
                "[model] trains from nothing and [{section}] distils: a recipe does one of them"
            ))
            .hint("write two recipes: the first makes the teacher of the second")),
        }
    }
}
