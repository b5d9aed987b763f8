//! `evaluate`: compares a student with its teacher on text.

use std::path::Path;

use crate::cli::args::text::{EvaluateArgs, TextArgs};
use crate::cli::output;
use crate::cli::session::Session;
use crate::data::windows::Spread;
use crate::data::{Documents, read_documents};
use crate::decode::Decoder;
use crate::error::Result;
use crate::eval::{
    EvalConfig, Evaluation, OPTIONAL_COLUMNS, OPTIONAL_POLICY_COLUMNS, PolicyReport,
    evaluate_policies,
};
use crate::halting::PolicyName;
use crate::kernels::WeightType;
use crate::run::{Loaded, Windows, check_windows, read_halting, text_bytes};

pub(crate) fn evaluate(args: &EvaluateArgs, session: &Session) -> Result<()> {
    let config = EvalConfig {
        window_tokens: args.on.window,
        max_tokens: args.max_tokens,
        repetitions: args.repetitions.clone(),
        ..EvalConfig::default()
    };
    config.validate()?;
    let names = names(&args.policies)?;
    let context = &session.context;
    let documents = read_documents(&args.on.text, Path::new(""), &args.on.field)?;
    let read = |source: &str| Loaded::read(source, &session.context);
    let teacher = read(&args.on.teacher)?;
    teacher.deep()?;
    let student = args.student.as_deref().map(read).transpose()?;
    let looped = student.as_ref().map(Loaded::looped).transpose()?;
    for model in std::iter::once(&teacher).chain(&student) {
        check_window(&args.on, model, session)?;
    }
    let tokenizer = teacher.tokenizer()?;
    let tokens = Documents::encode(&documents, tokenizer)?;
    let windows = tokens.evaluation_windows(args.on.window, args.max_tokens, Spread::InOrder);
    let mut found = crate::eval::evaluate(teacher.model.lm(), looped, &windows, &config, context)?
        .with_text_bytes(text_bytes(&windows, tokenizer)?);
    if let Some((student, looped)) = student.as_ref().zip(looped)
        && !names.is_empty()
    {
        let halting = read_halting(student, args.halting.as_deref())?;
        let decoder = Decoder::new(looped, WeightType::F32)?;
        found.halting = Some(evaluate_policies(
            teacher.model.lm(),
            looped,
            &decoder,
            &halting,
            &names,
            args.kv.unwrap_or_default(),
            &windows,
            config.batch_rows,
            context,
        )?);
    }
    if session.json { output::json(&found) } else { show(&found) }
}

/// The tables, each with what it rests on.
fn show(found: &Evaluation) -> Result<()> {
    output::table_without(&found.table(), &OPTIONAL_COLUMNS)?;
    output::paragraph(&found.caption())?;
    if let Some(halting) = &found.halting {
        output::line("")?;
        output::table_without(&halting.table(), &OPTIONAL_POLICY_COLUMNS)?;
        output::paragraph(PolicyReport::caption())?;
    }
    Ok(())
}

/// Refuses windows that a model cannot read.
pub(super) fn check_window(on: &TextArgs, model: &Loaded, session: &Session) -> Result<()> {
    let windows = Windows { tokens: on.window, key: "--window", override_key: "--beyond-context" };
    check_windows(&model.checkpoint, windows, on.beyond_context.into(), &session.context)
}

/// Policies by name; `all` stands for every one.
fn names(given: &[String]) -> Result<Vec<PolicyName>> {
    if given == ["all"] {
        return Ok(PolicyName::ALL.to_vec());
    }
    given.iter().map(|name| name.parse()).collect()
}
