//! An admin takes back what a forget or prune removed.

use sidekeep::base::id::{Digest, Epoch, SessionId};
use sidekeep::base::role::Role;
use sidekeep::base::time::Moment;
use sidekeep::format::entry::{EntryBody, Erase, Forget, ObjectRef, Prune, Readmit, ReplacedManifest, Tag, TagChange};
use sidekeep::ops::select::Selector;

use crate::ledger::fixture::{Fixture, digest, object, snapshot};

fn backup(n: u8) -> EntryBody {
    EntryBody::Snapshot(snapshot(n))
}

fn reason() -> String {
    "a test".to_owned()
}

fn forget(fixture: &Fixture, snapshots: Vec<Digest>) {
    let forget = Forget { snapshots, reason: reason() };
    fixture.appended(EntryBody::Forget(forget), &fixture.key(Role::Maintainer));
}

fn prune(fixture: &Fixture, packs: Vec<Digest>, manifests: Vec<Digest>) {
    fixture.appended(EntryBody::Prune(Prune { packs, manifests }), &fixture.key(Role::Maintainer));
}

fn readmit(fixture: &Fixture, snapshots: Vec<Digest>, manifests: Vec<Digest>, packs: Vec<Digest>) {
    let readmit = Readmit { snapshots, manifests, packs, reason: reason() };
    fixture.appended(EntryBody::Readmit(readmit), &fixture.key(Role::Admin));
}

fn manifests(fixture: &Fixture) -> Vec<(Digest, u64)> {
    fixture.ledger().manifests().collect()
}

#[test]
fn a_forgotten_snapshot_exists_again_with_its_tags() {
    let fixture = Fixture::new();
    let first = fixture.appended(backup(1), &fixture.key(Role::Operator)).sha256;
    fixture.appended(backup(2), &fixture.key(Role::Operator));
    let tag = Tag { snapshot: first, tag: "kept".to_owned(), change: TagChange::Put };
    fixture.appended(EntryBody::Tag(tag), &fixture.key(Role::Maintainer));
    forget(&fixture, vec![first]);
    assert_eq!(manifests(&fixture), [(digest(2), 2)]);
    readmit(&fixture, vec![first, digest(77)], vec![digest(78)], vec![digest(79)]);
    let ledger = fixture.ledger();
    let found = Selector::parse("kept").find(&ledger).expect("a snapshot").id;
    assert_eq!((found, ledger.live().count(), manifests(&fixture)), (first, 2, vec![(digest(1), 1), (digest(2), 2)]));
    // It can be forgotten again.
    forget(&fixture, vec![first]);
    assert_eq!((fixture.ledger().live().count(), manifests(&fixture)), (1, vec![(digest(2), 2)]));
}

/// The pruner may have been suspended, and still deletes the pack when it wakes up.
#[test]
fn a_readmitted_pack_is_as_it_was_added_and_nobody_deduplicates_against_it() {
    let fixture = Fixture::new();
    let operator = fixture.key(Role::Operator);
    let first = fixture.appended(backup(1), &operator).sha256;
    fixture.appended(backup(2), &operator);
    forget(&fixture, vec![first]);
    prune(&fixture, vec![digest(101)], vec![digest(1)]);
    readmit(&fixture, vec![first], vec![], vec![digest(101)]);
    assert_eq!(manifests(&fixture), [(digest(2), 2)], "a pruned manifest must be named");
    readmit(&fixture, vec![], vec![digest(1), digest(101)], vec![digest(1)]);
    let ledger = fixture.ledger();
    let packs: Vec<_> = ledger.inventory().map(|pack| (pack.digest, pack.size, pack.signer, pack.entry)).collect();
    let by = operator.key_id();
    assert_eq!(packs, [(digest(102), 102, by, 2), (digest(101), 101, by, 1)]);
    assert_eq!(ledger.inventory().map(|pack| ledger.trusts_pack(pack)).collect::<Vec<_>>(), [true, false]);
    assert_eq!(manifests(&fixture), [(digest(1), 1), (digest(2), 2)]);
    // Nor after another snapshot has added it again.
    let mut third = snapshot(3);
    third.packs = vec![object(101)];
    prune(&fixture, vec![digest(101)], vec![]);
    fixture.appended(EntryBody::Snapshot(third), &operator);
    let ledger = fixture.ledger();
    assert!(ledger.inventory().all(|pack| ledger.trusts_pack(pack) == (pack.digest != digest(101))));
}

