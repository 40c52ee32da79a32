//! Visits every state that a world can reach, and tests that none of them violates a property.

use std::collections::{BTreeMap, HashMap};

use super::chain::{Entry, PLANTED, first};
use super::process::{Action, Bug, Reader, State, WriterPhase};
use super::property::Violation;
use super::world::{Ahead, First, World};

/// The result of an enumeration.
#[derive(Debug, Default)]
struct Found {
    states: usize,
    steps: usize,
    /// The shortest path to each kind of violation.
    bad: BTreeMap<Violation, Vec<Action>>,
    seen: Seen,
}

/// Counts of interesting steps. An enumeration that never takes them proves little.
#[derive(Debug, Default)]
struct Seen {
    commits: usize,
    commits_adopting: usize,
    added_ahead: usize,
    commits_after_garbage: usize,
    /// A writer lost a number, but all its preconditions still held.
    validated_again: usize,
    overtaken_by_prune: usize,
    overtaken_by_newer: usize,
    /// Objects of a writer that had not given up were deleted.
    deleted_under_writer: usize,
    /// A reader was told that an object was pruned.
    pruned_under_reader: usize,
}

impl Seen {
    fn look(&mut self, before: &State, action: Action, after: &State) {
        let fold = before.chain.fold(before.chain.len);
        match action {
            Action::Applies(run) => {
                self.commits += 1;
                self.commits_adopting += usize::from(before.writers[run].adopted != 0);
                self.commits_after_garbage += usize::from(before.chain.known().contains(&Entry::Void));
            }
            Action::AddsAhead(_) => self.added_ahead += 1,
            Action::Revalidates(run) => {
                let writer = &before.writers[run];
                let overtaken = after.writers[run].phase == WriterPhase::Overtaken;
                let named = (writer.own | writer.adopted | writer.shared) & fold.removed != 0;
                self.validated_again += usize::from(!overtaken);
                self.overtaken_by_prune += usize::from(overtaken && named);
                self.overtaken_by_newer += usize::from(overtaken && fold.newest > writer.clock);
            }
            Action::Deletes(_) => {
                let gone = before.stored & !after.stored;
                self.deleted_under_writer += usize::from(before.writers.iter().any(|writer| writer.own & gone != 0));
            }
            Action::Reads => {
                let there = matches!(before.reader, Reader::Reading { left, .. } if before.stored & first(left) != 0);
                self.pruned_under_reader += usize::from(!there);
            }
            _ => {}
        }
    }
}

/// Visits every state, nearest first. With `wanted`, stops once a violation of that kind is found.
fn enumerate(world: &World, wanted: Option<Violation>) -> Found {
    let start = world.start();
    let mut found = Found::default();
    let mut index = HashMap::from([(start, 0)]);
    let mut states = vec![(start, 0, Action::Garbage)];
    let mut at = 0;
    while at < states.len() && !wanted.is_some_and(|wanted| found.bad.contains_key(&wanted)) {
        let (state, ..) = states[at];
        for violation in world.violations(&state) {
            found.bad.entry(violation).or_insert_with(|| way_to(&states, at));
        }
        for (action, after) in world.steps(&state) {
            found.steps += 1;
            found.seen.look(&state, action, &after);
            index.entry(after).or_insert_with(|| {
                states.push((after, at, action));
                states.len() - 1
            });
        }
        at += 1;
    }
    found.states = states.len();
    found
}

fn way_to(states: &[(State, usize, Action)], mut at: usize) -> Vec<Action> {
    let mut way = Vec::new();
    while at > 0 {
        way.push(states[at].2);
        at = states[at].1;
    }
    way.reverse();
    way
}

const WORLD: World = World {
    keys: &[0, 0],
    pruners: 1,
    first: First::Snapshot,
    reader: Reader::Done,
    forgets: 1,
    garbage: 0,
    reappears: 0,
    planted: 0,
    ahead: Ahead::Never,
    entries: 5,
    bug: Bug::None,
};

fn sound(name: &str, world: &World) -> Found {
    let found = enumerate(world, None);
    println!("{name}: {} states, {} steps, {:?}", found.states, found.steps, found.seen);
    assert!(found.bad.is_empty(), "{name}: {:#?}", found.bad);
    assert!(found.seen.commits > 0 && found.seen.overtaken_by_prune > 0 && found.seen.deleted_under_writer > 0);
    found
}

