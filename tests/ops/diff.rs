//! The diff of two snapshots shows exactly the rows in which the database differed, and reads only what differs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use crate::support::property::with_cases;
use crate::support::world::World;
use proptest::prelude::*;
use rusqlite::Connection;
use rusqlite::types::Value;
use sidekeep::base::cancel::Cancel;
use sidekeep::base::progress::Silent;
use sidekeep::base::role::Role;
use sidekeep::ops::diff::{self, Changes, DiffOptions, DiffReport, RowChange, TablePresence};
use sidekeep::ops::error::OpError;
use sidekeep::ops::select::Selector;
use sidekeep::store::Counters;

pub fn options(world: &World) -> DiffOptions {
    DiffOptions {
        source: world.unlock(Role::Admin).find_source(None).expect("a source"),
        old: Selector::Latest(1),
        new: Selector::Latest(0),
        table: None,
        user: None,
        samples_max: 0,
        users_max: 1000,
        spill_dir: world.dir.path().to_owned(),
        progress: Arc::new(Silent),
        cancel: Cancel::default(),
    }
}

fn diff(world: &World, options: &DiffOptions) -> DiffReport {
    diff::run(&world.unlock(Role::Admin), options).expect("a diff")
}

fn rows_of(report: &DiffReport, table: &str) -> Changes {
    report.tables.iter().find(|found| found.name == table).map(|found| found.rows).unwrap_or_default()
}

const SCHEMA: &str = "
CREATE TABLE users (id INTEGER PRIMARY KEY, email TEXT);
CREATE TABLE contacts (id TEXT PRIMARY KEY, user_id INTEGER REFERENCES users (id), name) WITHOUT ROWID;
CREATE TABLE fields (id INTEGER PRIMARY KEY, contact_id TEXT REFERENCES contacts (id), value);
CREATE TABLE odd (rowid, _rowid_, oid, v);
CREATE TABLE tags (name TEXT PRIMARY KEY, v);
";

/// Table -> key -> (owner, cells) of each row with this key.
type Rows = BTreeMap<&'static str, BTreeMap<String, Vec<(Option<String>, String)>>>;

/// What the database contains, read only by SQL.
fn all_rows(db: &Connection) -> Rows {
    let owner_of_contact = "(SELECT id FROM users WHERE id = c.user_id)";
    let queries = [
        ("users", "id".to_owned(), "id".to_owned(), "quote(id) || quote(email)", "users"),
        (
            "contacts",
            "c.id".to_owned(),
            owner_of_contact.to_owned(),
            "quote(c.id) || quote(user_id) || quote(name)",
            "contacts c",
        ),
        (
            "fields",
            "f.id".to_owned(),
            owner_of_contact.to_owned(),
            "quote(f.id) || quote(contact_id) || quote(value)",
            "fields f LEFT JOIN contacts c ON c.id = f.contact_id",
        ),
        ("odd", "''".to_owned(), "NULL".to_owned(), "quote(\"rowid\") || quote(v)", "odd"),
        ("tags", "quote(name)".to_owned(), "NULL".to_owned(), "quote(name) || quote(v) || rowid", "tags"),
    ];
    let mut all = Rows::new();
    for (table, key, owner, cells, from) in queries {
        let mut statement = db.prepare(&format!("SELECT {key}, {owner}, {cells} FROM {from}")).expect("a query");
        let mut rows = statement.query([]).expect("rows");
        while let Some(row) = rows.next().expect("a row") {
            let text = |value: Value| match value {
                Value::Null => None,
                Value::Integer(n) => Some(n.to_string()),
                Value::Text(text) => Some(text),
                other => Some(format!("{other:?}")),
            };
            let key = text(row.get(0).expect("a key")).unwrap_or_default();
            let row = (text(row.get(1).expect("an owner")), row.get(2).expect("cells"));
            all.entry(table).or_default().entry(key).or_default().push(row);
        }
    }
    all
}

#[derive(Default)]
struct Expected {
    tables: BTreeMap<&'static str, Changes>,
    users: BTreeMap<String, Changes>,
}

