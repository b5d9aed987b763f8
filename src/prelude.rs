//! What a program that uses the library needs, in one import: `use factorexe::prelude::*;`.
//!
//! Load a teacher, make a student of it, fit, evaluate and export it:
//!
//! ```
//! use factorexe::prelude::*;
//!
//! # fn main() -> Result<()> {
//! let (context, run) = (Context::cpu(), Path::new("runs/mine"));
//! # let folder = tempfile::tempdir().unwrap();
//! # let (context, run) = (context.with_cache(folder.path().join("cache")), folder.path());
//! let teacher = Teacher::load("recipes/sotu-12l", &context)?;
//! let shape = StudentConfig::default().with_layers(1, 2, 1).with_repetitions(5);
//! let text = ["recipes/text/sotu-train.parquet"];
//! let mut recipe = Recipe::default().with_student(shape).with_text(text);
//! recipe.train.steps = 900;
//! # (recipe.train.steps, recipe.train.batch_rows, recipe.data.window_tokens) = (2, 1, 32);
//! # recipe.train.schedule.warmup_steps = 1;
//! # (recipe.eval.max_tokens, recipe.eval.bootstrap_samples) = (256, 0);
//! # recipe.student.as_mut().unwrap().calibration_tokens = 256;
//! let corpus = teacher.corpus(&recipe.data, &context)?;
//! let plan = teacher.plan(&recipe, &corpus, &context)?;
//! let mut student = Student::from_teacher(&teacher, &corpus, &plan, &context)?;
//! student.fit(&teacher, &corpus, &plan, run, &context)?;
//! let evaluation = student.evaluate(&teacher, &corpus, &plan.settings.eval, &context)?;
//! println!("perplexity at N = 5: {:.1}", evaluation.student[4].perplexity);
//! student.export(run.join("student"))?;
//! # assert!(evaluation.student[4].perplexity.is_finite());
//! # assert!(Loaded::read(run.join("student").to_str().unwrap(), &context)?.looped().is_ok());
//! # Ok(())
//! # }
//! ```
//!
//! Calibrate halting policies for a student, and let it write with 2.5 repetitions a token:
//!
//! ```no_run
//! use factorexe::prelude::*;
//!
//! # fn main() -> Result<()> {
//! let context = Context::cpu();
//! let teacher = Teacher::load("recipes/sotu-12l", &context)?;
//! let student = Loaded::read("runs/mine/student", &context)?;
//! let data = DataConfig { files: vec!["texts".into()], ..DataConfig::default() };
//! let windows = held_out(&teacher.corpus(&data, &context)?, Split::Test, &EvalConfig::default())?;
//! let (model, fingerprint) = (student.looped()?, &student.checkpoint.fingerprint);
//! let config = CalibrateConfig { risk: Risk::Kl(0.01), ..CalibrateConfig::default() };
//! let halting = calibrate(teacher.model(), model, fingerprint, &windows, &config, &context)?;
//!
//! let policy = halting.find(halting.best)?;
//! let stopping = Stopping::calibrated(policy, Some(Budget::Mean(2.5)))?;
//! let read = ReadConfig { stopping: Some(stopping), ..ReadConfig::default() };
//! let config = GenerateConfig::default();
//! let generator = Generator::reading(model, student.tokenizer()?, &config, read)?;
//! println!("{}", generator.generate("The state of", &mut |_| true)?.text);
//! # Ok(())
//! # }
//! ```
//!
//! Fit a law to the repetitions that students of several depths needed:
//!
//! ```
//! use factorexe::fit::{Needed, Resampling, law};
//!
//! # fn main() -> factorexe::Result<()> {
//! // A core of half of the teacher's layers needed 2 repetitions, a quarter 4, an eighth 8.
//! let row = |(ratio, needed): (f64, f64)| Needed {
//!     ratios: vec![ratio],
//!     low: needed,
//!     high: Some(needed),
//!     cluster: "one teacher".into(),
//! };
//! let rows = [(2.0, 2.0), (4.0, 4.0), (8.0, 8.0), (16.0, 16.0)].map(row);
//! let laws = law::fit(&rows, Resampling { resamples: 100, seed: 0 })?;
//! println!("{}", serde_json::to_string_pretty(&laws).unwrap());
//! # Ok(())
//! # }
//! ```

pub use std::path::Path;

pub use crate::context::{Cancellation, Context, Observer};
pub use crate::data::{Corpus, DataConfig, Split, Tokenizer};
pub use crate::distill::{DepthConfig, DistillConfig, LossConfig, PhaseConfig, StudentConfig};
pub use crate::error::{Error, Result};
pub use crate::eval::{CalibrateConfig, EvalConfig, Evaluation, calibrate};
pub use crate::generate::{GenerateConfig, Generator, ReadConfig, Stopping};
pub use crate::halting::{Budget, Halting, PolicyName, Risk};
pub use crate::model::{CausalLm, LoopedTransformer, Transformer};
pub use crate::recipe::{DistillPlan, Recipe};
pub use crate::run::{Loaded, Student, Teacher, held_out};
pub use crate::train::TrainConfig;
