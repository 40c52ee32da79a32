//! Why a PostgreSQL server could not be read or written, without secrets.

use thiserror::Error;

/// A failure of a PostgreSQL server or of the way to it.
#[derive(Debug, Error)]
pub enum PostgresError {
    /// The server cannot be reached or refuses us (exit 7).
    #[error("cannot connect to {place}")]
    Connect { place: String, source: tokio_postgres::Error },
    /// The server answered with an error while `doing` something.
    #[error("{doing}: {reason}")]
    Failed { doing: String, reason: String, state: Option<String> },
}

impl PostgresError {
    /// What the server said while `doing` something: its message, detail and hint, and the SQLSTATE.
    #[must_use]
    pub fn failed(doing: impl Into<String>, error: &tokio_postgres::Error) -> Self {
        let doing = doing.into();
        match error.as_db_error() {
            Some(db) => {
                let more = [("", Some(db.message())), ("; ", db.detail()), ("; ", db.hint())];
                let reason = more.iter().filter_map(|(link, text)| text.map(|text| format!("{link}{text}"))).collect();
                Self::Failed { doing, reason, state: Some(db.code().code().to_owned()) }
            }
            None => {
                let reason = std::error::Error::source(error)
                    .map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"));
                Self::Failed { doing, reason, state: None }
            }
        }
    }
}
