//! Recovery keys, epochs and reasons of revocation: what a thief of an admin key states, and what both readers make of it.

use std::collections::BTreeMap;

use sidekeep::base::id::{Digest, Epoch, KeyId};
use sidekeep::base::revocation::RevocationReason;
use sidekeep::base::role::{Role, SourceScope};
use sidekeep::crypto::role::{AdminKeys, Identity};
use sidekeep::format::roster::{AddGrant, Enrol, OpenEpoch, RevokeKey, RosterStatement};

use crate::reader::Reader;
use crate::support::world::data::create_service;
use crate::support::world::{SOURCE, World};
use crate::two_readers::{assert_folds_alike, force_statement, with_three_snapshots};

fn enrol_of(identity: &Identity) -> Enrol {
    let (public, role) = (identity.public(), identity.role());
    let (signing, sealing) = (*public.signing.as_bytes(), public.sealing.to_bytes());
    let sources = (role == Role::Operator).then_some(SourceScope::All);
    Enrol { key: identity.key_id(), role, signing, sealing, label: "new".to_owned(), sources }
}

fn new_key(world: &World, role: Role) -> Identity {
    Identity::generate(&*world.env, role, world.repository().id())
}

fn say(world: &World, by: Role, statements: Vec<RosterStatement>) {
    world.state(by, statements);
}

fn voids(world: &World) -> usize {
    world.repository().roster().voids.len()
}

/// The statements that the script says do not count.
fn refusals(reader: &Reader) -> usize {
    reader
        .run(&[])
        .err
        .lines()
        .filter(|line| line.starts_with("found: roster entry") && !line.contains(" is void"))
        .count()
}

fn assert_refused(reader: &Reader, world: &World, count: usize) {
    assert_folds_alike(reader, world);
    assert_eq!((world.repository().roster().refusals().count(), refusals(reader)), (count, count));
}

#[test]
fn only_recovery_keys_enrol_and_revoke_recovery_keys() {
    let Some((reader, world)) = with_three_snapshots() else { return };
    let own = new_key(&world, Role::Recovery);
    let key = world.key(Role::Recovery).key_id();
    let revoke = |key| RosterStatement::Revoke(RevokeKey { key, reason: RevocationReason::Stolen });
    let enrol = || RosterStatement::Enrol(enrol_of(&own));
    let grant = |sha256| RosterStatement::Grant(AddGrant { epoch: Epoch(1), key: own.key_id(), sha256 });
    say(&world, Role::Admin, vec![revoke(key)]);
    say(&world, Role::Admin, vec![enrol(), grant(Digest::new([1; 32]))]);
    assert_eq!(voids(&world), 2);
    assert!(world.repository().unlock(world.key(Role::Recovery)).is_ok());
    assert!(!world.repository().roster().keys.contains_key(&own.key_id()));
    // Without grants of the epochs before it, it would look like a key that restores.
    say(&world, Role::Recovery, vec![enrol()]);
    assert_refused(&reader, &world, 1);
    say(&world, Role::Recovery, vec![enrol(), grant(Digest::new([1; 32]))]);
    assert!(world.repository().roster().keys.contains_key(&own.key_id()));
    say(&world, Role::Recovery, vec![revoke(own.key_id()), revoke(world.key(Role::Admin).key_id())]);
    assert!(world.repository().unlock(world.key(Role::Admin)).expect("a grant").revocation().is_some());
    assert_eq!(voids(&world), 2);
    assert_refused(&reader, &world, 1);
}

#[test]
fn an_epoch_counts_only_in_its_turn_and_with_grants_for_recovery_keys() {
    let Some((reader, world)) = with_three_snapshots() else { return };
    let recovery = world.key(Role::Recovery).key_id();
    let sealing =
        |epoch| AdminKeys::create_epoch(&*world.env, world.repository().id(), epoch).restore_public().to_bytes();
    let open = |number: u32, sealing: [u8; 1216], keys: &[KeyId]| {
        let grants: BTreeMap<KeyId, Digest> = keys.iter().map(|key| (*key, Digest::new([1; 32]))).collect();
        let opened = OpenEpoch { epoch: Epoch(number), sealing, grants };
        force_statement(&world, &world.key(Role::Admin), |_| RosterStatement::Epoch(opened));
    };
    open(2, sealing(Epoch(2)), &[]);
    open(2, sealing(Epoch(2)), &[world.key(Role::Admin).key_id()]);
    for number in [0, 1, 3, 999_999, u32::MAX] {
        open(number, sealing(Epoch(2)), &[recovery]);
    }
    open(2, [0xff; 1216], &[recovery]);
    assert_refused(&reader, &world, 8);
    assert_eq!(world.repository().roster().epochs.keys().collect::<Vec<_>>(), [&Epoch(1)]);
    // Backups go on in the epoch that counts, and say so.
    let live = world.path("live");
    let report = world.backup(&live);
    assert_eq!(report.findings.iter().filter(|found| found.detail.contains("does not count")).count(), 8);
    open(2, sealing(Epoch(2)), &[recovery]);
    assert_eq!(world.repository().roster().epochs.len(), 2);
    assert_refused(&reader, &world, 8);
}

