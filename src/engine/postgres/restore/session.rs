//! Sessions of a restore. They have the settings that `pg_restore` uses, whatever the defaults of the database and the
//! role are.

use tokio_postgres::Error;

use crate::engine::contract::EngineError;
use crate::engine::postgres::connect::address::Address;
use crate::engine::postgres::connect::client::Client;
use crate::engine::postgres::connect::error::PostgresError;
use crate::engine::postgres::connect::login::connect;
use crate::engine::postgres::connect::query::{QueryError, RowFields, rows};
use crate::engine::postgres::connect::server_facts::{major_version, number, pid, pooled};
use crate::engine::postgres::connect::session_settings::{ServerSettings, SessionEncoding};
use crate::engine::postgres::restore::fault::{ServerFault, classify, converted_fatal, fatal, query_fatal};
use crate::engine::postgres::value::field_encoder::EncodeTarget;

/// Least memory for building an index, in kB.
const MAINTENANCE_MEMORY_KB: u32 = 256 << 10;

/// Advisory locks. The leader of a restore holds the first. Each worker holds the second in shared mode, and a new
/// leader waits for it: the server may still run a statement of a killed restore, and that must end before another
/// restore starts.
const LEADER_LOCK: i64 = 0x7369_6465_6b65_6570;
const WORKER_LOCK: i64 = LEADER_LOCK + 1;
const LOCK_WAIT_MAX: &str = "60s";

/// What a session is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum SessionUse {
    /// Leads the restore. There is only one at a time.
    Leader,
    Worker,
}

/// Facts about the server that is restored to.
#[derive(Clone, Debug)]
pub(super) struct TargetServer {
    /// Its address, as shown in messages.
    pub(super) name: String,
    pub(super) encode: EncodeTarget,
    pub(super) database: String,
}

impl TargetServer {
    fn ask(client: &Client, address: &Address) -> Result<Self, PostgresError> {
        let doing = "reading the properties of the server";
        let version = number(client, doing, "SHOW server_version_num")?;
        let server_encoding = client.value(doing, "SHOW server_encoding")?;
        let encode =
            EncodeTarget { version: major_version(version), encoding: SessionEncoding::for_server(&server_encoding) };
        let database = client.value(doing, "SELECT pg_catalog.current_database()")?;
        Ok(Self { name: address.to_string(), encode, database })
    }
}

/// A session of a restore. Unless documented otherwise, its methods return only errors that end the restore.
pub(super) struct TargetSession {
    pub(super) client: Client,
    pub(super) server: TargetServer,
}

impl TargetSession {
    /// Opens a session. Waits until the sessions of a restore that was killed are gone.
    /// Fails if no session can be opened or set up, another restore's sessions still exist after 60 s, or (for a
    /// leader) the connection goes through a pooler.
    pub(super) fn open(address: &Address, session_use: SessionUse) -> Result<Self, EngineError> {
        let client = connect(address)?;
        let name = address.to_string();
        let server = TargetServer::ask(&client, address).map_err(|error| converted_fatal(error, &name))?;
        set_up(&client, server.encode.encoding).map_err(|error| converted_fatal(error, &name))?;
        if session_use == SessionUse::Leader {
            refuse_pooler(&client, address)?;
        }
        take_locks(&client, session_use).map_err(|error| not_free(error, &name))?;
        Ok(Self { client, server })
    }

    /// Runs our own SQL.
    /// Fails if the server refuses it or the session is lost.
    pub(super) fn execute(&self, doing: &str, sql: &str) -> Result<(), EngineError> {
        self.client.attempt(sql).map_err(|error| self.fatal(&error, doing))
    }

    /// Runs our own query and reads each row of its result.
    /// Fails if the query fails, or with the first error of `read`.
    pub(super) fn rows<T>(
        &self,
        doing: &'static str,
        sql: &str,
        read: impl Fn(&mut RowFields) -> Result<T, QueryError>,
    ) -> Result<Vec<T>, EngineError> {
        rows(&self.client, doing, sql, read).map_err(|error| query_fatal(error, &self.server.name))
    }

    /// The names of all roles.
    /// Fails if the query fails.
    pub(super) fn roles(&self) -> Result<Vec<String>, EngineError> {
        self.rows("listing roles", "SELECT rolname FROM pg_catalog.pg_roles", RowFields::text)
    }

    /// Rolls back the transaction.
    /// Fails if the session is lost.
    pub(super) fn rollback(&self) -> Result<(), EngineError> {
        self.execute("rolling back", "ROLLBACK")
    }

    /// Classifies an error that the server reported while `doing` something.
    pub(super) fn classify(&self, error: &Error, doing: &str) -> ServerFault {
        classify(error, &self.server.name, doing)
    }

    /// Converts an error in one of our own statements.
    pub(super) fn fatal(&self, error: &Error, doing: &str) -> EngineError {
        fatal(error, &self.server.name, doing)
    }
}

/// Refuses a pooler: it would let other clients share a session's settings and locks.
fn refuse_pooler(leader: &Client, address: &Address) -> Result<(), EngineError> {
    let second = connect(address)?;
    let pooler = pooler(leader, &second).map_err(|error| converted_fatal(error, &address.to_string()))?;
    match pooler {
        Some(reason) => Err(EngineError::Unreachable { what: address.to_string(), reason }),
        None => Ok(()),
    }
}

/// Detects a pooler by the server processes of two connections. Returns the reason if there is one.
fn pooler(first: &Client, second: &Client) -> Result<Option<String>, PostgresError> {
    let own = pid(first)?;
    Ok(pooled(own, pid(second)?, pid(first)?))
}

fn take_locks(client: &Client, session_use: SessionUse) -> Result<(), PostgresError> {
    let locks = locks_sql(session_use);
    let sql = format!("SET lock_timeout = '{LOCK_WAIT_MAX}'; {locks}; SET lock_timeout = 0");
    client.execute("waiting for sessions of another restore", &sql)
}

fn locks_sql(session_use: SessionUse) -> String {
    match session_use {
        SessionUse::Leader => format!(
            "SELECT pg_catalog.pg_advisory_lock({LEADER_LOCK}), pg_catalog.pg_advisory_lock({WORKER_LOCK}); \
             SELECT pg_catalog.pg_advisory_unlock({WORKER_LOCK})"
        ),
        SessionUse::Worker => format!("SELECT pg_catalog.pg_advisory_lock_shared({WORKER_LOCK})"),
    }
}

const IN_USE: &str =
    "another restore is running, or the server is still executing a statement of a restore that was killed";

fn not_free(error: PostgresError, server: &str) -> EngineError {
    if error.state() != Some("55P03") {
        return converted_fatal(error, server);
    }
    EngineError::Unreachable { what: server.to_owned(), reason: IN_USE.to_owned() }
}

fn set_up(client: &Client, encoding: SessionEncoding) -> Result<(), PostgresError> {
    ServerSettings::of_restore(encoding.name()).apply(client)?;
    raise_maintenance_memory(client)
}

fn raise_maintenance_memory(client: &Client) -> Result<(), PostgresError> {
    let sql = format!(
        "SELECT pg_catalog.set_config('maintenance_work_mem', '{MAINTENANCE_MEMORY_KB}kB', false) \
         FROM pg_catalog.pg_settings WHERE name = 'maintenance_work_mem' AND setting::bigint < {MAINTENANCE_MEMORY_KB}"
    );
    client.query("preparing a session", &sql, &[]).map(drop)
}
