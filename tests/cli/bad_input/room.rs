//! Full disks: of the store, of the directory for temporary files, of the target. The process has a limit on file sizes,
//! which causes the same errors as a full disk.

use std::path::{Path, PathBuf};
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

/// A file system of one MiB that is unmounted when dropped.
struct Disk(PathBuf);

impl Disk {
    /// None if it cannot be mounted, after printing why.
    fn mount(at: &Path) -> Option<Self> {
        std::fs::create_dir(at).expect("makes");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(at).output();
        if mounted.as_ref().is_ok_and(|output| output.status.success()) {
            return Some(Self(at.to_owned()));
        }
        eprintln!("skipped: only root can mount a small file system");
        None
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        Command::new("umount").arg("--lazy").arg(&self.0).status().ok();
    }
}

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
        // SQLite does not say why it could not write.
        let words: &[&str] = match mode {
            "delete" => &["cannot make a private copy in spill", "on another disk with --spill-dir"],
            _ => &["cannot make a private copy in spill", "with more free space, with --spill-dir"],
        };
        let full = case(mode, 1, words);
        fails(&sandbox, &full, &mut limited(&sandbox, MEBIBYTE, &args));
        assert_eq!(files(&sandbox.path("spill")).len(), 0);
        let missing = case(mode, 2, &["cannot make a private copy in gone", "No such file", "--spill-dir"]);
        fails(&sandbox, &missing, &mut sandbox.command(&["backup", "--spill-dir", "gone"]));
        assert!(!sandbox.run(&["backup", "--spill-dir", "gone"]).err.contains(".tmp"));
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
    // Neither error says that a disk is full, so there is no hint.
    let ran = Sandbox::ran(&mut limited(&sandbox, MEBIBYTE, RESTORE));
    assert!(ran.code == 1 && ran.err.contains("disk I/O error") && !ran.err.contains("hint"), "{}", ran.err);
    for format in ["csv", "jsonl"] {
        let args = ["restore", "latest", "--to", "out", "--format", format, "--key-file", "keys/admin.key"];
        let ran = Sandbox::ran(&mut limited(&sandbox, MEBIBYTE, &args));
        assert!(ran.code == 1 && ran.err.contains("photos.") && ran.err.contains("File too large"), "{}", ran.err);
        assert!(!ran.err.contains("hint"), "{}", ran.err);
    }
    if let Some(disk) = Disk::mount(&sandbox.path("small")) {
        for (to, format) in [("small/out.sqlite", None), ("small/out", Some("csv")), ("small/out", Some("jsonl"))] {
            let format = format.map_or(vec![], |format| vec!["--format", format]);
            let args = [&["restore", "latest", "--to", to, "--key-file", "keys/admin.key"], &format[..]].concat();
            let err = sandbox.fails(1, &args);
            assert!(err.contains("hint: make room on the disk that was written to"), "{err}");
            assert_eq!(disk.0.read_dir().expect("reads").count(), 0, "{err}");
        }
    }
    sandbox.ok(RESTORE);
    assert_same_database(&sandbox.path("out.sqlite"), &sandbox.path("sync.db"));
}
