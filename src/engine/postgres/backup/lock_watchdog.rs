//! Protects sessions that wait for an image's locks: when one has waited too long, the image's sessions are terminated.
//! Everybody else queues up behind the session that waits for us, and no backup is worth that.
//!
//! Sessions are terminated instead of queries cancelled, because an idle transaction has no query to cancel but holds
//! its locks.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio_postgres::Row;

use crate::base::pipeline::lock;
use crate::engine::postgres::backup::image::Sessions;
use crate::engine::postgres::connect::address::Address;
use crate::engine::postgres::connect::client::Client;
use crate::engine::postgres::connect::error::PostgresError;
use crate::engine::postgres::connect::login::connect;

const INTERVAL: Duration = Duration::from_secs(1);

/// Sessions that wait for a lock and are blocked by one of `$1`. `pg_blocking_pids` is called only for sessions that
/// wait, because it briefly locks the whole lock table.
const WAITING: &str = "WITH waiting AS MATERIALIZED (SELECT DISTINCT pid, relation FROM pg_catalog.pg_locks \
     WHERE NOT granted AND pid <> ALL ($1)) \
     SELECT w.pid, w.relation::pg_catalog.regclass::text, pg_catalog.left(a.query, 1000), \
     pg_catalog.to_char(a.query_start AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') \
     FROM waiting AS w LEFT JOIN pg_catalog.pg_stat_activity AS a USING (pid) \
     WHERE pg_catalog.pg_blocking_pids(w.pid) && $1";

const END_SESSIONS: &str = "SELECT pg_catalog.pg_terminate_backend(pid) FROM unnest($1::int4[]) AS pid";

/// Commands that our locks block, then commands that can queue up behind those. Nothing else of another session's
/// statement is shown, because it may contain data.
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

/// A session that checks once per second. Stops when dropped.
pub struct LockWatchdog {
    client: Arc<Client>,
    verdict: Arc<EndReason>,
    place: String,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Why the sessions were terminated, once they are.
#[derive(Default)]
struct EndReason(Mutex<Option<String>>);

impl EndReason {
    /// Sets the reason before `terminate` runs, so that a reader that loses its session finds it. Removes it if
    /// `terminate` fails. Returns whether it succeeded.
    fn set_for(&self, reason: String, terminate: impl FnOnce() -> bool) -> bool {
        *lock(&self.0) = Some(reason);
        let is_terminated = terminate();
        if !is_terminated {
            *lock(&self.0) = None;
        }
        is_terminated
    }

    fn get(&self) -> Option<String> {
        lock(&self.0).clone()
    }
}

impl LockWatchdog {
    /// Starts to watch `sessions`, including sessions that join later.
    /// Fails if its session cannot be opened or its thread cannot be started.
    pub fn begin(address: &Arc<Address>, sessions: Sessions, wait_limit: Duration) -> Result<Self, PostgresError> {
        let client = Arc::new(session(address)?);
        let verdict = Arc::new(EndReason::default());
        let watch = Watch {
            client: Arc::clone(&client),
            address: Arc::clone(address),
            sessions,
            wait_limit,
            verdict: Arc::clone(&verdict),
            waiting_since: HashMap::new(),
        };
        let (stop, stopped) = channel();
        let thread = start(watch, stopped)?;
        Ok(Self { client, verdict, place: address.to_string(), stop: Some(stop), thread: Some(thread) })
    }

    /// The watchdog's own session, which is not part of the image and sees the database as of now.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Why the sessions were terminated, or None if they were not. A watchdog that lost its own session has terminated
    /// nothing.
    #[must_use]
    pub fn verdict(&self) -> Option<PostgresError> {
        let reason = self.verdict.get()?;
        Some(PostgresError::Yielded { place: self.place.clone(), reason })
    }

    /// The cause of an error in one of the image's sessions: the verdict if there is one, else the error itself.
    #[must_use]
    pub fn explain(&self, error: PostgresError) -> PostgresError {
        self.verdict().unwrap_or(error)
    }
}

impl Drop for LockWatchdog {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // The thread does not panic. If it did, the read would not be affected.
            thread.join().ok();
        }
    }
}

fn start(mut watch: Watch, stopped: Receiver<()>) -> Result<JoinHandle<()>, PostgresError> {
    let thread = std::thread::Builder::new().name("lock-watch".to_owned());
    thread.spawn(move || watch.run(&stopped)).map_err(|error| PostgresError::Failed {
        doing: "starting the lock watchdog".to_owned(),
        reason: error.to_string(),
        state: None,
    })
}

/// Opens the watchdog's session.
fn session(address: &Address) -> Result<Client, PostgresError> {
    let client = connect(address)?;
    // So that messages show table names with their schemas.
    client.execute("preparing the lock watchdog's session", "SET search_path = ''; SET statement_timeout = 0")?;
    Ok(client)
}

