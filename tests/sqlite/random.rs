//! Random schemas and rows are restored exactly. Rows that SQLite itself refuses are never inserted.

use proptest::prelude::*;
use rusqlite::Connection;
use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use sidekeep::base::finding::{Finding, FindingKind};
use tempfile::TempDir;

use crate::bridge::{restore, snapshot};
use crate::support::property::with_cases;
use crate::support::sqlite::assert_same_database;

#[derive(Clone, Debug)]
enum Datum {
    Plain(Value),
    /// Text of any bytes.
    Text(Vec<u8>),
}

#[derive(Clone, Debug)]
struct AnyTable {
    /// Type, constraint and collation of each column.
    columns: Vec<String>,
    tail: &'static str,
    key: Key,
    rows: Vec<Vec<Datum>>,
    rowids: Vec<i64>,
    extra: Vec<String>,
}

#[derive(Clone, Copy, Debug)]
enum Key {
    None,
    First,
    FirstTwo,
    Alias,
}

fn datum() -> impl Strategy<Value = Datum> {
    prop_oneof![
        Just(Datum::Plain(Value::Null)),
        any::<i64>().prop_map(|value| Datum::Plain(value.into())),
        (-3_i64..300).prop_map(|value| Datum::Plain(value.into())),
        any::<u64>().prop_map(|bits| Datum::Plain(f64::from_bits(bits).into())),
        (-50_i32..50).prop_map(|value| Datum::Plain((f64::from(value) / 4.0).into())),
        ".{0,20}".prop_map(|text| Datum::Plain(text.into())),
        "[ 0-9.eE+-]{0,8}".prop_map(|text| Datum::Plain(text.into())),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| Datum::Plain(bytes.into())),
        prop::collection::vec(any::<u8>(), 0..12).prop_map(Datum::Text),
        // Long enough that SQLite hides the beginning in UTF-16.
        (any::<u16>(), any::<u16>(), 1990_u16..2100).prop_map(|(begin, seed, len)| {
            let begin = [[0xfe, 0xff], [0xff, 0xfe], begin.to_le_bytes()][usize::from(begin % 3)];
            let rest = (1..len).flat_map(|n| n.wrapping_mul(seed).to_be_bytes());
            Datum::Text(begin.into_iter().chain(rest).collect())
        }),
    ]
}

fn column() -> impl Strategy<Value = String> {
    const TYPES: &[&str] = &["", "INTEGER", "TEXT", "REAL", "BLOB", "NUMERIC", "VARCHAR(10)", "DATETIME", "INT"];
    const RULES: &[&str] = &[
        "",
        "NOT NULL",
        "UNIQUE",
        "DEFAULT 7",
        "DEFAULT 'seven'",
        "COLLATE NOCASE",
        "COLLATE RTRIM UNIQUE",
        "CHECK(1)",
    ];
    (prop::sample::select(TYPES), prop::sample::select(RULES)).prop_map(|(kind, rule)| format!("{kind} {rule}"))
}

fn table() -> impl Strategy<Value = AnyTable> {
    (1_usize..7).prop_flat_map(|width| {
        let key = prop::sample::select(&[Key::None, Key::First, Key::FirstTwo, Key::Alias][..]);
        let extra = prop::collection::vec(
            prop::sample::select(
                &[
                    "CREATE INDEX IDX ON TAB(c0 DESC)",
                    "CREATE INDEX IDX ON TAB(typeof(c0), c0) WHERE c0 NOT NULL",
                    "CREATE VIEW IDX AS SELECT c0 FROM TAB",
                    "CREATE TRIGGER IDX AFTER INSERT ON TAB BEGIN DELETE FROM TAB; END",
                    "ALTER TABLE TAB ADD COLUMN IDX TEXT DEFAULT 5",
                    "ALTER TABLE TAB ADD COLUMN IDX AS (c0)",
                    "ANALYZE TAB",
                ][..],
            )
            .prop_map(str::to_owned),
            0..4,
        );
        (
            prop::collection::vec(column(), width),
            prop::sample::select(&["", "WITHOUT ROWID"][..]),
            key,
            prop::collection::vec(prop::collection::vec(datum(), width), 0..30),
            prop::collection::vec(any::<i64>(), 30),
            extra,
        )
            .prop_map(|(columns, tail, key, rows, rowids, extra)| AnyTable {
                columns,
                tail,
                key,
                rows,
                rowids,
                extra,
            })
    })
}

