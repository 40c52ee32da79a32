//! The number of rows per leaf is pinned by the first backup that sees enough rows, and does not change later.

use rusqlite::Connection;

use crate::support::world::data::open;
use crate::support::world::look::{leaves, snapshot};
use crate::support::world::{SOURCE, World};

fn rows_per_leaf(world: &World) -> Option<u32> {
    snapshot(world, SOURCE, None).catalog.table_named("t").expect("a table").rows_per_leaf
}

fn grow(db: &Connection, rows: i64, text: usize) {
    let sql = "WITH RECURSIVE n(i) AS (SELECT coalesce(max(id), 0) + 1 FROM t UNION ALL SELECT i + 1 FROM n LIMIT ?1)
        INSERT INTO t SELECT i, substr(hex(randomblob(?2)), 1, ?2) FROM n";
    db.execute(sql, (rows, text as i64)).expect("rows");
}

#[test]
fn rows_per_leaf_are_pinned_at_1000_rows() {
    let (world, _) = World::in_memory();
    let path = world.path("live");
    let db = open(&path);
    db.execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, body TEXT)").expect("a schema");
    world.backup(&path);
    assert_eq!(rows_per_leaf(&world), None);
    grow(&db, 999, 90);
    let few = world.backup(&path);
    assert_eq!(rows_per_leaf(&world), None);
    assert!((8..=40).contains(&few.tables[0].leaves), "64 rows per leaf before that: {few:?}");

    grow(&db, 1, 90);
    let pinned = world.backup(&path);
    let rows = rows_per_leaf(&world).expect("1,000 rows pin");
    assert!((17..=23).contains(&rows), "about 2 KB of rows of some 100 bytes: {rows}");
    assert!(pinned.tables[0].leaves_new > 0, "leaves are cut differently");
    let mean = 1000 / pinned.tables[0].leaves;
    assert!((u64::from(rows) / 2..=u64::from(rows) * 2).contains(&mean), "{mean} rows per leaf");

    // With more and longer rows, and then with fewer, the number stays, and so do the existing leaves.
    let before = leaves(&world, SOURCE, "t");
    grow(&db, 1500, 900);
    world.backup(&path);
    assert_eq!(rows_per_leaf(&world), Some(rows));
    let after = leaves(&world, SOURCE, "t");
    let kept = before.iter().filter(|leaf| after.contains(leaf)).count();
    assert!(kept + 1 >= before.len(), "all leaves except the last are kept: {kept} of {}", before.len());
    for day in ["DELETE FROM t WHERE id > 10", "ALTER TABLE t RENAME COLUMN body TO text", "ALTER TABLE t RENAME TO u"]
    {
        db.execute_batch(day).expect(day);
        world.backup(&path);
    }
    let catalog = snapshot(&world, SOURCE, None).catalog;
    assert_eq!(catalog.table_named("u").expect("a table").rows_per_leaf, Some(rows));
}

#[test]
fn leaves_of_wide_rows_stay_within_the_byte_limit() {
    let (world, _) = World::in_memory();
    let path = world.path("live");
    let db = open(&path);
    db.execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, body TEXT)").expect("a schema");
    grow(&db, 60, 30_000);
    let report = world.backup(&path);
    assert!(report.tables[0].leaves >= 60 * 30_000 / (256 << 10), "{report:?}");
    db.execute_batch("INSERT INTO t VALUES (0, '')").expect("a day");
    let next = world.backup(&path);
    // Leaves are filled up to their bytes from the front, until a key cuts.
    assert!(next.tables[0].leaves_new <= next.tables[0].leaves, "{next:?}");
    world.assert_restores(SOURCE, next.snapshot.expect("committed"), &path);
}
