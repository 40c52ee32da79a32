//! Full disks: of the store, of the directory for temporary files, of the target. The process has a limit on file sizes,
//! which causes the same errors as a full disk.

use std::path::Path;
use std::process::Command;

use rusqlite::Connection;

use crate::bad_input::{BACKUP, CONFIG, Case, RESTORE, fails, files};
use crate::support::sandbox::Sandbox;
use crate::support::sqlite::assert_same_database;

/// Two MB of incompressible data, and little else. Each table has less than 1 MiB, so that no temporary file for a table
/// is larger.
const LARGE: &str = "
    CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT);
    CREATE TABLE photos (id INTEGER PRIMARY KEY, user_id INTEGER REFERENCES users (id), photo BLOB);
    CREATE TABLE thumbs (id INTEGER PRIMARY KEY, user_id INTEGER REFERENCES users (id), photo BLOB);
    INSERT INTO users VALUES (1, 'Ana');
    WITH RECURSIVE n (at) AS (SELECT 1 UNION ALL SELECT at + 1 FROM n LIMIT 50)
        INSERT INTO photos SELECT at, 1, randomblob(20000) FROM n;
    INSERT INTO thumbs SELECT id, user_id, randomblob(20000) FROM photos;
";

/// A repository with one small snapshot. The database has become large since then.
fn sandbox(journal_mode: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.sql("sync.db", "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT);");
    sandbox.write("sidekeep.toml", CONFIG);
    sandbox.ok(&["init", "repo", "--source", "sqlite:sync.db"]);
    sandbox.ok(BACKUP);
    // Replace the content of the source.
    std::fs::remove_file(sandbox.path("sync.db")).expect("removes");
    sandbox.sql("sync.db", &format!("PRAGMA journal_mode = {journal_mode}; {LARGE}"));
    sandbox
}

/// The command with files of at most `blocks` blocks of 512 bytes. Writing more is an error and does not kill it.
fn limited(sandbox: &Sandbox, blocks: usize, args: &[&str]) -> Command {
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\"");
    let program = env!("CARGO_BIN_EXE_sidekeep");
    sandbox.command_of(Path::new("/bin/sh"), &[&["-c", &script, "sh", program], args].concat())
}

const MEBIBYTE: usize = 2048;

fn case(name: &'static str, code: i32, words: &'static [&'static str]) -> Case {
    Case { name, arrange: |_| (), args: &[], code, words }
}

fn assert_usable(sandbox: &Sandbox) {
    let halves = files(&sandbox.path("repo")).into_keys().filter(|path| path.to_string_lossy().contains('#'));
    assert_eq!(halves.count(), 0, "no partial object is left");
    assert_eq!(sandbox.json(BACKUP)["number"], 2);
    sandbox.ok(RESTORE);
    assert_same_database(&sandbox.path("out.sqlite"), &sandbox.path("sync.db"));
}

#[test]
fn a_full_store_is_reported() {
    let sandbox = sandbox("wal");
    // The database is in use, so that the backup reads it in place.
    let user = Connection::open(sandbox.path("sync.db")).expect("opens");
    user.query_row("SELECT count(*) FROM users", [], |row| row.get::<_, i64>(0)).expect("reads");
    let full = case("store", 7, &["creating ", "/packs/", "the store is full", "make room in the store"]);
    fails(&sandbox, &full, &mut limited(&sandbox, MEBIBYTE, BACKUP));
    drop(user);
    sandbox.sql("sync.db", "PRAGMA journal_mode = delete;");
    assert_usable(&sandbox);
}

#[test]
fn a_full_directory_for_copies_is_reported() {
    for mode in ["delete", "wal"] {
        let sandbox = sandbox(mode);
        std::fs::create_dir(sandbox.path("spill")).expect("makes");
        let args = ["backup", "--spill-dir", "spill"];
        let full = case(mode, 1, &["cannot make a private copy in spill", "with more free space, with --spill-dir"]);
        fails(&sandbox, &full, &mut limited(&sandbox, MEBIBYTE, &args));
        assert_eq!(files(&sandbox.path("spill")).len(), 0);
        let missing = case(mode, 2, &["cannot make a private copy in gone", "No such file", "--spill-dir"]);
        fails(&sandbox, &missing, &mut sandbox.command(&["backup", "--spill-dir", "gone"]));
        sandbox.sql("sync.db", "PRAGMA journal_mode = delete;");
        assert_usable(&sandbox);
    }
}

/// More rows than are sorted in memory, so that they are spilled.
#[test]
fn a_full_directory_for_sorting_is_reported() {
    let sandbox = sandbox("wal");
    sandbox.sql(
        "sync.db",
        "WITH RECURSIVE n (at) AS (SELECT 1000 UNION ALL SELECT at + 1 FROM n LIMIT 1600)
            INSERT INTO photos SELECT at, 1, randomblob(20000) FROM n;",
    );
    let user = Connection::open(sandbox.path("sync.db")).expect("opens");
    user.query_row("SELECT count(*) FROM users", [], |row| row.get::<_, i64>(0)).expect("reads");
    let full = case("sorting", 1, &["no space is left for temporary files in /tmp", "--spill-dir"]);
    fails(&sandbox, &full, &mut limited(&sandbox, 4 * MEBIBYTE, BACKUP));
    assert_eq!(sandbox.json(BACKUP)["number"], 2);
}

#[test]
fn a_full_target_is_reported_and_nothing_is_left() {
    let sandbox = sandbox("delete");
    sandbox.ok(BACKUP);
    let database = case("database", 1, &["disk I/O error", "whether a disk is full"]);
    fails(&sandbox, &database, &mut limited(&sandbox, MEBIBYTE, RESTORE));
    for format in ["csv", "jsonl"] {
        let args = ["restore", "latest", "--to", "out", "--format", format, "--key-file", "keys/admin.key"];
        let files = case(format, 1, &["photos.", "File too large", "whether a disk is full"]);
        fails(&sandbox, &files, &mut limited(&sandbox, MEBIBYTE, &args));
    }
    sandbox.ok(RESTORE);
    assert_same_database(&sandbox.path("out.sqlite"), &sandbox.path("sync.db"));
}
