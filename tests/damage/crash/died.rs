//! The process crashes at the k-th call that changes the store, for every k.

use std::sync::Arc;

use sidekeep::base::env::{Env, Seeded};
use sidekeep::base::time::Moment;

use crate::crash::scenario::{Scenario, announced};
use crate::support::stores::faulty::{Effect, Faulty, Plan};
use crate::support::world::SOURCE;
use crate::support::world::data::{noise, open};
use crate::support::world::look::packs;

#[test]
fn a_crash_at_any_call_of_a_backup_leaves_only_complete_snapshots() {
    let scenario = Scenario::small();
    let healthy = Faulty::new(scenario.fork(), Plan::never());
    let whole = scenario.world.beside(healthy.clone()).backup(&scenario.after);
    let calls = healthy.calls();
    assert!(calls >= 6, "packs, an announcement, an index fragment, a manifest, an entry: {calls}");
    let mut adopted = 0;
    for call in 1..=calls + 1 {
        for effect in [Effect::NotApplied, Effect::Applied] {
            let memory = scenario.fork();
            let faulty = Faulty::new(memory.clone(), Plan::crash(call, effect));
            let result = scenario.world.beside(faulty.clone()).try_backup(&scenario.after);
            assert_eq!(result.is_err(), faulty.is_frozen(), "call {call}, {effect:?}: {result:?}");

            let left = scenario.world.beside(memory);
            let committed = scenario.assert_nothing_half(&left);
            assert_eq!(
                committed,
                call > calls || (call == calls && effect == Effect::Applied),
                "call {call}, {effect:?}"
            );
            let next = scenario.assert_next_run(&left);
            adopted += next.adopted;
            if committed {
                assert_eq!(next.new_bytes, 0, "call {call}, {effect:?}");
            }
            assert!(next.new_bytes <= whole.new_bytes + 4096, "{} and {} bytes", next.new_bytes, whole.new_bytes);
        }
    }
    assert!(adopted > 0, "some runs crashed after they had announced packs");
}

#[test]
fn a_backup_that_crashes_repeatedly_finally_commits() {
    // Each run crashes one call later than the previous one. All announced packs are adopted.
    let scenario = Scenario::small();
    let memory = scenario.fork();
    let left = scenario.world.beside(memory.clone());
    for call in 1.. {
        let faulty = Faulty::new(memory.clone(), Plan::crash(call, Effect::Applied));
        if scenario.world.beside(faulty).try_backup(&scenario.after).is_ok() {
            break;
        }
        if scenario.assert_nothing_half(&left) {
            break;
        }
        assert!(call < 40, "no run ever commits");
    }
    let inventory: u64 = left.ledger(SOURCE).inventory().map(|pack| pack.size).sum();
    let all: u64 = packs(&left, SOURCE).values().sum();
    // A pack that was not announced before its run crashed is uploaded again: at most one or two packs for each run
    // that crashed before its first announcement.
    assert!(all < 3 * inventory, "{all} bytes of packs, {inventory} of them needed");
    scenario.assert_next_run(&left);
}

#[test]
fn a_crash_among_many_packs_uploads_no_announced_pack_twice() {
    // Photos that fill more than one pack, so that the first pack is announced while the others are written.
    let scenario = Scenario::new(5, "UPDATE users SET note = 'x'");
    let db = open(&scenario.after);
    for photo in 0..8 {
        db.execute("INSERT INTO photos VALUES (?1, 1, NULL, ?2)", (2000 + photo, noise(photo as u64, 5 << 20)))
            .expect("a photo");
    }
    let whole = scenario.world.beside(scenario.fork()).backup(&scenario.after);
    assert!(whole.packs >= 4, "{whole:?}");
    let memory = scenario.fork();
    let faulty = Faulty::new(memory.clone(), Plan::crash(4, Effect::NotApplied));
    scenario.world.beside(faulty).try_backup(&scenario.after).expect_err("dies");
    let left = scenario.world.beside(memory);
    assert!(!scenario.assert_nothing_half(&left));
    let sizes = packs(&left, SOURCE);
    let there: u64 = announced(&left).iter().map(|pack| sizes[pack]).sum();
    let next = scenario.assert_next_run(&left);
    let needed = whole.new_bytes.saturating_sub(there);
    assert!(there > 0 && next.adopted > 0, "{next:?}");
    // Packs of streams are padded by less than a sixteenth.
    assert!(next.new_bytes < needed + needed / 16 + (64 << 10), "{} bytes, {there} were there", next.new_bytes);
}

/// The clock of a run over a slow line: four seconds pass whenever it is read.
struct Slow(Seeded);

impl Env for Slow {
    fn now(&self) -> Moment {
        self.0.advance_us(4_000_000);
        self.0.now()
    }

    fn fill(&self, bytes: &mut [u8]) {
        self.0.fill(bytes);
    }
}

#[test]
fn over_a_slow_line_a_crash_loses_only_packs_in_flight() {
    let scenario = Scenario::new(5, "UPDATE users SET note = 'x'");
    let db = open(&scenario.after);
    for photo in 0..18 {
        db.execute("INSERT INTO photos VALUES (?1, 1, NULL, ?2)", (2000 + photo, noise(photo as u64, 5 << 20)))
            .expect("a photo");
    }
    let slow = Seeded::new(78);
    slow.advance_us(86_400_000_000);
    let memory = scenario.fork();
    let before = (packs(&scenario.world, SOURCE).len(), announced(&scenario.world).len());
    // Packs and announcements alternate. Call 11 is the last one before the index fragment.
    let faulty = Faulty::new(memory.clone(), Plan::crash(11, Effect::NotApplied));
    let world = scenario.world.beside(faulty).with_env(Arc::new(Slow(slow)));
    world.try_backup(&scenario.after).expect_err("dies");
    let left = scenario.world.beside(memory);
    let (stored, known) = (packs(&left, SOURCE).len() - before.0, announced(&left).len() - before.1);
    assert!(stored >= 4 && stored - known <= 2, "{stored} packs, {known} announced");
    let late = Seeded::new(79);
    late.advance_us(2 * 86_400_000_000);
    let report = left.with_env(Arc::new(late)).backup(&scenario.after);
    assert_eq!(report.adopted, known);
}
