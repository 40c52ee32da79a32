//! Races for a number, lost answers, and the preconditions that a writer validates again (I6, I8, L4, L6).

use std::collections::HashSet;
use std::sync::Arc;

use sidekeep::base::id::Digest;
use sidekeep::base::limit::{ENTRY_PACKS_MAX, STATEMENT_BYTES_MAX};
use sidekeep::base::revocation::RevocationReason;
use sidekeep::base::role::Role;
use sidekeep::base::time::Moment;
use sidekeep::format::entry::{EntryBody, Forget, ObjectRef, Prune, Revoke};
use sidekeep::format::name::Name;
use sidekeep::format::roster::{CloseEpoch, RevokeKey, RosterStatement};
use sidekeep::repo::append::Appended;
use sidekeep::repo::commit::{Committed, Preconditions, SnapshotCandidate, commit};
use sidekeep::repo::error::RepoError;
use sidekeep::repo::ledger::Ledger;

use crate::ledger::fixture::{Fixture, append_to, digest, object, prune, snapshot};
use crate::support::stores::faulty::{Effect, Fault, Faulty, Plan, Verb};

#[test]
fn the_second_writer_of_a_number_learns_that_it_lost() {
    let fixture = Fixture::new();
    let (repository, ledger) = (fixture.repository(), fixture.ledger());
    let operator = fixture.key(Role::Operator);
    fixture.appended(EntryBody::Snapshot(snapshot(1)), &operator);
    let late = append_to(&repository, &ledger, EntryBody::Snapshot(snapshot(2)), &operator);
    assert!(matches!(late, Ok(Appended::Lost)));
    let again = append_to(&repository, &fixture.ledger(), EntryBody::Snapshot(snapshot(2)), &operator);
    assert!(matches!(again, Ok(Appended::Done(at)) if at.number == 2));
    let ledger = fixture.ledger();
    fixture.put_entry(3, b"garbage".to_vec());
    assert!(matches!(append_to(&repository, &ledger, EntryBody::Snapshot(snapshot(3)), &operator), Ok(Appended::Lost)));
}

/// Appends through a store that loses answers as planned. Returns the result and the number of live snapshots.
fn append_losing(
    first: u64,
    times: u64,
    verbs: &'static [Verb],
    effect: Effect,
) -> (Result<Appended, RepoError>, usize) {
    let fixture = Fixture::new();
    let ledger = fixture.ledger();
    let prefix = Name::Ledger(fixture.source, 1).to_string().leak();
    let plan = Plan { verbs, prefix, first, times, fault: Fault::Lost(effect) };
    let failing = fixture.over(Faulty::new(fixture.memory.clone(), plan)).expect("opens");
    let answer = append_to(&failing, &ledger, EntryBody::Snapshot(snapshot(1)), &fixture.key(Role::Operator));
    (answer, fixture.ledger().live().count())
}

#[test]
fn the_result_of_an_append_is_found_out_if_the_answer_is_lost() {
    let put: &[Verb] = &[Verb::Put];
    let both: &[Verb] = &[Verb::Put, Verb::Get];
    for effect in [Effect::Applied, Effect::NotApplied] {
        let (answer, live) = append_losing(1, 1, put, effect);
        assert!(matches!(answer, Ok(Appended::Done(_))), "{effect:?} {answer:?}");
        assert_eq!(live, 1);
    }
    // The answer to the first check is also lost. The second attempt finds that the object exists and that it is its
    // own.
    let (answer, live) = append_losing(1, 2, both, Effect::Applied);
    assert!(matches!(answer, Ok(Appended::Done(_))), "{answer:?}");
    assert_eq!(live, 1);
}

#[test]
fn an_append_without_any_answer_has_an_unclear_result() {
    let both: &[Verb] = &[Verb::Put, Verb::Get];
    for (effect, expected) in [(Effect::Applied, 1), (Effect::NotApplied, 0)] {
        let (answer, live) = append_losing(1, u64::MAX, both, effect);
        assert!(matches!(answer, Err(RepoError::CommitUncertain { .. })), "{effect:?} {answer:?}");
        assert_eq!(live, expected);
    }
}

#[test]
fn an_append_whose_number_another_writer_took_is_lost() {
    let fixture = Fixture::new();
    let ledger = fixture.ledger();
    let operator = fixture.key(Role::Operator);
    let prefix = Name::Ledger(fixture.source, 1).to_string().leak();
    let plan = Plan { verbs: &[Verb::Put], prefix, first: 1, times: 1, fault: Fault::Lost(Effect::NotApplied) };
    let failing = fixture.over(Faulty::new(fixture.memory.clone(), plan)).expect("opens");
    fixture.appended(EntryBody::Snapshot(snapshot(1)), &operator);
    assert!(matches!(append_to(&failing, &ledger, EntryBody::Snapshot(snapshot(2)), &operator), Ok(Appended::Lost)));
}

