//! One consistent image of a database, shared by several sessions: a leader keeps it open and holds the table locks,
//! and workers join it. All of them see the database as of the same moment.
//!
//! Release the image as soon as everything is read. While it is open, the server cannot remove dead rows and nobody can
//! alter the tables.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio_postgres::Row;

use crate::base::pipeline::lock;
use crate::base::time::Moment;
use crate::engine::postgres::connect::address::Address;
use crate::engine::postgres::connect::client::Client;
use crate::engine::postgres::connect::error::PostgresError;
use crate::engine::postgres::connect::login::{connect, connect_with_endpoint};
use crate::engine::postgres::connect::server_facts::{encoding, number, pid, pooled};
use crate::engine::postgres::connect::session_settings::ServerSettings;

const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY";
/// Tables per LOCK statement.
const LOCK_BATCH: usize = 500;

/// SQLSTATE lock_not_available: a lock could not be acquired in time.
pub(super) const LOCK_NOT_AVAILABLE: &str = "55P03";
/// SQLSTATE out_of_memory: among other things, the lock table is full.
const OUT_OF_MEMORY: &str = "53200";

/// The file and a digest of the columns of each table: as the image sees them, or as of now if asked outside of the
/// image.
const TABLE_LAYOUTS: &str = "SELECT name, c.relfilenode, \
     (SELECT pg_catalog.hashtextextended(pg_catalog.string_agg(\
         pg_catalog.format('%s %s %s', attnum, atttypid, attname), ',' ORDER BY attnum), 0) \
     FROM pg_catalog.pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped) \
     FROM unnest($1::text[]) WITH ORDINALITY AS t (name, place) \
     LEFT JOIN pg_catalog.pg_class AS c ON c.oid = pg_catalog.to_regclass(name)::oid ORDER BY place";

/// Facts about the server as of the image.
#[derive(Clone, Debug)]
pub struct ImageFacts {
    /// When the image began, by the server's clock.
    pub clock: Moment,
    /// Distinguishes this database from another one behind the same name.
    pub identity: BTreeMap<String, String>,
    /// What could not be determined about the identity, and why.
    pub notes: Vec<String>,
    /// As in `server_version_num`, such as 150018.
    pub version: i32,
    pub server_encoding: String,
    /// `UTF8`, or `SQL_ASCII` if texts are plain bytes.
    pub client_encoding: String,
    pub role: ServerRole,
}

/// The server's role in its cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ServerRole {
    Primary,
    /// Unlogged tables are empty on a standby.
    Standby,
}

/// An open image. Dropping it ends it too, unless the caller still holds workers.
pub struct PgImage {
    leader: Arc<Client>,
    workers: Vec<Arc<Client>>,
    sessions: Sessions,
    snapshot: String,
    facts: ImageFacts,
    /// With only the endpoint that the leader is connected to.
    address: Arc<Address>,
}

/// The result of trying to lock a table for a worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TableLock {
    Acquired,
    /// Another session is queued behind the leader's lock. Only the leader may read the table.
    Contended,
}

/// The server process ids of an image's sessions, for the watchdog.
#[derive(Clone, Default)]
pub struct Sessions(Arc<Mutex<Vec<i32>>>);

impl Sessions {
    fn add(&self, pid: i32) {
        lock(&self.0).push(pid);
    }

    /// The process ids so far.
    #[must_use]
    pub fn pids(&self) -> Vec<i32> {
        lock(&self.0).clone()
    }
}

impl PgImage {
    /// Connects and begins the image. Refuses poolers, and standbys that would cancel long reads.
    /// Fails if no session can be opened, the connection goes through a pooler, the server is a standby that cancels
    /// long queries, or a query fails.
    pub fn open(address: Arc<Address>) -> Result<Self, PostgresError> {
        let (leader, endpoint) = connect_with_endpoint(&address)?;
        // Other sessions and the tools must connect to the same endpoint.
        let address = Arc::new(address.with_endpoint(endpoint));
        let own = direct_pid(&leader, &address)?;
        let client_encoding = encoding(&leader)?;
        ServerSettings::of_image(&client_encoding).apply(&leader)?;
        let role = role(&leader, &address)?;
        let identity = ServerIdentity::ask(&leader)?;
        leader.execute("beginning the image", BEGIN)?;
        let snapshot = leader.value("exporting the image", "SELECT pg_catalog.pg_export_snapshot()")?;
        let facts = ImageFacts::ask(&leader, identity, client_encoding, role)?;
        let sessions = Sessions::default();
        sessions.add(own);
        Ok(Self { leader: Arc::new(leader), workers: Vec::new(), sessions, snapshot, facts, address })
    }

