//! What is large can still be read: snapshots after many interrupted runs, and schemas that no single section of a
//! manifest has room for. Everything goes through the built program.

use std::collections::BTreeSet;
use std::path::PathBuf;

use sidekeep::format::manifest::{SealedManifest, WrapPage};

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

    fn read(&self, folder: &str, name: &str) -> Vec<u8> {
        std::fs::read(self.source_folder().join(folder).join(name)).expect("reads")
    }

    /// The sessions whose wraps the newest snapshot has. Each is in one place.
    fn sessions(&self) -> usize {
        let shown = self.sandbox.json(&["show", "latest"]);
        let manifest = self.read("manifests", shown["manifest"]["sha256"].as_str().expect("a digest"));
        let manifest = SealedManifest::read(&manifest).expect("a manifest");
        let mut wraps = manifest.wraps;
        for page in manifest.pages {
            wraps.extend(WrapPage::read(&self.read("wraps", &page.to_string())).expect("a page").wraps);
        }
        let sessions: BTreeSet<_> = wraps.iter().map(|wrap| wrap.session()).collect();
        assert_eq!(sessions.len(), wraps.len(), "a wrap is in two places");
        sessions.len()
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

fn is_readable_after(runs: u64) {
    let mut world = Interrupted::new();
    world.interrupt(runs);
    world.add_photo();
    world.sandbox.ok(&["backup"]);
    let sessions = world.sessions();
    assert!(sessions as u64 > runs, "{sessions}");
    world.check("first.db");
    // Later runs go on from that manifest, and do not repeat what its pages have.
    world.interrupt(3);
    world.sandbox.ok(&["backup"]);
    assert_eq!(world.sessions(), sessions + 4);
    world.check("second.db");
    let unchanged = world.sandbox.json(&["backup"]);
    assert_eq!((&unchanged["new_bytes"], world.sessions()), (&0.into(), sessions + 4), "{unchanged}");
}

#[test]
fn a_snapshot_after_130_interrupted_runs_is_readable() {
    is_readable_after(130);
}

#[test]
#[ignore = "takes some minutes"]
fn a_snapshot_after_1000_interrupted_runs_is_readable() {
    is_readable_after(1000);
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
