//! A hole in a chain: nothing is written at the number of an entry that is missing while a later one counts.

use bytes::Bytes;
use sidekeep::base::id::SourceId;
use sidekeep::base::revocation::RevocationReason;
use sidekeep::base::role::{Role, SourceScope};
use sidekeep::format::entry::{AcceptLoss, ChainPlace, Entry, EntryBody, Numbered};
use sidekeep::format::name::Name;
use sidekeep::format::roster::{RevokeKey, RosterStatement};
use sidekeep::repo::append::Appended;
use sidekeep::repo::create::add_source;
use sidekeep::repo::error::RepoError;

use crate::ledger::fixture::{Fixture, digest, snapshot};
use crate::support::stores::damage;

fn backup(n: u8) -> EntryBody {
    EntryBody::Snapshot(snapshot(n))
}

/// A ledger with this many snapshots.
fn with_snapshots(count: u8) -> Fixture {
    let fixture = Fixture::new();
    for n in 1..=count {
        fixture.appended(backup(n), &fixture.key(Role::Operator));
    }
    fixture
}

fn delete(fixture: &Fixture, name: &Name) -> Bytes {
    let bytes = fixture.get(name);
    fixture.runtime.block_on(damage::delete(&*fixture.memory, &name.to_string()));
    bytes
}

fn is_hole(result: &Result<Appended, RepoError>) -> bool {
    matches!(result, Err(RepoError::Hole { .. }))
}

#[test]
fn no_role_but_an_admin_who_accepts_the_loss_writes_into_a_hole() {
    let fixture = with_snapshots(15);
    let lost = fixture.ledger().digests[6];
    delete(&fixture, &Name::Ledger(fixture.source, 7));
    for (body, role) in [
        (backup(20), Role::Operator),
        (crate::ledger::fixture::prune(&[101]), Role::Maintainer),
        (EntryBody::Revoke(crate::ledger::fixture::revoke(fixture.key(Role::Operator).key_id())), Role::Admin),
    ] {
        let refused = fixture.append(body, &fixture.key(role));
        assert!(is_hole(&refused), "{role}: {refused:?}");
    }
    let loss = AcceptLoss { lost: vec![Numbered { number: 7, sha256: lost }], reason: "burnt".to_owned() };
    assert_eq!(fixture.appended(EntryBody::AcceptLoss(loss), &fixture.key(Role::Admin)).number, 7);
    assert_eq!(fixture.appended(backup(20), &fixture.key(Role::Operator)).number, 16);
    // Entries 7 and 8 are lost, the others count.
    assert_eq!(fixture.ledger().live().count(), 14);
}

#[test]
fn only_entries_of_this_chain_by_trusted_keys_bind() {
    let fixture = with_snapshots(2);
    let thief = fixture.enrol(Role::Operator, Some(SourceScope::All));
    let operator = fixture.key(Role::Operator);
    let at = |number: u64| move |place: &mut ChainPlace| place.number = number;
    for junk in [
        b"junk".to_vec(),
        vec![],
        fixture.entry(backup(5), &fixture.stranger(Role::Operator), at(5)),
        fixture.entry(backup(5), &fixture.key(Role::Auditor), at(5)),
        fixture.entry(backup(5), &operator, at(6)),
        fixture.entry(backup(5), &operator, |place| {
            (place.number, place.source) = (5, SourceId::new([9; 16]));
        }),
    ] {
        fixture.put_entry(5, junk);
        fixture.ledger().check_complete(&fixture.repository()).expect("nothing binds");
    }
    fixture.put_entry(5, fixture.entry(backup(5), &thief, at(5)));
    assert!(is_hole(&fixture.append(backup(3), &operator)));
    fixture.state(
        Role::Admin,
        vec![RosterStatement::Revoke(RevokeKey { key: thief.key_id(), reason: RevocationReason::Stolen })],
    );
    assert_eq!(fixture.appended(backup(3), &operator).number, 3);
}

#[test]
fn a_hole_in_the_roster_stops_writers_of_the_roster_and_of_ledgers() {
    let fixture = with_snapshots(1);
    let head = fixture.repository().roster().head().number;
    let thief = fixture.enrol(Role::Operator, Some(SourceScope::All));
    fixture.state(
        Role::Admin,
        vec![RosterStatement::Revoke(RevokeKey { key: thief.key_id(), reason: RevocationReason::Stolen })],
    );
    fixture.add_source("photos");
    let lost = Name::Roster(head + 2);
    let bytes = delete(&fixture, &lost);
    assert!(is_hole(&fixture.append(backup(2), &fixture.key(Role::Operator))));
    let mut unlocked = fixture.unlock(Role::Operator);
    let refused = add_source(&mut unlocked, "calendar");
    let Err(RepoError::Hole { object, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!(object, lost.to_string());
    fixture.put(&lost, bytes);
    add_source(&mut fixture.unlock(Role::Operator), "calendar").expect("adds");
}

/// A thief who may create objects can add any number of them beyond a hole. Honest chains have valid ones there.
#[test]
fn a_hole_in_a_long_chain_costs_few_requests() {
    let fixture = with_snapshots(60);
    delete(&fixture, &Name::Ledger(fixture.source, 3));
    let ledger = fixture.ledger();
    let before = fixture.store().counters();
    let refused = ledger.check_complete(&fixture.repository());
    let requests = fixture.store().counters().since(&before).requests();
    assert!(matches!(refused, Err(RepoError::Hole { .. })));
    // Descriptor, listing and entries of the roster, and 8 entries of the ledger.
    assert!(requests <= 16, "{requests}");
}

#[test]
fn an_entry_that_a_listing_does_not_show_leaves_no_hole() {
    let fixture = with_snapshots(3);
    let place = fixture.place();
    let entry =
        Entry { place: ChainPlace { previous: digest(1), ..place }, written: fixture.env.now(), body: backup(4) };
    fixture.put_entry(4, fixture.sign(&entry, &fixture.key(Role::Operator)));
    fixture.ledger().check_complete(&fixture.repository()).expect("complete");
}