/// A thief adds a pruned pack again, with another size, and prunes it. The admin readmits what was there first.
#[test]
fn the_first_entry_that_added_an_object_counts() {
    let fixture = Fixture::new();
    let (operator, thief) =
        (fixture.key(Role::Operator), fixture.enrol(Role::Operator, Some(sidekeep::base::role::SourceScope::All)));
    let first = fixture.appended(backup(1), &operator).sha256;
    prune(&fixture, vec![digest(101)], vec![]);
    forget(&fixture, vec![first]);
    let mut second = snapshot(2);
    second.packs = vec![ObjectRef { sha256: digest(101), size: 7 }];
    second.manifest = ObjectRef { sha256: digest(1), size: 9 };
    let second = fixture.appended(EntryBody::Snapshot(second), &thief).sha256;
    prune(&fixture, vec![digest(101)], vec![]);
    forget(&fixture, vec![second]);
    readmit(&fixture, vec![second], vec![], vec![digest(101)]);
    let packs: Vec<_> = fixture.ledger().inventory().map(|pack| (pack.digest, pack.size, pack.signer)).collect();
    assert_eq!(packs, [(digest(101), 101, operator.key_id())]);
    assert_eq!(manifests(&fixture), [(digest(1), 1)]);
}

/// Otherwise a readmitted snapshot would bring an erased person back.
#[test]
fn what_an_erase_removed_stays_away() {
    let fixture = Fixture::new();
    let operator = fixture.key(Role::Operator);
    let first = fixture.appended(backup(1), &operator).sha256;
    let second = fixture.appended(backup(2), &operator).sha256;
    forget(&fixture, vec![first]);
    let replaced = |old, new| ReplacedManifest { old: digest(old), new: object(new) };
    let (epoch, session, reason) = (Epoch(1), SessionId::new([9; 16]), reason());
    let erase = Erase { epoch, session, manifests: vec![replaced(1, 51), replaced(2, 52)], packs: vec![], reason };
    fixture.appended(EntryBody::Erase(erase), &fixture.key(Role::Admin));
    readmit(&fixture, vec![first, second], vec![digest(1), digest(2)], vec![]);
    let live: Vec<_> = fixture.ledger().live().map(|record| (record.id, record.snapshot.manifest.sha256)).collect();
    assert_eq!(live, [(second, digest(52))]);
    // The manifest of the erase itself can be forgotten and readmitted.
    forget(&fixture, vec![second]);
    readmit(&fixture, vec![second], vec![], vec![]);
    assert_eq!(fixture.ledger().live().count(), 1);
}

/// A thief's snapshot, dated far in the future, is forgotten. An admin who readmits it must not end all backups.
#[test]
fn a_readmitted_image_does_not_count_for_the_clock_of_later_ones() {
    let fixture = Fixture::new();
    let operator = fixture.key(Role::Operator);
    fixture.appended(backup(1), &operator);
    let future = fixture.appended(backup(150), &operator).sha256;
    forget(&fixture, vec![future]);
    fixture.appended(backup(2), &operator);
    readmit(&fixture, vec![future], vec![], vec![]);
    assert_eq!(fixture.ledger().newest_image(), Some(Moment(2_000_000)));
    let third = fixture.appended(backup(3), &operator).sha256;
    let ledger = fixture.ledger();
    let found = |text: &str| Selector::parse(text).find(&ledger).expect("a snapshot").id;
    assert_eq!((found("latest"), found("latest~1")), (future, third), "the latest goes by the clock of the source");
    assert_eq!(ledger.newest().map(|record| record.id), Some(future));
}

#[test]
fn only_an_admin_readmits() {
    let fixture = Fixture::new();
    let first = fixture.appended(backup(1), &fixture.key(Role::Operator)).sha256;
    forget(&fixture, vec![first]);
    let body =
        || EntryBody::Readmit(Readmit { snapshots: vec![first], manifests: vec![], packs: vec![], reason: reason() });
    for role in [Role::Operator, Role::Maintainer, Role::Auditor] {
        assert!(fixture.why_void(fixture.entry(body(), &fixture.key(role), |_| {})).is_some(), "{role}");
    }
    assert_eq!(fixture.ledger().live().count(), 0);
    assert_eq!(fixture.why_void(fixture.entry(body(), &fixture.key(Role::Recovery), |_| {})), None);
    assert_eq!(fixture.ledger().live().count(), 1);
}
