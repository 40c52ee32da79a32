//! Paths to owners that no foreign key has: constant conditions, text around an id, folded case, conversions, owners of
//! several tables. No configuration makes them yet, so a test pins them in the catalog of a snapshot, and the next
//! backup must follow them.

use std::collections::BTreeMap;

use rusqlite::Connection;
use sidekeep::base::frame::{FrameContext, FrameType};
use sidekeep::base::id::{Digest, Epoch};
use sidekeep::base::role::Role;
use sidekeep::base::time::Moment;
use sidekeep::crypto::session::SessionKeys;
use sidekeep::format::affinity::Affinity;
use sidekeep::format::catalog::{
    Answer, Catalog, DownwardPath, EpochStatement, OwnerPath, OwnerTable, PathCondition, PathTerm, SinceColumn,
};
use sidekeep::format::cell::{Cell, OwnedCell};
use sidekeep::format::entry::{EntryBody, ObjectRef, Snapshot};
use sidekeep::format::key::{Fold, push_component};
use sidekeep::format::leaf::LeafRows;
use sidekeep::format::manifest::{Summary, TreeKind};
use sidekeep::format::name::Name;
use sidekeep::format::node::Child;
use sidekeep::ops::diff;
use sidekeep::repo::error::RepoError;
use sidekeep::repo::manifest::{Depth, ManifestDraft, ManifestLimits, OpenManifest, open, seal};
use sidekeep::repo::reader::{SnapshotReader, Want};

use crate::diff::options;
use crate::support::world::{SOURCE, World};

fn opened(world: &World) -> OpenManifest {
    let ledger = world.ledger(SOURCE);
    let object = ledger.newest().expect("a snapshot").snapshot.manifest;
    let context = FrameContext { repository: world.repository().id(), source: world.source(SOURCE), epoch: Epoch(1) };
    open(&world.unlock(Role::Admin), context, object, Depth::Role).expect("opens")
}

/// Commits the newest snapshot again, with another catalog.
fn pin(world: &World, change: impl FnOnce(&mut Catalog)) {
    let OpenManifest { mut summary, catalog, roots, secrets, losses, .. } = opened(world);
    let operator = world.unlock(Role::Operator);
    let keys = operator.source_keys(world.source(SOURCE), Epoch(1), "a test").expect("keys");
    let restore = world.repository().roster().restore_key(Epoch(1)).expect("a key");
    let created = SessionKeys::create(&*world.env, &restore, &keys.structure, &keys.ids);
    let (session, wrap) = created.expect("a session");
    let mut catalog = catalog.expect("a catalog");
    let secrets = secrets.expect("secrets");
    let losses = losses.expect("losses");
    change(&mut catalog);
    summary.source_clock = Moment(summary.source_clock.0 + 1);
    let clock = summary.source_clock;
    let draft = ManifestDraft { summary, catalog, roots, secrets, losses, wrap };
    let bytes = seal(&operator, &draft, &session, &ManifestLimits::default()).expect("seals");
    let object = ObjectRef { sha256: Digest::of(&bytes), size: bytes.len() as u64 };
    world.objects().create(&Name::Manifest(world.source(SOURCE), object.sha256), bytes.into()).expect("stores");
    let snapshot = Snapshot::new(clock, object, session.session(), Epoch(1));
    world.append(Role::Operator, SOURCE, EntryBody::Snapshot(snapshot));
}

/// The service, backed up before and after its paths were pinned.
fn pinned_service() -> World {
    let world = World::in_memory().0;
    let database = world.path("live.sqlite");
    Connection::open(&database).expect("a database").execute_batch(SERVICE).expect("a service");
    world.backup(&database);
    pin(&world, pin_service);
    world.backup(&database);
    world
}

fn number(catalog: &Catalog, table: &str) -> u32 {
    catalog.table_named(table).expect("a table").number
}

fn column(catalog: &Catalog, table: &str, column: &str) -> u32 {
    let table = catalog.table_named(table).expect("a table");
    table.columns.iter().find(|own| own.name == column).expect("a column").number
}

/// A path of one term, from `table.column` to `parent.column`.
fn path(catalog: &Catalog, from: [&str; 2], to: [&str; 2]) -> OwnerPath {
    let column_of = |[table, name]: [&str; 2]| column(catalog, table, name);
    let term = PathTerm { column: column_of(from), parent_column: column_of(to), ..PathTerm::default() };
    OwnerPath { parent: number(catalog, to[0]), terms: vec![term], conditions: Vec::new() }
}

fn set_paths(catalog: &mut Catalog, table: &str, paths: Vec<OwnerPath>) {
    let entry = catalog.tables.iter_mut().find(|entry| entry.name == table).expect("a table");
    entry.paths = paths;
}

