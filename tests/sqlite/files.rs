//! CSV and JSON Lines exports can be read back exactly, by a reader written from `docs/export.md`.

use std::path::Path;

use data_encoding::BASE64;
use rusqlite::Connection;
use sidekeep::engine::contract::{EngineError, Target, TargetColumn, TargetTable};
use sidekeep::engine::files::{CsvTarget, JsonLinesTarget};
use sidekeep::format::cell::{Cell, Encoding, OwnedCell};
use tempfile::TempDir;

use crate::bridge::{Rows, Snapshot, all_of, real_env, snapshot, target_tables};

/// The list in `tables.json`.
#[derive(serde::Deserialize)]
struct List {
    tables: Vec<Listed>,
}

#[derive(serde::Deserialize)]
struct Listed {
    name: String,
    file: String,
    rows: usize,
    columns: Vec<ListedColumn>,
}

#[derive(serde::Deserialize)]
struct ListedColumn {
    name: String,
}

/// Parses the values of one line of JSON.
struct Json<'a>(&'a str);

impl<'a> Json<'a> {
    fn eat(&mut self, what: &str) -> bool {
        match self.0.strip_prefix(what) {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }

    fn string(&mut self) -> String {
        let mut stream = serde_json::Deserializer::from_str(self.0).into_iter::<String>();
        let text = stream.next().expect("a string").expect("a string");
        self.0 = &self.0[stream.byte_offset()..];
        text
    }

    fn number(&mut self) -> &'a str {
        let end = self.0.find(|c: char| !"+-.eE0123456789".contains(c)).unwrap_or(self.0.len());
        let (number, rest) = self.0.split_at(end);
        self.0 = rest;
        number
    }

    fn value(&mut self) -> OwnedCell {
        if self.eat("null") {
            return OwnedCell::new(&Cell::Null);
        }
        if self.0.starts_with('"') {
            return OwnedCell::new(&Cell::Text(&self.string()));
        }
        if !self.eat("{\"$") {
            return number(self.number());
        }
        let (kind, rest) = self.0.split_once("\":").expect("a kind");
        self.0 = rest;
        let words = self.string();
        let detail = if self.eat(",\"encoding\":") { self.string() } else { String::new() };
        assert!(self.eat("}"));
        marked(kind, &detail, &words)
    }

    fn row(line: &str, columns: &[ListedColumn]) -> Vec<OwnedCell> {
        let mut json = Json(line);
        let mut cells = Vec::new();
        for (at, column) in columns.iter().enumerate() {
            assert!(json.eat(if at == 0 { "{" } else { "," }));
            assert_eq!(json.string(), column.name);
            assert!(json.eat(":"));
            cells.push(json.value());
        }
        assert_eq!(json.0, "}");
        cells
    }
}

fn number(words: &str) -> OwnedCell {
    OwnedCell::new(&if words.contains(['.', 'e', 'E']) {
        Cell::Real(words.parse().expect("a real"))
    } else {
        Cell::Integer(words.parse().expect("an integer"))
    })
}

fn marked(kind: &str, detail: &str, words: &str) -> OwnedCell {
    let base64 = || BASE64.decode(words.as_bytes()).expect("base64");
    match (kind, detail) {
        ("real", "") => OwnedCell::new(&Cell::Real(f64::from_bits(u64::from_str_radix(words, 16).expect("bits")))),
        ("bytes", "") => OwnedCell::new(&Cell::Bytes(&base64())),
        ("encoded", "utf-8") => OwnedCell::new(&Cell::Encoded(Encoding::Utf8Invalid, &base64())),
        ("encoded", "utf-16le") => OwnedCell::new(&Cell::Encoded(Encoding::Utf16Le, &base64())),
        ("encoded", "utf-16be") => OwnedCell::new(&Cell::Encoded(Encoding::Utf16Be, &base64())),
        other => panic!("{other:?}"),
    }
}

/// Parses RFC 4180, and nothing more.
fn csv_records(text: &str) -> Vec<Vec<String>> {
    let (mut records, mut record, mut field, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                field.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => record.push(std::mem::take(&mut field)),
            '\n' if !quoted => {
                record.push(std::mem::take(&mut field));
                records.push(std::mem::take(&mut record));
            }
            other => field.push(other),
        }
    }
    assert!(record.is_empty() && field.is_empty() && !quoted);
    records
}

fn csv_cell(field: &str) -> OwnedCell {
    let Some(marks) = field.strip_prefix('\\') else {
        let numeric = serde_json::from_str::<serde_json::Value>(field).is_ok_and(|value| value.is_number());
        let blank = field.trim() != field;
        return if numeric && !blank { number(field) } else { OwnedCell::new(&Cell::Text(field)) };
    };
    if marks == "N" {
        return OwnedCell::new(&Cell::Null);
    }
    let (kind, words) = marks.split_once(':').expect("a kind");
    match kind {
        "text" => OwnedCell::new(&Cell::Text(words)),
        "json" => OwnedCell::new(&Cell::Text(&Json(words).string())),
        "encoded" => {
            let (encoding, words) = words.split_once(':').expect("an encoding");
            marked(kind, encoding, words)
        }
        _ => marked(kind, "", words),
    }
}

