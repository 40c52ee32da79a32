//! The processes of the model, the bugs that can be planted in them, and their combined state.

use super::chain::{Chain, Objects, SESSIONS};

/// Number of runs that write.
pub(super) const RUNS: usize = SESSIONS - 1;
pub(super) const PRUNERS: usize = 2;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) enum WriterPhase {
    #[default]
    Idle,
    Imaged,
    Folded,
    Uploading,
    /// Has asked the store to create the entry after `head` that adds its packs ahead of its snapshot.
    Adding,
    LostAdding,
    /// Has asked the store to create its snapshot entry after `head`.
    Committing,
    Lost,
    Done,
    /// Exit code 6.
    Overtaken,
    /// Only for a writer with [`Bug::DeletesUnanswered`].
    CleanedUp,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Writer {
    pub(super) phase: WriterPhase,
    pub(super) clock: u8,
    pub(super) head: u8,
    pub(super) shared: Objects,
    pub(super) adopted: Objects,
    pub(super) own: Objects,
    /// The objects of `own` that are not uploaded yet.
    pub(super) waiting: Objects,
}

impl Writer {
    /// Drops what the writer knew, so that states which differ only in that are the same.
    pub(super) fn ended(&self, phase: WriterPhase) -> Self {
        Self { phase, clock: self.clock, ..Self::default() }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) enum Pruner {
    #[default]
    Idle,
    Folded {
        head: u8,
    },
    /// Has announced its plan and asked the store to create the prune entry after `head`.
    Fencing {
        head: u8,
        plan: Objects,
    },
    Deleting {
        left: Objects,
    },
    Done,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) enum Reader {
    #[default]
    Idle,
    Reading {
        head: u8,
        left: Objects,
    },
    /// Has read everything, or was told that an object was pruned.
    Done,
    /// An object is missing and the ledger does not explain why.
    Misled,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct State {
    pub(super) stored: Objects,
    pub(super) announced: Objects,
    pub(super) chain: Chain,
    pub(super) writers: [Writer; RUNS],
    pub(super) pruners: [Pruner; PRUNERS],
    pub(super) reader: Reader,
    pub(super) forgets_left: u8,
    pub(super) garbage_left: u8,
    pub(super) reappears_left: u8,
}

/// One step of one process or of the world.
#[derive(Clone, Copy, Debug)]
#[allow(dead_code, reason = "printed in traces")]
pub(super) enum Action {
    Images(usize),
    Folds(usize),
    Decides(usize),
    Uploads(usize),
    Announces(usize),
    AddsAhead(usize),
    Applies(usize),
    Answer(usize),
    Revalidates(usize),
    CleansUp(usize),
    PrunerFolds(usize),
    PrunerPlans(usize),
    PrunerApplies(usize),
    PrunerAnswer(usize),
    Deletes(usize),
    DeletesEarly(usize),
    ReaderStarts,
    Reads,
    Forgets(u8),
    Garbage,
    Reappears,
}

/// A bug that the protocol rules out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Bug {
    None,
    /// A writer that lost a number takes the next one without validating.
    WriterRenumbers,
    /// A writer that added packs ahead takes the next number without validating them again.
    TrustsWhatItAdded,
    /// A pruner that lost a number takes the next one with the same plan.
    PrunerRenumbers,
    /// A pruner deletes before its entry exists.
    DeletesBeforeEntry,
    /// A writer adopts packs that no announcement of its own key lists.
    AdoptsUnlisted,
    /// A writer adopts packs that a prune named.
    AdoptsRemoved,
    /// A writer relies on orphan packs without adopting them.
    CountsOnOrphans,
    /// A writer does not compare clocks.
    CommitsOlder,
    /// A writer treats a commit without an answer as failed, and deletes what it wrote.
    DeletesUnanswered,
    /// A writer that lost a number does not check whether its manifest was named by a prune.
    ForgetsItsManifest,
    /// A fold ends at the first entry that does not count.
    StopsAtGarbage,
}
