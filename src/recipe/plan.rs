//! Plans: recipes with every choice made, as runs carry them out.
//!
//! A [`Recipe`] is what was written: sections may be absent, and values may be `auto`. A plan is what
//! is carried out, and leaves nothing to decide. A run makes its plan once and records it in its
//! folder, as a recipe that reads as the same plan again; a run that is resumed takes from there what
//! `auto` decided.

use candle_core::Tensor;

use super::sections::{Recipe, SamplesConfig, TeacherConfig};
use crate::context::Context;
use crate::data::DataConfig;
use crate::distill::{
    DepthConfig, DistillConfig, Layers, Recompute, StudentConfig, activation_bytes, find_split,
};
use crate::error::{Error, Result};
use crate::eval::EvalConfig;
use crate::eval::cost::available_bytes;
use crate::model::{LoopedConfig, Transformer};
use crate::pretrain::{ModelConfig, TokenizerConfig};
use crate::train::TrainConfig;

/// What a run of any kind needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Name of the experiment.
    pub name: String,
    /// Seed of all randomness.
    pub seed: u64,
    /// The text to train, validate and test on.
    pub data: DataConfig,
    /// Steps, optimizer, schedule and checkpoints.
    pub train: TrainConfig,
    /// The evaluation at the end, on the test split.
    pub eval: EvalConfig,
    /// The samples generated at the end.
    pub generate: SamplesConfig,
}

/// The plan of a distillation.
#[derive(Debug, Clone, PartialEq)]
pub struct DistillPlan {
    /// What a run of any kind needs.
    pub settings: Settings,
    /// The teacher; it has a source.
    pub teacher: TeacherConfig,
    /// The initialisation of the student; prelude and coda are numbers of layers.
    pub student: StudentConfig,
    /// The factorization of the teacher, halting gate included.
    pub factorization: LoopedConfig,
    /// Losses, phases and depth; whether activations are recomputed is decided.
    pub distillation: DistillConfig,
}

/// The plan of a pretraining.
#[derive(Debug, Clone, PartialEq)]
pub struct PretrainPlan {
    /// What a run of any kind needs.
    pub settings: Settings,
    /// The decoder, every width given.
    pub model: ModelConfig,
    /// Where its tokens come from.
    pub tokenizer: TokenizerConfig,
}

impl TeacherConfig {
    /// The source with its revision: `owner/name@revision`.
    #[must_use]
    pub fn revised_source(&self) -> String {
        match &self.revision {
            Some(revision) => format!("{}@{revision}", self.source),
            None => self.source.clone(),
        }
    }
}

impl Recipe {
    /// The teacher that a distillation needs.
    ///
    /// # Errors
    /// The recipe names none.
    pub fn required_teacher(&self) -> Result<&TeacherConfig> {
        let named = self.teacher.as_ref().filter(|teacher| !teacher.source.is_empty());
        named.ok_or_else(|| {
            Error::input("no teacher was given").hint(
                "add --teacher <folder | owner/name[@revision] | file.gguf>, or write [teacher] \
                 in the recipe",
            )
        })
    }

    /// Takes every choice that is `auto` here and was made in `recorded`, the recipe of a run folder.
    #[must_use]
    pub fn with_choices_of(mut self, recorded: &Self) -> Self {
        if let (Some(student), Some(recorded)) = (&mut self.student, &recorded.student) {
            let pairs = [
                (&mut student.prelude_layers, recorded.prelude_layers),
                (&mut student.coda_layers, recorded.coda_layers),
            ];
            for (layers, recorded) in pairs {
                if matches!(layers, Layers::Auto(_)) {
                    *layers = recorded;
                }
            }
        }
        if let (Some(depth), Some(recorded)) = (&mut self.depth, &recorded.depth)
            && depth.recompute == Recompute::Auto
        {
            depth.recompute = recorded.recompute;
        }
        self
    }

    fn settings(&self) -> Settings {
        Settings {
            name: self.name.clone(),
            seed: self.seed,
            data: self.data.clone(),
            train: self.train.clone(),
            eval: self.eval.clone(),
            generate: self.generate.clone(),
        }
    }
}