/// Rows of a table that are owned, without an owner, and orphans; and its number of owners.
fn placed(summary: &Summary, table: &str) -> [u64; 4] {
    let table = summary.tables.iter().find(|found| found.name == table).expect("a table");
    [table.owned, table.none, table.orphan, table.owners]
}

/// A row as a leaf has it: class and owner, and its cells.
type PlacedRow = (Vec<u8>, Vec<OwnedCell>);

/// The rows of a small tree of the newest snapshot, in its order.
fn rows(world: &World, table: &str, kind: TreeKind) -> Vec<PlacedRow> {
    let unlocked = world.unlock(Role::Admin);
    let ledger = world.ledger(SOURCE);
    let reader = SnapshotReader::open(&unlocked, &ledger, ledger.newest().expect("a snapshot")).expect("opens");
    let number = number(reader.manifest().catalog.as_ref().expect("a catalog"), table);
    let root = reader.root(number, kind).expect("reads").expect("a tree");
    assert_eq!(root.level, 1);
    let want = |leaf: &Child| Want { kind: FrameType::Leaf, id: leaf.id, location: leaf.location };
    let wants: Vec<Want> = root.children.iter().map(want).collect();
    let mut contents = vec![Vec::new(); wants.len()];
    let fetched = reader.fetch(&wants, |at, content| {
        contents[at] = content?;
        Ok::<(), RepoError>(())
    });
    fetched.expect("fetches");
    contents.iter().flat_map(|content| rows_of_leaf(content)).collect()
}

fn rows_of_leaf(content: &[u8]) -> Vec<PlacedRow> {
    let mut leaf = LeafRows::new(content).expect("a leaf");
    let (mut rows, mut cells) = (Vec::new(), Vec::new());
    while let Some(row) = leaf.next_row(&mut cells).expect("a row") {
        rows.push(([&[row.class], row.owner].concat(), cells.iter().map(OwnedCell::new).collect()));
    }
    rows
}

/// Class, kind and key of an owner.
fn owner(class: u8, kind: u8, key: &Cell<'_>) -> Vec<u8> {
    let mut owner = vec![class, kind];
    push_component(&mut owner, key);
    owner
}

/// The owner of each row, by the integer in its first cell.
fn owners(world: &World, table: &str) -> BTreeMap<i64, Vec<u8>> {
    let id = |cells: &[OwnedCell]| match cells[0].get() {
        Cell::Integer(id) => id,
        other => panic!("{other:?}"),
    };
    rows(world, table, TreeKind::Rows).into_iter().map(|(owner, cells)| (id(&cells), owner)).collect()
}

const SERVICE: &str = "
    PRAGMA foreign_keys = OFF;
    CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT, mail TEXT);
    CREATE TABLE orgs (id INTEGER PRIMARY KEY, name TEXT);
    CREATE TABLE calendars (id INTEGER PRIMARY KEY, uri TEXT);
    CREATE TABLE files (id INTEGER PRIMARY KEY, kind TEXT, owner_id INTEGER, body TEXT);
    CREATE TABLE devices (id INTEGER PRIMARY KEY, who);
    CREATE TABLE logins (id INTEGER PRIMARY KEY, mail TEXT);
    CREATE TABLE links (id INTEGER PRIMARY KEY, user_id INTEGER, org_id INTEGER);
    CREATE TABLE parts (id INTEGER PRIMARY KEY, file INTEGER REFERENCES files ON DELETE CASCADE);
    INSERT INTO users VALUES (7, 'Ann', 'mailto:ann@x'), (8, 'bob', 'bob@x');
    INSERT INTO orgs VALUES (7, 'Acme');
    INSERT INTO calendars VALUES (1, 'principals/ann'), (2, 'PRINCIPALS/BOB'), (3, 'principals/zoe'), (4, 'other/ann'),
        (5, NULL), (6, 'principals/'), (7, 'princ');
    INSERT INTO files VALUES (1, 'user', 7, 'a'), (2, 'org', 7, 'b'), (3, 'user', 9, 'c'), (4, 'team', 7, 'd'),
        (5, NULL, 7, 'e'), (6, 'org', NULL, 'f');
    INSERT INTO devices VALUES (1, 'user-07/x'), (2, 'user-8/x'), (3, 'user-8'), (4, 'user-/x'), (5, 7),
        (6, CAST(x'757365722d37ff2f78' AS TEXT)), (7, x'757365722d372f78'), (8, 'user-9007199254740993/x');
    INSERT INTO logins VALUES (1, 'ann@x'), (2, 'bob@x'), (3, 'mailto:ann@x');
    INSERT INTO links VALUES (1, 7, 7), (2, 9, 7), (3, NULL, 7);
    INSERT INTO parts VALUES (1, 1), (2, 2), (3, 3), (4, 4), (5, 99);
