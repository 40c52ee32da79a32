//! Everything that cannot be exact is reported, and the rest is still captured or restored.

use crate::support::world::findings::FindingsByKind;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use rusqlite::Connection;
use rusqlite::functions::FunctionFlags;
use sidekeep::base::finding::FindingKind;
use sidekeep::engine::contract::{EngineError, Target, TargetColumn, TargetTable};
use sidekeep::engine::sqlite::SqliteTarget;
use sidekeep::format::cell::Cell;
use tempfile::TempDir;

use crate::bridge::{Restored, Snapshot, all_of, real_env, restore, snapshot, through_a_repository};
use crate::support::sqlite::assert_same_database;

pub struct Made {
    pub dir: TempDir,
    pub path: PathBuf,
    pub conn: Connection,
}

pub fn make(sql: &str) -> Made {
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("source.db");
    let conn = Connection::open(&path).expect("a database");
    conn.execute_batch("PRAGMA foreign_keys=OFF").expect("a setting");
    conn.create_collation("shouting", |a, b| a.to_uppercase().cmp(&b.to_uppercase())).expect("a collation");
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    conn.create_scalar_function("app_twice", 1, flags, |context| Ok(context.get::<i64>(0)? * 2)).expect("a function");
    conn.execute_batch(sql).expect("the test's own statements");
    Made { dir, path, conn }
}

impl Made {
    /// The directory is deleted when the first part is dropped.
    pub fn round_trip(self) -> (TempDir, Snapshot, Restored, PathBuf) {
        self.conn.close().expect("close");
        let snapshot = snapshot(&self.path);
        let restored = restore(&snapshot, &self.dir.path().join("copy.db"));
        (self.dir, snapshot, restored, self.path)
    }
}

pub fn names(snapshot: &Snapshot) -> Vec<&str> {
    snapshot.gaps.iter().map(|gap| gap.object.as_str()).collect()
}

pub fn refused(restored: &Restored) -> Vec<&str> {
    restored.refused.iter().map(|refused| refused.object.as_str()).collect()
}

#[test]
fn unknown_modules_are_reported() {
    let made = make(
        "CREATE TABLE t(a); INSERT INTO t VALUES(1); CREATE TABLE far_node(a, b); INSERT INTO far_node VALUES(1, 2);
         PRAGMA writable_schema=ON;
         INSERT INTO sqlite_schema VALUES('table', 'elsewhere', 'elsewhere', 0, 'CREATE VIRTUAL TABLE elsewhere USING some_module(x)');
         INSERT INTO sqlite_schema VALUES('table', 'far', 'far', 0, 'CREATE VIRTUAL TABLE far USING other_module(x)')",
    );
    let (_dir, snapshot, restored, path) = made.round_trip();
    assert_eq!(names(&snapshot), ["elsewhere"], "the module of far keeps its rows in far_node");
    assert!(snapshot.gaps[0].detail.contains("some_module"));
    assert_eq!(snapshot.gaps[0].kind, FindingKind::UnknownModule { module: "some_module".to_owned() });
    assert_eq!(refused(&restored), [""; 0]);
    assert_same_database(&path, &restored.path);
}

#[test]
fn objects_with_unknown_collations_are_reported() {
    let made = make(
        "CREATE TABLE harmless(a TEXT COLLATE shouting); INSERT INTO harmless VALUES('b'), ('A');
         CREATE TABLE unique_one(a TEXT COLLATE shouting UNIQUE, b); INSERT INTO unique_one VALUES('b', 1), ('A', 2);
         CREATE TABLE keyed(a TEXT COLLATE shouting PRIMARY KEY) WITHOUT ROWID; INSERT INTO keyed VALUES('b'), ('A');
         CREATE INDEX ordered ON harmless(a); CREATE INDEX bytes ON harmless(a COLLATE BINARY);
         CREATE INDEX partial ON unique_one(b) WHERE a > 'a'; CREATE INDEX fine ON unique_one(b)",
    );
    let (_dir, snapshot, restored, path) = made.round_trip();
    let expected = ["unique_one", "keyed", "ordered", "partial"];
    assert_eq!(names(&snapshot), expected, "{:?}", snapshot.gaps);
    assert_eq!(refused(&restored), expected, "{:?}", restored.refused);
    let copy = Connection::open(&restored.path).expect("open the copy");
    copy.create_collation("shouting", |a, b| a.to_uppercase().cmp(&b.to_uppercase())).expect("a collation");
    copy.execute_batch("REINDEX unique_one").expect("repair by the application");
    let rows: i64 =
        copy.query_row("SELECT count(*) FROM unique_one WHERE a = 'B'", [], |row| row.get(0)).expect("rows");
    assert_eq!(rows, 1);
    assert_eq!(snapshot.table("keyed").0.len(), 2);
    let original = Connection::open(&path).expect("open the source");
    let schema = "SELECT count(*) FROM sqlite_schema";
    let count = |conn: &Connection| conn.query_row(schema, [], |row| row.get::<_, i64>(0)).expect("a count");
    assert_eq!(count(&original), count(&copy) + 2);
}

