//! Key rotation: a new epoch is opened and the old one is closed. Stored data stays readable for the keys that could
//! read it, nothing new is shared with it, and a key that is not granted the new epoch gets an error. These tests
//! write the roster statements themselves (`docs/format.md` sections 3 and 11); `tests/cli/key` has the command.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use object_store::memory::InMemory;
use sidekeep::base::cancel::Cancel;
use sidekeep::base::finding::Severity;
use sidekeep::base::id::{Digest, Epoch};
use sidekeep::base::progress::Silent;
use sidekeep::base::role::{Role, SourceScope};
use sidekeep::crypto::role::AdminKeys;
use sidekeep::format::grant::Grant;
use sidekeep::format::roster::{CloseEpoch, OpenEpoch, RosterStatement};
use sidekeep::ops::access::RepositoryAccess;
use sidekeep::ops::diff::{self, DiffOptions, DiffReport};
use sidekeep::ops::error::OpError;
use sidekeep::ops::select::Selector;
use sidekeep::ops::verify::{self, VerifyLevel, VerifyOptions};
use sidekeep::repo::error::RepoError;

use crate::support::stores::faulty::{Effect, Faulty, Plan};
use crate::support::world::data::{add_photo, copy, create_service, open};
use crate::support::world::findings::FindingsByKind;
use crate::support::world::look::{assert_sound, packs};
use crate::support::world::{SOURCE, World};

const NEW: Epoch = Epoch(2);

/// Opens a new epoch for `roles`. If `close` gives a reason, also closes the old one.
fn rotate(world: &World, roles: &[Role], close: Option<&str>) {
    let repository = world.repository().id();
    let keys = AdminKeys::create_epoch(&*world.env, repository, NEW);
    let mut grants = BTreeMap::new();
    for role in roles {
        let public = world.key(*role).public();
        let key = public.id();
        let sealed = keys.grant(&*world.env, &public, *role, &SourceScope::All).expect("a grant");
        let grant = Grant { repository, epoch: NEW, key, sealed };
        let bytes = grant.encode();
        grants.insert(key, Digest::of(&bytes));
        world.objects().create(&grant.name(&bytes), bytes.into()).expect("a grant");
    }
    let opened = OpenEpoch { epoch: NEW, sealing: keys.restore_public().to_bytes(), grants };
    let mut statements = vec![RosterStatement::Epoch(opened)];
    statements.extend(close.map(|reason| {
        let reason = reason.to_owned();
        RosterStatement::Close(CloseEpoch { epoch: Epoch(1), reason })
    }));
    world.state(Role::Admin, statements);
}

/// A world with one snapshot in the first epoch, and its database.
fn begun() -> (World, Arc<InMemory>, PathBuf) {
    let (world, memory) = World::in_memory();
    let live = world.path("live");
    let db = create_service(&live, 40);
    add_photo(&db, 3, 400_000);
    world.backup(&live);
    (world, memory, live)
}

fn assert_verifies(world: &World) {
    for (role, level) in [
        (Role::Auditor, VerifyLevel::Read),
        (Role::Auditor, VerifyLevel::Structure),
        (Role::Recovery, VerifyLevel::Deep),
    ] {
        let options = VerifyOptions {
            level,
            source: None,
            snapshots: Vec::new(),
            known_heads: None,
            progress: Arc::new(Silent),
            cancel: Cancel::default(),
        };
        let report = verify::run(RepositoryAccess::WithKey(&world.unlock(role)), &options).expect("verifies");
        // Orphans are not damage.
        assert!(
            report.findings.iter().all(|found| found.severity == Severity::Information),
            "{level:?}: {:?}",
            report.findings
        );
    }
}

fn diff_of(world: &World, old: usize, new: usize) -> DiffReport {
    let unlocked = world.unlock(Role::Admin);
    let options = DiffOptions {
        source: world.source(SOURCE),
        old: Selector::Latest(old),
        new: Selector::Latest(new),
        table: None,
        user: None,
        samples_max: 0,
        users_max: 100,
        spill_dir: world.dir.path().to_owned(),
        progress: Arc::new(Silent),
        cancel: Cancel::default(),
    };
    diff::run(&unlocked, &options).expect("a diff")
}

