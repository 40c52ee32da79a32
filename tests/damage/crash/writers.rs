//! Two runs of the same source at the same time. One run is held at its commit while the other one completes.

use std::fmt;
use std::path::{Path as FilePath, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};
use sidekeep::base::env::{Env, Seeded};
use sidekeep::base::revocation::RevocationReason;
use sidekeep::base::role::{Role, SourceScope};
use sidekeep::base::time::Moment;
use sidekeep::format::entry::{EntryBody, Prune, Revoke};
use sidekeep::ops::backup::BackupReport;
use sidekeep::ops::error::OpError;
use sidekeep::repo::error::RepoError;

use crate::crash::scenario::Scenario;
use crate::support::world::data::{copy, open};
use crate::support::world::look::{assert_sound, packs};
use crate::support::world::{SOURCE, World, open_key};

/// Holds the first create of a ledger entry until it is released.
#[derive(Debug)]
struct Held {
    inner: Arc<dyn ObjectStore>,
    held: AtomicBool,
    arrived: Mutex<Option<Sender<()>>>,
    go: Mutex<Option<Receiver<()>>>,
}

/// The other side of a held store.
struct Holder {
    arrived: Receiver<()>,
    go: Sender<()>,
}

impl Held {
    fn new(inner: Arc<dyn ObjectStore>) -> (Arc<Self>, Holder) {
        let ((arrive, arrived), (go, wait)) = (channel(), channel());
        let held =
            Self { inner, held: AtomicBool::new(false), arrived: Mutex::new(Some(arrive)), go: Mutex::new(Some(wait)) };
        (Arc::new(held), Holder { arrived, go })
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Held({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for Held {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        if path.as_ref().contains("/ledger/") && !self.held.swap(true, Ordering::SeqCst) {
            let (arrived, go) = (self.arrived.lock().expect("once").take(), self.go.lock().expect("once").take());
            arrived.expect("once").send(()).expect("a receiver waits");
            // The runtime has another thread for other tasks.
            tokio::task::block_in_place(|| go.expect("once").recv()).expect("it is released");
        }
        self.inner.put_opts(path, payload, options).await
    }

    async fn put_multipart_opts(&self, path: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        panic!("multipart upload: {path}");
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
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

type Ran = std::result::Result<BackupReport, OpError>;

/// Runs a backup of `database` that is about to commit while `meanwhile` happens. Returns its result and the
/// repository.
fn held(scenario: &Scenario, key: Option<&str>, database: &FilePath, meanwhile: impl FnOnce(&World)) -> (Ran, World) {
    let memory = scenario.fork();
    let healthy = scenario.world.beside(memory.clone());
    let (store, holder) = Held::new(memory);
    let slow = scenario.world.beside(store);
    let ran = std::thread::scope(|scope| {
        let run = scope.spawn(|| match key {
            Some(key) => slow.try_backup_as(open_key(key), SOURCE, database),
            None => slow.try_backup(database),
        });
        holder.arrived.recv().expect("it reaches its commit");
        meanwhile(&healthy);
        holder.go.send(()).expect("it waits");
        run.join().expect("no panic")
    });
    (ran, healthy)
}

/// A clock one day ahead, so that an image taken with it is newer than any other.
fn tomorrow() -> Arc<Seeded> {
    let env = Seeded::new(77);
    env.advance_us(86_400_000_000);
    Arc::new(env)
}

fn overtaken(ran: Ran) -> String {
    match ran {
        Err(OpError::Repo(RepoError::Overtaken { reason })) => reason,
        other => panic!("it must be overtaken: {other:?}"),
    }
}

/// A copy of the database with other changes.
fn other_day(scenario: &Scenario) -> PathBuf {
    let path = scenario.world.path("other");
    copy(&scenario.after, &path);
    open(&path).execute_batch("UPDATE contacts SET born = 1; DELETE FROM photos WHERE id = 1002").expect("a day");
    path
}

#[test]
fn the_run_with_the_older_image_is_overtaken() {
    let scenario = Scenario::small();
    let other = other_day(&scenario);
    let (ran, left) = held(&scenario, None, &scenario.after, |world| drop(world.backup(&other)));
    assert!(overtaken(ran).contains("as of"));
    assert_eq!(left.ledger(SOURCE).snapshots.len(), 2);
    left.assert_restores(SOURCE, left.ledger(SOURCE).newest().expect("the other's").id, &other);
    assert_sound(&left, SOURCE);
    scenario.assert_next_run(&left);
}

#[test]
fn the_run_with_the_newer_image_takes_the_next_number() {
    let scenario = Scenario::small();
    let other = other_day(&scenario);
    // The held run's image is from tomorrow, the other one's from today.
    let late = Scenario { world: scenario.world.with_env(tomorrow()), ..scenario };
    let today: Arc<Seeded> = Arc::new(Seeded::new(5));
    today.advance_us(3_600_000_000);
    let mut first = None;
    let (ran, left) = held(&late, None, &late.after, |world| {
        first = world.with_env(today.clone()).backup(&other).snapshot;
    });
    let report = ran.expect("both commit");
    assert_eq!(report.races_lost, 1);
    left.assert_restores(SOURCE, first.expect("committed"), &other);
    left.assert_restores(SOURCE, report.snapshot.expect("committed"), &late.after);
    left.assert_restores(SOURCE, late.first, &late.before);
    assert_sound(&left, SOURCE);
}

#[test]
fn a_run_that_shares_pruned_data_does_not_commit() {
    let scenario = Scenario::small();
    let (ran, left) = held(&scenario, None, &scenario.after, |world| {
        // Only the packs of the first snapshot, because the store already has some of the held run.
        let packs = world.ledger(SOURCE).inventory().map(|pack| pack.digest).collect();
        world.append(Role::Maintainer, SOURCE, EntryBody::Prune(Prune { packs, manifests: Vec::new() }));
    });
    assert!(overtaken(ran).contains("shares with earlier ones was pruned"));
    assert_eq!(left.ledger(SOURCE).snapshots.len(), 1);
    let report = left.backup(&scenario.after);
    left.assert_restores(SOURCE, report.snapshot.expect("committed"), &scenario.after);
}

#[test]
fn a_run_that_shares_data_of_a_revoked_key_does_not_commit() {
    let scenario = Scenario::small();
    let second = scenario.world.enrol(Role::Operator, Some(SourceScope::All));
    let thief = scenario.world.key(Role::Operator).key_id();
    let revoke = |world: &World| {
        world.append(Role::Admin, SOURCE, EntryBody::Revoke(Revoke { key: thief, reason: RevocationReason::Stolen }));
    };
    let (ran, left) = held(&scenario, Some(&second), &scenario.after, revoke);
    assert!(overtaken(ran).contains("revoked"));
    let report = left.try_backup_as(open_key(&second), SOURCE, &scenario.after).expect("a snapshot");
    left.assert_restores(SOURCE, report.snapshot.expect("committed"), &scenario.after);
    // The same if the run's own key is revoked.
    let (ran, left) = held(&scenario, None, &scenario.after, revoke);
    assert!(matches!(ran, Err(OpError::Repo(RepoError::NotEnrolled { .. }))), "{ran:?}");
    assert_eq!(left.ledger(SOURCE).snapshots.len(), 1);
}

#[test]
fn an_image_that_is_not_newer_is_refused_before_anything_is_written() {
    let scenario = Scenario::small();
    let newest = scenario.world.ledger(SOURCE).newest().expect("the first").snapshot.source_clock;
    let env = Seeded::new(9);
    assert!(env.now() < newest);
    let yesterday = scenario.world.beside(scenario.fork()).with_env(Arc::new(env));
    let before = packs(&yesterday, SOURCE);
    overtaken(yesterday.try_backup(&scenario.after));
    assert_eq!(packs(&yesterday, SOURCE), before);
    assert_eq!(yesterday.ledger(SOURCE).snapshots.len(), 1);
    // An image of the same time is not newer either.
    let same = scenario.world.beside(scenario.fork()).with_env(Arc::new(Still(newest, Seeded::new(10))));
    overtaken(same.try_backup(&scenario.after));
}

/// A clock that does not advance.
struct Still(Moment, Seeded);

impl Env for Still {
    fn now(&self) -> Moment {
        self.0
    }

    fn fill(&self, bytes: &mut [u8]) {
        self.1.fill(bytes);
    }
}

#[test]
fn concurrent_runs_each_commit_or_are_overtaken() {
    let scenario = Scenario::small();
    let memory = scenario.fork();
    let second = scenario.world.beside(memory.clone()).enrol(Role::Operator, Some(SourceScope::All));
    let days: Vec<PathBuf> = (0..4)
        .map(|day| {
            let path = scenario.world.path(&format!("day {day}"));
            copy(&scenario.after, &path);
            open(&path)
                .execute_batch(&format!("UPDATE contacts SET name = '{day}' WHERE id % 4 = {day}"))
                .expect("a day");
            path
        })
        .collect();
    let rans: Vec<Ran> = std::thread::scope(|scope| {
        let run = |(at, path): (usize, &PathBuf)| {
            let (world, path) = (scenario.world.beside(memory.clone()), path.clone());
            let key = if at % 2 == 0 { open_key(&second) } else { world.key(Role::Operator) };
            scope.spawn(move || world.try_backup_as(key, SOURCE, &path))
        };
        let runs: Vec<_> = days.iter().enumerate().map(run).collect();
        runs.into_iter().map(|run| run.join().expect("no panic")).collect()
    });
    let left = scenario.world.beside(memory);
    assert_sound(&left, SOURCE);
    let mut committed = 0;
    for (ran, path) in rans.into_iter().zip(&days) {
        match ran {
            Ok(report) => {
                committed += 1;
                left.assert_restores(SOURCE, report.snapshot.expect("committed"), path);
            }
            ran => drop(overtaken(ran)),
        }
    }
    assert!(committed >= 1);
    assert_eq!(left.ledger(SOURCE).snapshots.len(), 1 + committed);
    scenario.assert_next_run(&left);
}
