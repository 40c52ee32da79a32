//! Dictionaries: who gets one, what is in it, what it costs, and that nothing is lost without it.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use sidekeep::base::role::Role;
use sidekeep::format::catalog::DictionaryEntry;
use sidekeep::ops::verify::VerifyLevel;
use sidekeep::repo::dictionaries::DictionaryReader;

use crate::support::world::look::{packs, snapshot};
use crate::support::world::{SOURCE, World};

/// A service whose users have notes of about 1.5 MB together, with words that many share and one secret each.
fn create(path: &Path, users: u32) {
    let db = Connection::open(path).expect("a database");
    db.execute_batch(&format!(
        "CREATE TABLE users (id INTEGER PRIMARY KEY, mail TEXT NOT NULL);
        CREATE TABLE notes (id INTEGER PRIMARY KEY, user_id INTEGER NOT NULL REFERENCES users, title TEXT, body TEXT);
        WITH RECURSIVE n (v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM n WHERE v < {users})
            INSERT INTO users SELECT v, 'user' || v || '@mail.example.org' FROM n;
        WITH RECURSIVE n (v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM n WHERE v < 7000)
            INSERT INTO notes SELECT v, v % {users} + 1,
                CASE v % 3 WHEN 0 THEN 'Shopping list for the weekend' WHEN 1 THEN 'Minutes of the meeting' ELSE 'To do' END,
                'Please remember to bring the following things: ' || hex(v * 7919 % 10007) || ', and do not forget the '
                || CASE v % 4 WHEN 0 THEN 'umbrella' WHEN 1 THEN 'presents' ELSE 'tickets' END
                || '. My secret is SECRET-' || hex((v % {users}) * 2654435761 % 4294967291 || 'x') || ' and nothing else.'
            FROM n;"
    ))
    .expect("fills");
}

fn database(world: &World, users: u32) -> PathBuf {
    let path = world.path("live.sqlite");
    create(&path, users);
    path
}

fn entries(world: &World) -> Vec<DictionaryEntry> {
    snapshot(world, SOURCE, None).catalog.dictionaries
}

fn stored_bytes(world: &World) -> u64 {
    packs(world, SOURCE).values().sum()
}

/// The content of the dictionaries of the newest snapshot, read with an operator's key.
fn contents(world: &World) -> Vec<Vec<u8>> {
    let unlocked = world.unlock(Role::Operator);
    let source = world.source(SOURCE);
    let (epoch, _) = unlocked.repository().roster().open_epoch().expect("an epoch");
    let keys = unlocked.source_keys(source, epoch, "reading dictionaries").expect("an operator");
    let reader = DictionaryReader { objects: unlocked.repository().objects(), ids: &keys.ids };
    reader.read_all(&entries(world)).iter().map(|read| read.dictionary.content().to_vec()).collect()
}

#[test]
fn a_dictionary_has_what_many_owners_share_and_no_secret_of_one() {
    let world = World::new();
    let path = database(&world, 400);
    let report = world.backup(&path);
    assert_eq!(entries(&world).len(), 1);
    let contents = contents(&world);
    let text = String::from_utf8_lossy(&contents[0]);
    assert!(text.contains("remember to bring"), "{text}");
    let db = Connection::open(&path).expect("opens");
    let mut query = db.prepare("SELECT DISTINCT substr(body, instr(body, 'SECRET-') + 7, 12) FROM notes").expect("sql");
    let secrets: HashSet<String> =
        query.query_map([], |row| row.get(0)).expect("rows").map(|row| row.expect("text")).collect();
    assert!(secrets.len() > 300);
    let found: Vec<&String> = secrets.iter().filter(|secret| text.contains(secret.as_str())).collect();
    assert!(found.is_empty(), "{found:?}");
    world.assert_restores(SOURCE, report.snapshot.expect("committed"), &path);
    let verified = world.verify(Some(Role::Admin), VerifyLevel::Deep).expect("deep");
    assert!(verified.findings.is_empty(), "{:#?}", verified.findings);
}

#[test]
fn tables_with_few_owners_have_no_dictionary() {
    let world = World::new();
    let report = world.backup(&database(&world, 40));
    assert!(entries(&world).is_empty());
    world.assert_restores(SOURCE, report.snapshot.expect("committed"), &world.path("live.sqlite"));
}

#[test]
fn later_runs_use_the_dictionary_and_make_no_other() {
    let world = World::new();
    let path = database(&world, 400);
    world.backup(&path);
    let made = entries(&world);
    let before = stored_bytes(&world);
    world.backup(&path);
    assert_eq!((entries(&world), stored_bytes(&world)), (made.clone(), before));
    let db = Connection::open(&path).expect("opens");
    // A few leaves do without it: its copy would take more than it saves.
    db.execute("UPDATE notes SET title = 'changed' WHERE id = 77", []).expect("updates");
    let report = world.backup(&path);
    assert!(stored_bytes(&world) - before < 8 << 10, "{} bytes", stored_bytes(&world) - before);
    world.assert_restores(SOURCE, report.snapshot.expect("committed"), &path);
    db.execute("UPDATE notes SET title = 'changed again' WHERE id % 7 = 0", []).expect("updates");
    let report = world.backup(&path);
    assert_eq!(entries(&world), made);
    world.assert_restores(SOURCE, report.snapshot.expect("committed"), &path);
    let verified = world.verify(Some(Role::Admin), VerifyLevel::Deep).expect("deep");
    assert!(verified.findings.is_empty(), "{:#?}", verified.findings);
}