    /// Facts about the server.
    #[must_use]
    pub fn facts(&self) -> &ImageFacts {
        &self.facts
    }

    /// The exported snapshot's name, with which others (such as pg_dump) join the image.
    #[must_use]
    pub fn snapshot(&self) -> &str {
        &self.snapshot
    }

    /// The image's first session, which holds the locks.
    #[must_use]
    pub fn leader(&self) -> &Arc<Client> {
        &self.leader
    }

    /// The address that the image's sessions connect to.
    #[must_use]
    pub fn address(&self) -> &Arc<Address> {
        &self.address
    }

    /// The process ids of the sessions. Each new worker adds its own.
    #[must_use]
    pub fn sessions(&self) -> Sessions {
        self.sessions.clone()
    }

    /// Opens one more session that sees the image.
    /// Fails if no session can be opened, or it cannot join the image, for example because it reaches another server.
    pub fn worker(&mut self) -> Result<Arc<Client>, PostgresError> {
        let worker = connect(&self.address)?;
        ServerSettings::of_image(&self.facts.client_encoding).apply(&worker)?;
        // Asked before joining: the first query in a transaction would take a snapshot of its own.
        let own = pid(&worker)?;
        self.join(&worker)?;
        self.sessions.add(own);
        let worker = Arc::new(worker);
        self.workers.push(Arc::clone(&worker));
        Ok(worker)
    }

    fn join(&self, worker: &Client) -> Result<(), PostgresError> {
        worker.execute("beginning a worker's transaction", BEGIN)?;
        let snapshot = self.snapshot.replace('\'', "''");
        let import = format!("SET TRANSACTION SNAPSHOT '{snapshot}'");
        worker.execute("joining the image", &import).map_err(|error| self.not_joined(&error))
    }

    fn not_joined(&self, error: &PostgresError) -> PostgresError {
        let reason = format!(
            "a second session cannot join the image ({error}); every connection must reach the same server directly, \
             without a pooler or load balancer"
        );
        self.unsuitable(reason)
    }

    fn unsuitable(&self, reason: String) -> PostgresError {
        PostgresError::Unsuitable { place: self.address.to_string(), reason }
    }

    /// Locks tables against being altered or dropped, in the leader's session. Before that, the leader must not have
    /// read anything that can be altered. `tables` are qualified and quoted names. Waits up to `wait_limit` for each
    /// batch of `LOCK_BATCH` tables.
    /// Fails if a batch's locks are not granted within `wait_limit`, a table was dropped, the server has no room for
    /// the locks, or the session is lost.
    pub fn lock_tables(&self, tables: &[String], wait_limit: Duration) -> Result<(), PostgresError> {
        self.set_lock_timeout(timeout_of(wait_limit))?;
        for batch in tables.chunks(LOCK_BATCH) {
            let locked = self.leader.execute("locking the tables", &lock_statement(batch));
            locked.map_err(|error| self.not_locked(error, batch, tables.len()))?;
        }
        self.set_lock_timeout(0)
    }

    /// In milliseconds. 0 means no limit.
    fn set_lock_timeout(&self, timeout: u128) -> Result<(), PostgresError> {
        let sql = format!("SET LOCAL lock_timeout = {timeout}");
        self.leader.execute("setting lock_timeout", &sql)
    }

    /// One of these tables that was altered after the image began, if any. The image shows no rows of tables that were
    /// truncated, rewritten or replaced since, and may show columns that can no longer be selected. Call this once the
    /// tables are locked.
    /// Fails if no second session can be opened or a query fails.
    pub(super) fn first_altered(&self, tables: &[String]) -> Result<Option<String>, PostgresError> {
        let of_image = layouts(&self.leader, tables)?;
        let of_now = layouts(&connect(&self.address)?, tables)?;
        let altered = of_image.into_iter().zip(of_now).find(|(then, now)| then != now);
        Ok(altered.map(|(then, _)| then.table))
    }

    /// Locks a table in a session before it reads there, with all partitions unless `table` begins with ONLY. Does not
    /// wait: a worker would queue up behind a session that waits for the leader's lock, and never get it.
    /// Fails if the table does not exist, the role may not lock it, or the session is lost. A lock that is not
    /// available is [`TableLock::Contended`].
    pub fn try_lock(&self, session: &Client, table: &str) -> Result<TableLock, PostgresError> {
        let doing = format!("locking {table}");
        let lock =
            format!("SAVEPOINT try_lock; LOCK TABLE {table} IN ACCESS SHARE MODE NOWAIT; RELEASE SAVEPOINT try_lock");
        match session.execute(&doing, &lock) {
            Ok(()) => Ok(TableLock::Acquired),
            Err(error) if error.state() == Some(LOCK_NOT_AVAILABLE) => {
                continue_without_lock(session)?;
                Ok(TableLock::Contended)
            }
            Err(error) => Err(error),
        }
    }

