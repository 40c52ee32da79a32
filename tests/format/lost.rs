//! Rows and values that the source could not read. No engine makes lost values (cell kind 18) yet, so a source of the test
//! does. Both readers name them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rusqlite::Connection;
use sidekeep::base::finding::{Finding, FindingKind};
use sidekeep::base::role::Role;
use sidekeep::engine::contract::{Description, EngineError, Reader, RowSink, SinkError, Source};
use sidekeep::engine::sqlite::SqliteSource;
use sidekeep::format::cell::Cell;
use sidekeep::ops::backup;

use crate::support::sandbox::{Sandbox, of_kind};
use crate::support::stores::server::program;
use crate::support::world::look::snapshot;
use crate::support::world::{SOURCE, World};

/// A source that cannot read one row, and no value that is the text `lost`.
struct LosingSource(SqliteSource);

struct LosingReader<'a>(Box<dyn Reader + 'a>);

struct LosingSink<'a>(&'a mut dyn RowSink);

impl Source for LosingSource {
    fn describe(&mut self) -> Result<Description, EngineError> {
        self.0.describe()
    }

    fn readers(&mut self) -> Result<Vec<Box<dyn Reader + '_>>, EngineError> {
        let readers = self.0.readers()?.into_iter();
        Ok(readers.map(|reader| Box::new(LosingReader(reader)) as Box<dyn Reader + '_>).collect())
    }

    fn release(&mut self) -> Result<Vec<Finding>, EngineError> {
        self.0.release()
    }
}

impl Reader for LosingReader<'_> {
    fn read(&mut self, table: usize, part: usize, sink: &mut dyn RowSink) -> Result<Vec<Finding>, EngineError> {
        let mut gaps = self.0.read(table, part, &mut LosingSink(sink))?;
        let kind = FindingKind::ValueTooLong { column: "mail".to_owned(), row: "ctid (0,7)".to_owned() };
        gaps.push(Finding::new(kind, "users", "the server said: invalid memory alloc request size"));
        Ok(gaps)
    }
}

impl RowSink for LosingSink<'_> {
    fn row(&mut self, cells: &[Cell<'_>]) -> Result<(), SinkError> {
        let lost = |cell: &Cell<'_>| matches!(cell, Cell::Text("lost"));
        let cells: Vec<Cell<'_>> = cells.iter().map(|cell| if lost(cell) { Cell::Lost } else { *cell }).collect();
        self.0.row(&cells)
    }
}

/// A repository in a directory with a snapshot in which three values are lost, one of them in a column without NULL.
fn world() -> World {
    let world = World::new();
    let path = world.path("live");
    Connection::open(&path)
        .expect("a database")
        .execute_batch(
            "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL, mail TEXT);
             INSERT INTO users VALUES (1, 'Ada', 'a@x'), (2, 'Alan', 'lost'), (3, 'lost', NULL), (4, 'Grace', 'lost');",
        )
        .expect("rows");
    let mut unlocked = world.unlock(Role::Operator);
    let options = world.backup_options(unlocked.find_source(Some(SOURCE)).expect("a source"));
    let source = SqliteSource::open(&path, world.dir.path().to_owned(), world.env.clone()).expect("opened");
    backup::run(&mut unlocked, &mut LosingSource(source), &options).expect("a snapshot");
    world
}

/// The admin's key as a file of a sandbox.
fn admin_key(world: &World, sandbox: &Sandbox) -> String {
    let (_, text) = world.keys.iter().find(|(role, _)| *role == Role::Admin).expect("a key");
    let path = sandbox.write("admin.key", text);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a mode");
    path.to_str().expect("UTF-8").to_owned()
}

