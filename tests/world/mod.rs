//! A repository in a temporary directory with all its keys, driven through the library.
#![allow(dead_code, reason = "every test program uses a part of it")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sidekeep::base::cancel::Cancel;
use sidekeep::base::env::{Seeded, SharedEnv};
use sidekeep::base::progress::Silent;
use sidekeep::base::role::Role;
use sidekeep::crypto::keyfile::{KeyFile, Protection};
use sidekeep::crypto::role::Identity;
use sidekeep::ops::backup::{self, BackupMode, BackupOptions, BackupReport};
use sidekeep::ops::error::OpError;
use sidekeep::ops::init::Init;
use sidekeep::ops::restore::{self, RestoreOptions, RestoreReport};
use sidekeep::ops::select::Selector;
use sidekeep::repo::io::Objects;
use sidekeep::repo::open::{Repository, Unlocked};
use sidekeep::source::catalog::{Pinned, PlacementConfig};
use sidekeep::source::sqlite::{SqliteSource, SqliteTarget};
use sidekeep::store::{Location, OpenOptions, Store};

/// A repository, its keys and a place for files.
pub struct World {
    pub dir: tempfile::TempDir,
    pub runtime: tokio::runtime::Runtime,
    pub env: SharedEnv,
    pub keys: Vec<(Role, String)>,
    store: Store,
}

impl World {
    /// A repository in a directory.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let location: Location = dir.path().join("store").to_str().expect("utf-8").parse().expect("a location");
        let store = Store::create_at(&location, &OpenOptions::default()).expect("a store");
        Self::over(dir, store)
    }

    /// A repository in `store`.
    pub fn over(dir: tempfile::TempDir, store: Store) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        let env: SharedEnv = Arc::new(Seeded::new(7));
        let mut world = Self { dir, runtime, env, keys: Vec::new(), store };
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

    /// The same repository through another store, one that fails or records.
    pub fn through(&mut self, store: Store) {
        self.store = store;
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    pub fn objects(&self) -> Objects {
        Objects::new(self.store.clone(), self.runtime.handle().clone())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn repository(&self) -> Repository {
        Repository::open(self.objects(), self.env.clone()).expect("opens")
    }

    pub fn key(&self, role: Role) -> Identity {
        open_key(&self.keys.iter().find(|(found, _)| *found == role).expect("a key").1)
    }

    pub fn unlock(&self, role: Role) -> Unlocked {
        self.repository().unlock(self.key(role)).expect("unlocks")
    }

    pub fn backup_options(&self, unlocked: &Unlocked) -> BackupOptions {
        BackupOptions {
            source: unlocked.find_source(None).expect("a source"),
            tags: Vec::new(),
            workers: 2,
            spill_dir: self.dir.path().to_owned(),
            placement: PlacementConfig::default(),
            pinned: Pinned::Keep,
            mode: BackupMode::Commit,
            progress: Arc::new(Silent),
            cancel: Cancel::default(),
        }
    }

    pub fn backup(&self, database: &Path) -> BackupReport {
        self.try_backup(database).expect("a snapshot")
    }

    pub fn try_backup(&self, database: &Path) -> Result<BackupReport, OpError> {
        let repository = Repository::open(self.objects(), self.env.clone())?;
        let mut unlocked = repository.unlock(self.key(Role::Operator))?;
        let options = self.backup_options(&unlocked);
        let mut source = SqliteSource::open(database, std::env::temp_dir(), self.env.clone())?;
        backup::run(&mut unlocked, &mut source, &options)
    }

    pub fn restore(&self, to: &Path) -> RestoreReport {
        self.try_restore(Selector::Latest(0), to).expect("a restore")
    }

    pub fn try_restore(&self, snapshot: Selector, to: &Path) -> Result<RestoreReport, OpError> {
        let repository = Repository::open(self.objects(), self.env.clone())?;
        let unlocked = repository.unlock(self.key(Role::Admin))?;
        let options = RestoreOptions {
            source: unlocked.find_source(None)?,
            snapshot,
            tables: Vec::new(),
            spill_dir: self.dir.path().to_owned(),
            progress: Arc::new(Silent),
            cancel: Cancel::default(),
        };
        let mut target = SqliteTarget::create(to, &self.env)?;
        restore::run(&unlocked, &mut target, &options)
    }
}

/// The key in a key file without a passphrase.
pub fn open_key(text: &str) -> Identity {
    KeyFile::parse(text).expect("a key file").open(None).expect("no passphrase")
}
