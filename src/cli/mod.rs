//! What does a person see? The only room that prints.

mod args;
mod bench;
mod bench_args;
mod calibrate;
mod depth;
mod depth_args;
mod evaluate;
mod export;
mod failure;
mod fit;
mod generate;
mod inspect;
mod interrupt;
mod output;
mod point;
mod progress;
mod recipe_args;
mod report;
mod shell;
mod size;
mod states;
mod study;
mod study_args;
mod task;
mod threads;
mod train;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;

use self::args::{Arguments, Command, Common};
use self::progress::{Progress, Volume};
use self::recipe_args::RecipeArgs;
use crate::context::{Cancellation, Context};
use crate::error::{Error, Result};
use crate::run::device;

/// Runs the program: arguments in, exit code out. 0 done, 1 yours to mend, 2 ours.
#[must_use]
pub fn main(argv: &[OsString]) -> ExitCode {
    failure::catching_panics(|| match Arguments::try_parse_from(argv).map(run) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => failure::tell(&error, argv),
        Err(error) => failure::of_arguments(&error),
    })
}

fn run(arguments: Arguments) -> Result<()> {
    let Arguments { bare, common, command } = arguments;
    threads::set(common.threads)?;
    if command.is_some() && bare.is_given() {
        return Err(Error::input("flags of a recipe stand before the verb")
            .hint("write the verb first: factorize evaluate --teacher T --text FILES"));
    }
    threads::inside(|| carry_out(&bare, &common, command))
}

fn carry_out(bare: &RecipeArgs, common: &Common, command: Option<Command>) -> Result<()> {
    let session = Session::new(common)?;
    match command {
        None => train::distill(bare, &session),
        Some(Command::Distill(args)) => train::distill(&args, &session),
        Some(Command::Pretrain(args)) => train::pretrain(&args, &session),
        Some(Command::Inspect(args)) => inspect::inspect(&args, &session),
        Some(Command::Calibrate(args)) => calibrate::calibrate(&args, &session),
        Some(Command::Evaluate(args)) => evaluate::evaluate(&args, &session),
        Some(Command::Generate(args)) => generate::generate(&args, &session),
        Some(Command::States(args)) => states::states(&args, &session),
        Some(Command::Export(args)) => export::export(&args, &session),
        Some(Command::Bench { what }) => bench::bench(&what, &session),
        Some(Command::Task(args)) => task::task(&args, &session),
        Some(Command::Law(args)) => study::law(&args, &session),
        Some(Command::Scaling(args)) => study::scaling(&args, &session),
        Some(Command::Exits(args)) => study::exits(&args, &session),
        Some(Command::Fit(args)) => fit::fit(&args, &session),
        Some(Command::Report(args)) => report::report(&args, &session),
        Some(Command::Point(args)) => point::point(&args, &session),
        Some(Command::Schema) => shell::schema(),
        Some(Command::Completions { shell }) => shell::completions(shell),
        Some(Command::Man) => shell::man(),
    }
}

/// What every verb is given.
struct Session {
    context: Context,
    device_name: String,
    json: bool,
    progress: Arc<Progress>,
}

impl Session {
    fn new(common: &Common) -> Result<Self> {
        let volume = match (common.quiet, common.verbose) {
            (true, _) => Volume::Quiet,
            (false, 0) => Volume::Normal,
            (false, _) => Volume::Verbose,
        };
        let (cancellation, progress) = (Cancellation::new(), Arc::new(Progress::new(volume)));
        interrupt::watch(&cancellation)?;
        let context = Context::new(device(&common.device)?)
            .with_observer(Arc::clone(&progress))
            .with_cancellation(cancellation)
            .with_cache(common.cache.clone().map_or_else(default_cache, Ok)?)
            .with_cache_limit(common.cache_limit);
        Ok(Self { context, device_name: common.device.clone(), json: common.json, progress })
    }
}

/// `$XDG_CACHE_HOME/factorexe`, else `~/.cache/factorexe`.
fn default_cache() -> Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    set("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| set("HOME").map(|home| PathBuf::from(home).join(".cache")))
        .map(|cache| cache.join("factorexe"))
        .ok_or_else(|| {
            Error::input("there is no home folder to keep tokenised text in")
                .hint("give a folder with --cache")
        })
}
