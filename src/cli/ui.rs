//! Writes results to standard output, and warnings and errors to standard error. It is not an error if the reader has
//! gone away (`| head`).

use std::io::{ErrorKind, IsTerminal, Write};

use serde::Serialize;

use super::environment::variable;
use super::error::CliError;
use super::progress::Style;

/// Schema version of every JSON document.
const SCHEMA: u32 = 1;

/// Terminal colors.
const RED: &str = "31";
const YELLOW: &str = "33";
const CYAN: &str = "36";

/// Format of results.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Format {
    Human,
    Json,
}

/// How much to write besides the result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verbosity {
    Normal,
    /// Only errors.
    Quiet,
}

/// Output to the user or to the calling program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ui {
    pub(crate) format: Format,
    pub(crate) verbosity: Verbosity,
    pub(crate) progress: Style,
}

#[derive(Serialize)]
struct VersionedDocument<'a, T> {
    schema: u32,
    kind: &'a str,
    #[serde(flatten)]
    body: &'a T,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    message: &'a str,
    hint: Option<&'a str>,
    exit_code: u8,
}

impl Ui {
    /// Writes the result: the text that `human` returns, or `body` as one JSON document.
    /// Fails if standard output cannot be written, unless its reader has gone away.
    pub(crate) fn result<T: Serialize>(
        &self,
        kind: &str,
        body: &T,
        human: impl FnOnce(&T) -> String,
    ) -> Result<(), CliError> {
        match self.format {
            Format::Human => write_out(&human(body)),
            Format::Json => write_out(&json_document(kind, body)),
        }
    }

    /// Writes a part of the result while the operation runs. Not in JSON, where the result contains it.
    /// Fails as [`Self::result`] does.
    pub(crate) fn say(&self, text: &str) -> Result<(), CliError> {
        match self.format {
            Format::Human => write_out(text),
            Format::Json => Ok(()),
        }
    }

    /// Writes a warning. The command still succeeds.
    pub(crate) fn warn(&self, text: &str) {
        tracing::warn!(text, "warning");
        if self.format == Format::Human && self.verbosity == Verbosity::Normal {
            write_err(&format!("{} {text}\n", styled("warning:", YELLOW)));
        }
    }

    /// Writes why the command failed.
    pub(crate) fn fail(&self, error: &CliError) {
        match self.format {
            Format::Human => write_err(&human_error(&error.chain(), error.hint().as_deref())),
            Format::Json => write_err(&json_error(error)),
        }
    }
}

/// A JSON document on one line.
fn json_document<T: Serialize>(kind: &str, body: &T) -> String {
    let document = VersionedDocument { schema: SCHEMA, kind, body };
    serde_json::to_string(&document).expect("a report is JSON") + "\n"
}

fn json_error(error: &CliError) -> String {
    let hint = error.hint();
    let exit_code = error.exit().code();
    json_document("error", &ErrorBody { message: &error.chain(), hint: hint.as_deref(), exit_code })
}

fn human_error(message: &str, hint: Option<&str>) -> String {
    let mut text = format!("{} {message}\n", styled("error:", RED));
    if let Some(hint) = hint {
        text += &format!("{} {hint}\n", styled("hint:", CYAN));
    }
    text
}

fn write_out(text: &str) -> Result<(), CliError> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(CliError::Output { source: error }),
        _ => Ok(()),
    }
}

/// Writes to standard error. There is nowhere to report a failure.
pub(crate) fn write_err(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// `text` in bold `color`, if standard error is a terminal with colors.
fn styled(text: &str, color: &str) -> String {
    if !shows_colors() {
        return text.to_owned();
    }
    format!("\u{1b}[1;{color}m{text}\u{1b}[0m")
}

fn shows_colors() -> bool {
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    variable("NO_COLOR").is_none() && !is_dumb && std::io::stderr().is_terminal()
}
