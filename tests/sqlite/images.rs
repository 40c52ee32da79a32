//! One consistent image, whatever other processes do to the file, and no traces of reading it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rusqlite::Connection;
use sidekeep::engine::contract::{EngineError, Source, Target};
use sidekeep::engine::sqlite::{SqliteSource, SqliteTarget};
use sidekeep::format::cell::Cell;
use tempfile::TempDir;

use crate::bridge::{Snapshot, all_of, env, real_env, restore, snapshot, snapshot_of, through_a_repository};
use crate::support::sqlite::assert_same_database;

fn reason_of(result: Result<SqliteSource, EngineError>) -> String {
    let described = result.and_then(|mut source| source.describe());
    described.expect_err("it cannot be read").to_string()
}

/// Names and content of all files in a directory.
fn content(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = std::fs::read_dir(dir).expect("the directory");
    entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.is_file())
        .map(|path| (path.clone(), std::fs::read(path).expect("a file")))
        .collect()
}

#[test]
fn files_that_are_not_databases_are_refused_with_a_reason() {
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("x.db");
    assert!(reason_of(SqliteSource::open(&path, std::env::temp_dir(), env())).contains("there is no such file"));
    assert!(!path.exists(), "opening never creates");
    assert!(reason_of(SqliteSource::open(dir.path(), std::env::temp_dir(), env())).contains("it is a directory"));
    std::fs::write(&path, vec![0xa5; 8192]).expect("write");
    assert!(
        reason_of(SqliteSource::open(&path, std::env::temp_dir(), env()))
            .contains("not an SQLite database, or it is encrypted")
    );
    std::fs::write(&path, "SQLite format 3\0 and then nothing that fits it").expect("write");
    assert!(
        reason_of(SqliteSource::open(&path, std::env::temp_dir(), env()))
            .contains("not an SQLite database, or it is encrypted")
    );
    std::fs::write(&path, "").expect("write");
    let mut empty = SqliteSource::open(&path, std::env::temp_dir(), env()).expect("an empty database");
    assert_eq!(empty.describe().expect("an empty database").tables.len(), 0);
}

#[test]
fn a_locked_file_is_reported_as_locked() {
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("x.db");
    let mut holder = Holder::start(&path, "lock");
    assert!(
        reason_of(SqliteSource::open(&path, std::env::temp_dir(), env())).contains("another process keeps it locked")
    );
    holder.stop();
}

#[test]
fn a_log_that_was_never_checkpointed_is_read() {
    let dir = TempDir::new().expect("a directory");
    let live = dir.path().join("live.db");
    let conn = Connection::open(&live).expect("a database");
    conn.execute_batch(
        "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; CREATE TABLE t(a); INSERT INTO t VALUES(1), (2);",
    )
    .expect("statements");
    assert!(std::fs::metadata(&live).expect("the file").len() <= 4096, "all rows are in the log");

    let in_use = snapshot(&live);
    assert_eq!(in_use.table("t").0.len(), 2);

    // The same files after a crash: no process has them open, and the log index is missing.
    let crashed_dir = TempDir::new().expect("a directory");
    let crashed = crashed_dir.path().join("crashed.db");
    std::fs::copy(&live, &crashed).expect("copy");
    std::fs::copy(dir.path().join("live.db-wal"), crashed_dir.path().join("crashed.db-wal")).expect("copy");
    let before = content(crashed_dir.path());
    let found = snapshot(&crashed);
    let stored = dir.path().join("stored.db");
    through_a_repository(&crashed, &stored);
    assert_eq!(content(crashed_dir.path()), before, "reading leaves no trace");
    assert_same_database(&crashed, &stored);
    assert_eq!(found.table("t").0, in_use.table("t").0);
    assert_eq!(found.description.schema, in_use.description.schema);
    let copy = dir.path().join("copy.db");
    restore(&found, &copy);
    assert_same_database(&crashed, &copy);
}

#[test]
fn reading_a_closed_wal_database_creates_no_files() {
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("x.db");
    let conn = Connection::open(&path).expect("a database");
    conn.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(a); INSERT INTO t VALUES(1)").expect("statements");
    conn.close().expect("close");
    let before = content(dir.path());
    assert_eq!(before.len(), 1);
    assert_eq!(snapshot(&path).table("t").0.len(), 1);
    assert_eq!(content(dir.path()), before, "reading leaves no trace");
}

