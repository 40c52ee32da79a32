//! Wrong keys are refused with a clear error before anything is opened or written.

use std::sync::Arc;

use sidekeep::base::id::Epoch;
use sidekeep::base::revocation::RevocationReason;
use sidekeep::base::role::{Role, SourceScope};
use sidekeep::crypto::keyfile::{KdfCost, KeyFile, KeyFileError, Protection};
use sidekeep::crypto::role::{AdminKeys, RoleError};
use sidekeep::format::grant::Grant;
use sidekeep::format::roster::{RevokeKey, RosterStatement};
use sidekeep::ops::error::OpError;
use sidekeep::ops::select::Selector;
use sidekeep::repo::create::add_source;
use sidekeep::repo::error::RepoError;

use crate::support::stores::faulty::Verb;
use crate::support::stores::recorder::Recorder;
use crate::support::world::data::create_service;
use crate::support::world::look::packs;
use crate::support::world::{SOURCE, World, open_key};

const BLIND: [Role; 3] = [Role::Operator, Role::Maintainer, Role::Auditor];

fn begun() -> (World, Arc<object_store::memory::InMemory>) {
    let (world, memory) = World::in_memory();
    let path = world.path("live");
    create_service(&path, 5);
    world.backup(&path);
    (world, memory)
}

fn unlocked(world: &World, file: &str) -> Result<(), RepoError> {
    world.repository().unlock(open_key(file)).map(drop)
}

#[test]
fn a_restore_with_a_key_that_is_not_an_admins_reads_no_data() {
    let (world, memory) = begun();
    for role in BLIND {
        let recorder = Recorder::new(memory.clone());
        let to = world.path(&format!("restored by {role}"));
        let through = world.beside(recorder.clone());
        let refused =
            through.try_restore_as(world.key(role), SOURCE, Selector::Latest(0), &to).expect_err("not an admin");
        assert!(
            matches!(refused, OpError::Repo(RepoError::WrongRole { role: found, .. }) if found == role),
            "{refused:?}"
        );
        assert!(!to.exists());
        let read = recorder.names(Verb::Get);
        assert!(read.iter().all(|name| !name.contains("/packs/") && !name.contains("/manifests/")), "{role}: {read:?}");
        assert!(recorder.names(Verb::Put).is_empty());
    }
    for role in [Role::Admin, Role::Recovery] {
        let to = world.path(&format!("restored by {role}"));
        world.try_restore_as(world.key(role), SOURCE, Selector::Latest(0), &to).expect("a restore");
    }
}

#[test]
fn a_backup_with_a_key_that_is_not_an_operators_writes_nothing() {
    let (world, memory) = begun();
    for role in [Role::Maintainer, Role::Admin, Role::Auditor, Role::Recovery] {
        let recorder = Recorder::new(memory.clone());
        let through = world.beside(recorder.clone());
        let refused = through.try_backup_as(world.key(role), SOURCE, &world.path("live")).expect_err("not an operator");
        assert!(
            matches!(refused, OpError::Repo(RepoError::WrongRole { role: found, .. }) if found == role),
            "{refused:?}"
        );
        assert!(recorder.names(Verb::Put).is_empty());
    }
}

#[test]
fn foreign_and_unenrolled_keys_unlock_nothing() {
    let (world, _) = begun();
    let (other, _) = World::in_memory_of(8);
    let (ours, theirs) = (world.repository().id().to_string(), other.repository().id().to_string());
    for (role, file) in &other.keys {
        assert!(matches!(unlocked(&world, file), Err(RepoError::OtherRepository { .. })), "{role}");
        // Even with this repository's id in its file, the key is not enrolled here.
        let renamed = file.replace(&theirs, &ours);
        assert!(matches!(unlocked(&world, &renamed), Err(RepoError::NotEnrolled { .. })), "{role}");
    }
    // The other repository does not pass the fingerprint check either.
    let found = world.repository().check_fingerprint(&other.repository().roster().fingerprint());
    assert!(matches!(found, Err(RepoError::Fingerprint { .. })));
}

#[test]
fn a_key_file_with_another_role_unlocks_nothing() {
    let (world, _) = begun();
    for (role, file) in &world.keys {
        for other in Role::ALL.into_iter().filter(|other| other != role) {
            let changed = file.replace(&format!("role: {role}"), &format!("role: {other}"));
            assert_ne!(changed, *file);
            let refused = unlocked(&world, &changed);
            assert!(matches!(refused, Err(RepoError::NotEnrolled { .. })), "{role} as {other}: {refused:?}");
        }
        // Under a passphrase, the seal also authenticates the header lines.
        let protection = Protection::Passphrase { passphrase: b"open", cost: KdfCost::LEAST };
        let fingerprint = world.repository().roster().fingerprint();
        let sealed = KeyFile::write(&*world.env, &world.key(*role), "test", fingerprint, protection).expect("writes");
        assert!(KeyFile::parse(&sealed).expect("a key file").open(Some(b"open")).is_ok());
        let other = if *role == Role::Admin { Role::Auditor } else { Role::Admin };
        let changed = sealed.replace(&format!("role: {role}"), &format!("role: {other}"));
        let refused = KeyFile::parse(&changed).expect("a key file").open(Some(b"open")).map(drop);
        assert_eq!(refused, Err(KeyFileError::Passphrase), "{role}");
    }
    // These seeds with another key's id.
    let (operator, admin) = (&world.keys[0].1, world.key(Role::Admin).key_id().to_string());
    let changed = operator.replace(&world.key(Role::Operator).key_id().to_string(), &admin);
    assert_eq!(KeyFile::parse(&changed).expect("a key file").open(None).map(drop), Err(KeyFileError::Mismatch));
}

