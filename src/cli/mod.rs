//! The `factorize` program. Only this folder prints.

mod args;
mod date;
mod failure;
mod interrupt;
mod output;
mod parse;
mod progress;
mod prompt;
mod session;
mod suggest;
mod threads;
mod verbs;

use std::ffi::OsString;
use std::process::ExitCode;

use self::args::arguments::{Arguments, Command, Common};
use self::args::recipe::RecipeArgs;
use self::parse::Parsed;
use self::session::Session;
use self::verbs::{
    bench, calibrate, evaluate, export, fit, generate, init, inspect, point, recipes, report,
    shell, states, study, task, tokenize, train,
};
use crate::error::{Error, Result};

/// Runs the program: arguments in, exit code out. 0 all right, 1 failure, 2 usage, 130 interrupted.
#[must_use]
pub fn main(argv: &[OsString]) -> ExitCode {
    failure::catching_panics(|| match parse::arguments(argv) {
        Ok(Parsed::Arguments(arguments)) => match run(*arguments) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failure::report(&error, argv),
        },
        Ok(Parsed::Help(page)) => failure::help(&page),
        Err(error) => failure::report(&error, argv),
    })
}

fn run(arguments: Arguments) -> Result<()> {
    let Arguments { bare, common, command } = arguments;
    threads::set(common.threads)?;
    if command.is_some() && bare.is_given() {
        return Err(Error::usage("a recipe or a flag of a recipe stands before the verb")
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
        Some(Command::Init(args)) => init::init(&args, &session),
        Some(Command::Recipes(args)) => recipes::recipes(&args, &session),
        Some(Command::Tokenize(args)) => tokenize::tokenize(&args, &session),
        Some(Command::Halting(args)) => study::halting(&args, &session),
        Some(Command::Fit(args)) => fit::fit(&args, &session),
        Some(Command::Report(args)) => report::report(&args, &session),
        Some(Command::Point(args)) => point::point(&args, &session),
        Some(Command::Schema(args)) => shell::schema(&args),
        Some(Command::Completions { shell }) => shell::completions(shell),
        Some(Command::Man(args)) => shell::man(&args),
    }
}
