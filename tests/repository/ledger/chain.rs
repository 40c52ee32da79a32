//! The fold of a ledger: which entries count, which are void, and when a reader must stop (L2, L3).

use sidekeep::base::id::{Epoch, RepositoryId, SessionId, SourceId};
use sidekeep::base::limit::STATEMENT_BYTES_MAX;
use sidekeep::base::revocation::RevocationReason;
use sidekeep::base::role::{Role, SourceScope};
use sidekeep::format::entry::{
    ChainPlace, Entry, EntryBody, Erase, Forget, Numbered, Repack, RepackedPack, ReplacedManifest, Revoke, Tag,
    TagChange,
};
use sidekeep::format::name::Name;
use sidekeep::format::roster::{Feature, OpenEpoch, RevokeKey, RosterStatement};
use sidekeep::repo::append::Appended;
use sidekeep::repo::error::RepoError;
use sidekeep::repo::ledger::Ledger;

use crate::ledger::fixture::{Behind, Fixture, append_to, digest, object, prune, snapshot};

fn backup(n: u8) -> EntryBody {
    EntryBody::Snapshot(snapshot(n))
}

/// Changes the payload of a statement before signing it, to what a later version might write.
fn later(fixture: &Fixture, by: &sidekeep::crypto::role::Identity, old: &str, new: &str) -> Vec<u8> {
    later_at(fixture, by, (old, new), |_| {})
}

fn later_at(
    fixture: &Fixture,
    by: &sidekeep::crypto::role::Identity,
    replace: (&str, &str),
    change: impl FnOnce(&mut ChainPlace),
) -> Vec<u8> {
    let (old, new) = replace;
    let bytes = fixture.entry(backup(9), by, change);
    let mut envelope: serde_json::Value = serde_json::from_slice(&bytes).expect("JSON");
    let payload = data_encoding::BASE64.decode(envelope["payload"].as_str().expect("text").as_bytes()).expect("base64");
    let payload = String::from_utf8(payload).expect("UTF-8");
    assert!(payload.contains(old), "{payload}");
    let payload = payload.replacen(old, new, 1);
    let kind = "application/vnd.in-toto+json";
    let pae = format!("DSSEv1 {} {kind} {} {payload}", kind.len(), payload.len());
    envelope["payload"] = data_encoding::BASE64.encode(payload.as_bytes()).into();
    envelope["signatures"][0]["sig"] = data_encoding::BASE64.encode(&by.sign(pae.as_bytes())).into();
    serde_json::to_vec(&envelope).expect("JSON")
}

/// What a later version writes, and the feature that it belongs to.
const LATER: [(&str, &str, &str); 3] = [
    ("\"kind\":\"snapshot\"", "\"kind\":\"dreams:dream\"", "dreams"),
    ("\"format\":1", "\"format\":2", "format-2"),
    ("urn:sidekeep:ledger:1", "urn:sidekeep:ledger:2", "format-2"),
];

#[test]
fn a_garbage_entry_uses_up_its_number_and_is_otherwise_ignored() {
    let fixture = Fixture::new();
    let operator = fixture.key(Role::Operator);
    fixture.appended(backup(1), &operator);
    assert!(fixture.why_void(b"garbage".to_vec()).is_some());
    assert!(fixture.why_void(vec![]).is_some());
    assert_eq!(fixture.why_void(vec![b' '; STATEMENT_BYTES_MAX + 7]).as_deref(), Some("it is too long"));
    let at = fixture.appended(backup(2), &operator);
    let ledger = fixture.ledger();
    assert_eq!((at.number, ledger.live().count(), ledger.voids.len()), (5, 2, 3));
    assert_eq!(ledger.inventory().count(), 2);
}

#[test]
fn the_digest_of_an_oversized_object_covers_only_its_start() {
    let fixture = Fixture::new();
    fixture.put_entry(1, vec![b' '; STATEMENT_BYTES_MAX + 1]);
    let exact = fixture.ledger().digests[0];
    fixture.put_entry(1, vec![b' '; STATEMENT_BYTES_MAX + 9]);
    assert_eq!(fixture.ledger().digests[0], exact);
    fixture.put_entry(1, vec![b' '; STATEMENT_BYTES_MAX]);
    assert_ne!(fixture.ledger().digests[0], exact);
}

