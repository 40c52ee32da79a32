//! The exit code and the hint of every known error. An operation may wrap an error in other errors: the causes are
//! searched from the outermost inwards, and the first known one decides.

use std::error::Error;
use std::io;

use super::address::AddressError;
use super::config::ConfigError;
use super::exit::Exit;
use super::keys::KeyError;
use super::time::TimeError;
use crate::base::causes::causes;
use crate::base::limit::{LimitError, REPORT};
use crate::crypto::keyfile::KeyFileError;
use crate::engine::contract::EngineError;
use crate::engine::postgres::connect::error::PostgresError;
use crate::format::dsse::StatementError;
use crate::ops::error::OpError;
use crate::repo::error::{RepoError, WriteError};

use crate::sort::SpillError;
use crate::store::{Doing, LocationError, StoreError};

/// An exit code, and a hint of one sentence that says what to do.
#[derive(Clone, Copy)]
pub(super) struct ErrorVerdict {
    pub(super) exit: Exit,
    /// Empty if nothing can be done.
    pub(super) hint: &'static str,
}

impl ErrorVerdict {
    /// This exit code with this hint.
    pub(super) const fn new(exit: Exit, hint: &'static str) -> Self {
        Self { exit, hint }
    }
}

/// Any error with its type erased.
type AnyError = dyn Error + 'static;

/// One entry for each known type of error.
const KNOWN: [fn(&AnyError) -> Option<ErrorVerdict>; 11] = [
    |error| error.downcast_ref().and_then(of_operation),
    |error| error.downcast_ref().and_then(of_repository),
    |error| error.downcast_ref().and_then(of_writing),
    |error| error.downcast_ref().map(of_store),
    |error| error.downcast_ref().and_then(of_engine),
    |error| error.downcast_ref().map(of_postgres),
    |error| error.downcast_ref().map(of_spilling),
    |error| error.downcast_ref().map(of_key),
    |error| error.downcast_ref().map(|_: &ConfigError| USAGE),
    |error| error.downcast_ref().map(|_: &TimeError| USAGE),
    of_text,
];

const USAGE: ErrorVerdict = ErrorVerdict::new(Exit::Usage, "");

/// The text in `error` that may quote values of rows, and the SQLSTATE of the error.
pub(super) fn quoted_values(error: &AnyError) -> Option<QuotedValues<'_>> {
    if let Some(OpError::Engine(error)) = error.downcast_ref() {
        return quoted_values(error);
    }
    let words = words_of_source(error).or_else(|| words_of_postgres(error))?;
    words.are_about_data().then_some(words)
}

fn words_of_source(error: &AnyError) -> Option<QuotedValues<'_>> {
    match error.downcast_ref()? {
        EngineError::Server { reason, state: Some(state), .. } => Some(QuotedValues { words: reason, state }),
        _ => None,
    }
}

fn words_of_postgres(error: &AnyError) -> Option<QuotedValues<'_>> {
    match error.downcast_ref()? {
        PostgresError::Failed { reason, state: Some(state), .. } => Some(QuotedValues { words: reason, state }),
        _ => None,
    }
}

/// A message of a database server that may quote values of rows.
pub(super) struct QuotedValues<'a> {
    pub(super) words: &'a str,
    pub(super) state: &'a str,
}

impl QuotedValues<'_> {
    fn are_about_data(&self) -> bool {
        DATA_STATES.iter().any(|class| self.state.starts_with(class))
    }
}

/// Classes of SQLSTATE whose messages may quote values: data, constraints, triggers and functions.
const DATA_STATES: [&str; 8] = ["21", "22", "23", "27", "38", "39", "44", "P0"];

/// The verdict on `error`, which is the verdict on the first known error in its chain of causes.
pub(super) fn error_verdict(error: &AnyError) -> ErrorVerdict {
    causes(error).find_map(known).unwrap_or(ErrorVerdict::new(Exit::Failed, ""))
}

fn known(error: &AnyError) -> Option<ErrorVerdict> {
    KNOWN.iter().find_map(|lookup| lookup(error))
}

/// Errors about text that is not a location of a repository or an address of a database.
fn of_text(error: &AnyError) -> Option<ErrorVerdict> {
    if error.is::<LocationError>() {
        return Some(USAGE);
    }
    error.is::<AddressError>().then_some(ErrorVerdict::new(
        Exit::Usage,
        "give an address such as postgres://role@host/database or sqlite:///srv/sync.db, or a name from sidekeep.toml",
    ))
}

