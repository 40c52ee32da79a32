//! What admins say about snapshots and lost entries, and what it means for the fold.

use sidekeep::base::id::{Digest, Epoch, SessionId};
use sidekeep::base::revocation::RevocationReason;
use sidekeep::base::role::{Role, SourceScope};
use sidekeep::base::time::Moment;
use sidekeep::crypto::role::Identity;
use sidekeep::format::entry::{
    Accept, AcceptLoss, ChainPlace, Entry, EntryBody, Erase, Forget, Hold, HoldEnd, Numbered, ObjectRef, Reject,
    Repack, RepackedPack, ReplacedManifest, Revoke, Snapshot, SnapshotReason,
};
use sidekeep::format::name::Name;
use sidekeep::format::roster::{RevokeKey, RosterStatement};
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

fn accept_loss(lost: &[Numbered]) -> AcceptLoss {
    AcceptLoss { lost: lost.to_vec(), reason: reason() }
}

/// Loses an entry of the ledger, and lets an admin take its number.
fn give_up(fixture: &Fixture, number: u64, lost: &[Numbered]) {
    let name = Name::Ledger(fixture.source, number);
    fixture.runtime.block_on(fixture.store().delete(&name.to_string())).expect("deletes");
    let loss = EntryBody::AcceptLoss(accept_loss(lost));
    assert_eq!(fixture.appended(loss, &fixture.key(Role::Admin)).number, number);
}

#[test]
fn what_follows_a_lost_entry_counts_as_forgotten() {
    let fixture = Fixture::new();
    let operator = fixture.key(Role::Operator);
    for n in 1..=4 {
        commit(&fixture, n, None);
    }
    give_up(&fixture, 2, &[]);
    let ledger = fixture.ledger();
    // Entry 3 names the lost one. Entry 4 counts.
    assert_eq!((ledger.live().count(), ledger.voids.len(), ledger.warnings().len()), (2, 0, 0));
    assert_eq!(ledger.given_up().into_iter().collect::<Vec<_>>(), [digest(3), digest(103)]);
    // Another entry adds what was given up, so it is in the inventory.
    let mut again = snapshot(5);
    again.packs.push(snapshot(3).packs[0]);
    let at = fixture.appended(EntryBody::Snapshot(again), &operator);
    assert_eq!(at.number, 5);
    assert_eq!(fixture.ledger().given_up().into_iter().collect::<Vec<_>>(), [digest(3)]);
}

#[test]
fn several_lost_entries_are_given_up_one_by_one() {
    let fixture = Fixture::new();
    for n in 1..=5 {
        commit(&fixture, n, None);
    }
    let third = Name::Ledger(fixture.source, 3);
    fixture.runtime.block_on(fixture.store().delete(&third.to_string())).expect("deletes");
    give_up(&fixture, 2, &[]);
    assert_eq!((fixture.ledger().live().count(), fixture.ledger().ignored.len()), (1, 2));
    give_up(&fixture, 3, &[]);
    let ledger = fixture.ledger();
    assert_eq!((ledger.live().count(), ledger.voids.len(), ledger.ignored.len()), (2, 0, 0));
    assert_eq!(ledger.given_up().into_iter().collect::<Vec<_>>(), [digest(4), digest(104)]);
}

/// A stolen admin key would otherwise hide what was altered, for ever.
#[test]
fn an_accept_loss_silences_only_the_entry_after_it() {
    let fixture = Fixture::new();
    let admin = fixture.key(Role::Admin);
    commit(&fixture, 1, None);
    let elsewhere = |place: &mut ChainPlace| place.previous = digest(1);
    let entry = |n, by: &_| fixture.entry(EntryBody::Snapshot(snapshot(n)), by, elsewhere);
    assert!(fixture.why_void(entry(2, &fixture.key(Role::Operator))).is_some());
    let numbers = [2, 3, 4, 5, 1_000_000].map(|number| Numbered { number, sha256: digest(1) });
    fixture.appended(EntryBody::AcceptLoss(accept_loss(&numbers)), &admin);
    assert_eq!(fixture.ledger().voids.len(), 1, "it was there before");
    let copied = fixture.get(&Name::Ledger(fixture.source, 1)).to_vec();
    for litter in [entry(3, &fixture.key(Role::Admin)), entry(3, &fixture.stranger(Role::Operator)), copied] {
        fixture.put_entry(4, litter);
        assert_eq!(fixture.ledger().voids.len(), 2);
    }
    fixture.put_entry(4, fixture_entry_that_is_void_by_itself(&fixture));
    assert_eq!(fixture.ledger().voids.len(), 2, "it names the entry before it");
    assert!(fixture.ledger().given_up().is_empty());
    fixture.put_entry(4, b"litter".to_vec());
    assert!(fixture.why_void(entry(5, &fixture.key(Role::Operator))).is_some());
    assert_eq!((fixture.ledger().voids.len(), fixture.ledger().given_up().len()), (3, 0));
}

