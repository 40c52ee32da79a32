//! The story: a service, seven nightly backups, a disaster, a restore, and the proof.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::env::{Env, SharedEnv};
use crate::base::finding::{Finding, FindingGroup, FindingKind};
use crate::base::id::{Digest, SourceId};
use crate::base::role::Role;
use crate::crypto::role::Identity;
use crate::engine::contract::EngineError;
use crate::engine::sqlite::{SqliteSource, SqliteTarget};
use crate::ops::backup::{self, BackupMode, BackupOptions, BackupReport, BackupSubject};
use crate::ops::demo::clock::Clock;
use crate::ops::demo::judge::{judge, megabytes};
use crate::ops::demo::keys::DemoKeys;
use crate::ops::demo::options::DemoOptions;
use crate::ops::demo::prove::prove;
use crate::ops::demo::report::{Chapter, DemoReport, DemoRun, Disaster, Restored, Verified};
use crate::ops::demo::service::{Day, Holdings, Service, compare, holdings};
use crate::ops::diff::{self, DiffOptions};
use crate::ops::error::OpError;
use crate::ops::init::Init;
use crate::ops::placement::update::{Pinned, PlacementConfig};
use crate::ops::restore::{self, RestoreOptions, RestoreReport};
use crate::ops::select::Selector;
use crate::repo::error::RepoError;
use crate::repo::objects::Objects;
use crate::repo::open::{Repository, Unlocked};
use crate::store::{Location, OpenOptions, Store};

/// Name of the service's database in the repository. A configuration with one database uses the same name.
const SOURCE_NAME: &str = "main";

/// Runs the demo. Passes each sentence of the story to `tell`.
/// Fails if the directory is not empty, a step of the demo fails, the demo has no runs, or the operator's key restores
/// a snapshot. Damage that is found is in the report.
pub fn run(options: &DemoOptions, tell: &mut dyn FnMut(Chapter, &str)) -> Result<DemoReport, OpError> {
    let started = options.env.now();
    let dir = empty_dir(&options.dir)?;
    let clock = Arc::new(Clock::new(SharedEnv::clone(&options.env), options.runs + 1));
    let mut service = create_service(options, &dir, clock.clone(), tell)?;
    let database = service.path().to_owned();
    let demo = create_repository(options, &dir, clock.clone(), tell)?;
    let runs = demo.nightly_runs(&mut service, &clock, tell)?;
    let last = last_run(&runs)?.clone();
    let kept = KeptCopy::of(&service, dir.join("kept-aside.sqlite"))?;
    service.lose_everything()?;
    clock.advance_day();
    let disaster = demo.disaster(&database, &last, tell)?;
    let operator_refused = demo.operator_restores(&last, tell)?;
    let restored = demo.restore(&last, &kept.path, tell)?;
    let verified = prove(&demo.unlock(Role::Admin)?, demo.source, options)?;
    let acts = Acts { runs, kept, disaster, operator_refused, restored, verified };
    let mut report = demo.report(database, acts)?;
    report.elapsed_ms = elapsed_ms(&*options.env, started.0);
    judge(&mut report);
    report.proven.iter().chain(&report.failures).for_each(|line| tell(Chapter::Proof, line));
    Ok(report)
}

fn create_service(
    options: &DemoOptions,
    dir: &Path,
    env: SharedEnv,
    tell: &mut dyn FnMut(Chapter, &str),
) -> Result<Service, OpError> {
    let database = dir.join("service.sqlite");
    let service = Service::create(&database, options.users, env)?;
    let made = format!("{} users, {} in {}", options.users, megabytes(service.size_bytes()?), database.display());
    tell(Chapter::Service, &format!("a sync service with {made}"));
    Ok(service)
}

fn create_repository<'a>(
    options: &'a DemoOptions,
    dir: &Path,
    env: SharedEnv,
    tell: &mut dyn FnMut(Chapter, &str),
) -> Result<Demo<'a>, OpError> {
    let demo = Demo::create(options, dir, env)?;
    let keys = demo.keys.dir().display();
    tell(Chapter::Repository, &format!("a repository in {}, keys in {keys}", demo.place.display()));
    Ok(demo)
}

