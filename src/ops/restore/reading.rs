//! What a restore reads from: an open snapshot, the chosen tables, and what turned out to be damaged.

use crate::base::env::SharedEnv;
use crate::format::catalog::TableEntry;
use crate::ops::restore::restore::RestoreOptions;
use crate::ops::restore::rows::RowShape;
use crate::ops::restore::streams::Damage;
use crate::repo::reader::{LostNode, SnapshotReader};

/// The tables of a snapshot that are restored.
pub struct OpenRestore<'a> {
    pub env: SharedEnv,
    pub reader: &'a SnapshotReader<'a>,
    pub options: &'a RestoreOptions,
    pub entries: Vec<&'a TableEntry>,
    /// In the order of `entries`.
    pub shapes: Vec<RowShape>,
    pub damage: Damage,
}

impl OpenRestore<'_> {
    /// Rows of all tables together.
    #[must_use]
    pub fn rows(&self) -> u64 {
        let chosen = |number: u32| self.entries.iter().any(|entry| entry.number == number);
        let summary = &self.reader.manifest().summary;
        summary.tables.iter().filter(|table| chosen(table.number)).map(|table| table.rows).sum()
    }

    /// Names rows below nodes that cannot be read.
    pub fn name_lost(&self, entry: &TableEntry, lost: &[LostNode]) {
        for node in lost {
            self.damage.add_rows(&entry.name, node.rows, &node.error);
        }
    }
}
