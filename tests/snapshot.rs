//! A database into a repository and back, through the library: everything equal, nights cheap.

#[path = "common_sqlite/mod.rs"]
mod common_sqlite;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::Connection;
use sidekeep::base::cancel::Cancel;
use sidekeep::base::env::{Seeded, SharedEnv};
use sidekeep::base::progress::Silent;
use sidekeep::base::role::Role;
use sidekeep::crypto::keyfile::{KeyFile, Protection};
use sidekeep::crypto::role::Identity;
use sidekeep::ops::backup::{self, BackupMode, BackupOptions, BackupReport};
use sidekeep::ops::init::Init;
use sidekeep::ops::restore::{self, RestoreOptions, RestoreReport};
use sidekeep::ops::select::Selector;
use sidekeep::repo::io::Objects;
use sidekeep::repo::open::{Repository, Unlocked};
use sidekeep::source::catalog::PlacementConfig;
use sidekeep::source::sqlite::{SqliteSource, SqliteTarget};
use sidekeep::store::{Location, OpenOptions, Store};

struct World {
    dir: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
    env: SharedEnv,
    keys: Vec<(Role, String)>,
}

impl World {
    fn new() -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        let dir = tempfile::tempdir().expect("a directory");
        let env: SharedEnv = Arc::new(Seeded::new(7));
        let mut world = Self { dir, runtime, env, keys: Vec::new() };
        let location: Location = world.path("store").to_str().expect("utf-8").parse().expect("a location");
        let store = Store::create_at(&location, &OpenOptions::default()).expect("a store");
        let objects = Objects::new(store, world.runtime.handle().clone());
        let init = Init::create(objects, world.env.clone(), "test").expect("a repository");
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

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn unlock(&self, role: Role) -> Unlocked {
        let location: Location = self.path("store").to_str().expect("utf-8").parse().expect("a location");
        let store = Store::open(&location).expect("a store");
        let objects = Objects::new(store, self.runtime.handle().clone());
        let text = &self.keys.iter().find(|(found, _)| *found == role).expect("a key").1;
        Repository::open(objects, self.env.clone()).expect("opens").unlock(open_key(text)).expect("unlocks")
    }

    fn backup(&self, database: &Path) -> BackupReport {
        let mut unlocked = self.unlock(Role::Operator);
        let options = BackupOptions {
            source: unlocked.find_source(None).expect("a source"),
            tags: Vec::new(),
            workers: 2,
            spill_dir: self.dir.path().to_owned(),
            placement: PlacementConfig::default(),
            mode: BackupMode::Commit,
            progress: Arc::new(Silent),
            cancel: Cancel::default(),
        };
        let mut source = SqliteSource::open(database, self.env.clone()).expect("a source");
        backup::run(&mut unlocked, &mut source, &options).expect("a snapshot")
    }

    fn restore(&self, to: &Path) -> RestoreReport {
        let unlocked = self.unlock(Role::Admin);
        let options = RestoreOptions {
            source: unlocked.find_source(None).expect("a source"),
            snapshot: Selector::Latest(0),
            tables: Vec::new(),
            spill_dir: self.dir.path().to_owned(),
            progress: Arc::new(Silent),
            cancel: Cancel::default(),
        };
        let mut target = SqliteTarget::create(to, &self.env).expect("a target");
        restore::run(&unlocked, &mut target, &options).expect("a restore")
    }
}

fn open_key(text: &str) -> Identity {
    KeyFile::parse(text).expect("a key file").open(None).expect("no passphrase")
}

const SCHEMA: &str = "
PRAGMA journal_mode = WAL;
CREATE TABLE users (id INTEGER PRIMARY KEY, email TEXT NOT NULL UNIQUE, avatar TEXT REFERENCES photos (id) ON DELETE SET NULL);
CREATE TABLE photos (id TEXT PRIMARY KEY, user_id INTEGER NOT NULL REFERENCES users (id), thumb BLOB, full BLOB);
CREATE TABLE contacts (id TEXT PRIMARY KEY, user_id INTEGER REFERENCES users (id), name TEXT, note TEXT);
CREATE TABLE fields (id INTEGER PRIMARY KEY, contact_id TEXT REFERENCES contacts (id), value);
CREATE TABLE shares (contact_id TEXT REFERENCES contacts (id), user_id INTEGER REFERENCES users (id), PRIMARY KEY (contact_id, user_id)) WITHOUT ROWID;
CREATE TABLE log (seq INTEGER PRIMARY KEY AUTOINCREMENT, user_id INTEGER REFERENCES users (id), what TEXT);
CREATE TABLE settings (name TEXT, value);
CREATE INDEX contacts_user ON contacts (user_id);
";

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn fill(db: &Connection, users: i64) {
    db.execute_batch(SCHEMA).expect("a schema");
    db.execute_batch("PRAGMA foreign_keys = OFF; BEGIN").expect("begins");
    for user in 1..=users {
        db.execute("INSERT INTO users VALUES (?1, ?2, NULL)", (user, format!("u{user}@example.org"))).expect("a user");
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
        if user % 3 == 0 {
            let (thumb, full) =
                (noise(user as u64, 3000), noise(user as u64 + 1_000_000, 40_000 + user as usize * 500));
            db.execute("INSERT INTO photos VALUES (?1, ?2, ?3, ?4)", (format!("p{user}"), user, thumb, full))
                .expect("a photo");
        }
        db.execute("INSERT INTO log (user_id, what) VALUES (?1, 'joined')", [user]).expect("a line");
    }
    db.execute_batch(
        "INSERT INTO contacts VALUES ('orphan', 999999, 'nobody', NULL), ('none', NULL, 'nobody', NULL);
        INSERT INTO settings VALUES ('a', 1), ('a', 1), ('b', x'00ff'), (NULL, 1.5);
        COMMIT",
    )
    .expect("commits");
}

#[test]
fn a_database_comes_back_and_the_next_night_is_cheap() {
    let world = World::new();
    let database = world.path("live.sqlite");
    let db = Connection::open(&database).expect("a database");
    fill(&db, 400);
    let first = world.backup(&database);
    let tables: Vec<_> = first.tables.iter().map(|t| (t.name.as_str(), t.rows, t.orphans, t.leaves)).collect();
    println!("{tables:?} {first:?}");
    assert!(first.gaps.is_empty(), "{:?}", first.gaps);
    let back = world.path("back.sqlite");
    let restored = world.restore(&back);
    assert!(restored.refused.is_empty() && restored.damaged.is_empty(), "{restored:?}");
    assert_eq!(restored.stale_hints, 0);
    common_sqlite::assert_same_database(&database, &back);

    let unchanged = world.backup(&database);
    assert_eq!((unchanged.packs, unchanged.new_bytes), (0, 0), "{unchanged:?}");

    db.execute_batch("UPDATE contacts SET note = 'x' WHERE user_id = 13; DELETE FROM log WHERE seq < 5;
        INSERT INTO log (user_id, what) VALUES (13, 'edited'); UPDATE photos SET full = zeroblob(70000) WHERE id = 'p30'")
        .expect("a day");
    let churn = world.backup(&database);
    println!("{churn:?}");
    assert!(churn.new_bytes < 250_000, "{churn:?}");
    let again = world.path("again.sqlite");
    world.restore(&again);
    common_sqlite::assert_same_database(&database, &again);
}