fn last_run(runs: &[DemoRun]) -> Result<&DemoRun, OpError> {
    runs.last().ok_or_else(|| OpError::NotFound("the demo needs at least one backup run".to_owned()))
}

/// A copy of the database from before the disaster. The restored database is compared with it.
struct KeptCopy {
    path: PathBuf,
    users: u64,
    holdings: Holdings,
}

impl KeptCopy {
    fn of(service: &Service, path: PathBuf) -> Result<Self, OpError> {
        service.copy_to(&path)?;
        let holdings = holdings(&path)?;
        Ok(Self { path, users: service.users()?, holdings })
    }
}

/// The result of each part of the story.
struct Acts {
    runs: Vec<DemoRun>,
    kept: KeptCopy,
    disaster: Disaster,
    operator_refused: String,
    restored: Restored,
    verified: Verified,
}

struct Demo<'a> {
    options: &'a DemoOptions,
    dir: PathBuf,
    env: SharedEnv,
    place: PathBuf,
    store: Store,
    keys: DemoKeys,
    source: SourceId,
    fingerprint: Digest,
}

impl<'a> Demo<'a> {
    /// Creates the repository.
    fn create(options: &'a DemoOptions, dir: &Path, env: SharedEnv) -> Result<Self, OpError> {
        let place = dir.join("store");
        let store = create_store(&place)?;
        let objects = Objects::new(store.clone(), options.runtime.clone());
        let init = Init::create(objects, env.clone(), "demo")?;
        let keys = DemoKeys::write(dir.join("keys"), &init, &*env)?;
        let kept = read_back(&init, &keys)?;
        let made = init.prove(kept, Some(SOURCE_NAME))?;
        let object = "the source that was just added".to_owned();
        let source = made.source.ok_or(RepoError::Missing { object })?;
        Ok(Self { options, dir: dir.to_owned(), env, place, store, keys, source, fingerprint: made.fingerprint })
    }

    /// The report of what was done. Nothing is judged yet.
    fn report(&self, database: PathBuf, acts: Acts) -> Result<DemoReport, OpError> {
        Ok(DemoReport {
            keys_dir: self.keys.dir().to_owned(),
            repository: self.place.clone(),
            fingerprint: self.fingerprint,
            users: acts.kept.users,
            rows: last_run(&acts.runs)?.rows,
            database_bytes: last_run(&acts.runs)?.database_bytes,
            before: acts.kept.holdings,
            after_disaster: holdings(&database)?,
            after_restore: holdings(&acts.restored.to)?,
            operator_refused: acts.operator_refused,
            disaster: acts.disaster,
            restored: acts.restored,
            verified: acts.verified,
            runs: acts.runs,
            database,
            dir: self.dir.clone(),
            proven: Vec::new(),
            failures: Vec::new(),
            elapsed_ms: 0,
        })
    }

    fn open(&self) -> Result<Repository, OpError> {
        let objects = Objects::new(self.store.clone(), self.options.runtime.clone());
        Ok(Repository::open(objects, self.env.clone())?)
    }

    fn unlock(&self, role: Role) -> Result<Unlocked, OpError> {
        Ok(self.open()?.unlock(self.keys.read(role)?)?)
    }

    fn nightly_runs(
        &self,
        service: &mut Service,
        clock: &Clock,
        tell: &mut dyn FnMut(Chapter, &str),
    ) -> Result<Vec<DemoRun>, OpError> {
        let mut runs = Vec::new();
        for number in 0..self.options.runs {
            clock.advance_day();
            let day = day_before(number, service)?;
            let run = self.take_nightly_run(service, day)?;
            tell(Chapter::Runs, &run_words(&run));
            runs.push(run);
        }
        Ok(runs)
    }

    fn take_nightly_run(&self, service: &Service, day: Option<Day>) -> Result<DemoRun, OpError> {
        let started = self.options.env.now();
        let report = self.backup(service.path())?;
        let elapsed_ms = elapsed_ms(&*self.options.env, started.0);
        nightly_run(&report, service.size_bytes()?, day, elapsed_ms)
    }

