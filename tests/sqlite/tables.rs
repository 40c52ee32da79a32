//! How a source describes its tables.

use rusqlite::Connection;
use sidekeep::engine::contract::{Fold, ForeignKey, Source, Strength, Table};
use sidekeep::engine::sqlite::SqliteSource;
use sidekeep::format::cell::Cell;
use tempfile::TempDir;

use crate::bridge::env;

fn tables(sql: &str) -> Vec<Table> {
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("source.db");
    let conn = Connection::open(&path).expect("a database");
    conn.execute_batch(sql).expect("the test's own statements");
    conn.close().expect("close");
    let mut source = SqliteSource::open(&path, std::env::temp_dir(), env()).expect("open");
    let first = source.describe().expect("describe");
    let second = source.describe().expect("describe again");
    assert_eq!(first.schema, second.schema, "an unchanged schema gives the same bytes");
    assert_eq!(first.identity, second.identity);
    assert!(first.source_clock < second.source_clock);
    assert_eq!(first.gaps, []);
    first.tables
}

fn names(table: &Table) -> Vec<&str> {
    table.columns.iter().map(|column| column.name.as_str()).collect()
}

#[test]
fn tables_without_a_named_rowid_get_a_hidden_column() {
    let found = tables(
        "CREATE TABLE plain(a, b); CREATE TABLE alias(a, id INTEGER PRIMARY KEY); CREATE TABLE word(k TEXT PRIMARY KEY, v);
         CREATE TABLE two(a, b, c, PRIMARY KEY(c, a)) WITHOUT ROWID; CREATE TABLE named(rowid, g AS (rowid), z)",
    );
    let seen: Vec<(&str, Vec<&str>, &[usize])> =
        found.iter().map(|table| (table.name.as_str(), names(table), &table.key[..])).collect();
    assert_eq!(
        seen,
        [
            ("plain", vec!["a", "b", "rowid"], &[2][..]),
            ("alias", vec!["a", "id"], &[1]),
            ("word", vec!["k", "v", "rowid"], &[0]),
            ("two", vec!["a", "b", "c"], &[2, 0]),
            ("named", vec!["rowid", "z", "_rowid_"], &[2]),
        ]
    );
    let hidden: Vec<bool> = found[4].columns.iter().map(|column| column.hidden).collect();
    assert_eq!(hidden, [false, false, true]);
    let positions: Vec<u32> = found[4].columns.iter().map(|column| column.position).collect();
    assert_eq!(positions, [0, 2, u32::MAX]);
}

#[test]
fn only_foreign_keys_within_the_snapshot_are_described() {
    let found = tables(
        "CREATE TABLE Parent(a, b, PRIMARY KEY(b, a)); CREATE TABLE number(id INTEGER PRIMARY KEY, word UNIQUE);
         CREATE TABLE child(x, y REFERENCES NUMBER, z REFERENCES number(WORD), w REFERENCES nowhere, v INTEGER REFERENCES child(x),
           FOREIGN KEY(x, y) REFERENCES parent)",
    );
    let key = |columns: &[usize], parent: &str, parent_columns: &[&str]| ForeignKey {
        columns: columns.to_vec(),
        parent: parent.to_owned(),
        parent_columns: parent_columns.iter().map(|name| (*name).to_owned()).collect(),
        strength: Strength::Owning,
        parent_values: Vec::new(),
    };
    assert_eq!(
        found[2].foreign_keys,
        [
            key(&[1], "number", &["id"]),
            key(&[2], "number", &["word"]),
            key(&[4], "child", &["x"]),
            key(&[0, 1], "Parent", &["b", "a"]),
        ]
    );
}

#[test]
fn defaults_and_collations_are_described() {
    let found = tables(
        "CREATE TABLE t(a INTEGER DEFAULT '5', b TEXT DEFAULT 5, c DEFAULT -1.5, d DEFAULT x'00ff', e DEFAULT word, f REAL DEFAULT (2),
           g DEFAULT CURRENT_TIMESTAMP, h DEFAULT (random()), i DEFAULT NULL, j DEFAULT TRUE, k, l DEFAULT 'it''s');
         CREATE TABLE c(a COLLATE nocase, b TEXT COLLATE RTRIM, c COLLATE BINARY)",
    );
    let missing: Vec<Cell<'_>> = found[0].columns.iter().map(|column| column.missing.get()).collect();
    let expected = [
        Cell::Integer(5),
        Cell::Text("5"),
        Cell::Real(-1.5),
        Cell::Bytes(&[0, 255]),
        Cell::Text("word"),
        Cell::Real(2.0),
        Cell::Null,
        Cell::Null,
        Cell::Null,
        Cell::Integer(1),
        Cell::Null,
        Cell::Text("it's"),
        Cell::Null,
    ];
    assert_eq!(missing, expected);
    let folds: Vec<Fold> = found[1].columns.iter().map(|column| column.fold).collect();
    assert_eq!(folds, [Fold::AsciiCase, Fold::TrailingSpace, Fold::Exact, Fold::Exact]);
}
