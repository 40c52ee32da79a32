//! The power fails on a store in a directory. Objects written since the last barrier may then be empty, partial, full
//! of zeros, or missing. The last tests check where barriers are needed. The others check that readers and the next run
//! handle the remains.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use sidekeep::base::env::Seeded;
use sidekeep::base::id::Digest;
use sidekeep::ops::error::OpError;
use sidekeep::ops::init::Init;
use sidekeep::repo::error::RepoError;
use sidekeep::repo::objects::Objects;
use sidekeep::repo::open::Repository;
use sidekeep::store::{Location, OpenOptions, Store};

use crate::crash::scenario::Scenario;
use crate::support::world::data::{create_service, noise, open};
use crate::support::world::look::packs;
use crate::support::world::{SOURCE, World};

/// What a file system may leave of a file that was never synced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Tear {
    Empty,
    Half,
    AllButOne,
    Zeros,
    Gone,
}

const TEARS: [Tear; 5] = [Tear::Empty, Tear::Half, Tear::AllButOne, Tear::Zeros, Tear::Gone];

impl Tear {
    fn of(self, whole: &Bytes) -> Option<Bytes> {
        match self {
            Self::Empty => Some(Bytes::new()),
            Self::Half => Some(whole.slice(..whole.len() / 2)),
            Self::AllButOne => Some(whole.slice(..whole.len() - 1)),
            Self::Zeros => Some(vec![0; whole.len()].into()),
            Self::Gone => None,
        }
    }
}

/// A store whose power fails at the `number`-th create.
#[derive(Debug)]
struct Torn {
    inner: Arc<InMemory>,
    number: usize,
    tear: Tear,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    creates: usize,
    /// Objects written since the last barrier.
    pending: Vec<(Path, Bytes)>,
    failed: bool,
}

impl Torn {
    fn new(inner: Arc<InMemory>, number: usize, tear: Tear) -> Arc<Self> {
        Arc::new(Self { inner, number, tear, state: Mutex::default() })
    }

    fn creates(&self) -> usize {
        self.state.lock().expect("unpoisoned").creates
    }

    fn check(&self) -> Result<()> {
        if self.state.lock().expect("unpoisoned").failed { Err(power()) } else { Ok(()) }
    }

    /// Records the create of `path`. Returns the objects to be torn if the power fails now.
    fn note(&self, path: &Path, whole: &Bytes) -> Vec<(Path, Bytes)> {
        let mut state = self.state.lock().expect("unpoisoned");
        state.creates += 1;
        let name = path.as_ref();
        if name.contains("/sessions/") || name.contains("/ledger/") || name == "sidekeep.json" {
            // There was a barrier before it.
            state.pending.clear();
        }
        state.pending.push((path.clone(), whole.clone()));
        if state.creates < self.number {
            return Vec::new();
        }
        state.failed = true;
        std::mem::take(&mut state.pending)
    }
}

fn power() -> Error {
    Error::Generic { store: "Torn", source: "the power is out".into() }
}

impl fmt::Display for Torn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Torn({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for Torn {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.check()?;
        assert_eq!(options.mode, PutMode::Create, "objects must not be overwritten");
        let whole = Bytes::from(payload.clone());
        let done = self.inner.put_opts(path, payload, options).await?;
        let torn = self.note(path, &whole);
        for (path, whole) in &torn {
            self.inner.delete(path).await?;
            if let Some(left) = self.tear.of(whole) {
                self.inner.put(path, left.into()).await?;
            }
        }
        if torn.is_empty() { Ok(done) } else { Err(power()) }
    }

    async fn put_multipart_opts(&self, path: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        panic!("multipart upload: {path}");
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.check()?;
        self.inner.get_opts(path, options).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        panic!("copy: {from}");
    }
}

/// Checks that every pack of the inventory is stored, byte for byte.
fn assert_whole(left: &World) {
    for (pack, size) in left.ledger(SOURCE).inventory().map(|pack| (pack.digest, pack.size)) {
        let name = sidekeep::format::name::Name::Pack(left.source(SOURCE), pack);
        let bytes = left.objects().get(&name, size as usize).expect("the pack is there");
        assert_eq!((Digest::of(&bytes), bytes.len() as u64), (pack, size));
    }
}

#[test]
fn a_power_failure_at_any_create_of_a_backup_leaves_earlier_snapshots_intact() {
    let scenario = Scenario::small();
    let healthy = Torn::new(scenario.fork(), usize::MAX, Tear::Gone);
    scenario.world.beside(healthy.clone()).backup(&scenario.after);
    let creates = healthy.creates();
    assert!(creates >= 6, "packs, an announcement, an index fragment, a manifest, an entry: {creates}");
    for number in 1..=creates {
        for tear in TEARS {
            let what = format!("create {number} of {creates}, {tear:?}");
            let memory = scenario.fork();
            let died = scenario.world.beside(Torn::new(memory.clone(), number, tear)).try_backup(&scenario.after);
            died.map(|report| report.number).expect_err(&what);

            let left = scenario.world.beside(memory);
            let ledger = left.ledger(SOURCE);
            assert_eq!(ledger.snapshots.iter().map(|record| record.id).collect::<Vec<_>>(), [scenario.first], "{what}");
            left.assert_restores(SOURCE, scenario.first, &scenario.before);

            let next = left.backup(&scenario.after);
            // A torn entry uses up its number and has no other effect.
            let torn_entry = number == creates && tear != Tear::Gone;
            assert_eq!(next.number, Some(if torn_entry { 3 } else { 2 }), "{what}");
            assert_eq!(left.ledger(SOURCE).voids.len(), usize::from(torn_entry), "{what}");
            assert_whole(&left);
            left.assert_restores(SOURCE, next.snapshot.expect("committed"), &scenario.after);
            left.assert_restores(SOURCE, scenario.first, &scenario.before);
            assert_eq!(left.backup(&scenario.after).new_bytes, 0, "{what}: everything is stored now");
        }
    }
}

#[test]
fn a_power_failure_at_any_create_of_an_init_leaves_no_partial_repository() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let objects = |store| Objects::new(Store::from_object_store(store), runtime.handle().clone());
    let init =
        |store: Arc<dyn ObjectStore>, seed| Init::create(objects(store), Arc::new(Seeded::new(seed)), "test").map(drop);
    let healthy = Torn::new(Arc::new(InMemory::new()), usize::MAX, Tear::Gone);
    init(healthy.clone(), 3).expect("a repository");
    for number in 1..=healthy.creates() {
        for tear in TEARS {
            let memory = Arc::new(InMemory::new());
            init(Torn::new(memory.clone(), number, tear), 3).expect_err("the power is out");
            let Err(error) = Repository::open(objects(memory.clone()), Arc::new(Seeded::new(4))) else {
                panic!("create {number}, {tear:?}: it opens")
            };
            let is_said = match &error {
                RepoError::NoRepository { .. } => true,
                // The descriptor exists but is torn, so it is reported as foreign.
                RepoError::Foreign { object } => object == "sidekeep.json" && number == healthy.creates(),
                _ => false,
            };
            assert!(is_said, "create {number}, {tear:?}: {error:?}");
            // Another init either succeeds or reports what is in its way. It never builds on torn objects.
            match init(memory.clone(), 6) {
                Ok(()) => drop(Repository::open(objects(memory), Arc::new(Seeded::new(5))).expect("opens")),
                Err(OpError::Repo(RepoError::Exists { .. } | RepoError::Unfinished { .. })) => {}
                Err(error) => panic!("create {number}, {tear:?}: {error:?}"),
            }
        }
    }
}