#[test]
fn a_new_epoch_shares_nothing_with_the_old_one_and_both_restore() {
    for close in [Some("stolen"), None] {
        let (world, _, live) = begun();
        let first = world.ledger(SOURCE).newest().expect("a snapshot").id;
        let old: u64 = packs(&world, SOURCE).values().sum();
        rotate(&world, &Role::ALL, close);

        let second = world.backup(&live);
        assert!(second.new_bytes * 10 > old * 9, "{} of {old} bytes: a full upload", second.new_bytes);
        assert!(second.notes().is_empty(), "packs of the old epoch are not read: {:?}", second.notes());
        assert_eq!(world.backup(&live).new_bytes, 0, "within the epoch everything is shared");
        let kept = world.path("kept");
        copy(&live, &kept);
        open(&live).execute_batch("UPDATE contacts SET name = 'x' WHERE id % 7 = 0").expect("a day");
        let third = world.backup(&live);
        assert!(third.new_bytes < old / 2, "{third:?}");
        for (id, original) in [(first, &kept), (second.snapshot.expect("one"), &kept)] {
            world.assert_restores(SOURCE, id, original);
        }
        world.assert_restores(SOURCE, third.snapshot.expect("one"), &live);
        assert_sound(&world, SOURCE);
        assert_verifies(&world);

        // Ids of different epochs cannot be compared, but rows can.
        let same = diff_of(&world, 3, 2);
        assert!(same.is_empty() && same.notes().iter().any(|note| note.contains("rotated")), "{same:?}");
        let (across, within) = (diff_of(&world, 3, 0), diff_of(&world, 1, 0));
        assert!(across.rows.changed > 0 && across.rows == within.rows, "{across:?} {within:?}");
    }
}

#[test]
fn a_key_without_a_grant_of_the_new_epoch_keeps_only_its_old_access() {
    let (world, _, live) = begun();
    let first = world.ledger(SOURCE).newest().expect("a snapshot").id;
    let without = |left_out: Role| Role::ALL.into_iter().filter(|role| *role != left_out).collect::<Vec<_>>();
    rotate(&world, &without(Role::Admin), Some("stolen"));
    world.backup(&live);
    let restore = |role: Role, name: Selector, to: &Path| world.try_restore_as(world.key(role), SOURCE, name, to);
    let to = world.path("back");
    let refused = restore(Role::Admin, Selector::Latest(0), &to).expect_err("no grant");
    assert!(matches!(refused, OpError::Repo(RepoError::NotEnrolled { .. })), "{refused:?}");
    assert!(!to.exists());
    let fragments = |role: Role| {
        let report = world.verify(Some(role), VerifyLevel::Structure).expect("structure");
        let unchecked = report.findings.iter().filter(|found| found.object == "epoch 2").count();
        (report.sources[0].fragments, unchecked)
    };
    assert_eq!((fragments(Role::Recovery), fragments(Role::Admin)), ((2, 0), (1, 1)));
    restore(Role::Admin, Selector::Name(first.to_string()), &to).expect("can still read the old epoch");
    std::fs::remove_file(&to).expect("was restored");
    restore(Role::Recovery, Selector::Latest(0), &to).expect("has both");

    let (world, _, live) = begun();
    rotate(&world, &without(Role::Operator), Some("stolen"));
    let before = packs(&world, SOURCE);
    let refused = world.try_backup(&live).expect_err("no grant");
    assert!(matches!(refused, OpError::Repo(RepoError::NotEnrolled { .. })), "{refused:?}");
    assert_eq!(packs(&world, SOURCE), before);
}

#[test]
fn packs_announced_in_a_closed_epoch_are_not_adopted() {
    let (world, memory, live) = begun();
    open(&live).execute_batch("UPDATE contacts SET name = 'x'").expect("a day");
    let counting = Faulty::new(Arc::new(memory.fork()), Plan::never());
    world.beside(counting.clone()).backup(&live);
    let faulty = Faulty::new(memory, Plan::crash(counting.calls() - 1, Effect::NotApplied));
    world.beside(faulty).try_backup(&live).expect_err("dies");
    rotate(&world, &Role::ALL, Some("stolen"));
    let report = world.backup(&live);
    assert_eq!(report.adopted, 0);
    world.assert_restores(SOURCE, report.snapshot.expect("committed"), &live);
    assert_verifies(&world);
}
