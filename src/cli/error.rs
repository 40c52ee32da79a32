//! Why a command fails. Every error of the layers below becomes a [`CliError`] with its chain of causes. The exit code
//! and the hint come from `error_verdict.rs`.

use std::error::Error;

use thiserror::Error;

use super::address::AddressError;
use super::config::ConfigError;
use super::error_verdict::{self, ErrorVerdict, QuotedValues};
use super::exit::Exit;
use super::keys::KeyError;
use super::render::printable;
use super::time::TimeError;
use crate::base::causes::{self, causes};
use crate::crypto::keyfile::KeyFileError;
use crate::engine::contract::EngineError;
use crate::engine::postgres::connect::error::PostgresError;
use crate::ops::error::OpError;
use crate::repo::error::RepoError;
use crate::sort::SpillError;
use crate::store::{LocationError, StoreError};

const OUTPUT_HINT: &str = "check that standard output is writable and has room";
const IO_HINT: &str = "check the permissions there, and that there is room";

/// Why a command failed.
#[derive(Debug, Error)]
pub(crate) enum CliError {
    /// The command line or a setting is wrong.
    #[error("{message}")]
    Usage { message: String, hint: &'static str },
    #[error("cannot write the result")]
    Output {
        #[source]
        source: std::io::Error,
    },
    #[error("cannot {doing}")]
    Io {
        doing: String,
        #[source]
        source: std::io::Error,
    },
    /// A file or directory that an option or the configuration names cannot be used.
    #[error("cannot {doing}")]
    Setting {
        doing: String,
        #[source]
        source: std::io::Error,
    },
    #[error("this is a bug in sidekeep; the part that failed committed nothing")]
    Bug,
    /// The operation was cancelled by a signal. `source` is the error that it returned.
    #[error("interrupted")]
    Interrupted {
        #[source]
        source: Box<CliError>,
        hint: &'static str,
    },
    /// An error of a layer below, or of another module of this layer.
    #[error(transparent)]
    Failed(Box<dyn Error + Send + Sync>),
}

macro_rules! failures {
    ($($error:ty),+ $(,)?) => {
        $(impl From<$error> for CliError {
            fn from(error: $error) -> Self {
                Self::Failed(Box::new(error))
            }
        })+
    };
}

failures!(
    AddressError,
    ConfigError,
    KeyError,
    KeyFileError,
    LocationError,
    OpError,
    PostgresError,
    RepoError,
    EngineError,
    SpillError,
    StoreError,
    TimeError,
);

impl CliError {
    /// A usage error.
    pub(crate) fn usage(message: impl Into<String>, hint: &'static str) -> Self {
        Self::Usage { message: message.into(), hint }
    }

    /// Adds to an I/O error what could not be done.
    pub(crate) fn cannot(doing: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let doing = doing.into();
        |source| Self::Io { doing, source }
    }

    /// Like [`Self::cannot`], for a file or directory that an option or the configuration names.
    pub(crate) fn unusable(doing: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let doing = doing.into();
        |source| Self::Setting { doing, source }
    }

    /// The error of the layer below, if it is one.
    pub(crate) fn into_cause(self) -> Box<dyn Error + Send + Sync> {
        match self {
            Self::Failed(error) => error,
            own => Box::new(own),
        }
    }

    /// The exit code for this error.
    pub(crate) fn exit(&self) -> Exit {
        self.error_verdict().exit
    }

    /// The error of an operation that was cancelled.
    pub(crate) fn interrupted(self) -> Self {
        if self.exit() == Exit::Interrupted {
            return self;
        }
        Self::Interrupted { source: Box::new(self), hint: error_verdict::REUSED }
    }

    /// If this is an interruption: the hint says how to resume the restore.
    pub(crate) fn resumable(self) -> Self {
        self.if_interrupted(error_verdict::RESUMED)
    }

    /// If this is an interruption: the hint says that the files of the restore were removed.
    pub(crate) fn removed(self) -> Self {
        self.if_interrupted(error_verdict::REMOVED)
    }

    fn if_interrupted(self, hint: &'static str) -> Self {
        match self {
            Self::Interrupted { source, .. } => Self::Interrupted { source, hint },
            Self::Failed(error) if error.downcast_ref().is_some_and(is_cancelled) => {
                Self::Interrupted { source: Box::new(Self::Failed(error)), hint }
            }
            other => other,
        }
    }

    /// What the user can do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        let hint = self.error_verdict().hint;
        (!hint.is_empty()).then(|| hint.to_owned())
    }

    /// The error and its causes, each of them once.
    pub(crate) fn chain(&self) -> String {
        printable(&causes::describe(self)).into_owned()
    }

    /// Like [`Self::chain`], for the log: without database messages that may quote values of rows.
    pub(crate) fn log_text(&self) -> String {
        let mut text = causes::describe(self);
        if let Some(quoted) = self.quoted_values() {
            let replacement = format!("SQLSTATE {} (the message is left out because it may quote a row)", quoted.state);
            text = text.replace(quoted.words, &replacement);
        }
        printable(&text).into_owned()
    }

    fn quoted_values(&self) -> Option<QuotedValues<'_>> {
        match self {
            Self::Interrupted { source, .. } => source.quoted_values(),
            Self::Failed(error) => causes(&**error).find_map(error_verdict::quoted_values),
            _ => None,
        }
    }

    fn error_verdict(&self) -> ErrorVerdict {
        match self {
            Self::Usage { hint, .. } => ErrorVerdict::new(Exit::Usage, hint),
            Self::Setting { .. } => ErrorVerdict::new(Exit::Usage, ""),
            Self::Bug => ErrorVerdict::new(Exit::Failed, error_verdict::BUG),
            Self::Interrupted { hint, .. } => ErrorVerdict::new(Exit::Interrupted, hint),
            Self::Output { .. } => ErrorVerdict::new(Exit::Failed, OUTPUT_HINT),
            Self::Io { .. } => ErrorVerdict::new(Exit::Failed, IO_HINT),
            Self::Failed(error) => error_verdict::error_verdict(&**error),
        }
    }
}

