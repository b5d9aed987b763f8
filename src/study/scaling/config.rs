//! The recipe of a scaling study.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::data::tasks::TaskConfig;
use crate::error::{Error, Result};
use crate::model::Injection;
use crate::pretrain::{ModelConfig, Supervision};
use crate::study::law::config::{StepsConfig, StudyEvalConfig};
use crate::study::sweep::Job;
use crate::study::sweep::job::{LanguageJob, LearnerJob, SamplesJob};

/// The recipe of `factorize scaling`: how the ability of a factored model grows with its size, the
/// length of a chain and data. Each section is a law and may be left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ScalingRecipe {
    /// Name of the study; the name of the file when absent. Results go to `runs/<name>`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Seeds; every cell is measured once for each.
    pub seeds: Vec<u64>,
    /// Settings of the evaluation.
    pub eval: StudyEvalConfig,
    /// Examples needed against the length of the chain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub samples: Option<SamplesConfig>,
    /// The horizon: accuracy on chains longer than those trained on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub horizon: Option<HorizonConfig>,
    /// Loss on text against layers, repetitions and tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub joint: Option<JointConfig>,
}

/// Supervision of a student and the lengths of its examples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// Every step is supervised.
    Chain,
    /// Half of the steps are supervised, evenly spaced, as [`Supervision::Some`] counts them.
    Partly,
    /// Final answers alone, of chains of every length up to T.
    Mixed,
    /// Final answers alone, of chains of length T.
    Hard,
}

impl Way {
    /// The supervision of chains of `length`, and the shortest chain.
    #[must_use]
    pub fn teaches(self, length: usize) -> (Supervision, usize) {
        match self {
            Self::Chain => (Supervision::Chain, length),
            Self::Partly => (Supervision::Some { steps: length / 2 }, length),
            Self::Mixed => (Supervision::Final, 1),
            Self::Hard => (Supervision::Final, length),
        }
    }
}

/// A block that is applied once for each step of a chain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BlockConfig {
    /// The shape of the block; its layers are K.
    pub model: ModelConfig,
    /// Repetitions for a step of the chain.
    pub repetitions_per_step: usize,
    /// Injection of the first state into every repetition.
    pub injection: Injection,
    /// Length and learning rate of the training.
    pub train: StepsConfig,
}

impl Default for BlockConfig {
    fn default() -> Self {
        let shape = ModelConfig { layers: 1, width: 64, ..ModelConfig::default() };
        Self {
            model: ModelConfig { max_positions: 512, ..shape },
            repetitions_per_step: 1,
            injection: Injection::None,
            train: StepsConfig::default(),
        }
    }
}

/// Examples needed: `[samples]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SamplesConfig {
    /// The task; `lengths` overrides its length.
    pub task: TaskConfig,
    /// T.
    pub lengths: Vec<usize>,
    /// Ways of supervision.
    pub ways: Vec<Way>,
    /// Numbers of examples to try, rising.
    pub examples: Vec<u64>,
    /// Target accuracy.
    pub accuracy: f64,
    /// The student.
    #[serde(default)]
    pub block: BlockConfig,
}

/// The horizon, accuracy on longer chains: `[horizon]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HorizonConfig {
    /// The task; its length is the length of the training chains.
    pub task: TaskConfig,
    /// Widths, one student for each.
    pub widths: Vec<usize>,
    /// Lengths it is evaluated at.
    pub lengths: Vec<usize>,
    /// Supervision of the chains.
    #[serde(default = "every_step")]
    pub supervision: Supervision,
    /// The student; `widths` overrides its width.
    #[serde(default)]
    pub block: BlockConfig,
}

fn every_step() -> Supervision {
    Supervision::Chain
}

/// Loss on text: `[joint]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JointConfig {
    /// A model whose tokenizer is used.
    pub tokenizer: String,
    /// Text files to train on.
    pub files: Vec<String>,
    /// Text files to evaluate on.
    pub test: Vec<String>,
    /// D.
    pub widths: Vec<usize>,
    /// Width of a head.
    pub head_width: usize,
    /// K and N together: `[core, repetitions]`.
    pub cores: Vec<(usize, usize)>,
    /// Layers before the core, and as many after it.
    pub outer_layers: usize,
    /// Optimizer steps, one model for each.
    pub steps: Vec<u64>,
    /// Tokens of a window.
    pub window_tokens: usize,
    /// Learning rate of the training; `steps` overrides the ones in it.
    #[serde(default)]
    pub train: StepsConfig,
    /// Tokens of the evaluation.
    pub test_tokens: usize,
}

