//! What is whole passes every level for everybody who may run it, and costs what it must.

mod common;
#[path = "common_sqlite/mod.rs"]
mod common_sqlite;
mod common_world;

use common_world::{World, day, fill, noise};
use rusqlite::Connection;
use sidekeep::base::role::Role;
use sidekeep::ops::error::OpError;
use sidekeep::ops::verify::{Level, VerifyReport, Visit};
use sidekeep::repo::error::RepoError;

fn assert_clean(report: &VerifyReport) {
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
    serde_json::to_string(report).expect("a report is JSON");
}

#[test]
fn what_is_whole_passes_every_level() {
    let world = World::new();
    assert_clean(&world.verify(None, Level::Read).expect("an empty repository"));
    let database = world.path("live.sqlite");
    let db = Connection::open(&database).expect("a database");
    fill(&db, 400);
    world.backup(&database).expect("a snapshot");
    for n in 1..=3 {
        day(&db, n);
        match n {
            2 => db.execute_batch("ALTER TABLE contacts ADD COLUMN born TEXT DEFAULT 'unknown'").expect("alters"),
            3 => db.execute_batch("ALTER TABLE log RENAME TO feed").expect("alters"),
            _ => {}
        }
        world.backup(&database).expect("a snapshot");
    }
    let quick = world.verify(None, Level::Quick).expect("quick");
    assert_clean(&quick);
    assert_eq!((quick.sources[0].entries, quick.sources[0].manifests), (4, 4));
    let read = world.verify(None, Level::Read).expect("read");
    assert_clean(&read);
    let packs: u64 = read.sources[0].packs;
    assert!(read.objects_read >= packs + 4 && read.bytes_read > read.sources[0].pack_bytes, "{read:?}");
    let roles = [Role::Operator, Role::Maintainer, Role::Admin, Role::Auditor, Role::Recovery];
    for role in roles {
        let report = world.verify(Some(role), Level::Structure).expect("structure");
        assert_clean(&report);
        let snapshots = &report.sources[0].snapshots;
        assert_eq!(snapshots.len(), 4);
        assert!(snapshots.iter().all(|snapshot| snapshot.intact && snapshot.tables.len() == 10), "{snapshots:?}");
        assert_eq!(report.sources[0].name.as_deref(), Some("sync"));
    }
    for role in [Role::Admin, Role::Recovery] {
        let report = world.verify(Some(role), Level::Deep).expect("deep");
        assert_clean(&report);
        let snapshots = &report.sources[0].snapshots;
        println!("{snapshots:#?}");
        // What is shared is opened once.
        let (newest, rest) = snapshots.split_first().expect("four");
        let others: u64 = rest.iter().map(|snapshot| snapshot.opened_bytes).sum();
        assert!(newest.opened_bytes > others, "{} {others}", newest.opened_bytes);
    }
    let again = world.verify_again(None, Level::Quick, Visit::Again(quick.heads.clone().expect("heads")));
    assert_clean(&again.expect("again"));
}

#[test]
fn a_level_needs_its_key() {
    let world = World::new();
    for level in [Level::Structure, Level::Deep] {
        let error = world.verify(None, level).expect_err("needs a key");
        assert!(matches!(error, OpError::Repo(RepoError::NoKey { .. })), "{error}");
    }
    for role in [Role::Operator, Role::Maintainer, Role::Auditor] {
        let error = world.verify(Some(role), Level::Deep).expect_err("needs an admin");
        assert!(matches!(error, OpError::Repo(RepoError::WrongRole { .. })), "{error}");
        assert!(error.to_string().contains("an admin"), "{error}");
    }
}

#[test]
fn trees_of_several_levels_pass() {
    let world = World::new();
    let database = world.path("live.sqlite");
    let db = Connection::open(&database).expect("a database");
    db.execute_batch("CREATE TABLE wide (id INTEGER PRIMARY KEY, bytes BLOB); BEGIN").expect("a table");
    for n in 0..3000i64 {
        db.execute("INSERT INTO wide VALUES (?1, ?2)", (n * 2, noise(n as u64, 4100))).expect("a row");
    }
    db.execute_batch("COMMIT").expect("commits");
    world.backup(&database).expect("a snapshot");
    for n in [10i64, 700, 1501, 2970] {
        db.execute("INSERT INTO wide VALUES (?1, ?2)", (n * 2 + 1, noise(n as u64 + 9000, 4100))).expect("a row");
        db.execute("DELETE FROM wide WHERE id = ?1", [n * 2 + 40]).expect("deletes");
    }
    world.backup(&database).expect("a snapshot");
    let report = world.verify(Some(Role::Admin), Level::Deep).expect("deep");
    assert_clean(&report);
    let snapshots = &report.sources[0].snapshots;
    assert!(snapshots.iter().all(|snapshot| snapshot.nodes > 1), "{snapshots:#?}");
    assert_eq!(snapshots[0].tables[0].rows, 3000);
    assert!(snapshots[1].opened < 200, "{snapshots:#?}");
}
