//! Round trips that must be exact: no gap, nothing refused, the same database.

use crate::support::world::findings::FindingsByKind;
use std::path::PathBuf;

use rusqlite::Connection;
use tempfile::TempDir;

use crate::bridge::{restore, snapshot, through_a_repository};
use crate::support::sqlite::assert_same_database;

/// A database in its own directory.
struct Made {
    dir: TempDir,
    path: PathBuf,
    conn: Connection,
}

fn make(sql: &str) -> Made {
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("source.db");
    let conn = Connection::open(&path).expect("a database");
    conn.execute_batch(sql).expect("the test's own statements");
    Made { dir, path, conn }
}

impl Made {
    fn assert_round_trips(self) {
        self.conn.close().expect("close");
        let copy = self.dir.path().join("copy.db");
        let snapshot = snapshot(&self.path);
        assert_eq!(snapshot.gaps, []);
        let restored = restore(&snapshot, &copy);
        assert_eq!(restored.refused, []);
        assert_same_database(&self.path, &copy);
        assert_eq!(std::fs::read_dir(self.dir.path()).expect("the directory").count(), 2, "no other files are left");
        let again = crate::bridge::snapshot(&copy);
        assert_eq!(again.description.schema, snapshot.description.schema);
        let stored = self.dir.path().join("stored.db");
        let (backup, restored) = through_a_repository(&self.path, &stored);
        assert!(
            backup.gaps().is_empty() && restored.refused().is_empty() && restored.damaged().is_empty(),
            "{restored:?}"
        );
        assert_same_database(&self.path, &stored);
    }
}

const VALUES: &str = "
    INSERT INTO t VALUES(0, NULL), (1, 0), (2, -1), (3, 9223372036854775807), (4, -9223372036854775808),
      (5, 127), (6, 128), (7, 32768), (8, 2147483648), (9, 0.0), (10, -0.0), (11, 1e308), (12, 5e-324), (13, 9e999),
      (14, -9e999), (15, 0.1), (16, 9007199254740993.0), (17, 5.0), (18, ''), (19, x''), (20, 'a' || char(0) || 'b'),
      (21, x'00ff'), (22, CAST(x'ff' AS TEXT)), (23, CAST(x'61c3' AS TEXT)), (24, CAST(x'00d800dc' AS TEXT)),
      (25, CAST(x'0041d800' AS TEXT)), (26, char(0x1f600)), (27, char(0xfffe)), (28, char(0xffff)), (29, char(0xfeff) || 'x'),
      (30, '123'), (31, '1e5'), (32, ' 1'), (33, '9223372036854775808'), (34, zeroblob(100000)), (35, char(0xfffd)),
      (36, 9e999 - 9e999), (37, CAST(x'0000' AS TEXT)), (38, CAST(x'3100ff00' AS TEXT));";

#[test]
fn values_of_every_class_affinity_and_encoding_are_exact() {
    for encoding in ["UTF-8", "UTF-16le", "UTF-16be"] {
        for affinity in ["", "INTEGER", "REAL", "TEXT", "BLOB", "NUMERIC", "FLOAT NOT NULL DEFAULT 3 COLLATE NOCASE"] {
            let values = VALUES.replace("(0, NULL), ", "").replace("(36, 9e999 - 9e999), ", "");
            make(&format!(
                "PRAGMA encoding='{encoding}'; CREATE TABLE t(id INTEGER PRIMARY KEY, v {affinity}); {values}"
            ))
            .assert_round_trips();
        }
        make(&format!("PRAGMA encoding='{encoding}'; CREATE TABLE t(id INTEGER PRIMARY KEY, v); {VALUES}"))
            .assert_round_trips();
    }
}

