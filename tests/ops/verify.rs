//! An intact repository passes every level of verify, for every role that may run it. Shared data is opened only once.

use crate::support::stored_world::StoredWorld;
use crate::support::stores::faulty::{Fault, Faulty, Plan, Verb};
use crate::support::world::awkward::{day, fill};
use crate::support::world::data::{create_service, noise};
use crate::support::world::{SOURCE, World};
use rusqlite::Connection;
use sidekeep::base::finding::{FindingKind, Severity};
use sidekeep::base::id::Digest;
use sidekeep::base::revocation::RevocationReason;
use sidekeep::base::role::Role;
use sidekeep::format::entry::{AcceptLoss, EntryBody, Numbered};
use sidekeep::format::name::Name;
use sidekeep::format::roster::{RevokeKey, RosterStatement};
use sidekeep::ops::access::RepositoryAccess;
use sidekeep::ops::error::OpError;
use sidekeep::ops::verify::{VerifyLevel, VerifyReport};
use sidekeep::repo::error::RepoError;

fn assert_clean(report: &VerifyReport) {
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
    serde_json::to_string(report).expect("a report is JSON");
}

#[test]
fn an_intact_repository_passes_every_level() {
    let world = StoredWorld::new();
    assert_clean(&world.verify(None, VerifyLevel::Read).expect("an empty repository"));
    let database = world.path("live.sqlite");
    let db = Connection::open(&database).expect("a database");
    fill(&db, 400);
    world.try_backup(&database).expect("a snapshot");
    for n in 1..=3 {
        day(&db, n);
        match n {
            2 => db.execute_batch("ALTER TABLE contacts ADD COLUMN born TEXT DEFAULT 'unknown'").expect("alters"),
            3 => db.execute_batch("ALTER TABLE log RENAME TO feed").expect("alters"),
            _ => {}
        }
        world.try_backup(&database).expect("a snapshot");
    }
    let quick = world.verify(None, VerifyLevel::Quick).expect("quick");
    assert_clean(&quick);
    assert_eq!((quick.sources[0].entries, quick.sources[0].manifests), (4, 4));
    let read = world.verify(None, VerifyLevel::Read).expect("read");
    assert_clean(&read);
    let packs: u64 = read.sources[0].packs;
    assert!(read.objects_read >= packs + 4 && read.bytes_read > read.sources[0].pack_bytes, "{read:?}");
    let roles = [Role::Operator, Role::Maintainer, Role::Admin, Role::Auditor, Role::Recovery];
    for role in roles {
        let report = world.verify(Some(role), VerifyLevel::Structure).expect("structure");
        assert_clean(&report);
        let snapshots = &report.sources[0].snapshots;
        assert_eq!(snapshots.len(), 4);
        assert!(snapshots.iter().all(|snapshot| snapshot.intact && snapshot.tables.len() == 10), "{snapshots:?}");
        assert_eq!(report.sources[0].name.as_deref(), Some("sync"));
    }
    for role in [Role::Admin, Role::Recovery] {
        let report = world.verify(Some(role), VerifyLevel::Deep).expect("deep");
        assert_clean(&report);
        let snapshots = &report.sources[0].snapshots;
        println!("{snapshots:#?}");
        // Shared data is opened only once.
        let (newest, rest) = snapshots.split_first().expect("four");
        let others: u64 = rest.iter().map(|snapshot| snapshot.opened_bytes).sum();
        assert!(newest.opened_bytes > others, "{} {others}", newest.opened_bytes);
    }
    let again = world.verify_again(None, VerifyLevel::Quick, Some(quick.heads.clone().expect("heads")));
    assert_clean(&again.expect("again"));
}

#[test]
fn a_level_without_the_key_that_it_needs_is_refused() {
    let world = StoredWorld::new();
    for level in [VerifyLevel::Structure, VerifyLevel::Deep] {
        let error = world.verify(None, level).expect_err("needs a key");
        assert!(matches!(error, OpError::Repo(RepoError::NoKey { .. })), "{error}");
    }
    for role in [Role::Operator, Role::Maintainer, Role::Auditor] {
        let error = world.verify(Some(role), VerifyLevel::Deep).expect_err("needs an admin");
        assert!(matches!(error, OpError::Repo(RepoError::WrongRole { .. })), "{error}");
        assert!(error.to_string().contains("an admin"), "{error}");
    }
}

