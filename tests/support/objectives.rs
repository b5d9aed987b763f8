//! A small language for objectives: `free_running().exits(0.7, 2).recompute(Recompute::Always)`.

use factorexe::distill::*;
use factorexe::losses::StateScale;
use factorexe::model::Alignment;

/// What is made smaller, when, and how deep.
#[derive(Clone)]
pub struct ObjectiveBuilder(pub DistillConfig);

/// The student on its own states: KL at a temperature of 2, the states of all layers, and a little
/// of the text.
pub fn free_running() -> ObjectiveBuilder {
    let loss = LossConfig {
        cross_entropy: WeightSchedule::Constant(0.3),
        temperature: 2.0,
        ..LossConfig::default()
    };
    ObjectiveBuilder(DistillConfig { loss, ..DistillConfig::default() }).phases(0.0, 0.0)
}

/// The core on the teacher's states.
pub fn teacher_forced() -> ObjectiveBuilder {
    ObjectiveBuilder(DistillConfig::default()).phases(1.0, 1.0)
}

impl From<ObjectiveBuilder> for DistillConfig {
    fn from(aim: ObjectiveBuilder) -> Self {
        aim.0
    }
}

impl ObjectiveBuilder {
    fn change(mut self, change: impl FnOnce(&mut DistillConfig)) -> Self {
        change(&mut self.0);
        self
    }

    /// Fractions of the run: forced until, mixed until.
    pub fn phases(self, teacher_forced: f64, scheduled_until: f64) -> Self {
        self.change(|c| {
            c.phases = PhaseConfig { teacher_forced, scheduled_until, ..c.phases };
        })
    }

    /// No loss at all.
    pub fn nothing(self) -> Self {
        self.kl(0.0).cross_entropy(0.0).hidden(0.0)
    }

    pub fn kl(self, weight: f64) -> Self {
        self.change(|c| c.loss.kl = WeightSchedule::Constant(weight))
    }

    pub fn cross_entropy(self, weight: f64) -> Self {
        self.change(|c| c.loss.cross_entropy = WeightSchedule::Constant(weight))
    }

    pub fn temperature(self, temperature: f64) -> Self {
        self.change(|c| c.loss.temperature = temperature)
    }

    pub fn hidden(self, weight: f64) -> Self {
        self.change(|c| c.loss.hidden.weight = WeightSchedule::Constant(weight))
    }

    /// Shares of the squared error and of 1 - cosine.
    pub fn compared(self, squared: f64, cosine: f64) -> Self {
        self.change(|c| (c.loss.hidden.squared, c.loss.hidden.cosine) = (squared, cosine))
    }

    /// States as they are, not by the size of each dimension: losses of parts of a batch add up.
    pub fn raw(self) -> Self {
        self.change(|c| c.loss.hidden.scale = StateScale::Raw)
    }

    /// Which of the teacher's layers are imitated, and where.
    pub fn aligned(self, alignment: Alignment, every: Granularity) -> Self {
        self.change(|c| (c.loss.hidden.alignment, c.loss.hidden.every) = (alignment, every))
    }

    pub fn settle(self, weight: f64) -> Self {
        self.change(|c| c.loss.settle = WeightSchedule::Constant(weight))
    }

    /// So many repetitions before the last are read as well, early ones more often.
    pub fn exits(self, weight: f64, draws: usize) -> Self {
        self.change(|c| {
            let (weight, prior) =
                (WeightSchedule::Constant(weight), EarlyExitPrior::Geometric { p: 0.3 });
            c.loss.early_exit = EarlyExitConfig { weight, draws, prior, ..c.loss.early_exit };
        })
    }

    /// What they imitate, and whether at every layer.
    pub fn exits_imitate(self, imitate: EarlyExitTarget, every: Granularity) -> Self {
        self.change(|c| (c.loss.early_exit.imitate, c.loss.early_exit.every) = (imitate, every))
    }

    pub fn halting(self, halting: impl Into<Option<HaltingConfig>>) -> Self {
        self.change(|c| c.loss.halting = halting.into())
    }

    pub fn recompute(self, recompute: Recompute) -> Self {
        self.change(|c| c.depth.recompute = recompute)
    }

    /// Any number of repetitions in a range, for each step.
    pub fn depths(self, least: usize, most: usize) -> Self {
        self.change(|c| c.depth.sampling = RepetitionSampling::Uniform { least, most })
    }

    /// The same for each token.
    pub fn token_depths(self, least: usize, most: usize) -> Self {
        self.depths(least, most).change(|c| c.depth.sampled_per = SampledPer::Token)
    }

    /// Gradients flow through so many of the last repetitions.
    pub fn truncated(self, repetitions: usize) -> Self {
        self.change(|c| c.depth.backprop_repetitions = repetitions)
    }
}
