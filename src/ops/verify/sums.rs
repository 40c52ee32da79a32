//! The sums over a tree: of the children of a node, and in the summary of its table.

use crate::format::manifest::TableSummary;
use crate::format::node::{Child, Skeleton};
use crate::ops::verify::report::TableChecked;

/// Sums over the children of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sums {
    rows: u64,
    bytes: u64,
    owners: u64,
    leaves: u64,
}

impl Sums {
    /// The sums that a node's parent lists.
    pub fn of(child: &Child) -> Self {
        Self { rows: child.rows, bytes: child.bytes, owners: child.owners, leaves: child.leaves }
    }

    /// The sums in the manifest's summary of a table.
    pub fn of_table(table: &TableSummary) -> Self {
        Self { rows: table.rows, bytes: table.bytes, owners: table.owners, leaves: table.leaves }
    }

    /// The sums of a node's children.
    pub fn below(node: &Skeleton) -> Self {
        let mut sums = Self::default();
        for child in &node.children {
            sums.add(child);
        }
        sums
    }

    fn add(&mut self, child: &Child) {
        self.rows = self.rows.saturating_add(child.rows);
        self.bytes = self.bytes.saturating_add(child.bytes);
        self.owners = self.owners.saturating_add(child.owners);
        self.leaves = self.leaves.saturating_add(child.leaves);
    }

    /// The report on a table with these sums.
    pub fn checked(self, table: &TableSummary) -> TableChecked {
        TableChecked { name: table.name.clone(), rows: self.rows, leaves: self.leaves, bytes: self.bytes }
    }
}

/// Whether the rows of all classes add up to the number of rows.
pub fn classes_add_up(table: &TableSummary) -> bool {
    let sum = table.owned.checked_add(table.none).and_then(|sum| sum.checked_add(table.orphan));
    sum == Some(table.rows)
}