const MANIFEST: &[u8] = b"a manifest";

/// A snapshot as of second 9 that shares pack 101, adopts 50 and adds 60.
fn candidate() -> SnapshotCandidate {
    let preconditions =
        Preconditions { packs: HashSet::from([digest(101)]), adopted: vec![object(50)], added: vec![object(60)] };
    SnapshotCandidate { snapshot: snapshot(9), manifest: MANIFEST.to_vec(), preconditions }
}

/// The result of committing the candidate if `meanwhile` happens after it folded the ledger.
fn overtaken_by(meanwhile: impl FnOnce(&Fixture)) -> Result<Committed, RepoError> {
    let fixture = Fixture::new();
    fixture.appended(EntryBody::Snapshot(snapshot(1)), &fixture.key(Role::Operator));
    let mut ledger = fixture.ledger();
    let mut unlocked = fixture.unlock(Role::Operator);
    meanwhile(&fixture);
    let committed = commit(&mut unlocked, &mut ledger, candidate());
    let ledger = fixture.ledger();
    let there = ledger.live().any(|record| record.snapshot.manifest.sha256 == Digest::of(MANIFEST));
    assert_eq!(there, committed.is_ok());
    assert!(ledger.voids.iter().all(|(_, reason)| reason.contains("read")), "{:?}", ledger.voids);
    committed
}

fn maintains(body: EntryBody) -> impl FnOnce(&Fixture) {
    move |fixture| {
        fixture.appended(body, &fixture.key(Role::Maintainer));
    }
}

#[test]
fn a_snapshot_that_is_still_valid_commits_after_a_lost_race() {
    let lost = |meanwhile: &dyn Fn(&Fixture)| overtaken_by(meanwhile).expect("commits").races_lost;
    assert_eq!(lost(&|_| {}), 0);
    assert_eq!(lost(&|fixture| fixture.put_entry(2, b"garbage".to_vec())), 1);
    assert_eq!(lost(&|fixture| maintains(prune(&[99]))(fixture)), 1);
    let others = |fixture: &Fixture| {
        for n in [2, 3] {
            fixture.appended(EntryBody::Snapshot(snapshot(n)), &fixture.key(Role::Operator));
        }
    };
    assert_eq!(lost(&others), 1);
    assert_eq!(lost(&|fixture| drop(fixture.enrol(Role::Auditor, None))), 0);
}

#[test]
fn a_snapshot_with_a_pruned_object_is_not_committed() {
    for pack in [101, 50, 60] {
        let error = overtaken_by(maintains(prune(&[pack]))).expect_err("it was pruned");
        assert!(matches!(error, RepoError::Overtaken { .. }), "{pack}: {error}");
    }
    let manifests = vec![Digest::of(MANIFEST)];
    let manifest = EntryBody::Prune(Prune { packs: vec![], manifests });
    assert!(matches!(overtaken_by(maintains(manifest)), Err(RepoError::Overtaken { .. })));
}

#[test]
fn an_older_image_is_not_committed() {
    for n in [9, 10] {
        let newer = move |fixture: &Fixture| {
            fixture.appended(EntryBody::Snapshot(snapshot(n)), &fixture.key(Role::Operator));
        };
        assert!(matches!(overtaken_by(newer), Err(RepoError::Overtaken { .. })), "{n}");
    }
    // A snapshot dated far in the future does not block later ones, because it can be forgotten.
    let forgotten = |fixture: &Fixture| {
        let mut ahead = snapshot(10);
        ahead.source_clock = Moment(200_000_000_000_000_000);
        let id = fixture.appended(EntryBody::Snapshot(ahead), &fixture.key(Role::Operator)).sha256;
        let forget = Forget { snapshots: vec![id], reason: "its clock".to_owned() };
        fixture.appended(EntryBody::Forget(forget), &fixture.key(Role::Maintainer));
    };
    assert_eq!(overtaken_by(forgotten).expect("commits").races_lost, 1);
}

#[test]
fn data_of_a_revoked_key_is_not_shared_and_the_key_cannot_commit() {
    let own = |fixture: &Fixture| {
        let key = fixture.key(Role::Operator).key_id();
        fixture
            .appended(EntryBody::Revoke(Revoke { key, reason: RevocationReason::Stolen }), &fixture.key(Role::Admin));
    };
    assert!(matches!(overtaken_by(own), Err(RepoError::NotEnrolled { .. })));
    let closed = |fixture: &Fixture| {
        let reason = "stolen".to_owned();
        fixture.state(
            Role::Admin,
            vec![RosterStatement::Close(CloseEpoch { epoch: sidekeep::base::id::Epoch(1), reason })],
        );
        fixture.appended(EntryBody::Snapshot(snapshot(2)), &fixture.key(Role::Operator));
    };
    assert!(matches!(overtaken_by(closed), Err(RepoError::Overtaken { .. })));
}

