//! Compares two SQLite files: settings, schema in its order, and every value of every row by storage class and bytes,
//! including rowids and generated columns. Independent of the code under test.

use std::path::Path;

use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, Row};

/// Panics with the first difference between the databases at `a` and `b`.
pub fn assert_same_database(a: &Path, b: &Path) {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let (a, b) = (
        Connection::open_with_flags(a, flags).expect("open the first"),
        Connection::open_with_flags(b, flags).expect("open the second"),
    );
    assert_same(&a, &b);
}

/// Like [`assert_same_database`], for open databases.
pub fn assert_same(a: &Connection, b: &Connection) {
    assert_eq!(settings(a), settings(b), "settings");
    let (schema_a, schema_b) = (schema(a), schema(b));
    assert_eq!(schema_a, schema_b, "sqlite_schema");
    for line in schema_a.iter().filter(|line| is_stored_table(a, line)) {
        assert_same_rows(a, b, &line[1]);
    }
}

fn settings(conn: &Connection) -> Vec<String> {
    let names = ["encoding", "page_size", "auto_vacuum", "user_version", "application_id", "journal_mode"];
    let get = |name: &&str| {
        let value: Value = conn.query_row(&format!("PRAGMA main.{name}"), [], |row| row.get(0)).expect("a setting");
        format!("{name} {value:?}")
    };
    names.iter().map(get).collect()
}

/// Type, name, table name, and the definition as hex of its bytes, in order.
fn schema(conn: &Connection) -> Vec<[String; 4]> {
    let sql =
        "SELECT type, name, tbl_name, coalesce(hex(CAST(sql AS BLOB)), 'NULL') FROM main.sqlite_schema ORDER BY rowid";
    let mut statement = conn.prepare(sql).expect("read sqlite_schema");
    let rows = statement.query_map([], |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?]));
    rows.expect("read sqlite_schema").collect::<Result<_, _>>().expect("read sqlite_schema")
}

fn is_stored_table(conn: &Connection, line: &[String; 4]) -> bool {
    if line[0] != "table" {
        return false;
    }
    let sql = "SELECT count(*) FROM main.sqlite_schema WHERE type = 'table' AND name = ?1 AND rootpage > 0";
    conn.query_row(sql, [&line[1]], |row| row.get::<_, i64>(0)).expect("read sqlite_schema") == 1
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Panics with the first difference between the rows of one table.
pub fn assert_same_rows(a: &Connection, b: &Connection, table: &str) {
    let columns: Vec<String> = {
        let mut statement = a.prepare("SELECT name FROM pragma_table_xinfo(?1)").expect("columns");
        let names = statement.query_map([table], |row| row.get(0)).expect("columns");
        names.collect::<Result<_, _>>().expect("columns")
    };
    let without_rowid: bool = a
        .query_row("SELECT wr FROM pragma_table_list WHERE schema = 'main' AND name = ?1", [table], |row| row.get(0))
        .expect("the kind of a table");
    let free = |alias: &&str| !columns.iter().any(|column| column.eq_ignore_ascii_case(alias));
    let rowid = ["rowid", "_rowid_", "oid"].into_iter().find(free).filter(|_| !without_rowid).unwrap_or("NULL");
    let encoding: String = a.query_row("PRAGMA main.encoding", [], |row| row.get(0)).expect("an encoding");
    let is_utf16 = encoding != "UTF-8";
    for run in columns.chunks(400) {
        let mut items = vec![rowid.to_owned()];
        for column in run {
            let column = quoted(column);
            // SQLite hides the beginning of some UTF-16 texts, but not their length.
            items.push(format!("typeof({column})"));
            items.push(format!("octet_length({column})"));
            items.push(format!("CASE typeof({column}) WHEN 'text' THEN CAST({column} AS BLOB) ELSE {column} END"));
        }
        let sql = format!("SELECT {} FROM main.{} NOT INDEXED", items.join(", "), quoted(table));
        let mut of_a = a.prepare(&sql).expect("read the first");
        let mut of_b = b.prepare(&sql).expect("read the second");
        let (mut of_a, mut of_b) = (of_a.query([]).expect("read"), of_b.query([]).expect("read"));
        let mut rows = 0;
        loop {
            match (of_a.next().expect("read the first"), of_b.next().expect("read the second")) {
                (None, None) => break,
                (Some(row_a), Some(row_b)) => {
                    let of_row = |row: &Row<'_>| -> Vec<Value> {
                        (0..items.len()).map(|item| bits(row.get(item).expect("a value"))).collect()
                    };
                    let (x, y) = (of_row(row_a), of_row(row_b));
                    let what = |at: usize| format!("{}: {} / {}", items[at], shown(&x[at]), shown(&y[at]));
                    assert!(x[0] == y[0], "table {table}, row {rows}, {}", what(0));
                    for at in (1..items.len()).step_by(3) {
                        let hides_mark = is_utf16 && x[at] == y[at] && is_mark_hidden(&x[at..at + 3], &y[at..at + 3]);
                        for at in at..at + 3 {
                            assert!(hides_mark || x[at] == y[at], "table {table}, row {rows}, {}", what(at));
                        }
                    }
                }
                (one, _) => panic!("table {table}: {} has more rows", if one.is_some() { "first" } else { "second" }),
            }
            rows += 1;
        }
    }
}

/// Whether two texts of a UTF-16 database differ only because SQLite hides the byte order mark of one of them, as it
/// does for a long text on overflow pages. Both values are type, length, and the text as bytes. SQLite counts the mark
/// except where it reads the text for its length.
fn is_mark_hidden(x: &[Value], y: &[Value]) -> bool {
    let text = |value: &[Value]| match value {
        [Value::Text(kind), Value::Integer(len), Value::Blob(bytes)] if kind == "text" => Some((*len, bytes.clone())),
        _ => None,
    };
    let (Some((len_x, x)), Some((len_y, y))) = (text(x), text(y)) else { return false };
    let (with, without) = if x.len() > y.len() { (x, y) } else { (y, x) };
    let has_mark = with.starts_with(b"\xfe\xff") || with.starts_with(b"\xff\xfe");
    has_mark && with[2..] == *without && matches!(len_x.abs_diff(len_y), 0 | 2)
}

/// Represents a real by its bits.
fn bits(value: Value) -> Value {
    match value {
        Value::Real(real) => Value::Text(format!("real {:016x}", real.to_bits())),
        other => other,
    }
}

fn shown(value: &Value) -> String {
    format!("{value:?}").chars().take(200).collect()
}
