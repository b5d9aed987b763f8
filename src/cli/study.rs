//! How is a study carried out from the command line?

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::study_args::StudyArgs;
use super::{Session, output};
use crate::error::{Error, Result};
use crate::observe::Observer;
use crate::recipe::{read_as, resolve_path};
use crate::run::{Existing, Loaded};
use crate::study::law::{self, Law};
use crate::study::scaling;
use crate::study::{
    Job, LawRecipe, ScalingRecipe, Starter, Sweep, TextTeacher, carry_out_all, law_jobs, open,
};
use crate::train::RunLock;

/// `law`.
pub(super) fn law(args: &StudyArgs, session: &Session) -> Result<()> {
    let mut recipe: LawRecipe = read_as(&args.recipe, &args.set)?;
    if args.smoke {
        recipe = recipe.smoke();
    }
    name(&mut recipe.name, &args.recipe);
    recipe.validate().map_err(|error| error.at(args.recipe.display()))?;
    if let Some(text) = &mut recipe.text {
        beside(&args.recipe, [&mut text.teacher, &mut text.recipe]);
    }
    let teacher = recipe.text.as_ref().map(|text| text_teacher(&text.teacher, session));
    let jobs = law_jobs(&recipe, teacher.transpose()?);
    let side_by_side = if recipe.text.is_some() { Some(1) } else { None };
    let study = Study::begin(args, session, &recipe.name, &recipe, jobs, side_by_side)?;
    let carried_out = study.carry_out(session);
    // What is done when a study is stopped can be looked at.
    let found = law::measure(&recipe, &study.sweep, &study.command)?;
    found.write(study.sweep.folder())?;
    carried_out?;
    if session.json {
        output::json(&found)?;
    } else {
        show_law(&found)?;
    }
    study.end(session)
}

/// `scaling`.
pub(super) fn scaling(args: &StudyArgs, session: &Session) -> Result<()> {
    let mut recipe: ScalingRecipe = read_as(&args.recipe, &args.set)?;
    if args.smoke {
        recipe = recipe.smoke();
    }
    name(&mut recipe.name, &args.recipe);
    recipe.validate().map_err(|error| error.at(args.recipe.display()))?;
    if let Some(joint) = &mut recipe.joint {
        let files = joint.files.iter_mut().chain(&mut joint.test);
        beside(&args.recipe, files.chain([&mut joint.tokenizer]));
    }
    let study = Study::begin(args, session, &recipe.name, &recipe, recipe.jobs(), None)?;
    let carried_out = study.carry_out(session);
    let found = scaling::measure(&recipe, &study.sweep, &study.command)?;
    found.write(study.sweep.folder())?;
    carried_out?;
    if session.json {
        output::json(&found)?;
    } else {
        output::table(&found.table())?;
    }
    study.end(session)
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
    let loaded = Loaded::read(source, &session.device, &session.progress, &session.interrupt)?;
    let base = loaded.model.lm().base();
    Ok(TextTeacher { layers: base.layers, width: base.width })
}

/// A study that was begun.
struct Study {
    sweep: Sweep,
    starter: Starter,
    command: String,
    _lock: RunLock,
}

impl Study {
    /// Claims the folder, writes down what is to be done, and says what it will cost.
    fn begin(
        args: &StudyArgs,
        session: &Session,
        name: &str,
        recipe: &impl Serialize,
        jobs: Vec<Job>,
        side_by_side: Option<usize>,
    ) -> Result<Self> {
        let out = args.out.clone().unwrap_or_else(|| PathBuf::from("runs").join(name));
        let existing = match (args.resume, args.force) {
            (true, _) => Existing::Resume,
            (false, true) => Existing::Replace,
            (false, false) => Existing::Refuse,
        };
        let (sweep, lock) = open(&out, existing, recipe, jobs)?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = rayon::current_num_threads();
        let processes = args.processes.or(side_by_side).unwrap_or(cores.min(threads)).max(1);
        let share = (threads / processes).max(1);
        let starter = Starter {
            program: std::env::current_exe()
                .map_err(|error| Error::io("finding", "this program", &error))?,
            arguments: point_arguments(&out, share, session),
            processes,
        };
        let budget = sweep.budget(processes);
        session.progress.note(&format!("{budget}, {processes} at a time, in {}", out.display()));
        if sweep.duplicates() > 0 {
            session.progress.warn(&format!(
                "{} points of the grid come twice and are measured once",
                sweep.duplicates()
            ));
        }
        let command = std::env::args().collect::<Vec<_>>().join(" ");
        Ok(Self { sweep, starter, command, _lock: lock })
    }

    fn carry_out(&self, session: &Session) -> Result<()> {
        let (progress, interrupt) = (&session.progress, &session.interrupt);
        let missing = carry_out_all(&self.sweep, &self.starter, progress, interrupt)?;
        if missing > 0 {
            for failure in self.sweep.failures() {
                progress.warn(&format!("point {}: {}", failure.point, failure.error));
            }
            progress.warn(&format!("{missing} points are missing; --resume tries them again"));
        }
        Ok(())
    }

    fn end(&self, session: &Session) -> Result<()> {
        let out = self.sweep.folder().display();
        session.progress.note(&format!("factorize report {out} makes a page of it"));
        if session.json { Ok(()) } else { output::line(&format!("\n{out}")) }
    }
}

fn point_arguments(out: &Path, threads: usize, session: &Session) -> Vec<String> {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let mut arguments = vec!["point".to_owned(), "--quiet".to_owned()];
    arguments.extend(["--threads".to_owned(), threads.to_string()]);
    arguments.extend(["--cache".to_owned(), text(&session.cache)]);
    arguments.extend(["--device".to_owned(), session.device_name.clone()]);
    arguments.extend(["--out".to_owned(), text(out)]);
    arguments
}

fn show_law(found: &Law) -> Result<()> {
    output::table(&found.table())?;
    output::line("")?;
    output::line(&found.sentences().join("\n"))
}
