//! Repositories of every format that was ever released, committed as they were written. What is in them comes back,
//! and today's writer goes on from there: it computes the ids that were computed then, so nothing is stored twice.
//!
//! `SIDEKEEP_BLESS=1 cargo test --test golden` writes one anew where there is none.

#[path = "world/mod.rs"]
mod world;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sidekeep::base::cancel::Cancel;
use sidekeep::base::env::System;
use sidekeep::base::id::Digest;
use sidekeep::base::progress::Silent;
use sidekeep::base::role::Role;
use sidekeep::format::catalog::Catalog;
use sidekeep::format::manifest::TreeKind;
use sidekeep::ops::select::Selector;
use sidekeep::ops::verify::{self, Access, Level, VerifyOptions, VerifyReport, Visit};
use sidekeep::store::{Location, OpenOptions, Store};
use world::common_sqlite::assert_same_database;
use world::data::open;
use world::look::{assert_sound, snapshot};
use world::{SOURCE, World};

/// What happened before each night.
const DAYS: [&str; 3] = [
    "CREATE TABLE users (id INTEGER PRIMARY KEY, email TEXT NOT NULL UNIQUE, note TEXT);
     CREATE TABLE contacts (id INTEGER PRIMARY KEY, user_id INTEGER REFERENCES users (id) ON DELETE CASCADE, name TEXT);
     CREATE TABLE shares (contact_id INTEGER REFERENCES contacts (id), user_id INTEGER REFERENCES users (id),
         PRIMARY KEY (contact_id, user_id)) WITHOUT ROWID;
     CREATE TABLE words (word, rank REAL);
     CREATE TABLE texts (name TEXT PRIMARY KEY, body TEXT);
     WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 40)
         INSERT INTO users SELECT i, 'u' || i || '@example.org', CASE WHEN i % 5 = 0 THEN 'note of ' || i END FROM n;
     WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 1200)
         INSERT INTO contacts SELECT i, CASE WHEN i % 97 = 0 THEN NULL ELSE 1 + i * 7 % 40 END, 'contact ' || i FROM n;
     INSERT INTO shares VALUES (1, 3), (2, 5), (900, 40);
     INSERT INTO words VALUES ('a', 0.5), ('a', 0.5), (NULL, -0.0), (x'00ff', 9e999), (9223372036854775807, NULL);
     WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 40000)
         INSERT INTO texts SELECT 'long', group_concat(i * i * 7919 % 99991, ' ') FROM n;
     INSERT INTO texts VALUES ('stream', hex(zeroblob(20000))), ('empty', '')",
    "UPDATE contacts SET name = 'renamed' WHERE id % 100 = 7; DELETE FROM contacts WHERE id = 500;
     ALTER TABLE contacts ADD COLUMN stars INT NOT NULL DEFAULT 3; UPDATE contacts SET stars = 5 WHERE id = 900;
     UPDATE texts SET body = 'x' || body WHERE name = 'long'",
    "ALTER TABLE users RENAME COLUMN email TO address; ALTER TABLE contacts DROP COLUMN name; DROP TABLE words;
     CREATE VIEW starred AS SELECT id FROM contacts WHERE stars > 3; INSERT INTO users VALUES (41, 'new@example.org', NULL)",
];

fn committed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/format-1")
}

/// The database as it was in night `night`, from 0.
fn database(world: &World, night: usize) -> PathBuf {
    let path = world.path(&format!("night {night}"));
    let db = open(&path);
    DAYS[..=night].iter().for_each(|day| db.execute_batch(day).expect("a day"));
    path
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("makes");
    for entry in from.read_dir().expect("reads").map(|entry| entry.expect("reads")) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copies");
        }
    }
}

/// Writes the repository and its keys.
fn bless(to: &Path) {
    let world = World::new().with_env(Arc::new(System));
    for night in 0..DAYS.len() {
        assert_eq!(world.backup(&database(&world, night)).gaps, []);
    }
    copy_tree(&world.path("store"), &to.join("repo"));
    std::fs::create_dir_all(to.join("keys")).expect("makes");
    for (role, text) in &world.keys {
        std::fs::write(to.join(format!("keys/{role}.txt")), text).expect("writes");
    }
}