#[test]
fn a_hot_journal_is_rolled_back_in_a_copy() {
    let dir = TempDir::new().expect("a directory");
    let (live, crashed) = (dir.path().join("live.db"), dir.path().join("crashed.db"));
    let conn = Connection::open(&live).expect("a database");
    conn.execute_batch(
        "CREATE TABLE t(a INTEGER PRIMARY KEY, b);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000) INSERT INTO t SELECT i, randomblob(500) FROM n;",
    )
    .expect("statements");
    let committed = snapshot(&live);
    conn.execute_batch("PRAGMA cache_size=5; BEGIN; UPDATE t SET b = 'not committed'").expect("statements");
    std::fs::copy(&live, &crashed).expect("copy");
    std::fs::copy(dir.path().join("live.db-journal"), dir.path().join("crashed.db-journal")).expect("copy");
    conn.execute_batch("ROLLBACK").expect("roll back");
    conn.close().expect("close");
    assert_ne!(std::fs::read(&live).expect("a file"), std::fs::read(&crashed).expect("a file"), "pages were written");

    let before = content(dir.path());
    let found = snapshot(&crashed);
    assert_eq!(content(dir.path()), before, "reading leaves no trace");
    assert_eq!(found.table("t").0, committed.table("t").0);
    let outside = TempDir::new().expect("a directory");
    let stored = outside.path().join("stored.db");
    through_a_repository(&crashed, &stored);
    assert_eq!(content(dir.path()), before, "reading leaves no trace");
    assert_same_database(&live, &stored);
}

#[test]
fn databases_in_a_read_only_directory_are_readable() {
    use std::os::unix::fs::PermissionsExt;
    let outer = TempDir::new().expect("a directory");
    let dir = outer.path().join("sealed");
    std::fs::create_dir(&dir).expect("a directory");
    let mut paths = Vec::new();
    for mode in ["WAL", "DELETE"] {
        let path = dir.join(format!("{mode}.db"));
        let conn = Connection::open(&path).expect("a database");
        conn.execute_batch(&format!("PRAGMA journal_mode={mode}; CREATE TABLE t(a); INSERT INTO t VALUES(1)"))
            .expect("statements");
        conn.close().expect("close");
        paths.push(path);
    }
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o555)).expect("seal");
    for path in paths {
        assert_eq!(snapshot(&path).table("t").0.len(), 1, "{path:?}");
    }
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).expect("unseal");
}

#[test]
fn a_killed_restore_leaves_only_its_partial_file() {
    use std::os::unix::fs::PermissionsExt;
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("x.db");
    let conn = Connection::open(&path).expect("a database");
    conn.execute_batch("CREATE TABLE t(a)").expect("statements");
    conn.close().expect("close");
    drop(Holder::start(&path, "restore"));
    let made: Vec<PathBuf> = content(dir.path()).into_keys().collect();
    let partial = made.iter().find(|path| path.to_string_lossy().contains("copy.db.partial-")).expect("a partial file");
    assert_eq!(partial.metadata().expect("the file").permissions().mode() & 0o777, 0o600);
    assert_eq!(made.len(), 3, "{made:?}");
    assert!(!dir.path().join("copy.db").exists());
}

/// Another process that works on a database until it is told to stop.
struct Holder(Child);