";

fn pin_service(catalog: &mut Catalog) {
    let (users, orgs) = (number(catalog, "users"), number(catalog, "orgs"));
    catalog.owners = vec![OwnerTable { kind: 1, table: users }, OwnerTable { kind: 2, table: orgs }];
    catalog.next_kind = 3;
    let mut to_name = path(catalog, ["calendars", "uri"], ["users", "name"]);
    to_name.terms[0].prefix = "principals/".to_owned();
    to_name.terms[0].fold = Fold::AsciiCase;
    let kind = column(catalog, "files", "kind");
    let if_kind = |path: OwnerPath, value: &str| {
        let condition = PathCondition { column: kind, equals: OwnedCell::new(&Cell::Text(value)) };
        OwnerPath { conditions: vec![condition], ..path }
    };
    let of_user = if_kind(path(catalog, ["files", "owner_id"], ["users", "id"]), "user");
    let of_org = if_kind(path(catalog, ["files", "owner_id"], ["orgs", "id"]), "org");
    let mut to_id = path(catalog, ["devices", "who"], ["users", "id"]);
    to_id.terms[0].prefix = "user-".to_owned();
    to_id.terms[0].suffix = "/x".to_owned();
    to_id.terms[0].affinity = Affinity::Numeric;
    let mut to_mail = path(catalog, ["logins", "mail"], ["users", "mail"]);
    to_mail.terms[0].parent_prefix = "mailto:".to_owned();
    let to_file = path(catalog, ["parts", "file"], ["files", "id"]);
    let to_user = path(catalog, ["links", "user_id"], ["users", "id"]);
    let to_org = path(catalog, ["links", "org_id"], ["orgs", "id"]);
    set_paths(catalog, "links", vec![to_user, to_org]);
    set_paths(catalog, "calendars", vec![to_name]);
    set_paths(catalog, "files", vec![of_user, of_org]);
    set_paths(catalog, "devices", vec![to_id]);
    set_paths(catalog, "logins", vec![to_mail]);
    set_paths(catalog, "parts", vec![to_file]);
}

#[test]
fn pinned_paths_are_followed_exactly() {
    let world = World::in_memory().0;
    let database = world.path("live.sqlite");
    let db = Connection::open(&database).expect("a database");
    db.execute_batch(SERVICE).expect("a service");
    world.backup(&database);
    pin(&world, pin_service);
    world.backup(&database);
    let summary = opened(&world).summary;
    assert_eq!(placed(&summary, "users"), [2, 0, 0, 2]);
    assert_eq!(placed(&summary, "orgs"), [1, 0, 0, 1]);
    assert_eq!(placed(&summary, "calendars"), [2, 3, 2, 2]);
    assert_eq!(placed(&summary, "files"), [2, 3, 1, 2]);
    assert_eq!(placed(&summary, "devices"), [2, 3, 3, 2]);
    assert_eq!(placed(&summary, "logins"), [1, 0, 2, 1]);
    assert_eq!(placed(&summary, "parts"), [2, 1, 2, 2]);
    assert_eq!(placed(&summary, "links"), [2, 0, 1, 2]);
    let pinned = opened(&world).catalog.expect("a catalog");
    let names = |owner: &OwnerTable| pinned.table(owner.table).expect("a table").name.clone();
    assert_eq!(pinned.owners.iter().map(names).collect::<Vec<_>>(), ["users", "orgs"]);

    db.execute_batch("UPDATE files SET body = 'x'; UPDATE parts SET id = id + 10").expect("changes");
    world.backup(&database);
    let report = diff::run(&world.unlock(Role::Admin), &options(&world)).expect("a diff");
    let mut users: Vec<&str> = report.users.iter().map(|user| user.user.as_str()).collect();
    users.sort_unstable();
    assert_eq!(users, ["orgs:7", "users:7"]);
    let of_one = |user: &str| {
        let options = diff::DiffOptions { user: Some(user.to_owned()), ..options(&world) };
        diff::run(&world.unlock(Role::Admin), &options).expect("a diff").users.len()
    };
    assert_eq!((of_one("orgs:7"), of_one("users:7"), of_one("7"), of_one("users:8")), (1, 1, 2, 0));
    let restored = world.path("restored.sqlite");
    world.restore(&restored);
    crate::support::sqlite::assert_same_database(&database, &restored);
}

