//! Recipe sections of distillation: student, losses, phases and depth.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::depth::{DepthConfig, Recompute, SampledPer};
use super::early_exit::EarlyExitConfig;
use super::granularity::Granularity;
use super::halting::HaltingConfig;
use super::weight_schedule::WeightSchedule;
use crate::error::{Error, Result};
use crate::losses::StateScale;
use crate::model::{Alignment, Injection, Relaxation, StateNorm};

/// A number of layers, or the word `auto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Layers {
    /// This many layers.
    Count(usize),
    /// Chosen at the knee of the angular distances between consecutive layers.
    Auto(Auto),
}

/// The word `auto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Auto {
    /// `auto`.
    Auto,
}

/// Initialization of the core. The layers around it, the embedding and the head are initialized
/// with the teacher's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Init {
    /// Normal, with the root mean square of the teacher's matrices.
    Random,
    /// The first layers of the teacher's middle.
    First,
    /// Layers of the teacher's middle at equal intervals, including the first and the last.
    EveryNth,
    /// For each core layer, the mean of the teacher's layers aligned with it.
    Average,
    /// The matrices that best reproduce the outputs of the teacher's matrices, in the least-squares
    /// sense, on calibration text: W = sum W_r C_r (sum C_r)^-1 with C_r = X_r^T X_r. Jin et al.
    /// 2022.
    #[default]
    LeastSquares,
}

/// Initialization of the low-rank adapter of each repetition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LoraInit {
    /// B is zero, so that every repetition starts as the shared core.
    Zero,
    /// The truncated singular value decomposition of the teacher's matrix minus the shared one; with
    /// least squares, in the metric of the teacher's states. Bae et al. 2024.
    #[default]
    Svd,
}

/// The student: `[student]` of a recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StudentConfig {
    /// Layers before the core that are not shared: a number or `auto`.
    pub prelude_layers: Layers,
    /// K, layers of the core.
    pub core_layers: usize,
    /// N, repetitions of the core.
    pub repetitions: usize,
    /// D, width of the student; absent: the teacher's. A reduced width must leave a whole number of
    /// heads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width: Option<usize>,
    /// Layers after the core that are not shared: a number or `auto`.
    pub coda_layers: Layers,
    /// Parameters that differ between repetitions.
    pub relaxation: Relaxation,
    /// How the prelude's output is added to the input of every repetition.
    pub injection: Injection,
    /// Norm of the state between two repetitions.
    #[serde(alias = "between")]
    #[schemars(extend("x-alias" = "between"))]
    pub state_norm: StateNorm,
    /// Initialization of the core.
    pub init: Init,
    /// Initialization of the low-rank adapters.
    pub lora_init: LoraInit,
    /// Tokens of training text used by least squares, `auto`, a reduced width and the state norm.
    pub calibration_tokens: usize,
    /// Names of parameters that are not trained; `*` matches anything.
    pub frozen: Vec<String>,
}

impl Default for StudentConfig {
    fn default() -> Self {
        Self {
            prelude_layers: Layers::Auto(Auto::Auto),
            core_layers: 1,
            repetitions: 4,
            width: None,
            coda_layers: Layers::Auto(Auto::Auto),
            relaxation: Relaxation::None,
            injection: Injection::None,
            state_norm: StateNorm::None,
            init: Init::default(),
            lora_init: LoraInit::default(),
            calibration_tokens: 4096,
            frozen: vec!["embed.*".into(), "head.*".into()],
        }
    }
}

impl StudentConfig {
    /// The same with numbers of layers of prelude, core and coda.
    #[must_use]
    pub fn with_layers(mut self, prelude: usize, core: usize, coda: usize) -> Self {
        (self.prelude_layers, self.coda_layers) = (Layers::Count(prelude), Layers::Count(coda));
        self.core_layers = core;
        self
    }

    /// The same with N repetitions of the core.
    #[must_use]
    pub fn with_repetitions(mut self, repetitions: usize) -> Self {
        self.repetitions = repetitions;
        self
    }
}

/// The tokens whose states are compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Compared {
    /// All but the first `skip_tokens` of a window.
    #[default]
    All,
    /// Supervised tokens, those with a target; in text these are all.
    #[serde(alias = "asked")]
    Supervised,
}

