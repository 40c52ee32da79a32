//! The fold of the roster: the same rules as for a ledger, and which entries may stop readers.

use sidekeep::base::limit::STATEMENT_BYTES_MAX;
use sidekeep::base::revocation::RevocationReason;
use sidekeep::base::role::{Role, SourceScope};
use sidekeep::format::name::Name;
use sidekeep::format::roster::{AddSource, Feature, RevokeKey, RosterStatement};
use sidekeep::repo::error::RepoError;

use crate::ledger::fixture::Fixture;

fn put_next(fixture: &Fixture, bytes: Vec<u8>) {
    let number = fixture.repository().roster().digests.len() as u64 + 1;
    fixture.put(&Name::Roster(number), bytes);
}

#[test]
fn void_roster_entries_do_not_block_readers() {
    let fixture = Fixture::new();
    let named_feature = || Feature { name: "journal".to_owned() };
    let feature = || RosterStatement::Feature(named_feature());
    let revoke = || {
        RosterStatement::Revoke(RevokeKey { key: fixture.key(Role::Admin).key_id(), reason: RevocationReason::Stolen })
    };
    let mut void = 0;
    let mut expect_void = |bytes: Vec<u8>| {
        put_next(&fixture, bytes);
        void += 1;
        assert_eq!(fixture.repository().roster().voids.len(), void);
    };
    expect_void(b"garbage".to_vec());
    expect_void(vec![b' '; STATEMENT_BYTES_MAX + 1]);
    for role in [Role::Operator, Role::Maintainer, Role::Auditor] {
        expect_void(fixture.roster_entry(&fixture.key(role), vec![revoke()]));
        expect_void(fixture.roster_entry(&fixture.key(role), vec![feature()]));
    }
    expect_void(fixture.roster_entry(&fixture.stranger(Role::Admin), vec![revoke()]));
    expect_void(fixture.get(&Name::Roster(1)).to_vec());
    let epoch = sidekeep::base::id::Epoch(1);
    let source = || RosterStatement::Source(AddSource { source: fixture.source, epoch, label: vec![], group: None });
    let named = fixture.enrol(Role::Operator, Some(SourceScope::Named(vec![fixture.source])));
    expect_void(fixture.roster_entry(&named, vec![source()]));
    expect_void(fixture.roster_entry(&fixture.key(Role::Operator), vec![source(), revoke()]));
    assert!(fixture.repository().roster().keys.values().all(|key| key.revoked.is_none()));
    fixture.add_source("photos");
    assert_eq!(fixture.repository().roster().sources.len(), 2);

    // Readers go on. What nobody announced is skipped, and the rest of the entry counts.
    fixture.state(Role::Admin, vec![feature()]);
    let repository = fixture.over(fixture.memory.clone()).expect("opens");
    assert!(matches!(repository.roster().check_writable(), Err(RepoError::UnknownFeature { .. })));
    assert_eq!(repository.roster().feature_findings().count(), 1);
    expect_void(fixture.roster_entry(&fixture.key(Role::Admin), vec![RosterStatement::Withdraw(named_feature())]));
    fixture.state(Role::Recovery, vec![RosterStatement::Withdraw(named_feature())]);
    assert!(fixture.repository().roster().check_writable().is_ok());
}

#[test]
fn entries_of_a_revoked_admin_are_void() {
    let fixture = Fixture::new();
    let admin = fixture.key(Role::Admin);
    fixture.state(
        Role::Recovery,
        vec![RosterStatement::Revoke(RevokeKey { key: admin.key_id(), reason: RevocationReason::Stolen })],
    );
    let back = RosterStatement::Revoke(RevokeKey {
        key: fixture.key(Role::Recovery).key_id(),
        reason: RevocationReason::Stolen,
    });
    put_next(&fixture, fixture.roster_entry(&admin, vec![back]));
    let repository = fixture.repository();
    assert_eq!(repository.roster().voids.len(), 1);
    assert!(repository.roster().keys[&fixture.key(Role::Recovery).key_id()].revoked.is_none());
}

#[test]
fn numbers_beyond_a_gap_and_before_the_first_are_not_read() {
    let fixture = Fixture::new();
    let head = fixture.repository().roster().head();
    fixture.put(&Name::Roster(head.number + 2), b"garbage".to_vec());
    fixture.put(&Name::Roster(0), b"garbage".to_vec());
    let repository = fixture.repository();
    assert_eq!((repository.roster().head(), &repository.roster().ignored[..]), (head, &[head.number + 2][..]));
}
