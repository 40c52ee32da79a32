//! `scripts/read_repo.py`, the second reader of the format. What the program stores, the script must print, value by
//! value, compared with the program's own export and with SQLite. It must also find alterations. The script checks ids,
//! order, separators, cuts and counts itself, so a passing test confirms those for both.
//!
//! Runs with the Python that `SIDEKEEP_TEST_PYTHON` names (`support/stores/server.rs` documents when it is skipped).

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::sandbox::{Ran, Sandbox};
use crate::support::stores::server::program;
use data_encoding::BASE64;
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, params_from_iter};
use sidekeep::base::frame::FrameType;
use sidekeep::format::manifest::SealedManifest;

pub const ADMIN: &[&str] = &["--key-file", "keys/admin.key"];

const WEAK: &str = "PRAGMA foreign_keys = OFF;";
const SCHEMA: &str = r#"
    CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
    CREATE TABLE contacts (id INTEGER PRIMARY KEY, user_id INTEGER REFERENCES users, other INTEGER REFERENCES users,
        name TEXT, extra);
    CREATE TABLE notes (id INTEGER PRIMARY KEY, contact INTEGER NOT NULL REFERENCES contacts, body);
    CREATE TABLE photos (id INTEGER PRIMARY KEY, user_id INTEGER NOT NULL REFERENCES users, body BLOB);
    CREATE TABLE odd (a, b);
    CREATE TABLE twokeys (k, j, v, PRIMARY KEY (k, j)) WITHOUT ROWID;
    CREATE TABLE "we,ird ""t" ("a,b", "c""d" TEXT, rowid);
    CREATE TABLE wide (c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, c12, c13, c14, c15, c16, c17, c18, c19,
        c20, c21, c22, c23, c24, c25, c26, c27, c28, c29, c30, c31, c32, c33, c34, c35, c36, c37, c38, c39);
    CREATE TABLE gone (a INTEGER PRIMARY KEY, b AS (a * 2) VIRTUAL, c AS (a || 'x') STORED);
    CREATE TABLE empty (a, b);
    INSERT INTO users SELECT value, 'user ' || value FROM numbers WHERE value BETWEEN 1 AND 200;
    INSERT INTO contacts SELECT value, nullif(value % 201, 0), value % 7 + 1, 'friend ' || value ||
        ', whom everybody met at the yearly summer meeting of the garden club, where the old members show their roses and
        their apple trees, drink coffee with each other, and tell the young ones what they ought to plant before winter',
        NULL FROM numbers;
    INSERT INTO contacts VALUES (-1, 999, 1, 'of a user who is gone', x'00');
    INSERT INTO notes SELECT value, value / 2, hex(value * value) FROM numbers WHERE value BETWEEN 2 AND 5000;
    INSERT INTO gone (a) VALUES (1), (2), (-9223372036854775808);
    INSERT INTO "we,ird ""t" VALUES (' x', char(10), 1), ('', '"', 2), ('\N', '1e5', NULL), ('é', '-0.5', 3.25);
"#;
const CHANGES: &str = "
    UPDATE contacts SET name = 'changed' WHERE id % 97 = 0;
    DELETE FROM notes WHERE id % 501 = 3;
    DELETE FROM photos WHERE id % 400 = 9;
    ALTER TABLE contacts DROP COLUMN extra;
    ALTER TABLE contacts ADD COLUMN born INTEGER DEFAULT 7;
    ALTER TABLE users ADD COLUMN mail TEXT;
    UPDATE users SET mail = 'x' WHERE id < 9;
    DROP TABLE gone;
    INSERT INTO odd SELECT substr(a, 1, 30000) || x'ff' || substr(a, 30001), 'edited' FROM odd WHERE length(a) > 100000;
";
const SECOND: &str = "
    PRAGMA encoding = 'UTF-16le';
    CREATE TABLE texts (id INTEGER PRIMARY KEY, b TEXT);
    INSERT INTO texts VALUES (1, 'plain'), (2, 'héé'), (3, char(128512)), (4, ''), (5, CAST(x'00d84100' AS TEXT));
    CREATE TABLE log (id INTEGER PRIMARY KEY, line TEXT);
    INSERT INTO log SELECT value, printf('%0300d', value * value) FROM numbers;
";

/// The script and its input.
pub struct Reader {
    pub sandbox: Sandbox,
    python: PathBuf,
}

