//! `scripts/read_repo.py`, the second reader of the format. What the program stores, the script must print, value by
//! value, compared with the program's own export and with SQLite. It must also find alterations. The script checks ids,
//! order, separators, cuts and counts itself, so a passing test confirms those for both.
//!
//! Runs with the Python that `SIDEKEEP_TEST_PYTHON` names (`support/stores/server.rs` documents when it is skipped).

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::sandbox::{Ran, Sandbox};
use crate::support::stores::server::program;
use crate::support::world::{SOURCE, World};
use data_encoding::BASE64;
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, params_from_iter};
use sidekeep::base::frame::FrameType;
use sidekeep::base::id::{CopyId, Digest, Epoch, KeyId, SessionId, SourceId};
use sidekeep::base::role::{Role, SourceScope};
use sidekeep::base::time::Moment;
use sidekeep::crypto::hpke::ReportId;
use sidekeep::crypto::keyfile::KeyFile;
use sidekeep::crypto::role::Identity;
use sidekeep::format::bundle::EntryBundle;
use sidekeep::format::copy::CopyMark;
use sidekeep::format::dsse::{Predicate, encode};
use sidekeep::format::entry::{
    Accept, AcceptLoss, Add, Entry, EntryBody, Erase, Forget, Hold, HoldEnd, Numbered, ObjectRef, Prune, Reject, Repack,
    RepackedPack, Revoke, Snapshot, SnapshotReason, Tag, TagChange,
};
use sidekeep::format::manifest::SealedManifest;
use sidekeep::format::name::Name;
use sidekeep::format::report::{
    BodyContent, BodyRef, DamageProblem, DamagedName, ReportBody, ReportContent, RowBefore, SignedReport,
};
use sidekeep::format::roster::{
    AddGrant, ExtendSources, LedgerHead, Promotion, RevokeKey, RosterEntry, RosterStatement, SealedTableName, Thresholds,
};
use sidekeep::repo::ledger::{Decision, Ledger};

const ADMIN: &[&str] = &["--key-file", "keys/admin.key"];

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
    INSERT INTO contacts SELECT value, nullif(value % 201, 0), value % 7 + 1, 'friend ' || value, NULL FROM numbers;
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
struct Reader {
    sandbox: Sandbox,
    python: PathBuf,
}

