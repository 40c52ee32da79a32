//! A source with thousands of snapshots.

use crate::support::world::data::create_service;
use crate::support::world::{SOURCE, World};
use sidekeep::base::id::{Digest, Epoch};
use sidekeep::base::role::Role;
use sidekeep::base::time::Moment;
use sidekeep::format::dsse::encode;
use sidekeep::format::entry::{Entry, EntryBody, Snapshot};
use sidekeep::format::name::Name;
use sidekeep::ops::select::Selector;
use sidekeep::ops::verify::VerifyLevel;

/// Commits the newest snapshot `count` more times, each a second later.
fn repeat_newest(world: &World, count: usize) {
    let ledger = world.ledger(SOURCE);
    let newest = ledger.newest().expect("a snapshot").snapshot.clone();
    let key = world.key(Role::Operator);
    let mut place = ledger.next_place().expect("a place");
    for second in 1..=count {
        let clock = Moment(newest.source_clock.0 + second as i64);
        let body = EntryBody::Snapshot(Snapshot::new(clock, newest.manifest, newest.session, Epoch(1)));
        let entry = Entry { place: place.clone(), written: world.env.now(), body };
        let bytes = encode(&entry, key.key_id(), |message| key.sign(message)).expect("encodes");
        place.number += 1;
        place.previous = Digest::of(&bytes);
        let name = Name::Ledger(ledger.source, place.number - 1);
        world.objects().create(&name, bytes.into()).expect("stores");
    }
}

fn snapshots_are_usable(count: usize) {
    let world = World::new();
    let path = world.path("live.sqlite");
    let database = create_service(&path, 20);
    world.backup(&path);
    let back = world.path("first.sqlite");
    std::fs::copy(&path, &back).expect("copies");
    repeat_newest(&world, count);

    database.execute("UPDATE settings SET value = 'changed'", []).expect("updates");
    let last = world.backup(&path);
    assert!(last.new_bytes < 40 << 10, "{last:?}");
    assert_eq!(world.ledger(SOURCE).live().count(), count + 2);
    world.assert_restores(SOURCE, last.snapshot.expect("committed"), &path);
    let middle = world.path("middle.sqlite");
    world.try_restore(Selector::Latest(count / 2), &middle).expect("restores");
    crate::support::sqlite::assert_same_database(&back, &middle);
    let report = world.verify(Some(Role::Admin), VerifyLevel::Structure).expect("verifies");
    assert!(report.findings.is_empty(), "{:?}", report.findings);
}

#[test]
fn a_source_with_hundreds_of_snapshots_is_usable() {
    snapshots_are_usable(300);
}

#[test]
#[ignore = "needs minutes"]
fn a_source_with_ten_thousand_snapshots_is_usable() {
    snapshots_are_usable(10_000);
}
