//! Why an operation failed: one of the floors below did.

use thiserror::Error;

use crate::base::pipeline::StageError;
use crate::engine::contract::SourceError;
use crate::repo::error::{RepoError, WriteError};
use crate::sort::SpillError;
use crate::store::StoreError;

/// A failure of an operation.
#[derive(Debug, Error)]
pub enum OpError {
    /// The repository.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// The database that is read or written.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Temporary files.
    #[error(transparent)]
    Spill(#[from] SpillError),
    /// A snapshot or table that was named and is not there.
    #[error("{0}")]
    NotFound(String),
    /// Damage or an internal contradiction that makes going on pointless.
    #[error("{what}: {reason}")]
    Damaged { what: String, reason: String },
    /// Somebody asked to stop.
    #[error("interrupted")]
    Cancelled,
}

impl From<WriteError> for OpError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Cancelled => Self::Cancelled,
            WriteError::Spill(error) => Self::Spill(error),
            other => Self::Repo(RepoError::Write(other)),
        }
    }
}

impl From<StoreError> for OpError {
    fn from(error: StoreError) -> Self {
        Self::Repo(RepoError::Store(error))
    }
}

impl StageError for OpError {
    fn is_consequence(&self) -> bool {
        matches!(self, Self::Cancelled | Self::Repo(RepoError::Write(WriteError::Stopped)))
    }
}

/// What came of a read. A store that does not answer ends the work; any other fault is the object's own.
pub fn unless_store_fails<T>(read: Result<T, RepoError>) -> Result<Result<T, RepoError>, OpError> {
    match read {
        Err(RepoError::Store(error)) => Err(error.into()),
        read => Ok(read),
    }
}

impl OpError {
    /// The error of a source; what its sink failed of is the cause that counts.
    #[must_use]
    pub fn from_source(error: SourceError) -> Self {
        match error {
            SourceError::Sink(cause) => match cause.downcast::<Self>() {
                Ok(own) => *own,
                Err(other) => Self::Source(SourceError::Sink(other)),
            },
            other => Self::Source(other),
        }
    }
}