/// The names of all objects in the repository.
fn objects_of(world: &World) -> BTreeSet<String> {
    world.objects().list("").expect("lists").into_iter().map(|listed| listed.name).collect()
}

/// A world in a directory with one snapshot, the database with changes since, and the source's directory.
fn in_a_directory() -> (World, PathBuf, PathBuf) {
    let world = World::new();
    let live = world.path("live.db");
    create_service(&live, 40);
    world.backup(&live);
    let db = open(&live);
    db.execute("INSERT INTO photos VALUES (5001, 3, NULL, ?1)", [noise(5, 200_000)]).expect("a photo");
    let source = world.path("store").join(world.source(SOURCE).to_string());
    (world, live, source)
}

#[test]
fn objects_are_synced_before_the_entry_and_the_entry_before_success() {
    let (world, live, source) = in_a_directory();
    let (there, before) = (objects_of(&world), world.store().counters());
    // A directory takes the name of the next entry, so that the entry cannot be created.
    std::fs::create_dir(source.join("ledger/0000000002")).expect("makes");
    let error = world.try_backup(&live).expect_err("it cannot commit");
    assert!(matches!(error, OpError::Repo(RepoError::CommitUncertain { .. } | RepoError::Store(_))), "{error:?}");
    let written = objects_of(&world).difference(&there).count() as u64;
    assert!(written >= 5, "packs, an announcement, an index fragment, a manifest: {written}");
    assert_eq!(world.store().counters().since(&before).files_synced, written);

    std::fs::remove_dir(source.join("ledger/0000000002")).expect("removes");
    let (there, before) = (objects_of(&world), world.store().counters());
    world.backup(&live);
    let written = objects_of(&world).difference(&there).count() as u64;
    assert_eq!(world.store().counters().since(&before).files_synced, written);
    assert_eq!(world.ledger(SOURCE).snapshots.len(), 2);
}

#[test]
fn the_roster_is_synced_before_the_descriptor() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let dir = tempfile::tempdir().expect("a directory");
    let location: Location = dir.path().to_str().expect("UTF-8").parse().expect("a location");
    let store = Store::create_at(&location, &OpenOptions::default()).expect("a store");
    // A directory takes the name of the descriptor, so that the descriptor cannot be created.
    std::fs::create_dir(dir.path().join("sidekeep.json")).expect("makes");
    let objects = Objects::new(store.clone(), runtime.handle().clone());
    let made = Init::create(objects, Arc::new(Seeded::new(3)), "test").map(drop);
    made.expect_err("the descriptor cannot be created");
    let written = runtime.block_on(store.list_sorted("")).expect("lists").len() as u64;
    assert_eq!(written, 6, "five grants and the roster");
    assert!(store.counters().files_synced >= written, "{:?}", store.counters());
}

#[test]
fn packs_are_synced_before_they_are_announced() {
    let (world, live, source) = in_a_directory();
    // A file replaces the folder of announcements, so that no announcement can be created.
    std::fs::remove_dir_all(source.join("sessions")).expect("removes");
    std::fs::write(source.join("sessions"), "").expect("writes");
    let (there, before) = (packs(&world, SOURCE), world.store().counters());
    world.try_backup(&live).expect_err("it cannot announce");
    let written = (packs(&world, SOURCE).len() - there.len()) as u64;
    assert!(written > 0);
    assert_eq!(world.store().counters().since(&before).files_synced, written);
}