impl AnyTable {
    fn create(&self, name: &str) -> String {
        let mut parts: Vec<String> =
            self.columns.iter().enumerate().map(|(at, column)| format!("c{at} {column}")).collect();
        let mut tail = self.tail;
        match self.key {
            Key::Alias => parts.push("id INTEGER PRIMARY KEY".to_owned()),
            Key::First => parts.push("PRIMARY KEY(c0)".to_owned()),
            Key::FirstTwo if parts.len() > 1 => parts.push("PRIMARY KEY(c1, c0 DESC)".to_owned()),
            Key::None | Key::FirstTwo => tail = "",
        }
        format!("CREATE TABLE {name}({}) {tail}", parts.join(", "))
    }

    fn fill(&self, conn: &Connection, name: &str) {
        conn.execute_batch(&self.create(name)).expect("a table");
        let has_rowid = conn.prepare(&format!("SELECT rowid FROM {name}")).is_ok();
        for (row, rowid) in self.rows.iter().zip(&self.rowids) {
            let mut names: Vec<String> = (0..row.len()).map(|at| format!("c{at}")).collect();
            let mut values: Vec<String> = (0..row.len())
                .map(|at| {
                    if matches!(row[at], Datum::Text(_)) {
                        format!("CAST(?{} AS TEXT)", at + 1)
                    } else {
                        format!("?{}", at + 1)
                    }
                })
                .collect();
            if has_rowid {
                names.push("rowid".to_owned());
                values.push(rowid.to_string());
            }
            let sql = format!("INSERT OR IGNORE INTO {name}({}) VALUES({})", names.join(", "), values.join(", "));
            let mut statement = conn.prepare(&sql).expect("an insert");
            for (at, datum) in row.iter().enumerate() {
                let value = match datum {
                    Datum::Plain(value) => ToSqlOutput::Borrowed(value.into()),
                    Datum::Text(bytes) => ToSqlOutput::Borrowed(ValueRef::Blob(bytes)),
                };
                statement.raw_bind_parameter(at + 1, value).expect("bind");
            }
            // Not every row is valid in every table.
            let _ = statement.raw_execute();
        }
        for (at, extra) in self.extra.iter().enumerate() {
            let _ = conn.execute_batch(&extra.replace("TAB", name).replace("IDX", &format!("{name}_{at}")));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..with_cases(60) })]

    #[test]
    fn random_databases_are_restored_exactly(
        tables in prop::collection::vec(table(), 1..4),
        encoding in prop::sample::select(&["UTF-8", "UTF-16le", "UTF-16be"][..]),
        mode in prop::sample::select(&["WAL", "DELETE"][..]),
    ) {
        let dir = TempDir::new().expect("a directory");
        let path = dir.path().join("source.db");
        let conn = Connection::open(&path).expect("a database");
        conn.execute_batch(&format!("PRAGMA encoding='{encoding}'; PRAGMA journal_mode={mode}; PRAGMA synchronous=OFF")).expect("settings");
        for (at, table) in tables.iter().enumerate() {
            table.fill(&conn, &format!("t{at}"));
        }
        conn.close().expect("close");
        let found = snapshot(&path);
        let is_named = |gap: &Finding| matches!(gap.kind, FindingKind::AmbiguousTexts { .. }) && encoding != "UTF-8";
        let gaps: Vec<&Finding> = found.gaps.iter().filter(|gap| !is_named(gap)).collect();
        prop_assert_eq!(&gaps, &Vec::<&Finding>::new());
        let restored = restore(&found, &dir.path().join("copy.db"));
        prop_assert_eq!(&restored.refused, &[]);
        prop_assert_eq!(&restored.notes, &Vec::<String>::new());
        assert_same_database(&path, &restored.path);
    }
}