fn read_back(dir: &Path) -> Vec<(String, Vec<Vec<OwnedCell>>)> {
    let list = std::fs::read(dir.join("tables.json")).expect("the list");
    let list: List = serde_json::from_slice(&list).expect("the list");
    let mut tables = Vec::new();
    for listed in list.tables {
        let text = std::fs::read_to_string(dir.join(&listed.file)).expect("UTF-8");
        let rows: Vec<Vec<OwnedCell>> = if listed.file.ends_with(".csv") {
            let mut records = csv_records(&text).into_iter();
            let names: Vec<&str> = listed.columns.iter().map(|column| column.name.as_str()).collect();
            assert_eq!(records.next().expect("a line of names"), names);
            records.map(|record| record.iter().map(|field| csv_cell(field)).collect()).collect()
        } else {
            text.lines().map(|line| Json::row(line, &listed.columns)).collect()
        };
        assert_eq!(rows.len(), listed.rows);
        tables.push((listed.name, rows));
    }
    tables
}

fn export(snapshot: &Snapshot, target: &mut dyn Target) {
    target.begin(&all_of(&snapshot.description.schema, &target_tables(snapshot))).expect("begin");
    for (at, Rows(rows)) in snapshot.rows.iter().enumerate() {
        target.table(at).expect("a table");
        for row in rows {
            let cells: Vec<Cell<'_>> = row.iter().map(OwnedCell::get).collect();
            target.row(&cells).expect("a row");
        }
    }
    assert_eq!(target.finish().expect("finish"), []);
}

#[test]
fn exported_values_can_be_read_back_exactly() {
    for encoding in ["UTF-8", "UTF-16le", "UTF-16be"] {
        let dir = TempDir::new().expect("a directory");
        let path = dir.path().join("source.db");
        let conn = Connection::open(&path).expect("a database");
        conn.execute_batch(&format!(
            "PRAGMA encoding='{encoding}'; CREATE TABLE t(v);
             INSERT INTO t VALUES(NULL), (0), (-9223372036854775808), (9223372036854775807), (0.0), (-0.0), (5.0), (0.1), (5e-324), (1.7976931348623157e308),
               (9e999), (-9e999), (''), (x''), (x'00ff'), (' '), ('a,b'), ('say \"x\"'), ('two' || char(10) || 'lines'), (char(13)), (char(13, 10)),
               ('\\N'), ('\\text:x'), ('\\'), ('5'), ('-5'), ('5.0'), ('05'), ('1e5'), ('99999999999999999999'), ('+5'), ('NaN'), ('null'), ('\"'), (','),
               ('a' || char(0) || 'b'), ('{{\"$bytes\":\"\"}}'), (char(0x1f600)), (char(0xfeff)), (char(0x85)), (char(0x2028)), ('tab' || char(9)), (char(8)),
               (CAST(x'ff' AS TEXT)), (CAST(x'00d8' AS TEXT)), (CAST(x'd800' AS TEXT)), ('NULL'), ('true');
             CREATE TABLE \"odd/../name \"\"x\"\"\"(\"a,b\", \"\", \"\"\"q\"\"\"); INSERT INTO \"odd/../name \"\"x\"\"\" VALUES(1, '', NULL);
             CREATE TABLE \"\"(\"\"); CREATE TABLE one(a TEXT); INSERT INTO one VALUES('')"
        ))
        .expect("statements");
        conn.close().expect("close");
        let found = snapshot(&path);
        let env = real_env();
        let (csv, json) = (dir.path().join("csv"), dir.path().join("json/"));
        export(&found, &mut CsvTarget::create(&csv, &env).expect("create"));
        export(&found, &mut JsonLinesTarget::create(&json, &env).expect("create"));
        for out in [csv, json] {
            let tables = read_back(&out);
            assert_eq!(tables.len(), found.rows.len());
            for ((name, rows), (table, Rows(expected))) in
                tables.iter().zip(found.description.tables.iter().zip(&found.rows))
            {
                assert_eq!(*name, table.name);
                for (row, expected) in rows.iter().zip(expected) {
                    let shown: Vec<Cell<'_>> = expected.iter().map(OwnedCell::get).collect();
                    assert_eq!(row, expected, "{encoding} {out:?} {name}: {shown:?}");
                }
                assert_eq!(rows.len(), expected.len());
            }
            assert_eq!(std::fs::read(out.join("schema.json")).expect("the schema"), found.description.schema);
        }
        assert_eq!(std::fs::read_dir(dir.path()).expect("the directory").count(), 3, "no partial directory is left");
    }
}

#[test]
fn a_non_empty_directory_is_refused_and_an_unfinished_one_is_removed() {
    let dir = TempDir::new().expect("a directory");
    let env = real_env();
    let path = dir.path().join("out");
    std::fs::write(&path, "a file").expect("write");
    assert!(matches!(CsvTarget::create(&path, &env), Err(EngineError::NotEmpty { .. })));
    assert!(matches!(CsvTarget::create(dir.path(), &env), Err(EngineError::NotEmpty { .. })));
    std::fs::remove_file(&path).expect("remove");
    std::fs::create_dir(&path).expect("an empty directory");
    let mut target = JsonLinesTarget::create(&path, &env).expect("create");
    target.begin(&all_of(b"{}", &[])).expect("begin");
    assert_eq!(std::fs::read_dir(dir.path()).expect("the directory").count(), 2);
    drop(target);
    assert_eq!(std::fs::read_dir(dir.path()).expect("the directory").count(), 1);
    let mut target = JsonLinesTarget::create(&path, &env).expect("create");
    let columns = vec![TargetColumn { name: "a".into(), hidden: false }];
    target.begin(&all_of(b"{}", &[TargetTable { name: "t".to_owned(), columns, key: Vec::new() }])).expect("begin");
    target.table(0).expect("a table");
    for _ in 0..25 {
        target.row(&[]).expect("a refused row");
    }
    target.row(&[Cell::Bool(true)]).expect("a row");
    assert_eq!(target.finish().expect("finish").len(), 21);
    assert_eq!(std::fs::read(path.join("t.jsonl")).expect("the file"), b"{\"a\":true}\n");
}