fn expected(old: &Rows, new: &Rows) -> Expected {
    let mut expected = Expected::default();
    let (nothing, tables) = (BTreeMap::new(), old.keys().chain(new.keys()).collect::<BTreeSet<_>>());
    for table in tables {
        let (old, new) = (old.get(table).unwrap_or(&nothing), new.get(table).unwrap_or(&nothing));
        for key in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
            let mut a = old.get(key).cloned().unwrap_or_default();
            let mut b = new.get(key).cloned().unwrap_or_default();
            take_pairs(&mut a, &mut b, |a, b| a == b, |_, _| {});
            let counts = expected.tables.entry(table).or_default();
            let users = &mut expected.users;
            // Rows of a table without a key never change: they are removed and others are added.
            if *table != "odd" {
                take_pairs(
                    &mut a,
                    &mut b,
                    |a, b| a.1 == b.1,
                    |a, b| {
                        counts.moved += 1;
                        moved(users, a, b);
                    },
                );
                take_pairs(
                    &mut a,
                    &mut b,
                    |_, _| true,
                    |a, b| {
                        counts.changed += 1;
                        if a == b {
                            a.iter().for_each(|user| users.entry(user.clone()).or_default().changed += 1)
                        } else {
                            moved(users, a, b)
                        }
                    },
                );
            }
            counts.removed += a.len() as u64;
            counts.added += b.len() as u64;
            a.iter().filter_map(|row| row.0.clone()).for_each(|user| users.entry(user).or_default().removed += 1);
            b.iter().filter_map(|row| row.0.clone()).for_each(|user| users.entry(user).or_default().added += 1);
        }
    }
    expected.tables.retain(|_, changes| changes.total() > 0);
    expected
}

fn moved(users: &mut BTreeMap<String, Changes>, from: &Option<String>, to: &Option<String>) {
    from.iter().for_each(|user| users.entry(user.clone()).or_default().removed += 1);
    to.iter().for_each(|user| users.entry(user.clone()).or_default().added += 1);
}

type Row = (Option<String>, String);

fn take_pairs(
    a: &mut Vec<Row>,
    b: &mut Vec<Row>,
    same: impl Fn(&Row, &Row) -> bool,
    mut each: impl FnMut(&Option<String>, &Option<String>),
) {
    a.retain(|row| match b.iter().position(|other| same(row, other)) {
        Some(at) => {
            each(&row.0, &b[at].0);
            b.remove(at);
            false
        }
        None => true,
    });
}

/// An edit, encoded in small numbers.
type Edit = (u8, u8, u8);

fn apply(db: &Connection, edits: &[Edit]) {
    db.execute_batch("PRAGMA foreign_keys = OFF; BEGIN").expect("begins");
    for &(kind, a, b) in edits {
        let sql = match kind % 12 {
            0 => format!("INSERT OR REPLACE INTO users VALUES ({}, 'u{b}')", a % 12),
            1 => format!("DELETE FROM users WHERE id = {}", a % 12),
            2 | 3 => format!("INSERT OR REPLACE INTO contacts VALUES ('c{}', {}, {b})", a % 40, b % 12),
            4 => format!("UPDATE contacts SET user_id = {} WHERE id = 'c{}'", b % 12, a % 40),
            5 => format!("UPDATE contacts SET name = {b} WHERE id = 'c{}'", a % 40),
            6 => format!("DELETE FROM contacts WHERE id = 'c{}'", a % 40),
            7 => format!("INSERT OR REPLACE INTO fields VALUES ({a}, 'c{}', zeroblob({}))", b % 40, u32::from(b) * 200),
            8 => format!("DELETE FROM fields WHERE id = {a}"),
            9 => format!("INSERT INTO odd VALUES ({}, 0, 0, {})", a % 3, b % 3),
            10 => format!("DELETE FROM odd WHERE \"rowid\" = {} AND v = {}", a % 3, b % 3),
            _ => format!(
                "INSERT OR REPLACE INTO tags VALUES ({}, {b})",
                if a % 2 == 0 { "NULL".to_owned() } else { a.to_string() }
            ),
        };
        db.execute(&sql, []).expect(&sql);
    }
    db.execute_batch("COMMIT").expect("commits");
}