/// Hidden-state loss: `[loss.hidden]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HiddenConfig {
    /// Weight of the mean over all compared states; 0 turns the loss off.
    pub weight: WeightSchedule,
    /// Coefficient of the relative squared error.
    pub squared: f64,
    /// Coefficient of 1 - cosine similarity.
    pub cosine: f64,
    /// Scaling of the dimensions before states are compared.
    pub scale: StateScale,
    /// Which of the teacher's layers each state is compared with.
    pub alignment: Alignment,
    /// After which parts of the core states are compared: every layer or every repetition.
    pub every: Granularity,
    /// Tokens at the start of a window that are not compared.
    pub skip_tokens: usize,
    /// Tokens that are compared.
    pub tokens: Compared,
}

impl Default for HiddenConfig {
    fn default() -> Self {
        Self {
            weight: WeightSchedule::Constant(1.0),
            squared: 1.0,
            cosine: 0.0,
            scale: StateScale::default(),
            alignment: Alignment::default(),
            every: Granularity::default(),
            skip_tokens: 1,
            tokens: Compared::default(),
        }
    }
}

/// Loss terms and their weights: `[loss]` of a recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LossConfig {
    /// Weight of the cross entropy with the target tokens.
    pub cross_entropy: WeightSchedule,
    /// Weight of KL(teacher || student), which is multiplied by the squared temperature.
    pub kl: WeightSchedule,
    /// Temperature of both distributions in the KL. Hinton et al. 2015.
    pub temperature: f64,
    /// Hidden-state loss.
    pub hidden: HiddenConfig,
    /// Weight of the squared error between the states of the second half of the repetitions and the
    /// last state. Comparing layers alone removes the convergence that early exit needs.
    pub settle: WeightSchedule,
    /// Early-exit loss.
    #[serde(alias = "exits")]
    #[schemars(extend("x-alias" = "exits"))]
    pub early_exit: EarlyExitConfig,
    /// Joint training of a halting gate; absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub halting: Option<HaltingConfig>,
}

impl Default for LossConfig {
    fn default() -> Self {
        Self {
            cross_entropy: WeightSchedule::Constant(0.0),
            kl: WeightSchedule::Constant(1.0),
            temperature: 1.0,
            hidden: HiddenConfig::default(),
            settle: WeightSchedule::Constant(0.0),
            early_exit: EarlyExitConfig::default(),
            halting: None,
        }
    }
}

/// Training phases, from teacher-forced to free-running: `[phases]` of a recipe, in fractions of the
/// run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PhaseConfig {
    /// End of the teacher-forced phase, in which the core runs on the teacher's states.
    pub teacher_forced: f64,
    /// End of scheduled sampling (Bengio et al. 2015), in which a repetition starts from the
    /// teacher's state with a probability that falls from 1 to 0. Afterwards the student is
    /// free-running: every repetition starts from the state before it.
    #[serde(alias = "mixed_until")]
    #[schemars(extend("x-alias" = "mixed_until"))]
    pub scheduled_until: f64,
    /// What is given the teacher's state in the teacher-forced phase: every layer or every
    /// repetition.
    pub force: Granularity,
}

impl Default for PhaseConfig {
    fn default() -> Self {
        Self { teacher_forced: 0.2, scheduled_until: 0.3, force: Granularity::Layer }
    }
}

impl PhaseConfig {
    /// Probability that a repetition starts from the teacher's state at `progress`, 0 to 1, after the
    /// teacher-forced phase; 0 or less means never.
    pub(super) fn teacher_probability(self, progress: f64) -> f64 {
        if self.scheduled_until <= 0.0 {
            // Without earlier phases the first step is free-running as well.
            return 0.0;
        }
        let length = (self.scheduled_until - self.teacher_forced).max(1e-12);
        1.0 - (progress - self.teacher_forced) / length
    }
}

/// Losses, phases and depth together.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DistillConfig {
    /// Loss terms and their weights.
    pub loss: LossConfig,
    /// Training phases.
    pub phases: PhaseConfig,
    /// Repetitions of a step.
    pub depth: DepthConfig,
}

