//! What a change costs in leaves and bytes.

use std::path::PathBuf;
use std::sync::Arc;

use object_store::memory::InMemory;
use rusqlite::Connection;
use sidekeep::ops::backup::BackupReport;

use crate::support::world::data::{add_photo, copy, create_service, draw, noise, open};
use crate::support::world::look::{leaves, packs};
use crate::support::world::{SOURCE, World, times};

/// The most bytes of packs that a backup may add if only the schema changed: one stream, and the tables of a pack.
const SCHEMA_BYTES_MAX: u64 = 8 << 10;
/// The same if a few leaves changed.
const LEAF_BYTES_MAX: u64 = 16 << 10;

/// A service after its first backup. Every test begins with this state.
struct Service {
    world: World,
    memory: Arc<InMemory>,
    database: PathBuf,
    first: BackupReport,
}

/// What the backup of a change cost.
struct Cost {
    report: BackupReport,
    world: World,
}

impl Service {
    fn new() -> Self {
        let (world, memory) = World::in_memory();
        let database = world.path("first");
        create_service(&database, 230);
        let first = world.backup(&database);
        Self { world, memory, database, first }
    }

    /// Changes the database, backs it up, and checks that it is restored as changed.
    fn back_up_change(&self, name: &str, change: impl FnOnce(&Connection)) -> Cost {
        let world = self.world.beside(Arc::new(self.memory.fork()));
        let database = world.path(name);
        copy(&self.database, &database);
        change(&open(&database));
        let before: u64 = packs(&world, SOURCE).values().sum();
        let report = world.backup(&database);
        let after: u64 = packs(&world, SOURCE).values().sum();
        assert_eq!(after - before, report.new_bytes, "{name}: the reported bytes are the stored bytes");
        world.assert_restores(SOURCE, report.snapshot.expect("committed"), &database);
        println!("{name}: {} bytes in {} packs, leaves {:?}", report.new_bytes, report.packs, new_leaves(&report));
        Cost { report, world }
    }
}

impl Cost {
    fn leaves_new(&self) -> u64 {
        self.report.tables.iter().map(|table| table.leaves_new).sum()
    }
}

fn new_leaves(report: &BackupReport) -> Vec<(&str, u64, u64)> {
    let changed = report.tables.iter().filter(|table| table.leaves_new > 0);
    changed.map(|table| (table.name.as_str(), table.leaves_new, table.leaves)).collect()
}

/// Statements that create `table` again with another definition of the same columns.
fn rebuilt(table: &str, definition: &str, columns: &str) -> String {
    format!(
        "ALTER TABLE {table} RENAME TO old; CREATE TABLE {table} {definition};
        INSERT INTO {table} ({columns}) SELECT {columns} FROM old; DROP TABLE old"
    )
}

#[test]
fn schema_changes_upload_no_rows() {
    let service = Service::new();
    let contacts =
        "(born INT, name VARCHAR(10), user_id INTEGER REFERENCES users (id) ON DELETE CASCADE, id INTEGER PRIMARY KEY)";
    let fields = "(value, kind TEXT NOT NULL, contact_id INTEGER NOT NULL REFERENCES contacts (id) ON DELETE CASCADE, PRIMARY KEY (contact_id, kind)) WITHOUT ROWID";
    let wide =
        "(id INTEGER PRIMARY KEY, user_id BIGINT REFERENCES users (id) ON DELETE CASCADE, name TEXT, born BIGINT)";
    let days = [
        ("add a column", "ALTER TABLE contacts ADD COLUMN nick TEXT".to_owned()),
        ("add one with a default", "ALTER TABLE fields ADD COLUMN stars INT NOT NULL DEFAULT 3".to_owned()),
        (
            "add two",
            "ALTER TABLE users ADD COLUMN a TEXT DEFAULT 'x'; ALTER TABLE users ADD COLUMN b REAL DEFAULT 1.5"
                .to_owned(),
        ),
        ("rename a column", "ALTER TABLE contacts RENAME COLUMN name TO full_name".to_owned()),
        ("rename a key", "ALTER TABLE contacts RENAME COLUMN id TO contact_id".to_owned()),
        ("rename a table", "ALTER TABLE contacts RENAME TO people".to_owned()),
        ("rename the owners", "ALTER TABLE users RENAME TO accounts".to_owned()),
        (
            "rename a table and a column",
            "ALTER TABLE contacts RENAME TO people; ALTER TABLE people RENAME COLUMN name TO full_name".to_owned(),
        ),
        (
            "rename all tables and a column of each, and add one",
            "ALTER TABLE users RENAME TO accounts; ALTER TABLE accounts RENAME COLUMN email TO handle;
             ALTER TABLE contacts RENAME TO people; ALTER TABLE people RENAME COLUMN born TO birthday; ALTER TABLE people ADD COLUMN nick;
             ALTER TABLE fields RENAME TO properties; ALTER TABLE properties RENAME COLUMN value TO content"
                .to_owned(),
        ),
        ("reorder columns", rebuilt("contacts", contacts, "id, user_id, name, born")),
        ("reorder key columns", rebuilt("fields", fields, "contact_id, kind, value")),
        ("widen types", rebuilt("contacts", wide, "id, user_id, name, born")),
        (
            "add an index",
            "CREATE UNIQUE INDEX by_name ON contacts (user_id, name, id); CREATE VIEW v AS SELECT id FROM users"
                .to_owned(),
        ),
        ("add a table", "CREATE TABLE more (id INTEGER PRIMARY KEY)".to_owned()),
    ];
    for (name, change) in days {
        let cost = service.back_up_change(name, |db| {
            db.execute_batch(&format!("PRAGMA legacy_alter_table = ON; {change}")).expect(name)
        });
        assert_eq!(cost.leaves_new(), 0, "{name}: {:?}", new_leaves(&cost.report));
        assert!(cost.report.new_bytes < SCHEMA_BYTES_MAX, "{name}: {} bytes", cost.report.new_bytes);
        // Another backup without changes costs nothing.
        assert_eq!(cost.world.backup(&cost.world.path(name)).new_bytes, 0, "{name}: nothing changed since");
    }
}

