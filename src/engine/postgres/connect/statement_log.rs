//! What the log contains about statements: the command word, the duration, and the SQLSTATE of a failure. Never the
//! statement itself, because it may contain values.

use std::time::{Duration, Instant};

use tokio_postgres::Error;

use crate::engine::postgres::connect::error::PostgresError;

/// The command word is cut to this length.
const COMMAND_CHARS_MAX: usize = 16;

/// An error of a statement.
pub(super) trait LoggableError {
    /// The SQLSTATE, if the server sent one.
    fn sqlstate(&self) -> Option<&str>;
}

impl LoggableError for Error {
    fn sqlstate(&self) -> Option<&str> {
        self.code().map(|code| code.code())
    }
}

impl LoggableError for PostgresError {
    fn sqlstate(&self) -> Option<&str> {
        self.state()
    }
}

/// Runs a statement and logs its outcome.
/// Fails with the error of `run`.
pub(super) fn logged<T, E: LoggableError>(sql: &str, run: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    let started = Instant::now();
    let result = run();
    let command = command_word(sql);
    let duration_ms = millis(started.elapsed());
    match &result {
        Ok(_) => tracing::debug!(command, duration_ms, "statement ends"),
        Err(error) => tracing::info!(command, duration_ms, sqlstate = error.sqlstate(), "statement fails"),
    }
    result
}

/// The first word of `sql`, such as `SELECT`.
fn command_word(sql: &str) -> &str {
    let sql = sql.trim_start();
    let end = sql.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(sql.len());
    &sql[..end.min(COMMAND_CHARS_MAX)]
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::command_word;

    #[test]
    fn only_the_command_of_a_statement_is_logged() {
        assert_eq!(command_word(" COPY (SELECT 'hunter2') TO STDOUT"), "COPY");
        assert_eq!(command_word("BEGIN; SET x = 'hunter2'"), "BEGIN");
        assert_eq!(command_word("'hunter2'"), "");
    }
}
