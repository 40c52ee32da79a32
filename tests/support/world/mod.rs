//! A repository with all its keys, used through the library: in a directory, in memory, or over any store.
pub mod awkward;
pub mod data;
pub mod findings;
pub mod look;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use findings::FindingsByKind;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use sidekeep::base::cancel::Cancel;
use sidekeep::base::env::{Seeded, SharedEnv};
use sidekeep::base::id::{Digest, Epoch, KeyId, SourceId};
use sidekeep::base::progress::Silent;
use sidekeep::base::role::{Role, SourceScope};
use sidekeep::crypto::keyfile::{KeyFile, Protection};
use sidekeep::crypto::role::{AdminKeys, Identity, PublicKeys};
use sidekeep::engine::sqlite::{SqliteSource, SqliteTarget};
use sidekeep::format::dsse::encode;
use sidekeep::format::entry::{EntryBody, Numbered};
use sidekeep::format::grant::Grant;
use sidekeep::format::name::Name;
use sidekeep::format::roster::{AddGrant, Enrol, RosterEntry, RosterStatement};
use sidekeep::ops::access::RepositoryAccess;
use sidekeep::ops::backup::{self, BackupMode, BackupOptions, BackupReport, BackupSubject};
use sidekeep::ops::error::OpError;
use sidekeep::ops::init::Init;
use sidekeep::ops::placement::update::{Pinned, PlacementConfig};
use sidekeep::ops::restore::{self, RestoreOptions, RestoreReport};
use sidekeep::ops::select::Selector;
use sidekeep::ops::verify::{self, Heads, VerifyLevel, VerifyOptions, VerifyReport};
use sidekeep::repo::append::{Appended, Signer, append};
use sidekeep::repo::create::add_source;
use sidekeep::repo::error::RepoError;
use sidekeep::repo::ledger::Ledger;
use sidekeep::repo::objects::Objects;
use sidekeep::repo::open::{Repository, Unlocked};
use sidekeep::store::{Location, OpenOptions, Store};

use crate::support::sqlite;

