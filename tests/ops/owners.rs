//! The report on the placement of rows, and that only accepting a change alters what is pinned.

use crate::support::world::World;
use crate::support::world::findings::FindingsByKind;
use rusqlite::Connection;
use sidekeep::base::role::Role;
use sidekeep::engine::sqlite::SqliteSource;
use sidekeep::format::manifest::Layout;
use sidekeep::ops::owners::{self, OwnersOptions, OwnersReport, PlacementKind, PlacementState};
use sidekeep::ops::placement::update::PlacementConfig;

const SCHEMA: &str = "
CREATE TABLE users (id INTEGER PRIMARY KEY, email TEXT);
CREATE TABLE contacts (id TEXT PRIMARY KEY, user_id INTEGER REFERENCES users (id));
CREATE TABLE fields (id INTEGER PRIMARY KEY, contact_id TEXT REFERENCES contacts (id));
CREATE TABLE shares (contact_id TEXT REFERENCES contacts (id), user_id INTEGER REFERENCES users (id));
CREATE TABLE drafts (id INTEGER PRIMARY KEY, user_id INTEGER REFERENCES users (id) ON DELETE SET NULL);
CREATE TABLE sync_log (seq INTEGER PRIMARY KEY AUTOINCREMENT, user_id INTEGER REFERENCES users (id), what TEXT);
CREATE TABLE devices (id INTEGER PRIMARY KEY, user_id INTEGER);
CREATE TABLE settings (name TEXT PRIMARY KEY, value);
INSERT INTO users VALUES (1, 'a'), (2, 'b'); INSERT INTO contacts VALUES ('x', 1), ('y', 2);
INSERT INTO fields VALUES (1, 'x'), (2, 'y'); INSERT INTO devices VALUES (1, 2);
";

fn owners(world: &World, placement: PlacementConfig) -> OwnersReport {
    let unlocked = world.unlock(Role::Operator);
    let source = unlocked.find_source(None).expect("a source");
    let mut live = SqliteSource::open(&world.path("live.sqlite"), world.dir.path().to_owned(), world.env.clone())
        .expect("a database");
    owners::run(&unlocked, &mut live, &OwnersOptions { source, placement }).expect("a report")
}

fn of(report: &OwnersReport, table: &str) -> (PlacementKind, Vec<String>, PlacementState) {
    let found = report.tables.iter().find(|found| found.table == table).expect("a table");
    (found.kind, found.paths.clone(), found.state.clone())
}

#[test]
fn placement_is_reported_and_stays_pinned_until_a_change_is_accepted() {
    let world = World::new();
    let database = world.path("live.sqlite");
    let db = Connection::open(&database).expect("a database");
    db.execute_batch(SCHEMA).expect("a schema");
    let report = owners(&world, PlacementConfig::default());
    assert_eq!((report.owner_table.as_deref(), report.pinned_by), (Some("users"), None));
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let new = PlacementState::New;
    assert_eq!(of(&report, "users"), (PlacementKind::Owner, vec![], new.clone()));
    let path = "fields.contact_id -> contacts.id -> users.id";
    assert_eq!(of(&report, "fields"), (PlacementKind::Owned, words(&[path]), new.clone()));
    let paths = ["shares.user_id -> users.id", "shares.contact_id -> contacts.id -> users.id"];
    assert_eq!(of(&report, "shares"), (PlacementKind::Shared, words(&paths), new.clone()));
    assert_eq!(of(&report, "sync_log"), (PlacementKind::Feed, vec![], new.clone()));
    assert_eq!(of(&report, "settings"), (PlacementKind::Global, vec![], new));
    let asked: Vec<&str> = report.decisions().iter().map(|decision| decision.object.as_str()).collect();
    assert_eq!(asked, ["drafts", "devices"], "{:?}", report.decisions());
    let layouts = ["drafts", "devices"].map(|table| (table.to_owned(), Layout::Owner)).into();
    let report = owners(&world, PlacementConfig { layouts, ..PlacementConfig::default() });
    assert!(report.decisions().is_empty(), "{:?}", report.decisions());

    world.backup(&database);
    let report = owners(&world, PlacementConfig::default());
    assert!(report.pinned_by.is_some() && report.drift().is_empty());
    assert!(report.tables.iter().all(|table| table.state == PlacementState::Pinned), "{report:?}");

    let layouts = [("sync_log".to_owned(), Layout::Owner)].into();
    let placement = PlacementConfig { layouts, ..PlacementConfig::default() };
    db.execute_batch("CREATE TABLE copy (id INTEGER PRIMARY KEY, user_id INTEGER REFERENCES users (id)); INSERT INTO copy SELECT * FROM devices; DROP TABLE devices; ALTER TABLE copy RENAME TO devices")
        .expect("a new foreign key");
    let report = owners(&world, placement.clone());
    assert_eq!(report.drift().len(), 2, "{:?}", report.drift());
    let paths_today = words(&["devices.user_id -> users.id"]);
    let drifted = PlacementState::Drifted { kind_today: PlacementKind::Owned, paths_today: paths_today.clone() };
    assert_eq!(of(&report, "devices"), (PlacementKind::Global, vec![], drifted));
    world.backup(&database);
    assert_eq!(of(&owners(&world, placement.clone()), "devices").0, PlacementKind::Global);

    let mut unlocked = world.unlock(Role::Operator);
    let options = world.backup_options(unlocked.find_source(None).expect("a source"));
    let options = sidekeep::ops::backup::BackupOptions { placement: placement.clone(), ..options };
    let mut live = SqliteSource::open(&database, world.dir.path().to_owned(), world.env.clone()).expect("a database");
    let accepted = owners::accept(&mut unlocked, &mut live, &options).expect("a snapshot");
    assert!(accepted.drift().is_empty(), "{:?}", accepted.drift());
    let report = owners(&world, placement);
    assert_eq!(report.pinned_by, accepted.snapshot);
    assert_eq!(of(&report, "devices"), (PlacementKind::Owned, paths_today, PlacementState::Pinned));
    assert_eq!(of(&report, "sync_log").0, PlacementKind::Owned);
}

#[test]
fn a_missing_owner_table_is_a_decision_to_make() {
    let world = World::new();
    let db = Connection::open(world.path("live.sqlite")).expect("a database");
    db.execute_batch("CREATE TABLE a (x)").expect("a schema");
    let placement = PlacementConfig { owner_tables: vec!["people".to_owned()], ..PlacementConfig::default() };
    let report = owners(&world, placement);
    assert_eq!(report.owner_table, None);
    assert_eq!(report.decisions().len(), 2, "{:?}", report.decisions());
    let unlocked = world.unlock(Role::Auditor);
    let source = unlocked.find_source(None).expect("a source");
    let mut live = SqliteSource::open(&world.path("live.sqlite"), world.dir.path().to_owned(), world.env.clone())
        .expect("a database");
    assert!(
        owners::run(&unlocked, &mut live, &OwnersOptions { source, placement: PlacementConfig::default() }).is_err()
    );
}
