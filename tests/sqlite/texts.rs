//! Long texts of UTF-16 databases, whose beginning SQLite hides.

use rusqlite::Connection;
use sidekeep::format::cell::Cell;

use crate::gaps::{make, names, refused};
use crate::support::sqlite::assert_same_database;

/// The stored bytes of a text, without any interpretation by SQLite.
fn raw_text(conn: &Connection, table: &str, rowid: i64) -> Vec<u8> {
    use std::io::Read;
    let mut blob = conn.blob_open("main", table, "v", rowid, true).expect("a value");
    let mut bytes = Vec::new();
    blob.read_to_end(&mut bytes).expect("its bytes");
    bytes
}

#[test]
fn sqlite_hides_the_beginning_of_long_utf16_texts() {
    for (encoding, mark) in [("UTF-16le", [0xff, 0xfe]), ("UTF-16be", [0xfe, 0xff])] {
        let made = make(&format!(
            "PRAGMA encoding='{encoding}'; CREATE TABLE t(id INTEGER PRIMARY KEY, v);
             INSERT INTO t VALUES(1, char(0xfeff) || substr(hex(zeroblob(5000)), 1, 9000))"
        ));
        let of_sql = |what: &str| -> (i64, Vec<u8>) {
            let sql = format!("SELECT octet_length({what}), CAST({what} AS BLOB) FROM t");
            made.conn.query_row(&sql, [], |row| Ok((row.get(0)?, row.get(1)?))).expect("a text")
        };
        assert_eq!(raw_text(&made.conn, "t", 1)[..2], mark, "the file has the mark");
        // If a later SQLite keeps the mark, this fails, and the code that puts it back can be removed.
        let (stored, read) = of_sql("v");
        assert_eq!((stored, read.len()), (18_002, 18_000), "SQLite removes the mark");
        assert_ne!(read[..2], mark);
        let api: String = made.conn.query_row("SELECT v FROM t", [], |row| row.get(0)).expect("a text");
        assert!(api.starts_with('0'));
        let hex: String = made.conn.query_row("SELECT hex(v) FROM t", [], |row| row.get(0)).expect("a text");
        assert_eq!(hex.len(), 36_000);
        made.conn.execute_batch("CREATE TABLE w(id INTEGER PRIMARY KEY, v) WITHOUT ROWID").expect("a table");
        made.conn.execute("INSERT INTO w SELECT 1, char(0xfeff) || v FROM t", []).expect("a row");
        let keyed: Vec<u8> =
            made.conn.query_row("SELECT CAST(v AS BLOB) FROM w", [], |row| row.get(0)).expect("a text");
        assert_eq!((keyed.len(), &keyed[..2]), (18_002, &mark[..]), "except in tables without rowids");
    }
}

#[test]
fn hidden_beginnings_of_long_texts_are_put_back() {
    let affinities = ["", "TEXT", "NUMERIC"];
    for (encoding, affinity) in ["UTF-16le", "UTF-16be"].into_iter().flat_map(|e| affinities.map(|a| (e, a))) {
        let text = |id: i64, begins: &str, rest: &str| {
            format!("INSERT INTO t(id, v) VALUES({id}, CAST(CAST({begins} AS BLOB) || CAST({rest} AS BLOB) AS TEXT));")
        };
        let long = "replace(hex(zeroblob(2500)), '0', 'ä')";
        let mut sql = format!(
            "PRAGMA encoding='{encoding}'; CREATE TABLE t(id INTEGER PRIMARY KEY, a DEFAULT 'beside', v {affinity}, g AS (id + 1), s AS (length(v)) STORED);"
        );
        let begins = [
            "char(0xfeff)",
            "char(0xfffe)",
            "char(0xfeff, 0xfeff)",
            "char(0xfffe, 0xfeff)",
            "x'd8ff'",
            "x'ffd8'",
            "''",
        ];
        for (at, begin) in (0_i64..).zip(begins) {
            sql += &text(at * 10, begin, long);
            // Short texts, and texts around the longest one that SQLite keeps whole.
            sql += &text(at * 10 + 1, begin, "'short'");
            for (n, len) in (2_i64..).zip([1997, 1998, 1999, 2000, 2001]) {
                sql += &text(at * 10 + n, begin, &format!("substr({long}, 1, {len})"));
            }
            // Invalid text too.
            sql += &text(at * 10 + 8, begin, &format!("CAST({long} AS BLOB) || x'd8d8'"));
        }
        let made = make(&sql);
        // The blob interface refuses tables with generated columns.
        let plain = |path: &std::path::Path| {
            let conn = Connection::open(path).expect("open");
            conn.execute_batch("PRAGMA writable_schema=ON; UPDATE sqlite_schema SET sql = 'CREATE TABLE t(id INTEGER PRIMARY KEY, a, v, s)' WHERE name = 't'")
                .expect("a definition of the same rows");
            conn.close().expect("close");
            let conn = Connection::open(path).expect("open again");
            let mut statement = conn.prepare("SELECT id FROM t WHERE typeof(v) = 'text'").expect("rows");
            let ids: Vec<i64> =
                statement.query_map([], |row| row.get(0)).expect("rows").collect::<Result<_, _>>().expect("rows");
            ids.into_iter().map(|id| (id, raw_text(&conn, "t", id))).collect::<Vec<_>>()
        };
        let (_dir, snapshot, restored, path) = made.round_trip();
        assert_eq!((names(&snapshot), refused(&restored)), (vec![], vec![]), "{encoding} {affinity}");
        assert_same_database(&path, &restored.path);
        let (before, after) = (plain(&path), plain(&restored.path));
        assert_eq!(before.len(), 8 * begins.len());
        for (a, b) in before.iter().zip(&after) {
            assert!(a == b, "{encoding} {affinity} {}: {:?} / {:?}", a.0, &a.1[..6], &b.1[..6]);
        }
    }
}

