//! What a run stores, counted as the bytes of all new objects: it follows what changed, not what there is.

use std::path::Path;

use crate::Sandbox;

const PHOTO_BYTES: u64 = 40_000;

/// Bytes of all files below a folder.
fn bytes_below(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).expect("lists").map(|entry| entry.expect("lists"));
    let bytes = |entry: std::fs::DirEntry| {
        let path = entry.path();
        if path.is_dir() { bytes_below(&path) } else { entry.metadata().expect("a size").len() }
    };
    entries.map(bytes).sum()
}

/// Bytes that one run adds to the store.
fn cost_of_run(sandbox: &Sandbox) -> u64 {
    let before = bytes_below(&sandbox.path("repo"));
    sandbox.ok(&["backup"]);
    bytes_below(&sandbox.path("repo")) - before
}

/// A backed up service with this many photos, and this many other tables of 1,500 rows.
fn service(photos: u64, tables: u64) -> Sandbox {
    let sandbox = Sandbox::new();
    let mut sql = format!(
        "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT);
         INSERT INTO users VALUES (1, 'Ada'), (2, 'Alan');
         CREATE TABLE photos (id INTEGER PRIMARY KEY, user_id INTEGER REFERENCES users (id), name TEXT, body BLOB);
         WITH RECURSIVE n (v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM n LIMIT {photos})
         INSERT INTO photos SELECT v, 1 + v % 2, 'photo ' || v, randomblob({PHOTO_BYTES}) FROM n;"
    );
    for table in 0..tables {
        sql.push_str(&format!(
            "CREATE TABLE t{table} (id INTEGER PRIMARY KEY, user_id INTEGER REFERENCES users (id), body TEXT);
             WITH RECURSIVE n (v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM n LIMIT 1500)
             INSERT INTO t{table} SELECT v, 1 + v % 2, hex(randomblob(40)) FROM n;"
        ));
    }
    sandbox.sql("sync.db", &sql);
    sandbox.ok(&["init", "repo", "--source", "sqlite:sync.db"]);
    sandbox.ok(&["backup"]);
    sandbox
}

fn change_one_photo(sandbox: &Sandbox) {
    sandbox.sql("sync.db", &format!("UPDATE photos SET body = randomblob({PHOTO_BYTES}) WHERE id = 77"));
}

/// The costs of a run with no changes, and of one changed photo.
#[derive(Debug)]
struct Costs {
    unchanged: u64,
    photo: u64,
}

impl Costs {
    fn of(photos: u64, tables: u64) -> Self {
        let sandbox = service(photos, tables);
        let unchanged = cost_of_run(&sandbox);
        change_one_photo(&sandbox);
        Self { unchanged, photo: cost_of_run(&sandbox) - PHOTO_BYTES }
    }
}

fn costs_follow_the_changes(few: u64, many: u64) {
    let [few, many] = [few, many].map(|photos| Costs::of(photos, 0));
    println!("{few:?} {many:?}");
    assert!(many.unchanged < 8 << 10, "{many:?}");
    assert!(many.unchanged < few.unchanged + 300, "{few:?} {many:?}");
    // The path grows with the logarithm: a node has up to 1,024 children.
    assert!(many.photo < 40 << 10 && many.photo < few.photo + (24 << 10), "{few:?} {many:?}");
}

#[test]
fn costs_do_not_grow_with_the_number_of_photos() {
    costs_follow_the_changes(100, 800);
}

#[test]
#[ignore = "needs a gigabyte of disk and minutes"]
fn costs_do_not_grow_with_thousands_of_photos() {
    costs_follow_the_changes(1000, 12_000);
}

#[test]
fn a_run_without_changes_costs_at_most_a_kilobyte_for_each_table() {
    let [few, many] = [4, 44].map(|tables| Costs::of(80, tables));
    println!("{few:?} {many:?}");
    assert!(many.unchanged < few.unchanged + 40 * 1024, "{few:?} {many:?}");
    assert!(few.unchanged < 40 << 10, "{few:?}");
}

#[test]
fn costs_do_not_grow_with_the_number_of_runs() {
    let sandbox = service(80, 2);
    let costs: Vec<u64> = (0..20)
        .map(|_| {
            change_one_photo(&sandbox);
            sandbox.ok(&["backup"]);
            cost_of_run(&sandbox)
        })
        .collect();
    println!("{costs:?}");
    let (first, last) = (costs[0], costs[19]);
    assert!(last < first + 500, "{costs:?}");
}

/// Rows that are short in the first backup become a hundred times as long.
#[test]
fn a_changed_row_stays_cheap_after_all_rows_grew() {
    let sandbox = Sandbox::new();
    sandbox.sql(
        "sync.db",
        "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT);
         INSERT INTO users VALUES (1, 'Ada');
         CREATE TABLE notes (id INTEGER PRIMARY KEY, user_id INTEGER REFERENCES users (id), body TEXT);
         WITH RECURSIVE n (v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM n LIMIT 4000)
         INSERT INTO notes SELECT v, 1, NULL FROM n;",
    );
    sandbox.ok(&["init", "repo", "--source", "sqlite:sync.db"]);
    sandbox.ok(&["backup"]);
    sandbox.sql("sync.db", "UPDATE notes SET body = hex(randomblob(500))");
    sandbox.ok(&["backup"]);
    sandbox.sql("sync.db", "UPDATE notes SET body = 'short' WHERE id = 2000");
    let cost = cost_of_run(&sandbox);
    // Few leaves change, with 9 KB of rows each, of which hex digits take half.
    assert!(cost < 128 << 10, "{cost}");
    sandbox.ok(&["restore", "latest", "--to", "sqlite:back.db", "--key-file", "keys/admin.key"]);
    crate::support::sqlite::assert_same_database(&sandbox.path("sync.db"), &sandbox.path("back.db"));
}