impl Holder {
    fn start(path: &Path, task: &str) -> Self {
        let ready = path.with_extension("ready");
        let child = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "images::another_process", "--nocapture"])
            .env("SIDEKEEP_TEST_DB", path)
            .env("SIDEKEEP_TEST_TASK", task)
            .env("SIDEKEEP_TEST_READY", &ready)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("start another process");
        while !ready.exists() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        Self(child)
    }

    fn stop(&mut self) {
        drop(self.0.stdin.take());
        assert!(self.0.wait().expect("the other process").success());
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Not a test: the process that [`Holder`] starts.
#[test]
fn another_process() {
    let (Some(path), Ok(task)) = (std::env::var_os("SIDEKEEP_TEST_DB"), std::env::var("SIDEKEEP_TEST_TASK")) else {
        return;
    };
    let ready = std::env::var_os("SIDEKEEP_TEST_READY").expect("a file to make");
    if task == "restore" {
        let schema = snapshot(Path::new(&path)).description.schema;
        let copy = Path::new(&path).with_file_name("copy.db");
        let mut target = SqliteTarget::create(&copy, &real_env()).expect("create");
        target.begin(&all_of(&schema, &[])).expect("begin");
        std::fs::write(ready, "").expect("ready");
        std::thread::sleep(std::time::Duration::from_secs(60));
        return;
    }
    let conn = Connection::open(path).expect("the database");
    conn.busy_timeout(std::time::Duration::from_secs(30)).expect("a setting");
    let (tell_end, end) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        let _ = tell_end.send(());
    });
    if task == "lock" {
        conn.execute_batch("CREATE TABLE t(a); BEGIN EXCLUSIVE").expect("a lock");
        std::fs::write(ready, "").expect("ready");
        end.recv().expect("the end");
        return;
    }
    let transfer = "BEGIN IMMEDIATE; UPDATE account SET money = money - 7 WHERE id = 1 + abs(random()) % 1000;
        UPDATE account SET money = money + 7 WHERE id = 1 + abs(random()) % 1000;
        INSERT INTO entry SELECT NULL, randomblob(200); COMMIT";
    for turn in 0_u64.. {
        conn.execute_batch(transfer).expect("a transfer");
        if turn == 0 {
            std::fs::write(&ready, "").expect("ready");
        }
        if end.try_recv().is_ok() {
            break;
        }
    }
}

fn sum(found: &Snapshot) -> i64 {
    let integer = |cell: Cell<'_>| match cell {
        Cell::Integer(value) => value,
        other => panic!("{other:?}"),
    };
    let money = found.table("account").0.iter().map(|row| integer(row[1].get()));
    money.sum()
}

#[test]
fn every_image_is_consistent_while_others_write() {
    for mode in ["WAL", "DELETE", "TRUNCATE"] {
        let dir = TempDir::new().expect("a directory");
        let path = dir.path().join("x.db");
        let conn = Connection::open(&path).expect("a database");
        conn.execute_batch(&format!(
            "PRAGMA journal_mode={mode}; CREATE TABLE account(id INTEGER PRIMARY KEY, money INTEGER, note);
             CREATE TABLE entry(id INTEGER PRIMARY KEY, note);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000) INSERT INTO account SELECT i, 1000, randomblob(300) FROM n;"
        ))
        .expect("statements");
        conn.close().expect("close");
        let mut writer = Holder::start(&path, "transfer");
        let mut entries = Vec::new();
        for _ in 0..10 {
            let mut source = SqliteSource::open(&path, std::env::temp_dir(), env()).expect("open");
            let found = snapshot_of(&mut source);
            assert_eq!(sum(&found), 1_000_000, "{mode}");
            entries.push(found.table("entry").0.len());
            source.release().expect("release");
        }
        for turn in 0..3 {
            let stored = dir.path().join(format!("stored {turn}"));
            through_a_repository(&path, &stored);
            let sum = "SELECT sum(money), (SELECT count(*) FROM entry) FROM account";
            let stored = Connection::open(&stored).expect("open");
            let (sum, rows): (i64, i64) =
                stored.query_row(sum, [], |row| Ok((row.get(0)?, row.get(1)?))).expect("rows");
            assert_eq!(sum, 1_000_000, "{mode}");
            entries.push(usize::try_from(rows).expect("a count"));
        }
        writer.stop();
        assert!(entries.is_sorted() && entries[0] < entries[9], "{mode}: the writer was not blocked: {entries:?}");
    }
}

#[test]
fn an_image_does_not_change() {
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("x.db");
    let conn = Connection::open(&path).expect("a database");
    conn.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(a); INSERT INTO t VALUES(1)").expect("statements");
    let mut source = SqliteSource::open(&path, std::env::temp_dir(), env()).expect("open");
    source.describe().expect("describe");
    conn.execute_batch("INSERT INTO t VALUES(2); DROP TABLE t; CREATE TABLE t(b, c)").expect("writers are not blocked");
    let mut rows = crate::bridge::Rows::default();
    source.read(0, &mut rows).expect("read");
    assert_eq!(rows.0.len(), 1);
    source.release().expect("release");
    assert!(source.read(0, &mut rows).is_err(), "there are no rows without an image");
    assert_eq!(snapshot_of(&mut source).rows[0].0.len(), 0, "a new image has the new state");
}