#[test]
fn trees_of_several_levels_pass() {
    let world = StoredWorld::new();
    let database = world.path("live.sqlite");
    let db = Connection::open(&database).expect("a database");
    db.execute_batch("CREATE TABLE wide (id INTEGER PRIMARY KEY, bytes BLOB); BEGIN").expect("a table");
    for n in 0..3000i64 {
        db.execute("INSERT INTO wide VALUES (?1, ?2)", (n * 2, noise(n as u64, 4100))).expect("a row");
    }
    db.execute_batch("COMMIT").expect("commits");
    world.try_backup(&database).expect("a snapshot");
    for n in [10i64, 700, 1501, 2970] {
        db.execute("INSERT INTO wide VALUES (?1, ?2)", (n * 2 + 1, noise(n as u64 + 9000, 4100))).expect("a row");
        db.execute("DELETE FROM wide WHERE id = ?1", [n * 2 + 40]).expect("deletes");
    }
    world.try_backup(&database).expect("a snapshot");
    let report = world.verify(Some(Role::Admin), VerifyLevel::Deep).expect("deep");
    assert_clean(&report);
    let snapshots = &report.sources[0].snapshots;
    assert!(snapshots.iter().all(|snapshot| snapshot.nodes > 1), "{snapshots:#?}");
    assert_eq!(snapshots[0].tables[0].rows, 3000);
    assert!(snapshots[1].opened < 200, "{snapshots:#?}");
}

#[test]
fn a_manifest_of_any_size_is_parsed() {
    let world = StoredWorld::new();
    let garbage = vec![0; 33 << 20];
    let name = Name::Manifest(world.source(SOURCE), Digest::of(&garbage)).to_string();
    world.overwrite(&name, garbage.into());
    let report = world.verify(None, VerifyLevel::Read).expect("read");
    let mut of_manifest = report.findings.iter().filter(|found| found.object == name);
    assert!(of_manifest.any(|found| found.detail.contains("is not a Sidekeep object")), "{:#?}", report.findings);
}

#[test]
fn a_fragment_of_a_revoked_operator_is_not_counted_as_checked() {
    let world = StoredWorld::new();
    let database = world.path("live.sqlite");
    fill(&Connection::open(&database).expect("a database"), 20);
    world.try_backup(&database).expect("a snapshot");
    let fragments = |severity: Option<Severity>| {
        let report = world.verify(Some(Role::Admin), VerifyLevel::Structure).expect("structure");
        let stale = report.findings.iter().filter(|found| found.kind == FindingKind::StaleIndex);
        assert!(stale.map(|found| Some(found.severity)).eq(severity.map(Some)), "{:#?}", report.findings);
        report.sources[0].fragments
    };
    assert_eq!(fragments(None), 1);
    let operator = world.key(Role::Operator).key_id();
    world.state(
        Role::Admin,
        vec![RosterStatement::Revoke(RevokeKey { key: operator, reason: RevocationReason::Stolen })],
    );
    assert_eq!(fragments(Some(Severity::Information)), 0);
}

/// No failed read is taken for a fault of what was to be read, not even of a value that is part of a key.
#[test]
fn a_store_that_fails_fails_the_check() {
    let (world, memory) = World::in_memory();
    let database = world.path("live.sqlite");
    let db = Connection::open(&database).expect("a database");
    db.execute_batch("CREATE TABLE t (k BLOB PRIMARY KEY, v) WITHOUT ROWID").expect("a table");
    for n in 0..3u64 {
        db.execute("INSERT INTO t VALUES (?1, ?2)", (noise(n, 9000), noise(n + 10, 9000))).expect("a row");
    }
    world.try_backup(&database).expect("a snapshot");
    let verify = |first: u64| {
        let plan = Plan { verbs: &[Verb::Get], prefix: "", first, times: 1, fault: Fault::Refused };
        let faulty = Faulty::new(memory.clone(), plan);
        let report = world.beside(faulty.clone()).verify(Some(Role::Admin), VerifyLevel::Deep);
        (report, faulty.calls())
    };
    let (intact, calls) = verify(u64::MAX);
    assert_clean(&intact.expect("deep"));
    for first in 1..=calls {
        let (report, _) = verify(first);
        assert!(report.is_err(), "call {first} of {calls}: {:#?}", report.expect("a report").findings);
    }
}

