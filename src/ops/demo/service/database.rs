//! The service and its database file: it is created, used, copied and lost.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::base::env::SharedEnv;
use crate::engine::contract::EngineError;
use crate::ops::demo::service::data::{Maker, SCHEMA};
use crate::ops::demo::service::day::{Day, live};
use crate::ops::demo::service::random::Random;

/// Number of rows by table.
pub type Holdings = BTreeMap<String, u64>;

/// Counts the rows of the database at `path`.
/// Fails if SQLite cannot open or read it.
pub fn holdings(path: &Path) -> Result<Holdings, EngineError> {
    let count = || -> rusqlite::Result<Holdings> {
        let conn = Connection::open(path)?;
        let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'";
        let mut statement = conn.prepare(sql)?;
        let names = statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()?;
        let rows = |name: &String| {
            let count: i64 = conn.query_row(&format!("SELECT count(*) FROM {name}"), [], |row| row.get(0))?;
            Ok((name.clone(), count.cast_unsigned()))
        };
        names.iter().map(rows).collect()
    };
    count().map_err(|error| failed("count rows", &error))
}

/// A service and its open database.
pub struct Service {
    path: PathBuf,
    env: SharedEnv,
    random: Random,
    conn: Connection,
}

impl Service {
    /// Creates a service with `users` users, in a new database at `path`.
    /// Fails if the database cannot be created or written.
    pub fn create(path: &Path, users: u32, env: SharedEnv) -> Result<Self, EngineError> {
        let failed = |error: rusqlite::Error| failed("create the service's database", &error);
        let conn = open_new(path).map_err(failed)?;
        let mut service = Self { path: path.to_owned(), random: Random::new(&*env), env, conn };
        service.fill(users).map_err(failed)?;
        Ok(service)
    }

    fn fill(&mut self, users: u32) -> rusqlite::Result<()> {
        // If the process ends early, the database is worthless, so there is no need to wait for the disk.
        self.conn.execute_batch("PRAGMA synchronous = OFF; BEGIN")?;
        let sql = "INSERT INTO settings VALUES ('quota', 5000000000), ('motd', 'Welcome'), ('ratio', 0.75), ('logo', x'89504e47')";
        self.conn.execute_batch(sql)?;
        for _ in 0..users {
            self.maker().user()?;
        }
        self.conn.execute_batch("COMMIT")
    }

    fn maker(&mut self) -> Maker<'_> {
        Maker { conn: &self.conn, random: &mut self.random, now_s: self.env.now().0 / 1_000_000 }
    }

    /// Path of its database.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Simulates a day: some users change some of their data.
    /// Fails if the database cannot be written.
    pub fn live_a_day(&mut self) -> Result<Day, EngineError> {
        live(&mut self.maker()).map_err(|error| failed("simulate a day", &error))
    }

    /// Size of the database in bytes.
    /// Fails if the database cannot be read.
    pub fn size_bytes(&self) -> Result<u64, EngineError> {
        let pages = |name: &str| self.conn.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0));
        let size = pages("page_count").and_then(|count| Ok(count * pages("page_size")?));
        size.map(|size| u64::try_from(size).unwrap_or(0)).map_err(|error| failed("measure the database", &error))
    }

    /// Number of users.
    /// Fails if the database cannot be read.
    pub fn users(&self) -> Result<u64, EngineError> {
        let count = self.conn.query_row("SELECT count(*) FROM users", [], |row| row.get::<_, i64>(0));
        count.map(|count| u64::try_from(count).unwrap_or(0)).map_err(|error| failed("count the users", &error))
    }

    /// Copies the current state of the database, page by page.
    /// Fails if the database cannot be read, or `path` cannot be written.
    pub fn copy_to(&self, path: &Path) -> Result<(), EngineError> {
        self.conn
            .backup(rusqlite::MAIN_DB, path, None::<fn(rusqlite::backup::Progress)>)
            .map_err(|error| failed("copy the database", &error))
    }

    /// The disaster: replaces the database with an empty one that has the same schema.
    /// Fails if the empty database cannot be created or renamed.
    pub fn lose_everything(mut self) -> Result<(), EngineError> {
        let doing = "replace the database with an empty one";
        let empty = self.path.with_extension("empty");
        let made = open_new(&empty).map_err(|error| failed(doing, &error))?;
        made.close().map_err(|(_, error)| failed(doing, &error))?;
        let placeholder = Connection::open_in_memory().map_err(|error| failed(doing, &error))?;
        // The last connection that closes empties and removes the write-ahead log.
        let conn = std::mem::replace(&mut self.conn, placeholder);
        conn.close().map_err(|(_, error)| failed(doing, &error))?;
        std::fs::rename(&empty, &self.path)
            .map_err(|error| EngineError::Failed { doing: doing.to_owned(), reason: error.to_string() })
    }
}

fn open_new(path: &Path) -> rusqlite::Result<Connection> {
    let conn = Connection::open(path)?;
    conn.execute_batch("PRAGMA journal_mode = WAL; PRAGMA foreign_keys = ON")?;
    conn.execute_batch(SCHEMA)?;
    Ok(conn)
}

/// SQLite's error while `doing` something.
pub(super) fn failed(doing: &str, error: &rusqlite::Error) -> EngineError {
    EngineError::Failed { doing: doing.to_owned(), reason: error.to_string() }
}
