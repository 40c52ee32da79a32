//! Sessions of a restore: set up as `pg_restore` sets up its own, whatever the database and the role have as defaults.

use crate::engine::contract::SourceError;
use crate::engine::postgres::connect::address::Address;
use crate::engine::postgres::connect::client::Client;
use crate::engine::postgres::connect::login::connect;
use crate::engine::postgres::connect::session::{SessionEncoding, VALUE_SETTINGS};
use crate::engine::postgres::connect::session::{number, pid, pooled};
use crate::engine::postgres::restore::fault::broken;
use crate::engine::postgres::value::encode::EncodeTarget;

/// Besides those that values depend on. A server sets those that it knows. Nothing is waited for on disk until the end:
/// what a crash takes, it takes together with the note that it was done.
const SETTINGS: &[(&str, &str)] = &[
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
/// What building an index may take, in kB.
const MAINTENANCE_KB: u32 = 256 << 10;

/// Held by whoever leads a restore, and for as long by each of his sessions: the server may go on with what one was told
/// for a while after its process is gone, and must have come to an end before somebody else goes on.
const LEADER_LOCK: i64 = 0x7369_6465_6b65_6570;
const WORKER_LOCK: i64 = LEADER_LOCK + 1;
const PATIENCE: &str = "60s";

/// What a session is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum SessionUse {
    /// There is one at a time.
    Leader,
    Worker,
}

/// What is known of the server that is restored to.
#[derive(Clone, Debug)]
pub(super) struct TargetServer {
    /// Its address as messages show it.
    pub(super) name: String,
    pub(super) place: EncodeTarget,
    pub(super) database: String,
}

/// Refuses a way on which sessions are not our own: their settings and locks would be somebody else's.
fn refuse_pooler(leader: &Client, address: &Address) -> Result<(), SourceError> {
    let name = address.to_string();
    let failed = |error| broken(error, &name);
    let second = connect(address)?;
    let first = pid(leader).map_err(failed)?;
    let found = pooled(first, pid(&second).map_err(failed)?, pid(leader).map_err(failed)?);
    found.map_or(Ok(()), |reason| Err(SourceError::Unreachable { what: address.to_string(), reason }))
}

/// Opens a session.
pub(super) fn open(address: &Address, rank: SessionUse) -> Result<(Client, TargetServer), SourceError> {
    let name = address.to_string();
    let client = connect(address)?;
    let failed = |error| broken(error, &name);
    let doing = "asking what the server is";
    let version = number(&client, doing, "SHOW server_version_num").map_err(failed)?;
    let server_encoding = client.value(doing, "SHOW server_encoding").map_err(failed)?;
    let database = client.value(doing, "SELECT pg_catalog.current_database()").map_err(failed)?;
    let encoding = SessionEncoding::for_server(&server_encoding);
    prepare(&client, encoding).map_err(failed)?;
    if rank == SessionUse::Leader {
        refuse_pooler(&client, address)?;
    }
    let locks = match rank {
        SessionUse::Leader => format!(
            "SELECT pg_catalog.pg_advisory_lock({LEADER_LOCK}), pg_catalog.pg_advisory_lock({WORKER_LOCK}); \
             SELECT pg_catalog.pg_advisory_unlock({WORKER_LOCK})"
        ),
        SessionUse::Worker => format!("SELECT pg_catalog.pg_advisory_lock_shared({WORKER_LOCK})"),
    };
    let locks = format!("SET lock_timeout = '{PATIENCE}'; {locks}; SET lock_timeout = 0");
    client.execute("waiting for sessions of another restore", &locks).map_err(|error| match error.state() {
        Some("55P03") => SourceError::Unreachable {
            what: name.clone(),
            reason: "another restore works in it, or what the server was told by one that was killed is not done yet"
                .to_owned(),
        },
        _ => failed(error),
    })?;
    let place = EncodeTarget { version: u32::try_from(version / 10_000).unwrap_or(0), encoding };
    Ok((client, TargetServer { name, place, database }))
}

fn prepare(
    client: &Client,
    encoding: SessionEncoding,
) -> Result<(), crate::engine::postgres::connect::error::PostgresError> {
    let own = [("client_encoding", encoding.name())];
    let settings = VALUE_SETTINGS.iter().chain(SETTINGS).chain(&own);
    let (names, values): (Vec<&str>, Vec<&str>) = settings.copied().unzip();
    // Some a role may not set; superusers alone need them.
    let sql = "SELECT pg_catalog.set_config(s.name, w.value, false) FROM unnest($1::text[], $2::text[]) AS w(name, value) \
               JOIN pg_catalog.pg_settings AS s ON lower(s.name) = lower(w.name) \
               WHERE s.context = 'user' OR pg_catalog.current_setting('is_superuser') = 'on'";
    client.query("preparing a session", sql, &[&names, &values])?;
    let sql = format!(
        "SELECT pg_catalog.set_config('maintenance_work_mem', '{MAINTENANCE_KB}kB', false) \
         FROM pg_catalog.pg_settings WHERE name = 'maintenance_work_mem' AND setting::bigint < {MAINTENANCE_KB}"
    );
    client.query("preparing a session", &sql, &[]).map(drop)
}
