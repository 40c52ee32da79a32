//! Why a PostgreSQL server could not be read or written, without secrets.

use thiserror::Error;

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
    GaveWay { place: String, reason: String },
    /// The server answered with an error while `doing` something.
    #[error("{doing}: {reason}")]
    Failed { doing: String, reason: String, state: Option<String> },
}

impl PostgresError {
    /// What the server said while `doing` something: its message, detail and hint, and the SQLSTATE.
    #[must_use]
    pub fn failed(doing: impl Into<String>, error: &tokio_postgres::Error) -> Self {
        let is_cut =
            error.is_closed() || std::error::Error::source(error).is_some_and(|cause| cause.is::<std::io::Error>());
        let state = error.code().map(|code| code.code().to_owned());
        let state = state.or_else(|| is_cut.then(|| CONNECTION_FAILURE.to_owned()));
        Self::Failed { doing: doing.into(), reason: server_message(error), state }
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

/// Whether a SQLSTATE says that the session is over, or that somebody else ended what it did: a connection's end, a
/// server that stops, a statement that was cancelled, by a person or by a standby that had to go on.
fn is_loss(state: &str) -> bool {
    state.starts_with("08") || matches!(state, "57P01" | "57P02" | "57P03" | "57P05" | "57014" | "40001")
}

/// The server's own words, or those of whatever was on the way.
pub(crate) fn server_message(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => {
            let more = [("", Some(db.message())), ("; ", db.detail()), ("; ", db.hint())];
            more.iter().filter_map(|(link, text)| text.map(|text| format!("{link}{text}"))).collect()
        }
        None => std::error::Error::source(error).map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}")),
    }
}

impl From<PostgresError> for SourceError {
    fn from(error: PostgresError) -> Self {
        match error {
            PostgresError::Address { what, reason } => Self::Unreachable { what, reason },
            PostgresError::Connect { place, reason } | PostgresError::Unsuitable { place, reason } => {
                Self::Unreachable { what: place, reason }
            }
            PostgresError::GaveWay { place, reason } => Self::GaveWay { what: place, reason },
            PostgresError::Failed { doing, reason, state } if state.as_deref().is_some_and(is_loss) => {
                Self::Lost { what: format!("the server while {doing}"), reason }
            }
            PostgresError::Failed { doing, reason, .. } => Self::Failed { doing, reason },
        }
    }
}
