//! Why a PostgreSQL server could not be read or written, without secrets.

use std::error::Error as _;

use thiserror::Error;
use tokio_postgres::error::DbError;

use crate::engine::contract::SourceError;

/// A failure of a PostgreSQL server or of the way to it.
#[derive(Debug, Error)]
pub enum PostgresError {
    /// What the user wrote, or a file that it leads to, names no server.
    #[error("cannot use {what}: {reason}")]
    Address { what: String, reason: String },
    /// The server cannot be reached or refuses us (exit 7).
    #[error("cannot connect to {place}: {reason}")]
    Connect { place: String, reason: String },
    /// The server answers, but gives no image that could be trusted to the end (exit 7).
    #[error("cannot read {place}: {reason}")]
    Unsuitable { place: String, reason: String },
    /// Somebody waited behind our locks for too long, and we let them go first (exit 7).
    #[error("left off reading {place}: {reason}")]
    Yielded { place: String, reason: String },
    /// The server answered with an error while `doing` something.
    #[error("{doing}: {reason}")]
    Failed { doing: String, reason: String, state: Option<String> },
}

impl PostgresError {
    /// What the server said while `doing` something: its message, detail and hint, and the SQLSTATE.
    #[must_use]
    pub fn failed(doing: impl Into<String>, error: &tokio_postgres::Error) -> Self {
        Self::Failed { doing: doing.into(), reason: server_message(error), state: state_of(error) }
    }

    /// Somebody wished to stop while we were `doing` something.
    #[must_use]
    pub fn stopped(doing: impl Into<String>) -> Self {
        Self::Failed { doing: doing.into(), reason: "stopped".to_owned(), state: None }
    }

    /// The SQLSTATE of what the server said.
    #[must_use]
    pub fn state(&self) -> Option<&str> {
        match self {
            Self::Failed { state, .. } => state.as_deref(),
            _ => None,
        }
    }
}

/// SQLSTATE of a connection that is gone.
const CONNECTION_FAILURE: &str = "08006";

fn is_disconnect(error: &tokio_postgres::Error) -> bool {
    error.is_closed() || error.source().is_some_and(|cause| cause.is::<std::io::Error>())
}

/// Whether a SQLSTATE says that the session is over, or that somebody else ended what it did: a connection's end, a
/// server that stops, a statement that was cancelled, by a person or by a standby that had to go on.
fn is_loss(state: &str) -> bool {
    state.starts_with("08") || matches!(state, "57P01" | "57P02" | "57P03" | "57P05" | "57014" | "40001")
}

/// The server's own words, or those of whatever was on the way.
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

impl From<PostgresError> for SourceError {
    fn from(error: PostgresError) -> Self {
        match error {
            PostgresError::Address { what, reason } => Self::Unreachable { what, reason },
            PostgresError::Connect { place, reason } | PostgresError::Unsuitable { place, reason } => {
                Self::Unreachable { what: place, reason }
            }
            PostgresError::Yielded { place, reason } => Self::Yielded { what: place, reason },
            PostgresError::Failed { doing, reason, state } => match state.as_deref().is_some_and(is_loss) {
                true => Self::Lost { what: format!("the server while {doing}"), reason },
                false => Self::Server { doing, reason, state },
            },
        }
    }
}