#[test]
fn an_entry_in_the_wrong_place_is_void() {
    let fixture = Fixture::new();
    let operator = fixture.key(Role::Operator);
    let first = fixture.appended(backup(1), &operator);
    let elsewhere = Some("it names another place or predecessor");
    let wrong = |bytes: Vec<u8>| assert_eq!(fixture.why_void(bytes).as_deref(), elsewhere);
    wrong(fixture.entry(backup(2), &operator, |place| place.previous = digest(1)));
    wrong(fixture.entry(backup(2), &operator, |place| place.previous = first.sha256));
    wrong(fixture.entry(backup(2), &operator, |place| place.number += 1));
    wrong(fixture.entry(backup(2), &operator, |place| place.number = 1));
    wrong(fixture.entry(backup(2), &operator, |place| place.source = SourceId::new([9; 16])));
    wrong(fixture.entry(backup(2), &operator, |place| place.repository = RepositoryId::new([9; 16])));
    wrong(fixture.get(&Name::Ledger(fixture.source, 1)).to_vec());
    fixture.appended(backup(2), &operator);
    assert_eq!(fixture.ledger().live().count(), 2);
}

#[test]
fn an_entry_copied_from_another_source_or_repository_is_void() {
    let (fixture, other) = (Fixture::new(), Fixture::new());
    let operator = fixture.key(Role::Operator);
    let second = fixture.add_source("photos");
    let place = Ledger::load(&fixture.repository(), second).expect("folds").next_place().expect("a place");
    let entry = Entry { place, written: sidekeep::base::time::Moment(0), body: backup(1) };
    assert!(fixture.why_void(fixture.sign(&entry, &operator)).is_some());
    other.appended(backup(1), &other.key(Role::Operator));
    assert!(fixture.why_void(other.get(&Name::Ledger(other.source, 1)).to_vec()).is_some());
}

#[test]
fn swapped_entries_and_their_successors_are_void() {
    let fixture = Fixture::new();
    let operator = fixture.key(Role::Operator);
    for n in 1..=4 {
        fixture.appended(backup(n), &operator);
    }
    let name = |n| Name::Ledger(fixture.source, n);
    let (two, three) = (fixture.get(&name(2)), fixture.get(&name(3)));
    fixture.put(&name(2), three);
    fixture.put(&name(3), two);
    let ledger = fixture.ledger();
    let void: Vec<u64> = ledger.voids.iter().map(|(at, _)| at.number).collect();
    assert_eq!((ledger.live().count(), void), (1, vec![2, 3, 4]));
}

#[test]
fn an_entry_counts_only_if_an_entitled_key_signed_it() {
    let mut fixture = Fixture::new();
    let why = |fixture: &Fixture, body, by: &_| fixture.why_void(fixture.entry(body, by, |_| {}));
    assert_eq!(
        why(&fixture, backup(1), &fixture.stranger(Role::Operator)).as_deref(),
        Some("its signer was never enrolled")
    );
    let forget = || EntryBody::Forget(Forget { snapshots: vec![], reason: String::new() });
    let revoke =
        || EntryBody::Revoke(Revoke { key: fixture.key(Role::Auditor).key_id(), reason: RevocationReason::Stolen });
    let not_entitled = Some("its signer was not entitled to it at this position");
    for (role, body) in [
        (Role::Maintainer, backup(1)),
        (Role::Admin, backup(1)),
        (Role::Auditor, backup(1)),
        (Role::Operator, prune(&[1])),
        (Role::Operator, forget()),
        (Role::Admin, prune(&[1])),
        (Role::Maintainer, revoke()),
        (Role::Operator, revoke()),
    ] {
        assert_eq!(why(&fixture, body, &fixture.key(role)).as_deref(), not_entitled, "{role}");
    }
    let elsewhere = fixture.enrol(Role::Operator, Some(SourceScope::Named(vec![SourceId::new([9; 16])])));
    assert_eq!(why(&fixture, backup(1), &elsewhere).as_deref(), not_entitled);
    assert!(matches!(fixture.append(backup(1), &elsewhere), Err(RepoError::NotEnrolled { .. })));
    let here = fixture.enrol(Role::Operator, Some(SourceScope::Named(vec![fixture.source])));
    assert_eq!(why(&fixture, backup(1), &here), None);
    let mut forged = fixture.entry(backup(2), &fixture.key(Role::Operator), |_| {});
    let stolen = fixture.entry(backup(2), &here, |_| {});
    let id = |identity: &sidekeep::crypto::role::Identity| identity.key_id().to_string();
    forged = String::from_utf8(forged).expect("UTF-8").replace(&id(&fixture.key(Role::Operator)), &id(&here)).into();
    assert_eq!(fixture.why_void(forged).as_deref(), Some("its signature is not valid"));
    assert!(fixture.why_void(stolen).is_some(), "its place was taken");
    fixture.source = fixture.add_source("photos");
    assert!(fixture.why_void(fixture.entry(backup(1), &here, |_| {})).is_some());
}