/// The state of the watchdog's thread.
struct Watch {
    client: Arc<Client>,
    address: Arc<Address>,
    sessions: Sessions,
    wait_limit: Duration,
    verdict: Arc<EndReason>,
    /// Keyed by process id.
    waiting_since: HashMap<i32, Instant>,
}

impl Watch {
    /// Checks until the watchdog is dropped or has terminated the sessions.
    fn run(&mut self, stopped: &Receiver<()>) {
        let mut ended = false;
        while !ended && stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
            ended = self.look();
        }
    }

    /// Whether the sessions were terminated.
    fn look(&mut self) -> bool {
        let pids = self.sessions.pids();
        let Ok(waiting) = waiters(&self.client, &pids) else {
            self.connect_again();
            return false;
        };
        let waiter = self.waiting_too_long(&waiting);
        waiter.is_some_and(|waiter| self.end_sessions(&pids, waiter))
    }

    /// Only this session may be gone. If the whole server is gone, the read fails on its own.
    fn connect_again(&mut self) {
        if let Ok(client) = session(&self.address) {
            self.client = Arc::new(client);
        }
    }

    fn waiting_too_long<'w>(&mut self, waiting: &'w [Waiter]) -> Option<&'w Waiter> {
        self.waiting_since.retain(|pid, _| waiting.iter().any(|waiter| waiter.pid == *pid));
        let now = Instant::now();
        waiting.iter().find(|waiter| {
            let since = *self.waiting_since.entry(waiter.pid).or_insert(now);
            now.duration_since(since) >= self.wait_limit
        })
    }

    fn end_sessions(&self, pids: &[i32], waiter: &Waiter) -> bool {
        self.verdict.set_for(waiter.reason(self.wait_limit), || {
            self.client.query("terminating the image's sessions", END_SESSIONS, &[&pids]).is_ok()
        })
    }
}

/// A process that waits for one of the image's locks.
struct Waiter {
    pid: i32,
    table: Option<String>,
    query: Option<String>,
    since: Option<String>,
}

impl Waiter {
    fn of(row: &Row) -> Self {
        Self { pid: row.get(0), table: row.get(1), query: row.get(2), since: row.get(3) }
    }

    fn reason(&self, wait_limit: Duration) -> String {
        let table = self.table.as_deref().unwrap_or("a lock");
        format!("{} waited {} s for {table} behind our locks", self.description(), wait_limit.as_secs())
    }

    fn description(&self) -> String {
        let mut description = format!("process {}", self.pid);
        if let Some(command) = self.query.as_deref().and_then(command) {
            description.push_str(&format!(" running {command}"));
        }
        if let Some(since) = &self.since {
            description.push_str(&format!(" since {since}"));
        }
        description
    }
}

fn waiters(client: &Client, pids: &[i32]) -> Result<Vec<Waiter>, PostgresError> {
    client.query_as("listing sessions that wait for our locks", WAITING, &[&pids], Waiter::of)
}

/// The first of [`COMMANDS`] that one of these statements begins with, as listed there. A semicolon inside a literal
/// splits a statement too early, which at worst shows another command of the list.
fn command(query: &str) -> Option<&'static str> {
    COMMANDS.iter().copied().find(|command| query.split(';').any(|statement| is_command(statement, command)))
}

/// Whether a statement begins with the words of a command.
fn is_command(statement: &str, command: &str) -> bool {
    let mut words = words(statement);
    command.split(' ').all(|expected| words.next().is_some_and(|word| word.eq_ignore_ascii_case(expected)))
}

fn words(statement: &str) -> impl Iterator<Item = &str> {
    statement.split(|c: char| !is_word_char(c)).filter(|word| !word.is_empty())
}

fn is_word_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::{EndReason, command};

    #[test]
    fn sessions_that_could_not_be_terminated_have_no_verdict() {
        let verdict = EndReason::default();
        assert!(!verdict.set_for("a lock".to_owned(), || verdict.get().is_none()));
        assert_eq!(verdict.get(), None);
        assert!(verdict.set_for("a lock".to_owned(), || verdict.get().is_some()));
        assert_eq!(verdict.get().as_deref(), Some("a lock"));
    }

    #[test]
    fn a_command_is_shown_without_its_contents() {
        for (query, expected) in [
            ("ALTER TABLE users ADD COLUMN a text DEFAULT 'secret'", Some("ALTER TABLE")),
            ("SET statement_timeout = '5s'; alter\n  table users ADD COLUMN a int", Some("ALTER TABLE")),
            ("SELECT 1; DROP FUNCTION f", Some("DROP")),
            ("TRUNCATE users", Some("TRUNCATE")),
            ("DROPS users", None),
            ("", None),
            ("<insufficient privilege>", None),
            ("/* secret */", None),
        ] {
            assert_eq!(command(query), expected, "{query}");
        }
    }
}