#[test]
fn a_dropped_column_uploads_only_its_table() {
    let service = Service::new();
    for column in ["born", "name"] {
        let cost = service.back_up_change(column, |db| {
            db.execute_batch(&format!("ALTER TABLE contacts DROP COLUMN {column}")).expect("drops");
        });
        for table in &cost.report.tables {
            let wanted = if table.name == "contacts" { table.leaves } else { 0 };
            assert_eq!(table.leaves_new, wanted, "{column}: {}", table.name);
        }
        assert!(cost.report.new_bytes < service.first.new_bytes / 4, "{column}: {}", cost.report.new_bytes);
    }
}

#[test]
fn a_changed_row_costs_a_few_leaves() {
    let service = Service::new();
    let mut moved = Vec::new();
    for n in 0..times(6) as i64 {
        let pick = format!("(SELECT id FROM contacts ORDER BY id LIMIT 1 OFFSET {})", draw(n, 800));
        let changed = service.back_up_change(&format!("update {n}"), |db| {
            let name = "substr(hex(randomblob(100)), 1, length(name))";
            db.execute_batch(&format!("UPDATE contacts SET name = {name} WHERE id = {pick}")).expect("updates");
        });
        assert_eq!(changed.leaves_new(), 1, "a value of the same length outside the key moves no boundary");
        assert!(changed.report.new_bytes < LEAF_BYTES_MAX, "{} bytes", changed.report.new_bytes);
        let lengthened = service.back_up_change(&format!("lengthen {n}"), |db| {
            db.execute_batch(&format!("UPDATE contacts SET name = name || name WHERE id = {pick}")).expect("updates");
        });
        moved.push(lengthened.leaves_new());
        let deleted = service.back_up_change(&format!("delete {n}"), |db| {
            db.execute_batch(&format!("DELETE FROM contacts WHERE id = {pick}")).expect("deletes");
        });
        // The contact's fields become orphans, so they move.
        moved.push(deleted.report.tables.iter().find(|table| table.name == "contacts").expect("a table").leaves_new);
        let inserted = service.back_up_change(&format!("insert {n}"), |db| {
            let (id, user) = (50_000 + draw(n, 1000), 1 + draw(n, 230));
            db.execute("INSERT INTO contacts VALUES (?1, ?2, 'new', 1)", (id, user)).expect("inserts");
        });
        moved.push(inserted.leaves_new());
        assert!(inserted.report.new_bytes < 3 * LEAF_BYTES_MAX, "{} bytes", inserted.report.new_bytes);
    }
    let mean = moved.iter().sum::<u64>() as f64 / moved.len() as f64;
    assert!(mean <= 4.0 && moved.iter().all(|leaves| *leaves <= 16), "{moved:?}");
}

#[test]
fn a_photo_costs_its_own_size() {
    let service = Service::new();
    let cost = service.back_up_change("photo", |db| add_photo(db, 1001, 300_000));
    assert!((1..=3).contains(&cost.leaves_new()), "{:?}", new_leaves(&cost.report));
    assert!((300_000..360_000).contains(&cost.report.new_bytes), "{} bytes", cost.report.new_bytes);
    // The same photo twice, and once with a changed byte in the middle.
    let cost = service.back_up_change("photo twice", |db| {
        add_photo(db, 1001, 600_000);
        add_photo(db, 1001, 600_000);
        let mut bytes = noise(1001 + (1 << 32), 600_000);
        bytes[300_000] ^= 1;
        db.execute("UPDATE photos SET full = ?1 WHERE id = (SELECT max(id) FROM photos)", [bytes]).expect("edits");
    });
    assert!((600_000..980_000).contains(&cost.report.new_bytes), "{} bytes", cost.report.new_bytes);
}

#[test]
fn a_leaf_of_a_tall_tree_costs_the_nodes_above_it() {
    let (world, _) = World::in_memory();
    let path = world.path("tall");
    let db = open(&path);
    db.execute_batch("CREATE TABLE blobs (id INTEGER PRIMARY KEY, body BLOB); BEGIN").expect("a schema");
    for id in 0..1500 {
        db.execute("INSERT INTO blobs VALUES (?1, ?2)", (id, noise(id as u64, 9000))).expect("a row");
    }
    db.execute_batch("COMMIT").expect("commits");
    let first = world.backup(&path);
    assert!(leaves(&world, SOURCE, "blobs").len() > 1024, "more leaves than a node holds");
    world.assert_restores(SOURCE, first.snapshot.expect("committed"), &path);

    db.execute_batch("UPDATE blobs SET body = zeroblob(9000) WHERE id = 700").expect("a day");
    let second = world.backup(&path);
    assert_eq!(second.tables[0].leaves_new, 1);
    assert!(second.new_bytes < 64 << 10, "a leaf and a node: {} bytes", second.new_bytes);
    db.execute_batch("DELETE FROM blobs WHERE id = 3").expect("a day");
    let third = world.backup(&path);
    assert!(third.tables[0].leaves_new <= 4 && third.new_bytes < 128 << 10, "{third:?}");
    world.assert_restores(SOURCE, third.snapshot.expect("committed"), &path);
}