/// An entry 4 that names entry 3, but whose image is old.
fn fixture_entry_that_is_void_by_itself(fixture: &Fixture) -> Vec<u8> {
    let name = Name::Ledger(fixture.source, 4);
    fixture.runtime.block_on(fixture.store().delete(&name.to_string())).expect("deletes");
    fixture.entry(EntryBody::Snapshot(snapshot(1)), &fixture.key(Role::Operator), |_| {})
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
    let revoke = |key| {
        fixture.appended(EntryBody::Revoke(Revoke { key, reason: RevocationReason::Stolen }), &fixture.key(Role::Admin))
    };
    revoke(earlier.key_id());
    assert_eq!(trusted(), [true, false]);
    revoke(maintainer.key_id());
    assert_eq!(trusted(), [false, false]);
}

/// An entry whose signer claims to have seen this roster entry.
fn having_seen(fixture: &Fixture, by: &Identity, n: u8, seen: Numbered) -> Vec<u8> {
    fixture.entry(EntryBody::Snapshot(snapshot(n)), by, |place| place.roster = seen)
}

#[test]
fn an_entry_that_saw_a_lost_roster_entry_counts_and_raises_no_head() {
    let fixture = Fixture::new();
    let operator = fixture.key(Role::Operator);
    let unseen = Numbered { number: 1_000_000, sha256: digest(9) };
    fixture.put_entry(1, having_seen(&fixture, &operator, 1, unseen));
    assert_eq!(fixture.ledger().roster_findings().len(), 1);
    assert!(fixture.append(prune(&[99]), &fixture.key(Role::Maintainer)).is_err());
    fixture.state(Role::Admin, vec![RosterStatement::AcceptLoss(accept_loss(&[unseen]))]);
    assert_eq!(fixture.ledger().live().count(), 1);
    commit(&fixture, 2, None);
    fixture.appended(prune(&[99]), &fixture.key(Role::Maintainer));
    assert_eq!((fixture.ledger().live().count(), fixture.ledger().voids.len()), (2, 0));
}

/// Otherwise a roster could be rolled back unnoticed for ever, once an admin had given up some numbers.
#[test]
fn only_the_digests_of_lost_roster_entries_pass() {
    let fixture = Fixture::new();
    let operator = fixture.key(Role::Operator);
    let unseen = Numbered { number: 1_000_000, sha256: digest(9) };
    fixture.state(Role::Admin, vec![RosterStatement::AcceptLoss(accept_loss(&[unseen]))]);
    let seen = [Numbered { number: 999_999, ..unseen }, Numbered { sha256: digest(8), ..unseen }];
    let sound = having_seen(&fixture, &operator, 1, unseen);
    for entry in seen.map(|seen| having_seen(&fixture, &operator, 1, seen)) {
        fixture.put_entry(1, entry);
        assert_eq!(fixture.ledger().roster_findings().len(), 1);
    }
    fixture.put_entry(1, sound);
    assert_eq!((fixture.ledger().live().count(), fixture.ledger().roster_findings().len()), (1, 0));
}

/// The store drops the roster entries with a revocation, which ledger entries have seen. The admin repeats it.
#[test]
fn a_revocation_in_an_accept_loss_holds_for_everybody_who_saw_what_was_lost() {
    let fixture = Fixture::new();
    let thief = fixture.enrol(Role::Operator, Some(SourceScope::All));
    let lost = Numbered { number: 50, sha256: digest(9) };
    let head = fixture.repository().roster().head();
    let revoke = RosterStatement::Revoke(RevokeKey { key: thief.key_id(), reason: RevocationReason::Stolen });
    fixture.state(Role::Admin, vec![RosterStatement::AcceptLoss(accept_loss(&[lost])), revoke]);
    let why = fixture.why_void(having_seen(&fixture, &thief, 1, lost));
    assert_eq!(why.as_deref(), Some("its signer was not entitled to it at this position"));
    assert!(fixture.why_void(having_seen(&fixture, &thief, 1, head)).is_none(), "it was written before");
    // Later revocations do not reach back.
    let operator = fixture.key(Role::Operator);
    assert!(fixture.why_void(having_seen(&fixture, &operator, 2, lost)).is_none());
    fixture.state(
        Role::Admin,
        vec![RosterStatement::Revoke(RevokeKey { key: operator.key_id(), reason: RevocationReason::Stolen })],
    );
    assert_eq!(fixture.ledger().live().count(), 2);
}

