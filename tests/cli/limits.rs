//! What is large can still be read: snapshots after many interrupted runs, and schemas that no single section of a
//! manifest has room for. Everything goes through the built program.

use std::path::PathBuf;

use crate::Sandbox;
use crate::support::sqlite::assert_same_database;

const ADMIN: [&str; 2] = ["--key-file", "keys/admin.key"];

/// Backs up a database that changes, and is interrupted as often as asked.
struct Interrupted {
    sandbox: Sandbox,
    photos: u64,
}

impl Interrupted {
    fn new() -> Self {
        let sandbox = Sandbox::with_service();
        sandbox.sql("sync.db", "CREATE TABLE photos (id INTEGER PRIMARY KEY, body BLOB)");
        sandbox.ok(&["backup"]);
        Self { sandbox, photos: 0 }
    }

    fn add_photo(&mut self) {
        let mut body = vec![0; 40_000];
        blake3::Hasher::new().update(&self.photos.to_le_bytes()).finalize_xof().fill(&mut body);
        let database = rusqlite::Connection::open(self.sandbox.path("sync.db")).expect("opens");
        database.execute("INSERT INTO photos (body) VALUES (?1)", [body]).expect("inserts");
        self.photos += 1;
    }

    /// Runs that each store a photo and then fail, because the store refuses index fragments.
    fn interrupt(&mut self, runs: u64) {
        let index = self.source_folder().join("index");
        let kept = index.with_extension("kept");
        std::fs::rename(&index, &kept).expect("renames");
        std::fs::write(&index, "not a folder").expect("writes");
        for _ in 0..runs {
            self.add_photo();
            assert_ne!(self.sandbox.run(&["backup"]).code, 0);
        }
        std::fs::remove_file(&index).expect("removes");
        std::fs::rename(kept, index).expect("renames");
    }

    fn source_folder(&self) -> PathBuf {
        let entries = std::fs::read_dir(self.sandbox.path("repo")).expect("lists");
        let mut folders = entries.map(|entry| entry.expect("lists").path());
        folders.find(|path| path.join("packs").exists()).expect("a source")
    }

    /// Bytes of the newest snapshot's manifest.
    fn manifest_bytes(&self) -> u64 {
        self.sandbox.json(&["show", "latest"])["manifest"]["bytes"].as_u64().expect("a size")
    }

    fn check(&self, restored: &str) {
        check(&self.sandbox, restored);
    }
}

/// Verifies every row, and restores it.
fn check(sandbox: &Sandbox, restored: &str) {
    sandbox.ok(&[&["verify", "--level", "deep"], &ADMIN[..]].concat());
    sandbox.ok(&[&["restore", "latest", "--to", restored], &ADMIN[..]].concat());
    assert_same_database(&sandbox.path("sync.db"), &sandbox.path(restored));
}

/// Every committed snapshot can be restored, and a manifest is as large as before.
#[test]
fn a_snapshot_after_130_interrupted_runs_is_readable() {
    let mut world = Interrupted::new();
    let before = world.manifest_bytes();
    world.interrupt(130);
    world.add_photo();
    world.sandbox.ok(&["backup"]);
    std::fs::copy(world.sandbox.path("sync.db"), world.sandbox.path("then.db")).expect("copies");
    world.check("first.db");
    // Later runs go on from there.
    world.interrupt(3);
    world.sandbox.ok(&["backup"]);
    world.check("second.db");
    world.sandbox.ok(&[&["restore", "latest~1", "--to", "again.db"], &ADMIN[..]].concat());
    assert_same_database(&world.sandbox.path("then.db"), &world.sandbox.path("again.db"));
    let unchanged = world.sandbox.json(&["backup"]);
    assert_eq!(unchanged["new_bytes"], 0, "{unchanged}");
    let bytes = world.manifest_bytes();
    assert!(bytes < before + 1000, "{bytes} bytes, {before} before");
}

/// Backs up a schema twice: the second run must be able to read what the first wrote.
fn is_readable(schema: &str) {
    let sandbox = Sandbox::new();
    sandbox.sql("sync.db", schema);
    sandbox.ok(&["init", "repo", "--source", "sqlite:sync.db"]);
    sandbox.ok(&["backup"]);
    let again = sandbox.json(&["backup"]);
    assert_eq!((&again["new_bytes"], &again["findings"]), (&0.into(), &serde_json::json!([])));
    check(&sandbox, "restored.db");
}

/// Tables with columns, none of which has a row.
fn tables(tables: u32, columns: u32) -> String {
    let columns: Vec<String> = (0..columns).map(|column| format!("c{column} TEXT")).collect();
    let columns = columns.join(", ");
    let tables = (0..tables).map(|table| format!("CREATE TABLE t{table} ({columns});"));
    format!("BEGIN; {} COMMIT;", tables.collect::<String>())
}

#[test]
#[ignore = "takes two gigabytes of memory"]
fn a_schema_that_one_section_has_no_room_for_is_readable() {
    let name = |table: u8| char::from(b'a' + table).to_string().repeat(9 << 20);
    let tables = (0..8).map(|table| format!("CREATE TABLE {0} (id INTEGER); INSERT INTO {0} VALUES (7);", name(table)));
    is_readable(&tables.collect::<String>());
}

#[test]
#[ignore = "takes minutes"]
fn a_snapshot_of_450_tables_of_1991_columns_is_readable() {
    is_readable(&tables(450, 1991));
}

#[test]
#[ignore = "takes minutes"]
fn a_snapshot_of_80000_tables_of_10_columns_is_readable() {
    is_readable(&tables(80_000, 10));
}