impl DistillConfig {
    /// Refuses invalid weights, fractions and ranges.
    ///
    /// # Errors
    /// The first key out of its range.
    pub fn validate(&self) -> Result<()> {
        let weights = [
            ("loss.cross_entropy", self.loss.cross_entropy),
            ("loss.kl", self.loss.kl),
            ("loss.hidden.weight", self.loss.hidden.weight),
            ("loss.settle", self.loss.settle),
            ("loss.early_exit.weight", self.loss.early_exit.weight),
        ];
        let halting = self.loss.halting.map(|halting| ("loss.halting.weight", halting.weight));
        for (key, weight) in weights.into_iter().chain(halting) {
            if !weight.is_valid() {
                return Err(Error::input(format!(
                    "{key} is {weight:?}: expected weights of 0 or more, and 0 <= begin <= end <= 1"
                )));
            }
        }
        if !(self.loss.temperature.is_finite() && self.loss.temperature > 0.0) {
            return Err(Error::input(format!(
                "loss.temperature is {}, expected a number above 0",
                self.loss.temperature
            )));
        }
        self.loss.early_exit.validate()?;
        if let Some(halting) = &self.loss.halting {
            halting.validate()?;
            if !self.loss.early_exit.weight.is_zero() {
                return Err(Error::input(
                    "loss.halting and loss.early_exit cannot be combined: halting already trains the \
                     output after every repetition",
                )
                .hint("write loss.early_exit.weight = 0"));
            }
        }
        let (early_exit, recompute) = (self.loss.early_exit, self.depth.recompute);
        if early_exit.every == Granularity::Layer && recompute == Recompute::Always {
            return Err(Error::input(
                "loss.early_exit.every = \"layer\" reads states that activation checkpointing does \
                 not store",
            )
            .hint("write depth.recompute = \"never\", or loss.early_exit.every = \"repetition\""));
        }
        let phases = self.phases;
        let ordered = (0.0..=1.0).contains(&phases.teacher_forced)
            && phases.scheduled_until >= phases.teacher_forced
            && phases.scheduled_until <= 1.0;
        if !ordered {
            return Err(Error::input(format!(
                "phases.teacher_forced is {} and phases.scheduled_until is {}: expected 0 <= \
                 teacher_forced <= scheduled_until <= 1",
                phases.teacher_forced, phases.scheduled_until
            )));
        }
        let hidden = self.loss.hidden.weight;
        if phases.teacher_forced > 0.0
            && (hidden.at(0.0) <= 0.0 || hidden.at(phases.teacher_forced) <= 0.0)
        {
            return Err(Error::input(
                "loss.hidden.weight is 0 during the teacher-forced phase, which has no other loss",
            )
            .hint("raise loss.hidden.weight, or set phases.teacher_forced to 0"));
        }
        self.check_per_token()?;
        self.depth.validate()
    }

    /// Refuses loss terms that are not defined for per-token depth.
    fn check_per_token(&self) -> Result<()> {
        let loss = &self.loss;
        let plain = loss.settle.is_zero()
            && loss.early_exit.weight.is_zero()
            && loss.halting.is_none()
            && loss.hidden.alignment != Alignment::Monotone
            && self.depth.backprop_repetitions == 0;
        if plain || self.depth.sampled_per == SampledPer::Step {
            return Ok(());
        }
        Err(Error::input(
            "depth.sampled_per is \"token\", and a loss that needs one depth for all tokens is on",
        )
        .hint(
            "leave out loss.early_exit, loss.settle, loss.halting, depth.backprop_repetitions and \
                 loss.hidden.alignment = \"monotone\"",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probability_of_the_teachers_state_falls_from_one_to_zero() {
        let (teacher_forced, scheduled_until) = (0.25, 0.75);
        let phases = PhaseConfig { teacher_forced, scheduled_until, force: Granularity::Layer };
        for (progress, expected) in [(0.25, 1.0), (0.5, 0.5), (0.75, 0.0)] {
            let probability = phases.teacher_probability(progress);
            assert!((probability - expected).abs() < 1e-12, "{progress}: {probability}");
        }
        let free = PhaseConfig { teacher_forced: 0.0, scheduled_until: 0.0, ..phases };
        assert!(free.teacher_probability(0.0) <= 0.0);
    }
}