#[test]
fn a_key_is_enrolled_once_and_only_if_it_is_valid() {
    let Some((reader, world)) = with_three_snapshots() else { return };
    let first = enrol_of(&world.key(Role::Auditor));
    let other = enrol_of(&new_key(&world, Role::Maintainer));
    let mixed = |signing, sealing| {
        let key = KeyId::of(&signing, &sealing);
        Enrol { key, signing, sealing, ..other.clone() }
    };
    let mut invalid = other.sealing;
    invalid[0..2].fill(0xff);
    let before = world.repository().roster().keys.len();
    for enrol in [
        Enrol { role: Role::Maintainer, ..first.clone() },
        mixed(first.signing, other.sealing),
        mixed(other.signing, first.sealing),
        mixed(other.signing, invalid),
    ] {
        force_statement(&world, &world.key(Role::Admin), |_| RosterStatement::Enrol(enrol));
    }
    assert_eq!((world.repository().roster().keys.len(), voids(&world)), (before, 0));
    assert_eq!(world.repository().roster().keys[&first.key].role, Role::Auditor);
    assert_folds_alike(&reader, &world);
    force_statement(&world, &world.key(Role::Admin), |_| RosterStatement::Enrol(other.clone()));
    assert_eq!(world.repository().roster().keys.len(), before + 1);
}

#[test]
fn the_worst_reason_counts_and_only_a_recovery_key_lowers_it() {
    use RevocationReason::{Lost, Retired, Stolen};
    let world = World::new();
    let cases: [(&[(Role, RevocationReason)], bool); 6] = [
        (&[(Role::Admin, Retired)], false),
        (&[(Role::Admin, Lost)], true),
        (&[(Role::Admin, Retired), (Role::Admin, Stolen)], true),
        (&[(Role::Admin, Stolen), (Role::Admin, Retired)], true),
        (&[(Role::Admin, Stolen), (Role::Recovery, Retired)], false),
        (&[(Role::Recovery, Retired), (Role::Admin, Lost)], true),
    ];
    for (said, is_distrusted) in cases {
        let key = new_key(&world, Role::Operator);
        say(&world, Role::Admin, vec![RosterStatement::Enrol(enrol_of(&key))]);
        for (by, reason) in said {
            let revoke = RevokeKey { key: key.key_id(), reason: *reason };
            say(&world, *by, vec![RosterStatement::Revoke(revoke)]);
        }
        let first = world.repository().roster().head().number - said.len() as u64 + 1;
        let repository = world.repository();
        let state = &repository.roster().keys[&key.key_id()];
        assert_eq!((state.revoked, state.is_distrusted()), (Some(first), is_distrusted), "{said:?}");
    }
}

/// Replacing a server by a retired key must not cost a full upload. A stolen key must.
#[test]
fn what_a_retired_key_wrote_is_used_again_and_what_a_stolen_key_wrote_is_not() {
    for (reasons, is_used) in [
        (&[(Role::Admin, RevocationReason::Retired)][..], true),
        (&[(Role::Admin, RevocationReason::Stolen)], false),
        (&[(Role::Admin, RevocationReason::Stolen), (Role::Recovery, RevocationReason::Retired)], true),
    ] {
        let world = World::new();
        let live = world.path("live");
        create_service(&live, 10);
        world.backup(&live);
        let next = world.enrol(Role::Operator, Some(SourceScope::All));
        let key = world.key(Role::Operator).key_id();
        for (by, reason) in reasons {
            say(&world, *by, vec![RosterStatement::Revoke(RevokeKey { key, reason: *reason })]);
        }
        assert!(world.try_backup(&live).is_err(), "a revoked key writes nothing");
        let next = crate::support::world::open_key(&next);
        let report = world.try_backup_as(next, SOURCE, &live).expect("a snapshot");
        let new: u64 = report.tables.iter().map(|table| table.leaves_new).sum();
        assert_eq!(new == 0, is_used, "{reasons:?}: {new} new leaves");
        let snapshot = report.snapshot.expect("committed");
        world.assert_restores(SOURCE, snapshot, &live);
        if let Some(reader) = Reader::new() {
            std::os::unix::fs::symlink(world.path("store"), reader.sandbox.path("repo")).expect("links");
            reader.ok(&[]);
        }
    }
}