/// An upload takes hours, so the roster must be read again before the commit, even without a race for the number.
#[test]
fn a_commit_respects_roster_changes_made_during_the_upload() {
    let closed = |fixture: &Fixture| {
        let reason = "stolen".to_owned();
        fixture.state(
            Role::Admin,
            vec![RosterStatement::Close(CloseEpoch { epoch: sidekeep::base::id::Epoch(1), reason })],
        );
    };
    assert!(matches!(overtaken_by(closed), Err(RepoError::Overtaken { .. })));
    let revoked = |fixture: &Fixture| {
        let key = fixture.key(Role::Operator).key_id();
        fixture.state(Role::Admin, vec![RosterStatement::Revoke(RevokeKey { key, reason: RevocationReason::Stolen })]);
    };
    assert!(matches!(overtaken_by(revoked), Err(RepoError::NotEnrolled { .. })));
}

/// A snapshot with more packs than one entry can name.
fn large() -> SnapshotCandidate {
    let pack = |n: usize| ObjectRef { sha256: Digest::of(&n.to_be_bytes()), size: 1 };
    let (adopted, added) = ((0..100).map(pack).collect(), (100..2 * ENTRY_PACKS_MAX + 200).map(pack).collect());
    let preconditions = Preconditions { packs: HashSet::from([digest(101)]), adopted, added };
    SnapshotCandidate { snapshot: snapshot(9), manifest: MANIFEST.to_vec(), preconditions }
}

#[test]
fn packs_that_one_entry_cannot_name_are_added_before_the_snapshot() {
    let fixture = Fixture::new();
    fixture.appended(EntryBody::Snapshot(snapshot(1)), &fixture.key(Role::Operator));
    let (mut ledger, mut unlocked) = (fixture.ledger(), fixture.unlock(Role::Operator));
    let committed = commit(&mut unlocked, &mut ledger, large()).expect("commits");
    let ledger = fixture.ledger();
    let record = ledger.newest().expect("a snapshot");
    assert_eq!((committed.entry.number, record.id), (4, committed.entry.sha256));
    assert_eq!((record.snapshot.packs.len(), record.in_advance.packs), (200, 2 * ENTRY_PACKS_MAX));
    assert_eq!(record.new_bytes(), large().preconditions.added.len() as u64 + 100);
    assert_eq!(ledger.inventory().count(), 1 + 2 * ENTRY_PACKS_MAX + 200);
    for number in 2..=4 {
        assert!(fixture.get(&Name::Ledger(fixture.source, number)).len() <= STATEMENT_BYTES_MAX);
    }
}

#[test]
fn packs_that_were_added_ahead_and_then_pruned_are_not_committed() {
    let fixture = Arc::new(Fixture::new());
    fixture.appended(EntryBody::Snapshot(snapshot(1)), &fixture.key(Role::Operator));
    let (mut ledger, mut unlocked) = (fixture.ledger(), fixture.unlock(Role::Operator));
    let named = large().preconditions.added.last().expect("a pack").sha256;
    let pruned = EntryBody::Prune(Prune { packs: vec![named], manifests: vec![] });
    fixture.appended(pruned, &fixture.key(Role::Maintainer));
    assert!(matches!(commit(&mut unlocked, &mut ledger, large()), Err(RepoError::Overtaken { .. })));
    assert_eq!((fixture.ledger().live().count(), fixture.ledger().digests.len()), (1, 2));
}

#[test]
fn concurrent_writers_each_commit_once_or_are_overtaken() {
    let fixture = Arc::new(Fixture::new());
    let run = |n: u8| {
        let fixture = Arc::clone(&fixture);
        move || {
            let mut unlocked = fixture.unlock(Role::Operator);
            let mut ledger = Ledger::load(unlocked.repository(), fixture.source).expect("folds");
            let preconditions =
                Preconditions { added: vec![ObjectRef { sha256: digest(n), size: 1 }], ..Preconditions::default() };
            commit(
                &mut unlocked,
                &mut ledger,
                SnapshotCandidate { snapshot: snapshot(n), manifest: vec![n], preconditions },
            )
            .is_ok()
        }
    };
    let threads: Vec<_> = (1..=8).map(|n| std::thread::spawn(run(n))).collect();
    let committed = threads.into_iter().map(|thread| thread.join().expect("no panic")).filter(|ok| *ok).count();
    let ledger = fixture.ledger();
    assert_eq!((ledger.live().count(), ledger.voids.len()), (committed, 0));
    assert!(ledger.live().map(|record| record.snapshot.source_clock).is_sorted() && committed > 0);
}
