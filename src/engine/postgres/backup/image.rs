//! One consistent image of a database for several sessions: a leader holds it open and the tables locked, workers
//! join it. What is read in any of them is as of the same moment.
//!
//! Let it go as soon as everything is read: as long as it is open, the server can clean nothing up and nobody can
//! alter the tables.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::base::time::Moment;
use crate::engine::postgres::connect::address::Address;
use crate::engine::postgres::connect::client::Client;
use crate::engine::postgres::connect::error::PostgresError;
use crate::engine::postgres::connect::login::{connect, connect_with_endpoint};
use crate::engine::postgres::connect::session::{encoding, number, pid, pooled, prepare};

const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY";
/// Tables in one LOCK statement.
const LOCK_BATCH: usize = 500;

/// The file and the columns of each table: as the image has them, or as they are now if asked outside of it.
const FORMS: &str = "SELECT name, c.relfilenode, \
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

/// Whether a worker holds a table's lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LockClaim {
    Held,
    /// Somebody queues up behind the leader's lock: only the leader may read that table.
    SomebodyWaits,
}

/// The server's processes of an image's sessions, for whoever watches over them.
#[derive(Clone, Default)]
pub struct Sessions(Arc<Mutex<Vec<i32>>>);

impl Sessions {
    fn add(&self, pid: i32) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(pid);
    }

    /// As of now.
    #[must_use]
    pub fn pids(&self) -> Vec<i32> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl PgImage {
    /// Connects and fixes the image. Refuses poolers, and standbys that would cancel the reading.
    pub fn open(address: Arc<Address>) -> Result<Self, PostgresError> {
        let (leader, endpoint) = connect_with_endpoint(&address)?;
        // Who else has to see this image, or to look after it, goes where it is.
        let address = Arc::new(address.with_endpoint(endpoint));
        let own = pid(&leader)?;
        let second = connect(&address)?;
        if let Some(reason) = pooled(own, pid(&second)?, pid(&leader)?) {
            return Err(PostgresError::Unsuitable { place: address.to_string(), reason });
        }
        drop(second);
        let client_encoding = encoding(&leader)?;
        prepare(&leader, &client_encoding)?;
        let role = role(&leader, &address)?;
        let (identity, notes) = identity(&leader)?;
        leader.execute("beginning the image", BEGIN)?;
        let snapshot = leader.value("exporting the image", "SELECT pg_catalog.pg_export_snapshot()")?;
        let facts = ImageFacts {
            clock: clock(&leader)?,
            identity,
            notes,
            version: number(&leader, "asking for the server's version", "SHOW server_version_num")?,
            server_encoding: leader
                .value("asking for the server's encoding", "SELECT current_setting('server_encoding')")?,
            client_encoding,
            role,
        };
        let sessions = Sessions::default();
        sessions.add(own);
        let leader = Arc::new(leader);
        Ok(Self { leader, workers: Vec::new(), sessions, snapshot, facts, address })
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
        worker.execute("beginning a worker's transaction", BEGIN)?;
        let import = format!("SET TRANSACTION SNAPSHOT '{}'", self.snapshot.replace('\'', "''"));
        worker.execute("joining the image", &import).map_err(|error| {
            let reason = format!(
                "a second session cannot join the image ({error}); every connection must reach the same server, \
                 without a pooler or a balancer between"
            );
            PostgresError::Unsuitable { place: self.address.to_string(), reason }
        })?;
        self.sessions.add(own);
        let worker = Arc::new(worker);
        self.workers.push(Arc::clone(&worker));
        Ok(worker)
    }

    /// Locks tables against being altered or dropped, in the leader, which must have asked for nothing else that
    /// could be altered before. `tables` are qualified and quoted names. Waits up to `wait_limit` for each few hundred.
    pub fn lock_tables(&self, tables: &[String], wait_limit: Duration) -> Result<(), PostgresError> {
        let timeout = format!("SET LOCAL lock_timeout = {}", wait_limit.as_millis().clamp(1, i32::MAX as u128));
        self.leader.execute("setting how long to wait for locks", &timeout)?;
        for batch in tables.chunks(LOCK_BATCH) {
            let list: Vec<String> = batch.iter().map(|table| format!("ONLY {table}")).collect();
            let lock = format!("SAVEPOINT lock_tables; LOCK TABLE {} IN ACCESS SHARE MODE", list.join(", "));
            let locked = self.leader.execute("locking the tables", &lock);
            locked.map_err(|error| self.not_locked(error, batch, tables.len()))?;
        }
        self.leader.execute("setting how long to wait for locks", "SET LOCAL lock_timeout = 0")
    }

    /// One of these tables, if any, that was altered after the image began: the image shows no rows of what was
    /// truncated, rewritten or replaced since, and other columns than can be asked for. Ask once they are locked.
    pub(crate) fn altered(&self, tables: &[String]) -> Result<Option<String>, PostgresError> {
        let ask = |client: &Client| client.query("asking whether tables were altered", FORMS, &[&tables]);
        let (then, now) = (ask(&self.leader)?, ask(&connect(&self.address)?)?);
        let form = |row: &tokio_postgres::Row| (row.get::<_, Option<u32>>(1), row.get::<_, Option<i64>>(2));
        let mut both = then.iter().zip(&now);
        Ok(both.find(|(then, now)| form(then) != form(now)).map(|(then, _)| then.get(0)))
    }

    /// Locks a table in a session, before it reads there; with all partitions unless it has ONLY before it. Does not
    /// wait: who queues up behind the leader's lock would have a worker queue up behind him, for ever.
    pub fn claim(&self, session: &Client, table: &str) -> Result<LockClaim, PostgresError> {
        let lock = format!("SAVEPOINT claim; LOCK TABLE {table} IN ACCESS SHARE MODE NOWAIT; RELEASE SAVEPOINT claim");
        match session.execute(&format!("locking {table}"), &lock) {
            Ok(()) => Ok(LockClaim::Held),
            Err(error) if error.state() == Some("55P03") => {
                session.execute("going on without a lock", "ROLLBACK TO SAVEPOINT claim; RELEASE SAVEPOINT claim")?;
                Ok(LockClaim::SomebodyWaits)
            }
            Err(error) => Err(error),
        }
    }

    /// Ends all of the image's transactions and sessions.
    pub fn release(self) -> Result<(), PostgresError> {
        let mut released = Ok(());
        for session in self.workers.iter().chain([&self.leader]) {
            // Each is tried; the first error is told.
            let ended = session.execute("ending the image", "ROLLBACK");
            released = released.and(ended);
        }
        released
    }

    fn not_locked(&self, error: PostgresError, batch: &[String], count: usize) -> PostgresError {
        let place = self.address.to_string();
        match error.state() {
            Some("55P03") => PostgresError::Unsuitable { place, reason: self.holders(batch) },
            Some("53200") => {
                let reason = format!(
                    "the server has no room for the locks of {count} tables; raise max_locks_per_transaction there and \
                     restart it (needed is at least {count} divided by max_connections)"
                );
                PostgresError::Unsuitable { place, reason }
            }
            _ => error,
        }
    }

    /// Who keeps us from locking these tables.
    fn holders(&self, tables: &[String]) -> String {
        let sql = "SELECT l.pid, l.relation::pg_catalog.regclass::text FROM pg_catalog.pg_locks AS l \
                   WHERE l.granted AND l.mode = 'AccessExclusiveLock' AND l.locktype = 'relation' \
                   AND l.relation = ANY (SELECT pg_catalog.to_regclass(t)::oid FROM unnest($1::text[]) AS t)";
        let asked = self.leader.execute("going back", "ROLLBACK TO SAVEPOINT lock_tables");
        let rows =
            asked.and_then(|()| self.leader.query("asking who holds locks", sql, &[&tables])).unwrap_or_default();
        let one = |row: &tokio_postgres::Row| {
            let pid: Option<i32> = row.get(0);
            let holder = pid.map_or_else(|| "a prepared transaction".to_owned(), |pid| format!("process {pid}"));
            format!("{} by {holder}", row.get::<_, String>(1))
        };
        let held: Vec<String> = rows.iter().map(one).collect();
        let held = if held.is_empty() { "a table by somebody".to_owned() } else { held.join(", ") };
        format!("tables are locked: {held}; try again when that is done")
    }
}

