//! The properties that must hold in every state.

use super::chain::{Entry, SESSIONS, each};
use super::process::{Reader, State, Writer, WriterPhase};
use super::world::World;

/// Ways in which a state violates the properties.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Violation {
    /// A snapshot needs an object that was deleted.
    SnapshotLost,
    /// The inventory names an object that was deleted.
    InventoryGone,
    /// A snapshot needs a pack that the inventory does not have.
    OutsideInventory,
    ClockFalls,
    /// A snapshot added a pack that its key did not write.
    Poisoned,
    ReaderMisled,
    /// A writer was told that it committed, but the ledger does not have its snapshot.
    PhantomCommit,
    /// A writer that runs without competition cannot commit.
    Blocked,
}

impl World {
    /// The violations in a state.
    pub(super) fn violations(&self, state: &State) -> Vec<Violation> {
        let fold = state.chain.fold(state.chain.len);
        let mut found = Vec::new();
        let mut check = |bad: bool, violation| {
            if bad {
                found.push(violation);
            }
        };
        check(fold.needed & !state.stored != 0, Violation::SnapshotLost);
        check(fold.inventory & !state.stored != 0, Violation::InventoryGone);
        check(fold.needed & !fold.inventory != 0, Violation::OutsideInventory);
        let clocks: Vec<u8> = state.chain.live(fold.live).map(|(_, clock, _)| clock).collect();
        check(clocks.windows(2).any(|pair| pair[0] >= pair[1]), Violation::ClockFalls);
        let key = |session: usize| if session == 0 { 0 } else { self.keys[session - 1] };
        let poisoned = state.chain.known().iter().any(|entry| match *entry {
            Entry::Snapshot { session, added, .. } | Entry::Add { session, added } => each(added).any(|pack| {
                let writer = pack.trailing_zeros() as usize / 3;
                writer >= SESSIONS || key(writer) != key(session as usize)
            }),
            _ => false,
        });
        check(poisoned, Violation::Poisoned);
        check(state.reader == Reader::Misled, Violation::ReaderMisled);
        let phantom =
            |(run, writer): (usize, &Writer)| writer.phase == WriterPhase::Done && fold.committed & (2 << run) == 0;
        check(state.writers.iter().enumerate().any(phantom), Violation::PhantomCommit);
        check(!self.can_commit(state), Violation::Blocked);
        found
    }

    /// Whether the next run commits if no other process takes a step. True if there is no run left.
    fn can_commit(&self, state: &State) -> bool {
        let idle = (0..self.keys.len()).find(|run| state.writers[*run].phase == WriterPhase::Idle);
        let Some(run) = idle.filter(|_| state.chain.len < self.entries) else { return true };
        let mut alone = *state;
        // Image, fold, decide, three uploads, and apply, answer and validate twice, with room for retries.
        for _ in 0..32 {
            let mut next = Vec::new();
            self.writer_steps(&alone, run, &mut next);
            match next.into_iter().next() {
                Some((_, after)) => alone = after,
                None => break,
            }
        }
        alone.writers[run].phase == WriterPhase::Done
    }
}