impl Reader {
    /// A reader over an empty directory. `None` if there is no Python.
    pub fn new() -> Option<Self> {
        let python = program("SIDEKEEP_TEST_PYTHON")?.into();
        Some(Self { sandbox: Sandbox::new(), python })
    }

    /// A reader over a small repository with two snapshots.
    fn of_a_small_service() -> Option<Self> {
        let reader = Self { sandbox: Sandbox::with_service(), ..Self::new()? };
        reader.sandbox.ok(&["backup"]);
        reader.sandbox.sql("sync.db", "UPDATE contacts SET name = 'Grete' WHERE id = 3");
        reader.sandbox.ok(&["backup", "--tag", "second"]);
        Some(reader)
    }

    pub fn run(&self, args: &[&str]) -> Ran {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/read_repo.py");
        let args = [&[script.to_str().expect("UTF-8"), "repo"], args].concat();
        let ran = Sandbox::ran(&mut self.sandbox.command_of(&self.python, &args));
        assert!(!ran.err.contains("Traceback"), "{}", ran.err);
        ran
    }

    pub fn ok(&self, args: &[&str]) -> String {
        let ran = self.run(args);
        assert_eq!((ran.code, ran.err.contains("found:")), (0, false), "{args:?}: {}", ran.err);
        ran.out
    }

    /// Compares every table of a snapshot with the program's export and with the original database.
    fn compare(&self, source: &str, snapshot: &str, database: &str) {
        let export = format!("{source}-{snapshot}");
        let restore = ["restore", snapshot, "--source", source, "--to", &export, "--format", "csv"];
        self.sandbox.ok(&[&restore[..], ADMIN].concat());
        let id = self.id(source, snapshot);
        let list = self.ok(&[ADMIN, &["--snapshot", &id]].concat());
        let text = fs::read_to_string(self.sandbox.path(&export).join("tables.json")).expect("reads");
        let document: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let tables = document["tables"].as_array().expect("tables");
        assert_eq!(list.lines().count(), tables.len());
        for table in tables {
            let text = |name: &str| table[name].as_str().expect("text");
            assert!(
                list.lines().any(|line| line.ends_with(&format!("\t{}\t{}", table["rows"], text("name")))),
                "{list}"
            );
            let printed = records(&self.ok(&[ADMIN, &["--snapshot", &id, "--table", text("name")]].concat()));
            let exported = fs::read_to_string(self.sandbox.path(&export).join(text("file"))).expect("reads");
            assert_same(&printed, &records(&exported), text("name"));
            assert_same(&printed, &rows(&self.sandbox.path(database), text("name"), &printed[0]), text("name"));
        }
    }

    fn id(&self, source: &str, snapshot: &str) -> String {
        let document = self.sandbox.json(&["snapshots", "--source", source]);
        let snapshots = document["sources"][0]["snapshots"].as_array().expect("snapshots").clone();
        let back = snapshot.strip_prefix("latest~").map_or(0, |back| back.parse().expect("a number"));
        snapshots[snapshots.len() - 1 - back]["id"].as_str().expect("an id").to_owned()
    }

    /// The objects whose names contain `part`, sorted by name, so oldest first within a chain.
    fn objects(&self, part: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.sandbox.path("repo")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("lists") {
                let path = entry.expect("lists").path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.to_str().expect("UTF-8").contains(part) {
                    found.push(path);
                }
            }
        }
        found.sort();
        assert!(!found.is_empty(), "{part}");
        found
    }
}

/// The records of a CSV text, heading first.
fn records(text: &str) -> Vec<Vec<String>> {
    let (mut records, mut record, mut field) = (Vec::new(), Vec::new(), String::new());
    let mut inside = false;
    let mut rest = text.chars().peekable();
    while let Some(char) = rest.next() {
        match char {
            '"' if inside && rest.peek() == Some(&'"') => field.extend(rest.next()),
            '"' => inside = !inside,
            ',' if !inside => record.push(std::mem::take(&mut field)),
            '\n' if !inside => {
                record.push(std::mem::take(&mut field));
                records.push(std::mem::take(&mut record));
            }
            other => field.push(other),
        }
    }
    assert!(record.is_empty() && field.is_empty() && !inside, "the last line is not terminated");
    records
}

