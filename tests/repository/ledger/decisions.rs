//! What admins say about snapshots and lost entries, and what it means for the fold.

use sidekeep::base::id::{Digest, Epoch};
use sidekeep::base::role::Role;
use sidekeep::base::time::Moment;
use sidekeep::format::entry::{
    Accept, AcceptLoss, EntryBody, Hold, HoldEnd, Numbered, Reject, Repack, RepackedPack, Revoke, SnapshotReason,
};
use sidekeep::format::name::Name;
use sidekeep::repo::ledger::SnapshotRecord;

use crate::ledger::fixture::{Fixture, digest, prune, snapshot};

fn reason() -> String {
    "a test".to_owned()
}

/// Commits snapshot `n`, which is suspect if it was compared with another one.
fn commit(fixture: &Fixture, n: u8, baseline: Option<Digest>) -> Digest {
    let mut new = snapshot(n);
    new.baselines.extend(baseline);
    new.reasons.extend(baseline.map(|baseline| against(Some(baseline))));
    fixture.appended(EntryBody::Snapshot(new), &fixture.key(Role::Operator)).sha256
}

fn against(baseline: Option<Digest>) -> SnapshotReason {
    SnapshotReason { reason: "rows".to_owned(), table: None, found: Some(990), limit: Some(200), baseline }
}

fn accept(fixture: &Fixture, snapshot: Digest) {
    fixture.appended(EntryBody::Accept(Accept { snapshot, reason: reason() }), &fixture.key(Role::Admin));
}

fn reject(fixture: &Fixture, snapshot: Digest) {
    fixture.appended(EntryBody::Reject(Reject { snapshot, reason: reason() }), &fixture.key(Role::Recovery));
}

/// Which snapshots are clean, oldest first.
fn clean(fixture: &Fixture) -> Vec<bool> {
    fixture.ledger().snapshots.iter().map(SnapshotRecord::is_clean).collect()
}

#[test]
fn the_last_word_about_a_snapshot_counts() {
    let fixture = Fixture::new();
    let first = commit(&fixture, 1, None);
    let second = commit(&fixture, 2, Some(first));
    assert_eq!(clean(&fixture), [true, false]);
    accept(&fixture, second);
    assert_eq!(clean(&fixture), [true, true]);
    reject(&fixture, second);
    reject(&fixture, first);
    assert_eq!(clean(&fixture), [false, false]);
    accept(&fixture, first);
    assert_eq!(clean(&fixture), [true, false]);
    // A rejected snapshot stays.
    assert_eq!(fixture.ledger().live().count(), 2);
}

#[test]
fn a_reason_drops_once_an_accepted_snapshot_supersedes_its_baseline() {
    let fixture = Fixture::new();
    let first = commit(&fixture, 1, None);
    let second = commit(&fixture, 2, Some(first));
    commit(&fixture, 3, Some(first));
    // Suspect for a reason that no comparison explains, and compared with a snapshot that is not in the ledger.
    let mut other = snapshot(4);
    other.reasons = vec![against(Some(first)), against(None)];
    other.baselines = vec![first];
    fixture.appended(EntryBody::Snapshot(other), &fixture.key(Role::Operator));
    commit(&fixture, 5, Some(digest(99)));
    assert_eq!(clean(&fixture), [true, false, false, false, false]);
    accept(&fixture, second);
    assert_eq!(clean(&fixture), [true, true, true, false, false]);
    assert_eq!(fixture.ledger().snapshots[3].reasons, [against(None)]);
    commit(&fixture, 6, Some(first));
    commit(&fixture, 7, Some(second));
    assert_eq!(clean(&fixture), [true, true, true, false, false, true, false]);
    reject(&fixture, second);
    assert_eq!(clean(&fixture), [true, false, false, false, false, false, false]);
}

#[test]
fn a_maintainer_neither_releases_nor_shortens_an_admins_hold() {
    let fixture = Fixture::new();
    let first = commit(&fixture, 1, None);
    let hold = |role, end| {
        let hold = Hold { snapshot: first, end, reason: reason() };
        fixture.appended(EntryBody::Hold(hold), &fixture.key(role));
        let holds = fixture.ledger().snapshots[0].holds;
        [Moment(10), Moment(1000)].map(|now| holds.hold_at(now))
    };
    assert_eq!(hold(Role::Maintainer, HoldEnd::Never), [true, true]);
    assert_eq!(hold(Role::Maintainer, HoldEnd::At(Moment(100))), [true, false]);
    assert_eq!(hold(Role::Maintainer, HoldEnd::Now), [false, false]);
    assert_eq!(hold(Role::Admin, HoldEnd::Never), [true, true]);
    assert_eq!(hold(Role::Maintainer, HoldEnd::At(Moment(1))), [true, true]);
    assert_eq!(hold(Role::Maintainer, HoldEnd::Now), [true, true]);
    assert_eq!(hold(Role::Maintainer, HoldEnd::Never), [true, true]);
    assert_eq!(hold(Role::Recovery, HoldEnd::At(Moment(100))), [true, false]);
    assert_eq!(hold(Role::Admin, HoldEnd::Now), [false, false]);
}

