//! What is large can still be read: snapshots after many interrupted runs, and schemas that no single section of a
//! manifest has room for. Everything goes through the built program.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

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
        insert_photo(&self.sandbox.path("sync.db"), self.photos);
        self.photos += 1;
    }

    /// Runs that each store a photo and then fail, because the store refuses index fragments.
    fn interrupt(&mut self, runs: u64) {
        let index = self.refuse_index();
        for _ in 0..runs {
            self.add_photo();
            assert_ne!(self.sandbox.run(&["backup"]).code, 0);
        }
        self.accept_index(&index);
    }

    /// The same, but no run sees what the others have stored, as if all ran at the same time. (Each run reads the
    /// announcements of all interrupted runs that it sees, so a thousand runs in a row would read half a million.)
    fn interrupt_at_once(&mut self, runs: u64) {
        let index = self.refuse_index();
        let database = self.sandbox.path("sync.db");
        let before = self.sandbox.path("before.db");
        std::fs::copy(&database, &before).expect("copies");
        let seen = self.stored_files();
        let hidden = self.sandbox.path("hidden");
        for run in 0..runs {
            std::fs::copy(&before, &database).expect("copies");
            insert_photo(&database, self.photos + run);
            assert_ne!(self.sandbox.run(&["backup"]).code, 0);
            self.stored_files().difference(&seen).for_each(|file| move_file(&self.source_folder(), &hidden, file));
        }
        files_below(&hidden, &hidden).iter().for_each(|file| move_file(&hidden, &self.source_folder(), file));
        std::fs::copy(&before, &database).expect("copies");
        (0..runs).for_each(|_| self.add_photo());
        self.accept_index(&index);
    }

    /// Puts a file in place of the folder of index fragments. Returns its path.
    fn refuse_index(&self) -> PathBuf {
        let index = self.source_folder().join("index");
        std::fs::rename(&index, index.with_extension("kept")).expect("renames");
        std::fs::write(&index, "not a folder").expect("writes");
        index
    }

    fn accept_index(&self, index: &Path) {
        std::fs::remove_file(index).expect("removes");
        std::fs::rename(index.with_extension("kept"), index).expect("renames");
    }

    /// Packs and announcements, relative to the source's folder.
    fn stored_files(&self) -> BTreeSet<PathBuf> {
        let source = self.source_folder();
        let folders = ["packs", "sessions"].map(|folder| source.join(folder));
        folders.iter().filter(|folder| folder.exists()).flat_map(|folder| files_below(&source, folder)).collect()
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

fn insert_photo(database: &Path, number: u64) {
    let mut body = vec![0; 40_000];
    blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof().fill(&mut body);
    let database = rusqlite::Connection::open(database).expect("opens");
    database.execute("INSERT INTO photos (body) VALUES (?1)", [body]).expect("inserts");
}

/// All files below a folder, relative to `root`.
fn files_below(root: &Path, folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("lists").map(|entry| entry.expect("lists").path());
    let files = |path: PathBuf| match path.is_dir() {
        true => files_below(root, &path),
        false => vec![path.strip_prefix(root).expect("below").to_owned()],
    };
    entries.flat_map(files).collect()
}

fn move_file(from: &Path, to: &Path, file: &Path) {
    let target = to.join(file);
    std::fs::create_dir_all(target.parent().expect("a folder")).expect("creates");
    std::fs::rename(from.join(file), target).expect("renames");
}

/// Verifies every row, and restores it.
fn check(sandbox: &Sandbox, restored: &str) {
    sandbox.ok(&[&["verify", "--level", "deep"], &ADMIN[..]].concat());
    sandbox.ok(&[&["restore", "latest", "--to", restored], &ADMIN[..]].concat());
    assert_same_database(&sandbox.path("sync.db"), &sandbox.path(restored));
}

/// Every committed snapshot can be restored, and a manifest is as large as before.
fn is_readable_after(runs: u64, interrupt: fn(&mut Interrupted, u64)) {
    let mut world = Interrupted::new();
    let before = world.manifest_bytes();
    interrupt(&mut world, runs);
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

#[test]
fn a_snapshot_after_130_interrupted_runs_is_readable() {
    is_readable_after(130, Interrupted::interrupt);
}

#[test]
fn a_snapshot_after_20_runs_that_were_interrupted_at_once_is_readable() {
    is_readable_after(20, Interrupted::interrupt_at_once);
}

#[test]
#[ignore = "takes some minutes"]
fn a_snapshot_after_1000_runs_that_were_interrupted_at_once_is_readable() {
    is_readable_after(1000, Interrupted::interrupt_at_once);
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
