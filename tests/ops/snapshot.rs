//! A database is backed up into a repository and restored, through the library: everything is equal, and later backups
//! are cheap.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use crate::support::sqlite::assert_same_database;
use crate::support::world::awkward::fill;
use crate::support::world::findings::FindingsByKind;
use crate::support::world::look::snapshot;
use crate::support::world::{SOURCE, World, open_key};
use rusqlite::Connection;
use sidekeep::base::finding::Finding;
use sidekeep::base::progress::{CountUnit, Progress};
use sidekeep::base::revocation::RevocationReason;
use sidekeep::base::role::{Role, SourceScope};
use sidekeep::engine::contract::{Description, EngineError, Reader, Source};
use sidekeep::engine::sqlite::SqliteSource;
use sidekeep::format::entry::{EntryBody, Revoke};
use sidekeep::format::name::Name;
use sidekeep::ops::backup;

#[test]
fn a_database_is_restored_and_the_next_backup_is_cheap() {
    let world = World::new();
    let database = world.path("live.sqlite");
    let db = Connection::open(&database).expect("a database");
    fill(&db, 400);
    let first = world.backup(&database);
    let tables: Vec<_> = first.tables.iter().map(|t| (t.name.as_str(), t.rows, t.orphans, t.leaves)).collect();
    println!("{tables:?} {first:?}");
    assert!(first.gaps().is_empty(), "{:?}", first.gaps());
    let back = world.path("back.sqlite");
    let restored = world.restore(&back);
    assert!(restored.refused().is_empty() && restored.damaged().is_empty(), "{restored:?}");
    assert_eq!(restored.stale_hints, 0);
    assert_same_database(&database, &back);

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
    assert_same_database(&database, &again);
}

/// A source that claims to be larger than any disk.
struct HugeSource(SqliteSource);

impl Source for HugeSource {
    fn describe(&mut self) -> Result<Description, EngineError> {
        Ok(Description { bytes_estimate: Some(u64::MAX), ..self.0.describe()? })
    }

    fn readers(&mut self) -> Result<Vec<Box<dyn Reader + '_>>, EngineError> {
        self.0.readers()
    }

    fn release(&mut self) -> Result<Vec<Finding>, EngineError> {
        self.0.release()
    }
}

/// Collects notes for the user.
#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl Progress for Notes {
    fn phase(&self, _name: &str, _unit: CountUnit, _total: Option<u64>) {}
    fn add(&self, _count: CountUnit, _by: u64) {}
    fn note(&self, text: &str) {
        self.0.lock().expect("nobody panicked").push(text.to_owned());
    }
}

#[test]
fn too_little_space_for_temporary_files_is_noted_before_they_are_written() {
    let world = World::new();
    let database = world.path("live.sqlite");
    fill(&Connection::open(&database).expect("a database"), 10);
    let mut unlocked = world.unlock(Role::Operator);
    let notes = Arc::new(Notes::default());
    let options = world.backup_options(unlocked.find_source(Some(SOURCE)).expect("a source"));
    let options = backup::BackupOptions { progress: notes.clone(), ..options };
    let source = SqliteSource::open(&database, world.dir.path().to_owned(), world.env.clone()).expect("opened");
    backup::run(&mut unlocked, &mut HugeSource(source), &options).expect("the backup succeeds anyway");
    let notes = notes.0.lock().expect("nobody panicked");
    assert!(
        matches!(notes.as_slice(), [one] if one.contains("bytes free") && one.contains("--spill-dir")),
        "{notes:?}"
    );
}

/// Numbers of tables by name in the newest snapshot, with the names of their columns by number.
fn numbers(world: &World) -> BTreeMap<String, (u32, BTreeMap<u32, String>)> {
    let tables = snapshot(world, SOURCE, None).catalog.tables.into_iter();
    let columns = |table: &sidekeep::format::catalog::TableEntry| {
        table.columns.iter().map(|column| (column.number, column.name.to_string())).collect()
    };
    tables.map(|table| (table.name.clone(), (table.number, columns(&table)))).collect()
}

/// Overwrites the manifest of the newest snapshot.
fn lose_manifest(world: &World) {
    lose_manifest_of(world, world.ledger(SOURCE).snapshots.len() - 1);
}

fn lose_manifest_of(world: &World, at: usize) {
    let manifest = world.ledger(SOURCE).snapshots[at].snapshot.manifest.sha256;
    let path = world.path("store").join(Name::Manifest(world.source(SOURCE), manifest).to_string());
    std::fs::write(path, b"lost").expect("damage");
}

fn small(database: &Path) -> Connection {
    let db = Connection::open(database).expect("a database");
    db.execute_batch(
        "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT); CREATE TABLE notes (id INTEGER PRIMARY KEY, user_id INTEGER REFERENCES users (id), body TEXT);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000) INSERT INTO users SELECT i, 'user ' || i FROM n;
         INSERT INTO notes SELECT id * 3, id, 'note ' || id FROM users",
    )
    .expect("a service");
    db
}

