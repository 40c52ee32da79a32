//! Looks after those who wait behind an image's locks: when somebody has waited for too long, the image's sessions are
//! ended. Who waits behind us has everybody else waiting behind him; no backup is worth that.
//!
//! Sessions are ended, not queries cancelled: an idle transaction has no query to cancel, but holds its locks.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::engine::postgres::backup::image::Sessions;
use crate::engine::postgres::connect::address::Address;
use crate::engine::postgres::connect::client::Client;
use crate::engine::postgres::connect::error::PostgresError;
use crate::engine::postgres::connect::login::connect;

/// How long others may wait unless somebody says otherwise.
pub const PATIENCE: Duration = Duration::from_secs(30);
const INTERVAL: Duration = Duration::from_secs(1);

/// Those who wait for a lock and are kept from it by one of `$1`. The blocking processes are asked for only where
/// somebody waits: it costs the server's lock table a moment's standstill.
const WAITING: &str = "WITH waiting AS MATERIALIZED (SELECT DISTINCT pid, relation FROM pg_catalog.pg_locks \
     WHERE NOT granted AND pid <> ALL ($1)) \
     SELECT w.pid, w.relation::pg_catalog.regclass::text, pg_catalog.left(a.query, 1000), \
     pg_catalog.to_char(a.query_start AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') \
     FROM waiting AS w LEFT JOIN pg_catalog.pg_stat_activity AS a USING (pid) \
     WHERE pg_catalog.pg_blocking_pids(w.pid) && $1";

/// Commands that need a lock which ours keeps from them, then those that queue up behind these. Nothing else of what others ask is told: it may hold data.
const COMMANDS: &[&str] = &[
    "ALTER TABLE",
    "ALTER INDEX",
    "ALTER VIEW",
    "ALTER SEQUENCE",
    "ALTER MATERIALIZED VIEW",
    "CREATE TRIGGER",
    "CREATE OR REPLACE TRIGGER",
    "CREATE RULE",
    "CREATE OR REPLACE RULE",
    "CREATE OR REPLACE VIEW",
    "CREATE POLICY",
    "ALTER POLICY",
    "DROP TABLE",
    "DROP INDEX",
    "DROP VIEW",
    "DROP SCHEMA",
    "DROP SEQUENCE",
    "DROP TRIGGER",
    "DROP POLICY",
    "DROP",
    "TRUNCATE",
    "CLUSTER",
    "VACUUM",
    "REINDEX",
    "REFRESH MATERIALIZED VIEW",
    "LOCK",
    "SELECT",
    "INSERT",
    "UPDATE",
    "DELETE",
];

/// A session of its own that looks every second; ends when dropped.
pub struct LockWatchdog {
    client: Arc<Client>,
    verdict: Arc<Mutex<Option<String>>>,
    place: String,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl LockWatchdog {
    /// Begins to watch over `sessions`, those that join later too.
    pub fn begin(address: &Arc<Address>, sessions: Sessions, wait_limit: Duration) -> Result<Self, PostgresError> {
        let client = Arc::new(session(address)?);
        let verdict = Arc::new(Mutex::new(None));
        let (stop, stopped) = channel();
        let told = Arc::clone(&verdict);
        let (of_thread, way) = (Arc::clone(&client), Arc::clone(address));
        let run = move || look_on(of_thread, &way, (&sessions, wait_limit), (&told, &stopped));
        let thread = std::thread::Builder::new().name("lock-watch".to_owned()).spawn(run);
        let place = address.to_string();
        let thread = thread.map_err(|error| PostgresError::Failed {
            doing: "starting to look after those who wait".to_owned(),
            reason: error.to_string(),
            state: None,
        })?;
        Ok(Self { client, verdict, place, stop: Some(stop), thread: Some(thread) })
    }

    /// Its session, which sees what is now, not the image.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Why the sessions were ended, if they were. A watch that lost its own session has ended nothing.
    #[must_use]
    pub fn verdict(&self) -> Option<PostgresError> {
        let reason = self.verdict.lock().unwrap_or_else(PoisonError::into_inner).clone();
        reason.map(|reason| PostgresError::GaveWay { place: self.place.clone(), reason })
    }

    /// What to tell of an error in one of the sessions: that we ended them, if so.
    #[must_use]
    pub fn explain(&self, error: PostgresError) -> PostgresError {
        self.verdict().unwrap_or(error)
    }
}

impl Drop for LockWatchdog {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It does not panic; if it did, the reading is no worse for it.
            thread.join().ok();
        }
    }
}

