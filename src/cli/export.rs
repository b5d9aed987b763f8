//! In which other form is a model wanted?

use super::args::ExportArgs;
use super::{Session, output};
use crate::error::{Error, Result};
use crate::hub::{Card, export_stack, export_student, export_unrolled};
use crate::run::Loaded;

pub(super) fn export(args: &ExportArgs, session: &Session) -> Result<()> {
    refuse_used(args)?;
    let loaded = Loaded::read(&args.student, &session.context)?;
    let checkpoint = &loaded.checkpoint;
    let name = args.out.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let card = Card {
        name,
        notes: vec![format!("It was exported from `{}`.", checkpoint.origin)],
        ..Card::default()
    };
    let tokenizer = checkpoint.tokenizer.as_ref();
    if args.unrolled || args.repetitions.is_some() {
        // Only a student has repetitions to write out.
        loaded.looped()?;
    }
    let (out, tensors, dtype) = (&args.out, &checkpoint.tensors, args.dtype);
    match &checkpoint.looped {
        Some(config) if args.unrolled => {
            export_unrolled(out, config, tensors, args.repetitions, tokenizer, &card, dtype)?;
        }
        Some(config) => export_student(out, config, tensors, tokenizer, &card, dtype)?,
        None => export_stack(out, &checkpoint.config, tensors, tokenizer, &card, dtype)?,
    }
    output::line(&args.out.display().to_string())
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
