//! What a server tells about itself and about our sessions. Also detects transaction poolers.

use crate::engine::postgres::connect::client::Client;
use crate::engine::postgres::connect::error::PostgresError;

/// The `client_encoding` that returns each text unchanged: UTF-8, or SQL_ASCII if the database has no encoding.
/// Fails as [`Client::value`] does.
pub(crate) fn encoding(client: &Client) -> Result<String, PostgresError> {
    let server = client.value("asking for the server's encoding", "SELECT current_setting('server_encoding')")?;
    Ok(if server == "SQL_ASCII" { server } else { "UTF8".to_owned() })
}

/// The server process of this session.
/// Fails as [`number`] does.
pub(crate) fn pid(client: &Client) -> Result<i32, PostgresError> {
    number(client, "asking for the session's process", "SELECT pg_catalog.pg_backend_pid()")
}

/// The major version, such as 15 for 150018.
pub(crate) fn major_version(version: i32) -> u32 {
    u32::try_from(version / 10_000).unwrap_or(0)
}

/// The single number that a statement returns. Uses no prepared statement, which a pooler may lose.
/// Fails as [`Client::value`] does, or if the value is not a 32-bit integer.
pub(crate) fn number(client: &Client, doing: &str, sql: &str) -> Result<i32, PostgresError> {
    let text = client.value(doing, sql)?;
    text.parse().map_err(|_| PostgresError::Failed {
        doing: doing.to_owned(),
        reason: format!("{text:?} is not a number"),
        state: None,
    })
}

/// Why the sessions seem to go through a transaction pooler, if they do. The process ids were asked for in this order:
/// first session, second session, first session again. A pooler may use one process for both sessions, or two processes
/// for one session.
pub(crate) fn pooled(first: i32, second: i32, first_again: i32) -> Option<String> {
    (first == second || first != first_again).then(|| {
        "the connection goes through a pooler that assigns a server session per transaction; connect directly to \
         the server, or to a port where the pooler assigns a session per connection"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::pooled;

    #[test]
    fn a_pooler_is_detected_by_process_ids() {
        assert!(pooled(1, 2, 1).is_none());
        assert!(pooled(1, 1, 1).is_some(), "one process for two sessions");
        assert!(pooled(1, 2, 3).is_some(), "two processes for one session");
    }
}