const VERIFY: &str = "run `sidekeep verify --level read` to see what else is damaged";
/// The hint for an error that cannot happen.
pub(super) const BUG: &str = REPORT;
const SHORTER: &str = "nothing was committed; use fewer or shorter tags, names and labels";
const NEWER: &str = "use a newer version of sidekeep";

const SERVER: &str = "the line above says what the server refused; see also the server's log";
const ROOM: &str = "name a directory on a disk with more free space, with --spill-dir or spill_dir in sidekeep.toml";
const OTHER_DISK: &str = "check that disk for faults, or name a directory on another disk with --spill-dir";
/// The hint for an interrupted restore that can be resumed.
pub(super) const RESUMED: &str = "the restored data is kept: run the same command with --resume to continue";
/// The hint for an interrupted restore whose output is removed.
pub(super) const REMOVED: &str =
    "the partly restored files were removed, and nothing else was changed; run the same command to start again";
/// The hint for an interrupted backup.
pub(super) const REUSED: &str = "nothing was committed; the data that a backup has uploaded is reused by the next one";

/// A transparent error is not in the chain itself. Only its causes are.
fn of_operation(error: &OpError) -> Option<ErrorVerdict> {
    match error {
        OpError::Repo(error) => of_repository(error),
        OpError::Engine(error) => of_engine(error),
        OpError::Spill(error) => Some(of_spilling(error)),
        OpError::NotFound(_) => Some(ErrorVerdict::new(Exit::Failed, "run `sidekeep snapshots` to list the snapshots")),
        OpError::Key(_) => Some(ErrorVerdict::new(Exit::Usage, "run `sidekeep key list` to list the keys")),
        OpError::NoTable(_) => {
            Some(ErrorVerdict::new(Exit::Failed, "run `sidekeep show` to list the snapshot's tables"))
        }
        OpError::Damaged { .. } => Some(ErrorVerdict::new(Exit::Failed, VERIFY)),
        OpError::Cancelled => Some(ErrorVerdict::new(Exit::Interrupted, REUSED)),
    }
}

fn of_repository(error: &RepoError) -> Option<ErrorVerdict> {
    Some(match error {
        RepoError::NoRepository { .. } => {
            ErrorVerdict::new(Exit::NoRepository, "check the location, or create a repository with `sidekeep init`")
        }
        RepoError::Exists { .. } => ErrorVerdict::new(Exit::Blocked, "choose another location; nothing was changed"),
        RepoError::Unfinished { .. } => ErrorVerdict::new(
            Exit::Blocked,
            "if no other init is running, nothing can use these objects: delete them, or choose another location",
        ),
        RepoError::Unconditional { .. } => {
            ErrorVerdict::new(Exit::Unreachable, "choose a store that supports conditional writes")
        }
        RepoError::Missing { .. } | RepoError::Damaged { .. } => ErrorVerdict::new(Exit::Failed, VERIFY),
        RepoError::Unsupported { .. } | RepoError::UnknownFeature { .. } => ErrorVerdict::new(Exit::Failed, NEWER),
        RepoError::Fingerprint { .. } => ErrorVerdict::new(
            Exit::Key,
            "this is not the expected repository: check the location, and the key or the fingerprint",
        ),
        RepoError::OtherRepository { .. } => ErrorVerdict::new(Exit::Key, "give this repository's key with --key-file"),
        RepoError::NotEnrolled { .. } | RepoError::HiddenSource { .. } | RepoError::Grant { .. } => {
            ErrorVerdict::new(Exit::Key, "give another key of this repository with --key-file or --key-command")
        }
        RepoError::WrongRole { .. } | RepoError::NoKey { .. } => {
            ErrorVerdict::new(Exit::Key, "give a key of that role with --key-file or --key-command")
        }
        RepoError::NoSource { .. } => ErrorVerdict::new(Exit::Usage, "run `sidekeep snapshots` to list the sources"),
        RepoError::Retired { .. } => {
            ErrorVerdict::new(Exit::Usage, "its snapshots can still be restored; back up under another name")
        }
        RepoError::SourceName { .. } => ErrorVerdict::new(Exit::Usage, "choose another name for the source"),
        RepoError::NoSources => ErrorVerdict::new(
            Exit::Failed,
            "take a backup first; if you have taken one, run `sidekeep verify` to find out what is missing",
        ),
        RepoError::WhichSource { .. } => {
            ErrorVerdict::new(Exit::Usage, "name it with --source; run `sidekeep snapshots` to list the sources")
        }
        RepoError::CommitUncertain { .. } => ErrorVerdict::new(
            Exit::Unreachable,
            "run `sidekeep snapshots` to see whether it was committed; if not, run the command again",
        ),
        RepoError::Overtaken { .. } => ErrorVerdict::new(Exit::Blocked, "run the command again"),
        RepoError::Write(error) => return of_writing(error),
        RepoError::Foreign { .. } => ErrorVerdict::new(Exit::Failed, "check the location"),
        RepoError::Hole { .. } => ErrorVerdict::new(
            Exit::Failed,
            "put the missing entry back from a second copy of the store; `sidekeep verify` lists all that is missing",
        ),
        RepoError::RolledBack { .. } | RepoError::WentBack { .. } => ErrorVerdict::new(
            Exit::Failed,
            "find out who restored an older copy of the store or deleted objects from it, and undo that",
        ),
        RepoError::Statement { source: StatementError::TooLarge { .. }, .. } => {
            ErrorVerdict::new(Exit::Failed, SHORTER)
        }
        RepoError::Statement { .. } | RepoError::Seal { .. } | RepoError::NotReadable { .. } => {
            ErrorVerdict::new(Exit::Failed, BUG)
        }
        RepoError::Limit(error) => of_limit(error),
        RepoError::Store(_) => return None,
    })
}

