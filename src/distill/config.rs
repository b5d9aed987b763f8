//! What does a recipe say of student, losses, phases and depth?

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::depth::{DepthConfig, DrawnFor, Recompute};
use super::exits::ExitsConfig;
use super::granularity::Every;
use super::halting::HaltingConfig;
use super::weight_schedule::WeightSchedule;
use crate::error::{Error, Result};
use crate::losses::terms::StateScale;
use crate::model::{Alignment, Injection, Relaxation, StateNorm};

/// A number of layers, or the word `auto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Layers {
    /// So many.
    Count(usize),
    /// Found where the angular distance of consecutive layers has its knee.
    Found(Auto),
}

/// The word `auto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Auto {
    /// `auto`.
    Auto,
}

/// What the core starts as. The layers around it, the embedding and the head start as the
/// teacher's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Init {
    /// Normal numbers of the teacher's own spread.
    Random,
    /// The first layers of the teacher's middle.
    First,
    /// Layers of the teacher's middle at equal intervals, the first and the last among them.
    EveryNth,
    /// The mean of the layers each core layer stands for.
    Average,
    /// The matrices that reproduce the teacher's own products best, in the least-squares sense, on
    /// a calibration batch: W = sum W_r C_r (sum C_r)^-1 with C_r = X_r^T X_r.
    #[default]
    LeastSquares,
}

/// What the low-rank part of each repetition starts as.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LoraInit {
    /// B is zero: every repetition starts as the shared core.
    Zero,
    /// The truncated singular value decomposition of what sharing loses; with least squares, in
    /// the metric of the teacher's states. Bae et al. 2024.
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
    /// N, how often the core is applied.
    pub repetitions: usize,
    /// D, if narrower than the teacher's: a part of its width that leaves whole heads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width: Option<usize>,
    /// Layers after the core that are not shared: a number or `auto`.
    pub coda_layers: Layers,
    /// What differs between repetitions.
    pub relaxation: Relaxation,
    /// What of the prelude's output every repetition hears.
    pub injection: Injection,
    /// What is done to the state between two repetitions.
    #[serde(alias = "between")]
    pub state_norm: StateNorm,
    /// What the core starts as.
    pub init: Init,
    /// What the low-rank parts start as.
    pub lora_init: LoraInit,
    /// Tokens of training text that least squares and `auto` look at.
    pub calibration_tokens: usize,
    /// Parameters that stay as they start, by name; `*` stands for anything.
    pub frozen: Vec<String>,
}

impl Default for StudentConfig {
    fn default() -> Self {
        Self {
            prelude_layers: Layers::Found(Auto::Auto),
            core_layers: 1,
            repetitions: 4,
            width: None,
            coda_layers: Layers::Found(Auto::Auto),
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

/// Which tokens' states are compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Compared {
    /// All but `skip_tokens`.
    #[default]
    All,
    /// Those that are asked something; in text these are all.
    Asked,
}

/// Matching of hidden states: `[loss.hidden]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HiddenConfig {
    /// Of the mean over all compared states.
    pub weight: WeightSchedule,
    /// Share of the relative squared error.
    pub squared: f64,
    /// Share of 1 - cosine.
    pub cosine: f64,
    /// How the width is scaled before comparing.
    pub scale: StateScale,
    /// Which of the teacher's layers each state imitates.
    pub alignment: Alignment,
    /// Where states are compared.
    pub every: Every,
    /// Tokens at the start of a window that are not compared.
    pub skip_tokens: usize,
    /// Whose states are compared.
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
            every: Every::default(),
            skip_tokens: 1,
            tokens: Compared::default(),
        }
    }
}

/// What is made smaller: `[loss]` of a recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LossConfig {
    /// Weight of the cross entropy with the text.
    pub cross_entropy: WeightSchedule,
    /// Weight of KL(teacher || student).
    pub kl: WeightSchedule,
    /// Divides both logits in the KL.
    pub temperature: f64,
    /// Matching of hidden states.
    pub hidden: HiddenConfig,
    /// Weight of the pull of each of the last repetitions' states towards the last one: without it
    /// matching layers removes the convergence that early exit needs.
    pub settle: WeightSchedule,
    /// Readouts before the last repetition.
    pub exits: ExitsConfig,
    /// A gate that learns together with the student.
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
            exits: ExitsConfig::default(),
            halting: None,
        }
    }
}

