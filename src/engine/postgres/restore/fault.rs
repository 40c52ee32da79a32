//! What an error of the server means for a restore: that one thing is left out and named, or that nothing goes on.
//!
//! A reason names objects and, at most, the key of a row: never other values.

use tokio_postgres::Error;
use tokio_postgres::error::DbError;

use crate::engine::contract::SourceError;
use crate::engine::postgres::connect::error::{PostgresError, server_message};
use crate::engine::postgres::connect::query::QueryError;

/// What an error of the server means.
#[derive(Debug)]
pub(super) enum ServerFault {
    /// This one thing is refused.
    Refused { state: String, reason: String },
    /// The server's deadlock, a lock that was not free, or somebody who did the same in the cluster at the same time: the
    /// same again may succeed.
    Retry,
    /// Nothing goes on.
    Fatal(SourceError),
}

/// Classifies an error that a server gave while `doing` something. `server` names it.
pub(super) fn classify(error: &Error, server: &str, doing: &str) -> ServerFault {
    let Some(db) = error.as_db_error() else {
        return ServerFault::Fatal(lost(server, server_message(error)));
    };
    let state = db.code().code();
    match &state[..2] {
        // Connections, and shutdowns.
        "08" | "57" => ServerFault::Fatal(lost(server, server_message(error))),
        // No room or no memory, or the server's own trouble: it would meet everything that follows.
        "53" | "58" => ServerFault::Fatal(failed(doing, format!("{}{}", server_message(error), advice(state)))),
        _ if is_lock_conflict(state) || is_race(db) => ServerFault::Retry,
        _ => ServerFault::Refused { state: state.to_owned(), reason: message_without_values(db) },
    }
}

fn lost(server: &str, reason: String) -> SourceError {
    SourceError::Lost { what: server.to_owned(), reason }
}

fn failed(doing: &str, reason: String) -> SourceError {
    SourceError::Failed { doing: doing.to_owned(), reason }
}

fn is_lock_conflict(state: &str) -> bool {
    matches!(state, "40P01" | "40001" | "55P03")
}

/// Whether somebody else changed the same thing in a catalog, such as a role, before we were done. Of internal
/// errors there are no translations.
fn is_race(db: &DbError) -> bool {
    match db.code().code() {
        "23505" => db.schema() == Some("pg_catalog"),
        "XX000" => db.message().starts_with("tuple concurrently "),
        _ => false,
    }
}

fn advice(state: &str) -> &'static str {
    match state {
        "53100" => "; make room on the server, then go on by --resume",
        "53200" => "; give the server more memory, or raise max_locks_per_transaction there, then go on by --resume",
        _ => "; go on by --resume when that is mended",
    }
}

/// The message, without the values that some have at their end, and which key it is about.
fn message_without_values(db: &DbError) -> String {
    // Class 22 is about data: `invalid input syntax for type integer: "x"`.
    let has_value = db.code().code().starts_with("22");
    let message = if has_value { before_value(db.message()) } else { db.message() };
    match key_detail(db) {
        Some(detail) => format!("{message}; {detail}"),
        None => message.to_owned(),
    }
}

fn key_detail(db: &DbError) -> Option<&str> {
    db.detail().filter(|detail| detail.starts_with("Key ("))
}

fn before_value(message: &str) -> &str {
    message.split_once(": \"").map_or(message, |(before, _)| before)
}

/// An error of our own bookkeeping: nothing goes on.
pub(super) fn fatal(error: &Error, server: &str, doing: &str) -> SourceError {
    match classify(error, server, doing) {
        ServerFault::Fatal(error) => error,
        _ => server_error(error, doing),
    }
}

fn server_error(error: &Error, doing: &str) -> SourceError {
    let state = error.code().map(|code| code.code().to_owned());
    SourceError::Server { doing: doing.to_owned(), reason: server_message(error), state }
}

/// The same of an error that has been worded.
pub(super) fn worded_fatal(error: PostgresError, server: &str) -> SourceError {
    match &error {
        PostgresError::Failed { state: None, reason, .. } => lost(server, reason.clone()),
        PostgresError::Failed { state: Some(state), reason, .. } if state.starts_with("57") => {
            lost(server, reason.clone())
        }
        _ => error.into(),
    }
}

/// The same of an answer to our own question that makes no sense, or none.
pub(super) fn answer_fatal(error: QueryError, server: &str) -> SourceError {
    match error {
        QueryError::Query(error) => worded_fatal(error, server),
        other => SourceError::from(PostgresError::Failed {
            doing: "asking the server".to_owned(),
            reason: other.to_string(),
            state: Some(String::new()),
        }),
    }
}