    fn backup(&self, database: &Path) -> Result<BackupReport, OpError> {
        let mut unlocked = self.unlock(Role::Operator)?;
        let options = BackupOptions {
            source: BackupSubject::Known(self.source),
            address: None,
            tags: Vec::new(),
            workers: self.options.workers,
            spill_dir: self.dir.clone(),
            placement: PlacementConfig::default(),
            pinned: Pinned::Keep,
            mode: BackupMode::Commit,
            progress: self.options.progress.clone(),
            cancel: self.options.cancel.clone(),
        };
        let mut source = SqliteSource::open(database, self.dir.clone(), self.env.clone())?;
        backup::run(&mut unlocked, &mut source, &options)
    }

    /// Takes the backup after the disaster, and finds out what was lost.
    fn disaster(
        &self,
        database: &Path,
        last: &DemoRun,
        tell: &mut dyn FnMut(Chapter, &str),
    ) -> Result<Disaster, OpError> {
        tell(Chapter::Disaster, "an empty database has replaced the database, and nobody has noticed");
        let report = self.backup(database)?;
        let (snapshot, number) = committed(&report)?;
        let lost = diff::run(&self.unlock(Role::Admin)?, &self.diff_options(&last.snapshot, &snapshot))?;
        let rows_lost = lost.rows.removed;
        let users_affected = lost.users_differing;
        tell(
            Chapter::Disaster,
            &format!(
                "the nightly backup has {} rows: {rows_lost} rows of {users_affected} users have disappeared",
                report.rows
            ),
        );
        tell(
            Chapter::Disaster,
            &format!("the earlier snapshots are unchanged, so snapshot {} can be restored", last.number),
        );
        Ok(Disaster { snapshot, number, rows: report.rows, rows_lost, users_affected })
    }

    fn diff_options(&self, old: &Digest, new: &Digest) -> DiffOptions {
        DiffOptions {
            source: self.source,
            old: Selector::Name(old.to_string()),
            new: Selector::Name(new.to_string()),
            table: None,
            user: None,
            samples_max: 0,
            users_max: 0,
            spill_dir: self.dir.clone(),
            progress: self.options.progress.clone(),
            cancel: self.options.cancel.clone(),
        }
    }

    /// The error message when the operator's key is used to restore.
    fn operator_restores(&self, run: &DemoRun, tell: &mut dyn FnMut(Chapter, &str)) -> Result<String, OpError> {
        let refused = match self.restore_to(&self.dir.join("never.sqlite"), run, Role::Operator) {
            Err(error @ OpError::Repo(RepoError::WrongRole { .. })) => error.to_string(),
            Err(error) => return Err(error),
            Ok(_) => return Err(unusable(&self.dir, "the operator's key restored a snapshot")),
        };
        tell(Chapter::Restore, &format!("the operator's key cannot restore: {refused}"));
        Ok(refused)
    }

    fn restore_to(&self, to: &Path, run: &DemoRun, role: Role) -> Result<RestoreReport, OpError> {
        let unlocked = self.unlock(role)?;
        let mut target = SqliteTarget::create(to, &self.env)?;
        restore::run(&unlocked, &mut target, &self.restore_options(run))
    }

    fn restore_options(&self, run: &DemoRun) -> RestoreOptions {
        RestoreOptions {
            source: self.source,
            snapshot: Selector::Name(run.snapshot.to_string()),
            tables: Vec::new(),
            spill_dir: self.dir.clone(),
            progress: self.options.progress.clone(),
            cancel: self.options.cancel.clone(),
        }
    }

    fn restore(&self, run: &DemoRun, copy: &Path, tell: &mut dyn FnMut(Chapter, &str)) -> Result<Restored, OpError> {
        let to = self.dir.join("restored.sqlite");
        let started = self.options.env.now();
        let report = self.restore_to(&to, run, Role::Admin)?;
        let elapsed_ms = elapsed_ms(&*self.options.env, started.0);
        let mut comparison = compare(copy, &to)?;
        comparison.differences.extend(losses(&report));
        tell(Chapter::Restore, &restored_words(report.rows, elapsed_ms, &to));
        Ok(Restored { to, snapshot: report.snapshot, number: run.number, rows: report.rows, elapsed_ms, comparison })
    }
}

