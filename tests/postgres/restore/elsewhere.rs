//! Restores of a PostgreSQL snapshot to other targets: SQLite, CSV, JSON lines.

use rusqlite::Connection;
use sidekeep::engine::files::{CsvTarget, JsonLinesTarget};
use sidekeep::engine::sqlite::SqliteTarget;

use crate::support::postgres::stage::{DATABASE, Stage, refused};

const OTHER: &str = "
    CREATE SCHEMA other;
    CREATE TABLE users (id bigint PRIMARY KEY, name text, born date, at timestamptz, big numeric(30,10), flag boolean, r real, d double precision,
        tags text[], doc jsonb, u uuid, b bytea, way interval, \"Name\" text);
    INSERT INTO users VALUES (7, 'ann', '1999-12-31', '2020-02-29 12:00:00.5+00', 12345678901234567890.5, true, 0.5, 1e300, '{a,b}', '{\"k\": 1}',
        '00000000-0000-0000-0000-0000000000ff', '\\x00ff', '1 day', 'NAME'), (8, NULL, 'infinity', NULL, 'NaN', false, 'NaN', 'NaN', NULL, NULL, NULL, NULL, NULL, NULL);
    CREATE TABLE other.\"Users\" (a int, b int, PRIMARY KEY (b, a));
    INSERT INTO other.\"Users\" VALUES (1, 2), (2, 1);
    CREATE TABLE other.pets (name text);
    INSERT INTO other.pets VALUES ('rex'), ('rex');
";

#[test]
fn a_postgres_snapshot_restores_to_sqlite_with_rows_and_keys() {
    let Some(stage) = Stage::of(OTHER) else { return };
    let path = stage.world.path("out.sqlite");
    let mut target = SqliteTarget::create(&path, &stage.world.env).expect("a target");
    let report = stage.restore(&mut target, &[]).expect("a restore");
    assert_eq!(refused(&report), [""; 0]);
    assert!(target.notes()[0].contains("but not their views"), "{:?}", target.notes());
    let conn = Connection::open(&path).expect("opens");
    let text = |sql: &str| conn.query_row(sql, [], |row| row.get::<_, String>(0)).expect(sql);
    let users = "\"public.users\"";
    assert_eq!(
        text(&format!(
            "SELECT id || '|' || name || '|' || born || '|' || at || '|' || big || '|' || flag || '|' || r || '|' || d || '|' || tags || '|' || doc || '|' || u || '|' || hex(b) || '|' || way || '|' || Name_2 FROM {users} WHERE id = 7"
        )),
        "7|ann|1999-12-31|2020-02-29T12:00:00.500000|12345678901234567890.5000000000|1|0.5|1.0e+300|{a,b}|{\"k\": 1}|00000000-0000-0000-0000-0000000000ff|00FF|P0M1DT0.000000S|NAME"
    );
    assert_eq!(
        text(&format!("SELECT born || big || r || d || typeof(name) FROM {users} WHERE id = 8")),
        "infinityNaNNaNNaNnull"
    );
    assert_eq!(text("SELECT group_concat(name) FROM pets"), "rex,rex");
    assert_eq!(
        text("SELECT sql FROM sqlite_schema WHERE name LIKE 'other.%'"),
        "CREATE TABLE \"other.\"\"Users\"\"\" (\"a\" INTEGER, \"b\" INTEGER, PRIMARY KEY (\"b\", \"a\"))"
    );
}

#[test]
fn every_row_of_a_nasty_database_restores_to_other_targets() {
    let Some(stage) = Stage::nasty() else { return };
    let path = stage.world.path("out.sqlite");
    let report = stage.restore(&mut SqliteTarget::create(&path, &stage.world.env).expect("a target"), &[]);
    let report = report.expect("a restore");
    let lines = refused(&report);
    // SQLite has no tables without columns.
    assert!(lines.iter().all(|line| line.starts_with("no_columns: ")), "{lines:#?}");
    let conn = Connection::open(&path).expect("opens");
    let count = |sql: &str| conn.query_row(sql, [], |row| row.get::<_, i64>(0)).expect(sql).to_string();
    for table in ["users", "contacts", "events", "blobs", "no_key"] {
        let live = stage.cluster.sql(DATABASE, &format!("SELECT count(*) FROM app.{table}"));
        assert_eq!(live, [[Some(count(&format!("SELECT count(*) FROM {table}")))]], "{table}");
    }
    for (name, target) in [("csv", true), ("jsonl", false)] {
        let path = stage.world.path(name);
        let report = if target {
            stage.restore(&mut CsvTarget::create(&path, &stage.world.env).expect("a target"), &[])
        } else {
            stage.restore(&mut JsonLinesTarget::create(&path, &stage.world.env).expect("a target"), &[])
        };
        assert_eq!(refused(&report.expect("a restore")), [""; 0]);
        let lines = std::fs::read_to_string(path.join(format!("app.contacts.{name}"))).expect("a file").lines().count();
        assert_eq!(lines, 1205 + usize::from(target));
    }
}
