//! What an error of the server means for a restore: that one thing is left out and named, or that nothing goes on.
//!
//! A reason names objects and, at most, the key of a row: never other values.

use tokio_postgres::Error;
use tokio_postgres::error::DbError;

use crate::engine::contract::SourceError;
use crate::engine::postgres::connect::error::{PostgresError, server_message};

/// An error of the server, judged.
#[derive(Debug)]
pub(super) enum ServerFault {
    /// This one thing is refused.
    Refused { state: String, reason: String },
    /// The server's deadlock, a lock that was not free, or somebody who did the same in the cluster at the same time: the
    /// same again may succeed.
    Again,
    /// Nothing goes on.
    Stop(SourceError),
}

/// Judges an error that a server gave while `doing` something. `server` names it.
pub(super) fn judge(error: &Error, server: &str, doing: &str) -> ServerFault {
    let Some(db) = error.as_db_error() else {
        return ServerFault::Stop(SourceError::Lost { what: server.to_owned(), reason: server_message(error) });
    };
    let state = db.code().code();
    match &state[..2] {
        // Connections, and shutdowns.
        "08" => ServerFault::Stop(SourceError::Lost { what: server.to_owned(), reason: server_message(error) }),
        "57" => ServerFault::Stop(SourceError::Lost { what: server.to_owned(), reason: server_message(error) }),
        // No room or no memory, or the server's own trouble: it would meet everything that follows.
        "53" | "58" => ServerFault::Stop(SourceError::Failed {
            doing: doing.to_owned(),
            reason: format!("{}{}", server_message(error), advice(state)),
        }),
        _ if matches!(state, "40P01" | "40001" | "55P03") || is_race(db) => ServerFault::Again,
        _ => ServerFault::Refused { state: state.to_owned(), reason: told(db) },
    }
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
fn told(db: &DbError) -> String {
    let message = db.message();
    let message = match &db.code().code()[..2] {
        // Class 22 is about data: `invalid input syntax for type integer: "x"`.
        "22" => message.split_once(": \"").map_or(message, |(before, _)| before),
        _ => message,
    };
    let detail = db.detail().filter(|detail| detail.starts_with("Key ("));
    detail.map_or_else(|| message.to_owned(), |detail| format!("{message}; {detail}"))
}

/// An error of our own bookkeeping: nothing goes on.
pub(super) fn fatal(error: &Error, server: &str, doing: &str) -> SourceError {
    match judge(error, server, doing) {
        ServerFault::Stop(error) => error,
        _ => {
            let state = error.code().map(|code| code.code().to_owned());
            SourceError::Server { doing: doing.to_owned(), reason: server_message(error), state }
        }
    }
}

/// The same of an error that has been worded.
pub(super) fn broken(error: PostgresError, server: &str) -> SourceError {
    match &error {
        PostgresError::Failed { state: None, reason, .. } => {
            SourceError::Lost { what: server.to_owned(), reason: reason.clone() }
        }
        PostgresError::Failed { state: Some(state), reason, .. } if state.starts_with("57") => {
            SourceError::Lost { what: server.to_owned(), reason: reason.clone() }
        }
        _ => error.into(),
    }
}