/// Not a test: prints how fast every byte is read. `SIDEKEEP_BENCH_DIR` names a directory with 3 GB of free space.
#[test]
#[ignore = "a measurement"]
fn reading_is_as_fast_as_the_disk() {
    use sidekeep::ops::verify::{VerifyOptions, run};
    use sidekeep::repo::objects::Objects;
    use sidekeep::store::{Location, OpenOptions, Store};
    let Ok(dir) = std::env::var("SIDEKEEP_BENCH_DIR") else {
        eprintln!("skipped: SIDEKEEP_BENCH_DIR is not set");
        return;
    };
    let mut world = StoredWorld::new();
    let database = world.path("live.sqlite");
    let db = Connection::open(&database).expect("a database");
    fill(&db, 20);
    world.try_backup(&database).expect("a snapshot");
    let source = world.names().into_iter().find(|name| name.contains("/ledger/")).expect("an entry");
    let source = source.split('/').next().expect("a source");
    let root = std::path::Path::new(&dir).join("store");
    if !root.exists() {
        for (name, bytes) in world.image() {
            let path = root.join(&name);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("makes");
            std::fs::write(path, bytes).expect("writes");
        }
        for n in 0..180 {
            let bytes = noise(n, 16 << 20);
            let digest = Digest::of(&bytes).to_string();
            let path = root.join(format!("{source}/packs/{}/{digest}", &digest[..2]));
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("makes");
            std::fs::write(path, bytes).expect("writes");
        }
    }
    world.reset(&[]);
    let location: Location = root.to_str().expect("utf-8").parse().expect("a location");
    let store = Store::open_with(&location, &OpenOptions::default()).expect("a store");
    let objects = Objects::new(store, world.runtime.handle().clone());
    let repository = sidekeep::repo::open::Repository::open(objects, world.env.clone()).expect("opens");
    let options = VerifyOptions {
        level: VerifyLevel::Read,
        source: None,
        snapshots: Vec::new(),
        known_heads: None,
        progress: std::sync::Arc::new(sidekeep::base::progress::Silent),
        cancel: sidekeep::base::cancel::Cancel::default(),
    };
    let start = std::time::Instant::now();
    let report = run(RepositoryAccess::WithoutKey(&repository), &options).expect("reads");
    let seconds = start.elapsed().as_secs_f64();
    let status = std::fs::read_to_string("/proc/self/status").expect("status");
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).expect("a peak");
    println!(
        "{} bytes in {seconds:.2} s, {:.0} MB/s, {peak}",
        report.bytes_read,
        report.bytes_read as f64 / seconds / 1e6
    );
}

/// A store that rolls back shows a shorter ledger. An admin says what is lost, and no other head passes.
#[test]
fn a_known_head_is_given_up_only_if_an_admin_names_it() {
    let world = World::new();
    let live = world.path("live");
    create_service(&live, 5);
    world.backup(&live);
    world.backup(&live);
    let known = world.verify(None, VerifyLevel::Quick).expect("verifies").heads.expect("heads");
    let (source, head) = known.ledgers.first_key_value().map(|(source, head)| (*source, *head)).expect("a ledger");
    let entry = world.path("store").join(Name::Ledger(source, head.number).to_string());
    std::fs::remove_file(entry).expect("removes");
    let is_damaged =
        || world.verify_again(None, VerifyLevel::Quick, Some(known.clone())).expect("verifies").has_damage();
    let accept_loss = |lost| {
        let loss = AcceptLoss { lost, reason: "the store lost it".to_owned() };
        world.append(Role::Admin, SOURCE, EntryBody::AcceptLoss(loss));
    };
    assert!(is_damaged());
    accept_loss(vec![Numbered { sha256: Digest::new([1; 32]), ..head }]);
    assert!(is_damaged());
    accept_loss(vec![head]);
    assert!(!is_damaged());
}