#[test]
fn rowids_are_kept() {
    make("CREATE TABLE t(a); INSERT INTO t(rowid, a) VALUES(-9223372036854775808, 1), (5, 2), (9223372036854775807, 3);
          CREATE TABLE text_key(k TEXT PRIMARY KEY, v); INSERT INTO text_key(rowid, k) VALUES(7, 'b'), (9, 'a');
          CREATE TABLE named(rowid TEXT, a); INSERT INTO named(_rowid_, rowid) VALUES(17, 'not the number');
          CREATE TABLE twice(\"RowID\", _ROWID_); INSERT INTO twice(oid, rowid) VALUES(18, 1);
          CREATE TABLE descending(id INTEGER PRIMARY KEY DESC, a); INSERT INTO descending(rowid, id) VALUES(3, 10), (4, 9);
          CREATE TABLE not_alias(id INT PRIMARY KEY); INSERT INTO not_alias(rowid, id) VALUES(30, 1);
          CREATE TABLE alias(a, oid INTEGER, PRIMARY KEY(oid)); INSERT INTO alias VALUES(1, 100), (2, -100);
          CREATE TABLE empty(a)")
    .assert_round_trips();
}

#[test]
fn tables_of_every_kind_are_exact() {
    make("CREATE TABLE w(a TEXT, b INTEGER, c, PRIMARY KEY(b DESC, a)) WITHOUT ROWID;
          INSERT INTO w VALUES('x', 1, NULL), ('y', 1, x'00'), ('x', 2, 3.5);
          CREATE TABLE s(i INTEGER PRIMARY KEY, t TEXT, r REAL, b BLOB, n INT, y ANY) STRICT;
          INSERT INTO s VALUES(1, '5', 5, x'35', 5, '5'), (2, NULL, NULL, NULL, NULL, 5), (3, '', 1e300, x'', -1, 5.0);
          CREATE TABLE ws(k ANY PRIMARY KEY) WITHOUT ROWID, STRICT; INSERT INTO ws VALUES(1), ('1'), (x'31'), (1.5);
          CREATE TABLE nulls(a, b, PRIMARY KEY(a, b)); INSERT INTO nulls VALUES(NULL, NULL), (NULL, NULL), (1, NULL), (1, NULL);
          CREATE TABLE conflicts(a UNIQUE ON CONFLICT REPLACE, b NOT NULL ON CONFLICT IGNORE, c DEFAULT 5);
          INSERT INTO conflicts VALUES(1, 2, NULL), (NULL, 3, 3);
          CREATE TABLE derived AS SELECT 1 AS one, 'x' AS \"two \"\"2\"\"\", NULL AS three;
          CREATE TABLE late(a); INSERT INTO late VALUES(1); ALTER TABLE late ADD COLUMN b TEXT DEFAULT 'was not';
          ALTER TABLE late ADD COLUMN c REAL DEFAULT -5; INSERT INTO late VALUES(2, NULL, 3); ALTER TABLE late RENAME COLUMN a TO z;
          CREATE TABLE dropped(a, b, c); INSERT INTO dropped VALUES(1, 2, 3); ALTER TABLE dropped DROP COLUMN b")
    .assert_round_trips();
}

#[test]
fn generated_columns_are_computed_again() {
    make("CREATE TABLE g(a INTEGER PRIMARY KEY, b, v AS (b * 2), s TEXT GENERATED ALWAYS AS (b || '!') STORED, c, u AS (c) UNIQUE);
          INSERT INTO g(b, c) VALUES(1, 2), ('x', NULL), (NULL, 1.5);
          CREATE TABLE h(x AS (y || 'z') STORED, y, PRIMARY KEY(y)) WITHOUT ROWID; INSERT INTO h(y) VALUES('a'), ('b');
          CREATE TABLE chain(a, b AS (abs(a)), c AS (b + 1) STORED, d AS (b) UNIQUE, e AS (d || c), f AS (e), CHECK(b > 0)); INSERT INTO chain(a) VALUES(-3), (5);
          CREATE TABLE strict(a INT, b INT AS (a + 1) NOT NULL, c TEXT AS (a) VIRTUAL) STRICT; INSERT INTO strict VALUES(1), (2);
          CREATE INDEX gi ON g(v, s); CREATE INDEX ge ON g(v + 1) WHERE s NOT NULL")
    .assert_round_trips();
}

#[test]
fn full_text_tables_of_every_kind_are_exact() {
    let made = make("CREATE VIRTUAL TABLE plain USING fts5(a, b, tokenize = 'porter unicode61', prefix = '2 3');
          INSERT INTO plain VALUES('running far', 'x'), ('a runner''s run', 'y'); DELETE FROM plain WHERE rowid = 1;
          INSERT INTO plain(rowid, a) VALUES(1000, 'Äpfel run');
          CREATE TABLE doc(id INTEGER PRIMARY KEY, body TEXT); INSERT INTO doc VALUES(10, 'stored outside'), (20, 'also outside');
          CREATE VIRTUAL TABLE outside USING fts5(body, content = 'doc', content_rowid = 'id');
          INSERT INTO outside(outside) VALUES('rebuild');
          CREATE TABLE heap(body TEXT); INSERT INTO heap(rowid, body) VALUES(5, 'by row number'), (99, 'row number far away');
          CREATE VIRTUAL TABLE by_rowid USING fts5(body, content = 'heap'); INSERT INTO by_rowid(by_rowid) VALUES('rebuild');
          CREATE VIRTUAL TABLE contentless USING fts5(a, content = ''); INSERT INTO contentless(rowid, a) VALUES(7, 'nowhere stored');
          CREATE VIRTUAL TABLE deletable USING fts5(a, content = '', contentless_delete = 1); INSERT INTO deletable(rowid, a) VALUES(8, 'gone words');
          CREATE VIRTUAL TABLE old USING fts4(a, b); INSERT INTO old VALUES('old words', 'here'); INSERT INTO old(old) VALUES('optimize');
          CREATE VIRTUAL TABLE older USING fts3(a); INSERT INTO older VALUES('older words');
          CREATE TRIGGER doc_in AFTER INSERT ON doc BEGIN INSERT INTO outside(rowid, body) VALUES(new.id, new.body); END");
    let copy = made.dir.path().join("copy.db");
    let (dir, path) = (made.dir, made.path);
    let stored = dir.path().join("stored.db");
    let answers = |conn: &Connection| -> Vec<(String, i64)> {
        let sql = "SELECT 'plain', rowid FROM plain('run') UNION ALL SELECT 'outside ' || body, rowid FROM outside('outside')
            UNION ALL SELECT body, rowid FROM by_rowid('number') UNION ALL SELECT 'contentless', rowid FROM contentless('stored')
            UNION ALL SELECT 'deletable', rowid FROM deletable('gone') UNION ALL SELECT 'old', rowid FROM old WHERE old MATCH 'words'
            UNION ALL SELECT 'older', rowid FROM older WHERE older MATCH 'words' ORDER BY 1, 2";
        let mut statement = conn.prepare(sql).expect("a search");
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("a search");
        rows.collect::<Result<_, _>>().expect("a search")
    };
    let before = answers(&made.conn);
    assert_eq!(before.len(), 10, "{before:?}");
    made.conn.close().expect("close");
    let snapshot = snapshot(&path);
    assert_eq!(snapshot.gaps, []);
    let restored = restore(&snapshot, &copy);
    assert_eq!(restored.refused, []);
    assert_eq!(restored.notes, Vec::<String>::new());
    assert_same_database(&path, &copy);
    let conn = Connection::open(&copy).expect("open the copy");
    assert_eq!(answers(&conn), before);
    for table in ["plain", "outside", "by_rowid", "contentless", "deletable"] {
        conn.execute_batch(&format!("INSERT INTO {table}({table}) VALUES('integrity-check')"))
            .expect("an intact index");
    }
    conn.execute_batch("INSERT INTO plain VALUES('written later', ''); INSERT INTO doc VALUES(30, 'outside again')")
        .expect("the copy can be written");
    let (backup, _) = through_a_repository(&path, &stored);
    assert_eq!(backup.gaps(), []);
    assert_same_database(&path, &stored);
    assert_eq!(answers(&Connection::open(&stored).expect("open")), before);
}

#[test]
fn r_trees_are_exact() {
    make(
        "CREATE VIRTUAL TABLE r USING rtree(id, x0, x1, y0, y1, +note);
          WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)
          INSERT INTO r SELECT i * 3, i, i + 1.5, -i, i, 'note ' || i FROM n; DELETE FROM r WHERE id % 5 = 0;
          CREATE VIRTUAL TABLE ri USING rtree_i32(id, a, b); INSERT INTO ri VALUES(1, -5, 5)",
    )
    .assert_round_trips();
}

#[test]
fn triggers_views_and_their_order_are_exact() {
    let made = make(
        "CREATE TABLE t(a INTEGER PRIMARY KEY AUTOINCREMENT, b); CREATE TABLE log(line);
          CREATE TRIGGER zz AFTER INSERT ON t BEGIN INSERT INTO log VALUES('zz'); END;
          CREATE VIEW v AS SELECT b AS bb FROM t; CREATE VIEW broken AS SELECT * FROM nowhere;
          CREATE TRIGGER aa AFTER INSERT ON t BEGIN INSERT INTO log VALUES('aa'); INSERT INTO missing VALUES(1); END;
          CREATE TRIGGER mm INSTEAD OF INSERT ON v BEGIN INSERT INTO t(b) VALUES(new.bb); END;
          CREATE INDEX tb ON t(b); CREATE TABLE later(x UNIQUE);
          DROP TRIGGER aa; INSERT INTO t(b) VALUES(1); DELETE FROM t;
          CREATE TRIGGER aa AFTER INSERT ON t BEGIN INSERT INTO log VALUES('aa'); END; INSERT INTO v VALUES(5)",
    );
    made.assert_round_trips();
}

#[test]
fn counters_and_statistics_are_exact() {
    make("CREATE TABLE a(i INTEGER PRIMARY KEY AUTOINCREMENT, x); INSERT INTO a(x) VALUES(1), (2), (3); DELETE FROM a WHERE i > 1;
          CREATE TABLE b(i INTEGER PRIMARY KEY AUTOINCREMENT); INSERT INTO b VALUES(1000); UPDATE sqlite_sequence SET seq = 5 WHERE name = 'b';
          CREATE TABLE c(i INTEGER PRIMARY KEY AUTOINCREMENT); INSERT INTO c VALUES(3); DELETE FROM sqlite_sequence WHERE name = 'c';
          INSERT INTO sqlite_sequence VALUES('no such table', 'odd'), ('a', 77);
          CREATE INDEX ax ON a(x); ANALYZE").assert_round_trips();
    make("CREATE TABLE gone(i INTEGER PRIMARY KEY AUTOINCREMENT); INSERT INTO gone VALUES(3); DROP TABLE gone; CREATE TABLE t(a)")
        .assert_round_trips();
}

#[test]
fn settings_are_exact() {
    make("PRAGMA page_size=512; PRAGMA auto_vacuum=INCREMENTAL; PRAGMA user_version=-7; PRAGMA application_id=2147483647; CREATE TABLE t(a)").assert_round_trips();
    make("PRAGMA page_size=65536; PRAGMA auto_vacuum=FULL; PRAGMA encoding='UTF-16be'; CREATE TABLE \"ä\"(\"ö\" DEFAULT 'ü'); INSERT INTO \"ä\" DEFAULT VALUES").assert_round_trips();
    make("PRAGMA journal_mode=WAL; PRAGMA user_version=3; CREATE TABLE t(a); INSERT INTO t VALUES(1)")
        .assert_round_trips();
}

#[test]
fn empty_databases_are_exact() {
    make("").assert_round_trips();
    make("PRAGMA user_version=1").assert_round_trips();
    make("PRAGMA encoding='UTF-16le'; CREATE TABLE t(a); DROP TABLE t").assert_round_trips();
}

#[test]
fn odd_names_are_exact() {
    let names =
        ["a\"b", "'", "", " ", "select", "ünïcode \u{1F600}", "a.b", "a;--", "[x]", "`", "%", "rowid", "a\nb", "main"];
    for encoding in ["UTF-8", "UTF-16le"] {
        let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        let mut sql = format!("PRAGMA encoding='{encoding}';");
        for (at, name) in names.iter().enumerate() {
            let columns: Vec<String> = names.iter().map(|name| quoted(name)).collect();
            let table = quoted(&format!("{name}{}", if at % 2 == 0 { "" } else { " t" }));
            sql.push_str(&format!(
                "CREATE TABLE {table}({}, UNIQUE({})); INSERT INTO {table}({}) VALUES('{at}');
                 CREATE INDEX {} ON {table}({}); CREATE VIEW {} AS SELECT * FROM {table};",
                columns.join(", "),
                quoted(name),
                quoted(name),
                quoted(&format!("{name} i")),
                quoted(name),
                quoted(&format!("{name} v")),
            ));
        }
        make(&sql).assert_round_trips();
    }
}

#[test]
fn names_with_a_meaning_elsewhere_are_exact() {
    make("CREATE TABLE \"--to\"(\"--help\", \"-v\", \"--\" PRIMARY KEY) WITHOUT ROWID; INSERT INTO \"--to\" VALUES(1, 2, 3);
          CREATE TABLE sqlitesequence(name, seq); INSERT INTO sqlitesequence VALUES('a', 1);
          CREATE TABLE sidekeep_sequence(name INTEGER PRIMARY KEY AUTOINCREMENT, seq); INSERT INTO sidekeep_sequence VALUES(7, 1);
          CREATE TABLE sqlit_e_schema(rootpage INTEGER PRIMARY KEY, \"sqlite_schema\"); INSERT INTO sqlit_e_schema VALUES(3, 'x');
          CREATE TABLE first(a); CREATE TABLE \"temp.t\"(main, temp); INSERT INTO \"temp.t\" VALUES(1, NULL);
          CREATE TABLE hides(rowid, _rowid_ INTEGER PRIMARY KEY, oid); INSERT INTO hides VALUES('a', 5, 'b');
          CREATE TABLE \"CREATE TABLE\"(\"AUTOINCREMENT\" TEXT DEFAULT 'AUTOINCREMENT', \"COLLATE\" DEFAULT ')'); INSERT INTO \"CREATE TABLE\" DEFAULT VALUES")
    .assert_round_trips();
}

#[test]
fn descending_keys_with_values_of_any_kind_are_exact() {
    make("CREATE TABLE down(a ANY, b ANY, c ANY, PRIMARY KEY(b DESC, a DESC)) STRICT, WITHOUT ROWID;
          INSERT INTO down VALUES(1, '5', x'35'), ('1', '5', 5), (x'31', 5, '5'), (1.5, x'35', 5.5), ('', x'', NULL);
          CREATE TABLE folded(a TEXT COLLATE NOCASE, b TEXT COLLATE RTRIM, c, PRIMARY KEY(b DESC, a)) WITHOUT ROWID;
          INSERT INTO folded VALUES('Ä', 'x ', 1), ('ä', 'x', 2), ('A', 'y', 3), ('b', 'y', 4);
          CREATE TABLE nulls(a TEXT PRIMARY KEY, b INTEGER, UNIQUE(b)); INSERT INTO nulls VALUES(NULL, NULL), (NULL, NULL), (NULL, 1), ('', 2)")
    .assert_round_trips();
}

#[test]
fn views_and_triggers_on_missing_objects_are_exact() {
    make("CREATE TABLE t(a); INSERT INTO t VALUES(1); CREATE VIEW v AS SELECT * FROM nowhere; CREATE VIEW w AS SELECT * FROM v JOIN t;
          CREATE TRIGGER x AFTER INSERT ON t BEGIN INSERT INTO nowhere SELECT * FROM w; END; CREATE VIEW u AS SELECT no_function(a) FROM t")
    .assert_round_trips();
}

#[test]
fn two_thousand_columns_are_exact() {
    for encoding in ["UTF-8", "UTF-16be"] {
        let columns: Vec<String> = (0..2000).map(|at| format!("c{at}")).collect();
        let values: Vec<String> =
            (0..2000).map(|at| if at % 3 == 0 { format!("'text {at}'") } else { at.to_string() }).collect();
        make(&format!(
            "PRAGMA encoding='{encoding}'; CREATE TABLE wide({}); INSERT INTO wide(rowid, c0) VALUES(5, 1); INSERT INTO wide VALUES({});",
            columns.join(", "), values.join(", ")
        ))
        .assert_round_trips();
    }
}

#[test]
fn values_of_fifty_megabytes_are_exact() {
    make("CREATE TABLE big(id INTEGER PRIMARY KEY, v); INSERT INTO big VALUES(1, randomblob(50000000)), (2, hex(zeroblob(25000000)))").assert_round_trips();
}

#[test]
fn rows_that_violate_constraints_are_kept() {
    let made = make("PRAGMA foreign_keys=OFF; PRAGMA ignore_check_constraints=ON;
          CREATE TABLE parent(id INTEGER PRIMARY KEY); CREATE TABLE child(p REFERENCES parent, n INTEGER CHECK(n > 0), s TEXT CHECK(length(s) > 100));
          INSERT INTO child VALUES(99, -5, 'short'), (NULL, 1, NULL)");
    let (path, copy) = (made.path.clone(), made.dir.path().join("again.db"));
    let restored = restore(&snapshot(&path), &copy);
    assert_eq!(restored.refused, []);
    assert!(restored.notes.iter().any(|note| note.starts_with("1 rows refer")), "{:?}", restored.notes);
    std::fs::remove_file(&copy).expect("remove");
    made.assert_round_trips();
}

#[test]
fn indexes_of_every_kind_are_exact() {
    make("CREATE TABLE t(a TEXT COLLATE NOCASE, b TEXT COLLATE RTRIM, c, d, PRIMARY KEY(a, b), UNIQUE(c, d));
          INSERT INTO t VALUES('A', 'x ', 1, 2), ('b', 'y', 2, 1), ('C', 'z', NULL, NULL), ('d', 'z', NULL, NULL);
          CREATE INDEX i1 ON t(a DESC, b COLLATE BINARY); CREATE UNIQUE INDEX i2 ON t(c) WHERE d > 0;
          CREATE INDEX i3 ON t(lower(a), c + d); CREATE INDEX i4 ON t(\"not a column\"); CREATE INDEX covering ON t(a, b, c, d)").assert_round_trips();
}
