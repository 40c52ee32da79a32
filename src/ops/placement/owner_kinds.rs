//! The kinds of owners: which tables' rows are owners, and the byte that keeps the owners of different tables apart. A
//! kind that once belonged to a table never belongs to another.

use std::collections::HashSet;

use crate::base::finding::Finding;
use crate::base::finding::FindingKind::PlacementDrift;
use crate::base::limit::{KINDS_PER_SNAPSHOT_MAX, OWNER_KINDS_END};
use crate::format::catalog::{Catalog, OwnerTable};

/// The owner tables of a catalog.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OwnerKinds {
    pub owners: Vec<OwnerTable>,
    pub next_kind: u16,
    /// Number of kinds that are given for the first time.
    new: u16,
}

impl OwnerKinds {
    /// The owner tables that are pinned, as far as they still exist. Without any, today's. `existing` are the
    /// numbers of all tables.
    pub fn pinned(prior: &Catalog, existing: &HashSet<u32>, todays: &[u32], drift: &mut Vec<Finding>) -> Self {
        let kept: Vec<OwnerTable> =
            prior.owners.iter().filter(|owner| existing.contains(&owner.table)).copied().collect();
        if !prior.owners.is_empty() && !has_tables(&kept, todays) {
            drift.push(other_owner_tables());
        }
        if kept.is_empty() {
            return Self::chosen(Some(prior), todays, drift);
        }
        Self { owners: kept, next_kind: prior.next_kind, new: 0 }
    }

    /// Today's owner tables. A table that is an owner table already keeps its kind.
    pub fn chosen(prior: Option<&Catalog>, todays: &[u32], drift: &mut Vec<Finding>) -> Self {
        let next_kind = prior.map_or(1, |catalog| catalog.next_kind);
        let mut kinds = Self { owners: Vec::new(), next_kind, new: 0 };
        for &table in todays {
            let kind = prior.and_then(|catalog| catalog.owner_kind(table)).or_else(|| kinds.next());
            match kind {
                Some(kind) => kinds.owners.push(OwnerTable { kind, table }),
                None => drift.push(no_kind_left()),
            }
        }
        kinds
    }

    fn next(&mut self) -> Option<u8> {
        let kind = u8::try_from(self.next_kind).ok().filter(|_| self.new < KINDS_PER_SNAPSHOT_MAX)?;
        self.next_kind = (self.next_kind + 1).min(OWNER_KINDS_END);
        self.new += 1;
        Some(kind)
    }
}

fn has_tables(owners: &[OwnerTable], tables: &[u32]) -> bool {
    let owners: HashSet<&u32> = owners.iter().map(|owner| &owner.table).collect();
    owners == tables.iter().collect()
}

fn other_owner_tables() -> Finding {
    Finding::new(PlacementDrift, "owner_table", "another table would be chosen as the owner table today")
}

fn no_kind_left() -> Finding {
    let detail = "the source has had too many owner tables: the rows of this one do not own others";
    Finding::new(PlacementDrift, "owner_table", detail)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::OwnerKinds;
    use crate::format::catalog::{Catalog, OwnerTable};

    fn catalog(owners: &[(u8, u32)], next_kind: u16) -> Catalog {
        let owners = owners.iter().map(|&(kind, table)| OwnerTable { kind, table }).collect();
        Catalog { owners, next_kind, ..Catalog::default() }
    }

    fn owners(kinds: &OwnerKinds) -> Vec<(u8, u32)> {
        kinds.owners.iter().map(|owner| (owner.kind, owner.table)).collect()
    }

    #[test]
    fn a_kind_never_belongs_to_another_table() {
        let mut drift = Vec::new();
        let first = OwnerKinds::chosen(None, &[5], &mut drift);
        assert_eq!((owners(&first), first.next_kind), (vec![(1, 5)], 2));
        let second = OwnerKinds::chosen(Some(&catalog(&[(1, 5)], 2)), &[6, 5], &mut drift);
        assert_eq!((owners(&second), second.next_kind), (vec![(2, 6), (1, 5)], 3));
        let other = OwnerKinds::chosen(Some(&catalog(&[(1, 5)], 2)), &[7], &mut drift);
        assert_eq!((owners(&other), other.next_kind), (vec![(2, 7)], 3));
        let back = OwnerKinds::chosen(Some(&catalog(&[(2, 7)], 3)), &[5], &mut drift);
        assert_eq!((owners(&back), back.next_kind, drift), (vec![(3, 5)], 4, vec![]));
    }

    #[test]
    fn pinned_owner_tables_are_kept_while_they_exist() {
        let prior = catalog(&[(1, 5), (2, 6)], 3);
        let pinned = |existing: &[u32], todays: &[u32]| {
            let mut drift = Vec::new();
            let kinds =
                OwnerKinds::pinned(&prior, &existing.iter().copied().collect::<HashSet<_>>(), todays, &mut drift);
            (owners(&kinds), kinds.next_kind, drift.len())
        };
        assert_eq!(pinned(&[5, 6, 7], &[6, 5]), (vec![(1, 5), (2, 6)], 3, 0));
        assert_eq!(pinned(&[5, 6, 7], &[7]), (vec![(1, 5), (2, 6)], 3, 1));
        assert_eq!(pinned(&[5, 7], &[5]), (vec![(1, 5)], 3, 0));
        assert_eq!(pinned(&[7], &[7]), (vec![(3, 7)], 4, 1));
    }

    #[test]
    fn a_table_without_a_kind_does_not_own_rows() {
        let mut drift = Vec::new();
        let last = OwnerKinds::chosen(Some(&catalog(&[], 255)), &[1, 2], &mut drift);
        assert_eq!((owners(&last), last.next_kind, drift.len()), (vec![(255, 1)], 256, 1));
        let many: Vec<u32> = (1..=10).collect();
        let first = OwnerKinds::chosen(None, &many, &mut drift);
        assert_eq!((first.owners.len(), first.next_kind, drift.len()), (8, 9, 3));
    }
}