#[test]
fn objects_with_unknown_functions_are_reported() {
    let made = make(
        "CREATE TABLE checked(a CHECK(app_twice(a) > 0)); INSERT INTO checked VALUES(1), (2);
         CREATE TABLE virtual_one(a, b AS (app_twice(a))); INSERT INTO virtual_one VALUES(1);
         CREATE TABLE indexed_one(a, b AS (app_twice(a)) UNIQUE); INSERT INTO indexed_one(a) VALUES(1);
         CREATE TABLE stored_one(a, b AS (app_twice(a)) STORED); INSERT INTO stored_one VALUES(1);
         CREATE INDEX computed ON checked(app_twice(a)); CREATE INDEX fine ON checked(a);
         CREATE INDEX of_virtual ON virtual_one(b);
         CREATE VIEW seen AS SELECT app_twice(a) FROM checked;
         CREATE TRIGGER fires AFTER INSERT ON checked BEGIN SELECT app_twice(1); END",
    );
    let (_dir, snapshot, restored, _path) = made.round_trip();
    let expected = ["indexed_one", "stored_one", "computed", "of_virtual"];
    assert_eq!(names(&snapshot), expected, "{:?}", snapshot.gaps);
    assert_eq!(refused(&restored), expected, "{:?}", restored.refused);
    let copy = Connection::open(&restored.path).expect("open the copy");
    copy.create_scalar_function("app_twice", 1, FunctionFlags::SQLITE_DETERMINISTIC, |context| {
        Ok(context.get::<i64>(0)? * 2)
    })
    .expect("a function");
    let all: (i64, i64, i64) = copy
        .query_row(
            "SELECT (SELECT sum(a) FROM checked), (SELECT b FROM virtual_one), (SELECT a FROM stored_one)",
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )
        .expect("rows");
    assert_eq!(all, (3, 2, 1));
}

#[test]
fn hidden_rowids_are_reported() {
    let made = make(
        "CREATE TABLE t(rowid, _rowid_, oid); INSERT INTO t VALUES(1, 2, 3), (4, 5, 6); DELETE FROM t WHERE rowid = 1",
    );
    let (_dir, snapshot, restored, _path) = made.round_trip();
    assert_eq!(names(&snapshot), ["t"]);
    assert!(snapshot.gaps[0].detail.contains("rowids"));
    assert_eq!(snapshot.gaps[0].kind, FindingKind::RowidsNotKept);
    assert_eq!(snapshot.table("t").0.len(), 1);
    assert_eq!(refused(&restored), [""; 0]);
}

#[test]
fn a_damaged_page_affects_only_its_table() {
    let made = make(
        "CREATE TABLE whole(a); INSERT INTO whole VALUES(1);
         CREATE TABLE broken(a INTEGER PRIMARY KEY, b);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200) INSERT INTO broken SELECT i, randomblob(1000) FROM n",
    );
    let root: u32 = made
        .conn
        .query_row("SELECT max(pageno) FROM dbstat WHERE name = 'broken' AND pagetype = 'leaf'", [], |row| row.get(0))
        .expect("a page");
    made.conn.close().expect("close");
    let mut bytes = std::fs::read(&made.path).expect("the file");
    let at = (root as usize - 1) * 4096;
    bytes[at..at + 100].fill(0xff);
    std::fs::write(&made.path, bytes).expect("damage");
    let found = snapshot(&made.path);
    assert_eq!(names(&found), ["broken"]);
    let rows = found.table("broken").0.len();
    assert!((100..200).contains(&rows), "{rows} rows before the damage");
    assert!(found.gaps[0].detail.contains(&format!("{rows} rows were read")), "{:?}", found.gaps);
    assert_eq!(found.gaps[0].kind, FindingKind::DamagedTable { rows_read: rows as u64 });
    assert_eq!(found.table("whole").0.len(), 1);
}