#[test]
fn what_a_catalog_says_beside_placement_is_carried_forward() {
    let world = World::in_memory().0;
    let database = world.path("live.sqlite");
    let db = Connection::open(&database).expect("a database");
    db.execute_batch(SERVICE).expect("a service");
    world.backup(&database);
    let mut pinned = Catalog::default();
    pin(&world, |catalog| {
        let (users, files) = (number(catalog, "users"), number(catalog, "files"));
        catalog.addresses = vec!["sqlite:///srv/old.db".to_owned()];
        catalog.settings.epoch_statements = vec![EpochStatement {
            statement: "UPDATE users SET epoch = epoch + 1 WHERE id = ?".to_owned(),
            rows: Some(1),
        }];
        catalog.settings.since = vec![SinceColumn { table: files, column: 3 }];
        catalog.unknown.insert("later".to_owned(), serde_json::json!({"a": [1, null]}));
        let terms = path(catalog, ["users", "id"], ["files", "owner_id"]).terms;
        let file = catalog.tables.iter_mut().find(|entry| entry.number == files).expect("a table");
        file.below = vec![DownwardPath { child: users, terms, conditions: Vec::new() }];
        file.answer = Some(Answer::Global);
        file.labels = vec![3];
        file.unknown.insert("table later".to_owned(), serde_json::json!("x"));
        file.columns[1].unknown.insert("column later".to_owned(), serde_json::json!(7));
        pinned = catalog.clone();
    });
    db.execute_batch("ALTER TABLE files RENAME TO papers; ALTER TABLE papers RENAME COLUMN kind TO sort")
        .expect("renames");
    world.backup(&database);
    let carried = opened(&world).catalog.expect("a catalog");
    assert_eq!((&carried.addresses, &carried.settings), (&pinned.addresses, &pinned.settings));
    assert_eq!(carried.unknown, pinned.unknown);
    let before = pinned.table_named("files").expect("a table");
    let after = carried.table_named("papers").expect("a table");
    assert_eq!(after.number, before.number);
    assert_eq!((&after.below, after.answer, &after.labels), (&before.below, before.answer, &before.labels));
    assert_eq!(after.unknown, before.unknown);
    assert_eq!((after.columns[1].name.as_str(), &after.columns[1].unknown), ("sort", &before.columns[1].unknown));
}

#[test]
fn an_owner_has_its_kind_and_orphans_have_one_where_it_is_known() {
    let world = pinned_service();
    let (owned, orphan, none) = (0x10, 0x30, vec![0x20]);
    let seven = Cell::Integer(7);
    let nine = Cell::Integer(9);
    let files = owners(&world, "files");
    assert_eq!((&files[&1], &files[&2]), (&owner(owned, 1, &seven), &owner(owned, 2, &seven)));
    assert_eq!((&files[&3], &files[&4]), (&owner(orphan, 1, &nine), &none));
    let calendars = owners(&world, "calendars");
    assert_eq!(calendars[&2], owner(owned, 1, &Cell::Integer(8)));
    assert_eq!(calendars[&3], owner(orphan, 0, &Cell::Text("zoe")), "a name is not the key of a user");
    let devices = owners(&world, "devices");
    assert_eq!(devices[&4], owner(orphan, 1, &Cell::Text("")));
    assert_eq!(devices[&8], owner(orphan, 1, &Cell::Integer(9_007_199_254_740_993)));
    let parts = owners(&world, "parts");
    assert_eq!(parts[&3], files[&3], "a row follows its parent, even if that is an orphan");
    assert_eq!(parts[&5], owner(orphan, 0, &Cell::Integer(99)), "a file does not own rows");
    assert_eq!(owners(&world, "users")[&7], owner(owned, 1, &seven));
}

#[test]
fn a_reference_names_the_row_by_its_placement_key() {
    let world = pinned_service();
    let placed: Vec<Vec<u8>> = rows(&world, "links", TreeKind::Rows)
        .iter()
        .map(|(owner, cells)| {
            let mut key = owner.clone();
            push_component(&mut key, &cells[0].get());
            key
        })
        .collect();
    let catalog = opened(&world).catalog.expect("a catalog");
    let reference = |placed: &[u8]| {
        let cells = [Cell::Integer(i64::from(number(&catalog, "links"))), Cell::Bytes(placed)];
        (owner(0x10, 2, &Cell::Integer(7)), cells.iter().map(OwnedCell::new).collect::<Vec<_>>())
    };
    // Link 1 belongs to user 7, link 3 to organization 7, and link 2 is an orphan of user 9.
    assert_eq!(placed[2][0], 0x30);
    assert_eq!(rows(&world, "links", TreeKind::References), [reference(&placed[0]), reference(&placed[2])]);
}