#[test]
fn an_entry_that_names_a_lost_roster_entry_cannot_return_to_it() {
    let fixture = Fixture::new();
    let operator = fixture.key(Role::Operator);
    let lost = Numbered { number: 50, sha256: digest(9) };
    fixture.state(Role::Admin, vec![RosterStatement::AcceptLoss(accept_loss(&[lost]))]);
    fixture.enrol(Role::Auditor, None);
    commit(&fixture, 1, None);
    let why = fixture.why_void(having_seen(&fixture, &operator, 2, lost));
    assert_eq!(why.as_deref(), Some("its signer had seen an older roster than the previous entry"));
}

#[test]
fn a_manifest_stays_while_a_snapshot_has_it() {
    let fixture = Fixture::new();
    let first = commit(&fixture, 1, None);
    let mut copy = snapshot(2);
    copy.manifest = ObjectRef { size: 99, ..snapshot(1).manifest };
    let copy = fixture.appended(EntryBody::Snapshot(copy), &fixture.key(Role::Operator)).sha256;
    let forget = |snapshots| {
        let forget = EntryBody::Forget(Forget { snapshots, reason: reason() });
        fixture.appended(forget, &fixture.key(Role::Maintainer));
        fixture.ledger().manifests().collect::<Vec<_>>()
    };
    let manifest = snapshot(1).manifest;
    assert_eq!(forget(vec![copy]), [(manifest.sha256, manifest.size)]);
    assert_eq!(forget(vec![first, copy]), []);
}

#[test]
fn many_snapshots_are_erased_and_forgotten_by_one_entry_each() {
    let fixture = Fixture::new();
    let operator = fixture.key(Role::Operator);
    let digest = |kind: &str, n: u64| Digest::of(format!("{kind} {n}").as_bytes());
    let object = |kind, n| ObjectRef { sha256: digest(kind, n), size: 1 };
    let mut place = fixture.place();
    let mut put = |body, by: &Identity| {
        let bytes = fixture.sign(&Entry { place: place.clone(), written: fixture.env.now(), body }, by);
        place.number += 1;
        place.previous = Digest::of(&bytes);
        fixture.put_entry(place.number - 1, bytes);
        place.previous
    };
    let runs = 40;
    let mut ids = Vec::new();
    for n in 0..runs {
        let session = SessionId::new(u128::from(n).to_le_bytes());
        let mut new = Snapshot::new(Moment(i64::try_from(n).expect("small")), object("manifest", n), session, Epoch(1));
        new.baselines.extend(ids.last());
        new.reasons.extend(ids.last().map(|last| against(Some(*last))));
        ids.push(put(EntryBody::Snapshot(new), &operator));
    }
    let admin = fixture.key(Role::Admin);
    let manifests = (0..runs).map(|n| ReplacedManifest { old: digest("manifest", n), new: object("new", n) }).collect();
    let session = SessionId::new([1; 16]);
    put(EntryBody::Erase(Erase { epoch: Epoch(1), session, manifests, packs: vec![], reason: reason() }), &admin);
    for snapshot in &ids[..20] {
        put(EntryBody::Accept(Accept { snapshot: *snapshot, reason: reason() }), &admin);
    }
    let forgotten = ids[..ids.len() - 1].to_vec();
    put(EntryBody::Forget(Forget { snapshots: forgotten, reason: reason() }), &fixture.key(Role::Maintainer));
    let ledger = fixture.ledger();
    assert_eq!((ledger.live().count(), ledger.voids.len()), (1, 0));
    assert_eq!(ledger.manifests().collect::<Vec<_>>(), [(digest("new", runs - 1), 1)]);
    assert_eq!(ledger.newest_image(), Some(Moment(39)));
}