/// When the leader's transaction began.
fn clock(leader: &Client) -> Result<Moment, PostgresError> {
    let doing = "asking for the server's clock";
    let sql = "SELECT pg_catalog.to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')";
    let text = leader.value(doing, sql)?;
    text.parse().map_err(|error| PostgresError::Failed {
        doing: doing.to_owned(),
        reason: format!("{error}"),
        state: None,
    })
}

/// Primary, or a standby that lets us read to the end: one that never cancels, or keeps what we read from being cleaned
/// up on its primary.
pub(crate) fn role(leader: &Client, address: &Address) -> Result<ServerRole, PostgresError> {
    if leader.value("asking for the server's role", "SELECT pg_catalog.pg_is_in_recovery()::text")? == "false" {
        return Ok(ServerRole::Primary);
    }
    let setting = |name: &str| leader.value("asking for the standby's settings", &format!("SHOW {name}"));
    let (delay, feedback) = (setting("max_standby_streaming_delay")?, setting("hot_standby_feedback")?);
    if delay != "-1" && feedback == "off" {
        let reason = format!(
            "this standby cancels what reads for longer than max_standby_streaming_delay = {delay}; set \
             hot_standby_feedback = on or max_standby_streaming_delay = -1 there, or read the primary"
        );
        return Err(PostgresError::Unsuitable { place: address.to_string(), reason });
    }
    Ok(ServerRole::Standby)
}

/// Outside the image's transaction, which an error would end.
fn identity(leader: &Client) -> Result<(BTreeMap<String, String>, Vec<String>), PostgresError> {
    let doing = "asking for the server's identity";
    let database = "SELECT oid::text FROM pg_catalog.pg_database WHERE datname = current_database()";
    let mut identity = BTreeMap::from([
        ("database".to_owned(), leader.value(doing, "SELECT current_database()")?),
        ("database_oid".to_owned(), leader.value(doing, database)?),
        ("server_version".to_owned(), leader.value(doing, "SELECT current_setting('server_version')")?),
    ]);
    let mut notes = Vec::new();
    let controlled = [
        ("system_identifier", "pg_control_system", "system_identifier"),
        ("timeline", "pg_control_checkpoint", "timeline_id"),
    ];
    for (name, function, column) in controlled {
        let may = format!("SELECT pg_catalog.has_function_privilege('pg_catalog.{function}()', 'EXECUTE')::text");
        if leader.value(doing, &may)? == "true" {
            let sql = format!("SELECT {column}::text FROM pg_catalog.{function}()");
            identity.insert(name.to_owned(), leader.value(doing, &sql)?);
        } else {
            notes.push(format!("the role may not call {function}(), so that the server's {name} is not known"));
        }
    }
    Ok((identity, notes))
}