impl Reader {
    /// A reader over an empty directory. `None` if there is no Python.
    fn new() -> Option<Self> {
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

    fn run(&self, args: &[&str]) -> Ran {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/read_repo.py");
        let args = [&[script.to_str().expect("UTF-8"), "repo"], args].concat();
        let ran = Sandbox::ran(&mut self.sandbox.command_of(&self.python, &args));
        assert!(!ran.err.contains("Traceback"), "{}", ran.err);
        ran
    }

    fn ok(&self, args: &[&str]) -> String {
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
    assert_eq!(sections.iter().filter(|part| part.kind == FrameType::Catalog).count(), 2);
    let id = reader.id("main", "latest");
    let printed = records(&reader.ok(&[ADMIN, &["--snapshot", &id, "--table", "known"]].concat()));
    assert_eq!(printed, [["id", "rowid"], ["7", "1"]]);
}

#[test]
fn a_second_reader_reads_every_value() {
    let Some(reader) = Reader::new() else { return };
    with_history(&reader);
    let shown: Vec<_> = reader.ok(ADMIN).lines().map(str::to_owned).collect();
    assert_eq!(shown.len(), 4, "{shown:?}");
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

/// Puts an entry into the chain without checking that it may be there.
fn force(world: &World, key: &Identity, body: EntryBody) {
    let ledger = world.ledger(SOURCE);
    let place = ledger.next_place().expect("a place");
    let name = Name::Ledger(ledger.source, place.number);
    let entry = Entry { place, written: world.env.now(), body };
    let bytes = encode(&entry, key.key_id(), |message| key.sign(message)).expect("encodes");
    world.objects().create(&name, bytes.into()).expect("an entry");
}

fn against(word: &str, baseline: Digest) -> SnapshotReason {
    let (found, limit) = (Some(1000), Some(200));
    SnapshotReason { reason: word.to_owned(), table: Some(3), found, limit, baseline: Some(baseline) }
}

/// Entries that would change something. Some of them name objects that do not exist.
fn entries(world: &World) -> Vec<EntryBody> {
    let ledger = world.ledger(SOURCE);
    let records: Vec<_> = ledger.live().collect();
    let (first, last) = (records[0], records[records.len() - 1]);
    let reason = || "a test".to_owned();
    let object = |byte| ObjectRef { sha256: Digest::new([byte; 32]), size: 1 };
    let image = |shift: i64| {
        let clock = Moment(last.snapshot.source_clock.0 + shift);
        let mut snapshot = Snapshot::new(clock, last.snapshot.manifest, SessionId::new([9; 16]), Epoch(1));
        snapshot.packs = vec![object(1), last.snapshot.packs[0]];
        snapshot.tags = vec!["forced".to_owned()];
        snapshot.reasons = vec![against("rows", first.id), against("word_of_a_later_version", first.id)];
        snapshot.baselines = vec![first.id];
        EntryBody::Snapshot(snapshot)
    };
    let movers = || vec![world.key(Role::Maintainer).key_id()];
    let added = |byte| RepackedPack { sha256: object(byte).sha256, size: 1, signer: last.signer, movers: movers() };
    let hold = |snapshot, end| EntryBody::Hold(Hold { snapshot, end, reason: reason() });
    let pack = first.snapshot.packs[0].sha256;
    vec![
        image(1),
        image(-1),
        EntryBody::Tag(Tag { snapshot: first.id, tag: "kept".to_owned(), change: TagChange::Put }),
        EntryBody::Tag(Tag { snapshot: last.id, tag: "forced".to_owned(), change: TagChange::Remove }),
        EntryBody::Add(Add {
            session: SessionId::new([8; 16]),
            epoch: Epoch(1),
            packs: vec![object(5)],
            adopted: vec![object(6)],
        }),
        hold(last.id, HoldEnd::At(Moment(1 << 51))),
        hold(first.id, HoldEnd::Now),
        hold(first.id, HoldEnd::Never),
        EntryBody::Reject(Reject { snapshot: first.id, reason: reason() }),
        EntryBody::Accept(Accept { snapshot: records[1].id, reason: reason() }),
        EntryBody::AcceptLoss(AcceptLoss { numbers: 20..=25, reason: reason() }),
        EntryBody::Repack(Repack {
            epoch: Epoch(1),
            packs: vec![pack, object(2).sha256],
            added: vec![added(2), added(3)],
        }),
        EntryBody::Prune(Prune { packs: vec![object(1).sha256, object(8).sha256], manifests: vec![] }),
        EntryBody::Erase(Erase {
            epoch: Epoch(1),
            session: SessionId::new([7; 16]),
            manifests: vec![],
            packs: vec![object(4)],
            reason: reason(),
        }),
        EntryBody::Forget(Forget { snapshots: vec![first.id, object(9).sha256], reason: reason() }),
    ]
}

/// Statements of the roster that change who may write, what counts, or nothing at all.
fn statements(world: &World, extended: KeyId) -> Vec<RosterStatement> {
    let (source, repository) = (world.source(SOURCE), world.repository());
    let structure = world.unlock(Role::Auditor).structure(source, Epoch(1)).expect("keys");
    let table = SealedTableName { epoch: Epoch(1), name: structure.seal_table_name(&*world.env, "contacts") };
    let reason = || "a test".to_owned();
    let limits = |limit| [("rows".to_owned(), limit)].into();
    let thresholds = |table, limit| Thresholds { source, table, limits: limits(limit), reason: reason() };
    let promotion = |roster| Promotion { mark: Digest::new([3; 32]), roster, ledgers: heads(world), reason: reason() };
    let head = repository.roster().head();
    vec![
        RosterStatement::Extend(ExtendSources { key: extended, sources: SourceScope::Named(vec![source]) }),
        RosterStatement::Extend(ExtendSources { key: world.key(Role::Admin).key_id(), sources: SourceScope::All }),
        RosterStatement::Thresholds(thresholds(None, 100)),
        RosterStatement::Thresholds(thresholds(Some(table), 1000)),
        RosterStatement::Thresholds(thresholds(None, 1001)),
        RosterStatement::AcceptLoss(AcceptLoss { numbers: 2..=2, reason: reason() }),
        RosterStatement::Promote(promotion(head)),
        RosterStatement::Promote(promotion(Numbered { number: 1, ..head })),
    ]
}

fn heads(world: &World) -> Vec<LedgerHead> {
    let ledger = world.ledger(SOURCE);
    let (number, sha256) = (ledger.digests.len() as u64, *ledger.digests.last().expect("an entry"));
    vec![LedgerHead { source: ledger.source, number, sha256 }]
}

/// Puts a statement into the roster without checking that it may be there.
fn force_statement(world: &World, key: &Identity, change: impl FnOnce(Numbered) -> RosterStatement) {
    let head = world.repository().roster().head();
    let entry = RosterEntry {
        repository: world.repository().id(),
        number: head.number + 1,
        previous: head.sha256,
        written: world.env.now(),
        statements: vec![change(head)],
    };
    let bytes = encode(&entry, key.key_id(), |message| key.sign(message)).expect("encodes");
    world.objects().create(&Name::Roster(entry.number), bytes.into()).expect("an entry");
}

#[test]
fn both_readers_fold_the_same_changes_of_the_roster() {
    let Some(reader) = Reader::new() else { return };
    let world = World::new();
    let live = world.path("live");
    crate::support::world::data::create_service(&live, 10);
    world.backup(&live);
    std::os::unix::fs::symlink(world.path("store"), reader.sandbox.path("repo")).expect("links");
    let elsewhere = SourceScope::Named(vec![SourceId::new([1; 16])]);
    let elsewhere = KeyFile::parse(&world.enrol(Role::Operator, Some(elsewhere))).expect("a key file");
    let extended = elsewhere.open(None).expect("no passphrase");
    let image = |world: &World| entries(world).swap_remove(0);
    force(&world, &extended, image(&world));
    assert_folds_alike(&reader, &world);
    for role in [Role::Auditor, Role::Admin] {
        for at in 0..statements(&world, extended.key_id()).len() {
            force_statement(&world, &world.key(role), |_| statements(&world, extended.key_id()).swap_remove(at));
        }
        force(&world, &extended, image(&world));
        assert_folds_alike(&reader, &world);
    }
    let ledger = world.ledger(SOURCE);
    assert_eq!((ledger.live().count(), ledger.roster().promotions.len()), (2, 1));
    assert_eq!(ledger.roster().sources[&ledger.source].thresholds.len(), 2);

    // The roster loses an entry that the ledger has seen, and an admin gives it up.
    force_statement(&world, &world.key(Role::Admin), |_| statements(&world, extended.key_id()).swap_remove(2));
    let lost = world.repository().roster().head();
    force(&world, &extended, image(&world));
    fs::remove_file(world.path("store").join(Name::Roster(lost.number).to_string())).expect("removes");
    assert_eq!(reader.run(&[]).code, 1);
    assert!(Ledger::load(&world.repository(), world.source(SOURCE)).is_err());
    let numbers = lost.number..=lost.number;
    let loss = RosterStatement::AcceptLoss(AcceptLoss { numbers, reason: "a test".to_owned() });
    force_statement(&world, &world.key(Role::Admin), |_| loss);
    assert_folds_alike(&reader, &world);
    assert_eq!(world.ledger(SOURCE).live().count(), 3);
}

/// The answer to a store that lost entry 3 of 5 is an entry 3 that gives up 3 to 5.
#[test]
fn both_readers_give_up_what_an_admin_says_is_lost() {
    let Some(reader) = Reader::new() else { return };
    let world = World::new();
    let live = world.path("live");
    let database = crate::support::world::data::create_service(&live, 10);
    for run in 0..5 {
        database.execute("UPDATE settings SET value = ?1", [run]).expect("updates");
        world.backup(&live);
    }
    std::os::unix::fs::symlink(world.path("store"), reader.sandbox.path("repo")).expect("links");
    let source = world.source(SOURCE);
    fs::remove_file(world.path("store").join(Name::Ledger(source, 3).to_string())).expect("removes");
    let loss = AcceptLoss { numbers: 3..=5, reason: "a test".to_owned() };
    force(&world, &world.key(Role::Admin), EntryBody::AcceptLoss(loss));
    assert_folds_alike(&reader, &world);
    let ledger = world.ledger(SOURCE);
    // Each of entries 4 and 5 would have added a manifest and packs of leaves and nodes.
    assert!(ledger.given_up().len() >= 4 && ledger.voids.is_empty(), "{:?}", ledger.voids);
    assert_eq!((ledger.digests.len(), ledger.live().count()), (5, 2));
    let ran = reader.run(&[]);
    assert_eq!(ran.code, 0, "{}", ran.err);
}

fn put(world: &World, name: &Name, bytes: Vec<u8>) {
    world.objects().create(name, bytes.into()).expect("creates");
}

fn signed<P: Predicate>(key: &Identity, predicate: &P) -> Vec<u8> {
    encode(predicate, key.key_id(), |message| key.sign(message)).expect("encodes")
}

fn stored(world: &World, name: &Name) -> Vec<u8> {
    world.objects().get(name, 1 << 24).expect("reads").to_vec()
}

/// A repository with three snapshots, and the script over it.
fn with_three_snapshots() -> Option<(Reader, World)> {
    let (reader, world) = (Reader::new()?, World::new());
    let live = world.path("live");
    let database = crate::support::world::data::create_service(&live, 10);
    for run in 0..3 {
        database.execute("UPDATE settings SET value = ?1", [run]).expect("updates");
        world.backup(&live);
    }
    std::os::unix::fs::symlink(world.path("store"), reader.sandbox.path("repo")).expect("links");
    for (role, text) in &world.keys {
        reader.sandbox.write(&format!("keys/{role}.key"), text);
    }
    Some((reader, world))
}

#[test]
fn a_second_reader_checks_bundles() {
    let Some((reader, world)) = with_three_snapshots() else { return };
    let (source, repository) = (world.source(SOURCE), world.repository().id());
    let entries: Vec<_> = (1..=3).map(|number| stored(&world, &Name::Ledger(source, number))).collect();
    let ledger = EntryBundle { repository, source: Some(source), first: 1, entries };
    let roster = (1..=2).map(|number| stored(&world, &Name::Roster(number))).collect();
    let roster = EntryBundle { repository, source: None, first: 1, entries: roster };
    let store = |bundle: &EntryBundle| {
        let bytes = bundle.encode().expect("is small");
        put(&world, &bundle.name(&bytes), bytes);
    };
    store(&ledger);
    store(&roster);
    reader.ok(&[]);
    // Somebody bundles another entry than the store has.
    store(&EntryBundle { entries: vec![b"litter".to_vec()], ..ledger.clone() });
    assert_eq!(reader.run(&[]).err.matches("entry 1 is another one").count(), 1);
    let entries = vec![ledger.entries[0].clone(), ledger.entries[2].clone()];
    store(&EntryBundle { entries, ..ledger });
    assert_eq!(reader.run(&[]).err.matches("entry 2 belongs to another place").count(), 1);
}

#[test]
fn a_second_reader_reads_reports_and_their_bodies() {
    let Some((reader, world)) = with_three_snapshots() else { return };
    let (source, repository) = (world.source(SOURCE), world.repository());
    let (auditor, admin) = (world.key(Role::Auditor), world.key(Role::Admin));
    let report = |key: &Identity, number, previous, content| SignedReport {
        repository: repository.id(),
        key: key.key_id(),
        number,
        previous,
        roster: repository.roster().head(),
        written: world.env.now(),
        source,
        plan: None,
        concerns: vec![],
        content,
        body: None,
    };
    let damaged = DamagedName { name: "x".to_owned(), problem: DamageProblem::Missing, frames: vec![] };
    let first = signed(&auditor, &report(&auditor, 1, None, ReportContent::Damage(vec![damaged])));
    let previous = Some(Digest::of(&first));
    put(&world, &Name::Report(auditor.key_id(), 1), first);
    let second = signed(&auditor, &report(&auditor, 2, previous, ReportContent::Other("drill".to_owned())));
    put(&world, &Name::Report(auditor.key_id(), 2), second);

    let (key, epoch) = (admin.key_id(), Epoch(1));
    let before = vec![RowBefore { table: 1, row: vec![4, 4, 2, 0] }];
    let content = BodyContent { user: None, reason: "asked for by phone".to_owned(), before };
    let id = ReportId { repository: repository.id(), epoch, key, number: 1 };
    let restore_key = repository.roster().restore_key(epoch).expect("a key");
    let sealed = restore_key.seal_report(&*world.env, &id, &content.encode()).expect("seals");
    let body = ReportBody { repository: repository.id(), epoch, key, number: 1, sealed }.encode().expect("is small");
    let named = BodyRef { epoch, sha256: Digest::of(&body), size: body.len() as u64 };
    let restore = SignedReport { body: Some(named), ..report(&admin, 1, None, ReportContent::Restore) };
    put(&world, &Name::Report(key, 1), signed(&admin, &restore));
    let body_name = Name::ReportBody(key, named.sha256);
    put(&world, &body_name, body);
    let said = |args: &[&str]| {
        let ran = reader.run(args);
        assert_eq!(ran.code, 0, "{}", ran.err);
        ran.err
    };
    assert!(said(&[]).contains("1 of key") && said(&[]).contains(": drill, no body"));
    assert!(said(&["--key-file", "keys/auditor.key"]).contains(": restore, body sealed"));
    assert!(said(ADMIN).contains(": restore, asked for by phone"));
    fs::remove_file(world.path("store").join(body_name.to_string())).expect("removes");
    assert!(said(ADMIN).contains(": restore, body erased"));

    // An auditor cannot report a restore, and nobody in another's name.
    let wrong = signed(&auditor, &report(&auditor, 3, None, ReportContent::Restore));
    put(&world, &Name::Report(auditor.key_id(), 3), wrong);
    let wrong = signed(&auditor, &report(&auditor, 2, None, ReportContent::Other("drill".to_owned())));
    put(&world, &Name::Report(key, 2), wrong);
    assert_eq!(reader.run(&[]).err.matches("does not count").count(), 2);
}

#[test]
fn a_second_reader_reads_marks_of_copies_and_their_promotion() {
    let Some((reader, world)) = with_three_snapshots() else { return };
    let repository = world.repository();
    let mark = |number, previous| CopyMark {
        repository: repository.id(),
        copy: CopyId::new([5; 16]),
        number,
        previous,
        written: world.env.now(),
        place: "cellar".to_owned(),
        roster: repository.roster().head(),
        ledgers: heads(&world),
    };
    let first = signed(&world.key(Role::Maintainer), &mark(1, None));
    let newest = Digest::of(&first);
    put(&world, &Name::Copy(1), first);
    assert!(reader.run(&[]).err.contains("this place is a copy, cellar, not promoted"));
    let promote = |head, mark| Promotion { mark, roster: head, ledgers: heads(&world), reason: "a test".to_owned() };
    force_statement(&world, &world.key(Role::Admin), |head| RosterStatement::Promote(promote(head, newest)));
    assert!(reader.run(&[]).err.contains("this place is a copy, cellar, promoted"));
    put(&world, &Name::Copy(2), signed(&world.key(Role::Auditor), &mark(2, Some(newest))));
    let ran = reader.run(&[]);
    assert!(ran.err.contains("copy/0000000002 does not count: is not entitled"), "{}", ran.err);
    assert!(ran.err.contains("cellar, promoted"));
}

#[test]
fn a_key_uses_the_grants_that_open_and_lacks_only_epochs_without_one() {
    let Some((reader, world)) = with_three_snapshots() else { return };
    let sealed = stored(&world, &world.grant_name(Epoch(1), world.key(Role::Admin).key_id()));
    let (file, epoch) = (world.enrol_with(Role::Auditor, None, |_, _| sealed), Epoch(1));
    reader.sandbox.write("keys/new.key", &file);
    let key = KeyFile::parse(&file).expect("a key file").open(None).expect("no passphrase");
    let refused = world.repository().unlock(KeyFile::parse(&file).expect("a key file").open(None).expect("opens"));
    assert!(refused.is_err());
    let args = ["--key-file", "keys/new.key"];
    assert_eq!(reader.run(&args).code, 1);
    // A further grant makes the key usable. The bad one stays, and is reported.
    let admin = world.unlock(Role::Admin);
    let keys = admin.admin(epoch, "a grant").expect("an admin");
    let sealed = keys.grant(&*world.env, &key.public(), Role::Auditor, &SourceScope::All).expect("seals");
    let grant = world.grant(key.key_id(), sealed);
    let sha256 = Digest::of(&grant);
    put(&world, &Name::Grant(epoch, key.key_id(), sha256), grant);
    let grant = RosterStatement::Grant(AddGrant { epoch, key: key.key_id(), sha256 });
    force_statement(&world, &world.key(Role::Admin), |_| grant);
    let ran = reader.run(&[&args[..], &["--snapshot", "latest"]].concat());
    assert!(ran.code == 3 && ran.out.contains("\tcontacts\n"), "{}", ran.err);
    assert!(world.repository().unlock(key).expect("opens").epoch(epoch).is_ok());
}

#[test]
fn the_script_folds_chains_like_the_program() {
    let Some(reader) = Reader::new() else { return };
    let world = World::new();
    let live = world.path("live");
    let database = crate::support::world::data::create_service(&live, 10);
    for run in 0..3 {
        database.execute("UPDATE settings SET value = ?1", [run]).expect("updates");
        world.backup(&live);
    }
    std::os::unix::fs::symlink(world.path("store"), reader.sandbox.path("repo")).expect("links");
    let elsewhere = SourceScope::Named(vec![SourceId::new([1; 16])]);
    let elsewhere = world.enrol(Role::Operator, Some(elsewhere));
    let second = world.enrol(Role::Operator, Some(SourceScope::All));
    let key = |text: &str| KeyFile::parse(text).expect("a key file").open(None).expect("no passphrase");
    for text in [&elsewhere, &second] {
        entries(&world).into_iter().take(1).for_each(|body| force(&world, &key(text), body));
    }
    for role in Role::ALL {
        entries(&world).into_iter().for_each(|body| force(&world, &world.key(role), body));
        let ledger = world.ledger(SOURCE);
        let number = ledger.next_place().expect("a place").number;
        world.objects().create(&Name::Ledger(ledger.source, number), b"litter".as_slice().into()).expect("creates");
        assert_folds_alike(&reader, &world);
    }
    // One key is revoked in this chain, another in the roster.
    let operator = world.key(Role::Operator);
    force(&world, &world.key(Role::Admin), EntryBody::Revoke(Revoke { key: operator.key_id() }));
    world.state(Role::Auditor, vec![RosterStatement::Revoke(RevokeKey { key: operator.key_id() })]);
    world.state(Role::Admin, vec![RosterStatement::Revoke(RevokeKey { key: key(&second).key_id() })]);
    for key in [&operator, &key(&second)] {
        entries(&world).into_iter().for_each(|body| force(&world, key, body));
    }
    assert_folds_alike(&reader, &world);
}

/// A hold as the script prints it.
fn held(end: HoldEnd) -> String {
    match end {
        HoldEnd::At(moment) => format!("held:{moment}"),
        _ => "held".to_owned(),
    }
}

fn assert_folds_alike(reader: &Reader, world: &World) {
    let (ledger, ran) = (world.ledger(SOURCE), reader.run(&[]));
    let mut expected = Vec::new();
    for record in ledger.live() {
        let state = match record.decision {
            Some(Decision::Rejected) => "rejected",
            _ if record.is_clean() => "clean",
            _ => "suspect",
        };
        let holds: Vec<String> = [record.holds.admin, record.holds.maintainer].into_iter().flatten().map(held).collect();
        let words = [&[record.id.to_string(), state.to_owned()][..], &holds, &record.tags].concat();
        expected.push(words.join(" "));
    }
    let line = |line: &str| {
        line.split('\t')
            .enumerate()
            .filter(|(at, _)| ![1, 2, 3].contains(at))
            .map(|(_, word)| word.to_owned())
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(ran.out.lines().map(line).collect::<Vec<_>>(), expected, "{}", ran.err);
    let packs = ledger.inventory().count();
    let head = format!(": {} entries, {packs} packs, {} given up\n", ledger.digests.len(), ledger.given_up().len());
    assert!(ran.err.contains(&head), "{head}{}", ran.err);
    let voids = ledger.voids.len() + ledger.roster().voids.len();
    assert_eq!(ran.err.matches(" is void: ").count(), voids, "{}", ran.err);
}
