//! One consistent image of a database for several sessions: a leader holds it open and the tables locked, workers
//! join it. What is read in any of them is as of the same moment.
//!
//! Let it go as soon as everything is read: as long as it is open, the server can clean nothing up and nobody can
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
use crate::engine::postgres::connect::session::{encoding, number, pid, pooled, prepare};

const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY";
/// Tables in one LOCK statement.
const LOCK_BATCH: usize = 500;

/// What a server says when a lock is not to be had in time.
pub(super) const LOCK_NOT_AVAILABLE: &str = "55P03";
/// What a server says when it has no memory left, such as for locks.
const OUT_OF_MEMORY: &str = "53200";

/// The file and the columns of each table: as the image has them, or as they are now if asked outside of it.
const TABLE_LAYOUTS: &str = "SELECT name, c.relfilenode, \
     (SELECT pg_catalog.hashtextextended(pg_catalog.string_agg(\
         pg_catalog.format('%s %s %s', attnum, atttypid, attname), ',' ORDER BY attnum), 0) \
     FROM pg_catalog.pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped) \
     FROM unnest($1::text[]) WITH ORDINALITY AS t (name, place) \
     LEFT JOIN pg_catalog.pg_class AS c ON c.oid = pg_catalog.to_regclass(name)::oid ORDER BY place";

/// What is known of the server as of the image.
#[derive(Clone, Debug)]
pub struct ImageFacts {
    /// The moment of the image by the server's clock.
    pub clock: Moment,
    /// What tells this database from another behind the same name.
    pub identity: BTreeMap<String, String>,
    /// What could not be learned about it, and why.
    pub notes: Vec<String>,
    /// Such as 150018.
    pub version: i32,
    pub server_encoding: String,
    /// `UTF8`, or `SQL_ASCII`: texts are then bytes.
    pub client_encoding: String,
    pub role: ServerRole,
}

/// What the server is in its cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ServerRole {
    Primary,
    /// Unlogged tables are empty here.
    Standby,
}

/// The image; dropping it lets it go as well, unless workers are still held elsewhere.
pub struct PgImage {
    leader: Arc<Client>,
    workers: Vec<Arc<Client>>,
    sessions: Sessions,
    snapshot: String,
    facts: ImageFacts,
    /// With the endpoint of the leader alone.
    address: Arc<Address>,
}

/// What came of an attempt to lock a table for a worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TableLock {
    Acquired,
    /// Somebody queues up behind the leader's lock: only the leader may read that table.
    Contended,
}

/// The server's processes of an image's sessions, for the watchdog.
#[derive(Clone, Default)]
pub struct Sessions(Arc<Mutex<Vec<i32>>>);

impl Sessions {
    fn add(&self, pid: i32) {
        lock(&self.0).push(pid);
    }

    /// As of now.
    #[must_use]
    pub fn pids(&self) -> Vec<i32> {
        lock(&self.0).clone()
    }
}

impl PgImage {
    /// Connects and fixes the image. Refuses poolers, and standbys that would cancel the reading.
    pub fn open(address: Arc<Address>) -> Result<Self, PostgresError> {
        let (leader, endpoint) = connect_with_endpoint(&address)?;
        // Further sessions and the tools must connect to the same endpoint.
        let address = Arc::new(address.with_endpoint(endpoint));
        let own = direct_pid(&leader, &address)?;
        let client_encoding = encoding(&leader)?;
        prepare(&leader, &client_encoding)?;
        let role = role(&leader, &address)?;
        let identity = ServerIdentity::ask(&leader)?;
        leader.execute("beginning the image", BEGIN)?;
        let snapshot = leader.value("exporting the image", "SELECT pg_catalog.pg_export_snapshot()")?;
        let facts = ImageFacts::ask(&leader, identity, client_encoding, role)?;
        let sessions = Sessions::default();
        sessions.add(own);
        Ok(Self { leader: Arc::new(leader), workers: Vec::new(), sessions, snapshot, facts, address })
    }