proptest! {
    #![proptest_config(with_cases(24))]
    #[test]
    fn a_diff_shows_the_rows_that_differ(
        before in prop::collection::vec(any::<Edit>(), 0..300),
        after in prop::collection::vec(any::<Edit>(), 0..40),
    ) {
        let world = World::new();
        let database = world.path("live.sqlite");
        let db = Connection::open(&database).expect("a database");
        db.execute_batch(SCHEMA).expect("a schema");
        apply(&db, &before);
        let old = all_rows(&db);
        world.backup(&database);
        apply(&db, &after);
        let new = all_rows(&db);
        world.backup(&database);
        let report = diff(&world, &options(&world));
        let expected = expected(&old, &new);
        let found: BTreeMap<&str, Changes> = report.tables.iter().map(|table| (table.name.as_str(), table.rows)).collect();
        prop_assert_eq!(&found, &expected.tables.iter().map(|(name, rows)| (*name, *rows)).collect());
        let users: BTreeMap<&str, Changes> = report.users.iter().map(|user| (user.user.as_str(), user.rows)).collect();
        prop_assert_eq!(users.len() as u64, report.users_differing);
        let wanted: BTreeMap<&str, Changes> = expected.users.iter().map(|(user, rows)| (user.as_str(), *rows)).collect();
        prop_assert_eq!(&users, &wanted);
        // In the other direction everything that was added is removed.
        let back = diff(&world, &DiffOptions { old: Selector::Latest(0), new: Selector::Latest(1), ..options(&world) });
        prop_assert_eq!((back.rows.added, back.rows.removed), (report.rows.removed, report.rows.added));
        prop_assert_eq!((back.rows.changed, back.rows.moved), (report.rows.changed, report.rows.moved));
        for user in report.users.iter().take(2) {
            let one = diff(&world, &DiffOptions { user: Some(user.user.clone()), ..options(&world) });
            prop_assert_eq!(one.users.iter().map(|found| (&found.user, found.rows)).collect::<Vec<_>>(), vec![(&user.user, user.rows)]);
        }
    }
}

fn many(db: &Connection, users: i64) {
    db.execute_batch(SCHEMA).expect("a schema");
    db.execute_batch("BEGIN").expect("begins");
    for user in 0..users {
        db.execute("INSERT INTO users VALUES (?1, 'u' || ?1)", [user]).expect("a user");
        for n in 0..10 {
            let contact = format!("c{user}-{n}");
            db.execute(
                "INSERT INTO contacts VALUES (?1, ?2, ?3)",
                (&contact, user, format!("{user} {n} {}", user * n)),
            )
            .expect("a contact");
            db.execute("INSERT INTO fields (contact_id, value) VALUES (?1, ?1)", [&contact]).expect("a field");
        }
    }
    db.execute_batch("COMMIT").expect("commits");
}

fn back_up_and_diff(world: &World, database: &Path, db: &Connection, sql: &str) -> (DiffReport, Counters) {
    db.execute_batch(sql).expect("edits");
    world.backup(database);
    let options = options(world);
    let before = world.store().counters();
    let report = diff(world, &options);
    (report, world.store().counters().since(&before))
}

#[test]
fn a_diff_reads_only_what_differs() {
    let world = World::new();
    let database = world.path("live.sqlite");
    let db = Connection::open(&database).expect("a database");
    many(&db, 3000);
    let first = world.backup(&database);
    let leaves: u64 = first.tables.iter().map(|table| table.leaves).sum();
    assert!(leaves > 100, "{leaves}");
    let (none, cost_none) = back_up_and_diff(&world, &database, &db, "");
    assert!(none.is_empty() && none.leaves_read == 0, "{none:?}");
    let (one, cost_one) = back_up_and_diff(&world, &database, &db, "UPDATE contacts SET name = 'x' WHERE id = 'c7-3'");
    assert_eq!(one.rows, Changes { changed: 1, ..Changes::default() });
    assert_eq!(one.leaves_read, 2, "{one:?}");
    let sql =
        "UPDATE contacts SET name = 'y' WHERE user_id % 100 = 5; DELETE FROM fields WHERE contact_id LIKE 'c12__-%'";
    let (many, cost_many) = back_up_and_diff(&world, &database, &db, sql);
    assert_eq!((rows_of(&many, "contacts").changed, rows_of(&many, "fields").removed), (300, 1000));
    assert!(many.leaves_read < leaves, "{} of {leaves}", many.leaves_read);
    let bytes = [cost_none, cost_one, cost_many].map(|counters| counters.bytes_received);
    let gets = [cost_none, cost_one, cost_many].map(|counters| counters.gets);
    // The dictionaries of both snapshots are a third of it.
    assert!(bytes[1] < bytes[0] + 60_000 && bytes[2] > bytes[1], "{bytes:?}");
    assert!(gets[1] <= gets[0] + 8 && gets[2] > gets[1] && gets[2] < gets[1] + 2 * many.leaves_read, "{gets:?}");
}