impl Settings {
    fn to_recipe(&self) -> Recipe {
        Recipe {
            name: self.name.clone(),
            seed: self.seed,
            data: self.data.clone(),
            train: self.train.clone(),
            eval: self.eval.clone(),
            generate: self.generate.clone(),
            ..Recipe::default()
        }
    }
}

impl DistillPlan {
    /// Makes every choice that `recipe` leaves open: prelude and coda from the angular distances of
    /// the layers of `teacher` on the batches that `calibration` returns, and whether activations are
    /// recomputed from the free memory. `calibration` is called only for the former.
    ///
    /// # Errors
    /// The recipe names no teacher, the factorization does not fit it, or the context is cancelled.
    pub fn resolve(
        recipe: &Recipe,
        teacher: &Transformer,
        calibration: &dyn Fn() -> Result<Vec<Tensor>>,
        context: &Context,
    ) -> Result<Self> {
        let (settings, mut student) = (recipe.settings(), recipe.student());
        let mut distillation = recipe.distillation();
        let open = [student.prelude_layers, student.coda_layers];
        let open = open.iter().any(|layers| matches!(layers, Layers::Auto(_)));
        let batches = if open { calibration()? } else { Vec::new() };
        let mut factorization = find_split(teacher, &student, &batches, context)?;
        factorization.gate = distillation.loss.halting.map(|halting| halting.policy);
        factorization.validate().map_err(|error| error.at("[student] of the recipe"))?;
        student.prelude_layers = Layers::Count(factorization.prelude_layers);
        student.coda_layers = Layers::Count(factorization.coda_layers);
        let step_tokens = settings.train.batch_rows * settings.data.window_tokens;
        distillation.depth.recompute =
            decide_recompute(&distillation.depth, &factorization, step_tokens, context);
        let teacher = recipe.required_teacher()?.clone();
        Ok(Self { settings, teacher, student, factorization, distillation })
    }

    /// The plan as a recipe, in which nothing is absent or `auto`.
    #[must_use]
    pub fn to_recipe(&self) -> Recipe {
        Recipe {
            teacher: Some(self.teacher.clone()),
            student: Some(self.student.clone()),
            loss: Some(self.distillation.loss.clone()),
            phases: Some(self.distillation.phases),
            depth: Some(self.distillation.depth),
            ..self.settings.to_recipe()
        }
    }
}

impl PretrainPlan {
    /// Makes every choice that `recipe` leaves open.
    ///
    /// # Errors
    /// The recipe has no `[model]`.
    pub fn resolve(recipe: &Recipe) -> Result<Self> {
        let model = recipe.model.as_ref().ok_or_else(|| {
            Error::input("this recipe has no [model] to train")
                .hint("`factorize distill` carries out recipes of distillation")
        })?;
        Ok(Self {
            settings: recipe.settings(),
            model: model.filled(),
            tokenizer: recipe.tokenizer.clone().unwrap_or_default(),
        })
    }

    /// The plan as a recipe, in which nothing is absent.
    #[must_use]
    pub fn to_recipe(&self) -> Recipe {
        Recipe {
            model: Some(self.model.clone()),
            tokenizer: Some(self.tokenizer.clone()),
            ..self.settings.to_recipe()
        }
    }
}