    /// What is known of the server.
    #[must_use]
    pub fn facts(&self) -> &ImageFacts {
        &self.facts
    }

    /// The name under which others join, such as pg_dump.
    #[must_use]
    pub fn snapshot(&self) -> &str {
        &self.snapshot
    }

    /// The first session of the image; the one that holds the locks.
    #[must_use]
    pub fn leader(&self) -> &Arc<Client> {
        &self.leader
    }

    /// Where its sessions are.
    #[must_use]
    pub fn address(&self) -> &Arc<Address> {
        &self.address
    }

    /// The sessions' processes; more of them come with each worker.
    #[must_use]
    pub fn sessions(&self) -> Sessions {
        self.sessions.clone()
    }

    /// One more session that sees the image.
    pub fn worker(&mut self) -> Result<Arc<Client>, PostgresError> {
        let worker = connect(&self.address)?;
        prepare(&worker, &self.facts.client_encoding)?;
        // Any query in the transaction would fix an image of its own.
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
            "a second session cannot join the image ({error}); every connection must reach the same server, without a \
             pooler or a balancer between"
        );
        self.unsuitable(reason)
    }

    fn unsuitable(&self, reason: String) -> PostgresError {
        PostgresError::Unsuitable { place: self.address.to_string(), reason }
    }

    /// Locks tables against being altered or dropped, in the leader, which must have asked for nothing else that
    /// could be altered before. `tables` are qualified and quoted names. Waits up to `wait_limit` for each few hundred.
    pub fn lock_tables(&self, tables: &[String], wait_limit: Duration) -> Result<(), PostgresError> {
        self.set_lock_timeout(timeout_of(wait_limit))?;
        for batch in tables.chunks(LOCK_BATCH) {
            let locked = self.leader.execute("locking the tables", &lock_statement(batch));
            locked.map_err(|error| self.not_locked(error, batch, tables.len()))?;
        }
        self.set_lock_timeout(0)
    }

    /// In milliseconds; 0 for no limit.
    fn set_lock_timeout(&self, timeout: u128) -> Result<(), PostgresError> {
        let sql = format!("SET LOCAL lock_timeout = {timeout}");
        self.leader.execute("setting how long to wait for locks", &sql)
    }

    /// One of these tables, if any, that was altered after the image began: the image shows no rows of what was
    /// truncated, rewritten or replaced since, and other columns than can be asked for. Ask once they are locked.
    pub(super) fn first_altered(&self, tables: &[String]) -> Result<Option<String>, PostgresError> {
        let of_image = layouts(&self.leader, tables)?;
        let of_now = layouts(&connect(&self.address)?, tables)?;
        let altered = of_image.into_iter().zip(of_now).find(|(then, now)| then != now);
        Ok(altered.map(|(then, _)| then.table))
    }

    /// Locks a table in a session, before it reads there; with all partitions unless it has ONLY before it. Does not
    /// wait: a worker would queue up behind a session that waits for the leader's lock, and wait for ever.
    pub fn try_lock(&self, session: &Client, table: &str) -> Result<TableLock, PostgresError> {
        let doing = format!("locking {table}");
        let lock =
            format!("SAVEPOINT try_lock; LOCK TABLE {table} IN ACCESS SHARE MODE NOWAIT; RELEASE SAVEPOINT try_lock");
        match session.execute(&doing, &lock) {
            Ok(()) => Ok(TableLock::Acquired),
            Err(error) if error.state() == Some(LOCK_NOT_AVAILABLE) => {
                go_on_without_lock(session)?;
                Ok(TableLock::Contended)
            }
            Err(error) => Err(error),
        }
    }

    /// Ends all of the image's transactions and sessions.
    pub fn release(self) -> Result<(), PostgresError> {
        let mut released = Ok(());
        let sessions = self.workers.iter().chain([&self.leader]);
        for session in sessions {
            // All are ended; the first error is returned.
            let ended = session.execute("ending the image", "ROLLBACK");
            released = released.and(ended);
        }
        released
    }

    fn not_locked(&self, error: PostgresError, batch: &[String], count: usize) -> PostgresError {
        match error.state() {
            Some(LOCK_NOT_AVAILABLE) => self.unsuitable(self.tables_are_locked(batch)),
            Some(OUT_OF_MEMORY) => self.unsuitable(format!(
                "the server has no room for the locks of {count} tables; raise max_locks_per_transaction there and \
                 restart it (needed is at least {count} divided by max_connections)"
            )),
            _ => error,
        }
    }

    /// Which of these tables are locked, and by which processes.
    fn tables_are_locked(&self, tables: &[String]) -> String {
        let mut holders = self.lock_holders(tables).unwrap_or_default();
        if holders.is_empty() {
            holders.push("a table by somebody".to_owned());
        }
        format!("tables are locked: {}; try again when that is done", holders.join(", "))
    }

    fn lock_holders(&self, tables: &[String]) -> Result<Vec<String>, PostgresError> {
        self.leader.execute("going back", "ROLLBACK TO SAVEPOINT lock_tables")?;
        self.leader.query_as("asking who holds locks", LOCK_HOLDERS, &[&tables], lock_holder)
    }
}

