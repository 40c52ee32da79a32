//! What is shared with what: sources share nothing with each other, and nothing written by a revoked key is shared.

use std::collections::BTreeSet;

use sidekeep::base::id::{ChunkId, Digest};
use sidekeep::base::revocation::RevocationReason;
use sidekeep::base::role::{Role, SourceScope};
use sidekeep::format::entry::{EntryBody, Revoke};
use sidekeep::format::roster::{RevokeKey, RosterStatement};
use sidekeep::ops::error::OpError;
use sidekeep::repo::error::RepoError;

use crate::support::world::data::create_service;
use crate::support::world::look::{assert_sound, chunks, packs};
use crate::support::world::{SOURCE, World, open_key};

fn all_chunks(world: &World, source: &str) -> BTreeSet<ChunkId> {
    packs(world, source).into_iter().flat_map(|(pack, size)| chunks(world, source, pack, size)).collect()
}

#[test]
fn two_sources_share_nothing() {
    let (world, _) = World::in_memory();
    world.add_source("other");
    let path = world.path("live");
    create_service(&path, 80);
    let one = world.backup(&path);
    let two = world.try_backup_as(world.key(Role::Operator), "other", &path).expect("a snapshot");
    assert_eq!(two.tables.iter().map(|t| t.leaves_new).sum::<u64>(), two.tables.iter().map(|t| t.leaves).sum::<u64>());
    assert!(two.new_bytes * 10 > one.new_bytes * 9, "{} and {} bytes", one.new_bytes, two.new_bytes);
    let (of_one, of_two): (BTreeSet<Digest>, BTreeSet<Digest>) =
        (packs(&world, SOURCE).into_keys().collect(), packs(&world, "other").into_keys().collect());
    assert!(of_one.is_disjoint(&of_two));
    assert!(all_chunks(&world, SOURCE).is_disjoint(&all_chunks(&world, "other")), "ids are keyed by source");
    world.assert_restores(SOURCE, one.snapshot.expect("committed"), &path);
    world.assert_restores("other", two.snapshot.expect("committed"), &path);
    assert_eq!(world.ledger(SOURCE).snapshots.len(), 1);
}

#[test]
fn an_operator_of_one_source_cannot_write_to_another() {
    let (world, _) = World::in_memory();
    let other = world.add_source("other");
    let key = world.enrol(Role::Operator, Some(SourceScope::Named(vec![other])));
    let path = world.path("live");
    create_service(&path, 10);
    let report = world.try_backup_as(open_key(&key), "other", &path).expect("its own source");
    world.assert_restores("other", report.snapshot.expect("committed"), &path);
    let refused = world.try_backup_as(open_key(&key), SOURCE, &path).expect_err("not enrolled for it");
    assert!(matches!(refused, OpError::Repo(RepoError::HiddenSource { .. })), "{refused:?}");
    assert!(packs(&world, SOURCE).is_empty());
}

#[test]
fn a_revoked_key_is_refused_and_its_data_is_not_shared() {
    for chain in [Role::Admin, Role::Recovery].map(Some).into_iter().chain([None]) {
        let (world, _) = World::in_memory();
        let second = world.enrol(Role::Operator, Some(SourceScope::All));
        let path = world.path("live");
        create_service(&path, 60);
        let first = world.backup(&path);
        let shared = world.try_backup_as(open_key(&second), SOURCE, &path).expect("a snapshot");
        assert_eq!(shared.new_bytes, 0, "operators share what others wrote");

        let thief = world.key(Role::Operator).key_id();
        match chain {
            Some(role) => {
                let revoke = Revoke { key: thief, reason: RevocationReason::Stolen };
                world.append(role, SOURCE, EntryBody::Revoke(revoke));
            }
            None => world.state(
                Role::Admin,
                vec![RosterStatement::Revoke(RevokeKey { key: thief, reason: RevocationReason::Stolen })],
            ),
        }
        let refused = world.try_backup(&path).expect_err("revoked");
        assert!(matches!(refused, OpError::Repo(RepoError::NotEnrolled { .. })), "{refused:?}");
        let unshared = world.try_backup_as(open_key(&second), SOURCE, &path).expect("a snapshot");
        assert!(unshared.new_bytes * 10 > first.new_bytes * 9, "{} and {} bytes", first.new_bytes, unshared.new_bytes);
        let again = world.try_backup_as(open_key(&second), SOURCE, &path).expect("a snapshot");
        assert_eq!(again.new_bytes, 0, "data that the key wrote itself is shared");
        for report in [&first, &shared, &unshared, &again] {
            world.assert_restores(SOURCE, report.snapshot.expect("committed"), &path);
        }
        assert_sound(&world, SOURCE);
    }
}