    /// Ends all of the image's transactions.
    /// Fails with the first error of a session. The others are ended all the same.
    pub fn release(self) -> Result<(), PostgresError> {
        let mut released = Ok(());
        for session in self.workers.iter().chain([&self.leader]) {
            // Every session is ended, even after an error. The first error is returned.
            released = released.and(session.execute("ending the image", "ROLLBACK"));
        }
        released
    }

    fn not_locked(&self, error: PostgresError, batch: &[String], count: usize) -> PostgresError {
        match error.state() {
            Some(LOCK_NOT_AVAILABLE) => self.unsuitable(self.tables_are_locked(batch)),
            Some(OUT_OF_MEMORY) => self.unsuitable(format!(
                "the server has no room for the locks of {count} tables; raise max_locks_per_transaction there and \
                 restart it (it must be at least {count} divided by max_connections)"
            )),
            _ => error,
        }
    }

    /// Says which of these tables are locked, and by which processes.
    fn tables_are_locked(&self, tables: &[String]) -> String {
        let mut holders = self.lock_holders(tables).unwrap_or_default();
        if holders.is_empty() {
            holders.push("a table by another session".to_owned());
        }
        format!("tables are locked: {}; retry when the lock is released", holders.join(", "))
    }

    fn lock_holders(&self, tables: &[String]) -> Result<Vec<String>, PostgresError> {
        self.leader.execute("rolling back to a savepoint", "ROLLBACK TO SAVEPOINT lock_tables")?;
        self.leader.query_as("listing who holds locks", LOCK_HOLDERS, &[&tables], lock_holder)
    }
}

/// The sessions that hold exclusive locks on these tables.
const LOCK_HOLDERS: &str = "SELECT l.pid, l.relation::pg_catalog.regclass::text FROM pg_catalog.pg_locks AS l \
     WHERE l.granted AND l.mode = 'AccessExclusiveLock' AND l.locktype = 'relation' \
     AND l.relation = ANY (SELECT pg_catalog.to_regclass(t)::oid FROM unnest($1::text[]) AS t)";

fn lock_holder(row: &Row) -> String {
    let pid: Option<i32> = row.get(0);
    let table: String = row.get(1);
    match pid {
        Some(pid) => format!("{table} by process {pid}"),
        None => format!("{table} by a prepared transaction"),
    }
}

/// In milliseconds, within the setting's range. Never 0, which would mean no limit.
fn timeout_of(wait_limit: Duration) -> u128 {
    wait_limit.as_millis().clamp(1, i32::MAX as u128)
}

fn continue_without_lock(session: &Client) -> Result<(), PostgresError> {
    let undo = "ROLLBACK TO SAVEPOINT try_lock; RELEASE SAVEPOINT try_lock";
    session.execute("continuing without a lock", undo)
}

fn lock_statement(tables: &[String]) -> String {
    let list: Vec<String> = tables.iter().map(|table| format!("ONLY {table}")).collect();
    format!("SAVEPOINT lock_tables; LOCK TABLE {} IN ACCESS SHARE MODE", list.join(", "))
}

/// The file and a digest of the columns of a table. None if the table does not exist.
#[derive(PartialEq, Eq)]
struct TableLayout {
    table: String,
    file: Option<u32>,
    columns: Option<i64>,
}

impl TableLayout {
    fn of(row: &Row) -> Self {
        Self { table: row.get(0), file: row.get(1), columns: row.get(2) }
    }
}

fn layouts(client: &Client, tables: &[String]) -> Result<Vec<TableLayout>, PostgresError> {
    client.query_as("checking whether tables were altered", TABLE_LAYOUTS, &[&tables], TableLayout::of)
}

/// The leader's server process. Refuses poolers.
fn direct_pid(leader: &Client, address: &Address) -> Result<i32, PostgresError> {
    let own = pid(leader)?;
    match find_pooler(leader, own, address)? {
        Some(reason) => Err(PostgresError::Unsuitable { place: address.to_string(), reason }),
        None => Ok(own),
    }
}

