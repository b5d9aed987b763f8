//! The recipe of a halting study.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::data::tasks::{TaskConfig, TaskSplit, TaskSupervision};
use crate::error::{Error, Result};
use crate::halting::Risk;
use crate::pretrain::Supervision;
use crate::study::law::config::StudyEvalConfig;
use crate::study::scaling::config::BlockConfig;
use crate::study::sweep::Job;
use crate::study::sweep::job::{ExitsJob, LearnerJob};

/// Does a model that decides by itself how often to repeat its block repeat it more often for longer
/// chains? The recipe of `factorize exits`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ExitsRecipe {
    /// What it is called; the name of the file when absent. Its results are in `runs/<name>`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Every learner learns once for each.
    pub seeds: Vec<u64>,
    /// What stopping early may cost; `kl` is that of the model after all of its repetitions.
    pub risk: Risk,
    /// How answers are counted.
    pub eval: ExitsEvalConfig,
    /// What is learned.
    pub learners: Vec<MixedConfig>,
}

/// How answers are counted: `[eval]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ExitsEvalConfig {
    /// Test examples of every length.
    pub examples: usize,
}

impl Default for ExitsEvalConfig {
    fn default() -> Self {
        Self { examples: StudyEvalConfig::default().examples }
    }
}

/// A block that learns chains of every length together: `[[learners]]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MixedConfig {
    /// The task, whose input has to tell its length; it says the longest.
    pub task: TaskConfig,
    /// The shortest chain.
    pub shortest: usize,
    /// What is asked after each step.
    #[serde(default)]
    pub told: TaskSupervision,
    /// Steps beyond the longest chain, in which an answer has to stay.
    pub spare_steps: usize,
    /// The learner.
    #[serde(default)]
    pub block: BlockConfig,
}

impl Default for ExitsRecipe {
    fn default() -> Self {
        Self {
            name: String::new(),
            seeds: Vec::new(),
            risk: Risk::Changed(0.01),
            eval: ExitsEvalConfig::default(),
            learners: Vec::new(),
        }
    }
}

impl MixedConfig {
    /// S, steps in which something is asked.
    fn steps(&self) -> usize {
        self.task.length() + self.spare_steps
    }

    fn validate(&self) -> Result<()> {
        let (task, label) = (self.task.build()?, self.task.label());
        let (shortest, longest) = (self.shortest, task.chain_length());
        if shortest == 0 || shortest >= longest {
            return Err(Error::input(format!(
                "shortest is {shortest}, expected 1 or more and less than {longest}, the longest"
            ))
            .at(label));
        }
        if task.input_tokens(shortest) == task.input_tokens(longest) {
            return Err(Error::input("the input of this task does not tell how long its chain is")
                .at(label)
                .hint("word, revcirc, addition, multiplication and table do"));
        }
        for split in [TaskSplit::Train, TaskSplit::Validation, TaskSplit::Test] {
            task.example(split, 0, 0, shortest).map_err(|error| error.at(label.clone()))?;
        }
        self.block.train.train().validate().map_err(|error| error.at(label))
    }
}

impl ExitsRecipe {
    /// Refuses studies that measure nothing.
    ///
    /// # Errors
    /// The first key that is empty or out of its range.
    pub fn validate(&self) -> Result<()> {
        let empty = [
            ("seeds", self.seeds.is_empty()),
            ("learners", self.learners.is_empty()),
            ("eval.examples", self.eval.examples == 0),
        ];
        if let Some((key, _)) = empty.iter().find(|(_, is_empty)| *is_empty) {
            return Err(Error::input(format!("{key} is empty: there is nothing to do")));
        }
        let possible = match self.risk {
            Risk::Kl(nats) => nats.is_finite() && nats >= 0.0,
            Risk::Changed(share) => (0.0..=1.0).contains(&share),
        };
        if !possible {
            return Err(Error::input("this risk cannot be kept")
                .at("risk")
                .hint("expected kl of 0 nats or more, or changed from 0 to 1"));
        }
        self.learners.iter().try_for_each(MixedConfig::validate)
    }

    /// So small that it takes a minute: does everything work?
    #[must_use]
    pub fn smoke(mut self) -> Self {
        self.seeds.truncate(1);
        self.learners.truncate(2);
        self.eval.examples = self.eval.examples.min(32);
        for learner in &mut self.learners {
            let train = &mut learner.block.train;
            (train.steps, train.batch_rows) = (train.steps.min(4), train.batch_rows.min(8));
            train.warmup_steps = train.warmup_steps.min(1);
        }
        self
    }

    /// All jobs, in order.
    #[must_use]
    pub fn jobs(&self) -> Vec<Job> {
        let of_seed = |&seed: &u64| self.learners.iter().map(move |one| self.job(one, seed));
        self.seeds.iter().flat_map(of_seed).collect()
    }

    fn job(&self, of: &MixedConfig, seed: u64) -> Job {
        let block = &of.block;
        let learner = LearnerJob {
            task: of.task.clone(),
            model: block.model.filled(),
            repetitions: of.steps() * block.repetitions_per_step.max(1),
            injection: block.injection,
            supervision: Supervision::Chain,
            train: block.train.clone(),
            seed,
            lengths: (of.shortest..=of.task.length()).collect(),
            eval: StudyEvalConfig { examples: self.eval.examples, ..StudyEvalConfig::default() },
        };
        Job::Exits(ExitsJob { learner, told: of.told, steps: of.steps(), risk: self.risk })
    }
}
