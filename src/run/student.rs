//! Students: made from a teacher, evaluated beside it, and exported.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};

use super::load::on;
use super::measure::text_bytes;
use super::teacher::Teacher;
use super::text;
use crate::autograd::Params;
use crate::context::Context;
use crate::data::{Corpus, Split, Tokenizer};
use crate::distill::{Frozen, MAP, initial_params, student_params};
use crate::error::Result;
use crate::eval::{EvalConfig, Evaluation, evaluate};
use crate::hub::{Card, StoredType, export_student};
use crate::model::{LoopedConfig, LoopedTransformer};
use crate::recipe::DistillPlan;

/// A student with its parameters.
#[derive(Debug)]
pub struct Student {
    pub(super) params: Params,
    pub(super) model: LoopedTransformer,
    tokenizer: Tokenizer,
}

impl Student {
    /// Initialises a student from `teacher` as `plan` says; initialisations that need text read
    /// `corpus`.
    ///
    /// # Errors
    /// The factorization does not fit the teacher, a decomposition fails, or the context is
    /// cancelled.
    pub fn from_teacher(
        teacher: &Teacher,
        corpus: &Corpus,
        plan: &DistillPlan,
        context: &Context,
    ) -> Result<Self> {
        let (config, seed) = (&plan.factorization, plan.settings.seed);
        let tokens = plan.student.calibration_tokens;
        let calibration = text::calibration(corpus, tokens, seed, context)?;
        let tensors = on(&teacher.checkpoint().tensors, context.device())?;
        let model = teacher.model();
        let params =
            student_params(model, &tensors, config, &plan.student, &calibration, seed, context)?;
        Self::new(teacher, config, params)
    }

    /// A student whose parameters a checkpoint is about to replace: trained ones are zero, frozen
    /// ones are copied from the teacher, or initialised where they are not simply copies.
    pub(super) fn to_restore(
        teacher: &Teacher,
        corpus: &Corpus,
        plan: &DistillPlan,
        context: &Context,
    ) -> Result<Self> {
        match placeholders(teacher, plan, context)? {
            Some(params) => Self::new(teacher, &plan.factorization, params),
            None => Self::from_teacher(teacher, corpus, plan, context),
        }
    }

    fn new(teacher: &Teacher, config: &LoopedConfig, params: Params) -> Result<Self> {
        let model = LoopedTransformer::new(config, &params)?;
        Ok(Self { params, model, tokenizer: teacher.tokenizer()?.clone() })
    }

    /// The model, with the parameters as they are now.
    #[must_use]
    pub fn model(&self) -> &LoopedTransformer {
        &self.model
    }

    /// The parameters.
    #[must_use]
    pub fn initial_params(&self) -> &Params {
        &self.params
    }

    /// The tokenizer, which is that of the teacher.
    #[must_use]
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Compares the student with `teacher` on the test split of `corpus`.
    ///
    /// # Errors
    /// The split has no text, a device fails, or the context is cancelled.
    pub fn evaluate(
        &self,
        teacher: &Teacher,
        corpus: &Corpus,
        config: &EvalConfig,
        context: &Context,
    ) -> Result<Evaluation> {
        let windows = text::held_out(corpus, Split::Test, config)?;
        let evaluation = evaluate(teacher.model(), Some(&self.model), &windows, config, context)?;
        Ok(evaluation.with_text_bytes(text_bytes(&windows, &self.tokenizer)?))
    }

    /// Writes the student into `folder`, as a checkpoint that [`Loaded::read`](super::Loaded::read)
    /// and Hugging Face transformers open.
    ///
    /// # Errors
    /// The folder exists and is not a checkpoint, or the disk is full.
    pub fn export(&self, folder: impl AsRef<Path>) -> Result<()> {
        self.export_with(folder.as_ref(), &Card::default())
    }

    /// The same with a model card.
    pub(super) fn export_with(&self, folder: &Path, card: &Card) -> Result<()> {
        let (tensors, tokenizer) = (self.params.tensors(), Some(&self.tokenizer));
        export_student(folder, self.model.config(), &tensors, tokenizer, card, StoredType::F32)
    }
}

/// Parameters for [`Student::to_restore`]; none when a frozen one is not a copy of the teacher's.
fn placeholders(
    teacher: &Teacher,
    plan: &DistillPlan,
    context: &Context,
) -> Result<Option<Params>> {
    let (config, device) = (&plan.factorization, context.device());
    let frozen = Frozen::new(&plan.student)?;
    let (wide, width) = (teacher.checkpoint().config.width, config.base.width);
    let mut tensors = BTreeMap::new();
    for (name, shape) in config.tensors() {
        let values = if frozen.matches(&name) {
            let copied = teacher_name(&name, config).filter(|_| wide == width);
            let stored = &teacher.checkpoint().tensors;
            let Some(tensor) = copied.and_then(|name| stored.get(&name)) else {
                return Ok(None);
            };
            tensor.clone()
        } else {
            Tensor::zeros(shape, DType::F32, &Device::Cpu)?
        };
        tensors.insert(name, values);
    }
    let mut params = initial_params(&tensors, config, &plan.student, device)?;
    if wide != width {
        params.insert(MAP, &Tensor::zeros((wide, width), DType::F32, device)?, true)?;
    }
    Ok(Some(params))
}

/// Name of the teacher's tensor that a tensor outside the core is a copy of.
fn teacher_name(name: &str, config: &LoopedConfig) -> Option<String> {
    let (part, rest) = name.split_once('.')?;
    let first = match part {
        "core" => return None,
        "prelude" => 0,
        "coda" => config.base.layers - config.coda_layers,
        _ => return Some(name.to_owned()),
    };
    let (layer, rest) = rest.split_once('.')?;
    Some(format!("layers.{}.{rest}", first + layer.parse::<usize>().ok()?))
}
