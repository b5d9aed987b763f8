//! Teachers: frozen deep models, from which students are made.

use std::path::Path;

use super::load::{Loaded, Model};
use super::text;
use crate::context::Context;
use crate::data::{Corpus, DataConfig, Tokenizer};
use crate::error::{Error, Result};
use crate::hub::Checkpoint;
use crate::model::Transformer;
use crate::recipe::{DistillPlan, Recipe};

/// A frozen deep model with its checkpoint, from which students are made.
#[derive(Debug, Clone)]
pub struct Teacher {
    checkpoint: Checkpoint,
    model: Transformer,
}

impl Teacher {
    /// Loads a teacher from a folder, a GGUF file, `owner/name[@revision]` of the Hugging Face Hub, or
    /// a run folder with a model in it.
    ///
    /// # Errors
    /// It cannot be read or downloaded, is damaged, or is a student.
    pub fn load(source: &str, context: &Context) -> Result<Self> {
        let Loaded { checkpoint, model } = Loaded::read(source, context)?;
        match model {
            Model::Deep(model) => Ok(Self { checkpoint, model: *model }),
            Model::Looped(_) => Err(Error::input("this is a student, where a teacher is expected")
                .at(&checkpoint.origin)
                .hint("give the deep model it was made from")),
        }
    }

    /// The model, on the device it was loaded for.
    #[must_use]
    pub fn model(&self) -> &Transformer {
        &self.model
    }

    /// The checkpoint it was loaded from, on the CPU.
    #[must_use]
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The tokenizer of the teacher, which its students share.
    ///
    /// # Errors
    /// It came without one, or with one of another vocabulary.
    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        self.checkpoint.own_tokenizer()
    }

    /// The text that `data` names, in the teacher's tokens. Relative files start at the current
    /// folder.
    ///
    /// # Errors
    /// A file is missing, unreadable or not text; there is no text; the context is cancelled.
    pub fn corpus(&self, data: &DataConfig, context: &Context) -> Result<Corpus> {
        Corpus::open(data, Path::new(""), self.tokenizer()?, context)
    }

    /// Makes every choice that `recipe` leaves open, for this teacher and this text.
    ///
    /// # Errors
    /// The factorization does not fit the teacher, or the context is cancelled.
    pub fn plan(&self, recipe: &Recipe, corpus: &Corpus, context: &Context) -> Result<DistillPlan> {
        let mut recipe = recipe.clone();
        let teacher = recipe.teacher.get_or_insert_default();
        if teacher.source.is_empty() {
            teacher.source.clone_from(&self.checkpoint.origin);
        }
        let tokens = recipe.student().calibration_tokens;
        let calibration = || text::calibration(corpus, tokens, recipe.seed, context);
        DistillPlan::resolve(&recipe, &self.model, &calibration, context)
    }
}