#[test]
fn numbers_assigned_by_a_lost_manifest_are_never_reused() {
    let world = World::new();
    let database = world.path("live.sqlite");
    let db = small(&database);
    world.backup(&database);
    let mut assigned = vec![numbers(&world)];
    // Names that are used again for other things, which only the lost manifests record.
    db.execute_batch("ALTER TABLE notes RENAME TO old_notes; ALTER TABLE users RENAME COLUMN name TO full_name")
        .expect("a day");
    world.backup(&database);
    assigned.push(numbers(&world));
    assert_eq!(assigned[1]["old_notes"].0, assigned[0]["notes"].0, "a rename");
    db.execute_batch(
        "CREATE TABLE notes (id INTEGER PRIMARY KEY, user_id INTEGER, body TEXT); ALTER TABLE users ADD COLUMN name TEXT; CREATE TABLE gone (a)",
    )
    .expect("a day");
    world.backup(&database);
    assigned.push(numbers(&world));
    lose_manifest(&world);
    lose_manifest_of(&world, 1);
    db.execute_batch("DROP TABLE gone; ALTER TABLE users ADD COLUMN nick").expect("a day");
    for run in 3..6 {
        let report = world.backup(&database);
        assert_eq!(report.notes().len(), run - 1, "{:?}", report.notes());
        let now = numbers(&world);
        let highest = assigned.iter().flat_map(BTreeMap::values).map(|table| table.0).max().expect("tables");
        assert!(now.values().all(|table| table.0 > highest), "{now:?} {assigned:?}");
        world.assert_restores(SOURCE, report.snapshot.expect("committed"), &database);
        if run > 3 {
            assert!(report.new_bytes < 1 << 10, "no row is stored again: {report:?}");
        }
        assigned.push(now);
        lose_manifest(&world);
    }
    // Only the first snapshot is left as a parent.
    db.execute_batch("CREATE TABLE later (a)").expect("a day");
    world.backup(&database);
    let last = numbers(&world);
    let report = world.backup(&database);
    assert_eq!((numbers(&world), report.notes()), (last, vec![]), "the next backup is normal again");
}

#[test]
fn numbers_are_not_reused_without_a_parent_snapshot() {
    let world = World::new();
    let database = world.path("live.sqlite");
    drop(small(&database));
    world.backup(&database);
    let assigned = numbers(&world);
    lose_manifest(&world);
    let report = world.backup(&database);
    let highest = assigned.values().map(|table| table.0).max().expect("tables");
    assert!(numbers(&world).values().all(|table| table.0 > highest));
    assert!(report.new_bytes < 1 << 10, "no row is stored again: {report:?}");
    world.assert_restores(SOURCE, report.snapshot.expect("committed"), &database);
}

#[test]
fn a_snapshot_of_a_revoked_key_is_not_used_as_a_parent() {
    let world = World::new();
    let database = world.path("live.sqlite");
    let db = small(&database);
    world.backup(&database);
    let honest = numbers(&world);
    let thief = world.enrol(Role::Operator, Some(SourceScope::All));
    // A table under the name of another one, so that the catalog describes columns wrongly.
    let false_one = world.path("false.sqlite");
    let other = Connection::open(&false_one).expect("a database");
    other
        .execute_batch("CREATE TABLE users (name TEXT, id INTEGER PRIMARY KEY); CREATE TABLE notes (a, b, c, d)")
        .expect("a lie");
    for _ in 0..2 {
        world.try_backup_as(open_key(&thief), SOURCE, &false_one).expect("a snapshot");
    }
    let lie = numbers(&world);
    assert_ne!(lie["notes"].1, honest["notes"].1);
    world.append(
        Role::Admin,
        SOURCE,
        EntryBody::Revoke(Revoke { key: open_key(&thief).key_id(), reason: RevocationReason::Stolen }),
    );
    let report = world.backup(&database);
    assert!(report.notes().iter().any(|note| note.contains("the newest 2 snapshots")), "{:?}", report.notes());
    let now = numbers(&world);
    for (name, (number, columns)) in &now {
        assert!(*number > lie.values().map(|table| table.0).max().expect("tables"));
        assert_eq!(*columns, honest[name].1, "{name}");
    }
    assert!(report.drift().is_empty() && report.new_bytes < 1 << 10, "{report:?}");
    world.assert_restores(SOURCE, report.snapshot.expect("committed"), &database);
    db.execute_batch("UPDATE notes SET body = 'x' WHERE id = 3").expect("a day");
    let report = world.backup(&database);
    assert_eq!((numbers(&world), report.notes()), (now, vec![]));
}