fn is_cancelled(error: &OpError) -> bool {
    matches!(error, OpError::Cancelled)
}

#[cfg(test)]
mod tests {
    use super::CliError;
    use crate::cli::exit::Exit;
    use crate::cli::keys::KeyError;
    use crate::engine::contract::EngineError;
    use crate::engine::postgres::connect::error::PostgresError;
    use crate::ops::error::OpError;
    use crate::repo::error::{RepoError, WriteError};
    use crate::sort::SpillError;
    use crate::store::{Doing, StoreError};

    fn full() -> StoreError {
        StoreError::Full { doing: Doing::Creating, name: "a/b".to_owned(), reason: "quota".to_owned() }
    }

    #[test]
    fn the_outermost_known_cause_decides_the_exit_code() {
        let cases: Vec<(CliError, Exit)> = vec![
            (full().into(), Exit::Unreachable),
            (RepoError::Store(full()).into(), Exit::Unreachable),
            (RepoError::Write(WriteError::Store(full())).into(), Exit::Unreachable),
            (RepoError::Write(WriteError::Cancelled).into(), Exit::Interrupted),
            (EngineError::Sink(Box::new(RepoError::Write(WriteError::Cancelled))).into(), Exit::Interrupted),
            (EngineError::Sink("no idea".into()).into(), Exit::Failed),
            (RepoError::NoRepository { place: "x".to_owned() }.into(), Exit::NoRepository),
            (KeyError::Missing.into(), Exit::Key),
            (RepoError::Overtaken { reason: "x".to_owned() }.into(), Exit::Blocked),
        ];
        for (error, exit) in cases {
            assert_eq!(error.exit(), exit, "{error}");
        }
    }

    #[test]
    fn every_error_of_store_disk_and_repository_has_a_hint() {
        let name = "a/b".to_owned();
        let reason = "x".to_owned();
        let dir = std::path::PathBuf::from("/spill");
        let broken = || std::io::Error::other("x");
        let errors: Vec<CliError> = vec![
            RepoError::RolledBack { object: name.clone(), reason: reason.clone() }.into(),
            RepoError::NoSources.into(),
            RepoError::Store(StoreError::Exists { name: name.clone() }).into(),
            StoreError::Name { name: name.clone() }.into(),
            SpillError::Damaged { dir: dir.clone() }.into(),
            SpillError::Write { dir: dir.clone(), source: broken() }.into(),
            SpillError::Read { dir, source: broken() }.into(),
            SpillError::Thread { source: broken() }.into(),
            SpillError::TooLong { bytes: 7 }.into(),
            CliError::Output { source: broken() },
            CliError::Io { doing: reason, source: broken() },
        ];
        for error in errors {
            assert!(error.hint().is_some_and(|hint| !hint.ends_with('.')), "{error}");
            assert_eq!(error.exit(), Exit::Failed, "{error}");
        }
    }

    #[test]
    fn only_a_full_disk_gets_the_hint_to_make_room() {
        let hint = |state: &str| {
            let (doing, reason) = ("writing".to_owned(), "refused".to_owned());
            let error = PostgresError::Failed { doing, reason, state: Some(state.to_owned()) };
            CliError::from(EngineError::from(error)).hint().unwrap_or_default()
        };
        assert!(hint("53100").contains("make room on the disk"));
        for state in ["42501", "58030", "53200", "XX000"] {
            assert!(!hint(state).contains("disk"), "{state}");
        }
        let failed = EngineError::Failed { doing: "write".to_owned(), reason: "x".to_owned() };
        assert_eq!(CliError::from(failed).hint(), None);
    }

    #[test]
    fn the_log_does_not_quote_rows() {
        let server = |state: &str| EngineError::Server {
            doing: "reading contacts".to_owned(),
            reason: "Key (name)=(Ada) is there".to_owned(),
            state: Some(state.to_owned()),
        };
        let error: CliError = OpError::Engine(server("23505")).into();
        assert!(error.chain().contains("Ada"));
        for error in [error, server("23505").into(), CliError::from(server("22P02")).interrupted()] {
            let text = error.log_text();
            assert!(text.contains("reading contacts: SQLSTATE 2") && !text.contains("Ada"), "{text}");
        }
        let error: CliError = server("42501").into();
        assert_eq!(error.log_text(), error.chain());
    }

    #[test]
    fn the_hint_for_an_interrupted_restore_says_what_is_left() {
        let cancelled = || CliError::from(OpError::Cancelled);
        let hint = |error: CliError| (error.exit(), error.hint().expect("a hint"));
        for error in [cancelled(), full().into(), cancelled().interrupted()] {
            let (exit, hint) = hint(error.interrupted().removed());
            assert!(exit == Exit::Interrupted && hint.contains("removed") && !hint.contains("backup"), "{hint}");
        }
        assert!(hint(cancelled().resumable()).1.contains("--resume"));
        assert!(hint(CliError::from(full()).removed()).1.contains("make room"), "it was not interrupted");
    }

    #[test]
    fn each_cause_is_shown_once_and_control_characters_are_escaped() {
        let error: CliError = RepoError::Write(WriteError::Store(full())).into();
        assert_eq!(error.chain(), "cannot store a snapshot's data: creating a/b: the store is full: quota");
        let error: CliError = EngineError::Sink("\u{1b}[2J".into()).into();
        assert_eq!(error.chain(), "rows could not be passed on: \\u{1b}[2J");
    }
}
