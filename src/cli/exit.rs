//! The only place with exit codes. Whatever fails arrives here as an error with its chain of causes; here it gets a
//! code, and where something can be done a hint of one sentence. Causes are looked at from the outermost inwards and
//! the first that is known decides, so an operation may wrap what it likes.

use std::error::Error;

use thiserror::Error;

use super::config::ConfigError;
use super::keys::KeyError;
use super::render::printable;
use super::source::AddressError;
use super::time::TimeError;
use crate::base::chain::{causes, chain};
use crate::crypto::keyfile::KeyFileError;
use crate::engine::contract::SourceError;
use crate::engine::postgres::connect::error::PostgresError;
use crate::ops::error::OpError;
use crate::repo::error::{RepoError, WriteError};
use crate::sort::SpillError;
use crate::store::{Doing, LocationError, StoreError};

/// How a command ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Exit {
    Done,
    Failed,
    Usage,
    /// Done, and something was found.
    Findings,
    NoRepository,
    Key,
    /// Somebody else's work stands in the way.
    InTheWay,
    /// Store, source or target are unreachable or refuse.
    Unreachable,
    Interrupted,
}

impl Exit {
    /// The number for the shell.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Findings => 3,
            Self::NoRepository => 4,
            Self::Key => 5,
            Self::InTheWay => 6,
            Self::Unreachable => 7,
            Self::Interrupted => 130,
        }
    }
}

/// How a command that did its work ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    Done,
    Findings,
}

impl From<Outcome> for Exit {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Done => Self::Done,
            Outcome::Findings => Self::Findings,
        }
    }
}

/// Why a command ends without having done its work.
#[derive(Debug, Error)]
pub(crate) enum CliError {
    /// What was asked for makes no sense.
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
    #[error("this is a bug in sidekeep; nothing was committed by the part that failed")]
    Bug,
    /// Somebody asked to stop, and this is what came of it.
    #[error("interrupted")]
    Interrupted {
        #[source]
        source: Box<CliError>,
        hint: &'static str,
    },
    /// An error of a floor below, or of a part of this one.
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
    SourceError,
    SpillError,
    StoreError,
    TimeError,
);

/// A code and a hint; no hint is empty.
type Verdict = (Exit, &'static str);

impl CliError {
    /// The code of this error.
    pub(crate) fn exit(&self) -> Exit {
        self.verdict().0
    }

    /// The same, of an operation that was asked to stop.
    pub(crate) fn interrupted(self) -> Self {
        let hint = REUSED;
        if self.exit() == Exit::Interrupted { self } else { Self::Interrupted { source: Box::new(self), hint } }
    }

    /// The same with what to do about an interrupted restore that can go on.
    pub(crate) fn resumable(self) -> Self {
        self.if_interrupted(RESUMED)
    }

    /// The same with what became of the files of an interrupted restore.
    pub(crate) fn removed(self) -> Self {
        self.if_interrupted(REMOVED)
    }

    fn if_interrupted(self, hint: &'static str) -> Self {
        match self {
            Self::Interrupted { source, .. } => Self::Interrupted { source, hint },
            Self::Failed(error) if matches!(error.downcast_ref(), Some(OpError::Cancelled)) => {
                Self::Interrupted { source: Box::new(Self::Failed(error)), hint }
            }
            other => other,
        }
    }

    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        let hint = self.verdict().1;
        (!hint.is_empty()).then(|| hint.to_owned())
    }

    /// The error and its causes, each once.
    pub(crate) fn chain(&self) -> String {
        printable(&chain(self)).into_owned()
    }

    fn verdict(&self) -> Verdict {
        let error: &(dyn Error + 'static) = match self {
            Self::Usage { hint, .. } => return (Exit::Usage, hint),
            Self::Bug => return (Exit::Failed, BUG),
            Self::Interrupted { hint, .. } => return (Exit::Interrupted, hint),
            Self::Output { .. } => return (Exit::Failed, "see where the output goes, and whether there is room"),
            Self::Io { .. } => return (Exit::Failed, "see whether this may be done there, and whether there is room"),
            Self::Failed(error) => &**error,
        };
        causes(error).find_map(known).unwrap_or((Exit::Failed, ""))
    }
}

