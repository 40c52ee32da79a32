//! A repository in memory with all its keys, and a small service's database that fills it.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use object_store::memory::InMemory;
use rusqlite::Connection;
use sidekeep::base::cancel::Cancel;
use sidekeep::base::env::{Seeded, SharedEnv};
use sidekeep::base::id::KeyId;
use sidekeep::base::progress::Silent;
use sidekeep::base::role::Role;
use sidekeep::crypto::keyfile::{KeyFile, Protection};
use sidekeep::crypto::role::Identity;
use sidekeep::ops::backup::{self, BackupMode, BackupOptions, BackupReport};
use sidekeep::ops::error::OpError;
use sidekeep::ops::init::Init;
use sidekeep::ops::restore::{self, RestoreOptions, RestoreReport};
use sidekeep::ops::select::Selector;
use sidekeep::ops::verify::{self, Access, Level, VerifyOptions, VerifyReport, Visit};
use sidekeep::repo::error::RepoError;
use sidekeep::repo::io::Objects;
use sidekeep::repo::open::{Repository, Unlocked};
use sidekeep::source::catalog::PlacementConfig;
use sidekeep::source::sqlite::{SqliteSource, SqliteTarget};
use sidekeep::store::Store;

use crate::common::damage;

/// A repository, its keys and a directory for databases.
pub struct World {
    pub dir: tempfile::TempDir,
    pub runtime: tokio::runtime::Runtime,
    pub env: SharedEnv,
    pub store: Arc<InMemory>,
    keys: Vec<(Role, String)>,
}

impl World {
    pub fn new() -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        let env: SharedEnv = Arc::new(Seeded::new(7));
        let dir = tempfile::tempdir().expect("a directory");
        let mut world = Self { dir, runtime, env, store: Arc::new(InMemory::new()), keys: Vec::new() };
        let init = Init::create(world.objects(), world.env.clone(), "test").expect("a repository");
        let fingerprint = init.fingerprint();
        let write = |identity: &Identity| {
            KeyFile::write(&*world.env, identity, "test", fingerprint, Protection::None)
                .expect("a key file")
                .to_string()
        };
        let texts: Vec<(Role, String)> =
            init.identities().iter().map(|identity| (identity.role(), write(identity))).collect();
        let kept = texts.iter().map(|(_, text)| open_key(text)).collect();
        init.prove(kept, Some("sync")).expect("a proof");
        world.keys = texts;
        world
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn objects(&self) -> Objects {
        let store: Arc<dyn object_store::ObjectStore> = self.store.clone();
        Objects::new(Store::from_object_store(store), self.runtime.handle().clone())
    }

    pub fn open(&self) -> Result<Repository, RepoError> {
        Repository::open(self.objects(), self.env.clone())
    }

    pub fn unlock(&self, role: Role) -> Result<Unlocked, RepoError> {
        let text = &self.keys.iter().find(|(found, _)| *found == role).expect("a key").1;
        self.open()?.unlock(open_key(text))
    }

    pub fn key(&self, role: Role) -> KeyId {
        let text = &self.keys.iter().find(|(found, _)| *found == role).expect("a key").1;
        open_key(text).key_id()
    }

    pub fn backup(&self, database: &Path) -> Result<BackupReport, OpError> {
        let mut unlocked = self.unlock(Role::Operator)?;
        let options = BackupOptions {
            source: unlocked.find_source(None)?,
            tags: Vec::new(),
            workers: 2,
            spill_dir: self.dir.path().to_owned(),
            placement: PlacementConfig::default(),
            mode: BackupMode::Commit,
            pinned: sidekeep::source::catalog::Pinned::Keep,
            progress: Arc::new(Silent),
            cancel: Cancel::default(),
        };
        let mut source = SqliteSource::open(database, self.dir.path().to_owned(), self.env.clone()).expect("a source");
        backup::run(&mut unlocked, &mut source, &options)
    }

    pub fn restore(&self, snapshot: Selector, to: &Path) -> Result<RestoreReport, OpError> {
        self.restore_as(Role::Admin, snapshot, to)
    }

    pub fn restore_as(&self, role: Role, snapshot: Selector, to: &Path) -> Result<RestoreReport, OpError> {
        let unlocked = self.unlock(role)?;
        let options = RestoreOptions {
            source: unlocked.find_source(None)?,
            snapshot,
            tables: Vec::new(),
            spill_dir: self.dir.path().to_owned(),
            progress: Arc::new(Silent),
            cancel: Cancel::default(),
        };
        let mut target = SqliteTarget::create(to, &self.env).expect("a target");
        restore::run(&unlocked, &mut target, &options)
    }

    /// Verifies with the key of `role`; without one for the levels that need none.
    pub fn verify(&self, role: Option<Role>, level: Level) -> Result<VerifyReport, OpError> {
        self.verify_again(role, level, Visit::First)
    }

    pub fn verify_again(&self, role: Option<Role>, level: Level, visit: Visit) -> Result<VerifyReport, OpError> {
        let options = VerifyOptions {
            level,
            source: None,
            snapshots: Vec::new(),
            visit,
            progress: Arc::new(Silent),
            cancel: Cancel::default(),
        };
        match role {
            Some(role) => verify::run(Access::Key(&self.unlock(role)?), &options),
            None => verify::run(Access::Public(&self.open()?), &options),
        }
    }

