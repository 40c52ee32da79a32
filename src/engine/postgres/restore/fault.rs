//! What a server error means for a restore: one object or row is skipped and reported, or the restore fails.
//!
//! A reason names objects and at most the key of a row, never other values.

use tokio_postgres::Error;
use tokio_postgres::error::DbError;

use crate::engine::contract::EngineError;
use crate::engine::postgres::connect::error::{PostgresError, server_message};
use crate::engine::postgres::connect::query::QueryError;

/// What a server error means for the restore.
#[derive(Debug)]
pub(super) enum ServerFault {
    /// The server refused only this object or row.
    Refused { state: String, reason: String },
    /// A deadlock, a lock that was not available, or a concurrent change of the same catalog row. A retry may succeed.
    Retry,
    /// The restore cannot continue.
    Fatal(EngineError),
}

/// Classifies an error that the server reported while `doing` something. `server` is its name in messages.
pub(super) fn classify(error: &Error, server: &str, doing: &str) -> ServerFault {
    let Some(db) = error.as_db_error() else {
        return ServerFault::Fatal(lost(server, server_message(error)));
    };
    let state = db.code().code();
    match &state[..2] {
        // Connection errors and shutdowns.
        "08" | "57" => ServerFault::Fatal(lost(server, server_message(error))),
        // Out of resources, or a system error: every later statement would fail as well.
        "53" | "58" => ServerFault::Fatal(failed(doing, format!("{}{}", server_message(error), advice(state)))),
        _ if is_lock_conflict(state) || is_race(db) => ServerFault::Retry,
        _ => ServerFault::Refused { state: state.to_owned(), reason: message_without_values(db) },
    }
}

fn lost(server: &str, reason: String) -> EngineError {
    EngineError::Lost { what: server.to_owned(), reason }
}

fn failed(doing: &str, reason: String) -> EngineError {
    EngineError::Failed { doing: doing.to_owned(), reason }
}

fn is_lock_conflict(state: &str) -> bool {
    matches!(state, "40P01" | "40001" | "55P03")
}

/// Whether another session changed the same catalog row (for example a role) at the same time. Servers do not translate
/// internal errors, so the message can be compared.
fn is_race(db: &DbError) -> bool {
    match db.code().code() {
        "23505" => db.schema() == Some("pg_catalog"),
        "XX000" => db.message().starts_with("tuple concurrently "),
        _ => false,
    }
}

fn advice(state: &str) -> &'static str {
    match state {
        "53100" => "; free disk space on the server, then resume with --resume",
        "53200" => "; give the server more memory or raise its max_locks_per_transaction, then resume with --resume",
        _ => "; fix this on the server, then resume with --resume",
    }
}

/// The message without the value that some messages end with, plus the key that it is about.
fn message_without_values(db: &DbError) -> String {
    // Class 22 messages may quote a value: `invalid input syntax for type integer: "x"`.
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

/// An error in one of our own statements. The restore cannot continue.
pub(super) fn fatal(error: &Error, server: &str, doing: &str) -> EngineError {
    match classify(error, server, doing) {
        ServerFault::Fatal(error) => error,
        _ => server_error(error, doing),
    }
}

fn server_error(error: &Error, doing: &str) -> EngineError {
    let state = error.code().map(|code| code.code().to_owned());
    EngineError::Server { doing: doing.to_owned(), reason: server_message(error), state }
}

/// Like [`fatal`], for an error that was already converted.
pub(super) fn converted_fatal(error: PostgresError, server: &str) -> EngineError {
    match &error {
        PostgresError::Failed { state: None, reason, .. } => lost(server, reason.clone()),
        PostgresError::Failed { state: Some(state), reason, .. } if state.starts_with("57") => {
            lost(server, reason.clone())
        }
        _ => error.into(),
    }
}

/// Like [`fatal`], for one of our own queries that failed or returned an unexpected answer.
pub(super) fn query_fatal(error: QueryError, server: &str) -> EngineError {
    match error {
        QueryError::Query(error) => converted_fatal(error, server),
        other => EngineError::from(PostgresError::Failed {
            doing: "querying the server".to_owned(),
            reason: other.to_string(),
            state: Some(String::new()),
        }),
    }
}