impl ScalingRecipe {
    /// Checks the recipe.
    ///
    /// # Errors
    /// The first key that is empty or out of its range.
    pub fn validate(&self) -> Result<()> {
        let missing = self.samples.is_none() && self.horizon.is_none() && self.joint.is_none();
        let mut empty: Vec<(&str, bool)> = vec![("seeds", self.seeds.is_empty())];
        if let Some(samples) = &self.samples {
            samples.task.validate()?;
            empty.push(("samples.lengths", samples.lengths.is_empty()));
            empty.push(("samples.ways", samples.ways.is_empty()));
            empty.push(("samples.examples", samples.examples.is_empty()));
            if !samples.examples.is_sorted_by(|a, b| a < b) {
                return Err(Error::input("samples.examples must rise"));
            }
            if !(0.0..=1.0).contains(&samples.accuracy) {
                return Err(Error::input("samples.accuracy is a share, 0 to 1"));
            }
        }
        if let Some(horizon) = &self.horizon {
            horizon.task.validate()?;
            empty.push(("horizon.widths", horizon.widths.is_empty()));
            empty.push(("horizon.lengths", horizon.lengths.is_empty()));
        }
        if let Some(joint) = &self.joint {
            empty.push(("joint.cores", joint.cores.is_empty()));
            empty.push(("joint.widths", joint.widths.is_empty()));
            empty.push(("joint.steps", joint.steps.is_empty()));
            if joint.head_width == 0 || joint.widths.iter().any(|w| w % joint.head_width != 0) {
                return Err(Error::input("joint.widths must be multiples of joint.head_width"));
            }
        }
        if missing {
            return Err(Error::input("this recipe measures nothing")
                .hint("write [samples], [horizon] or [joint]"));
        }
        match empty.iter().find(|(_, is_empty)| *is_empty) {
            Some((key, _)) => Err(Error::input(format!("{key} is empty: there is nothing to do"))),
            None => Ok(()),
        }
    }

    /// The study at smoke size: every part runs, in about a minute.
    #[must_use]
    pub fn smoke(mut self) -> Self {
        self.seeds.truncate(1);
        self.eval.examples = self.eval.examples.min(64);
        self.eval.bootstrap_samples = self.eval.bootstrap_samples.min(50);
        let small = |train: &mut StepsConfig| {
            (train.steps, train.batch_rows) = (train.steps.min(4), train.batch_rows.min(8));
            train.warmup_steps = train.warmup_steps.min(1);
        };
        if let Some(samples) = &mut self.samples {
            samples.lengths.truncate(2);
            samples.examples.truncate(2);
            small(&mut samples.block.train);
        }
        if let Some(horizon) = &mut self.horizon {
            horizon.widths.truncate(1);
            horizon.lengths.truncate(3);
            small(&mut horizon.block.train);
        }
        if let Some(joint) = &mut self.joint {
            joint.steps = joint.steps.iter().map(|steps| (*steps).min(4)).collect();
            joint.widths.truncate(2);
            small(&mut joint.train);
            joint.test_tokens = joint.test_tokens.min(256);
        }
        self
    }

    /// All jobs, in order.
    #[must_use]
    pub fn jobs(&self) -> Vec<Job> {
        let mut jobs = Vec::new();
        for &seed in &self.seeds {
            jobs.extend(self.samples.iter().flat_map(|samples| self.samples_jobs(samples, seed)));
            jobs.extend(self.horizon.iter().flat_map(|horizon| self.horizon_jobs(horizon, seed)));
            jobs.extend(self.joint.iter().flat_map(|joint| joint_jobs(joint, seed)));
        }
        jobs
    }

    fn learner(
        &self,
        task: TaskConfig,
        block: &BlockConfig,
        length: usize,
        seed: u64,
    ) -> LearnerJob {
        LearnerJob {
            task,
            model: block.model.filled(),
            repetitions: length * block.repetitions_per_step.max(1),
            injection: block.injection,
            supervision: Supervision::Chain,
            train: block.train.clone(),
            seed,
            lengths: vec![length],
            eval: self.eval.clone(),
        }
    }

    fn samples_jobs(&self, samples: &SamplesConfig, seed: u64) -> Vec<Job> {
        let mut jobs = Vec::new();
        for &way in &samples.ways {
            for &length in &samples.lengths {
                let (supervision, shortest) = way.teaches(length);
                let task = samples.task.with_length(length);
                let learner = self.learner(task, &samples.block, length, seed);
                jobs.push(Job::Samples(SamplesJob {
                    learner: LearnerJob { supervision, ..learner },
                    shortest,
                    examples: samples.examples.clone(),
                    accuracy: samples.accuracy,
                }));
            }
        }
        jobs
    }

    fn horizon_jobs(&self, horizon: &HorizonConfig, seed: u64) -> Vec<Job> {
        let length = horizon.task.length();
        let job = |&width: &usize| {
            let model = ModelConfig { width, ..horizon.block.model.clone() };
            let block = BlockConfig { model, ..horizon.block.clone() };
            let learner = self.learner(horizon.task.clone(), &block, length, seed);
            Job::Learner(LearnerJob {
                supervision: horizon.supervision,
                lengths: horizon.lengths.clone(),
                ..learner
            })
        };
        horizon.widths.iter().map(job).collect()
    }
}

fn joint_jobs(joint: &JointConfig, seed: u64) -> Vec<Job> {
    let mut jobs = Vec::new();
    for &width in &joint.widths {
        for &(core, repetitions) in &joint.cores {
            for &steps in &joint.steps {
                let model = ModelConfig {
                    layers: core + 2 * joint.outer_layers,
                    width,
                    heads: width / joint.head_width,
                    ..ModelConfig::default()
                };
                jobs.push(Job::Language(LanguageJob {
                    tokenizer: joint.tokenizer.clone(),
                    files: joint.files.clone(),
                    test: joint.test.clone(),
                    model: model.filled(),
                    outer_layers: joint.outer_layers,
                    repetitions,
                    window_tokens: joint.window_tokens,
                    train: StepsConfig { steps, ..joint.train.clone() },
                    seed,
                    test_tokens: joint.test_tokens,
                }));
            }
        }
    }
    jobs
}