/// Decides `recompute = "auto"`: activations of all repetitions are stored while they fit into half
/// of the free memory. A run keeps the decision, because the sums of the two ways round differently.
fn decide_recompute(
    depth: &DepthConfig,
    config: &LoopedConfig,
    step_tokens: usize,
    context: &Context,
) -> Recompute {
    if depth.recompute != Recompute::Auto {
        return depth.recompute;
    }
    let needed = activation_bytes(config, depth, step_tokens);
    let free = available_bytes().filter(|_| context.device().is_cpu());
    let Some(free) = free.filter(|free| needed > free / 2) else { return Recompute::Never };
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    context.note(&format!(
        "activations of {:.1} GiB in {:.1} GiB of free memory: they are recomputed in the backward \
         pass",
        gib(needed),
        gib(free)
    ));
    Recompute::Always
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::distill::Auto;
    use crate::model::{RopeScaling, TransformerConfig};

    fn teacher() -> Transformer {
        let config = TransformerConfig {
            family: "llama".into(),
            layers: 6,
            width: 8,
            heads: 2,
            kv_heads: 2,
            head_width: 4,
            mlp_width: 16,
            vocabulary: 11,
            max_positions: 16,
            norm_eps: 1e-5,
            rope_theta: 1e4,
            rope_scaling: RopeScaling::None,
            tied_head: true,
            qkv_bias: false,
            output_bias: false,
            mlp_bias: false,
            qk_norm: false,
            sliding_window: None,
            windowed_layers: None,
            bos_token: None,
            eos_tokens: Vec::new(),
        };
        let ones = |(name, shape): (String, Vec<usize>)| {
            let ones = Tensor::ones(shape, candle_core::DType::F32, &candle_core::Device::Cpu);
            (name, ones.unwrap())
        };
        let tensors: BTreeMap<String, Tensor> = config.tensors().into_iter().map(ones).collect();
        Transformer::new(&config, &tensors).unwrap()
    }

    fn recipe() -> Recipe {
        Recipe {
            teacher: Some(TeacherConfig {
                source: "owner/name".into(),
                revision: Some("v1".into()),
                ..TeacherConfig::default()
            }),
            student: Some(StudentConfig {
                core_layers: 2,
                repetitions: 2,
                ..StudentConfig::default()
            }),
            ..Recipe::default()
        }
    }

    #[test]
    fn a_plan_is_read_back_from_the_recipe_it_is_recorded_as() {
        let ids = Tensor::new(&[[1_u32, 2, 3]], &candle_core::Device::Cpu).unwrap();
        let batches = || Ok(vec![ids.clone()]);
        let context = Context::cpu();
        let plan = DistillPlan::resolve(&recipe(), &teacher(), &batches, &context).unwrap();
        let recorded: Recipe = toml::from_str(&plan.to_recipe().to_toml().unwrap()).unwrap();
        let student = recorded.student.as_ref().unwrap();
        assert!(matches!(student.prelude_layers, Layers::Count(_)));
        assert_ne!(recorded.depth.unwrap().recompute, Recompute::Auto);
        let no_batches = || Err(Error::internal("nothing is left to decide"));
        let again = DistillPlan::resolve(&recorded, &teacher(), &no_batches, &context).unwrap();
        assert_eq!(again, plan);
        assert_eq!(plan.teacher.revised_source(), "owner/name@v1");
    }

    #[test]
    fn choices_of_a_recorded_run_replace_auto_and_nothing_else() {
        let mut recorded = recipe();
        let student = recorded.student.as_mut().unwrap();
        (student.prelude_layers, student.coda_layers) = (Layers::Count(2), Layers::Count(3));
        recorded.depth = Some(DepthConfig { recompute: Recompute::Always, ..Default::default() });
        let mut written = recipe();
        written.student.as_mut().unwrap().coda_layers = Layers::Count(1);
        written.depth = Some(DepthConfig::default());
        let resumed = written.with_choices_of(&recorded);
        let student = resumed.student.unwrap();
        assert_eq!(student.prelude_layers, Layers::Count(2));
        assert_eq!(student.coda_layers, Layers::Count(1));
        assert_eq!(resumed.depth.unwrap().recompute, Recompute::Always);
        let undecided = recipe().with_choices_of(&recipe()).student.unwrap();
        assert_eq!(undecided.prelude_layers, Layers::Auto(Auto::Auto));
    }

    #[test]
    fn a_recipe_without_a_teacher_or_a_model_has_no_plan() {
        let error = Recipe::default().required_teacher().unwrap_err();
        assert!(error.to_string().contains("--teacher"), "{error}");
        let error = PretrainPlan::resolve(&Recipe::default()).unwrap_err();
        assert!(error.message().contains("no [model]"), "{error}");
    }
}
