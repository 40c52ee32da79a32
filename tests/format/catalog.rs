//! The catalog of a manifest: every member in a committed vector, which both readers read, and unknown members.

use sidekeep::base::id::{ChunkId, Digest, SessionId};
use sidekeep::format::affinity::Affinity;
use sidekeep::format::catalog::{
    Answer, Catalog, ColumnEntry, DictionaryEntry, DownwardPath, EpochStatement, Generated, OwnerPath, OwnerTable,
    PathCondition, PathTerm, Settings, SinceColumn, TableEntry, UnknownMembers, VcardTable, Visibility,
};
use sidekeep::format::cell::{Cell, OwnedCell};
use sidekeep::format::key::Fold;
use sidekeep::format::manifest::{Layout, StoredLocation};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use crate::support::stores::server::program;
use crate::vectors::golden;

fn column(number: u32, name: &str) -> ColumnEntry {
    ColumnEntry {
        number,
        name: name.into(),
        position: number,
        visibility: Visibility::Declared,
        generated: None,
        missing: OwnedCell::new(&Cell::Null),
        unknown: UnknownMembers::new(),
    }
}

fn dictionary() -> DictionaryEntry {
    let at = StoredLocation {
        pack: Digest::new([7; 32]),
        session: SessionId::new([8; 16]),
        offset: 70_000,
        stored: 5000,
        codec: 1,
        thread: 2,
        counter: 3,
    };
    DictionaryEntry { number: 40_000, table: 3, id: ChunkId::new([9; 20]), at }
}

fn table(number: u32, name: &str, columns: &[&str]) -> TableEntry {
    TableEntry {
        number,
        name: name.to_owned(),
        oid: Some(u64::from(number) << 32 | 2),
        columns: (0..).zip(columns).map(|(number, name)| column(number, name)).collect(),
        next_column: columns.len() as u32,
        key: vec![0],
        layout: Layout::Owner,
        paths: Vec::new(),
        below: Vec::new(),
        answer: None,
        labels: Vec::new(),
        unknown: UnknownMembers::new(),
    }
}

/// A catalog with every member.
fn catalog() -> Catalog {
    let mut users = table(1, "users", &["id", "name", "mail", "both"]);
    users.labels = vec![1, 2];
    users.columns[3].generated = Some(Generated::Stored);
    let mut orgs = table(2, "orgs", &["id", "name", "mail"]);
    orgs.columns[1].generated = Some(Generated::Virtual);
    let mut files = table(3, "files", &["id", "kind", "owner_id", "uri"]);
    let term = PathTerm { column: 2, parent_column: 0, affinity: Affinity::Numeric, ..PathTerm::default() };
    let condition = PathCondition { column: 1, equals: OwnedCell::new(&Cell::Text("user")) };
    let constructed = PathTerm {
        column: 3,
        parent_column: 2,
        prefix: "principals/".to_owned(),
        suffix: "/x".to_owned(),
        parent_prefix: "mailto:".to_owned(),
        parent_suffix: "@x".to_owned(),
        fold: Fold::AsciiCase,
        affinity: Affinity::Text,
    };
    let folded = PathTerm { column: 3, parent_column: 1, fold: Fold::TrailingSpace, ..PathTerm::default() };
    files.paths = vec![
        OwnerPath { parent: 1, terms: vec![term.clone()], conditions: vec![condition.clone()] },
        OwnerPath { parent: 2, terms: vec![constructed, folded], conditions: Vec::new() },
    ];
    let mut tokens = table(4, "tokens", &["id", "value"]);
    let up = PathTerm { column: 2, parent_column: 0, ..PathTerm::default() };
    tokens.below = vec![DownwardPath { child: 3, terms: vec![up], conditions: vec![condition] }];
    let mut zones = table(5, "zones", &["id"]);
    zones.answer = Some(Answer::Global);
    let mut log = table(6, "log", &["id"]);
    log.answer = Some(Answer::Key);
    log.layout = Layout::Key;
    log.columns[0].visibility = Visibility::Hidden;
    let statement = "UPDATE users SET epoch = epoch + 1 WHERE id = ?".to_owned();
    let properties = BTreeMap::from([("FN".to_owned(), 1), ("EMAIL".to_owned(), 2)]);
    Catalog {
        engine: "sqlite".to_owned(),
        identity: BTreeMap::from([("path".to_owned(), "/srv/sync.db".to_owned())]),
        addresses: vec!["sqlite:///srv/old.db".to_owned(), "sqlite:///srv/sync.db".to_owned()],
        schema_digest: "00".repeat(32),
        owners: vec![OwnerTable { kind: 1, table: 1 }, OwnerTable { kind: 3, table: 2 }],
        next_kind: 4,
        next_table: 7,
        large_object_page: Some(2048),
        settings: Settings {
            epoch_statements: vec![
                EpochStatement { statement: statement.clone(), rows: Some(1) },
                EpochStatement { statement, rows: None },
            ],
            since: vec![SinceColumn { table: 3, column: 2 }],
            vcard: vec![VcardTable { table: 1, properties }],
            unknown: UnknownMembers::new(),
        },
        tables: vec![users, orgs, files, tokens, zones, log],
        dictionaries: vec![dictionary()],
        unknown: UnknownMembers::new(),
    }
}

