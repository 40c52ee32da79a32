//! The same rows and column map give the same roots, whatever happened before.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use crate::support::world::data::{copy, create_service, draw, open};
use crate::support::world::look::{Roots, snapshot};
use crate::support::world::{SOURCE, World, times};

/// Tables with irregular rows: users that do not exist, contacts without a user, shares whose two paths lead to
/// different owners.
const SCHEMA: &str = "
    CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT);
    CREATE TABLE contacts (id INTEGER PRIMARY KEY, user_id INTEGER REFERENCES users (id) ON DELETE CASCADE, name TEXT);
    CREATE TABLE shares (contact_id INTEGER REFERENCES contacts (id), user_id INTEGER REFERENCES users (id), since REAL, PRIMARY KEY (contact_id, user_id)) WITHOUT ROWID;
    CREATE TABLE settings (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
";
const TABLES: [&str; 4] = ["users", "contacts", "shares", "settings"];

/// The rows of each table, by their keys.
type Rows = [BTreeMap<String, Vec<Value>>; 4];

fn rows() -> impl Strategy<Value = Rows> {
    let id = || -20_i64..120;
    let users = prop::collection::vec((id(), ".{0,8}").prop_map(|(id, name)| vec![id.into(), name.into()]), 0..60);
    let contact = (-50_i64..600, prop::option::of(id()), "[a-z ]{0,30}");
    let contact = contact.prop_map(|(id, user, name)| vec![id.into(), user.into(), name.into()]);
    let share = (-50_i64..600, id(), any::<i32>());
    let share = share.prop_map(|(contact, user, since)| vec![contact.into(), user.into(), f64::from(since).into()]);
    let setting = ("[a-z]{0,9}", prop::collection::vec(any::<u8>(), 0..40));
    let setting = setting.prop_map(|(name, value)| vec![name.into(), value.into()]);
    let keyed = |rows: Vec<Vec<Value>>, columns: usize| {
        rows.into_iter().map(|row| (format!("{:?}", &row[..columns]), row)).collect::<BTreeMap<_, _>>()
    };
    let (contacts, shares, settings) = (
        prop::collection::vec(contact, 0..300),
        prop::collection::vec(share, 0..120),
        prop::collection::vec(setting, 0..8),
    );
    (users, contacts, shares, settings).prop_map(move |(users, contacts, shares, settings)| {
        [keyed(users, 1), keyed(contacts, 1), keyed(shares, 2), keyed(settings, 1)]
    })
}

/// Writes all rows, in an order that depends on `seed`, or in the order of their keys if it is 0.
fn write(db: &Connection, rows: &Rows, seed: i64) {
    let mut all: Vec<(i64, &str, &Vec<Value>)> = Vec::new();
    for (table, rows) in TABLES.iter().zip(rows) {
        for row in rows.values() {
            let at = all.len() as i64;
            all.push((if seed == 0 { at } else { draw(seed.wrapping_add(at), i64::MAX) }, table, row));
        }
    }
    all.sort_by_key(|row| row.0);
    db.execute_batch("BEGIN").expect("begins");
    for (_, table, row) in all {
        let marks = vec!["?"; row.len()].join(", ");
        db.execute(&format!("REPLACE INTO {table} VALUES ({marks})"), params_from_iter(row)).expect("a row");
    }
    db.execute_batch("COMMIT").expect("commits");
}

/// A database that contains exactly `rows`, built directly.
fn build(path: &Path, rows: &Rows) -> Connection {
    let db = open(path);
    db.execute_batch(SCHEMA).expect("a schema");
    write(&db, rows, 0);
    db
}

/// Changes a database that contains `before` until it contains exactly `rows`, by detours.
fn build_by_detours(db: &Connection, rows: &Rows, seed: i64) {
    write(db, rows, seed);
    let spoil = "UPDATE users SET name = 'spoilt' WHERE id % 2; UPDATE contacts SET user_id = 7; DELETE FROM shares;
        DELETE FROM contacts WHERE id % 3 = 0";
    db.execute_batch(spoil).expect("spoils");
    for (table, rows) in TABLES.iter().zip(rows) {
        if draw(seed, 2) == 0 || rows.is_empty() {
            db.execute_batch(&format!("DELETE FROM {table}")).expect("empties");
        }
    }
    write(db, rows, seed.wrapping_mul(31));
    // Deletes the rows that are not wanted.
    db.execute_batch("ATTACH ':memory:' AS wanted").expect("attaches");
    for (table, rows) in TABLES.iter().zip(rows) {
        db.execute_batch(&format!("CREATE TABLE wanted.{table} AS SELECT * FROM main.{table} LIMIT 0"))
            .expect("a table");
        for row in rows.values() {
            let marks = vec!["?"; row.len()].join(", ");
            db.execute(&format!("INSERT INTO wanted.{table} VALUES ({marks})"), params_from_iter(row)).expect("a row");
        }
        let key = match *table {
            "shares" => "contact_id, user_id",
            "settings" => "name",
            _ => "id",
        };
        let unwanted = format!("DELETE FROM main.{table} WHERE ({key}) NOT IN (SELECT {key} FROM wanted.{table})");
        db.execute_batch(&unwanted).expect("deletes");
    }
    db.execute_batch("DETACH wanted").expect("detaches");
    if draw(seed.wrapping_add(1), 2) == 0 {
        db.execute_batch("VACUUM").expect("vacuums");
    }
}

#[test]
fn roots_depend_only_on_the_rows() {
    let (base, memory) = World::in_memory();
    let config = ProptestConfig { cases: times(8) as u32, failure_persistence: None, ..ProptestConfig::default() };
    let strategy = (rows(), rows(), 1_i64..1 << 40, any::<bool>());
    let law = |(rows, before, seed, has_earlier_backup): (Rows, Rows, i64, bool), round: i32| -> (Roots, Roots) {
        let direct = base.beside(Arc::new(memory.fork()));
        let path = base.path(&format!("direct-{round}"));
        build(&path, &rows);
        direct.backup(&path);

        let other = base.beside(Arc::new(memory.fork()));
        let path = base.path(&format!("other-{round}"));
        let db = build(&path, &before);
        if has_earlier_backup {
            other.backup(&path);
        }
        build_by_detours(&db, &rows, seed);
        other.backup(&path);
        (snapshot(&direct, SOURCE, None).roots, snapshot(&other, SOURCE, None).roots)
    };
    let rounds = std::cell::Cell::new(0);
    let result = TestRunner::new(config).run(&strategy, |input| {
        rounds.set(rounds.get() + 1);
        let (direct, other) = law(input, rounds.get());
        prop_assert_eq!(direct.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>(), "trees");
        prop_assert!(direct == other, "roots differ");
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn old_rows_have_the_old_roots() {
    let (world, _) = World::in_memory();
    let path = world.path("live");
    let db = create_service(&path, 300);
    world.backup(&path);
    let first = snapshot(&world, SOURCE, None);
    let kept = world.path("kept");
    copy(&path, &kept);

    db.execute_batch("DELETE FROM fields WHERE contact_id % 3 = 0; UPDATE contacts SET name = 'x'; VACUUM")
        .expect("a day");
    world.backup(&path);
    assert_ne!(snapshot(&world, SOURCE, None).roots, first.roots);
    db.execute_batch("DELETE FROM users; DELETE FROM contacts; DELETE FROM fields; DELETE FROM photos")
        .expect("a bad day");
    world.backup(&path);

    let back = world.backup(&kept);
    assert_eq!(snapshot(&world, SOURCE, None).roots, first.roots);
    assert_eq!((back.packs, back.new_bytes), (0, 0), "everything was stored already: {back:?}");
}
