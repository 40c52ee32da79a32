//! Why a PostgreSQL server could not be read or written. Errors contain no secrets.

use std::error::Error as _;

use thiserror::Error;
use tokio_postgres::error::DbError;

use crate::engine::contract::EngineError;

/// A failure of a PostgreSQL server or of the connection to it.
#[derive(Debug, Error)]
pub enum PostgresError {
    /// The address, or a file that it refers to, does not describe a server.
    #[error("cannot use {what}: {reason}")]
    Address { what: String, reason: String },
    /// The server cannot be reached or refuses us (exit 7).
    #[error("cannot connect to {place}: {reason}")]
    Connect { place: String, reason: String },
    /// The server answers, but cannot provide an image that stays consistent until it is read (exit 7).
    #[error("cannot read {place}: {reason}")]
    Unsuitable { place: String, reason: String },
    /// Another session waited too long for our locks, so we released them (exit 7).
    #[error("stopped reading {place}: {reason}")]
    Yielded { place: String, reason: String },
    /// The server answered with an error while `doing` something.
    #[error("{doing}: {reason}")]
    Failed { doing: String, reason: String, state: Option<String> },
}

impl PostgresError {
    /// The server's error while `doing` something: message, detail and hint, and the SQLSTATE.
    #[must_use]
    pub fn failed(doing: impl Into<String>, error: &tokio_postgres::Error) -> Self {
        Self::Failed { doing: doing.into(), reason: server_message(error), state: state_of(error) }
    }

    /// The operation was cancelled while we were `doing` something.
    #[must_use]
    pub fn stopped(doing: impl Into<String>) -> Self {
        Self::Failed { doing: doing.into(), reason: "stopped".to_owned(), state: None }
    }

    /// The SQLSTATE that the server reported.
    #[must_use]
    pub fn state(&self) -> Option<&str> {
        match self {
            Self::Failed { state, .. } => state.as_deref(),
            _ => None,
        }
    }
}

/// SQLSTATE connection_failure.
const CONNECTION_FAILURE: &str = "08006";
/// SQLSTATE disk_full.
const DISK_FULL: &str = "53100";

fn is_disconnect(error: &tokio_postgres::Error) -> bool {
    error.is_closed() || error.source().is_some_and(|cause| cause.is::<std::io::Error>())
}

/// Whether a SQLSTATE means that the session is over or the statement was cancelled: the connection was lost, the
/// server shuts down, or a person or a standby that had to catch up cancelled the statement.
fn is_loss(state: &str) -> bool {
    state.starts_with("08") || matches!(state, "57P01" | "57P02" | "57P03" | "57P05" | "57014" | "40001")
}

/// The server's message, or the driver's if the server sent none.
pub(crate) fn server_message(error: &tokio_postgres::Error) -> String {
    if let Some(db_error) = error.as_db_error() {
        return db_error_message(db_error);
    }
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

fn db_error_message(db_error: &DbError) -> String {
    let mut parts = vec![db_error.message()];
    parts.extend(db_error.detail());
    parts.extend(db_error.hint());
    parts.join("; ")
}

fn state_of(error: &tokio_postgres::Error) -> Option<String> {
    match error.code() {
        Some(code) => Some(code.code().to_owned()),
        None => is_disconnect(error).then(|| CONNECTION_FAILURE.to_owned()),
    }
}

impl From<PostgresError> for EngineError {
    fn from(error: PostgresError) -> Self {
        match error {
            PostgresError::Address { what, reason } => Self::Unreachable { what, reason },
            PostgresError::Connect { place, reason } | PostgresError::Unsuitable { place, reason } => {
                Self::Unreachable { what: place, reason }
            }
            PostgresError::Yielded { place, reason } => Self::Yielded { what: place, reason },
            PostgresError::Failed { doing, reason, state } => match state.as_deref() {
                Some(DISK_FULL) => Self::Full { doing, reason },
                Some(state) if is_loss(state) => Self::Lost { what: format!("the server while {doing}"), reason },
                _ => Self::Server { doing, reason, state },
            },
        }
    }
}