fn count(database: &Path, query: &str) -> i64 {
    Connection::open(database).expect("opens").query_row(query, [], |row| row.get(0)).expect("a number")
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn lost_values_are_named_and_restored_as_null_or_their_rows_are_left_out() {
    let (world, sandbox) = (world(), Sandbox::new());
    let (key, store) = (admin_key(&world, &sandbox), world.path("store"));
    let reach = ["--repo", store.to_str().expect("UTF-8"), "--key-file", &key];
    let ran = sandbox.run(&[&["restore", "latest", "--to", "back.sqlite", "--json"][..], &reach].concat());
    assert_eq!(ran.code, 3, "{}", ran.err);
    let report = serde_json::from_str(&ran.out).expect("JSON");
    let lost = of_kind(&report, "lost-values");
    let facts: Vec<_> = lost.iter().map(|found| (&found["object"], &found["facts"])).collect();
    assert_eq!(facts.len(), 2, "{report}");
    for (column, values) in [("mail", 2), ("name", 1)] {
        let expected = (&serde_json::json!("users"), &serde_json::json!({"column": column, "values": values}));
        assert!(facts.contains(&expected), "{facts:?}");
    }
    assert_eq!(of_kind(&report, "refused-rows").len(), 1, "{report}");
    let details: Vec<String> =
        of_kind(&report, "not-captured").iter().map(|found| found["detail"].to_string()).collect();
    assert_eq!(details.len(), 2, "{report}");
    assert!(details[1].contains("ctid (0,7): the server said"), "{details:?}");
    let back = sandbox.path("back.sqlite");
    assert_eq!(count(&back, "SELECT count(*) FROM users"), 3);
    assert_eq!(count(&back, "SELECT count(*) FROM users WHERE mail IS NULL AND id IN (2, 4)"), 2);

    let ran = sandbox.run(&[&["restore", "latest", "--to", "csv", "--format", "csv"][..], &reach].concat());
    assert_eq!(ran.code, 3, "{}", ran.err);
    assert!(ran.out.contains("users: 2 values of column mail"), "{}", ran.out);
    let exported = fs::read_to_string(sandbox.path("csv/users.csv")).expect("reads");
    assert!(exported.contains("2,Alan,\\lost:\n") && exported.contains("3,\\lost:,\\N\n"), "{exported}");

    for level in ["structure", "deep"] {
        let ran = sandbox.run(&[&["verify", "--level", level, "--json"][..], &reach].concat());
        let report = serde_json::from_str(&ran.out).expect("JSON");
        let lost = of_kind(&report, "lost-data");
        assert_eq!((ran.code, lost.len()), (3, 1), "{report}");
        assert_eq!(lost[0]["facts"], serde_json::json!({"rows": 1, "values": 3}));
    }
    // The structure tier names no row.
    let summary = snapshot(&world, SOURCE, None).summary;
    let text = serde_json::to_string(&summary).expect("JSON");
    assert!(
        text.contains("1 rows are not captured") && !text.contains("ctid") && !text.contains("server said"),
        "{text}"
    );
    assert_eq!((summary.tables[0].lost_rows, summary.tables[0].lost_cells), (1, 3));

    let Some(python) = program("SIDEKEEP_TEST_PYTHON") else { return };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/read_repo.py");
    let script =
        [script.to_str().expect("UTF-8"), store.to_str().expect("UTF-8"), "--key-file", &key, "--table", "users"];
    let printed = Sandbox::ran(&mut sandbox.command_of(Path::new(&python), &script));
    assert_eq!((printed.code, sorted(&printed.out)), (3, sorted(&exported)), "{}", printed.err);
    assert!(printed.err.contains("found: table users: 1 rows and 3 values"), "{}", printed.err);
}

/// The script's functions, without a repository: a list of lists of pieces.
const LIST_OF_LISTS: &str = r#"
import sys
sys.path.insert(0, sys.argv[1])
import read_repo as r

class Keys:
    def id(self, kind, content):
        return r.hashlib.sha1(bytes([kind]) + content).digest()

class Chunks:
    def __init__(self):
        self.contents = {}
    def add(self, kind, hashed, content):
        ident = Keys().id(kind, hashed)
        self.contents[ident] = content
        return ident
    def open(self, kind, ident):
        return self.contents[ident]
    def has_length(self, kind, ident, length):
        return len(self.contents[ident]) == length

chunks = Chunks()
def listed(level, parts):
    hashed = bytes([1, level]) + r.write_uv(len(parts))
    hashed += b"".join(ident + r.write_uv(length) for ident, length in parts)
    return chunks.add(r.LIST, hashed, r.write_uv(len(hashed)) + hashed + bytes(1 + len(parts)))

r.LIST_PIECES_MAX = 2
texts = [b"one ".ljust(r.PIECE_MIN), b"two ".ljust(r.PIECE_MIN), b"three"]
pieces = [(chunks.add(r.PIECE, text, text), len(text)) for text in texts]
full, end = 2 * r.PIECE_MIN, len(texts[2])
inner = [(listed(0, pieces[:2]), full), (listed(0, pieces[2:]), end)]
trees = r.Trees(None, chunks, Keys())
print(trees.stream(r.Reference(1, listed(1, inner), full + end)).decode().replace(" ", ""))
wrongs = [
    (1, [inner[0], (inner[1][0], end - 1)]), (1, [inner[0], (listed(1, inner[1:]), end)]), (1, inner[:1]),
    (1, inner[::-1]), (0, pieces[:1]), (0, [pieces[2], pieces[0]]), (0, [(pieces[0][0], r.PIECE_MAX + 1), pieces[2]]),
]
for level, wrong in wrongs:
    try:
        trees.stream(r.Reference(1, listed(level, wrong), sum(length for _, length in wrong)))
        print("accepted")
    except r.Damage:
        pass
"#;

#[test]
fn a_second_reader_reads_lists_of_lists() {
    let Some(python) = program("SIDEKEEP_TEST_PYTHON") else { return };
    let sandbox = Sandbox::new();
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts");
    let args = ["-B", "-c", LIST_OF_LISTS, scripts.to_str().expect("UTF-8")];
    let ran = Sandbox::ran(&mut sandbox.command_of(Path::new(&python), &args));
    assert_eq!((ran.code, ran.out.as_str()), (0, "onetwothree\n"), "{}", ran.err);
}