#[test]
fn renames_new_columns_and_moves_are_distinguished_from_changes() {
    let world = World::new();
    let database = world.path("live.sqlite");
    let db = Connection::open(&database).expect("a database");
    many(&db, 20);
    world.backup(&database);
    let sql = "ALTER TABLE fields RENAME TO details; ALTER TABLE contacts RENAME COLUMN name TO label;
        ALTER TABLE contacts ADD COLUMN starred INTEGER DEFAULT 0; UPDATE contacts SET starred = 1 WHERE id = 'c3-3';
        UPDATE contacts SET user_id = 4 WHERE id = 'c3-1'; CREATE TABLE extra (a); INSERT INTO extra VALUES (1); DROP TABLE odd";
    db.execute_batch(sql).expect("edits");
    world.backup(&database);
    let report = diff(&world, &DiffOptions { samples_max: 3, ..options(&world) });
    let table = |name: &str| report.tables.iter().find(|table| table.name == name).expect("a table");
    assert_eq!(table("details").renamed_from.as_deref(), Some("fields"));
    assert_eq!(table("details").rows, Changes { moved: 1, ..Changes::default() });
    assert_eq!((table("extra").presence, table("odd").presence), (TablePresence::Added, TablePresence::Removed));
    let contacts = table("contacts");
    assert_eq!((contacts.columns_added.as_slice(), contacts.columns_removed.len()), (&["starred".to_owned()][..], 0));
    assert_eq!(contacts.rows, Changes { changed: 2, ..Changes::default() });
    let starred = contacts.samples.iter().find(|sample| sample.key == "c3-3").expect("a sample");
    assert_eq!((starred.change, starred.owner.as_deref()), (RowChange::Changed, Some("3")));
    assert_eq!(starred.cells.len(), 1);
    assert_eq!((&starred.cells[0].old, &starred.cells[0].new), (&Some(0.into()), &Some(1.into())));
    let moved = contacts.samples.iter().find(|sample| sample.key == "c3-1").expect("a sample");
    assert_eq!((moved.owner_before.as_deref(), moved.owner.as_deref()), (Some("3"), Some("4")));
    let only = diff(&world, &DiffOptions { table: Some("fields".to_owned()), ..options(&world) });
    assert_eq!(only.tables.len(), 1);
    let unknown =
        diff::run(&world.unlock(Role::Admin), &DiffOptions { table: Some("x".to_owned()), ..options(&world) });
    assert!(matches!(unknown, Err(OpError::NoTable(_))));
    assert!(diff::run(&world.unlock(Role::Auditor), &options(&world)).is_err());
}

#[test]
fn rows_with_long_keys_and_with_a_new_key_are_compared() {
    let world = World::new();
    let database = world.path("live.sqlite");
    let db = Connection::open(&database).expect("a database");
    // Keys that are stored as streams, so that a leaf alone does not show where its rows are in the order.
    db.execute_batch("CREATE TABLE long (name TEXT PRIMARY KEY, v) WITHOUT ROWID; CREATE TABLE rekeyed (a INTEGER PRIMARY KEY, b INTEGER, v)")
        .expect("a schema");
    for n in 0..20u32 {
        let name = format!("{}{n}", char::from(b'z' - n as u8).to_string().repeat(40_000 + n as usize));
        db.execute("INSERT INTO long VALUES (?1, ?2)", (name, n)).expect("a row");
        db.execute("INSERT INTO rekeyed VALUES (?1, 1000 - ?1, ?1)", [n]).expect("a row");
    }
    world.backup(&database);
    let sql = "UPDATE long SET v = 'x' WHERE v IN (3, 17); DELETE FROM long WHERE v = 9; INSERT INTO long VALUES ('short', 1);
        CREATE TABLE other (a INTEGER, b INTEGER PRIMARY KEY, v); INSERT INTO other SELECT * FROM rekeyed; DROP TABLE rekeyed;
        ALTER TABLE other RENAME TO rekeyed; UPDATE rekeyed SET v = 'y' WHERE a = 5; DELETE FROM rekeyed WHERE a = 6";
    db.execute_batch(sql).expect("edits");
    world.backup(&database);
    let report = diff(&world, &DiffOptions { samples_max: 10, ..options(&world) });
    assert_eq!(rows_of(&report, "long"), Changes { added: 1, changed: 2, removed: 1, moved: 0 });
    assert_eq!(rows_of(&report, "rekeyed"), Changes { changed: 1, removed: 1, ..Changes::default() });
    let rekeyed = report.tables.iter().find(|table| table.name == "rekeyed").expect("a table");
    assert_eq!(rekeyed.samples.iter().map(|sample| sample.key.as_str()).collect::<Vec<_>>(), ["994", "995"]);
}