#[test]
fn entries_of_a_key_are_void_after_the_chain_revokes_it() {
    let fixture = Fixture::new();
    let operator = fixture.enrol(Role::Operator, Some(SourceScope::All));
    fixture.appended(backup(1), &operator);
    assert!(fixture.ledger().trusts(&operator.key_id()));
    let another = fixture.unlock(Role::Operator);
    fixture.appended(
        EntryBody::Revoke(Revoke { key: operator.key_id(), reason: RevocationReason::Stolen }),
        &fixture.key(Role::Recovery),
    );
    assert!(!fixture.ledger().trusts(&operator.key_id()));
    assert!(matches!(fixture.append(backup(2), &operator), Err(RepoError::NotEnrolled { .. })));
    assert_eq!(fixture.ledger().digests.len(), 2, "nothing void was written");
    assert!(fixture.why_void(fixture.entry(backup(2), &operator, |_| {})).is_some());
    assert_eq!(fixture.ledger().live().count(), 1, "earlier commits stay valid");
    fixture.appended(backup(3), another.identity());
}

#[test]
fn entries_of_a_key_are_void_once_they_saw_its_revocation_in_the_roster() {
    let fixture = Fixture::new();
    let thief = fixture.enrol(Role::Operator, Some(SourceScope::All));
    let before = fixture.repository().roster().head();
    fixture.state(
        Role::Admin,
        vec![RosterStatement::Revoke(RevokeKey { key: thief.key_id(), reason: RevocationReason::Stolen })],
    );
    let entry = |n, seen: Option<Numbered>| {
        fixture.entry(backup(n), &thief, |place| place.roster = seen.unwrap_or(place.roster))
    };
    assert_eq!(fixture.why_void(entry(1, None)).as_deref(), Some("its signer was not entitled to it at this position"));
    assert_eq!(fixture.why_void(entry(2, Some(before))), None, "the position in the roster counts, not the time");
    fixture.appended(backup(3), &fixture.key(Role::Operator));
    let older = Some("its signer had seen an older roster than the previous entry");
    assert_eq!(fixture.why_void(entry(4, Some(before))).as_deref(), older);
    assert!(!fixture.ledger().trusts(&thief.key_id()));
    let unlocked = fixture.repository().unlock(thief).expect("it opens what it was granted");
    let refused = unlocked.check_not_revoked();
    assert!(matches!(refused, Err(RepoError::NotEnrolled { state: "revoked", .. })), "{refused:?}");
}

