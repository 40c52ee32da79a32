//! Whether a catalog can have come to its next numbers by what snapshots may give. Otherwise one snapshot of a stolen key
//! could use up the numbers of the source for ever.

use crate::base::limit::{KINDS_PER_SNAPSHOT_MAX, OWNER_KINDS_PLAIN, TABLE_NUMBERS_PLAIN, TABLES_PER_SNAPSHOT_MAX};
use crate::format::catalog::Catalog;

/// Most older catalogs that are compared with one that has high numbers.
pub(super) const OLDER_CATALOGS_MAX: usize = 64;

/// The next numbers of a catalog, and the number of the ledger entry of its snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct NextNumbers {
    entry: u64,
    table: u32,
    kind: u16,
}

impl NextNumbers {
    /// Before the first entry of the ledger.
    pub(super) const NONE: Self = Self { entry: 0, table: 1, kind: 1 };

    pub(super) fn of(catalog: &Catalog, entry: u64) -> Self {
        Self { entry, table: catalog.next_table, kind: catalog.next_kind }
    }

    /// Whether the numbers are so low that they need no explanation.
    pub(super) fn are_plain(&self) -> bool {
        self.table <= TABLE_NUMBERS_PLAIN && self.kind <= OWNER_KINDS_PLAIN
    }

    /// Whether the snapshots after an older one, up to this one, can have given these numbers.
    pub(super) fn can_follow(&self, older: &Self) -> bool {
        self.table <= older.highest_table(self.entry) && self.kind <= older.highest_kind(self.entry)
    }

    /// The highest next table number that a snapshot at a later entry can have.
    pub(super) fn highest_table(&self, entry: u64) -> u32 {
        let given = entry.saturating_sub(self.entry).saturating_mul(u64::from(TABLES_PER_SNAPSHOT_MAX));
        self.table.saturating_add(u32::try_from(given).unwrap_or(u32::MAX))
    }

    /// The same for kinds.
    pub(super) fn highest_kind(&self, entry: u64) -> u16 {
        let given = entry.saturating_sub(self.entry).saturating_mul(u64::from(KINDS_PER_SNAPSHOT_MAX));
        self.kind.saturating_add(u16::try_from(given).unwrap_or(u16::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::NextNumbers;

    #[test]
    fn a_snapshot_gives_a_limited_number_of_numbers() {
        let at = |entry, table, kind| NextNumbers { entry, table, kind };
        let step = 1 << 20;
        assert!(at(1, 1 + step, 9).can_follow(&NextNumbers::NONE));
        assert!(!at(1, 2 + step, 9).can_follow(&NextNumbers::NONE));
        assert!(!at(1, 1, 10).can_follow(&NextNumbers::NONE));
        assert!(at(9, 7 + 2 * step, 20).can_follow(&at(7, 7, 4)));
        assert!(!at(9, 8 + 2 * step, 20).can_follow(&at(7, 7, 4)));
        assert!(at(u64::MAX, u32::MAX, u16::MAX).can_follow(&NextNumbers::NONE));
        assert!(at(1, 1 << 24, 64).are_plain() && !at(1, (1 << 24) + 1, 1).are_plain() && !at(1, 1, 65).are_plain());
    }
}
