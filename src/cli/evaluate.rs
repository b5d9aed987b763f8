//! How good is a model on this text?

use std::path::Path;

use super::args::EvaluateArgs;
use super::{Session, output};
use crate::data::windows::Spread;
use crate::data::{Documents, read_documents};
use crate::decode::Decoder;
use crate::error::Result;
use crate::eval::{EvalConfig, evaluate_policies};
use crate::halting::PolicyName;
use crate::kernels::quantized::WeightType;
use crate::run::{Loaded, read_halting};

pub(super) fn evaluate(args: &EvaluateArgs, session: &Session) -> Result<()> {
    let config = EvalConfig {
        window_tokens: args.on.window,
        max_tokens: args.max_tokens,
        repetitions: args.repetitions.clone(),
        ..EvalConfig::default()
    };
    config.validate()?;
    let context = &session.context;
    let documents = read_documents(&args.on.text, Path::new(""), &args.on.field)?;
    let read = |source: &str| Loaded::read(source, &session.context);
    let teacher = read(&args.on.teacher)?;
    teacher.deep()?;
    let student = args.student.as_deref().map(read).transpose()?;
    let learner = student.as_ref().map(Loaded::looped).transpose()?;
    let tokens = Documents::encode(&documents, teacher.tokenizer()?)?;
    let windows = tokens.evaluation_windows(args.on.window, args.max_tokens, Spread::InOrder);
    let mut found = crate::eval::evaluate(teacher.model.lm(), learner, &windows, &config, context)?;
    if let Some((student, looped)) = student.as_ref().zip(learner)
        && !args.policies.is_empty()
    {
        let halting = read_halting(student, args.halting.as_deref())?;
        let names = names(&args.policies)?;
        let decoder = Decoder::new(looped, WeightType::F32)?;
        found.halting = Some(evaluate_policies(
            teacher.model.lm(),
            looped,
            &decoder,
            &halting,
            &names,
            args.kv,
            &windows,
            config.batch_rows,
            context,
        )?);
    }
    if session.json {
        return output::json(&found);
    }
    output::table(&found.table())?;
    found.halting.map_or(Ok(()), |halting| output::table(&halting.table()))
}

/// Policies by name; `all` stands for every one.
fn names(given: &[String]) -> Result<Vec<PolicyName>> {
    if given == ["all"] {
        return Ok(PolicyName::ALL.to_vec());
    }
    given.iter().map(|name| name.parse()).collect()
}