#[test]
fn numbers_beyond_a_gap_are_ignored_and_reported() {
    let fixture = Fixture::new();
    let operator = fixture.key(Role::Operator);
    fixture.appended(backup(1), &operator);
    let stranger = fixture.stranger(Role::Operator);
    for beyond in [3, 4, 12_345_678_901] {
        fixture.put_entry(beyond, fixture.entry(backup(2), &stranger, |place| place.number = beyond));
    }
    fixture.put_entry(0, b"a number that hides the first".to_vec());
    let ledger = fixture.ledger();
    assert_eq!((ledger.live().count(), ledger.ignored.clone()), (1, vec![3, 4, 12_345_678_901]));
    // Once the gap is filled, the entries planted after it are void and block nothing.
    fixture.appended(backup(2), &operator);
    let ledger = fixture.ledger();
    assert_eq!((ledger.live().count(), ledger.voids.len(), ledger.ignored.len()), (2, 2, 1));
    assert_eq!(fixture.appended(backup(3), &operator).number, 5);
}

#[test]
fn an_outdated_listing_hides_no_entry() {
    let fixture = Fixture::new();
    let operator = fixture.key(Role::Operator);
    for n in 1..=4 {
        fixture.appended(backup(n), &operator);
    }
    for hidden in [&[4][..], &[3, 4], &[2], &[1, 2, 3, 4]] {
        let mut names: Vec<Name> = hidden.iter().map(|n| Name::Ledger(fixture.source, *n)).collect();
        names.push(Name::Roster(2));
        let behind = fixture.over(Behind::hiding(fixture.memory.clone(), &names)).expect("opens");
        let ledger = Ledger::load(&behind, fixture.source).expect("folds");
        assert_eq!((ledger.live().count(), ledger.ignored.len()), (4, 0), "{hidden:?}");
    }
}

#[test]
fn reading_a_store_that_answers_for_every_number_ends() {
    let fixture = Fixture::new();
    fixture.appended(backup(1), &fixture.key(Role::Operator));
    let numbers = 2..=1002;
    let names: Vec<Name> = numbers.clone().map(|n| Name::Ledger(fixture.source, n)).collect();
    numbers.for_each(|n| fixture.put_entry(n, b"not an entry".to_vec()));
    assert_eq!(fixture.ledger().voids.len(), 1001);
    let endless = fixture.over(Behind::hiding(fixture.memory.clone(), &names)).expect("opens");
    let error = Ledger::load(&endless, fixture.source).expect_err("the chain is endless");
    assert!(error.to_string().contains("ledger/0000001002") && error.to_string().contains("lists none"), "{error}");
}

#[test]
fn a_tag_is_added_once_and_can_be_removed() {
    let fixture = Fixture::new();
    let maintainer = fixture.key(Role::Maintainer);
    let snapshot = fixture.appended(backup(1), &fixture.key(Role::Operator)).sha256;
    let tag = |tag: &str, change| EntryBody::Tag(Tag { snapshot, tag: tag.to_owned(), change });
    for body in [tag("one", TagChange::Put), tag("two", TagChange::Put), tag("one", TagChange::Put)] {
        fixture.appended(body, &maintainer);
    }
    assert_eq!(fixture.ledger().snapshots[0].tags, ["two", "one"]);
    fixture.appended(tag("two", TagChange::Remove), &maintainer);
    fixture.appended(tag("unknown", TagChange::Remove), &maintainer);
    assert_eq!(fixture.ledger().snapshots[0].tags, ["one"]);
}