fn create_store(place: &Path) -> Result<Store, OpError> {
    let location = place.to_str().and_then(|path| Location::parse(path).ok());
    let location = location.ok_or_else(|| unusable(place, "it cannot be used as the location of a store"))?;
    Ok(Store::create_at(&location, &OpenOptions::default()).map_err(RepoError::from)?)
}

/// Reads the keys back from their files, so that the keys that are tested are the stored ones.
fn read_back(init: &Init, keys: &DemoKeys) -> Result<Vec<Identity>, OpError> {
    init.identities().iter().map(|identity| keys.read(identity.role())).collect()
}

fn nightly_run(
    report: &BackupReport,
    database_bytes: u64,
    day: Option<Day>,
    elapsed_ms: u64,
) -> Result<DemoRun, OpError> {
    let (snapshot, number) = committed(report)?;
    let added_bytes = report.new_bytes + report.manifest_bytes;
    Ok(DemoRun {
        snapshot,
        number,
        source_clock: report.source_clock,
        rows_changed: day.map(|day| day.rows_changed),
        users_active: day.map(|day| day.users_active),
        rows: report.rows,
        database_bytes,
        added_bytes,
        added_share: added_bytes as f64 / database_bytes.max(1) as f64,
        leaves: report.tables.iter().map(|table| table.leaves).sum(),
        leaves_new: report.tables.iter().map(|table| table.leaves_new).sum(),
        elapsed_ms,
    })
}

fn restored_words(rows: u64, elapsed_ms: u64, to: &Path) -> String {
    let seconds = elapsed_ms as f64 / 1000.0;
    format!("the admin's key restored {rows} rows in {seconds:.1} s to {}", to.display())
}

/// Simulates the day before a backup run. Returns `None` for the first run.
fn day_before(run: u32, service: &mut Service) -> Result<Option<Day>, OpError> {
    if run == 0 {
        return Ok(None);
    }
    Ok(Some(service.live_a_day()?))
}

fn run_words(run: &DemoRun) -> String {
    let added = format!("{} stored, {:.1} % of the database", megabytes(run.added_bytes), run.added_share * 100.0);
    match (run.rows_changed, run.users_active) {
        (Some(rows), Some(users)) => {
            format!("run {}: {rows} rows of {users} users changed; {added}", run.number)
        }
        _ => format!("run {}: the first one, {} rows; {added}", run.number, run.rows),
    }
}

fn committed(report: &BackupReport) -> Result<(Digest, u64), OpError> {
    let missing = || RepoError::Missing { object: "the snapshot that was just taken".to_owned() };
    Ok(report.snapshot.zip(report.number).ok_or_else(missing)?)
}

/// Creates the directory, or uses an empty one. Fails if it contains anything.
fn empty_dir(dir: &Path) -> Result<PathBuf, OpError> {
    let dir = make_dir(dir)?;
    let entries = std::fs::read_dir(&dir).map_err(|error| unusable(&dir, &error.to_string()))?;
    if entries.count() > 0 {
        return Err(EngineError::NotEmpty { what: dir.display().to_string() }.into());
    }
    Ok(dir)
}

fn make_dir(dir: &Path) -> Result<PathBuf, OpError> {
    let made = std::fs::create_dir_all(dir).and_then(|()| dir.canonicalize());
    made.map_err(|error| unusable(dir, &error.to_string()))
}

/// The losses that the restore itself reports.
fn losses(report: &RestoreReport) -> impl Iterator<Item = String> {
    let losses = report.findings.iter().filter(|finding| is_loss(finding));
    losses.map(|finding| format!("{}: {}", finding.object, finding.detail))
}

fn is_loss(finding: &Finding) -> bool {
    finding.kind.group() == FindingGroup::Refusal || matches!(finding.kind, FindingKind::LeftOut { .. })
}

fn unusable(path: &Path, reason: &str) -> OpError {
    OpError::Engine(EngineError::Failed { doing: format!("use {}", path.display()), reason: reason.to_owned() })
}

fn elapsed_ms(env: &dyn Env, since_us: i64) -> u64 {
    u64::try_from((env.now().0 - since_us) / 1000).unwrap_or(0)
}
