//! Reports on a repository: the list of snapshots, one snapshot, the status of all sources, and the doctor.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::support::stores::faulty::{Effect, Fault, Faulty, Plan, Verb};
use crate::support::world::World;
use rusqlite::Connection;
use sidekeep::base::env::{Seeded, SharedEnv, System};
use sidekeep::base::finding::FindingKind;
use sidekeep::base::progress::Silent;
use sidekeep::base::role::Role;
use sidekeep::engine::sqlite::SqliteSource;
use sidekeep::ops::access::RepositoryAccess;
use sidekeep::ops::doctor::{self, CheckState, ConfigFact, DoctorOptions, DoctorReport, LiveSource};
use sidekeep::ops::select::Selector;
use sidekeep::ops::show::{self, ShowOptions};
use sidekeep::ops::snapshots::{self, Counts, SnapshotState, SnapshotsOptions, SourceSnapshots};
use sidekeep::ops::status::{self, Freshness, NewestSnapshotState, StatusOptions, StatusReport};
use sidekeep::repo::open::Repository;
use sidekeep::store::Store;

const SCHEMA: &str = "
PRAGMA foreign_keys = OFF;
CREATE TABLE users (id INTEGER PRIMARY KEY, email TEXT);
CREATE TABLE contacts (id TEXT PRIMARY KEY, user_id INTEGER REFERENCES users (id)) WITHOUT ROWID;
INSERT INTO users VALUES (1, 'a'), (2, 'b'); INSERT INTO contacts VALUES ('x', 1), ('y', 2), ('z', 3);
";

fn two_backups() -> World {
    let world = World::new();
    let database = world.path("live.sqlite");
    let db = Connection::open(&database).expect("a database");
    db.execute_batch(SCHEMA).expect("a schema");
    world.backup(&database);
    db.execute_batch("INSERT INTO contacts VALUES ('w', 1)").expect("a day");
    world.backup(&database);
    world
}

fn list(access: RepositoryAccess<'_>) -> SourceSnapshots {
    let options = SnapshotsOptions { sources: Vec::new(), counts: Counts::Read };
    snapshots::run(access, &options).expect("a list").sources.remove(0)
}

#[test]
fn everybody_sees_the_list_and_key_holders_see_the_counts() {
    let world = two_backups();
    let repository = world.repository();
    let public = list(RepositoryAccess::WithoutKey(&repository));
    assert_eq!((public.name.as_deref(), public.snapshots.len()), (None, 2));
    assert!(public.snapshots.iter().all(|line| line.rows.is_none() && line.unreadable.is_none()));
    for role in Role::ALL {
        let unlocked = world.unlock(role);
        let listed = list(RepositoryAccess::WithKey(&unlocked));
        assert_eq!(listed.name.as_deref(), Some("sync"));
        let rows: Vec<_> = listed.snapshots.iter().map(|line| (line.number, line.rows, line.state)).collect();
        assert_eq!(rows, [(1, Some(5), SnapshotState::Clean), (2, Some(6), SnapshotState::Clean)]);
        assert!(listed.snapshots.iter().all(|line| line.new_bytes > 0 && line.bytes > Some(0)));
        assert_eq!(listed.snapshots[0].signer_label.as_deref(), Some("test operator"));

        let source = unlocked.find_source(None).expect("a source");
        let shown = show::run(&unlocked, &ShowOptions { source, snapshot: Selector::Latest(1) }).expect("a snapshot");
        assert_eq!((shown.snapshot, shown.rows, shown.orphans), (listed.snapshots[0].id, 5, 1));
        assert_eq!((shown.entry.packs.bytes, shown.entry.number), (listed.snapshots[0].new_bytes, 1));
        let latest = show::run(&unlocked, &ShowOptions { source, snapshot: Selector::Latest(0) }).expect("a snapshot");
        assert_eq!(latest.entry.previous, shown.snapshot);
        assert_eq!(latest.tables.iter().map(|table| table.rows).sum::<u64>(), 6);
    }
}

#[test]
fn a_missing_manifest_hides_no_other_snapshot() {
    let world = two_backups();
    let unlocked = world.unlock(Role::Auditor);
    let newest = list(RepositoryAccess::WithKey(&unlocked)).snapshots.remove(1);
    let source = unlocked.find_source(None).expect("a source");
    let shown = show::run(&unlocked, &ShowOptions { source, snapshot: Selector::Latest(0) }).expect("a snapshot");
    let name = format!("{source}/manifests/{}", shown.manifest.sha256);
    world.runtime.block_on(world.store().delete(&name)).expect("deletes");
    let listed = list(RepositoryAccess::WithKey(&unlocked));
    assert_eq!((listed.snapshots[0].rows, listed.snapshots[1].rows), (Some(5), None));
    assert!(listed.snapshots[1].unreadable.is_some() && listed.snapshots[1].id == newest.id);
    let report = status_at(&world, Role::Auditor, 0);
    assert_eq!(report.findings.iter().map(|finding| &finding.kind).collect::<Vec<_>>(), [&FindingKind::Unreadable]);
}

/// The status as seen by a host whose clock is `later_s` after the backups.
fn status_at(world: &World, role: Role, later_s: i64) -> StatusReport {
    let env = Seeded::new(1);
    env.advance_us(3_600_000_000 + later_s * 1_000_000);
    let unlocked =
        Repository::open(world.objects(), Arc::new(env)).expect("opens").unlock(world.key(role)).expect("unlocks");
    let hour = Duration::from_hours(2);
    status::run(&unlocked, &StatusOptions { sources: Vec::new(), max_age: hour, max_age_of: BTreeMap::new() })
        .expect("a status")
}

