//! Damaged databases: what can be read is backed up, what cannot be read is named, and missing parts are not read as
//! zeros.

use std::collections::BTreeSet;
use std::path::Path;

use rusqlite::Connection;
use serde_json::Value;

use crate::bad_input::{BACKUP, CONFIG};
use crate::support::sandbox::{Sandbox, gaps_of};
use crate::support::sqlite::assert_same_rows;

const PAGE: usize = 1024;

/// Tables of every kind with interleaved pages, and a schema that needs several pages.
fn create(path: &Path, mode: &str) {
    let conn = Connection::open(path).expect("a database");
    let wide = "x".repeat(300);
    let mut sql = format!(
        "PRAGMA page_size={PAGE}; PRAGMA journal_mode={mode}; CREATE TABLE users(id INTEGER PRIMARY KEY, name);
         CREATE TABLE notes(id TEXT PRIMARY KEY, body) WITHOUT ROWID; CREATE TABLE big(id INTEGER PRIMARY KEY, v);
         CREATE INDEX by_name ON users(name); BEGIN;"
    );
    (0..10).for_each(|n| sql += &format!("CREATE TABLE t{n}(a /* {wide} */); INSERT INTO t{n} VALUES({n});"));
    for id in 0..90 {
        sql += &format!(
            "INSERT INTO users VALUES({id}, 'user {id}'); INSERT INTO notes VALUES('note {id}', hex(zeroblob(40)));
             INSERT INTO big VALUES({id}, hex(zeroblob({})));",
            id * 37 % 1500
        );
    }
    conn.execute_batch(&(sql + "COMMIT")).expect("the test's own statements");
    conn.close().expect("close");
}

fn sandbox(mode: &str) -> (Sandbox, Vec<u8>) {
    let sandbox = Sandbox::new();
    create(&sandbox.path("sync.db"), mode);
    std::fs::copy(sandbox.path("sync.db"), sandbox.path("whole.db")).expect("copies");
    sandbox.write("sidekeep.toml", CONFIG);
    sandbox.ok(&["init", "repo", "--source", "sqlite:sync.db"]);
    sandbox.ok(BACKUP);
    let whole = std::fs::read(sandbox.path("sync.db")).expect("reads");
    (sandbox, whole)
}

fn snapshots(sandbox: &Sandbox) -> usize {
    sandbox
        .path("repo")
        .read_dir()
        .expect("reads")
        .flatten()
        .map(|source| source.path().join("ledger"))
        .filter_map(|ledger| ledger.read_dir().ok())
        .map(Iterator::count)
        .sum()
}

fn objects(gaps: &Value) -> Vec<String> {
    let object = |gap: &Value| gap["object"].as_str().expect("a name").to_owned();
    gaps.as_array().expect("a list").iter().map(object).collect()
}

/// Runs a backup that finds gaps. Checks that all commands name them, and that the other tables are complete.
fn assert_named(sandbox: &Sandbox, what: &str) -> BTreeSet<String> {
    let ran = sandbox.run(&["backup", "--json"]);
    assert_eq!(ran.code, 3, "{what}: {}", ran.err);
    let report: Value = serde_json::from_str(&ran.out).expect("a report");
    let named = objects(&gaps_of(&report).into());
    let once: BTreeSet<String> = named.iter().cloned().collect();
    assert_eq!(named.len(), once.len(), "{what}: an object is named twice: {named:?}");
    let said = |args: &[&str], code: i32| {
        let ran = sandbox.run(args);
        assert_eq!(ran.code, code, "{what} {args:?}: {}", ran.err);
        let names_all = once.iter().all(|name| ran.out.contains(name));
        assert!(names_all, "{what} {args:?}: {}", ran.out);
    };
    said(&["show", "latest"], 3);
    said(&["verify", "--level", "structure", "latest"], 0);
    said(&["restore", "latest", "--to", "out.sqlite", "--key-file", "keys/admin.key"], 3);
    let (whole, out) = (Connection::open(sandbox.path("whole.db")), Connection::open(sandbox.path("out.sqlite")));
    let (whole, out) = (whole.expect("opens"), out.expect("opens"));
    let mut tables = whole.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'").expect("tables");
    for table in tables.query_map([], |row| row.get::<_, String>(0)).expect("tables").map(|name| name.expect("a name"))
    {
        if !once.contains(&table) {
            assert_same_rows(&whole, &out, &table);
        }
    }
    drop(tables);
    out.close().expect("closes");
    std::fs::remove_file(sandbox.path("out.sqlite")).expect("was restored");
    once
}

