//! A leaf ends by the bytes of its rows. Which leaves exist depends on nothing else, however rows grow or shrink.

use std::path::Path;

use rusqlite::Connection;

use crate::support::world::SOURCE;
use crate::support::world::World;
use crate::support::world::data::open;
use crate::support::world::look::{leaves, snapshot};

/// A database with an empty table `t`.
fn empty_table(path: &Path) -> Connection {
    let db = open(path);
    db.execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, body TEXT)").expect("a schema");
    db
}

fn grow(db: &Connection, rows: i64, text: usize) {
    let sql = "WITH RECURSIVE n(i) AS (SELECT coalesce(max(id), 0) + 1 FROM t UNION ALL SELECT i + 1 FROM n LIMIT ?1)
        INSERT INTO t SELECT i, substr(hex(randomblob(?2)), 1, ?2) FROM n";
    db.execute(sql, (rows, text as i64)).expect("rows");
}

/// Leaves have about 3.5 KB of rows, unless a row has 1.5 KiB or more: then it ends its leaf.
#[test]
fn leaves_have_as_many_rows_as_fit_into_their_bytes() {
    for (text, rows) in [(10, 5000), (100, 1000), (300, 400), (1900, 200)] {
        let (world, _) = World::in_memory();
        let path = world.path("live");
        grow(&empty_table(&path), rows, text);
        world.backup(&path);
        let table = &snapshot(&world, SOURCE, None).summary.tables[0];
        let mean = table.bytes / table.leaves;
        assert!((1800..4500).contains(&mean), "{mean} bytes per leaf of rows of {text}");
    }
}

#[test]
fn leaves_survive_when_longer_and_shorter_rows_are_added() {
    let (world, _) = World::in_memory();
    let path = world.path("live");
    let db = empty_table(&path);
    grow(&db, 1000, 90);
    world.backup(&path);
    let first = leaves(&world, SOURCE, "t");
    let mut before = first.clone();
    for (rows, text) in [(1500, 900), (3000, 2), (40, 20_000), (100, 90)] {
        grow(&db, rows, text);
        world.backup(&path);
        let after = leaves(&world, SOURCE, "t");
        let kept = before.iter().filter(|leaf| after.contains(leaf)).count();
        assert!(kept + 1 >= before.len(), "all leaves except the last are kept: {kept} of {}", before.len());
        before = after;
    }
    db.execute_batch("DELETE FROM t WHERE id > 1000; ALTER TABLE t RENAME COLUMN body TO text").expect("a day");
    world.backup(&path);
    assert_eq!(leaves(&world, SOURCE, "t"), first, "the same rows make the same leaves");
}

/// Rows that were short when their table was new become a hundred times as long, and short again.
#[test]
fn a_changed_row_changes_few_leaves_after_all_rows_grew() {
    let (world, _) = World::in_memory();
    let path = world.path("live");
    let db = empty_table(&path);
    grow(&db, 2000, 10);
    world.backup(&path);
    for text in [1000, 2500, 10] {
        db.execute("UPDATE t SET body = substr(hex(randomblob(?1)), 1, ?1)", [text]).expect("a day");
        let all = world.backup(&path).tables[0].leaves;
        let mut changed = Vec::new();
        for id in (50..2000).step_by(100) {
            let day = match id % 400 {
                50 => "UPDATE t SET body = '' WHERE id = ?1",
                150 => "UPDATE t SET body = body || body WHERE id = ?1",
                250 => "DELETE FROM t WHERE id = ?1",
                _ => "UPDATE t SET id = 5000 + id WHERE id = ?1",
            };
            db.execute(day, [id]).expect("a day");
            changed.push(world.backup(&path).tables[0].leaves_new);
        }
        let sum: u64 = changed.iter().sum();
        assert!(sum <= 8 * changed.len() as u64, "{changed:?} of {all} leaves");
        assert!(changed.iter().all(|&leaves| leaves <= 40), "{changed:?} of {all} leaves");
    }
}

#[test]
fn a_wide_row_is_a_leaf() {
    let (world, _) = World::in_memory();
    let path = world.path("live");
    let db = empty_table(&path);
    grow(&db, 60, 30_000);
    let report = world.backup(&path);
    assert_eq!(report.tables[0].leaves, 60, "{report:?}");
    db.execute_batch("INSERT INTO t VALUES (0, '')").expect("a day");
    let next = world.backup(&path);
    assert_eq!((next.tables[0].leaves, next.tables[0].leaves_new), (60, 1), "{next:?}");
    world.assert_restores(SOURCE, next.snapshot.expect("committed"), &path);
}