#[test]
fn old_and_unproven_snapshots_are_reported() {
    let world = World::new();
    let empty = status_at(&world, Role::Auditor, 0);
    assert_eq!((empty.sources[0].freshness, empty.findings.len()), (Freshness::Empty, 1));
    let world = two_backups();
    for (role, opening) in [
        (Role::Admin, NewestSnapshotState::Proven),
        (Role::Recovery, NewestSnapshotState::Proven),
        (Role::Auditor, NewestSnapshotState::Unproven),
        (Role::Operator, NewestSnapshotState::Unproven),
    ] {
        let fresh = status_at(&world, role, 0);
        assert_eq!((fresh.sources[0].freshness, &fresh.sources[0].opening), (Freshness::Fresh, &opening));
        assert!(fresh.findings.is_empty(), "{:?}", fresh.findings);
    }
    let stale = status_at(&world, Role::Auditor, 7200);
    assert_eq!(stale.sources[0].freshness, Freshness::Stale);
    assert!(matches!(stale.findings[0].kind, FindingKind::Stale { .. }), "{:?}", stale.findings);
    let behind = status_at(&world, Role::Auditor, -8 * 3600);
    assert!(matches!(behind.findings[0].kind, FindingKind::ClockSkew { seconds: 1.. }), "{:?}", behind.findings);
}

fn examine(world: &World, role: Role, database: &str, config: Vec<ConfigFact>) -> DoctorReport {
    let env: SharedEnv = Arc::new(System);
    let path = world.path(database);
    let dir = world.dir.path().to_owned();
    let opened = env.clone();
    let open_source = Box::new(move || {
        let source = SqliteSource::open(&path, dir, opened)?;
        Ok(Box::new(source) as Box<dyn sidekeep::engine::contract::Source>)
    });
    doctor::run(DoctorOptions {
        config,
        store: Some(Box::new(|| Ok(world.objects()))),
        key: Some(Box::new(|| Ok(world.key(role)))),
        sources: vec![LiveSource { name: "main".to_owned(), examine: None, open: open_source }],
        spill_dir: world.dir.path().to_owned(),
        spill_bytes_min: 1,
        env,
        progress: Arc::new(Silent),
    })
}

fn states(report: &DoctorReport, state: CheckState) -> Vec<&str> {
    report.checks.iter().filter(|check| check.state == state).map(|check| check.name.as_str()).collect()
}

#[test]
fn a_doctor_finds_problems_and_leaves_no_objects() {
    let world = two_backups();
    for role in Role::ALL {
        let report = examine(&world, role, "live.sqlite", Vec::new());
        assert_eq!(report.state, CheckState::Ok, "{:?}", report.checks);
        assert_eq!(report.checks.len(), 14, "{:?}", report.checks);
    }
    let left = world.runtime.block_on(world.store().list_sorted("probe")).expect("a list");
    assert!(left.is_empty(), "{left:?}");
    let wrong = ConfigFact { name: "configuration".to_owned(), detail: Err("no such setting".to_owned()) };
    let report = examine(&world, Role::Operator, "nowhere.sqlite", vec![wrong]);
    assert_eq!(states(&report, CheckState::Failed), ["configuration", "database main"]);
    assert!(report.checks.iter().all(|check| check.remedy.is_some() == (check.state >= CheckState::Warning)));
}

/// The documentation recommends such credentials.
#[test]
fn a_store_that_does_not_allow_deleting_is_information() {
    for (fault, state) in
        [(Fault::Refused, CheckState::Information), (Fault::Lost(Effect::NotApplied), CheckState::Warning)]
    {
        let (mut world, memory) = World::in_memory();
        let db = Connection::open(world.path("live.sqlite")).expect("a database");
        db.execute_batch(SCHEMA).expect("a schema");
        let plan = Plan { verbs: &[Verb::Delete], prefix: "probe/", first: 1, times: u64::MAX, fault };
        world.through(Store::from_object_store(Faulty::new(memory, plan)));
        let report = examine(&world, Role::Operator, "live.sqlite", Vec::new());
        assert_eq!(report.state, state, "{:?}", report.checks);
        let check = report.checks.iter().find(|check| check.name == "delete").expect("a check");
        assert_eq!(check.state, state);
        assert!(check.remedy.as_deref().is_some_and(|remedy| remedy.contains("probe/")), "{check:?}");
        assert_eq!(report.findings.iter().all(|finding| !finding.matters()), state == CheckState::Information);
        let left = world.runtime.block_on(world.store().list_sorted("probe")).expect("a list");
        assert_eq!(left.len(), 2, "{left:?}");
    }
}

#[test]
fn a_doctor_continues_without_a_store_or_repository() {
    let mut world = two_backups();
    let unreachable = DoctorOptions {
        config: Vec::new(),
        store: Some(Box::new(|| Err("no route to host".into()))),
        key: Some(Box::new(|| Ok(world.key(Role::Admin)))),
        sources: Vec::new(),
        spill_dir: world.path("not there"),
        spill_bytes_min: 1,
        env: Arc::new(System),
        progress: Arc::new(Silent),
    };
    let report = doctor::run(unreachable);
    assert_eq!(states(&report, CheckState::Failed), ["store", "temporary files"]);
    assert_eq!(states(&report, CheckState::Skipped), ["repository"]);
    world.through(Store::from_object_store(Arc::new(object_store::memory::InMemory::new())));
    let report = examine(&world, Role::Admin, "live.sqlite", Vec::new());
    assert_eq!(states(&report, CheckState::Failed), ["repository"]);
}