/// One signature of a stolen operator key would otherwise stop everybody for ever.
#[test]
fn what_no_admin_announced_is_void() {
    let unnamed = ("\"kind\":\"snapshot\"", "\"kind\":\"dream\"", "dream");
    for (old, new, feature) in LATER.into_iter().chain([unnamed]) {
        let fixture = Fixture::new();
        let operator = fixture.key(Role::Operator);
        fixture.appended(backup(1), &operator);
        for by in [fixture.key(Role::Auditor), fixture.stranger(Role::Operator), fixture.key(Role::Operator)] {
            assert!(fixture.why_void(later(&fixture, &by, old, new)).is_some(), "{new}");
        }
        fixture.appended(backup(2), &operator);
        assert_eq!((fixture.ledger().live().count(), fixture.ledger().warnings_at_head().len()), (2, 0));

        // It counts from the roster entry on that announces it.
        let before = fixture.place().roster;
        let name = feature.to_owned();
        fixture.state(Role::Admin, vec![RosterStatement::Feature(Feature { name: name.clone() })]);
        let announced = unnamed.1 != new;
        let early = later_at(&fixture, &operator, (old, new), |place| place.roster = before);
        assert!(fixture.why_void(early).is_some(), "{new}");
        assert!(fixture.why_void(later(&fixture, &fixture.key(Role::Auditor), old, new)).is_some(), "{new}");
        assert_eq!(fixture.why_void(later(&fixture, &operator, old, new)).is_none(), announced, "{new}");
        // Readers go on and say so. Writers stop.
        assert_eq!(
            (fixture.ledger().live().count(), fixture.ledger().warnings_at_head().len()),
            (2, 1 + usize::from(!announced) * 3)
        );
        assert!(matches!(fixture.append(backup(3), &operator), Err(RepoError::UnknownFeature { .. })), "{new}");
        fixture.state(Role::Admin, vec![RosterStatement::Withdraw(Feature { name: name.clone() })]);
        assert!(fixture.append(backup(3), &operator).is_err(), "an admin cannot withdraw it");
        fixture.state(Role::Recovery, vec![RosterStatement::Withdraw(Feature { name })]);
        fixture.appended(backup(3), &operator);
        assert!(fixture.why_void(later(&fixture, &operator, old, new)).is_some(), "{new}");
    }
}

#[test]
fn the_roster_is_reloaded_if_an_entry_saw_a_newer_one() {
    let fixture = Fixture::new();
    let stale = fixture.repository();
    let operator = fixture.enrol(Role::Operator, Some(SourceScope::All));
    fixture.appended(backup(1), &operator);
    let ledger = Ledger::load(&stale, fixture.source).expect("folds");
    assert_eq!((ledger.live().count(), ledger.voids.len()), (1, 0));
    // An entry appended with that ledger must not claim to have seen only the old roster.
    let maintainer = fixture.key(Role::Maintainer);
    assert!(matches!(append_to(&stale, &ledger, prune(&[1]), &maintainer), Ok(Appended::Done(_))));
    assert!(fixture.ledger().voids.is_empty() && fixture.ledger().was_removed(&digest(1)));
    let second = fixture.add_source("photos");
    assert_eq!(Ledger::load(&stale, second).expect("folds").next_place().expect("a place").number, 1);
}

#[test]
fn a_roster_older_than_the_ledger_is_reported_as_rolled_back() {
    let fixture = Fixture::new();
    let operator = fixture.key(Role::Operator);
    let thief = fixture.enrol(Role::Operator, Some(SourceScope::All));
    let head = fixture.repository().roster().head().number;
    fixture.state(
        Role::Admin,
        vec![RosterStatement::Revoke(RevokeKey { key: thief.key_id(), reason: RevocationReason::Stolen })],
    );
    let revoking = fixture.get(&Name::Roster(head + 1));
    fixture.appended(backup(1), &operator);
    let delete = || {
        let name = Name::Roster(head + 1).to_string();
        fixture.runtime.block_on(crate::support::stores::damage::delete(&*fixture.memory, &name));
    };
    let lacks_roster = || fixture.ledger().roster_findings().first().map(|found| found.object.clone());
    delete();
    assert_eq!((fixture.ledger().live().count(), lacks_roster()), (1, Some(Name::Roster(head + 1).to_string())));
    // Another admin's entry in its place does not hide the rollback.
    fixture.state(
        Role::Recovery,
        vec![RosterStatement::Revoke(RevokeKey {
            key: fixture.key(Role::Auditor).key_id(),
            reason: RevocationReason::Stolen,
        })],
    );
    assert!(lacks_roster().is_some());
    let refused = fixture.append(backup(2), &operator);
    assert!(matches!(refused, Err(RepoError::RolledBack { .. })), "{refused:?}");
    fixture.put(&Name::Roster(head + 1), revoking);
    assert_eq!((fixture.ledger().live().count(), lacks_roster()), (1, None));
}

