//! What a `revoke` entry ends: the right to write and, if the key was lost or stolen, trust in what it wrote.

use sidekeep::base::revocation::RevocationReason::{self, Lost, Retired, Stolen};
use sidekeep::base::role::{Role, SourceScope};
use sidekeep::format::entry::{EntryBody, Numbered, Repack, RepackedPack, Revoke};
use sidekeep::repo::error::RepoError;

use crate::ledger::fixture::{Fixture, digest, snapshot};

fn backup(n: u8) -> EntryBody {
    EntryBody::Snapshot(snapshot(n))
}

fn trusted(fixture: &Fixture) -> Vec<bool> {
    let ledger = fixture.ledger();
    ledger.inventory().map(|pack| ledger.trusts_pack(pack)).collect()
}

#[test]
fn a_retired_key_writes_nothing_more_and_what_it_wrote_stays_trusted() {
    let fixture = Fixture::new();
    let old = fixture.enrol(Role::Operator, Some(SourceScope::All));
    fixture.appended(backup(1), &old);
    let revoke = |reason: RevocationReason, by: Role| {
        let revoke = Revoke { key: old.key_id(), reason };
        fixture.appended(EntryBody::Revoke(revoke), &fixture.key(by));
    };
    revoke(Retired, Role::Admin);
    let refused = fixture.append(backup(2), &old);
    assert!(matches!(refused, Err(RepoError::NotEnrolled { .. })), "{refused:?}");
    assert_eq!(trusted(&fixture), [true]);
    // The worst reason counts, in any order. The thief of an admin key cannot lower it.
    for (reason, by, is_trusted) in [
        (Lost, Role::Admin, false),
        (Retired, Role::Admin, false),
        (Retired, Role::Recovery, true),
        (Stolen, Role::Admin, false),
        (Lost, Role::Admin, false),
        (Lost, Role::Recovery, false),
        (Retired, Role::Recovery, true),
    ] {
        revoke(reason, by);
        assert_eq!(trusted(&fixture), [is_trusted], "{reason:?} by {by}");
        assert!(fixture.append(backup(2), &old).is_err(), "nothing gives the right back");
    }
}

/// A maintainer who is replaced is not a thief.
#[test]
fn packs_that_a_retired_maintainer_moved_stay_trusted_and_a_thiefs_do_not() {
    let fixture = Fixture::new();
    let (operator, mover) = (fixture.key(Role::Operator), fixture.key(Role::Maintainer));
    fixture.appended(backup(1), &operator);
    let added = vec![RepackedPack { sha256: digest(70), size: 1, signer: operator.key_id(), movers: vec![] }];
    fixture.appended(EntryBody::Repack(Repack { epoch: sidekeep::base::id::Epoch(1), packs: vec![], added }), &mover);
    for (reason, expected) in [(Retired, [true, true]), (Stolen, [true, false])] {
        let revoke = Revoke { key: mover.key_id(), reason };
        fixture.appended(EntryBody::Revoke(revoke), &fixture.key(Role::Admin));
        assert_eq!(trusted(&fixture), expected);
    }
}

#[test]
fn an_entry_after_a_revoke_is_void_whatever_roster_it_names() {
    let fixture = Fixture::new();
    let thief = fixture.enrol(Role::Operator, Some(SourceScope::All));
    let seen = fixture.repository().roster().head();
    let never = Numbered { number: 1_000_000, sha256: digest(9) };
    fixture.appended(EntryBody::Revoke(Revoke { key: thief.key_id(), reason: Retired }), &fixture.key(Role::Admin));
    for roster in [seen, never] {
        let void = fixture.why_void(fixture.entry(backup(1), &thief, |place| place.roster = roster));
        assert_eq!(void.as_deref(), Some("its signer was revoked earlier in this ledger"));
    }
    assert!(fixture.ledger().roster_findings().is_empty());
}

/// An operator for all sources was entitled to every source before it was added.
#[test]
fn an_entry_must_have_seen_the_roster_entry_that_added_its_source() {
    let mut fixture = Fixture::new();
    let before = fixture.repository().roster().head();
    fixture.source = fixture.add_source("photos");
    let operator = fixture.key(Role::Operator);
    let void = fixture.why_void(fixture.entry(backup(1), &operator, |place| place.roster = before));
    assert_eq!(void.as_deref(), Some("its signer had not seen the roster entry that added the source"));
    assert_eq!(fixture.why_void(fixture.entry(backup(1), &operator, |_| {})), None);
}