/// When the student stands on its own states: `[phases]` of a recipe, in fractions of the run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PhaseConfig {
    /// Until here every repetition starts from the teacher's own state.
    pub teacher_forced: f64,
    /// From there until here a repetition starts from the teacher's state with a probability that
    /// falls from 1 to 0; afterwards the loop is closed.
    pub mixed_until: f64,
    /// What starts from the teacher's state: each layer or each repetition.
    pub force: Every,
}

impl Default for PhaseConfig {
    fn default() -> Self {
        Self { teacher_forced: 0.2, mixed_until: 0.3, force: Every::Layer }
    }
}

/// Losses, phases and depth together.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DistillConfig {
    /// What is made smaller.
    pub loss: LossConfig,
    /// When the student stands on its own states.
    pub phases: PhaseConfig,
    /// How many repetitions a step takes.
    pub depth: DepthConfig,
}

impl DistillConfig {
    /// Refuses weights, fractions and ranges that mean nothing.
    ///
    /// # Errors
    /// The first key out of its range.
    pub fn validate(&self) -> Result<()> {
        let weights = [
            ("loss.cross_entropy", self.loss.cross_entropy),
            ("loss.kl", self.loss.kl),
            ("loss.hidden.weight", self.loss.hidden.weight),
            ("loss.settle", self.loss.settle),
            ("loss.exits.weight", self.loss.exits.weight),
        ];
        let halting = self.loss.halting.map(|halting| ("loss.halting.weight", halting.weight));
        for (key, weight) in weights.into_iter().chain(halting) {
            if !weight.is_valid() {
                return Err(Error::input(format!(
                    "{key} is {weight:?}: expected weights of 0 or more, over fractions of the run \
                     that begin before they end"
                )));
            }
        }
        if !(self.loss.temperature.is_finite() && self.loss.temperature > 0.0) {
            return Err(Error::input("loss.temperature must be above 0"));
        }
        self.loss.exits.validate()?;
        if let Some(halting) = &self.loss.halting {
            halting.validate()?;
            if !self.loss.exits.weight.is_zero() {
                return Err(Error::input(
                    "loss.halting reads out every repetition, and loss.exits some of them again",
                )
                .hint("write loss.exits.weight = 0"));
            }
        }
        let (exits, recompute) = (self.loss.exits, self.depth.recompute);
        if exits.every == Every::Layer && recompute == Recompute::Always {
            return Err(Error::input(
                "layers within a repetition that is computed anew are not read",
            )
            .hint("write depth.recompute = \"never\", or loss.exits.every = \"repetition\""));
        }
        let phases = self.phases;
        let ordered = (0.0..=1.0).contains(&phases.teacher_forced)
            && phases.mixed_until >= phases.teacher_forced
            && phases.mixed_until <= 1.0;
        if !ordered {
            return Err(Error::input(format!(
                "phases.teacher_forced {} and phases.mixed_until {} must rise within 0 to 1",
                phases.teacher_forced, phases.mixed_until
            )));
        }
        let hidden = self.loss.hidden.weight;
        if phases.teacher_forced > 0.0
            && (hidden.at(0.0) <= 0.0 || hidden.at(phases.teacher_forced) <= 0.0)
        {
            return Err(Error::input(
                "loss.hidden.weight is 0 while phases.teacher_forced lasts, and nothing else is \
                 learned there",
            )
            .hint("raise loss.hidden.weight, or set phases.teacher_forced to 0"));
        }
        self.check_tokens_apart()?;
        self.depth.validate()
    }

    /// Refuses what means nothing when every token has its own depth.
    fn check_tokens_apart(&self) -> Result<()> {
        let loss = &self.loss;
        let plain = loss.settle.is_zero()
            && loss.exits.weight.is_zero()
            && loss.halting.is_none()
            && loss.hidden.alignment != Alignment::Monotone
            && self.depth.backprop_repetitions == 0;
        if plain || self.depth.drawn_for == DrawnFor::Step {
            return Ok(());
        }
        Err(Error::input(
            "depth.drawn_for is \"token\", and a token is read out where it stops alone",
        )
        .hint(
            "leave out loss.exits, loss.settle, loss.halting, depth.backprop_repetitions and \
                 loss.hidden.alignment = \"monotone\"",
        ))
    }
}