#[test]
fn the_readable_part_of_a_malformed_schema_is_used() {
    let made = make(
        "CREATE TABLE t(a); INSERT INTO t VALUES(1); CREATE TABLE lost(a); CREATE VIEW v AS SELECT 1; PRAGMA writable_schema=ON;
         UPDATE sqlite_schema SET sql = 'CREATE TABLE lost(a' WHERE name = 'lost';
         UPDATE sqlite_schema SET sql = 'CREATE VIEW v AS SELEKT' WHERE name = 'v'",
    );
    made.conn.close().expect("close");
    let found = snapshot(&made.path);
    assert!(names(&found).contains(&"lost") && names(&found).contains(&"sqlite_schema"), "{:?}", found.gaps);
    assert_eq!(found.table("t").0.len(), 1);
    let restored = restore(&found, &made.dir.path().join("copy.db"));
    assert_eq!(refused(&restored), ["lost", "v"], "{:?}", restored.refused);
    let copy = Connection::open(&restored.path).expect("open the copy");
    let rows: i64 = copy.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).expect("an intact schema");
    assert_eq!(rows, 1);
}

#[test]
fn definitions_that_are_not_valid_text_are_kept() {
    let made = make(
        "CREATE TABLE t(a DEFAULT 'x'); INSERT INTO t VALUES(1); PRAGMA writable_schema=ON;
         UPDATE sqlite_schema SET sql = CAST(x'435245415445205441424c452074286120' || CAST('DEFAULT ''' AS BLOB) || x'e4' || CAST(''')' AS BLOB) AS TEXT)",
    );
    let (_dir, snapshot, restored, path) = made.round_trip();
    assert_eq!((names(&snapshot), refused(&restored)), (vec![], vec![]));
    assert_same_database(&path, &restored.path);
    let copy = Connection::open(&restored.path).expect("open the copy");
    let default: Vec<u8> = copy
        .query_row("INSERT INTO t DEFAULT VALUES RETURNING CAST(a AS BLOB)", [], |row| row.get(0))
        .expect("a default");
    assert_eq!(default, [0xe4]);
}

fn table(name: &str, columns: &[&str]) -> TargetTable {
    let columns = columns.iter().map(|name| TargetColumn { name: (*name).into(), hidden: *name == "rowid" });
    TargetTable { name: name.to_owned(), columns: columns.collect(), key: Vec::new() }
}

#[test]
fn refused_rows_are_reported_and_the_rest_is_kept() {
    let made = make(
        "CREATE TABLE t(a UNIQUE ON CONFLICT REPLACE, b NOT NULL); CREATE TABLE u(a); CREATE UNIQUE INDEX ui ON u(a); CREATE TABLE s(i INT) STRICT",
    );
    made.conn.close().expect("close");
    let schema = snapshot(&made.path).description.schema;
    let copy = made.dir.path().join("copy.db");
    let mut target = SqliteTarget::create(&copy, &real_env()).expect("create");
    let tables = [
        table("t", &["a", "b", "rowid"]),
        table("u", &["a"]),
        table("s", &["i"]),
        table("nowhere", &["a"]),
        table("t", &["a", "zz"]),
    ];
    target.begin(&all_of(&schema, &tables)).expect("begin");
    target.table(0).expect("t");
    let one = Cell::Integer(1);
    for row in [
        [one, one, one],
        [one, one, Cell::Integer(2)],
        [Cell::Integer(3), Cell::Null, Cell::Integer(3)],
        [Cell::Integer(4), one, Cell::Text("x")],
    ] {
        target.row(&row).expect("go on");
    }
    target.row(&[one]).expect("go on");
    target.table(1).expect("u");
    target.row(&[one]).expect("go on");
    target.row(&[one]).expect("go on");
    target.table(2).expect("s");
    for _ in 0..30 {
        target.row(&[Cell::Text("no number")]).expect("go on");
    }
    target.row(&[Cell::Bool(true)]).expect("go on");
    target.row(&[one]).expect("go on");
    target.table(3).expect("nowhere");
    target.row(&[one]).expect("go on");
    target.table(4).expect("t again");
    target.row(&[one, one]).expect("go on");
    let refused = target.finish().expect("finish");
    let of = |name: &str| refused.iter().filter(|refused| refused.object == name).count();
    assert_eq!((of("t"), of("ui"), of("s"), of("nowhere")), (5, 1, 21, 1), "{refused:?}");
    let more = refused.iter().find(|refused| refused.detail.contains("11 more rows"));
    assert!(more.is_some_and(|more| more.kind == FindingKind::RefusedRows { rows: 11 }), "{refused:?}");
    let conn = Connection::open(&copy).expect("open");
    let counts: (i64, i64, i64) = conn
        .query_row("SELECT (SELECT count(*) FROM t), (SELECT count(*) FROM u), (SELECT count(*) FROM s)", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .expect("rows");
    assert_eq!(counts, (1, 2, 1));
    let sound: String = conn.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("a check");
    assert_eq!(sound, "ok");
}

#[test]
fn a_target_overwrites_nothing_and_appears_when_complete() {
    let made = make("CREATE TABLE t(a)");
    made.conn.close().expect("close");
    let snapshot = snapshot(&made.path);
    let refusal = |path: &std::path::Path| SqliteTarget::create(path, &real_env()).err();
    assert!(matches!(refusal(&made.path), Some(EngineError::NotEmpty { .. })));
    assert!(matches!(refusal(made.dir.path()), Some(EngineError::NotAFile { .. })));
    assert!(matches!(refusal(&made.dir.path().join("no such/x.db")), Some(EngineError::Unreachable { .. })));

    let empty = made.dir.path().join("empty.db");
    std::fs::write(&empty, "").expect("an empty file");
    std::fs::write(made.dir.path().join("empty.db-journal"), "").expect("another database's journal");
    assert!(matches!(refusal(&empty), Some(EngineError::NotEmpty { .. })));
    std::fs::remove_file(made.dir.path().join("empty.db-journal")).expect("remove");

    let mut target = SqliteTarget::create(&empty, &real_env()).expect("create");
    target.begin(&all_of(&snapshot.description.schema, &[])).expect("begin");
    let entries = || std::fs::read_dir(made.dir.path()).expect("the directory").count();
    assert_eq!((entries(), empty.metadata().expect("the file").len()), (3, 0));
    drop(target);
    assert_eq!(entries(), 2, "an unfinished file is removed");

    let mut target = SqliteTarget::create(&empty, &real_env()).expect("create");
    target.begin(&all_of(&snapshot.description.schema, &[])).expect("begin");
    target.finish().expect("finish");
    drop(target);
    assert_eq!(entries(), 2);
    assert_same_database(&made.path, &empty);

    let taken = made.dir.path().join("taken.db");
    let mut target = SqliteTarget::create(&taken, &real_env()).expect("create");
    target.begin(&all_of(&snapshot.description.schema, &[])).expect("begin");
    std::fs::write(&taken, "someone else's").expect("write");
    let lost_race = target.finish().expect_err("another file was created first").to_string();
    drop(target);
    let kept = lost_race.split("the complete database is ").nth(1).expect("its place");
    assert_same_database(&made.path, std::path::Path::new(kept));
    assert_eq!(std::fs::read(&taken).expect("the file"), b"someone else's");
}

#[test]
fn values_that_the_declared_type_changes_are_reported() {
    let made = make(
        "CREATE TABLE t(a, b); INSERT INTO t VALUES('5', 'five'), (5, 'x'), (1.5, NULL), (2.0, NULL);
         PRAGMA writable_schema=ON; UPDATE sqlite_schema SET sql = 'CREATE TABLE t(a INTEGER, b)' WHERE name = 't'",
    );
    let (_dir, snapshot, restored, _path) = made.round_trip();
    assert_eq!(names(&snapshot), [""; 0]);
    let rows: Vec<&str> =
        restored.refused.iter().map(|refused| refused.detail.split(" was inserted").next().unwrap()).collect();
    assert_eq!(rows, ["the row with rowid 1", "the row with rowid 4"], "{:?}", restored.refused);
    assert!(
        restored.refused.iter().all(|row| row.kind == FindingKind::AlteredRows { rows: 1 }),
        "{:?}",
        restored.refused
    );
}

#[test]
fn a_computed_column_that_fails_loses_no_row() {
    let made = make(
        "CREATE TABLE t(a, early AS (a + 1), b); INSERT INTO t VALUES(1, 2), ('not json', 3);
         ALTER TABLE t ADD COLUMN today AS (date('now')); ALTER TABLE t ADD COLUMN word AS (today || a); ALTER TABLE t ADD COLUMN x AS (json_extract(a, '$.x'));
         CREATE TABLE stays(a, b AS (abs(a)), c AS (b + 1) STORED, d AS (b) UNIQUE, CHECK(b > 0)); INSERT INTO stays(a) VALUES(-3);
         CREATE INDEX early ON t(early, b);
         CREATE TABLE chance(a, b AS (a + 1)); INSERT INTO chance(a) VALUES(1);",
    );
    made.conn.execute_batch("SELECT today FROM t").expect_err("it changes every day");
    made.conn
        .execute_batch("PRAGMA writable_schema=ON; UPDATE sqlite_schema SET sql = 'CREATE TABLE chance(a, b AS (random()))' WHERE name = 'chance'")
        .expect("damage");
    let (_dir, snapshot, restored, _path) = made.round_trip();
    // An object that SQLite itself refuses is reported twice. The table next to it is complete.
    assert!(names(&snapshot).iter().all(|name| ["chance", "sqlite_schema"].contains(name)), "{:?}", snapshot.gaps);
    assert!(refused(&restored).iter().all(|name| *name == "chance"), "{:?}", restored.refused);
    assert_eq!(snapshot.table("t").0.len(), 2);
    let copy = Connection::open(&restored.path).expect("open the copy");
    let rows: (i64, i64, i64) = copy
        .query_row("SELECT sum(b), (SELECT sum(a + b + c + d) FROM stays), (SELECT count(*) FROM t INDEXED BY early WHERE early = 2) FROM t", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .expect("rows");
    assert_eq!(rows, (5, 7, 1));
    copy.execute_batch("SELECT count(x) FROM t").expect_err("as it was in the source");
    let check: String = copy.query_row("PRAGMA quick_check", [], |row| row.get(0)).unwrap_or_default();
    assert!(check == "ok" || check.is_empty(), "{check}");
}

#[test]
fn an_index_expression_with_an_unknown_collation_is_reported() {
    let made = make(
        "CREATE TABLE t(a TEXT, b); INSERT INTO t VALUES('b', 1), ('A', 2);
         CREATE INDEX computed ON t((a || b) COLLATE shouting); CREATE UNIQUE INDEX part ON t(b) WHERE a COLLATE shouting > 'a'; CREATE INDEX fine ON t(b)",
    );
    let (_dir, snapshot, restored, _path) = made.round_trip();
    assert_eq!(names(&snapshot), ["computed", "part"], "{:?}", snapshot.gaps);
    assert_eq!(refused(&restored), ["computed", "part"], "{:?}", restored.refused);
    assert_eq!(snapshot.table("t").0.len(), 2);
}

#[test]
fn damaged_schemas_lose_only_what_they_hide() {
    let tables = "CREATE TABLE a(x UNIQUE, y); INSERT INTO a VALUES(1, 2); CREATE TABLE b(x, y); INSERT INTO b VALUES(3, 4);
        CREATE TABLE n(i INTEGER PRIMARY KEY AUTOINCREMENT); INSERT INTO n VALUES(9); CREATE INDEX i ON b(x); PRAGMA writable_schema=ON;";
    let cases: [(&str, &[&str]); 9] = [
        ("UPDATE sqlite_schema SET rootpage = 0 WHERE name = 'b'", &["b"]),
        ("UPDATE sqlite_schema SET rootpage = 99999 WHERE name = 'b'", &["b"]),
        (
            "UPDATE sqlite_schema SET rootpage = (SELECT rootpage FROM sqlite_schema WHERE name = 'i') WHERE name = 'b'",
            &["b"],
        ),
        ("UPDATE sqlite_schema SET name = 'A', tbl_name = 'A', sql = 'CREATE TABLE A(x, y)' WHERE name = 'b'", &["A"]),
        ("UPDATE sqlite_schema SET sql = NULL WHERE name = 'b'", &["b"]),
        ("UPDATE sqlite_schema SET sql = 'DROP TABLE a' WHERE name = 'b'", &["b"]),
        (
            "INSERT INTO sqlite_schema VALUES('bogus', 'odd', 'odd', 0, 'nonsense'), (NULL, NULL, NULL, NULL, NULL)",
            &["odd"],
        ),
        // These lose no rows.
        ("DELETE FROM sqlite_schema WHERE name = 'sqlite_autoindex_a_1'", &[]),
        ("DELETE FROM sqlite_schema WHERE name = 'sqlite_sequence'", &[]),
    ];
    for (damage, named) in cases {
        let made = make(&format!("{tables}{damage}"));
        let (dir, snapshot, restored, path) = made.round_trip();
        let of_tables: Vec<&str> =
            names(&snapshot).into_iter().filter(|name| !["sqlite_schema", "i"].contains(name)).collect();
        assert!(of_tables.iter().all(|name| named.contains(name)), "{damage}: {:?}", snapshot.gaps);
        assert_eq!(of_tables.is_empty(), named.is_empty(), "{damage}: {:?}", snapshot.gaps);
        let sound = |path: &std::path::Path| {
            let copy = Connection::open(path).expect("open the copy");
            let read: (i64, i64) = copy
                .query_row("SELECT (SELECT sum(x + y) FROM a), (SELECT i FROM n)", [], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })
                .expect("rows of the intact tables");
            assert_eq!(read, (3, 9), "{damage}");
            let check: String = copy.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("a check");
            assert_eq!(check, "ok", "{damage}");
        };
        sound(&restored.path);
        let stored = dir.path().join("stored.db");
        let (backup, _) = through_a_repository(&path, &stored);
        assert_eq!(backup.gaps().len(), snapshot.gaps.len(), "{damage}");
        sound(&stored);
    }
}

/// Enough tables that they are not all visible to SQLite while the schema is built.
fn many_tables() -> String {
    let tables = (0..520).map(|n| format!("CREATE TABLE t{n}(a, b); INSERT INTO t{n} VALUES({n}, {n});"));
    format!("PRAGMA synchronous=OFF; BEGIN; {} COMMIT;", tables.collect::<String>())
}

#[test]
fn a_large_schema_whose_definitions_name_other_objects_loses_only_those() {
    let cases = [
        "CREATE TABLE late(a, b); PRAGMA writable_schema=ON;
         UPDATE sqlite_schema SET sql = 'CREATE TABLE t0(a, b)' WHERE name = 'late'",
        "CREATE INDEX late ON t519(a); PRAGMA writable_schema=ON;
         UPDATE sqlite_schema SET sql = 'CREATE TABLE t0(a, b)' WHERE name = 'late'",
    ];
    for damage in cases {
        let made = make(&(many_tables() + damage));
        let (_dir, snapshot, restored, _path) = made.round_trip();
        assert!(names(&snapshot).contains(&"late"), "{damage}: {:?}", snapshot.gaps);
        assert!(refused(&restored).iter().all(|name| *name == "late"), "{damage}: {:?}", restored.refused);
        let copy = Connection::open(&restored.path).expect("open the copy");
        let check: String = copy.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("a check");
        assert_eq!(check, "ok", "{damage}");
        for n in [0, 1, 519] {
            let sum: i64 = copy.query_row(&format!("SELECT sum(a + b) FROM t{n}"), [], |row| row.get(0)).expect("rows");
            assert_eq!(sum, 2 * n, "{damage}");
        }
    }
}

#[test]
fn a_failure_after_the_file_has_its_name_says_where_it_is() {
    let made = make("CREATE TABLE t(a)");
    made.conn.close().expect("close");
    let snapshot = snapshot(&made.path);
    let dir = made.dir.path().join("unreadable");
    std::fs::create_dir(&dir).expect("a directory");
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o300)).expect("permissions");
    if std::fs::read_dir(&dir).is_ok() {
        eprintln!("skipped: this user may read every directory");
        return;
    }
    let copy = dir.join("copy.db");
    let mut target = SqliteTarget::create(&copy, &real_env()).expect("create");
    target.begin(&all_of(&snapshot.description.schema, &[])).expect("begin");
    let failed = target.finish().expect_err("the directory cannot be opened").to_string();
    assert!(failed.ends_with(&format!("the complete database is {}", copy.display())), "{failed}");
    assert_same_database(&made.path, &copy);
}