fn known(error: &(dyn Error + 'static)) -> Option<Verdict> {
    if let Some(error) = error.downcast_ref::<OpError>() {
        return op(error);
    }
    if let Some(error) = error.downcast_ref::<RepoError>() {
        return repo(error);
    }
    if let Some(error) = error.downcast_ref::<WriteError>() {
        return write(error);
    }
    if let Some(error) = error.downcast_ref::<StoreError>() {
        return Some(store(error));
    }
    if let Some(error) = error.downcast_ref::<SourceError>() {
        return source(error);
    }
    if let Some(error) = error.downcast_ref::<PostgresError>() {
        return Some(postgres(error));
    }
    if let Some(error) = error.downcast_ref::<SpillError>() {
        return Some(spill(error));
    }
    if let Some(error) = error.downcast_ref::<KeyError>() {
        return Some(key(error));
    }
    if error.is::<ConfigError>() || error.is::<TimeError>() || error.is::<LocationError>() {
        return Some((Exit::Usage, ""));
    }
    error.is::<AddressError>().then_some((
        Exit::Usage,
        "give an address such as postgres://role@host/database or sqlite:///srv/sync.db, or a name from sidekeep.toml",
    ))
}

const VERIFY: &str = "run `sidekeep verify --level read` to see what else is damaged";
const BUG: &str = "please report it, with the line above";
const NEWER: &str = "use a newer version of sidekeep";

const ROOM: &str = "name a directory on a disk with more room with --spill-dir, or spill_dir in sidekeep.toml";
const RESUMED: &str = "what was restored stays: the same command with --resume goes on";
const REMOVED: &str = "what was half restored is removed, and nothing else was touched; the same command begins anew";
const REUSED: &str = "nothing was committed; what a backup has uploaded is reused by the next one";

/// A transparent error is not in the chain itself, only its causes are.
fn op(error: &OpError) -> Option<Verdict> {
    match error {
        OpError::Repo(error) => repo(error),
        OpError::Source(error) => source(error),
        OpError::Spill(error) => Some(spill(error)),
        OpError::NotFound(_) => Some((Exit::Failed, "`sidekeep snapshots` and `sidekeep show` list what is there")),
        OpError::Damaged { .. } => Some((Exit::Failed, VERIFY)),
        OpError::Cancelled => Some((Exit::Interrupted, REUSED)),
    }
}

fn repo(error: &RepoError) -> Option<Verdict> {
    Some(match error {
        RepoError::NoRepository { .. } => {
            (Exit::NoRepository, "check the location, or make a repository with `sidekeep init`")
        }
        RepoError::Exists { .. } => (Exit::InTheWay, "choose another place; nothing was changed"),
        RepoError::Unfinished { .. } => {
            (Exit::InTheWay, "if no other init runs, nothing can use them: delete them, or choose another place")
        }
        RepoError::Unconditional { .. } => (Exit::Unreachable, "choose a store that supports conditional writes"),
        RepoError::Missing { .. } | RepoError::Damaged { .. } => (Exit::Failed, VERIFY),
        RepoError::Unsupported { .. } | RepoError::LaterLedger { .. } => (Exit::Failed, NEWER),
        RepoError::Fingerprint { .. } => {
            (Exit::Key, "this is not the repository that was meant: check the location, and the key")
        }
        RepoError::OtherRepository { .. } => (Exit::Key, "give this repository's key with --key-file"),
        RepoError::NotEnrolled { .. } | RepoError::Grant { .. } => {
            (Exit::Key, "give another key of this repository with --key-file or --key-command")
        }
        RepoError::WrongRole { .. } | RepoError::NoKey { .. } => {
            (Exit::Key, "give a key of that role with --key-file or --key-command")
        }
        RepoError::NoSource { .. } => (Exit::Usage, "`sidekeep snapshots` lists the sources"),
        RepoError::NoSources => {
            (Exit::Failed, "take a backup first; if there was one, `sidekeep verify` says what is missing")
        }
        RepoError::WhichSource { .. } => (Exit::Usage, "name it with --source; `sidekeep snapshots` lists the sources"),
        RepoError::Unclear { .. } => {
            (Exit::Unreachable, "see if it is there with `sidekeep snapshots`, else run it again")
        }
        RepoError::Overtaken { .. } => (Exit::InTheWay, "run the command again"),
        RepoError::Write(error) => return write(error),
        RepoError::Foreign { .. } => (Exit::Failed, "check the location"),
        RepoError::RolledBack { .. } => {
            (Exit::Failed, "find out who put back an older copy of the store, or deleted from it, and undo that")
        }
        RepoError::Statement { .. } | RepoError::Seal { .. } => (Exit::Failed, BUG),
        RepoError::Store(_) => return None,
    })
}

fn write(error: &WriteError) -> Option<Verdict> {
    match error {
        WriteError::Cancelled => Some((Exit::Interrupted, REUSED)),
        _ => None,
    }
}

fn store(error: &StoreError) -> Verdict {
    match error {
        StoreError::NoPlace { .. } => (
            Exit::NoRepository,
            "check the location; `sidekeep init` makes a repository, but a bucket or container must be there already",
        ),
        StoreError::Refused { .. } => {
            (Exit::Unreachable, "check the credentials and permissions that the store's own tools would use here")
        }
        StoreError::Unreachable { doing, .. } | StoreError::Throttled { doing, .. } if *doing != Doing::Creating => {
            (Exit::Unreachable, "run the command again; --retry-time has it wait longer for the store")
        }
        StoreError::Unreachable { .. } | StoreError::Throttled { .. } | StoreError::Uncertain { .. } => {
            (Exit::Unreachable, "run the command again; what was uploaded is reused")
        }
        StoreError::Full { .. } => (Exit::Unreachable, "make room in the store; what was uploaded is reused"),
        StoreError::ReadOnly { .. } => (Exit::Unreachable, "mount the store writable"),
        StoreError::Unsupported { .. } => (Exit::Unreachable, "choose another store, or another kind of access to it"),
        StoreError::Setting { .. } => (Exit::Usage, ""),
        StoreError::NotFound { .. } | StoreError::Short { .. } | StoreError::TooLarge { .. } => (Exit::Failed, VERIFY),
        StoreError::Other { .. } => (Exit::Unreachable, "see whether the store's own tools can do this"),
        StoreError::Exists { .. } => (Exit::Failed, VERIFY),
        StoreError::Name { .. } => (Exit::Failed, "choose a location without that part"),
    }
}

fn source(error: &SourceError) -> Option<Verdict> {
    match error {
        SourceError::Unreachable { .. } => Some((
            Exit::Unreachable,
            "check the address and the permissions, and what the database's own tools say of it",
        )),
        SourceError::GaveWay { .. } => {
            Some((Exit::Unreachable, "take the backup when nobody alters the tables; what was uploaded is reused"))
        }
        SourceError::Copy { .. } => Some((Exit::Failed, ROOM)),
        SourceError::NotEmpty { .. } => {
            Some((Exit::Unreachable, "restore to a place where there is nothing yet; nothing is ever overwritten"))
        }
        SourceError::Unfinished { .. } => {
            Some((Exit::Unreachable, "go on with it by --resume and the same snapshot, or restore to a new database"))
        }
        SourceError::NothingBegun { .. } => Some((
            Exit::Unreachable,
            "if a restore lost its connection there in its last step, that was done and it is whole; else restore to a \
             database where there is nothing yet",
        )),
        SourceError::Lost { .. } => {
            let hint = "see whether the server runs, and in its log who ended the session or the statement; then a \
                        restore goes on by --resume, and a backup is run again";
            Some((Exit::Unreachable, hint))
        }
        SourceError::Failed { .. } => Some((
            Exit::Failed,
            "the line above says what was refused: see whether a disk is full; the database's log may say more",
        )),
        SourceError::Sink(_) => None,
    }
}

fn postgres(error: &PostgresError) -> Verdict {
    match error {
        PostgresError::Address { .. } => (Exit::Usage, "see docs/postgresql.md for what an address may say"),
        PostgresError::Connect { .. } | PostgresError::Unsuitable { .. } | PostgresError::GaveWay { .. } => {
            (Exit::Unreachable, "`sidekeep doctor` tries the server and says what is missing")
        }
        PostgresError::Failed { .. } => {
            (Exit::Failed, "the line above says what the server refused; its log may say more")
        }
    }
}

fn spill(error: &SpillError) -> Verdict {
    match error {
        SpillError::Create { .. } | SpillError::Full { .. } | SpillError::TooSmall { .. } => (Exit::Failed, ROOM),
        SpillError::Write { .. } | SpillError::Read { .. } | SpillError::Damaged { .. } => {
            (Exit::Failed, "see whether that disk is well, or name a directory on another with --spill-dir")
        }
        SpillError::Thread { .. } => (Exit::Failed, "let this process have more threads and memory"),
        SpillError::TooLong { .. } => (Exit::Failed, BUG),
    }
}

fn key(error: &KeyError) -> Verdict {
    let hint = match error {
        KeyError::Missing => "name one with --key-file, --key-command, SIDEKEEP_KEY_FILE or key_file in sidekeep.toml",
        KeyError::NobodyToAsk { .. } | KeyError::NoTerminal => {
            "give it with --passphrase-command or SIDEKEEP_PASSPHRASE"
        }
        KeyError::Unusable { source: KeyFileError::Unsupported { .. }, .. } => return (Exit::Failed, NEWER),
        KeyError::Unusable { source: KeyFileError::Passphrase, .. } => {
            "try again, or give it with --passphrase-command or SIDEKEEP_PASSPHRASE"
        }
        KeyError::Unusable { source: KeyFileError::Memory { .. }, .. } => "use the key on a machine with more memory",
        KeyError::Run { .. } | KeyError::CommandFailed { .. } | KeyError::CommandOutput { .. } => {
            "see what --key-command or --passphrase-command does when you run it yourself"
        }
        KeyError::Read { .. } | KeyError::NoText { .. } | KeyError::Unusable { .. } => {
            "name another with --key-file or --key-command"
        }
        KeyError::Differ | KeyError::Prompt { .. } => "",
    };
    (Exit::Key, hint)
}

#[cfg(test)]
mod tests {
    use super::{CliError, Exit};
    use crate::cli::keys::KeyError;
    use crate::engine::contract::SourceError;
    use crate::ops::error::OpError;
    use crate::repo::error::{RepoError, WriteError};
    use crate::sort::SpillError;
    use crate::store::{Doing, StoreError};

    fn full() -> StoreError {
        StoreError::Full { doing: Doing::Creating, name: "a/b".to_owned(), reason: "quota".to_owned() }
    }

    #[test]
    fn the_cause_that_is_known_decides() {
        let cases: Vec<(CliError, Exit)> = vec![
            (full().into(), Exit::Unreachable),
            (RepoError::Store(full()).into(), Exit::Unreachable),
            (RepoError::Write(WriteError::Store(full())).into(), Exit::Unreachable),
            (RepoError::Write(WriteError::Cancelled).into(), Exit::Interrupted),
            (SourceError::Sink(Box::new(RepoError::Write(WriteError::Cancelled))).into(), Exit::Interrupted),
            (SourceError::Sink("no idea".into()).into(), Exit::Failed),
            (RepoError::NoRepository { place: "x".to_owned() }.into(), Exit::NoRepository),
            (KeyError::Missing.into(), Exit::Key),
            (RepoError::Overtaken { reason: "x".to_owned() }.into(), Exit::InTheWay),
        ];
        for (error, exit) in cases {
            assert_eq!(error.exit(), exit, "{error}");
        }
    }

    #[test]
    fn what_to_do_is_said_of_every_trouble_of_store_disk_and_repository() {
        let (name, reason) = ("a/b".to_owned(), "x".to_owned());
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
    fn what_became_of_an_interrupted_restore_is_said() {
        let cancelled = || CliError::from(OpError::Cancelled);
        let hint = |error: CliError| (error.exit(), error.hint().expect("a hint"));
        for error in [cancelled(), full().into(), cancelled().interrupted()] {
            let (exit, hint) = hint(error.interrupted().removed());
            assert!(exit == Exit::Interrupted && hint.contains("begins anew") && !hint.contains("backup"), "{hint}");
        }
        assert!(hint(cancelled().resumable()).1.contains("--resume"));
        assert!(hint(CliError::from(full()).removed()).1.contains("make room"), "nobody interrupted it");
    }

    #[test]
    fn every_cause_is_said_once_and_steers_no_terminal() {
        let error: CliError = RepoError::Write(WriteError::Store(full())).into();
        assert_eq!(error.chain(), "cannot store a snapshot's data: creating a/b: the store is full: quota");
        let error: CliError = SourceError::Sink("\u{1b}[2J".into()).into();
        assert_eq!(error.chain(), "rows could not be passed on: \\u{1b}[2J");
    }

    #[test]
    fn codes_are_those_of_the_contract() {
        use Exit::{Done, Failed, Findings, InTheWay, Interrupted, Key, NoRepository, Unreachable, Usage};
        let all = [Done, Failed, Usage, Findings, NoRepository, Key, InTheWay, Unreachable, Interrupted];
        assert_eq!(all.map(Exit::code), [0, 1, 2, 3, 4, 5, 6, 7, 130]);
    }
}