    pub fn names(&self) -> Vec<String> {
        self.runtime.block_on(damage::names(&*self.store))
    }

    pub fn read(&self, name: &str) -> Bytes {
        self.runtime.block_on(damage::read(&*self.store, name))
    }

    pub fn overwrite(&self, name: &str, bytes: Bytes) {
        self.runtime.block_on(damage::overwrite(&*self.store, name, bytes));
    }

    pub fn delete(&self, name: &str) {
        self.runtime.block_on(damage::delete(&*self.store, name));
    }

    /// Everything that is stored.
    pub fn image(&self) -> Vec<(String, Bytes)> {
        self.names().into_iter().map(|name| (name.clone(), self.read(&name))).collect()
    }

    /// Puts the store back into an earlier state.
    pub fn reset(&mut self, image: &[(String, Bytes)]) {
        self.store = Arc::new(InMemory::new());
        for (name, bytes) in image {
            self.overwrite(name, bytes.clone());
        }
    }
}

fn open_key(text: &str) -> Identity {
    KeyFile::parse(text).expect("a key file").open(None).expect("no passphrase")
}

/// Bytes that do not compress.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

const SCHEMA: &str = "
PRAGMA journal_mode = WAL;
CREATE TABLE users (id INTEGER PRIMARY KEY, email TEXT NOT NULL UNIQUE);
CREATE TABLE photos (id TEXT PRIMARY KEY, user_id INTEGER NOT NULL REFERENCES users (id), thumb BLOB, full BLOB);
CREATE TABLE contacts (id TEXT PRIMARY KEY, user_id INTEGER REFERENCES users (id), name TEXT, note TEXT);
CREATE TABLE fields (id INTEGER PRIMARY KEY, contact_id TEXT REFERENCES contacts (id), value);
CREATE TABLE shares (contact_id TEXT REFERENCES contacts (id), user_id INTEGER REFERENCES users (id), PRIMARY KEY (contact_id, user_id)) WITHOUT ROWID;
CREATE TABLE log (seq INTEGER PRIMARY KEY AUTOINCREMENT, user_id INTEGER REFERENCES users (id), what TEXT);
CREATE TABLE settings (name TEXT, value);
CREATE TABLE empty (id INTEGER PRIMARY KEY);
CREATE TABLE pages (title TEXT PRIMARY KEY, body TEXT);
CREATE INDEX contacts_user ON contacts (user_id);
";

/// A database with owners, rows without, orphans, duplicates, streams and keys that are streams.
pub fn fill(db: &Connection, users: i64) {
    db.execute_batch(SCHEMA).expect("a schema");
    db.execute_batch("PRAGMA foreign_keys = OFF; BEGIN").expect("begins");
    for user in 1..=users {
        db.execute("INSERT INTO users VALUES (?1, ?2)", (user, format!("u{user}@example.org"))).expect("a user");
        for n in 0..(user % 7) {
            let contact = format!("{user}-{n}-{}", noise((user * 100 + n) as u64, 1)[0]);
            db.execute("INSERT INTO contacts VALUES (?1, ?2, ?3, NULL)", (&contact, user, format!("name {n}")))
                .expect("a contact");
            for f in 0..3 {
                db.execute("INSERT INTO fields (contact_id, value) VALUES (?1, ?2)", (&contact, f * n))
                    .expect("a field");
            }
            db.execute("INSERT OR IGNORE INTO shares VALUES (?1, ?2)", (&contact, (user * 31 + n) % users + 1))
                .expect("a share");
        }
        if user % 10 == 0 {
            let (thumb, full) = (noise(user as u64, 900), noise(user as u64 + 1_000_000, 33_000 + user as usize * 700));
            db.execute("INSERT INTO photos VALUES (?1, ?2, ?3, ?4)", (format!("p{user}"), user, thumb, full))
                .expect("a photo");
        }
        db.execute("INSERT INTO log (user_id, what) VALUES (?1, 'joined')", [user]).expect("a line");
    }
    db.execute("INSERT INTO pages VALUES (?1, 'x'), (?2, NULL)", ("k".repeat(40_000), "k".repeat(300)))
        .expect("long keys");
    db.execute_batch(
        "INSERT INTO contacts VALUES ('orphan', 999999, 'nobody', NULL), ('none', NULL, 'nobody', NULL);
        INSERT INTO settings VALUES ('a', 1), ('a', 1), ('b', x'00ff'), (NULL, 1.5);
        COMMIT",
    )
    .expect("commits");
}

/// What a day changes.
pub fn day(db: &Connection, n: i64) {
    db.execute("UPDATE contacts SET note = ?2 WHERE user_id = 13 + ?1", (n, format!("note {n}"))).expect("a note");
    db.execute("UPDATE photos SET full = ?1 WHERE id = 'p30'", [noise(n as u64 + 5_000_000, 70_000)]).expect("a photo");
    db.execute("DELETE FROM log WHERE seq < ?1", [n * 5]).expect("expires");
    db.execute("INSERT INTO log (user_id, what) VALUES (13, ?1)", [format!("day {n}")]).expect("a line");
    db.execute("INSERT INTO users VALUES (?1, ?2)", (10_000 + n, format!("new{n}@example.org"))).expect("a user");
    db.execute("DELETE FROM users WHERE id = ?1", [n * 7]).expect("a user leaves");
}