/// A repository, its keys, and a directory for files.
pub struct World {
    pub dir: Arc<tempfile::TempDir>,
    pub runtime: Arc<tokio::runtime::Runtime>,
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
        Self::drawn(dir, store, 7)
    }

    /// A repository in `store` whose keys and ids are derived from `seed`.
    fn drawn(dir: tempfile::TempDir, store: Store, seed: u64) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        let env: SharedEnv = Arc::new(Seeded::new(seed));
        let (dir, runtime) = (Arc::new(dir), Arc::new(runtime));
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
        init.prove(kept, Some(SOURCE)).expect("a proof");
        world.keys = texts;
        world
    }

    /// A repository in memory, and that memory.
    pub fn in_memory() -> (Self, Arc<InMemory>) {
        Self::in_memory_of(7)
    }

    /// Like [`Self::in_memory`], with keys and ids derived from `seed`.
    pub fn in_memory_of(seed: u64) -> (Self, Arc<InMemory>) {
        let memory = Arc::new(InMemory::new());
        let store = Store::from_object_store(Arc::<InMemory>::clone(&memory));
        (Self::drawn(tempfile::tempdir().expect("a directory"), store, seed), memory)
    }

    /// The same keys, clock and files over another store: a copy of the repository, or the same repository through a
    /// store that fails or records.
    pub fn beside(&self, objects: Arc<dyn ObjectStore>) -> Self {
        Self {
            dir: Arc::clone(&self.dir),
            runtime: Arc::clone(&self.runtime),
            env: self.env.clone(),
            keys: self.keys.clone(),
            store: Store::from_object_store(objects),
        }
    }

    /// The same repository with another clock and other entropy.
    pub fn with_env(&self, env: SharedEnv) -> Self {
        let (dir, runtime) = (Arc::clone(&self.dir), Arc::clone(&self.runtime));
        Self { dir, runtime, env, keys: self.keys.clone(), store: self.store.clone() }
    }

    /// Switches to another store of the same repository, such as one that fails or records.
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
        self.try_repository().expect("opens")
    }

    pub fn try_repository(&self) -> Result<Repository, RepoError> {
        Repository::open(self.objects(), self.env.clone())
    }

    pub fn key(&self, role: Role) -> Identity {
        open_key(&self.keys.iter().find(|(found, _)| *found == role).expect("a key").1)
    }

    pub fn unlock(&self, role: Role) -> Unlocked {
        self.repository().unlock(self.key(role)).expect("unlocks")
    }

    pub fn backup_options(&self, source: SourceId) -> BackupOptions {
        BackupOptions {
            source: BackupSubject::Known(source),
            address: None,
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
        self.try_backup_as(self.key(Role::Operator), SOURCE, database)
    }

    /// Takes a snapshot of this source with this operator's key.
    /// Backs up with the key in this text of a key file. Returns the snapshot.
    pub fn backup_as(&self, key: &str, database: &Path) -> Digest {
        let report = self.try_backup_as(open_key(key), SOURCE, database).expect("a snapshot");
        report.snapshot.expect("committed")
    }

    pub fn try_backup_as(&self, key: Identity, source: &str, database: &Path) -> Result<BackupReport, OpError> {
        let mut unlocked = self.try_repository()?.unlock(key)?;
        let options = self.backup_options(unlocked.find_source(Some(source))?);
        let mut source = SqliteSource::open(database, self.dir.path().to_owned(), self.env.clone())?;
        backup::run(&mut unlocked, &mut source, &options)
    }

    pub fn restore(&self, to: &Path) -> RestoreReport {
        self.try_restore(Selector::Latest(0), to).expect("a restore")
    }

    pub fn try_restore(&self, snapshot: Selector, to: &Path) -> Result<RestoreReport, OpError> {
        self.try_restore_as(self.key(Role::Admin), SOURCE, snapshot, to)
    }

    /// Restores from this source with this key.
    pub fn try_restore_as(
        &self,
        key: Identity,
        source: &str,
        snapshot: Selector,
        to: &Path,
    ) -> Result<RestoreReport, OpError> {
        let unlocked = self.try_repository()?.unlock(key)?;
        let options = RestoreOptions {
            source: unlocked.find_source(Some(source))?,
            snapshot,
            tables: Vec::new(),
            spill_dir: self.dir.path().to_owned(),
            progress: Arc::new(Silent),
            cancel: Cancel::default(),
        };
        let mut target = SqliteTarget::create(to, &self.env)?;
        restore::run(&unlocked, &mut target, &options)
    }

    /// Verifies with the key of `role`, or without a key at levels that need none.
    pub fn verify(&self, role: Option<Role>, level: VerifyLevel) -> Result<VerifyReport, OpError> {
        self.verify_again(role, level, None)
    }

    pub fn verify_again(
        &self,
        role: Option<Role>,
        level: VerifyLevel,
        known_heads: Option<Heads>,
    ) -> Result<VerifyReport, OpError> {
        let options = VerifyOptions {
            level,
            source: None,
            snapshots: Vec::new(),
            known_heads,
            progress: Arc::new(Silent),
            cancel: Cancel::default(),
        };
        let repository = self.try_repository()?;
        match role {
            Some(role) => verify::run(RepositoryAccess::WithKey(&repository.unlock(self.key(role))?), &options),
            None => verify::run(RepositoryAccess::WithoutKey(&repository), &options),
        }
    }

    /// Restores a snapshot without faults and fails unless it equals the database at `original`.
    pub fn assert_restores(&self, source: &str, snapshot: Digest, original: &Path) {
        let to = self.path(&format!("restored-{snapshot}"));
        let selector = Selector::Name(snapshot.to_string());
        let report = self.try_restore_as(self.key(Role::Admin), source, selector, &to).expect("a restore");
        assert!(report.refused().is_empty() && report.damaged().is_empty(), "{report:?}");
        sqlite::assert_same_database(original, &to);
        std::fs::remove_file(to).expect("it was restored");
    }

    /// The source with this name.
    pub fn source(&self, name: &str) -> SourceId {
        // Any key can read names, but some tests leave some keys without access.
        let unlocked = Role::ALL.into_iter().find_map(|role| self.repository().unlock(self.key(role)).ok());
        unlocked.expect("some key can unlock").find_source(Some(name)).expect("a source")
    }

    /// The ledger of the source with this name.
    pub fn ledger(&self, name: &str) -> Ledger {
        Ledger::load(&self.repository(), self.source(name)).expect("folds")
    }

    pub fn add_source(&self, name: &str) -> SourceId {
        add_source(&mut self.unlock(Role::Operator), name).expect("a source")
    }

    /// Signs an entry and appends it to the ledger of `source`.
    pub fn append(&self, role: Role, source: &str, body: EntryBody) -> Numbered {
        let unlocked = self.unlock(role);
        let sign = |message: &[u8]| unlocked.identity().sign(message);
        let signer = Signer { key: unlocked.key(), role, sign: &sign };
        match append(unlocked.repository(), &signer, &self.ledger(source), body).expect("appends") {
            Appended::Done(numbered) => numbered,
            Appended::Lost => panic!("there are no other writers"),
        }
    }

    /// Appends to the roster as `role`, whether or not the roster will accept the statements.
    pub fn state(&self, role: Role, statements: Vec<RosterStatement>) {
        let number = self.repository().roster().head().number + 1;
        let bytes = self.roster_entry(&self.key(role), statements);
        self.objects().create(&Name::Roster(number), bytes.into()).expect("a roster entry");
    }

    /// The bytes of a roster entry after the head.
    pub fn roster_entry(&self, by: &Identity, statements: Vec<RosterStatement>) -> Vec<u8> {
        let repository = self.repository();
        let head = repository.roster().head();
        let entry = RosterEntry {
            repository: repository.id(),
            number: head.number + 1,
            previous: head.sha256,
            written: self.env.now(),
            statements,
        };
        encode(&entry, by.key_id(), |message| by.sign(message)).expect("encodes")
    }

    /// Enrols another key and returns the text of its file.
    pub fn enrol(&self, role: Role, sources: Option<SourceScope>) -> String {
        let scope = sources.clone().unwrap_or(SourceScope::All);
        self.enrol_with(role, sources, |keys, public| {
            keys.grant(&*self.env, public, role, &scope).map(|sealed| self.grant(public.id(), sealed)).expect("a grant")
        })
    }

    /// Enrols another key with the grant that `grant` makes for it.
    pub fn enrol_with(
        &self,
        role: Role,
        sources: Option<SourceScope>,
        grant: impl FnOnce(&AdminKeys, &PublicKeys) -> Vec<u8>,
    ) -> String {
        let admin = self.unlock(Role::Admin);
        let repository = admin.repository();
        let identity = Identity::generate(&*self.env, role, repository.id());
        let (key, public, epoch) = (identity.key_id(), identity.public(), Epoch(1));
        let grant = grant(admin.admin(epoch, "a grant").expect("an admin"), &public);
        let sha256 = Digest::of(&grant);
        self.objects().create(&Name::Grant(epoch, key, sha256), grant.into()).expect("a grant");
        let (signing, sealing) = (*public.signing.as_bytes(), public.sealing.to_bytes());
        let enrol = Enrol { key, role, signing, sealing, label: "one more".to_owned(), sources };
        let grant = AddGrant { epoch, key, sha256 };
        let by = if role == Role::Recovery { Role::Recovery } else { Role::Admin };
        self.state(by, vec![RosterStatement::Enrol(enrol), RosterStatement::Grant(grant)]);
        let fingerprint = repository.roster().fingerprint();
        KeyFile::write(&*self.env, &identity, "one more", fingerprint, Protection::None).expect("writes").to_string()
    }

    /// The name of the first grant that the roster names for a key.
    pub fn grant_name(&self, epoch: Epoch, key: KeyId) -> Name {
        Name::Grant(epoch, key, self.repository().roster().epochs[&epoch].grants[&key][0])
    }

    /// The stored bytes of a grant of the first epoch.
    pub fn grant(&self, key: KeyId, sealed: Vec<u8>) -> Vec<u8> {
        Grant { repository: self.repository().id(), epoch: Epoch(1), key, sealed }.encode()
    }
}

/// The source that every world starts with.
pub const SOURCE: &str = "sync";

/// `short`, or ten times as much for long test runs.
pub fn times(short: u64) -> u64 {
    if std::env::var_os("SIDEKEEP_TEST_LONG").is_some() { short * 10 } else { short }
}

/// The key in a key file without a passphrase.
pub fn open_key(text: &str) -> Identity {
    KeyFile::parse(text).expect("a key file").open(None).expect("no passphrase")
}