#[test]
fn a_hidden_byte_order_mark_makes_no_difference() {
    for len in (2010_usize..2050).step_by(3) {
        let dir = TempDir::new().expect("a directory");
        let path = dir.path().join("source.db");
        let conn = Connection::open(&path).expect("a database");
        conn.execute_batch("PRAGMA encoding='UTF-16be'; CREATE TABLE t0(c0 REAL, c1 DEFAULT 7, c2, c3 REAL CHECK(1))")
            .expect("a table");
        // The rest is equal in both byte orders.
        let mut text = vec![0xfe, 0xff];
        text.resize(len * 2, 0);
        conn.execute("INSERT INTO t0 VALUES('0', CAST(x'' AS TEXT), CAST(?1 AS TEXT), 0)", [&text]).expect("a row");
        conn.close().expect("close");
        let restored = restore(&snapshot(&path), &dir.path().join("copy.db"));
        assert_eq!(restored.refused, []);
        assert_same_database(&path, &restored.path);
    }
}

/// The tables of a large schema, whose objects are created without all others in sight.
const TABLES: usize = 520;

fn create_large_schema(conn: &Connection) {
    let run = |sql: &str| conn.execute_batch(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    for n in 0..TABLES {
        run(&match n % 6 {
            0 => format!("CREATE TABLE T{n}(id INTEGER PRIMARY KEY AUTOINCREMENT, a TEXT UNIQUE, b)"),
            1 => format!("CREATE TABLE t{n}(a TEXT PRIMARY KEY, b) WITHOUT ROWID"),
            2 => format!("CREATE TABLE t{n}(a TEXT, b ANY, v AS (b + 1), w AS (v + 1))"),
            3 => format!("CREATE TABLE t{n}(a TEXT, b INT, s AS (length(a)) STORED, v AS (b || a), CHECK(v <> 'q'))"),
            4 => format!("CREATE TABLE t{n}(a TEXT, b INT REFERENCES t{}(b)) STRICT", n + 1),
            _ => format!("CREATE TABLE t{n}(a TEXT, b INT, UNIQUE(a, b))"),
        });
        run(&format!("INSERT INTO t{n}(a, b) VALUES('x{n}', {n}), ('y', 5); CREATE INDEX i{n} ON T{n}(b, a)"));
        if n % 5 == 0 {
            run(&format!(
                "CREATE INDEX \"K {n}\" ON t{n}(a) WHERE b > 1; CREATE VIEW v{n} AS SELECT * FROM t{n};
                 CREATE TRIGGER r{n} AFTER INSERT ON t{n} BEGIN SELECT 1; END"
            ));
        }
    }
}

#[test]
fn a_large_schema_is_restored_exactly() {
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("source.db");
    let conn = Connection::open(&path).expect("a database");
    conn.execute_batch("PRAGMA auto_vacuum=INCREMENTAL; PRAGMA synchronous=OFF; PRAGMA foreign_keys=OFF; BEGIN")
        .expect("settings");
    create_large_schema(&conn);
    conn.execute_batch("COMMIT").expect("commit");
    conn.close().expect("close");
    let found = snapshot(&path);
    let restored = restore(&found, &dir.path().join("copy.db"));
    assert_eq!((found.gaps, &restored.refused[..]), (vec![], &[][..]));
    assert_same_database(&path, &restored.path);
    let copy = Connection::open(&restored.path).expect("open the copy");
    let check: String = copy.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("a check");
    assert_eq!(check, "ok");
}
