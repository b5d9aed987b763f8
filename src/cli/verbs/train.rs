//! `distill` and `pretrain`: carry out a recipe.

use std::path::Path;

use crate::cli::args::recipe::{PretrainArgs, RecipeArgs, RunArgs};
use crate::cli::output;
use crate::cli::session::Session;
use crate::cli::suggest;
use crate::error::{Error, Result, counted};
use crate::eval::OPTIONAL_COLUMNS;
use crate::recipe::{Recipe, Source};
use crate::run::{self, Options, Report};

/// The main job, and `distill`.
pub(crate) fn distill(args: &RecipeArgs, session: &Session) -> Result<()> {
    let path = args.recipe.as_deref().ok_or_else(|| {
        Error::usage("no recipe was given")
            .hint("factorize --teacher <model> <recipe.toml>; see factorize --help")
    })?;
    let (teacher, live) = (args.teacher.clone(), args.live);
    let recipe = Source { teacher, live, ..source(path, &args.run)? }.read()?;
    if recipe.is_pretraining() {
        return Err(Error::input(
            "this is a recipe of `factorize pretrain`: it has a [model] to train from nothing",
        )
        .at(path.display())
        .hint(format!("factorize pretrain {}", path.display())));
    }
    let options = options(&recipe, &args.run, session);
    let report = run::distill(recipe, &options)?;
    show(&report, &options, session)
}

/// `pretrain`.
pub(crate) fn pretrain(args: &PretrainArgs, session: &Session) -> Result<()> {
    let recipe = source(&args.recipe, &args.run)?.read()?;
    if !recipe.is_pretraining() {
        return Err(Error::input(
            "this is a recipe of `factorize distill`: it has no [model] to train from nothing",
        )
        .at(args.recipe.display())
        .hint(format!("factorize {}", args.recipe.display())));
    }
    let options = options(&recipe, &args.run, session);
    let report = run::pretrain(recipe, &options)?;
    show(&report, &options, session)
}

/// The recipe at `path`, as the flags of every run change it.
fn source(path: &Path, args: &RunArgs) -> Result<Source> {
    let word = path.to_str().filter(|text| suggest::is_word(text) && !path.exists());
    if let Some((word, verbs)) = word.map(|word| (word, suggest::verbs_like(word)))
        && !verbs.is_empty()
    {
        return Err(Error::usage(format!("there is no verb and no recipe `{word}`"))
            .hint(suggest::did_you_mean(&verbs)));
    }
    let (path, set, smoke) = (path.to_owned(), args.folder.set.clone(), args.folder.smoke);
    Ok(Source { path, set, seed: args.seed, smoke, ..Source::default() })
}

fn options(recipe: &Recipe, args: &RunArgs, session: &Session) -> Options {
    Options {
        out: args.folder.out(&recipe.name),
        existing: args.folder.existing(),
        context: session.context.clone(),
        provenance: session.provenance(args.folder.smoke),
    }
}

/// One table, what the models write, and where everything is.
fn show(report: &Report, options: &Options, session: &Session) -> Result<()> {
    if session.json {
        return output::json(report);
    }
    output::table_without(&report.table(), &OPTIONAL_COLUMNS)?;
    output::paragraph(&report.evaluation.caption())?;
    output::line("")?;
    output::line(&costs(report))?;
    for sample in &report.samples {
        let own = if sample.student.is_some() { "teacher" } else { "model" };
        output::line(&format!("\n{}", sample.prompt))?;
        output::line(&format!("  {own}: {}", one_line(&sample.teacher)))?;
        if let Some(student) = &sample.student {
            output::line(&format!("  student: {}", one_line(student)))?;
        }
    }
    output::line("")?;
    session.context.note(&format!("everything is in {}", options.out.display()));
    output::line(&options.out.display().to_string())
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What the models and the training cost, in a sentence for each.
fn costs(report: &Report) -> String {
    let found = &report.evaluation;
    let mega = |count: usize| count as f64 / 1e6;
    let mut lines = Vec::new();
    let models = [Some(&found.teacher_cost), found.student_cost.as_ref()];
    let own = if report.teacher_source.is_some() { "teacher" } else { "model" };
    for (name, cost) in [own, "student"].into_iter().zip(models) {
        let Some(cost) = cost else { continue };
        let of_teacher = found.size_ratio.filter(|_| name == "student").map(|ratio| {
            let (blocks, total) = (ratio.blocks, ratio.total);
            format!("; {blocks:.3} of the teacher's blocks, {total:.3} with embeddings")
        });
        lines.push(format!(
            "{name}: {:.2} M parameters, {:.2} M in its blocks, {:.0} tokens/s{}",
            mega(cost.parameters.total),
            mega(cost.parameters.blocks),
            cost.tokens_per_s,
            of_teacher.unwrap_or_default()
        ));
    }
    let training = &report.training;
    lines.push(format!(
        "training: {}, {} tokens, {:.0} s{}",
        counted(training.steps as usize, "step"),
        training.tokens,
        training.seconds,
        found.peak_rss_mib.map(|mib| format!(", {mib:.0} MiB at most")).unwrap_or_default()
    ));
    lines.join("\n")
}
