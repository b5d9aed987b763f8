//! `export`: writes a model in another form.

use std::path::Path;

use serde_json::json;

use crate::cli::args::model::ExportArgs;
use crate::cli::output;
use crate::cli::session::Session;
use crate::cli::verbs::depth::only_for_students;
use crate::error::{Error, Result};
use crate::hub::{Card, Kept, export_stack, export_student, export_unrolled};
use crate::run::Loaded;

pub(crate) fn export(args: &ExportArgs, session: &Session) -> Result<()> {
    refuse_used(args)?;
    let loaded = Loaded::read(&args.student, &session.context)?;
    let checkpoint = &loaded.checkpoint;
    only_for_students(&loaded, &[("--unrolled", args.unrolled)])?;
    let card = card(args, &loaded);
    let tokenizer = checkpoint.tokenizer.as_ref();
    let (out, tensors, dtype) = (&args.out, &checkpoint.tensors, args.dtype);
    match &checkpoint.looped {
        Some(config) if args.unrolled => {
            export_unrolled(out, config, tensors, args.repetitions, tokenizer, &card, dtype)?;
        }
        Some(config) => export_student(out, config, tensors, tokenizer, &card, dtype)?,
        None => export_stack(out, &checkpoint.config, tensors, tokenizer, &card, dtype)?,
    }
    if session.json {
        return output::json(&json!({
            "folder": args.out,
            "from": checkpoint.origin,
            "unrolled": args.unrolled,
            "dtype": dtype.to_string(),
        }));
    }
    output::line(&args.out.display().to_string())
}

/// The card of the model it is exported from, in its new form.
fn card(args: &ExportArgs, loaded: &Loaded) -> Card {
    let checkpoint = &loaded.checkpoint;
    let old = Path::new(&checkpoint.origin).join("README.md");
    // A model without a card, or that is no folder, has nothing to keep.
    let kept = std::fs::read_to_string(old).map(|card| Kept::of(&card)).unwrap_or_default();
    Card {
        name: args.out.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        notes: vec![format!("It was exported from `{}`.", checkpoint.origin)],
        about: checkpoint.about.clone(),
        kept: if checkpoint.looped.is_some() { kept } else { Kept::default() },
        ..Card::default()
    }
}

/// An earlier export is replaced by `--force` alone.
fn refuse_used(args: &ExportArgs) -> Result<()> {
    let used = std::fs::read_dir(&args.out).is_ok_and(|mut entries| entries.next().is_some());
    if used && !args.force {
        return Err(Error::input("this folder already holds something")
            .at(args.out.display())
            .hint("give another folder with --out, or replace an earlier export with --force"));
    }
    Ok(())
}