fn of_limit(error: &LimitError) -> ErrorVerdict {
    ErrorVerdict::new(Exit::Failed, error.remedy)
}

fn of_writing(error: &WriteError) -> Option<ErrorVerdict> {
    match error {
        WriteError::Limit(error) => Some(of_limit(error)),
        WriteError::Cancelled => Some(ErrorVerdict::new(Exit::Interrupted, REUSED)),
        WriteError::TooLarge { .. } | WriteError::Location(_) => Some(ErrorVerdict::new(Exit::Failed, BUG)),
        _ => None,
    }
}

fn of_store(error: &StoreError) -> ErrorVerdict {
    match error {
        StoreError::NoPlace { .. } => ErrorVerdict::new(
            Exit::NoRepository,
            "check the location; `sidekeep init` creates a repository, but a bucket or container must already exist",
        ),
        StoreError::Refused { .. } => ErrorVerdict::new(
            Exit::Unreachable,
            "check the credentials that the store's own tools use on this machine, and their permissions",
        ),
        StoreError::Unreachable { doing, .. } | StoreError::Throttled { doing, .. } if *doing != Doing::Creating => {
            ErrorVerdict::new(Exit::Unreachable, "run the command again; use --retry-time to wait longer for the store")
        }
        StoreError::Unreachable { .. } | StoreError::Throttled { .. } | StoreError::Uncertain { .. } => {
            ErrorVerdict::new(Exit::Unreachable, "run the command again; what was uploaded will be reused")
        }
        StoreError::Full { .. } => ErrorVerdict::new(
            Exit::Unreachable,
            "make room in the store and run the command again; what was uploaded will be reused",
        ),
        StoreError::ReadOnly { .. } => ErrorVerdict::new(Exit::Unreachable, "mount the store writable"),
        StoreError::Unsupported { .. } => {
            ErrorVerdict::new(Exit::Unreachable, "choose another store, or another way to access it")
        }
        StoreError::Setting { .. } => ErrorVerdict::new(Exit::Usage, ""),
        StoreError::NotFound { .. } | StoreError::Short { .. } | StoreError::TooLarge { .. } => {
            ErrorVerdict::new(Exit::Failed, VERIFY)
        }
        StoreError::Other { .. } => {
            ErrorVerdict::new(Exit::Unreachable, "check whether the store's own tools can do this")
        }
        StoreError::Exists { .. } => ErrorVerdict::new(Exit::Failed, VERIFY),
        StoreError::Name { .. } => ErrorVerdict::new(Exit::Failed, "choose a location that does not contain this name"),
    }
}

