//! What can be wrong with a repository, by what a person does next. Each names the object.

use thiserror::Error;

use crate::base::id::{Digest, KeyId, SourceId};
use crate::base::pipeline::StageError;
use crate::base::role::Role;
use crate::crypto::role::RoleError;
use crate::crypto::seal::SealError;
use crate::format::codec::CodecError;
use crate::format::dsse::StatementError;
use crate::format::name::Name;
use crate::format::wire::WireError;
use crate::sort::SpillError;
use crate::store::StoreError;

/// A failure of a repository operation.
#[derive(Debug, Error)]
pub enum RepoError {
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
    /// There is no repository here (exit 4).
    #[error("there is no repository at {place}")]
    NoRepository { place: String },
    /// There is one already.
    #[error("there is a repository at {place} already")]
    Exists { place: String },
    /// An `init` died before the last object, and nothing can use what it left; or it is about to write it.
    #[error("an init that is running or did not finish left objects at {place}")]
    Unfinished { place: String },
    /// The store cannot be trusted with a commit.
    #[error("the store at {place} does not keep its promise to create an object only once: {reason}")]
    Unconditional { place: String, reason: String },
    /// An object that must be there is not.
    #[error("{object} is missing")]
    Missing { object: String },
    /// An object is not what it must be.
    #[error("{object} is damaged: {reason}")]
    Damaged { object: String, reason: String },
    /// An object of a later version.
    #[error("{object} {what}, which this version does not support")]
    Unsupported { object: String, what: String },
    /// An object that is none of ours.
    #[error("{object} is not a Sidekeep object")]
    Foreign { object: String },
    /// Signed state that goes back in time.
    #[error("{object}: {reason}; an older copy of the store may have been put back")]
    RolledBack { object: String, reason: String },
    /// The repository is not the one that was meant.
    #[error("the fingerprint of this repository is {found}, not {wanted}")]
    Fingerprint { wanted: Digest, found: Digest },
    /// The key is of another repository (exit 5).
    #[error("key {key} belongs to another repository")]
    OtherRepository { key: KeyId },
    /// The key is not in the roster, or no longer (exit 5).
    #[error("key {key} is {state} in this repository")]
    NotEnrolled { key: KeyId, state: &'static str },
    /// The key may not do this (exit 5).
    #[error("{doing} needs the key of {needed}; {key} is an {role} key", doing = .doing)]
    WrongRole { doing: &'static str, needed: &'static str, key: KeyId, role: Role },
    /// No key was given for something that needs one (exit 5).
    #[error("{doing} needs the key of {needed}; none was given")]
    NoKey { doing: &'static str, needed: &'static str },
    /// The grant does not open or fit (exit 5).
    #[error("key {key} does not open its grant")]
    Grant { key: KeyId, source: RoleError },
    /// No source of this name.
    #[error("there is no source named {name:?} in this repository")]
    NoSource { name: String },
    /// Several sources, and none was named.
    #[error("the repository has {count} sources; name one")]
    WhichSource { count: usize },
    /// There is none: nothing was ever backed up, or what the roster said of it is gone.
    #[error("the repository has no sources")]
    NoSources,
    /// The answer to the commit was lost, and asking did not help.
    #[error("it is not known whether this was committed")]
    Unclear { source: StoreError },
    /// The number was taken and the preconditions no longer hold (exit 6).
    #[error("another writer came first: {reason}")]
    Overtaken { reason: String },
    /// A source that a later version wrote to.
    #[error("the ledger of source {source_id} has {what}, which this version does not support")]
    LaterLedger { source_id: SourceId, what: String },
    /// Something could not be signed or stated.
    #[error("cannot state {what}")]
    Statement { what: &'static str, source: StatementError },
    /// Writing chunks failed.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Keys are used up or do not fit.
    #[error("cannot seal {what}")]
    Seal { what: &'static str, source: SealError },
}

impl RepoError {
    /// An object that must be there and is not.
    #[must_use]
    pub fn missing(object: impl ToString) -> Self {
        Self::Missing { object: object.to_string() }
    }

    /// An object that is not what it must be.
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

    /// A sealed part that does not open.
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

    /// The error for an object that was read because something refers to it.
    #[must_use]
    pub fn referenced(error: StoreError) -> Self {
        match error {
            StoreError::NotFound { name } => Self::missing(name),
            StoreError::Short { name, wanted_bytes, got_bytes } => {
                Self::damaged(name, format!("it is truncated: {got_bytes} bytes where {wanted_bytes} must be"))
            }
            StoreError::TooLarge { name, size_bytes, .. } => {
                Self::damaged(name, format!("it is too long: {size_bytes} bytes"))
            }
            other => Self::Store(other),
        }
    }
}

/// Names the object in what goes wrong when it is decoded or opened.
pub trait InObject<T> {
    /// The same result, with an error that names `object`.
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

/// Why writing stopped.
#[derive(Debug, Error)]
pub enum WriteError {
    /// The store did not take an object.
    #[error("cannot store a snapshot's data")]
    Store(#[from] StoreError),
    /// The session's keys are used up.
    #[error("cannot seal a snapshot's data")]
    Seal(#[from] SealError),
    /// zstd has no memory.
    #[error("cannot compress a snapshot's data")]
    Codec(#[from] CodecError),
    /// An announcement could not be stated.
    #[error("cannot announce the session")]
    Statement { source: StatementError },
    /// Streams could not be written to the spill queue.
    #[error(transparent)]
    Spill(#[from] SpillError),
    /// Somebody asked to stop.
    #[error("interrupted")]
    Cancelled,
    /// Another stage failed; its error is the one to show.
    #[error("writing stopped")]
    Stopped,
}

impl StageError for WriteError {
    fn is_consequence(&self) -> bool {
        matches!(self, Self::Stopped)
    }
}
