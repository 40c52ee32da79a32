//! Why an operation failed. Most errors come from the layers below.

use thiserror::Error;

use crate::base::pipeline::StageError;
use crate::engine::contract::EngineError;
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
    Engine(#[from] EngineError),
    /// Temporary files.
    #[error(transparent)]
    Spill(#[from] SpillError),
    /// A named snapshot does not exist.
    #[error("{0}")]
    NotFound(String),
    /// A key cannot be changed like this.
    #[error("{0}")]
    Key(String),
    /// A named table does not exist, or several are meant.
    #[error("{0}")]
    NoTable(String),
    /// Damage or an internal contradiction that makes it pointless to continue.
    #[error("{what}: {reason}")]
    Damaged { what: String, reason: String },
    /// The operation was cancelled.
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

/// The result of a read, unless the store failed. A failure of the store ends the operation; any other error concerns
/// only the object.
/// Fails if the store failed.
pub fn unless_store_fails<T>(read: Result<T, RepoError>) -> Result<Result<T, RepoError>, OpError> {
    match read {
        Err(RepoError::Store(error)) => Err(error.into()),
        read => Ok(read),
    }
}

impl OpError {
    /// The error of an engine. If its sink failed, the sink's error is the cause that counts.
    #[must_use]
    pub fn from_engine(error: EngineError) -> Self {
        match error {
            EngineError::Sink(cause) => match cause.downcast::<Self>() {
                Ok(own) => *own,
                Err(other) => Self::Engine(EngineError::Sink(other)),
            },
            other => Self::Engine(other),
        }
    }
}
