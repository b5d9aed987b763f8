//! `law`, `scaling` and `halting`: carry out a study.

use std::path::Path;

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cli::args::study::StudyArgs;
use crate::cli::output;
use crate::cli::session::Session;
use crate::error::{Error, Result, counted};
use crate::recipe::{read_as, relative_path, resolve_path};
use crate::run::Loaded;
use crate::study::{
    ExitsRecipe, Findings, Job, LawRecipe, ScalingRecipe, Starter, StudyKind, Sweep, TextTeacher,
    carry_out_all, halting, law, law_jobs, open, scaling,
};

/// What the recipes of all studies have in common.
trait StudyRecipe: Clone + Serialize + DeserializeOwned + JsonSchema {
    /// So small that it takes a minute.
    fn smoke(self) -> Self;
    /// What it is called.
    fn name(&mut self) -> &mut String;
    /// Refuses what measures nothing.
    fn validate(&self) -> Result<()>;
    /// Its paths.
    fn paths(&mut self) -> Vec<&mut String>;
}

impl StudyRecipe for LawRecipe {
    fn smoke(self) -> Self {
        self.smoke()
    }

    fn name(&mut self) -> &mut String {
        &mut self.name
    }

    fn validate(&self) -> Result<()> {
        self.validate()
    }

    fn paths(&mut self) -> Vec<&mut String> {
        let text = self.text.iter_mut();
        text.flat_map(|text| [&mut text.teacher, &mut text.recipe]).collect()
    }
}

impl StudyRecipe for ScalingRecipe {
    fn smoke(self) -> Self {
        self.smoke()
    }

    fn name(&mut self) -> &mut String {
        &mut self.name
    }

    fn validate(&self) -> Result<()> {
        self.validate()
    }

    fn paths(&mut self) -> Vec<&mut String> {
        let joint = self.joint.iter_mut();
        let paths = joint.flat_map(|joint| {
            let files = joint.files.iter_mut().chain(&mut joint.test);
            files.chain([&mut joint.tokenizer])
        });
        paths.collect()
    }
}

impl StudyRecipe for ExitsRecipe {
    fn smoke(self) -> Self {
        self.smoke()
    }

    fn name(&mut self) -> &mut String {
        &mut self.name
    }

    fn validate(&self) -> Result<()> {
        self.validate()
    }

    fn paths(&mut self) -> Vec<&mut String> {
        Vec::new()
    }
}

/// The recipe of a study as the flags change it: relative paths that exist in the current directory
/// are kept, others start at the folder of the recipe.
fn read<R: StudyRecipe>(args: &StudyArgs) -> Result<R> {
    let mut recipe: R = read_as(&args.recipe, &args.folder.set)?;
    if args.folder.smoke {
        recipe = recipe.smoke();
    }
    if recipe.name().is_empty() {
        let stem = args.recipe.file_stem().unwrap_or_default();
        *recipe.name() = stem.to_string_lossy().into_owned();
    }
    recipe.validate().map_err(|error| error.at(args.recipe.display()))?;
    let beside = args.recipe.parent().unwrap_or(Path::new(""));
    recipe.paths().into_iter().for_each(|path| resolve_path(path, beside));
    Ok(recipe)
}

/// `law`.
pub(crate) fn law(args: &StudyArgs, session: &Session) -> Result<()> {
    let recipe: LawRecipe = read(args)?;
    let teacher = recipe.text.as_ref().map(|text| text_teacher(&text.teacher, session));
    let jobs = law_jobs(&recipe, teacher.transpose()?);
    // A run on text has all cores to itself.
    let side_by_side = recipe.text.as_ref().map(|_| 1);
    let sweep = sweep(args, StudyKind::Law, &recipe.name, jobs)?;
    carry_out(args, session, &sweep, &recipe, side_by_side, || law::measure(&recipe, &sweep))
}

/// `scaling`.
pub(crate) fn scaling(args: &StudyArgs, session: &Session) -> Result<()> {
    let recipe: ScalingRecipe = read(args)?;
    let sweep = sweep(args, StudyKind::Scaling, &recipe.name, recipe.jobs())?;
    carry_out(args, session, &sweep, &recipe, None, || scaling::measure(&recipe, &sweep))
}

/// `halting`.
pub(crate) fn halting(args: &StudyArgs, session: &Session) -> Result<()> {
    let recipe: ExitsRecipe = read(args)?;
    let sweep = sweep(args, StudyKind::Exits, &recipe.name, recipe.jobs())?;
    carry_out(args, session, &sweep, &recipe, None, || halting::measure(&recipe, &sweep))
}

fn sweep(args: &StudyArgs, kind: StudyKind, name: &str, jobs: Vec<Job>) -> Result<Sweep> {
    let command = std::env::args().collect::<Vec<_>>().join(" ");
    Sweep::new(&args.folder.out(name), kind, &command, jobs)
}

/// Estimates the cost of a study, carries out what is missing, and prints the findings.
fn carry_out<F: Findings, R: StudyRecipe>(
    args: &StudyArgs,
    session: &Session,
    sweep: &Sweep,
    recipe: &R,
    side_by_side: Option<usize>,
    measure: impl Fn() -> Result<F>,
) -> Result<()> {
    // In the folder, its paths start at the folder: it can be run from anywhere.
    let mut written = recipe.clone();
    written.paths().into_iter().for_each(|path| relative_path(path, sweep.folder()));
    let _lock = open(sweep, args.folder.existing(), &written)?;
    let starter = starter(args, session, sweep, side_by_side)?;
    let (context, out) = (&session.context, sweep.folder().display());
    let (budget, processes) = (sweep.budget(starter.processes), starter.processes);
    context.note(&format!("{budget}, {processes} at a time, in {out}"));
    // A grid that was shrunk may have equal cells, which is nobody's mistake.
    if sweep.duplicates() > 0 && !args.folder.smoke {
        let twice = counted(sweep.duplicates(), "point");
        context.warn(&format!("{twice} of the grid are listed twice and measured once"));
    }
    let ended = carry_out_all(sweep, &starter, &session.context);
    // What is done when a study is stopped can be looked at.
    let found = measure()?;
    found.write(sweep.folder())?;
    let missing = ended?;
    if missing > 0 {
        for failure in sweep.failures() {
            context.warn(&format!("point {}: {}", failure.point, failure.error));
        }
        let missing = counted(missing, "point");
        context.warn(&format!("{missing} missing; --resume tries them again"));
    }
    context.note(&format!("factorize report {out} makes a page of it"));
    if session.json { output::json(&found) } else { show(&found, sweep) }
}

/// Tables, sentences, and the folder.
fn show(found: &impl Findings, sweep: &Sweep) -> Result<()> {
    for (index, table) in found.tables().iter().enumerate() {
        if index > 0 {
            output::line("")?;
        }
        output::table(table)?;
    }
    for sentence in found.sentences() {
        output::line("")?;
        output::paragraph(&sentence)?;
    }
    output::line(&format!("\n{}", sweep.folder().display()))
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
