//! How does the program say what went wrong?

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use crate::error::{Error, Kind};

/// Tells an error on stderr, and gives its exit code.
pub(super) fn tell(error: &Error, argv: &[OsString]) -> ExitCode {
    let (red, plain) = if in_colour() { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
    let word = if error.kind() == Kind::Interrupted { "stopped" } else { "error" };
    let text = error.to_string();
    let text = text.strip_prefix("stopped ").filter(|_| word == "stopped").unwrap_or(&text);
    let mut message = format!("{red}{word}{plain}: {text}\n");
    if error.kind() == Kind::Interrupted && text.contains("--resume") {
        message.push_str(&format!("\n  {}\n", resuming(argv)));
    }
    if error.kind() == Kind::Internal {
        message
            .push_str("\nthis is a defect of factorize: please report it with the command above\n");
    }
    // Nobody may be left to read it.
    let _ = std::io::stderr().write_all(message.as_bytes());
    ExitCode::from(error.exit_code())
}

/// Tells what clap says of the arguments: help is no failure.
pub(super) fn of_arguments(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    ExitCode::from(u8::from(error.use_stderr()))
}

/// A panic is our fault, wherever it happens: says so and ends with exit code 2.
pub(super) fn report_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let what = panic.payload_as_str().unwrap_or("a panic");
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let _ = writeln!(
            std::io::stderr(),
            "error: {what}\n  in {place}\n\nhint: this is a defect of factorize {}: please report \
             it with the command and this message",
            env!("CARGO_PKG_VERSION")
        );
        std::process::exit(2);
    }));
}

/// The same command, going on.
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

/// Colours are for terminals, and for those who did not say no.
pub(super) fn in_colour() -> bool {
    std::io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
