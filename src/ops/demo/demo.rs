//! The story: a service, seven nights, a disaster, a restore, and the proof.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::env::{Env, SharedEnv};
use crate::base::finding::{Finding, FindingKind};
use crate::base::id::{Digest, SourceId};
use crate::base::role::Role;
use crate::engine::contract::SourceError;
use crate::engine::sqlite::{SqliteSource, SqliteTarget};
use crate::ops::backup::{self, BackupMode, BackupOptions, BackupReport, BackupSubject};
use crate::ops::demo::clock::Clock;
use crate::ops::demo::judge::{judge, megabytes};
use crate::ops::demo::keys::DemoKeys;
use crate::ops::demo::options::DemoOptions;
use crate::ops::demo::prove::prove;
use crate::ops::demo::report::{Chapter, DemoReport, Disaster, NightlyRun, Restored};
use crate::ops::demo::service::{Day, Service, compare, holdings};
use crate::ops::diff::{self, DiffOptions};
use crate::ops::error::OpError;
use crate::ops::init::Init;
use crate::ops::placement::update::{Pinned, PlacementConfig};
use crate::ops::restore::{self, RestoreOptions, RestoreReport};
use crate::ops::select::Selector;
use crate::repo::error::RepoError;
use crate::repo::io::Objects;
use crate::repo::open::{Repository, Unlocked};
use crate::store::{Location, OpenOptions, Store};

/// What the repository calls the service's database: as a configuration does that names one database.
const SOURCE_NAME: &str = "main";