/// Why the connection seems to go through a pooler, judged by the server processes of two connections. `own` is the
/// process of `first`.
/// Fails if no second session can be opened or a query fails.
pub(super) fn find_pooler(first: &Client, own: i32, address: &Address) -> Result<Option<String>, PostgresError> {
    let second = connect(address)?;
    Ok(pooled(own, pid(&second)?, pid(first)?))
}

impl ImageFacts {
    /// Must be called inside the image's transaction.
    fn ask(
        leader: &Client,
        identity: ServerIdentity,
        client_encoding: String,
        role: ServerRole,
    ) -> Result<Self, PostgresError> {
        let encoding_sql = "SELECT current_setting('server_encoding')";
        Ok(Self {
            clock: clock(leader)?,
            version: number(leader, "asking for the server's version", "SHOW server_version_num")?,
            server_encoding: leader.value("asking for the server's encoding", encoding_sql)?,
            identity: identity.facts,
            notes: identity.notes,
            client_encoding,
            role,
        })
    }
}

const ASKING_CLOCK: &str = "asking for the server's clock";
const CLOCK: &str = "SELECT pg_catalog.to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')";

/// When the leader's transaction began.
fn clock(leader: &Client) -> Result<Moment, PostgresError> {
    let text = leader.value(ASKING_CLOCK, CLOCK)?;
    text.parse().map_err(|error| PostgresError::Failed {
        doing: ASKING_CLOCK.to_owned(),
        reason: format!("{error}"),
        state: None,
    })
}

/// Primary, or a standby that lets a long read finish: it never cancels queries, or it keeps the primary from removing
/// the rows that we read.
/// Fails if the server is a standby that cancels long queries, or a query fails.
pub(super) fn role(leader: &Client, address: &Address) -> Result<ServerRole, PostgresError> {
    let is_standby = "SELECT pg_catalog.pg_is_in_recovery()::text";
    if leader.value("asking for the server's role", is_standby)? == "false" {
        return Ok(ServerRole::Primary);
    }
    let delay = standby_setting(leader, "max_standby_streaming_delay")?;
    let feedback = standby_setting(leader, "hot_standby_feedback")?;
    if delay == "-1" || feedback != "off" {
        return Ok(ServerRole::Standby);
    }
    let reason = format!(
        "this standby cancels queries that run longer than max_standby_streaming_delay = {delay}; set \
         hot_standby_feedback = on or max_standby_streaming_delay = -1 there, or back up the primary"
    );
    Err(PostgresError::Unsuitable { place: address.to_string(), reason })
}

fn standby_setting(leader: &Client, name: &str) -> Result<String, PostgresError> {
    leader.value("asking for the standby's settings", &format!("SHOW {name}"))
}

/// What distinguishes a server and its database from others.
struct ServerIdentity {
    facts: BTreeMap<String, String>,
    /// What could not be determined, and why.
    notes: Vec<String>,
}

impl ServerIdentity {
    const DOING: &str = "asking for the server's identity";

    /// Must be called outside of the image's transaction, which an error would abort.
    fn ask(leader: &Client) -> Result<Self, PostgresError> {
        let mut identity = Self { facts: BTreeMap::new(), notes: Vec::new() };
        let database_oid = "SELECT oid::text FROM pg_catalog.pg_database WHERE datname = current_database()";
        identity.add(leader, "database", "SELECT current_database()")?;
        identity.add(leader, "database_oid", database_oid)?;
        identity.add(leader, "server_version", "SELECT current_setting('server_version')")?;
        identity.add_controlled(leader, "system_identifier", "pg_control_system", "system_identifier")?;
        identity.add_controlled(leader, "timeline", "pg_control_checkpoint", "timeline_id")?;
        Ok(identity)
    }

    fn add(&mut self, leader: &Client, name: &str, sql: &str) -> Result<(), PostgresError> {
        self.facts.insert(name.to_owned(), leader.value(Self::DOING, sql)?);
        Ok(())
    }

    /// Adds a column of a function that not every role may call.
    fn add_controlled(
        &mut self,
        leader: &Client,
        name: &str,
        function: &str,
        column: &str,
    ) -> Result<(), PostgresError> {
        let may = format!("SELECT pg_catalog.has_function_privilege('pg_catalog.{function}()', 'EXECUTE')::text");
        if leader.value(Self::DOING, &may)? == "true" {
            return self.add(leader, name, &format!("SELECT {column}::text FROM pg_catalog.{function}()"));
        }
        self.notes.push(format!("the role may not call {function}(), so the server's {name} is not known"));
        Ok(())
    }
}
