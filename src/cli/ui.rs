//! Where results, warnings and errors go: results to standard output, everything else to standard error. A reader
//! that has gone away (`| head`) is no error.

use std::io::{ErrorKind, IsTerminal, Write};

use serde::Serialize;

use super::exit::{CliError, Exit};
use super::progress::Style;

/// Version of every JSON document.
const SCHEMA: u32 = 1;

/// For whom results are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Format {
    Human,
    Json,
}

/// How much is said besides the result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Talk {
    Normal,
    /// Errors only.
    Quiet,
}

/// The way to the person or program outside.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ui {
    pub(crate) format: Format,
    pub(crate) talk: Talk,
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
    /// Writes the result: `human` makes the text, or `body` is written as one JSON document.
    pub(crate) fn result<T: Serialize>(
        &self,
        kind: &str,
        body: &T,
        human: impl FnOnce(&T) -> String,
    ) -> Result<(), CliError> {
        match self.format {
            Format::Human => out(human(body).as_bytes()),
            Format::Json => {
                let document = VersionedDocument { schema: SCHEMA, kind, body };
                let mut text = serde_json::to_vec(&document).expect("a report is JSON");
                text.push(b'\n');
                out(&text)
            }
        }
    }

    /// A part of what a person is told while it happens; in JSON it stands in the result.
    pub(crate) fn say(&self, text: &str) -> Result<(), CliError> {
        match self.format {
            Format::Human => out(text.as_bytes()),
            Format::Json => Ok(()),
        }
    }

    /// Something that went well but should be seen to.
    pub(crate) fn warn(&self, text: &str) {
        if self.format == Format::Human && self.talk == Talk::Normal {
            err(&format!("{} {text}\n", styled("warning:", "33")));
        }
    }

    /// Why the command ends.
    pub(crate) fn fail(&self, error: &CliError) -> Exit {
        let exit = error.exit();
        let (message, hint) = (error.chain(), error.hint());
        match self.format {
            Format::Human => {
                let hint = hint.map(|hint| format!("{} {hint}\n", styled("hint:", "36"))).unwrap_or_default();
                err(&format!("{} {message}\n{hint}", styled("error:", "31")));
            }
            Format::Json => {
                let body = ErrorBody { message: &message, hint: hint.as_deref(), exit_code: exit.code() };
                let document = VersionedDocument { schema: SCHEMA, kind: "error", body: &body };
                err(&(serde_json::to_string(&document).expect("an error is JSON") + "\n"));
            }
        }
        exit
    }
}

fn out(bytes: &[u8]) -> Result<(), CliError> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(CliError::Output { source: error }),
        _ => Ok(()),
    }
}

/// Nobody is left to be told that standard error is gone.
pub(crate) fn err(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// `text` in bold `color` if standard error is a terminal that shows colors.
fn styled(text: &str, color: &str) -> String {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    if is_set("NO_COLOR") || is_dumb || !std::io::stderr().is_terminal() {
        return text.to_owned();
    }
    format!("\u{1b}[1;{color}m{text}\u{1b}[0m")
}
