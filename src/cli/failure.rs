//! Errors on stderr, as JSON on stdout under `--json`, and exit codes.

use std::error::Error as _;
use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::sync::Mutex;

use serde_json::json;

use crate::cli::output;
use crate::error::{Error, Kind};

/// Reports an error on stderr, and as JSON on stdout when that was asked for; gives the exit code.
pub(super) fn report(error: &Error, argv: &[OsString]) -> ExitCode {
    if wants_json(argv) {
        // A closed pipe reads no error either: stderr has it.
        let _ = output::json(&as_json(error));
    }
    let (red, plain) = if in_colour() { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
    let word = if error.kind() == Kind::Interrupted { "stopped" } else { "error" };
    let text = error.to_string();
    let text = text.strip_prefix("stopped ").filter(|_| word == "stopped").unwrap_or(&text);
    let more = match error.kind() {
        Kind::Interrupted if text.contains("--resume") => format!("\n  {}\n", resuming(argv)),
        Kind::Internal => {
            "\nthis is a defect of factorize: please report it with the command\n".to_owned()
        }
        _ => String::new(),
    };
    let message = format!("{red}{word}{plain}: {text}\n{more}");
    // Nobody may be left to read it.
    let _ = std::io::stderr().write_all(message.as_bytes());
    ExitCode::from(error.exit_code())
}

/// `--json` before any `--`: known even where the arguments could not be parsed.
fn wants_json(argv: &[OsString]) -> bool {
    argv.iter().take_while(|word| *word != "--").any(|word| word == "--json")
}

fn as_json(error: &Error) -> serde_json::Value {
    let mut causes = Vec::new();
    let mut cause = error.source();
    while let Some(found) = cause {
        causes.push(found.to_string());
        cause = found.source();
    }
    json!({
        "error": {
            "kind": error.kind().name(),
            "message": error.message(),
            "place": error.place(),
            "hint": error.next_step(),
            "causes": causes,
            "exit_code": error.exit_code(),
        }
    })
}

/// Prints a page of help: on stdout where it was asked for, else on stderr with exit code 2.
pub(super) fn help(page: &clap::Error) -> ExitCode {
    let _ = page.print();
    ExitCode::from(if page.use_stderr() { 2 } else { 0 })
}

/// The message and the place of the latest panic.
static LATEST: Mutex<Option<(String, String)>> = Mutex::new(None);

/// Runs the program. A panic is a defect of this program, wherever it happens, and is reported with
/// exit code 1. One that a reader of damaged files catches is reported by that reader's error.
pub(super) fn catching_panics(program: impl FnOnce() -> ExitCode) -> ExitCode {
    std::panic::set_hook(Box::new(|panic| {
        let payload = panic.payload();
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let what = text.or(payload.downcast_ref::<&str>().copied()).unwrap_or("a panic");
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        if let Ok(mut latest) = LATEST.lock() {
            *latest = Some((what.to_owned(), place));
        }
    }));
    std::panic::catch_unwind(AssertUnwindSafe(program)).unwrap_or_else(|_| {
        let (what, place) =
            LATEST.lock().ok().and_then(|mut latest| latest.take()).unwrap_or_default();
        let _ = writeln!(
            std::io::stderr(),
            "error: {what}\n  in {place}\n\nhint: this is a defect of factorize {}: please report \
             it with the command and this message",
            env!("CARGO_PKG_VERSION")
        );
        ExitCode::from(1)
    })
}

/// The same command with `--resume`.
fn resuming(argv: &[OsString]) -> String {
    let mut words: Vec<String> = argv.iter().map(|word| quoted(&word.to_string_lossy())).collect();
    words.retain(|word| word != "--force");
    if !words.iter().any(|word| word == "--resume") {
        words.push("--resume".to_owned());
    }
    words.join(" ")
}

/// A word as a shell reads it back.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Colours are for terminals whose user did not set `NO_COLOR`.
pub(super) fn in_colour() -> bool {
    std::io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
