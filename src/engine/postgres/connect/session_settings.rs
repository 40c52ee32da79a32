//! The settings of sessions. Those that the text of values depends on are the same in a backup and in a restore, so that
//! equal rows are the same bytes on every server.

use crate::engine::postgres::connect::client::Client;
use crate::engine::postgres::connect::error::PostgresError;

/// Settings of every session that reads or restores values: the text format of values depends on them, and on the
/// encoding.
const VALUE_SETTINGS: [(&str, &str); 7] = [
    ("search_path", ""),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    ("extra_float_digits", "3"),
    ("bytea_output", "hex"),
    ("lc_monetary", "C"),
    ("xmloption", "content"),
];

/// Settings of the sessions of an image, besides [`VALUE_SETTINGS`]: pg_dump's, and others that equal bytes need. Without
/// parallel workers and synchronized scans, rows of a table come in physical order. `row_security = off` makes a row
/// that we may not see an error instead of leaving it out.
const IMAGE_SETTINGS: &[(&str, &str)] = &[
    // A server writes ISO dates alike with every order of day and month, but reads ambiguous text in this order.
    ("DateStyle", "ISO, MDY"),
    ("client_min_messages", "warning"),
    ("default_transaction_isolation", "repeatable read"),
    ("idle_in_transaction_session_timeout", "0"),
    ("idle_session_timeout", "0"),
    ("lc_numeric", "C"),
    ("lc_time", "C"),
    ("lock_timeout", "0"),
    ("max_parallel_workers_per_gather", "0"),
    ("quote_all_identifiers", "off"),
    ("row_security", "off"),
    ("standard_conforming_strings", "on"),
    ("statement_timeout", "0"),
    ("synchronize_seqscans", "off"),
    ("transaction_timeout", "0"),
    // So that the server, too, notices within two minutes that we are gone, and releases the image.
    ("tcp_keepalives_count", "6"),
    ("tcp_keepalives_idle", "60"),
    ("tcp_keepalives_interval", "10"),
];

/// Settings of the sessions of a restore, besides [`VALUE_SETTINGS`]. Commits do not wait for the disk until the end: if a
/// crash loses a step, it loses the step's mark as well.
const RESTORE_SETTINGS: &[(&str, &str)] = &[
    ("DateStyle", "ISO, YMD"),
    ("array_nulls", "on"),
    ("check_function_bodies", "off"),
    ("client_min_messages", "error"),
    ("default_table_access_method", "heap"),
    ("default_tablespace", ""),
    ("default_transaction_deferrable", "off"),
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_read_only", "off"),
    ("escape_string_warning", "off"),
    ("idle_in_transaction_session_timeout", "0"),
    ("idle_session_timeout", "0"),
    ("lock_timeout", "0"),
    ("row_security", "off"),
    ("session_replication_role", "origin"),
    ("standard_conforming_strings", "on"),
    ("statement_timeout", "0"),
    ("synchronous_commit", "off"),
    ("transaction_timeout", "0"),
    ("transform_null_equals", "off"),
    ("vacuum_cost_delay", "0"),
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

/// Sets the settings that the server has. Parameters: their names, and their values.
const SET_ALL: &str = "SELECT pg_catalog.set_config(s.name, w.value, false) FROM unnest($1::text[], $2::text[]) AS w(name, value) \
     JOIN pg_catalog.pg_settings AS s ON lower(s.name) = lower(w.name)";
/// The same, without those that only a superuser may set, unless we are one. Only superusers need them.
const SET_ALLOWED: &str = "SELECT pg_catalog.set_config(s.name, w.value, false) FROM unnest($1::text[], $2::text[]) AS w(name, value) \
     JOIN pg_catalog.pg_settings AS s ON lower(s.name) = lower(w.name) \
     WHERE s.context = 'user' OR pg_catalog.current_setting('is_superuser') = 'on'";

/// Settings, and the statement that applies those that the server has.
#[derive(Clone, Debug)]
pub struct ServerSettings<'a> {
    /// Parameters: `names`, and `values`.
    pub sql: &'static str,
    pub names: Vec<&'a str>,
    pub values: Vec<&'a str>,
}

impl<'a> ServerSettings<'a> {
    /// The settings of a session of an image, with this `client_encoding`.
    #[must_use]
    pub fn of_image(client_encoding: &'a str) -> Self {
        Self::new(SET_ALL, IMAGE_SETTINGS, client_encoding)
    }

    /// The settings of a session of a restore, with this `client_encoding`.
    #[must_use]
    pub fn of_restore(client_encoding: &'a str) -> Self {
        Self::new(SET_ALLOWED, RESTORE_SETTINGS, client_encoding)
    }

    fn new(sql: &'static str, own: &[(&'static str, &'static str)], client_encoding: &'a str) -> Self {
        let settings = VALUE_SETTINGS.iter().chain(own).copied();
        let (names, values) = settings.chain([("client_encoding", client_encoding)]).unzip();
        Self { sql, names, values }
    }

    /// Applies the settings. Call this outside of a transaction, so that no rollback undoes them.
    /// Fails if the server refuses a value, or as [`Client::query`] does.
    pub fn apply(&self, client: &Client) -> Result<(), PostgresError> {
        client.query("preparing a session", self.sql, &[&self.names, &self.values]).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::{ServerSettings, SessionEncoding};

    #[test]
    fn only_a_sql_ascii_database_is_read_without_conversion() {
        assert_eq!(SessionEncoding::for_server("LATIN1"), SessionEncoding::Utf8);
        let settings = ServerSettings::of_image(SessionEncoding::for_server("sql_ascii").name());
        assert_eq!((settings.names.last(), settings.values.last()), (Some(&"client_encoding"), Some(&"SQL_ASCII")));
    }
}
