//! How is a study carried out from the command line?

use std::path::Path;

use serde::Serialize;

use super::study_args::StudyArgs;
use super::{Session, output};
use crate::context::Observer;
use crate::error::{Error, Result};
use crate::recipe::{read_as, resolve_path};
use crate::run::Loaded;
use crate::study::{
    ExitsRecipe, Findings, Job, LawRecipe, ScalingRecipe, Starter, StudyKind, Sweep, TextTeacher,
    carry_out_all, halting, law, law_jobs, open, scaling,
};

/// `law`.
pub(super) fn law(args: &StudyArgs, session: &Session) -> Result<()> {
    let mut recipe: LawRecipe = read_as(&args.recipe, &args.folder.set)?;
    if args.folder.smoke {
        recipe = recipe.smoke();
    }
    name(&mut recipe.name, &args.recipe);
    recipe.validate().map_err(|error| error.at(args.recipe.display()))?;
    if let Some(text) = &mut recipe.text {
        beside(&args.recipe, [&mut text.teacher, &mut text.recipe]);
    }
    let teacher = recipe.text.as_ref().map(|text| text_teacher(&text.teacher, session));
    let jobs = law_jobs(&recipe, teacher.transpose()?);
    // A run on text has all cores to itself.
    let side_by_side = recipe.text.as_ref().map(|_| 1);
    let sweep = sweep(args, StudyKind::Law, &recipe.name, jobs)?;
    carry_out(args, session, &sweep, &recipe, side_by_side, || law::measure(&recipe, &sweep))
}

/// `scaling`.
pub(super) fn scaling(args: &StudyArgs, session: &Session) -> Result<()> {
    let mut recipe: ScalingRecipe = read_as(&args.recipe, &args.folder.set)?;
    if args.folder.smoke {
        recipe = recipe.smoke();
    }
    name(&mut recipe.name, &args.recipe);
    recipe.validate().map_err(|error| error.at(args.recipe.display()))?;
    if let Some(joint) = &mut recipe.joint {
        let files = joint.files.iter_mut().chain(&mut joint.test);
        beside(&args.recipe, files.chain([&mut joint.tokenizer]));
    }
    let sweep = sweep(args, StudyKind::Scaling, &recipe.name, recipe.jobs())?;
    carry_out(args, session, &sweep, &recipe, None, || scaling::measure(&recipe, &sweep))
}

/// `exits`.
pub(super) fn exits(args: &StudyArgs, session: &Session) -> Result<()> {
    let mut recipe: ExitsRecipe = read_as(&args.recipe, &args.folder.set)?;
    if args.folder.smoke {
        recipe = recipe.smoke();
    }
    name(&mut recipe.name, &args.recipe);
    recipe.validate().map_err(|error| error.at(args.recipe.display()))?;
    let sweep = sweep(args, StudyKind::Exits, &recipe.name, recipe.jobs())?;
    carry_out(args, session, &sweep, &recipe, None, || halting::measure(&recipe, &sweep))
}

fn sweep(args: &StudyArgs, kind: StudyKind, name: &str, jobs: Vec<Job>) -> Result<Sweep> {
    let command = std::env::args().collect::<Vec<_>>().join(" ");
    Sweep::new(&args.folder.out(name), kind, &command, jobs)
}

/// Says what a study will cost, carries out what is missing, and shows what is found.
fn carry_out<F: Findings>(
    args: &StudyArgs,
    session: &Session,
    sweep: &Sweep,
    recipe: &impl Serialize,
    side_by_side: Option<usize>,
    measure: impl Fn() -> Result<F>,
) -> Result<()> {
    let _lock = open(sweep, args.folder.existing(), recipe)?;
    let starter = starter(args, session, sweep, side_by_side)?;
    let (progress, out) = (&session.progress, sweep.folder().display());
    let (budget, processes) = (sweep.budget(starter.processes), starter.processes);
    progress.note(&format!("{budget}, {processes} at a time, in {out}"));
    if sweep.duplicates() > 0 {
        let twice = sweep.duplicates();
        progress.warn(&format!("{twice} points of the grid come twice and are measured once"));
    }
    let ended = carry_out_all(sweep, &starter, &session.context);
    // What is done when a study is stopped can be looked at.
    let found = measure()?;
    found.write(sweep.folder())?;
    let missing = ended?;
    if missing > 0 {
        for failure in sweep.failures() {
            progress.warn(&format!("point {}: {}", failure.point, failure.error));
        }
        progress.warn(&format!("{missing} points are missing; --resume tries them again"));
    }
    progress.note(&format!("factorize report {out} makes a page of it"));
    if session.json {
        return output::json(&found);
    }
    for (at, table) in found.tables().iter().enumerate() {
        if at > 0 {
            output::line("")?;
        }
        output::table(table)?;
    }
    for sentence in found.sentences() {
        output::line(&format!("\n{sentence}"))?;
    }
    output::line(&format!("\n{out}"))
}

/// One process a core, or as many as were asked for, which share the threads.
fn starter(
    args: &StudyArgs,
    session: &Session,
    sweep: &Sweep,
    side_by_side: Option<usize>,
) -> Result<Starter> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = rayon::current_num_threads();
    let processes = args.processes.or(side_by_side).unwrap_or(cores.min(threads)).max(1);
    let program =
        std::env::current_exe().map_err(|error| Error::io("finding", "this program", &error))?;
    let arguments = point_arguments(sweep.folder(), (threads / processes).max(1), session);
    Ok(Starter { program, arguments, processes })
}

/// Paths that are not in the current directory start at the folder of the recipe.
fn beside<'p>(recipe: &Path, paths: impl IntoIterator<Item = &'p mut String>) {
    let folder = recipe.parent().unwrap_or(Path::new(""));
    paths.into_iter().for_each(|path| resolve_path(path, folder));
}

fn name(name: &mut String, path: &Path) {
    if name.is_empty() {
        *name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    }
}

fn text_teacher(source: &str, session: &Session) -> Result<TextTeacher> {
    let loaded = Loaded::read(source, &session.context)?;
    let base = loaded.model.lm().base();
    Ok(TextTeacher { layers: base.layers, width: base.width })
}

fn point_arguments(out: &Path, threads: usize, session: &Session) -> Vec<String> {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let mut arguments = vec!["point".to_owned(), "--quiet".to_owned()];
    arguments.extend(["--threads".to_owned(), threads.to_string()]);
    arguments.extend(["--cache".to_owned(), text(session.context.cache())]);
    arguments.extend(["--device".to_owned(), session.device_name.clone()]);
    arguments.extend(["--out".to_owned(), text(out)]);
    arguments
}
