//! Databases with very many tables: time and memory grow with their number, not with its square.

use std::process::Child;
use std::time::Duration;

use rusqlite::Connection;

use crate::Sandbox;

/// Creates a service with `tables` tables of 10 columns, all of them but one with rows of users.
fn create_service(sandbox: &Sandbox, tables: usize) {
    let conn = Connection::open(sandbox.path("sync.db")).expect("opens");
    let run = |sql: &str| conn.execute_batch(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    run(
        "PRAGMA synchronous=OFF; PRAGMA journal_mode=MEMORY; PRAGMA foreign_keys=OFF; PRAGMA writable_schema=ON; BEGIN;
         CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT, c2, c3, c4, c5, c6, c7, c8, c9);
         INSERT INTO users (id) VALUES (1), (2);
         CREATE TEMP TABLE moved (type, name, tbl_name, rootpage, sql)",
    );
    // SQLite itself takes quadratic time unless it does not see the earlier tables.
    let move_away = "INSERT INTO moved SELECT * FROM main.sqlite_schema ORDER BY rowid; DELETE FROM main.sqlite_schema;
                     PRAGMA writable_schema=RESET; PRAGMA writable_schema=ON";
    for n in 1..tables {
        run(&format!(
            "CREATE TABLE t{n} (id INTEGER PRIMARY KEY, user_id INTEGER REFERENCES users (id) ON DELETE CASCADE,
                 c2 TEXT, c3 TEXT DEFAULT 'x', c4 INTEGER NOT NULL DEFAULT 0, c5 REAL, c6 BLOB, c7, c8, c9);
             INSERT INTO t{n} (id, user_id, c2) VALUES (1, {}, 'row {n}')",
            n % 2 + 1
        ));
        if n % 200 == 0 {
            run(move_away);
        }
    }
    run(move_away);
    run("INSERT INTO main.sqlite_schema SELECT * FROM moved ORDER BY rowid; DROP TABLE moved; COMMIT");
}

/// Runs a command that must succeed. Returns its peak memory in MB.
fn peak_memory(sandbox: &Sandbox, args: &[&str]) -> u64 {
    let mut child = sandbox.command(args).spawn().expect("the program runs");
    let mut peak = 0;
    loop {
        peak = peak.max(high_water_mark(&child));
        if let Some(status) = child.try_wait().expect("the program ends") {
            assert!(status.success(), "{args:?}: {status}");
            return peak >> 10;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// In KB. 0 once the process has ended.
fn high_water_mark(child: &Child) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse().ok()).unwrap_or(0)
}

/// What is measured.
const COMMANDS: [&[&str]; 4] = [
    &["backup"],
    &["backup"],
    &["verify", "--level", "structure"],
    &["restore", "latest", "--to", "sqlite:back.db", "--key-file", "keys/admin.key"],
];

/// Returns the peak memory of each command in MB.
fn backs_up_and_restores(tables: usize) -> [u64; COMMANDS.len()] {
    let sandbox = Sandbox::new();
    create_service(&sandbox, tables);
    sandbox.ok(&["init", "repo", "--source", "sqlite:sync.db"]);
    let memory = COMMANDS.map(|args| peak_memory(&sandbox, args));
    let back = Connection::open(sandbox.path("back.db")).expect("opens");
    let count: i64 = back.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).expect("counts");
    assert_eq!(usize::try_from(count).ok(), Some(tables));
    for n in [1, tables / 2, tables - 1] {
        let row = back.query_row(&format!("SELECT c2 FROM t{n} WHERE id = 1"), [], |row| row.get::<_, String>(0));
        assert_eq!(row.expect("a row"), format!("row {n}"));
    }
    memory
}

/// With more tables, a command takes more memory for each, but not more than it did when this was measured: 6 KB for a
/// backup, 5 KB for a verification and 11 KB for a restore.
#[test]
fn each_of_thousands_of_tables_takes_a_few_kilobytes() {
    let few = backs_up_and_restores(2_000);
    let many = backs_up_and_restores(6_000);
    for (at, most_kb) in [7, 7, 6, 13].into_iter().enumerate() {
        let kb = ((many[at] << 10).saturating_sub(few[at] << 10)) / 4_000;
        assert!(kb <= most_kb, "{:?}: {few:?} and {many:?} MB", COMMANDS[at]);
    }
}

/// 500 MB is the goal: a backup lacks 40 MB to it, and a restore 157 MB.
#[test]
#[ignore = "takes minutes"]
fn a_database_with_a_hundred_thousand_tables_comes_back_in_700_mb() {
    let memory = backs_up_and_restores(100_000);
    for (at, most_mb) in [600, 600, 400, 700].into_iter().enumerate() {
        assert!(memory[at] <= most_mb, "{:?}: {memory:?} MB", COMMANDS[at]);
    }
}