#[test]
fn entries_that_an_admin_gives_up_count_as_forgotten() {
    let fixture = Fixture::new();
    let operator = fixture.key(Role::Operator);
    for n in 1..=4 {
        commit(&fixture, n, None);
    }
    let lost = Name::Ledger(fixture.source, 2);
    // Entry 4 becomes litter. Entry 2 is lost, and its number is taken by the answer to that.
    fixture.put_entry(4, b"litter".to_vec());
    fixture.runtime.block_on(fixture.store().delete(&lost.to_string())).expect("deletes");
    let loss = EntryBody::AcceptLoss(AcceptLoss { numbers: 2..=4, reason: reason() });
    assert_eq!(fixture.appended(loss, &fixture.key(Role::Admin)).number, 2);
    let ledger = fixture.ledger();
    assert_eq!((ledger.live().count(), ledger.voids.len(), ledger.warnings().len()), (1, 0, 0));
    assert_eq!(ledger.given_up().into_iter().collect::<Vec<_>>(), [digest(3), digest(103)]);
    // Another entry adds what was given up, so it is in the inventory.
    let mut again = snapshot(5);
    again.packs.push(snapshot(3).packs[0]);
    let at = fixture.appended(EntryBody::Snapshot(again), &operator);
    assert_eq!(at.number, 5);
    assert_eq!(fixture.ledger().given_up().into_iter().collect::<Vec<_>>(), [digest(3)]);
}

#[test]
fn only_what_an_entitled_key_wrote_for_its_number_is_given_up() {
    let fixture = Fixture::new();
    let elsewhere = |place: &mut sidekeep::format::entry::ChainPlace| place.previous = digest(1);
    let entry = |n, by: &_| fixture.entry(EntryBody::Snapshot(snapshot(n)), by, elsewhere);
    assert!(fixture.why_void(entry(1, &fixture.key(Role::Operator))).is_some());
    assert!(fixture.why_void(entry(2, &fixture.key(Role::Admin))).is_some());
    assert!(fixture.why_void(entry(3, &fixture.stranger(Role::Operator))).is_some());
    let copied = fixture.get(&Name::Ledger(fixture.source, 1)).to_vec();
    assert!(fixture.why_void(copied).is_some());
    assert!(fixture.ledger().given_up().is_empty());
    let loss = |numbers| EntryBody::AcceptLoss(AcceptLoss { numbers, reason: reason() });
    fixture.appended(loss(2..=9), &fixture.key(Role::Admin));
    assert!(fixture.ledger().given_up().is_empty());
    assert_eq!(fixture.ledger().voids.len(), 1);
    fixture.appended(loss(1..=1), &fixture.key(Role::Admin));
    assert_eq!(fixture.ledger().given_up().into_iter().collect::<Vec<_>>(), [digest(1), digest(101)]);
}

#[test]
fn a_repacked_pack_is_trusted_while_its_signer_and_all_movers_are() {
    let fixture = Fixture::new();
    let (operator, maintainer) = (fixture.key(Role::Operator), fixture.key(Role::Maintainer));
    commit(&fixture, 1, None);
    let earlier = fixture.enrol(Role::Maintainer, None);
    let pack = |n, movers| RepackedPack { sha256: digest(n), size: 1, signer: operator.key_id(), movers };
    let added = vec![pack(70, vec![]), pack(71, vec![earlier.key_id()])];
    let repack = Repack { epoch: Epoch(1), packs: vec![digest(101)], added };
    fixture.appended(EntryBody::Repack(repack), &maintainer);
    let trusted = || {
        let ledger = fixture.ledger();
        ledger.inventory().map(|pack| ledger.trusts_pack(pack)).collect::<Vec<_>>()
    };
    assert_eq!(trusted(), [true, true]);
    let revoke = |key| fixture.appended(EntryBody::Revoke(Revoke { key }), &fixture.key(Role::Admin));
    revoke(earlier.key_id());
    assert_eq!(trusted(), [true, false]);
    revoke(maintainer.key_id());
    assert_eq!(trusted(), [false, false]);
}

#[test]
fn an_entry_that_saw_a_roster_entry_which_was_given_up_counts_and_raises_no_head() {
    use sidekeep::format::roster::RosterStatement;
    let fixture = Fixture::new();
    let operator = fixture.key(Role::Operator);
    let unseen = Numbered { number: 1_000_000, sha256: digest(9) };
    let entry = fixture.entry(EntryBody::Snapshot(snapshot(1)), &operator, |place| place.roster = unseen);
    fixture.put_entry(1, entry);
    assert!(fixture.try_ledger().is_err());
    let loss = AcceptLoss { numbers: 5..=1_000_000, reason: reason() };
    fixture.state(Role::Admin, vec![RosterStatement::AcceptLoss(loss)]);
    assert_eq!(fixture.ledger().live().count(), 1);
    commit(&fixture, 2, None);
    fixture.appended(prune(&[99]), &fixture.key(Role::Maintainer));
    assert_eq!((fixture.ledger().live().count(), fixture.ledger().voids.len()), (2, 0));
}