/// The records of a table, formatted as `docs/export.md` specifies.
fn rows(database: &Path, table: &str, heading: &[String]) -> Vec<Vec<String>> {
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let names: Vec<_> = heading.iter().map(|name| quoted(name)).collect();
    let conn = Connection::open(database).expect("opens");
    let encoding: String = conn.query_row("PRAGMA encoding", [], |row| row.get(0)).expect("an encoding");
    let mut columns = Vec::new();
    for name in &names {
        // Text that is not valid UTF-8 is exported as its bytes, so read it as a BLOB.
        columns.push(name.clone());
        columns.push(format!("CASE typeof({name}) WHEN 'text' THEN CAST({name} AS BLOB) END"));
    }
    let mut statement =
        conn.prepare(&format!("SELECT {} FROM {}", columns.join(", "), quoted(table))).expect("prepares");
    let mut found = vec![heading.to_vec()];
    let mut cursor = statement.query([]).expect("runs");
    while let Some(row) = cursor.next().expect("reads") {
        let value = |at: usize| row.get_ref(at).expect("a value");
        let field = |at: usize| match (value(2 * at), value(2 * at + 1)) {
            (ValueRef::Text(_), ValueRef::Blob(raw)) => text_field(raw, &encoding.to_lowercase()),
            (other, _) => field(other),
        };
        found.push((0..names.len()).map(field).collect());
    }
    found
}

fn field(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "\\N".to_owned(),
        ValueRef::Integer(integer) => integer.to_string(),
        ValueRef::Real(real) if real.is_finite() => format!("{real:?}"),
        ValueRef::Real(real) => format!("\\real:{:016x}", real.to_bits()),
        ValueRef::Blob(bytes) => format!("\\bytes:{}", BASE64.encode(bytes)),
        ValueRef::Text(_) => unreachable!("read as bytes"),
    }
}