#[test]
fn a_truncated_file_is_refused_or_named_with_its_tables() {
    for mode in ["DELETE", "WAL"] {
        let (sandbox, whole) = sandbox(mode);
        let (mut refused, mut named) = (0, 0);
        let lengths = (0..whole.len() / PAGE).step_by(24).chain([whole.len() / PAGE - 1]);
        for len in lengths.flat_map(|pages| [pages * PAGE, pages * PAGE + 300]).filter(|len| *len > 0) {
            let what = format!("{mode}, {len} of {}", whole.len());
            std::fs::write(sandbox.path("sync.db"), &whole[..len]).expect("writes");
            let before = snapshots(&sandbox);
            let dry = sandbox.run(&["backup", "--dry-run"]);
            if dry.code == 7 {
                let err = sandbox.fails(7, BACKUP);
                assert!(err.contains("sync.db: it is ") && err.contains("\nhint: "), "{what}: {err}");
                assert_eq!(snapshots(&sandbox), before, "{what}");
                refused += 1;
                continue;
            }
            let once = assert_named(&sandbox, &what);
            assert!(once.contains("the file"), "{what}: {once:?}");
            named += 1;
        }
        assert!(refused >= 1 && named >= 5, "{refused} {named}");
    }
}

/// If the write-ahead log has newer pages, SQLite trusts the page count in the log.
#[test]
fn a_truncated_file_with_a_complete_log_is_named() {
    let (sandbox, whole) = sandbox("WAL");
    let conn = Connection::open(sandbox.path("sync.db")).expect("opens");
    conn.execute_batch("PRAGMA wal_autocheckpoint=0; INSERT INTO big VALUES(1000, hex(zeroblob(5000))); UPDATE big SET v = 'short' WHERE id = 1")
        .expect("changes");
    std::fs::copy(sandbox.path("sync.db-wal"), sandbox.path("log")).expect("copies");
    conn.backup("main", sandbox.path("younger.db"), None::<fn(rusqlite::backup::Progress)>).expect("copies");
    conn.close().expect("close");
    std::fs::rename(sandbox.path("younger.db"), sandbox.path("whole.db")).expect("renames");
    let arrange = |len: usize| {
        std::fs::write(sandbox.path("sync.db"), &whole[..len]).expect("writes");
        std::fs::copy(sandbox.path("log"), sandbox.path("sync.db-wal")).expect("copies");
    };
    arrange(whole.len());
    sandbox.ok(BACKUP);
    let mut silent = 0;
    for cut in [1, 700, PAGE, 2 * PAGE, 9 * PAGE, 40 * PAGE, 41 * PAGE + 1] {
        arrange(whole.len() - cut);
        let once = assert_named(&sandbox, &format!("{cut} bytes less"));
        assert!(once.contains("the file"), "{once:?}");
        silent += usize::from(once.len() > 1);
    }
    assert!(silent > 4, "tables are named: {silent}");
}

#[test]
fn damaged_pages_are_named_with_their_tables() {
    let (sandbox, whole) = sandbox("DELETE");
    let conn = Connection::open(sandbox.path("whole.db")).expect("opens");
    let page = |name: &str, kind: &str| -> usize {
        let sql = "SELECT max(pageno) FROM dbstat WHERE name = ?1 AND pagetype = ?2";
        conn.query_row(sql, [name, kind], |row| row.get::<_, u32>(0)).expect("a page") as usize
    };
    for (name, kind, table) in
        [("users", "leaf", "users"), ("notes", "internal", "notes"), ("big", "internal", "big"), ("t3", "leaf", "t3")]
    {
        for fill in [0, 0xff] {
            let mut bytes = whole.clone();
            let at = (page(name, kind) - 1) * PAGE;
            bytes[at..at + PAGE].fill(fill);
            std::fs::write(sandbox.path("sync.db"), bytes).expect("writes");
            assert_eq!(assert_named(&sandbox, name), BTreeSet::from([table.to_owned()]));
        }
    }
    // An index contains nothing that its table does not contain.
    let mut bytes = whole.clone();
    let at = (page("by_name", "leaf") - 1) * PAGE;
    bytes[at..at + PAGE].fill(0xff);
    std::fs::write(sandbox.path("sync.db"), bytes).expect("writes");
    sandbox.ok(BACKUP);
}
