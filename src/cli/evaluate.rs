//! How good is a model on this text?

use std::path::Path;

use super::args::EvaluateArgs;
use super::{Session, output};
use crate::data::windows::Spread;
use crate::data::{Documents, read_documents};
use crate::error::Result;
use crate::eval::EvalConfig;
use crate::run::{self, Loaded};

pub(super) fn evaluate(args: &EvaluateArgs, session: &Session) -> Result<()> {
    let config = EvalConfig {
        window_tokens: args.window,
        max_tokens: args.max_tokens,
        repetitions: args.repetitions.clone(),
        ..EvalConfig::default()
    };
    config.validate()?;
    let (progress, interrupt) = (&session.progress, &session.interrupt);
    let documents = read_documents(&args.text, Path::new(""), &args.field)?;
    let read = |source: &str| Loaded::read(source, &session.device, progress, interrupt);
    let teacher = read(&args.teacher)?;
    teacher.deep()?;
    let student = args.student.as_deref().map(read).transpose()?;
    let learner = student.as_ref().map(Loaded::looped).transpose()?;
    let tokens = Documents::encode(&documents, teacher.tokenizer()?)?;
    let windows = tokens.evaluation_windows(args.window, args.max_tokens, Spread::InOrder);
    let found = run::evaluate(teacher.model.lm(), learner, &windows, &config, progress, interrupt)?;
    if session.json {
        return output::json(&found);
    }
    output::table(&found.table())
}
