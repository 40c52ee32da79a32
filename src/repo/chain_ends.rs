//! How far chains are read.

use crate::format::name::Name;

/// The last entry that is read of each chain. Everything after it counts as not there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChainEnds {
    pub roster: u64,
    /// Of every ledger.
    pub ledger: u64,
}

impl Default for ChainEnds {
    /// All entries.
    fn default() -> Self {
        Self { roster: u64::MAX, ledger: u64::MAX }
    }
}

impl ChainEnds {
    pub(super) fn of(self, entry: &Name) -> u64 {
        if matches!(entry, Name::Roster(_)) { self.roster } else { self.ledger }
    }
}
