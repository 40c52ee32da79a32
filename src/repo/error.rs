//! Errors of a repository, grouped by what a user does next. Each message names the object.

use thiserror::Error;

use crate::base::id::{Digest, KeyId, SourceId};
use crate::base::limit::LimitError;
use crate::base::pipeline::StageError;
use crate::base::role::Role;
use crate::crypto::role::RoleError;
use crate::crypto::seal::SealError;
use crate::format::codec::CodecError;
use crate::format::dsse::StatementError;
use crate::format::name::Name;
use crate::format::wire::WireError;
use crate::repo::index::Unindexable;
use crate::sort::SpillError;
use crate::store::StoreError;

/// A failure of a repository operation.
#[derive(Debug, Error)]
pub enum RepoError {
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
    /// There is no repository at this location (exit 4).
    #[error("there is no repository at {place}")]
    NoRepository { place: String },
    /// The location already has a repository.
    #[error("there is already a repository at {place}")]
    Exists { place: String },
    /// An `init` stopped before it wrote the last object, and nothing can use what it left. Or it is still running.
    #[error("there are objects at {place} from an init that is still running or did not finish")]
    Unfinished { place: String },
    /// The store is not safe to commit to.
    #[error("the store at {place} does not guarantee that an object is created only once: {reason}")]
    Unconditional { place: String, reason: String },
    /// A required object does not exist.
    #[error("{object} is missing")]
    Missing { object: String },
    /// An object does not have its required content.
    #[error("{object} is damaged: {reason}")]
    Damaged { object: String, reason: String },
    /// An object of a later version.
    #[error("{object} {what}, which this version does not support")]
    Unsupported { object: String, what: String },
    /// The object is not one of Sidekeep's.
    #[error("{object} is not a Sidekeep object")]
    Foreign { object: String },
    /// The signed state is older than what was already seen.
    #[error("{object}: {reason}. An older copy of the store may have been restored")]
    RolledBack { object: String, reason: String },
    /// A chain lacks an entry that this host saw.
    #[error("{object}: {reason}. Nothing was written")]
    WentBack { object: String, reason: String },
    /// An entry of a chain is missing, and one behind it counts.
    #[error(
        "{object} is missing, but {beyond} is there. An entry at the missing number would make that one void, so \
             nothing was written"
    )]
    Hole { object: String, beyond: String },
    /// The repository is not the expected one.
    #[error("the fingerprint of this repository is {found}, not {wanted}")]
    Fingerprint { wanted: Digest, found: Digest },
    /// The key belongs to another repository (exit 5).
    #[error("key {key} belongs to another repository")]
    OtherRepository { key: KeyId },
    /// The key is not in the roster, or was revoked (exit 5).
    #[error("key {key} is {state} in this repository")]
    NotEnrolled { key: KeyId, state: &'static str },
    /// The key may not do this (exit 5).
    #[error("{doing} needs the key of {needed}, but the role of {key} is {role}", doing = .doing)]
    WrongRole { doing: &'static str, needed: &'static str, key: KeyId, role: Role },
    /// No key was given for something that needs one (exit 5).
    #[error("{doing} needs the key of {needed}, but no key was given")]
    NoKey { doing: &'static str, needed: &'static str },
    /// The grant cannot be opened or does not fit the role (exit 5).
    #[error("cannot open the grant of key {key}")]
    Grant { key: KeyId, source: RoleError },
    /// There is no source with this name.
    #[error("there is no source named {name:?} in this repository")]
    NoSource { name: String },
    /// An admin retired the source.
    #[error("source {source_id} is retired")]
    Retired { source_id: SourceId },
    /// A source cannot have this name.
    #[error("a source cannot be named {name:?}: {reason}")]
    SourceName { name: String, reason: String },
    /// There is no source with this name among those that the key is enrolled for (exit 5).
    #[error(
        "key {key} cannot find the source {name:?}: it cannot name {hidden} of the sources, because it is not enrolled for them"
    )]
    HiddenSource { name: String, key: KeyId, hidden: usize },
    /// There are several sources, and none was named.
    #[error("the repository has {count} sources. Name one of them")]
    WhichSource { count: usize },
    /// There is no source: nothing was ever backed up, or the roster entry that added it was lost.
    #[error("the repository has no sources")]
    NoSources,
    /// The answer to the commit was lost, and asking again did not help.
    #[error("cannot determine whether this was committed")]
    CommitUncertain { source: StoreError },
    /// Another writer took the number, and the preconditions no longer hold (exit 6).
    #[error("another writer came first: {reason}")]
    Overtaken { reason: String },
    /// An admin announced a feature that this version does not know. It must not write or delete.
    #[error("the roster announces the feature {feature:?}, which this version does not know")]
    UnknownFeature { feature: String },
    /// A statement could not be encoded or signed.
    #[error("cannot sign {what}")]
    Statement { what: &'static str, source: StatementError },
    /// Writing chunks failed.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// An object would be larger than any reader accepts.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// The sealed manifest is not what it should be, so no ledger entry was written.
    #[error("the new manifest cannot be read back, so nothing was committed: {reason}")]
    NotReadable { reason: String },
    /// Keys are used up or do not fit.
    #[error("cannot seal {what}")]
    Seal { what: &'static str, source: SealError },
}

impl RepoError {
    /// A required object does not exist.
    #[must_use]
    pub fn missing(object: impl ToString) -> Self {
        Self::Missing { object: object.to_string() }
    }

    /// An object does not have its required content.
    #[must_use]
    pub fn damaged(object: impl ToString, reason: impl Into<String>) -> Self {
        Self::Damaged { object: object.to_string(), reason: reason.into() }
    }

    /// An object that does not decode.
    #[must_use]
    pub fn wire(object: impl ToString, error: &WireError) -> Self {
        let object = object.to_string();
        match error {
            WireError::Foreign => Self::Foreign { object },
            WireError::Unsupported { what, value } => Self::Unsupported { object, what: format!("has {what} {value}") },
            other => Self::damaged(object, format!("it {other}")),
        }
    }

    /// A payload that does not decompress.
    #[must_use]
    pub fn codec(object: impl ToString, error: &CodecError) -> Self {
        match error {
            CodecError::Wire(wire) => Self::wire(object, wire),
            other => Self::damaged(object, format!("it {other}")),
        }
    }

    /// A sealed part cannot be opened.
    #[must_use]
    pub fn sealed(object: impl ToString, error: &SealError) -> Self {
        Self::damaged(object, error.to_string())
    }

    /// A statement that does not decode.
    #[must_use]
    pub fn statement(name: &Name, error: &StatementError) -> Self {
        let object = name.to_string();
        match error {
            StatementError::Unsupported { what } => Self::Unsupported { object, what: format!("has {what}") },
            other => Self::damaged(object, format!("it {other}")),
        }
    }

    /// The error for an object that was read because another object refers to it.
    #[must_use]
    pub fn referenced(error: StoreError) -> Self {
        match error {
            StoreError::NotFound { name } => Self::missing(name),
            StoreError::Short { name, wanted_bytes, got_bytes } => {
                Self::damaged(name, format!("it is truncated: it has {got_bytes} bytes instead of {wanted_bytes}"))
            }
            StoreError::TooLarge { name, size_bytes, .. } => {
                Self::damaged(name, format!("it is too long: {size_bytes} bytes"))
            }
            other => Self::Store(other),
        }
    }
}

/// Adds the object's name to errors from decoding or opening it.
pub trait InObject<T> {
    /// The same result, with an error that names `object`.
    /// Fails if `self` is an error.
    fn in_object(self, object: impl ToString) -> Result<T, RepoError>;
}

impl<T> InObject<T> for Result<T, WireError> {
    fn in_object(self, object: impl ToString) -> Result<T, RepoError> {
        self.map_err(|error| RepoError::wire(object, &error))
    }
}

impl<T> InObject<T> for Result<T, CodecError> {
    fn in_object(self, object: impl ToString) -> Result<T, RepoError> {
        self.map_err(|error| RepoError::codec(object, &error))
    }
}

impl<T> InObject<T> for Result<T, SealError> {
    fn in_object(self, object: impl ToString) -> Result<T, RepoError> {
        self.map_err(|error| RepoError::sealed(object, &error))
    }
}

/// A failure while writing chunks.
#[derive(Debug, Error)]
pub enum WriteError {
    /// An object could not be stored.
    #[error("cannot store a snapshot's data")]
    Store(#[from] StoreError),
    /// An object would be larger than any reader accepts.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// The session's keys are used up.
    #[error("cannot seal a snapshot's data")]
    Seal(#[from] SealError),
    /// zstd ran out of memory.
    #[error("cannot compress a snapshot's data")]
    Codec(#[from] CodecError),
    /// A frame exceeds a limit of the format: a reader could not read it.
    #[error("{what} would take {bytes} bytes, but at most {bytes_max} can be stored")]
    TooLarge { what: &'static str, bytes: usize, bytes_max: usize },
    /// A frame's location exceeds a limit of the format.
    #[error("cannot find a snapshot's data again")]
    Location(#[from] Unindexable),
    /// An announcement could not be signed.
    #[error("cannot sign the session announcement")]
    Statement { source: StatementError },
    /// Streams could not be written to the spill queue.
    #[error(transparent)]
    Spill(#[from] SpillError),
    /// The user asked to stop.
    #[error("interrupted")]
    Cancelled,
    /// Another stage failed. Its error is the one to report.
    #[error("writing stopped")]
    Stopped,
}

impl StageError for WriteError {
    fn is_consequence(&self) -> bool {
        matches!(self, Self::Stopped)
    }
}