#[test]
fn an_unknown_beginning_is_a_gap_of_its_table() {
    let same = "replace(hex(zeroblob(2500)), '0', char(0x101))";
    let made = make(&format!(
        "PRAGMA encoding='UTF-16le'; CREATE TABLE t(v); CREATE TABLE fine(v); CREATE TABLE keyed(v, k PRIMARY KEY) WITHOUT ROWID;
         INSERT INTO t VALUES(char(0xfeff) || {same}), ({same}), (char(0xfffe) || {same}), ('x' || {same});
         INSERT INTO fine VALUES({same}), (char(0xfeff) || {same} || 'x'), (char(0xfffe) || {same} || 'x'), (char(0xfeff) || 'x');
         INSERT INTO keyed VALUES(char(0xfffe) || {same}, 1)"
    ));
    let (_dir, snapshot, restored, _path) = made.round_trip();
    assert_eq!(names(&snapshot), ["t"], "{:?}", snapshot.gaps);
    assert!(snapshot.gaps[0].detail.starts_with("SQLite does not reveal whether 2 long texts"), "{:?}", snapshot.gaps);
    assert_eq!(refused(&restored), [""; 0]);
    let begins: Vec<char> = snapshot.table("t").0.iter().map(|row| first(&row[0].get())).collect();
    assert_eq!(begins, ['\u{feff}', '\u{101}', '\u{feff}', 'x']);
    let begins: Vec<char> = snapshot.table("fine").0.iter().map(|row| first(&row[0].get())).collect();
    assert_eq!(begins, ['\u{101}', '\u{feff}', '\u{fffe}', '\u{feff}']);
    assert_eq!(first(&snapshot.table("keyed").0[0][0].get()), '\u{fffe}');
}

/// In REAL columns SQLite reads the text even for its length.
#[test]
fn long_texts_in_real_columns_are_a_gap_of_their_table() {
    let text = |len: usize| format!("substr(replace(hex(zeroblob(2500)), '0', 'x'), 1, {len})");
    let (short, edge, long) = (text(1999), text(2000), text(5000));
    for (encoding, gaps) in [("UTF-16be", &["t", "edge"][..]), ("UTF-8", &[])] {
        let made = make(&format!(
            "PRAGMA encoding='{encoding}'; CREATE TABLE t(v DOUBLE, w FLOAT); INSERT INTO t VALUES('x', {long}), (5.5, {long}), ({short}, 'x');
             CREATE TABLE edge(v REAL, w REAL); INSERT INTO edge VALUES({short}, {edge}), (1, NULL);
             CREATE TABLE fine(v REAL, w, x ANY); INSERT INTO fine VALUES({short}, {long}, {long});
             CREATE TABLE keyed(v REAL PRIMARY KEY, w REAL) WITHOUT ROWID; INSERT INTO keyed VALUES(char(0xfeff) || {long}, char(0xfffe) || {long})"
        ));
        let (_dir, snapshot, restored, _path) = made.round_trip();
        assert_eq!((&names(&snapshot)[..], refused(&restored)), (gaps, vec![]), "{:?}", snapshot.gaps);
        assert!(
            gaps.is_empty() || snapshot.gaps[0].detail.starts_with("SQLite does not reveal whether 2 long texts"),
            "{:?}",
            snapshot.gaps
        );
        let keyed = &snapshot.table("keyed").0[0];
        assert_eq!((first(&keyed[0].get()), first(&keyed[1].get())), ('\u{feff}', '\u{fffe}'));
    }
}

fn first(cell: &Cell<'_>) -> char {
    match cell {
        Cell::Text(text) => text.chars().next().expect("not empty"),
        other => panic!("{other:?}"),
    }
}