fn caught(world: &World, bug: Bug, violation: Violation) {
    let found = enumerate(&World { bug, ..*world }, Some(violation));
    let way = found.bad.get(&violation);
    println!("{bug:?} reaches {violation:?}, {} states seen: {way:?}", found.states);
    assert!(way.is_some(), "{bug:?} does not reach {violation:?}");
}

#[test]
fn two_writers_of_one_key_and_a_pruner_violate_nothing() {
    let found = sound("two writers of one key", &WORLD);
    let seen = found.seen;
    assert!(seen.commits_adopting > 0 && seen.validated_again > 0 && seen.overtaken_by_newer > 0);
}

#[test]
fn two_writers_of_two_keys_and_a_pruner_violate_nothing() {
    let found = sound("two writers of two keys", &World { keys: &[0, 1], planted: PLANTED, ..WORLD });
    assert!(found.seen.commits_adopting == 0 && found.seen.validated_again > 0);
}

#[test]
fn garbage_entries_violate_nothing() {
    let found = sound("garbage", &World { garbage: 1, ..WORLD });
    assert!(found.seen.commits_after_garbage > 0);
}

#[test]
fn late_uploads_violate_nothing() {
    sound("late uploads", &World { reappears: 1, ..WORLD });
}

#[test]
fn a_reader_and_a_restarted_pruner_violate_nothing() {
    let world = World { keys: &[0], pruners: 2, reader: Reader::Idle, ..WORLD };
    let found = sound("a reader", &world);
    assert!(found.seen.pruned_under_reader > 0);
}

#[test]
fn packs_added_ahead_violate_nothing() {
    let ahead = World { ahead: Ahead::Sometimes, ..WORLD };
    let one = sound("one run, two pruners", &World { keys: &[0], pruners: 2, ..ahead });
    assert!(one.seen.added_ahead > 0);
    let two = sound("two runs that add ahead", &ahead);
    assert!(two.seen.commits_adopting > 0 && two.seen.validated_again > 0);
}

#[test]
fn a_new_source_violates_nothing() {
    let world = World { keys: &[0, 1], first: First::Nothing, forgets: 0, ..WORLD };
    sound("a new source", &world);
}

#[test]
#[ignore = "takes minutes, part of the long run"]
fn larger_worlds_violate_nothing() {
    sound("two pruners", &World { pruners: 2, ..WORLD });
    let ahead = World { ahead: Ahead::Sometimes, entries: 6, ..WORLD };
    sound("adding ahead, two pruners", &World { pruners: 2, ..ahead });
    sound("adding ahead, two keys", &World { keys: &[0, 1], ..ahead });
    sound("two pruners, two keys", &World { pruners: 2, keys: &[0, 1], ..WORLD });
    sound("three runs", &World { keys: &[0, 0, 1], first: First::Nothing, forgets: 0, ..WORLD });
    let all = World { reader: Reader::Idle, garbage: 1, ..WORLD };
    sound("garbage and a reader", &all);
}

#[test]
fn planted_bugs_are_found() {
    use Violation::{Blocked, ClockFalls, InventoryGone, Poisoned, ReaderMisled, SnapshotLost};
    caught(&WORLD, Bug::WriterRenumbers, SnapshotLost);
    caught(&World { ahead: Ahead::Sometimes, ..WORLD }, Bug::TrustsWhatItAdded, SnapshotLost);
    caught(&WORLD, Bug::PrunerRenumbers, SnapshotLost);
    caught(&WORLD, Bug::DeletesBeforeEntry, SnapshotLost);
    caught(&WORLD, Bug::DeletesBeforeEntry, InventoryGone);
    caught(&World { reader: Reader::Idle, ..WORLD }, Bug::DeletesBeforeEntry, ReaderMisled);
    caught(&World { planted: PLANTED, ..WORLD }, Bug::AdoptsUnlisted, Poisoned);
    caught(&World { keys: &[0, 1], ..WORLD }, Bug::AdoptsUnlisted, Poisoned);
    caught(&WORLD, Bug::AdoptsRemoved, SnapshotLost);
    caught(&WORLD, Bug::CountsOnOrphans, SnapshotLost);
    caught(&WORLD, Bug::CommitsOlder, ClockFalls);
    caught(&WORLD, Bug::DeletesUnanswered, SnapshotLost);
    caught(&WORLD, Bug::ForgetsItsManifest, SnapshotLost);
    caught(&World { garbage: 1, ..WORLD }, Bug::StopsAtGarbage, Blocked);
}
