//! Dictionaries: who gets one, what is in it, what it costs, and that nothing is lost without it.

use std::collections::HashSet;
use std::path::PathBuf;

use rusqlite::Connection;
use sidekeep::base::frame::FrameType;
use sidekeep::base::id::Epoch;
use sidekeep::base::role::Role;
use sidekeep::format::catalog::DictionaryEntry;
use sidekeep::format::name::Name;
use sidekeep::ops::select::Selector;
use sidekeep::ops::verify::VerifyLevel;
use sidekeep::repo::dictionaries::DictionaryReader;
use sidekeep::repo::pack_table::PackTable;

use crate::support::stored_world::StoredWorld;
use crate::support::world::data::create_notes;
use crate::support::world::findings::FindingsByKind;
use crate::support::world::look::{packs, snapshot};
use crate::support::world::{SOURCE, World};

fn database(world: &World, users: u32) -> PathBuf {
    let path = world.path("live.sqlite");
    create_notes(&path, users);
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

/// Damages the stored bytes of an object at an offset.
fn damage(world: &StoredWorld, name: &Name, offset: u64) {
    let name = name.to_string();
    let mut bytes = world.read(&name).to_vec();
    bytes[offset as usize] ^= 1;
    world.overwrite(&name, bytes.into());
}

#[test]
fn without_the_catalogs_dictionary_the_packs_own_suffice_and_the_next_run_makes_a_new_one() {
    let world = StoredWorld::new();
    let path = database(&world, 400);
    let first = world.backup(&path);
    let [lost] = entries(&world)[..] else { panic!("one dictionary") };
    damage(&world, &Name::Pack(world.source(SOURCE), lost.at.pack), u64::from(lost.at.offset) + 3);
    world.assert_restores(SOURCE, first.snapshot.expect("committed"), &path);
    let db = Connection::open(&path).expect("opens");
    for (day, left) in [("UPDATE notes SET title = 'one'", 0), ("UPDATE notes SET title = 'two'", 1)] {
        db.execute_batch(day).expect("updates");
        let report = world.backup(&path);
        world.assert_restores(SOURCE, report.snapshot.expect("committed"), &path);
        let named = entries(&world);
        assert!(named.len() == left && named.iter().all(|entry| entry.number != lost.number), "{named:?}");
    }
}

#[test]
fn without_any_copy_of_the_dictionary_its_leaves_are_lost_and_named() {
    let world = StoredWorld::new();
    let path = database(&world, 400);
    world.backup(&path);
    let source = world.source(SOURCE);
    let keys = world.unlock(Role::Auditor).structure(source, Epoch(1)).expect("a structure key");
    for (pack, size) in packs(&world, SOURCE) {
        let table = PackTable::read(&world.objects(), &keys, pack, size).expect("a table");
        for entry in table.entries.iter().filter(|entry| entry.kind == FrameType::Dictionary) {
            let at = sidekeep::repo::open_pack::location(entry, table.frames_start);
            damage(&world, &Name::Pack(source, pack), u64::from(at.offset) + 3);
        }
    }
    let report = world.try_restore(Selector::Latest(0), &world.path("restored")).expect("a restore");
    let damaged = report.damaged();
    assert!(
        !damaged.is_empty() && damaged.iter().all(|finding| format!("{finding:?}").contains("dictionary")),
        "{damaged:#?}"
    );
    let restored = Connection::open(world.path("restored")).expect("opens");
    let users: u32 = restored.query_row("SELECT count(*) FROM users", [], |row| row.get(0)).expect("a count");
    assert_eq!(users, 400, "other tables are whole");
    let verified = world.verify(Some(Role::Admin), VerifyLevel::Deep).expect("deep");
    assert!(!verified.findings.is_empty());
}
