//! The settings of every session of an image, which make the same rows the same bytes on every server and in every
//! backup run. Also detects transaction poolers.

use crate::engine::postgres::connect::client::Client;
use crate::engine::postgres::connect::error::PostgresError;

/// pg_dump's settings, and others that equal bytes need. A server ignores settings that it does not have. Without
/// parallel workers and synchronized scans, rows of a table come in physical order. `row_security = off` makes a row
/// that we may not see an error instead of leaving it out.
const SETTINGS: &[(&str, &str)] = &[
    ("DateStyle", "ISO, MDY"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    ("bytea_output", "hex"),
    ("client_min_messages", "warning"),
    ("default_transaction_isolation", "repeatable read"),
    ("extra_float_digits", "3"),
    ("idle_in_transaction_session_timeout", "0"),
    ("idle_session_timeout", "0"),
    ("lc_monetary", "C"),
    ("lc_numeric", "C"),
    ("lc_time", "C"),
    ("lock_timeout", "0"),
    ("max_parallel_workers_per_gather", "0"),
    ("quote_all_identifiers", "off"),
    ("row_security", "off"),
    ("search_path", ""),
    ("standard_conforming_strings", "on"),
    ("statement_timeout", "0"),
    ("synchronize_seqscans", "off"),
    ("transaction_timeout", "0"),
    ("xmloption", "content"),
    // So that the server, too, notices within two minutes that we are gone, and releases the image.
    ("tcp_keepalives_count", "6"),
    ("tcp_keepalives_idle", "60"),
    ("tcp_keepalives_interval", "10"),
];

/// Settings that the text format of values depends on, besides the encoding. They must hold in every session that reads
/// or restores values.
pub const VALUE_SETTINGS: [(&str, &str); 8] = [
    ("search_path", ""),
    ("DateStyle", "ISO, YMD"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    ("extra_float_digits", "3"),
    ("bytea_output", "hex"),
    ("lc_monetary", "C"),
    ("xmloption", "content"),
];

/// How text values are encoded in a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SessionEncoding {
    /// The server converts to and from UTF-8.
    Utf8,
    /// Nothing is converted, and the encoding of the bytes is unknown.
    SqlAscii,
}

impl SessionEncoding {
    /// The session encoding for a database with this `server_encoding`.
    #[must_use]
    pub fn for_server(server_encoding: &str) -> Self {
        if server_encoding.eq_ignore_ascii_case("SQL_ASCII") { Self::SqlAscii } else { Self::Utf8 }
    }

    /// Its name as a value of `client_encoding`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Utf8 => "UTF8",
            Self::SqlAscii => "SQL_ASCII",
        }
    }
}

/// The statements that prepare a session for values.
#[must_use]
pub fn session_sql(encoding: SessionEncoding) -> String {
    let mut sql = String::new();
    for (name, value) in VALUE_SETTINGS.into_iter().chain([("client_encoding", encoding.name())]) {
        sql.push_str(&setting_sql(name, value));
    }
    sql
}

fn setting_sql(name: &str, value: &str) -> String {
    format!("SELECT pg_catalog.set_config('{name}', '{value}', false);")
}

/// Applies the settings. Call this outside of a transaction, so that no rollback undoes them.
pub(crate) fn prepare(client: &Client, encoding: &str) -> Result<(), PostgresError> {
    let (names, values): (Vec<&str>, Vec<&str>) =
        SETTINGS.iter().copied().chain([("client_encoding", encoding)]).unzip();
    let sql = "SELECT pg_catalog.set_config(s.name, w.value, false) FROM unnest($1::text[], $2::text[]) AS w(name, value) \
               JOIN pg_catalog.pg_settings AS s ON lower(s.name) = lower(w.name)";
    client.query("preparing a session", sql, &[&names, &values]).map(|_| ())
}

/// The `client_encoding` that returns each text unchanged: UTF-8, or SQL_ASCII if the database has no encoding.
pub(crate) fn encoding(client: &Client) -> Result<String, PostgresError> {
    let server = client.value("asking for the server's encoding", "SELECT current_setting('server_encoding')")?;
    Ok(if server == "SQL_ASCII" { server } else { "UTF8".to_owned() })
}

/// The server process of this session.
pub(crate) fn pid(client: &Client) -> Result<i32, PostgresError> {
    number(client, "asking for the session's process", "SELECT pg_catalog.pg_backend_pid()")
}

/// The major version, such as 15 for 150018.
pub(crate) fn major_version(version: i32) -> u32 {
    u32::try_from(version / 10_000).unwrap_or(0)
}

/// The single number that a statement returns. Uses no prepared statement, which a pooler may lose.
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
    use super::{SessionEncoding, pooled, session_sql};

    #[test]
    fn a_pooler_is_detected_by_process_ids() {
        assert!(pooled(1, 2, 1).is_none());
        assert!(pooled(1, 1, 1).is_some(), "one process for two sessions");
        assert!(pooled(1, 2, 3).is_some(), "two processes for one session");
    }

    #[test]
    fn only_a_sql_ascii_database_is_read_without_conversion() {
        assert_eq!(SessionEncoding::for_server("LATIN1"), SessionEncoding::Utf8);
        assert!(session_sql(SessionEncoding::for_server("sql_ascii")).ends_with("'SQL_ASCII', false);"));
    }
}