/// Who waits, and for what.
struct Waiter {
    pid: i32,
    table: Option<String>,
    query: Option<String>,
    since: Option<String>,
}

/// A session that looks on.
fn session(address: &Address) -> Result<Client, PostgresError> {
    let client = connect(address)?;
    // So that messages name tables with their schemas.
    client.execute("preparing the watch", "SET search_path = ''; SET statement_timeout = 0")?;
    Ok(client)
}

fn look_on(
    mut client: Arc<Client>,
    address: &Address,
    (sessions, wait_limit): (&Sessions, Duration),
    (verdict, stopped): (&Mutex<Option<String>>, &Receiver<()>),
) {
    let mut seen: HashMap<i32, Instant> = HashMap::new();
    while stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
        let pids = sessions.pids();
        let Ok(waiting) = waiters(&client, &pids) else {
            // Somebody may have ended this session alone; a server that is gone ends the reading by itself.
            if let Ok(another) = session(address) {
                client = Arc::new(another);
            }
            continue;
        };
        let now = Instant::now();
        seen.retain(|pid, _| waiting.iter().any(|waiter| waiter.pid == *pid));
        let too_long = waiting.iter().find(|waiter| {
            let since = *seen.entry(waiter.pid).or_insert(now);
            now.duration_since(since) >= wait_limit
        });
        if let Some(waiter) = too_long {
            // Said first, so that whoever loses his session finds the reason.
            *verdict.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason(waiter, wait_limit));
            let end = "SELECT pg_catalog.pg_terminate_backend(pid) FROM unnest($1::int4[]) AS pid";
            if client.query("ending the image's sessions", end, &[&pids]).is_ok() {
                return;
            }
        }
    }
}

fn waiters(client: &Client, pids: &[i32]) -> Result<Vec<Waiter>, PostgresError> {
    let rows = client.query("looking for those who wait", WAITING, &[&pids])?;
    let one =
        |row: &tokio_postgres::Row| Waiter { pid: row.get(0), table: row.get(1), query: row.get(2), since: row.get(3) };
    Ok(rows.iter().map(one).collect())
}

fn reason(waiter: &Waiter, wait_limit: Duration) -> String {
    let table = waiter.table.as_deref().unwrap_or("a lock");
    let command = waiter.query.as_deref().and_then(command).map(|command| format!(" with {command}"));
    let command = command.unwrap_or_default();
    let since = waiter.since.as_deref().map(|since| format!(" begun {since}")).unwrap_or_default();
    format!("process {}{command}{since} waited {} s for {table} behind us", waiter.pid, wait_limit.as_secs())
}

/// The likeliest to wait of these statements, in our own words. A semicolon in a literal cuts a statement too early, at
/// the worst into another command of the list.
fn command(query: &str) -> Option<&'static str> {
    let is_it = |statement: &str, command: &str| {
        let mut words =
            statement.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| !word.is_empty());
        command.split(' ').all(|word| words.next().is_some_and(|other| other.eq_ignore_ascii_case(word)))
    };
    COMMANDS.iter().find(|command| query.split(';').any(|statement| is_it(statement, command))).copied()
}

#[cfg(test)]
mod tests {
    use super::command;

    #[test]
    fn commands_are_told_and_nothing_that_is_in_them() {
        for (query, told) in [
            ("ALTER TABLE users ADD COLUMN a text DEFAULT 'secret'", Some("ALTER TABLE")),
            ("SET statement_timeout = '5s'; alter\n  table users ADD COLUMN a int", Some("ALTER TABLE")),
            ("SELECT 1; DROP FUNCTION f", Some("DROP")),
            ("TRUNCATE users", Some("TRUNCATE")),
            ("DROPS users", None),
            ("", None),
            ("<insufficient privilege>", None),
            ("/* secret */", None),
        ] {
            assert_eq!(command(query), told, "{query}");
        }
    }
}