/// Tells the story to `tell`, a sentence at a time.
pub fn run(options: &DemoOptions, tell: &mut dyn FnMut(Chapter, &str)) -> Result<DemoReport, OpError> {
    let started = options.env.now();
    let dir = empty_dir(&options.dir)?;
    let clock = Arc::new(Clock::new(SharedEnv::clone(&options.env), options.runs + 1));
    let env: SharedEnv = clock.clone();
    let database = dir.join("service.sqlite");
    let mut service = Service::create(&database, options.users, env.clone())?;
    let made = format!("{} users, {} in {}", options.users, megabytes(service.size_bytes()?), database.display());
    tell(Chapter::Service, &format!("a sync service with {made}"));
    let demo = Demo::create(options, &dir, env)?;
    tell(
        Chapter::Repository,
        &format!("a repository in {}, keys in {}", demo.place.display(), demo.keys.dir().display()),
    );

    let nights = demo.nightly_runs(&mut service, &clock, tell)?;
    let last = nights.last().ok_or_else(|| OpError::NotFound("a demo needs one night at least".to_owned()))?.clone();
    let copy = dir.join("kept-aside.sqlite");
    service.copy_to(&copy)?;
    let users = service.users()?;
    let before = holdings(&copy)?;
    service.lose_everything()?;
    clock.sleep();
    let disaster = demo.disaster(&database, &last, tell)?;
    let operator_refused = demo.operator_restores(&last)?;
    tell(Chapter::Restore, &format!("the operator's key opens no row: {operator_refused}"));
    let restored = demo.restore(&last, &copy, tell)?;
    let verified = prove(&demo.unlock(Role::Admin)?, demo.source, options)?;
    let mut report = DemoReport {
        keys_dir: demo.keys.dir().to_owned(),
        repository: demo.place.clone(),
        fingerprint: demo.fingerprint,
        users,
        rows: last.rows,
        database_bytes: last.database_bytes,
        before,
        after_disaster: holdings(&database)?,
        after_restore: holdings(&restored.to)?,
        operator_refused,
        disaster,
        restored,
        verified,
        nights,
        database,
        dir,
        proven: Vec::new(),
        failures: Vec::new(),
        elapsed_ms: elapsed_ms(&*options.env, started.0),
    };
    judge(&mut report);
    report.proven.iter().chain(&report.failures).for_each(|line| tell(Chapter::Proof, line));
    Ok(report)
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
    /// Makes the repository.
    fn create(options: &'a DemoOptions, dir: &Path, env: SharedEnv) -> Result<Self, OpError> {
        let place = dir.join("store");
        let location = place.to_str().and_then(|path| Location::parse(path).ok());
        let location = location.ok_or_else(|| unusable(&place, "it cannot be named as a store"))?;
        let store = Store::create_at(&location, &OpenOptions::default()).map_err(RepoError::from)?;
        let objects = Objects::new(store.clone(), options.runtime.clone());
        let init = Init::create(objects, env.clone(), "demo")?;
        let keys = DemoKeys::write(dir.join("keys"), &init, &*env)?;
        let kept: Vec<_> =
            init.identities().iter().map(|identity| keys.read(identity.role())).collect::<Result<_, _>>()?;
        let made = init.prove(kept, Some(SOURCE_NAME))?;
        let object = "the source that was just added".to_owned();
        let source = made.source.ok_or(RepoError::Missing { object })?;
        Ok(Self { options, dir: dir.to_owned(), env, place, store, keys, source, fingerprint: made.fingerprint })
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
    ) -> Result<Vec<NightlyRun>, OpError> {
        let mut runs = Vec::new();
        for run in 0..self.options.runs {
            clock.sleep();
            let day = if run == 0 { None } else { Some(service.live_a_day()?) };
            let run = self.nightly_run(service, day)?;
            tell(Chapter::Nights, &run_words(&run));
            runs.push(run);
        }
        Ok(runs)
    }

    fn nightly_run(&self, service: &Service, day: Option<Day>) -> Result<NightlyRun, OpError> {
        let started = self.options.env.now();
        let report = self.backup(service.path())?;
        let database_bytes = service.size_bytes()?;
        let added_bytes = report.new_bytes + report.manifest_bytes;
        let (snapshot, number) = committed(&report)?;
        Ok(NightlyRun {
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
            elapsed_ms: elapsed_ms(&*self.options.env, started.0),
        })
    }

    fn backup(&self, database: &Path) -> Result<BackupReport, OpError> {
        let mut unlocked = self.unlock(Role::Operator)?;
        let options = BackupOptions {
            source: BackupSubject::Known(self.source),
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

    /// The backup after the disaster, for what it is, and what was lost.
    fn disaster(
        &self,
        database: &Path,
        last: &NightlyRun,
        tell: &mut dyn FnMut(Chapter, &str),
    ) -> Result<Disaster, OpError> {
        tell(Chapter::Disaster, "an empty database took the place of the database, and nobody noticed");
        let report = self.backup(database)?;
        let (snapshot, number) = committed(&report)?;
        let lost = diff::run(&self.unlock(Role::Admin)?, &self.diff_options(&last.snapshot, &snapshot))?;
        let rows_lost = lost.rows.removed;
        let users_affected = lost.users_differing;
        tell(
            Chapter::Disaster,
            &format!(
                "the backup of that night has {} rows; against the night before {rows_lost} rows of {users_affected} users are gone",
                report.rows
            ),
        );
        tell(
            Chapter::Disaster,
            &format!("the nights before are untouched, so number {} is named for the restore", last.number),
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

    /// What the operator's key is told when it is used to restore.
    fn operator_restores(&self, run: &NightlyRun) -> Result<String, OpError> {
        match self.restore_to(&self.dir.join("never.sqlite"), run, Role::Operator) {
            Err(error @ OpError::Repo(RepoError::WrongRole { .. })) => Ok(error.to_string()),
            Err(error) => Err(error),
            Ok(_) => Err(unusable(&self.dir, "the operator's key restored a snapshot")),
        }
    }

    fn restore_to(&self, to: &Path, run: &NightlyRun, role: Role) -> Result<RestoreReport, OpError> {
        let unlocked = self.unlock(role)?;
        let mut target = SqliteTarget::create(to, &self.env)?;
        restore::run(&unlocked, &mut target, &self.restore_options(run))
    }

    fn restore_options(&self, run: &NightlyRun) -> RestoreOptions {
        RestoreOptions {
            source: self.source,
            snapshot: Selector::Name(run.snapshot.to_string()),
            tables: Vec::new(),
            spill_dir: self.dir.clone(),
            progress: self.options.progress.clone(),
            cancel: self.options.cancel.clone(),
        }
    }

    fn restore(&self, run: &NightlyRun, copy: &Path, tell: &mut dyn FnMut(Chapter, &str)) -> Result<Restored, OpError> {
        let to = self.dir.join("restored.sqlite");
        let started = self.options.env.now();
        let report = self.restore_to(&to, run, Role::Admin)?;
        let elapsed_ms = elapsed_ms(&*self.options.env, started.0);
        let mut comparison = compare(copy, &to)?;
        for finding in report.findings.iter().filter(|finding| is_loss(finding)) {
            comparison.differences.push(format!("{}: {}", finding.object, finding.detail));
        }
        tell(Chapter::Restore, &restored_words(report.rows, elapsed_ms, &to));
        Ok(Restored { to, snapshot: report.snapshot, number: run.number, rows: report.rows, elapsed_ms, comparison })
    }
}

fn restored_words(rows: u64, elapsed_ms: u64, to: &Path) -> String {
    let seconds = elapsed_ms as f64 / 1000.0;
    format!("the admin's key restored {rows} rows in {seconds:.1} s to {}", to.display())
}

fn run_words(run: &NightlyRun) -> String {
    let added = format!("{} stored, {:.1} % of the database", megabytes(run.added_bytes), run.added_share * 100.0);
    match (run.rows_changed, run.users_active) {
        (Some(rows), Some(users)) => {
            format!("night {}: {rows} rows of {users} users changed; {added}", run.number)
        }
        _ => format!("night {}: the first, {} rows; {added}", run.number, run.rows),
    }
}

fn committed(report: &BackupReport) -> Result<(Digest, u64), OpError> {
    let missing = || RepoError::Missing { object: "the snapshot that was just taken".to_owned() };
    Ok(report.snapshot.zip(report.number).ok_or_else(missing)?)
}

/// The directory, made if it is not there. Fails if there is anything in it.
fn empty_dir(dir: &Path) -> Result<PathBuf, OpError> {
    let made = std::fs::create_dir_all(dir).and_then(|()| dir.canonicalize());
    let dir = made.map_err(|error| unusable(dir, &error.to_string()))?;
    let entries = std::fs::read_dir(&dir).map_err(|error| unusable(&dir, &error.to_string()))?;
    if entries.count() > 0 {
        return Err(SourceError::NotEmpty { what: dir.display().to_string() }.into());
    }
    Ok(dir)
}

fn is_loss(finding: &Finding) -> bool {
    finding.kind.is_refusal() || matches!(finding.kind, FindingKind::LeftOut { .. })
}

fn unusable(path: &Path, reason: &str) -> OpError {
    OpError::Source(SourceError::Failed { doing: format!("use {}", path.display()), reason: reason.to_owned() })
}

fn elapsed_ms(env: &dyn Env, since_us: i64) -> u64 {
    u64::try_from((env.now().0 - since_us) / 1000).unwrap_or(0)
}