#[test]
fn a_grant_of_another_key_or_with_other_powers_than_the_role_is_refused() {
    let (world, _) = begun();
    let of_admin =
        world.objects().get(&world.grant_name(Epoch(1), world.key(Role::Admin).key_id()), 1 << 20).expect("a grant");
    let scope = |role| (role == Role::Operator).then_some(SourceScope::All);
    for role in BLIND {
        // Planted, while the roster names another grant.
        let file = world.enrol(role, scope(role));
        unlocked(&world, &file).expect("its own grant");
        let name = world.grant_name(Epoch(1), open_key(&file).key_id());
        world.runtime.block_on(world.store().delete(&name.to_string())).expect("deletes");
        assert!(matches!(unlocked(&world, &file), Err(RepoError::Missing { .. })), "{role}");
        world.objects().create(&name, of_admin.clone()).expect("a grant");
        let refused = unlocked(&world, &file);
        assert!(matches!(refused, Err(RepoError::Damaged { .. })), "{role}: {refused:?}");

        // Named by the roster, but another key's grant.
        let file = world.enrol_with(role, scope(role), |_, _| of_admin.to_vec());
        let refused = unlocked(&world, &file);
        assert!(matches!(refused, Err(RepoError::Damaged { .. })), "{role}: {refused:?}");

        // Named for this key, but sealed to another.
        let sealed = Grant::decode(&of_admin).expect("a grant").sealed;
        let file = world.enrol_with(role, scope(role), |_, public| world.grant(public.id(), sealed));
        let refused = unlocked(&world, &file);
        assert!(
            matches!(&refused, Err(RepoError::Grant { source: RoleError::Grant { .. }, .. })),
            "{role}: {refused:?}"
        );

        // Sealed to this key, but with too much or too little for its role.
        for other in Role::ALL.into_iter().filter(|other| !same_powers(*other, role)) {
            let file = world.enrol_with(role, scope(role), |keys, public| {
                let sealed = keys.grant(&*world.env, public, other, &SourceScope::All).expect("seals");
                world.grant(public.id(), sealed)
            });
            let refused = unlocked(&world, &file);
            let mismatch = matches!(&refused, Err(RepoError::Grant { source: RoleError::Mismatch { .. }, .. }));
            assert!(mismatch, "{role} with the grant of {other}: {refused:?}");
        }
    }
}

/// Anyone who can write to the store can seal a grant with keys of their own choice to a public key.
#[test]
fn a_well_formed_grant_that_the_roster_does_not_name_is_refused() {
    let (world, _) = begun();
    let foreign = AdminKeys::create_epoch(&*world.env, world.repository().id(), Epoch(1));
    for (role, file) in &world.keys {
        let public = open_key(file).public();
        let sealed = foreign.grant(&*world.env, &public, *role, &SourceScope::All).expect("seals");
        let planted = world.grant(public.id(), sealed);
        let name = world.grant_name(Epoch(1), public.id());
        world.runtime.block_on(world.store().delete(&name.to_string())).expect("deletes");
        world.objects().create(&name, planted.into()).expect("a grant");
        let refused = unlocked(&world, file);
        let is_named =
            matches!(&refused, Err(RepoError::Damaged { reason, .. }) if reason.contains("digest in the roster"));
        assert!(is_named, "{role}: {refused:?}");
    }
}

/// Backups are sealed to the restore key that the roster names. An admin whose grant has another restore key would
/// notice only at the first restore.
#[test]
fn a_grant_with_another_restore_key_is_refused() {
    let (world, _) = begun();
    let other = AdminKeys::create_epoch(&*world.env, world.repository().id(), Epoch(1));
    for role in [Role::Admin, Role::Recovery] {
        let file = world.enrol_with(role, None, |_, public| {
            let sealed = other.grant(&*world.env, public, role, &SourceScope::All).expect("seals");
            world.grant(public.id(), sealed)
        });
        let refused = unlocked(&world, &file);
        let is_named = matches!(&refused, Err(RepoError::Damaged { reason, .. }) if reason.contains("restore key"));
        assert!(is_named, "{role}: {refused:?}");
    }
}

fn same_powers(a: Role, b: Role) -> bool {
    let structure_alone = |role| matches!(role, Role::Maintainer | Role::Auditor);
    a == b || (structure_alone(a) && structure_alone(b))
}

#[test]
fn a_revoked_key_still_opens_what_it_was_granted_and_writes_nothing() {
    let (base, memory) = begun();
    for role in Role::ALL {
        let world = base.beside(Arc::new(memory.fork()));
        let by = if role.is_admin() { Role::Recovery } else { Role::Admin };
        world.state(
            by,
            vec![RosterStatement::Revoke(RevokeKey {
                key: world.key(role).key_id(),
                reason: RevocationReason::Stolen,
            })],
        );
        for other in Role::ALL {
            let mut unlocked = world.repository().unlock(world.key(other)).expect("a grant");
            assert_eq!(unlocked.revocation().is_some(), other == role, "{other} after {role} was revoked");
            if other == role && (role.is_admin() || role == Role::Operator) {
                let refused = add_source(&mut unlocked, "another");
                assert!(
                    matches!(refused, Err(RepoError::WrongRole { .. } | RepoError::NotEnrolled { .. })),
                    "{refused:?}"
                );
            }
        }
        // Its earlier statements still count.
        assert_eq!(world.ledger(SOURCE).snapshots.len(), 1);
        assert!(!packs(&world, SOURCE).is_empty());
    }
}