/// A copy of the committed repository, with its keys.
fn golden() -> World {
    if !committed().exists() && std::env::var_os("SIDEKEEP_BLESS").is_some() {
        bless(&committed());
    }
    let (mut world, _) = World::in_memory();
    world = world.with_env(Arc::new(System));
    let key = |role: Role| std::fs::read_to_string(committed().join(format!("keys/{role}.txt"))).expect("a key");
    world.keys = Role::ALL.map(|role| (role, key(role))).to_vec();
    copy_tree(&committed().join("repo"), &world.path("repo"));
    let location: Location = world.path("repo").to_str().expect("UTF-8").parse().expect("a location");
    world.through(Store::open_with(&location, &OpenOptions::default()).expect("opens"));
    world
}

fn nights(world: &World) -> Vec<Digest> {
    world.ledger(SOURCE).snapshots.iter().map(|record| record.id).collect()
}

#[test]
fn every_night_comes_back_with_either_key() {
    let world = golden();
    assert_sound(&world, SOURCE);
    assert_eq!(nights(&world).len(), DAYS.len());
    for (night, id) in nights(&world).into_iter().enumerate() {
        let original = database(&world, night);
        for role in [Role::Admin, Role::Recovery] {
            let to = world.path(&format!("back {night} by {role}"));
            let selector = Selector::Name(id.to_string());
            let report = world.try_restore_as(world.key(role), SOURCE, selector, &to).expect("a restore");
            assert!(report.damaged.is_empty() && report.refused.is_empty(), "{report:?}");
            assert_same_database(&original, &to);
        }
    }
}

#[test]
fn every_level_of_verification_finds_nothing() {
    let world = golden();
    for (role, level) in [
        (None, Level::Quick),
        (None, Level::Read),
        (Some(Role::Auditor), Level::Structure),
        (Some(Role::Maintainer), Level::Structure),
        (Some(Role::Admin), Level::Deep),
    ] {
        let report = verify_at(&world, role, level);
        assert!(report.findings.is_empty(), "{level:?}: {:?}", report.findings);
    }
}

fn verify_at(world: &World, role: Option<Role>, level: Level) -> VerifyReport {
    let options = VerifyOptions {
        level,
        source: None,
        snapshots: Vec::new(),
        visit: Visit::First,
        progress: Arc::new(Silent),
        cancel: Cancel::default(),
    };
    match role {
        Some(role) => verify::run(Access::Key(&world.unlock(role)), &options).expect("verifies"),
        None => verify::run(Access::Public(&world.repository()), &options).expect("verifies"),
    }
}

#[test]
fn the_next_night_stores_nothing_twice_and_a_new_day_comes_back() {
    let world = golden();
    let last = database(&world, DAYS.len() - 1);
    let before = snapshot(&world, SOURCE, None);
    let again = world.backup(&last);
    assert_eq!((again.new_bytes, again.gaps.len()), (0, 0), "{again:?}");
    assert_eq!(snapshot(&world, SOURCE, None).roots, before.roots, "the roots of the same rows");
    open(&last).execute_batch("DELETE FROM contacts WHERE id % 3 = 0; UPDATE users SET note = id").expect("a day");
    let report = world.backup(&last);
    world.assert_restores(SOURCE, report.snapshot.expect("committed"), &last);
    assert_sound(&world, SOURCE);
}

/// What it is worth to have: every kind of object and of tree.
#[test]
fn it_has_one_of_each() {
    let world = golden();
    let names: Vec<String> = world.objects().list("").expect("lists").into_iter().map(|listed| listed.name).collect();
    for part in ["sidekeep.json", "roster/", "keys/", "/ledger/", "/packs/", "/manifests/", "/index/", "/sessions/"] {
        assert!(names.iter().any(|name| name.contains(part)), "{part}");
    }
    let first = snapshot(&world, SOURCE, Some(nights(&world)[0]));
    let number = |catalog: &Catalog, table: &str| catalog.table_named(table).expect("a table").number;
    assert!(first.roots.contains_key(&(number(&first.catalog, "shares"), TreeKind::References)));
    assert!(first.catalog.table_named("contacts").expect("a table").rows_per_leaf.is_some());
    let summary = snapshot(&world, SOURCE, None).summary;
    assert!(summary.streams == 2 && summary.stream_bytes > 256 << 10, "{summary:?}: one piece, and a list of pieces");
}