#[test]
fn a_catalog_with_every_member_matches_its_vector() {
    let bytes = golden("catalog.json", &serde_json::to_vec(&catalog()).expect("JSON"));
    assert_eq!(serde_json::from_slice::<Catalog>(&bytes).expect("a catalog"), catalog());
}

#[test]
fn the_second_reader_reads_every_member() {
    let Some(python) = program("SIDEKEEP_TEST_PYTHON") else { return };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let vector = root.join("tests/format/vectors/catalog.json");
    let code = "import sys; sys.path.insert(0, sys.argv[1]); import read_repo as r
catalog = r.Catalog(r.parse_json(open(sys.argv[2], 'rb').read()))
print(catalog.kinds, len(catalog.tables))";
    let mut command = Command::new(python);
    command.arg("-B").arg("-c").arg(code).arg(root.join("scripts")).arg(vector);
    let output = command.output().expect("runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "{1: 1, 3: 2} 6");
}

#[test]
fn unknown_members_are_kept_where_they_are() {
    let mut value = serde_json::to_value(catalog()).expect("JSON");
    value["later"] = serde_json::json!({"b": [1, null, "x"], "a": {}});
    value["settings"]["later"] = serde_json::json!(-7);
    value["tables"][2]["later"] = serde_json::json!(true);
    value["tables"][2]["columns"][1]["later"] = serde_json::json!("text");
    let read: Catalog = serde_json::from_value(value.clone()).expect("a catalog");
    assert_eq!(serde_json::to_value(&read).expect("JSON"), value);
    assert_eq!(read.tables[2].columns[1].unknown["later"], "text");
}

#[test]
fn renumbered_tables_keep_their_kinds_and_what_refers_to_them() {
    let renumbered = catalog().renumbered(100);
    assert_eq!(renumbered.owners, [OwnerTable { kind: 1, table: 100 }, OwnerTable { kind: 3, table: 101 }]);
    assert_eq!((renumbered.next_kind, renumbered.next_table), (4, 106));
    let files = renumbered.table_named("files").expect("a table");
    assert_eq!(files.paths.iter().map(|path| path.parent).collect::<Vec<_>>(), [100, 101]);
    assert_eq!(renumbered.table_named("tokens").expect("a table").below[0].child, 102);
    assert_eq!(renumbered.settings.since[0].table, 102);
    assert_eq!(renumbered.settings.vcard[0].table, 100);
}

/// A member that is read for each column must not make large catalogs slow.
#[test]
#[ignore = "takes a gigabyte of memory"]
fn a_catalog_of_a_million_columns_is_read_in_seconds() {
    let names: Vec<String> = (0..10).map(|n| format!("column_{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let tables = (1..=100_000).map(|number| table(number, &format!("tenant_{number}.contacts"), &names)).collect();
    let bytes = serde_json::to_vec(&Catalog { tables, ..catalog() }).expect("JSON");
    let started = std::time::Instant::now();
    assert_eq!(serde_json::from_slice::<Catalog>(&bytes).expect("a catalog").tables.len(), 100_000);
    println!("{} bytes in {:?}", bytes.len(), started.elapsed());
    assert!(started.elapsed().as_secs() < 60);
}