#[test]
fn an_entry_that_saw_a_nonexistent_roster_stops_writers_until_its_key_is_revoked() {
    let fixture = Fixture::new();
    let thief = fixture.enrol(Role::Operator, Some(SourceScope::All));
    let never = |number| Numbered { number, sha256: digest(1) };
    let head = fixture.repository().roster().head().number;
    for seen in [0, head, head + 1, u64::MAX] {
        let claim = |by: &_| fixture.entry(backup(1), by, |place| place.roster = never(seen));
        for by in [fixture.key(Role::Auditor), fixture.stranger(Role::Operator)] {
            assert!(fixture.why_void(claim(&by)).is_some(), "{seen}");
        }
        if seen == 0 {
            assert!(fixture.why_void(claim(&thief)).is_some(), "nobody was enrolled before the first entry");
        }
    }
    let operator = fixture.key(Role::Operator);
    let before = fixture.entry(backup(1), &operator, |_| {});
    assert_eq!(fixture.why_void(before), None);
    for (n, seen) in [(2, 1_000_000), (4, head), (6, u64::MAX)] {
        // It counts, and the entries of others count after it.
        assert_eq!(fixture.why_void(fixture.entry(backup(n), &thief, |place| place.roster = never(seen))), None);
        assert_eq!(fixture.why_void(fixture.entry(backup(n + 1), &operator, |_| {})), None);
        let ledger = fixture.ledger();
        let found: Vec<_> = ledger.roster_findings().into_iter().map(|found| found.object).collect();
        assert!(found.contains(&Name::Roster(seen).to_string()), "{found:?}");
        let refused = fixture.append(backup(30), &operator);
        assert!(matches!(refused, Err(RepoError::RolledBack { .. })), "{refused:?}");
    }
    fixture.state(
        Role::Admin,
        vec![RosterStatement::Revoke(RevokeKey { key: thief.key_id(), reason: RevocationReason::Stolen })],
    );
    assert!(fixture.ledger().roster_findings().is_empty() && fixture.ledger().voids.len() > 1);
    fixture.appended(backup(40), &operator);
}

#[test]
fn packs_added_by_a_repack_or_erase_keep_the_epoch() {
    let fixture = Fixture::new();
    let (operator, maintainer) = (fixture.key(Role::Operator), fixture.key(Role::Maintainer));
    fixture.appended(backup(1), &operator);
    let sealing = fixture.repository().roster().epochs[&Epoch(1)].sealing;
    let grants = [(fixture.key(Role::Recovery).key_id(), digest(1))].into();
    let opened = OpenEpoch { epoch: Epoch(2), sealing, grants };
    fixture.state(Role::Admin, vec![RosterStatement::Epoch(opened)]);
    let mut second = snapshot(2);
    second.epoch = Epoch(2);
    fixture.appended(EntryBody::Snapshot(second), &operator);
    let added = vec![RepackedPack { sha256: digest(70), size: 1, signer: operator.key_id(), movers: vec![] }];
    fixture.appended(EntryBody::Repack(Repack { epoch: Epoch(1), packs: vec![digest(101)], added }), &maintainer);
    let manifests = vec![ReplacedManifest { old: digest(1), new: object(71) }];
    let session = SessionId::new([9; 16]);
    let erase = Erase { epoch: Epoch(1), session, manifests, packs: vec![object(72)], reason: "asked for".to_owned() };
    fixture.appended(EntryBody::Erase(erase), &fixture.key(Role::Admin));
    let ledger = fixture.ledger();
    let epochs: Vec<_> = ledger.inventory().map(|pack| (pack.digest, pack.epoch, pack.signer)).collect();
    let (by, admin) = (operator.key_id(), fixture.key(Role::Admin).key_id());
    let expected = [(digest(102), Epoch(2), by), (digest(70), Epoch(1), by), (digest(72), Epoch(1), admin)];
    assert_eq!(epochs, expected);
    let sessions: Vec<_> = ledger.snapshots.iter().map(|record| record.manifest_session).collect();
    assert_eq!(sessions, [session, SessionId::new([2; 16])]);
    assert!(ledger.was_removed(&digest(101)) && ledger.manifests().any(|(found, _)| found == digest(71)));
}