fn text_field(raw: &[u8], encoding: &str) -> String {
    let text = match encoding {
        "utf-16le" => {
            let units: Vec<_> = raw.chunks(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
            String::from_utf16(&units).ok()
        }
        _ => String::from_utf8(raw.to_vec()).ok(),
    };
    match text {
        None => format!("\\encoded:{encoding}:{}", BASE64.encode(raw)),
        Some(text) if text.contains('\0') => format!("\\json:{}", serde_json::to_string(&text).expect("JSON")),
        Some(text) if text.starts_with('\\') || serde_json::from_str::<serde_json::Number>(&text).is_ok() => {
            format!("\\text:{text}")
        }
        Some(text) => text,
    }
}

/// Compares without order, because the script prints rows in tree order.
fn assert_same(one: &[Vec<String>], other: &[Vec<String>], table: &str) {
    let sorted = |records: &[Vec<String>]| {
        let mut sorted = records.to_vec();
        sorted[1..].sort();
        sorted
    };
    let (one, other) = (sorted(one), sorted(other));
    assert_eq!(one.len(), other.len(), "{table}");
    for (one, other) in one.iter().zip(&other) {
        assert!(one == other, "{table}: {} / {}", shown(one), shown(other));
    }
}

fn shown(record: &[String]) -> String {
    format!("{record:?}").chars().take(500).collect()
}

/// Incompressible bytes that depend only on `seed`.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Values of all storage classes that are easy to get wrong.
fn odd_values() -> Vec<Value> {
    let mut values = vec![Value::Null];
    values.extend([0, 1, -1, 1 << 53, i64::MAX, i64::MIN].map(Value::Integer));
    values
        .extend([0.0, -0.0, 0.1, 1e-4, 1e-5, 5e-324, 1e15, 1e16, 123_456_789_012_345_680.0, f64::MAX].map(Value::Real));
    values.extend([f64::INFINITY, f64::NEG_INFINITY, -1.5, 9_007_199_254_740_993.0].map(Value::Real));
    let texts = ["", "a\0b", "12", "-0.5e7", "\\N", "a,\"b\"\r\nc", " blank ", "é\u{1f600}\0", "NaN"];
    values.extend(texts.map(|text| Value::Text(text.to_owned())));
    values.push(Value::Text("long ".repeat(20_000)));
    values.extend(
        [0, 2, 199, 256, 257, 32_767, 32_768, 60_000, 700_000].map(|len| Value::Blob(noise(len, len as usize))),
    );
    values
}

fn fill(path: &Path) {
    let conn = Connection::open(path).expect("opens");
    conn.execute_batch("BEGIN").expect("begins");
    for (number, value) in odd_values().iter().enumerate() {
        conn.execute("INSERT INTO odd VALUES (?1, ?2)", (value, number as i64)).expect("inserts");
        if *value != Value::Null {
            conn.execute("INSERT OR IGNORE INTO twokeys VALUES (?1, ?2, NULL)", (value, 1.5)).expect("inserts");
        }
    }
    // A NaN can only be stored by bypassing SQLite's own functions, which turn it into NULL.
    conn.execute("INSERT INTO odd VALUES (?1, CAST(x'80ff61' AS TEXT))", [f64::NAN]).expect("inserts");
    for number in 0..6_000_i64 {
        let row = (number, number % 200 + 1, noise(number as u64 + 1, 1_500 + number as usize % 999));
        conn.execute("INSERT INTO photos VALUES (?1, ?2, ?3)", row).expect("inserts");
    }
    let cells = (0..40).map(|number| Value::Blob(noise(number + 9_000, 31_000)));
    let marks = vec!["?"; 40].join(", ");
    conn.execute(&format!("INSERT INTO wide VALUES ({marks})"), params_from_iter(cells)).expect("inserts");
    conn.execute_batch("COMMIT").expect("commits");
}

/// A repository with two sources: three snapshots of the first, and one of the second.
fn with_history(reader: &Reader) {
    let sandbox = &reader.sandbox;
    let numbers = "CREATE TEMP TABLE numbers AS WITH RECURSIVE n (value) AS
        (SELECT 0 UNION ALL SELECT value + 1 FROM n WHERE value < 6000) SELECT value FROM n;";
    // The encoding of a database is fixed when its first table is created.
    sandbox.sql("second.db", &SECOND.replace("INSERT INTO log", &format!("{numbers} INSERT INTO log")));
    sandbox.sql("sync.db", &format!("{WEAK} {numbers} {SCHEMA}"));
    fill(&sandbox.path("sync.db"));
    sandbox.ok(&["init", "repo", "--source", "sqlite:sync.db"]);
    let config = fs::read_to_string(sandbox.path("sidekeep.toml")).expect("reads");
    let second = format!("[source.second]\nurl = \"sqlite:{}\"\n", sandbox.path("second.db").display());
    sandbox.write("sidekeep.toml", &format!("{config}\n{second}[source.second.layout]\nlog = \"key\"\n"));
    for (run, changes) in ["", CHANGES, "DELETE FROM contacts WHERE id BETWEEN 500 AND 900"].iter().enumerate() {
        sandbox.sql("sync.db", &format!("{WEAK} {changes}"));
        fs::copy(sandbox.path("sync.db"), sandbox.path(&format!("run{run}.db"))).expect("copies");
        assert_eq!(sandbox.run(&["backup", "main"]).code, 0);
    }
    sandbox.ok(&["backup", "second"]);
}

#[test]
#[ignore = "takes two gigabytes of memory"]
fn a_second_reader_reads_a_section_in_parts() {
    let Some(reader) = Reader::new() else { return };
    let name = |table: u8| char::from(b'a' + table).to_string().repeat(9 << 20);
    let tables = (0..8).map(|table| format!("CREATE TABLE {0} (id INTEGER); INSERT INTO {0} VALUES (7);", name(table)));
    let known = "CREATE TABLE known (id INTEGER); INSERT INTO known VALUES (7);".to_owned();
    reader.sandbox.sql("sync.db", &tables.chain([known]).collect::<String>());
    reader.sandbox.ok(&["init", "repo", "--source", "sqlite:sync.db"]);
    reader.sandbox.ok(&["backup"]);
    let manifest = fs::read(&reader.objects("/manifests/")[0]).expect("reads");
    let sections = SealedManifest::read(&manifest).expect("a manifest").sections;
    assert_eq!(sections.iter().filter(|part| part.kind == FrameType::Catalog).count(), 5);
    let id = reader.id("main", "latest");
    let printed = records(&reader.ok(&[ADMIN, &["--snapshot", &id, "--table", "known"]].concat()));
    assert_eq!(printed, [["id", "rowid"], ["7", "1"]]);
}

#[test]
fn a_second_reader_reads_every_value() {
    let Some(reader) = Reader::new() else { return };
    with_history(&reader);
    let ran = reader.run(ADMIN);
    assert!(ran.code == 0 && ran.err.contains(" dictionaries\n"), "{}", ran.err);
    assert_eq!(ran.out.lines().count(), 4, "{}", ran.out);
    for (back, database) in [("latest~2", "run0.db"), ("latest~1", "run1.db"), ("latest", "run2.db")] {
        reader.compare("main", back, database);
    }
    reader.compare("second", "latest", "second.db");
}

#[test]
fn the_script_shows_each_role_only_what_it_may_read() {
    let Some(reader) = Reader::of_a_small_service() else { return };
    let sandbox = &reader.sandbox;
    let id = reader.id("main", "latest");
    assert!(reader.ok(&[]).contains(&id), "without a key");
    for role in ["operator", "maintainer", "auditor", "admin", "recovery"] {
        let key = format!("keys/{role}.key");
        let list = reader.ok(&["--key-file", &key]);
        assert!(list.contains("\tmain\t") && list.contains("8 rows\tclean\tsecond\n"), "{role}: {list}");
        let ran = reader.run(&["--key-file", &key, "--snapshot", "second", "--table", "contacts"]);
        let opens = ["admin", "recovery"].contains(&role);
        assert_eq!((ran.code, ran.out.contains("Grete")), (if opens { 0 } else { 5 }, opens), "{role}: {}", ran.err);
    }
    let key = fs::read_to_string(sandbox.path("keys/admin.key")).expect("reads");
    let fingerprint = key.lines().find_map(|line| line.strip_prefix("fingerprint: ")).expect("a fingerprint");
    reader.ok(&["--fingerprint", fingerprint]);
    let other = Sandbox::with_repository();
    let foreign = other.path("keys/admin.key");
    for (code, args) in [
        (5, vec!["--fingerprint", &"0".repeat(64)]),
        (5, vec!["--key-file", foreign.to_str().expect("UTF-8")]),
        (1, vec!["--key-file", "keys/admin.key", "--table", "nothing"]),
        (1, vec!["--key-file", "keys/admin.key", "--snapshot", "nothing"]),
        (2, vec!["--no-such-option"]),
    ] {
        let ran = reader.run(&args);
        assert_eq!((ran.code, ran.out.as_str()), (code, ""), "{args:?}: {}", ran.err);
    }
    fs::rename(sandbox.path("repo"), sandbox.path("moved")).expect("renames");
    assert_eq!(reader.run(&[]).code, 4);
}

#[test]
fn a_key_file_with_a_passphrase_is_opened() {
    let Some(reader) = Reader::new() else { return };
    reader.sandbox.ok(&["init", "repo", "--passphrase-command", "echo correct horse"]);
    reader.sandbox.write("right", "correct horse\n");
    reader.sandbox.write("wrong", "wrong horse\n");
    reader.ok(&[ADMIN, &["--passphrase-file", "right"]].concat());
    for more in [&["--passphrase-file", "wrong"][..], &[]] {
        assert_eq!(reader.run(&[ADMIN, more].concat()).code, 5);
    }
}

#[test]
fn a_flipped_bit_is_found_in_every_object() {
    let Some(reader) = Reader::of_a_small_service() else { return };
    // A changed first roster entry changes the fingerprint. A void one leaves no usable repository.
    let parts: [(&str, &[i32]); 6] = [
        ("/ledger/", &[3]),
        ("/packs/", &[3]),
        ("/manifests/", &[3]),
        ("/keys/0", &[1, 3]),
        ("/roster/0000000001", &[1, 5]),
        ("/roster/0000000002", &[3]),
    ];
    for (part, codes) in parts {
        for object in reader.objects(part) {
            let whole = fs::read(&object).expect("reads");
            for at in [0, 13, whole.len() / 3, whole.len() / 2, whole.len() - 3] {
                let mut altered = whole.clone();
                altered[at] ^= 1 << (at % 8);
                fs::write(&object, &altered).expect("writes");
                let ran = reader.run(ADMIN);
                assert!(codes.contains(&ran.code), "{}, byte {at}: {} {}", object.display(), ran.code, ran.err);
            }
            fs::write(&object, &whole).expect("writes");
        }
    }
    reader.ok(ADMIN);
}

#[test]
fn missing_objects_are_found() {
    let Some(reader) = Reader::of_a_small_service() else { return };
    for (part, code) in [("/ledger/0000000001", 3), ("/packs/", 3), ("/manifests/", 3), ("/roster/0000000002", 3)] {
        let object = reader.objects(part).remove(0);
        let aside = reader.sandbox.path("aside");
        fs::rename(&object, &aside).expect("renames");
        assert_eq!(reader.run(ADMIN).code, code, "{part}");
        fs::rename(&aside, &object).expect("renames");
    }
}