fn of_engine(error: &EngineError) -> Option<ErrorVerdict> {
    match error {
        EngineError::Unreachable { .. } => Some(ErrorVerdict::new(
            Exit::Unreachable,
            "check the address and the permissions, and whether the database's own tools can open it",
        )),
        EngineError::Yielded { .. } => Some(ErrorVerdict::new(
            Exit::Unreachable,
            "take the backup when nobody alters the tables; what was uploaded will be reused",
        )),
        EngineError::Copy { .. } => Some(ErrorVerdict::new(Exit::Failed, ROOM)),
        EngineError::CopyPlace { source, .. } => Some(of_temporary_file(source)),
        EngineError::NotEmpty { .. } | EngineError::NotAFile { .. } => {
            Some(ErrorVerdict::new(Exit::Unreachable, "restore to a new or empty target; nothing is ever overwritten"))
        }
        EngineError::Unfinished { .. } => Some(ErrorVerdict::new(
            Exit::Unreachable,
            "resume it with --resume and the same snapshot, or restore to a new database",
        )),
        EngineError::NothingToResume { .. } => Some(ErrorVerdict::new(
            Exit::Unreachable,
            "if a restore to it lost the connection in its last step, that restore is complete; otherwise, restore to \
             an empty database",
        )),
        EngineError::Lost { .. } => {
            let hint = "check that the server is running, and find in its log what ended the session or the statement; \
                        then resume a restore with --resume, or run a backup again";
            Some(ErrorVerdict::new(Exit::Unreachable, hint))
        }
        EngineError::Full { .. } => Some(ErrorVerdict::new(
            Exit::Failed,
            "make room on the disk that was written to, then run the command again (a restore to PostgreSQL with \
             --resume)",
        )),
        EngineError::SqliteSnapshot { .. } => {
            Some(ErrorVerdict::new(Exit::Usage, "restore it to a .sqlite file, or to a directory with --format"))
        }
        EngineError::Failed { .. } => Some(ErrorVerdict::new(Exit::Failed, "")),
        EngineError::Server { .. } => Some(ErrorVerdict::new(Exit::Failed, SERVER)),
        EngineError::Sink(_) => None,
    }
}

fn of_postgres(error: &PostgresError) -> ErrorVerdict {
    match error {
        PostgresError::Address { .. } => {
            ErrorVerdict::new(Exit::Usage, "see docs/postgresql.md for the form of an address")
        }
        PostgresError::Connect { .. } | PostgresError::Unsuitable { .. } | PostgresError::Yielded { .. } => {
            ErrorVerdict::new(Exit::Unreachable, "run `sidekeep doctor` to test the server and see what is missing")
        }
        PostgresError::Failed { .. } => ErrorVerdict::new(Exit::Failed, SERVER),
    }
}

/// A temporary file that could not be created.
fn of_temporary_file(error: &io::Error) -> ErrorVerdict {
    use io::ErrorKind::{FileTooLarge, NotADirectory, NotFound, PermissionDenied, QuotaExceeded};
    use io::ErrorKind::{ReadOnlyFilesystem, StorageFull};
    match error.kind() {
        NotFound | NotADirectory | PermissionDenied | ReadOnlyFilesystem => {
            ErrorVerdict::new(Exit::Usage, "name another directory with --spill-dir, or spill_dir in sidekeep.toml")
        }
        StorageFull | QuotaExceeded | FileTooLarge => ErrorVerdict::new(Exit::Failed, ROOM),
        _ => ErrorVerdict::new(Exit::Failed, OTHER_DISK),
    }
}

fn of_spilling(error: &SpillError) -> ErrorVerdict {
    match error {
        SpillError::Create { source, .. } => of_temporary_file(source),
        SpillError::Full { .. } | SpillError::TooSmall { .. } => ErrorVerdict::new(Exit::Failed, ROOM),
        SpillError::Write { .. } | SpillError::Read { .. } | SpillError::Damaged { .. } => {
            ErrorVerdict::new(Exit::Failed, OTHER_DISK)
        }
        SpillError::Thread { .. } => {
            ErrorVerdict::new(Exit::Failed, "allow this process to use more threads and memory")
        }
        SpillError::TooLong { .. } => ErrorVerdict::new(Exit::Failed, BUG),
    }
}

fn of_key(error: &KeyError) -> ErrorVerdict {
    let hint = match error {
        KeyError::Missing => {
            "name a key with --key-file, --key-command, SIDEKEEP_KEY_FILE or key_file in sidekeep.toml"
        }
        KeyError::NobodyToAsk { .. } | KeyError::NoTerminal => {
            "give the passphrase with --passphrase-command or SIDEKEEP_PASSPHRASE"
        }
        KeyError::Unusable { source: KeyFileError::Unsupported { .. }, .. } => {
            return ErrorVerdict::new(Exit::Failed, NEWER);
        }
        KeyError::Unusable { source: KeyFileError::Passphrase, .. } => {
            "try again, or give the passphrase with --passphrase-command or SIDEKEEP_PASSPHRASE"
        }
        KeyError::Unusable { source: KeyFileError::Memory { .. }, .. } => "use the key on a machine with more memory",
        KeyError::Run { .. } | KeyError::CommandFailed { .. } | KeyError::CommandOutput { .. } => {
            "run the command of --key-command or --passphrase-command yourself to see what it does"
        }
        KeyError::Read { .. } | KeyError::NoText { .. } | KeyError::Unusable { .. } => {
            "name another key with --key-file or --key-command"
        }
        KeyError::Differ | KeyError::Prompt { .. } => "",
    };
    ErrorVerdict::new(Exit::Key, hint)
}