/// The sessions that have these tables to themselves.
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

/// In milliseconds, as the setting can have it; not 0, which sets no limit.
fn timeout_of(wait_limit: Duration) -> u128 {
    wait_limit.as_millis().clamp(1, i32::MAX as u128)
}

fn go_on_without_lock(session: &Client) -> Result<(), PostgresError> {
    let undo = "ROLLBACK TO SAVEPOINT try_lock; RELEASE SAVEPOINT try_lock";
    session.execute("going on without a lock", undo)
}

fn lock_statement(tables: &[String]) -> String {
    let list: Vec<String> = tables.iter().map(|table| format!("ONLY {table}")).collect();
    format!("SAVEPOINT lock_tables; LOCK TABLE {} IN ACCESS SHARE MODE", list.join(", "))
}

/// The file and a digest of the columns of a table; None of one that is not there.
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
    client.query_as("asking whether tables were altered", TABLE_LAYOUTS, &[&tables], TableLayout::of)
}

/// The leader's server process. Refuses poolers.
fn direct_pid(leader: &Client, address: &Address) -> Result<i32, PostgresError> {
    let own = pid(leader)?;
    match find_pooler(leader, own, address)? {
        Some(reason) => Err(PostgresError::Unsuitable { place: address.to_string(), reason }),
        None => Ok(own),
    }
}

/// How a pooler shows in the server processes of two connections, if it does. `own` is that of the first.
pub(super) fn find_pooler(first: &Client, own: i32, address: &Address) -> Result<Option<String>, PostgresError> {
    let second = connect(address)?;
    Ok(pooled(own, pid(&second)?, pid(first)?))
}

impl ImageFacts {
    /// Asks inside the image's transaction.
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

/// Primary, or a standby that lets us read to the end: one that never cancels, or keeps what we read from being cleaned
/// up on its primary.
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
        "this standby cancels what reads for longer than max_standby_streaming_delay = {delay}; set \
         hot_standby_feedback = on or max_standby_streaming_delay = -1 there, or read the primary"
    );
    Err(PostgresError::Unsuitable { place: address.to_string(), reason })
}

fn standby_setting(leader: &Client, name: &str) -> Result<String, PostgresError> {
    leader.value("asking for the standby's settings", &format!("SHOW {name}"))
}

/// What tells a server and its database from others.
struct ServerIdentity {
    facts: BTreeMap<String, String>,
    /// What could not be learned, and why.
    notes: Vec<String>,
}

impl ServerIdentity {
    const DOING: &str = "asking for the server's identity";

    /// Asks outside the image's transaction, which an error would end.
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
        let value = leader.value(Self::DOING, sql)?;
        self.facts.insert(name.to_owned(), value);
        Ok(())
    }

    /// A column of a function that not every role may call.
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
        self.notes.push(format!("the role may not call {function}(), so that the server's {name} is not known"));
        Ok(())
    }
}
