//! `sidekeep owners`

use std::sync::Arc;

use sidekeep::base::env::Seeded;
use sidekeep::format::catalog::Catalog;
use sidekeep::repo::ledger::Ledger;
use sidekeep::repo::manifest::{Depth, open};
use sidekeep::repo::objects::Objects;
use sidekeep::repo::open::Repository;
use sidekeep::store::{Location, Store};

use crate::Sandbox;
use crate::support::world::open_key;

/// The catalog of the newest snapshot.
fn newest_catalog(sandbox: &Sandbox) -> Catalog {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let location: Location = sandbox.path("repo").to_str().expect("UTF-8").parse().expect("a location");
    let objects = Objects::new(Store::open(&location).expect("a store"), runtime.handle().clone());
    let text = std::fs::read_to_string(sandbox.path("keys/operator.key")).expect("a key");
    let key = open_key(&text);
    let unlocked = Repository::open(objects, Arc::new(Seeded::new(1))).expect("opens").unlock(key).expect("unlocks");
    let source = unlocked.find_source(None).expect("a source");
    let ledger = Ledger::load(unlocked.repository(), source).expect("a ledger");
    let snapshot = &ledger.newest().expect("a snapshot").snapshot;
    let structure = unlocked.structure(source, snapshot.epoch).expect("a key");
    let manifest = open(&unlocked, structure.context(), snapshot.manifest, Depth::Catalog).expect("a manifest");
    manifest.catalog.expect("a catalog")
}

#[test]
fn placement_is_pinned_and_drift_is_reported_until_it_is_accepted() {
    let sandbox = Sandbox::with_service();
    let text = sandbox.run(&["owners"]).out;
    assert!(text.contains("users are the rows of users") && text.contains("not pinned yet"), "{text}");
    assert!(text.contains("contacts.user_id -> users.id") && text.contains("global"), "{text}");
    sandbox.ok(&["backup"]);
    let document = sandbox.json(&["owners"]);
    assert_eq!((&document["kind"], &document["owner_table"]), (&"owners".into(), &"users".into()));
    let config = std::fs::read_to_string(sandbox.path("sidekeep.toml")).expect("reads");
    sandbox.write(
        "sidekeep.toml",
        &config.replace("# [source.main.layout]\n# sync_log", "[source.main.layout]\ncontacts"),
    );
    let ran = sandbox.run(&["owners"]);
    assert!(ran.code == 3 && ran.out.contains("DRIFT") && ran.out.contains("--accept"), "{}", ran.out);
    assert_eq!(sandbox.run(&["backup"]).code, 3);
    sandbox.ok(&["owners", "--accept"]);
    assert!(sandbox.ok(&["owners"]).contains("feed"));
    sandbox.ok(&["backup"]);
}

/// SQLite converts a value that refers to a typed column before it compares the two.
#[test]
fn rows_whose_foreign_key_holds_for_sqlite_have_an_owner() {
    let types = ["INTEGER", "VARCHAR(20)", "NUMERIC", "REAL", "TEXT"];
    let parents = ["INTEGER PRIMARY KEY", "TEXT PRIMARY KEY", "NUMERIC PRIMARY KEY", "REAL PRIMARY KEY"];
    for parent in parents {
        let sandbox = Sandbox::with_service();
        let mut sql = format!(
            "PRAGMA foreign_keys = OFF; CREATE TABLE users (id {parent}, name TEXT); INSERT INTO users VALUES (7, 'a'), (8, 'b');"
        );
        for (n, child) in types.iter().enumerate() {
            sql += &format!(
                "CREATE TABLE note{n} (id INTEGER PRIMARY KEY, user_id {child} NOT NULL REFERENCES users (id), body TEXT);
                 WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200)
                 INSERT INTO note{n} SELECT i, 7 + i % 2, 'b' || i FROM n;"
            );
        }
        std::fs::remove_file(sandbox.path("sync.db")).expect("a database");
        sandbox.sql("sync.db", &sql);
        let report = sandbox.json(&["backup"]);
        for (n, child) in types.iter().enumerate() {
            let name = format!("note{n}");
            let tables = report["tables"].as_array().expect("tables");
            let table = tables.iter().find(|table| table["name"] == name.as_str()).expect("a table");
            let broken = orphans_of_sqlite(&sandbox, &name);
            assert_eq!(table["orphans"], broken, "{child} refers to {parent}");
            assert!(
                broken == 0 || (parent.starts_with("TEXT") && child.contains("REAL")),
                "{child} refers to {parent}"
            );
        }
        sandbox.sql("sync.db", "UPDATE note1 SET body = 'x' WHERE id = 1");
        sandbox.ok(&["backup"]);
        let args = ["diff", "latest~1", "latest", "--user", "8", "--key-file", "keys/admin.key"];
        let report = sandbox.json(&args);
        assert_eq!(report["users"][0]["rows"]["changed"], 1, "{parent}: {report}");
    }
}

fn orphans_of_sqlite(sandbox: &Sandbox, table: &str) -> i64 {
    let db = rusqlite::Connection::open(sandbox.path("sync.db")).expect("a database");
    let sql = "SELECT count(*) FROM pragma_foreign_key_check(?1)";
    db.query_row(sql, [table], |row| row.get(0)).expect("a check")
}

#[test]
fn a_catalog_has_the_addresses_of_its_source() {
    let sandbox = Sandbox::with_service();
    sandbox.ok(&["backup"]);
    std::fs::rename(sandbox.path("sync.db"), sandbox.path("moved.db")).expect("renames");
    let config = std::fs::read_to_string(sandbox.path("sidekeep.toml")).expect("reads");
    sandbox.write("sidekeep.toml", &config.replace("sync.db", "moved.db"));
    sandbox.run(&["backup"]);
    let catalog = newest_catalog(&sandbox);
    let of = |name: &str| format!("sqlite:{}", sandbox.path(name).display());
    assert_eq!(catalog.addresses, [of("sync.db"), of("moved.db")]);
}
