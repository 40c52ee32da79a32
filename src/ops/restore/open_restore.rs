//! What a restore works with: an open snapshot, the chosen tables, and the damage found so far.

use crate::base::env::SharedEnv;
use crate::base::frame::FrameType;
use crate::format::catalog::TableEntry;
use crate::format::manifest::{TableSummary, TreeKind};
use crate::format::node::Skeleton;
use crate::format::wire::WireError;
use crate::ops::error::OpError;
use crate::ops::restore::options::RestoreOptions;
use crate::ops::restore::row_shape::RowShape;
use crate::ops::restore::streams::Damage;
use crate::repo::error::RepoError;
use crate::repo::finding::finding_of;
use crate::repo::reader::{LeafBatch, LeafRef, LostNode, SnapshotReader, Want, leaf_of_length};
use crate::sort::{SpillFiles, SpillOptions};

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

/// A leaf and the position of its table among the entries.
pub struct TableLeaf {
    pub table: usize,
    pub leaf: LeafRef,
}

impl OpenRestore<'_> {
    /// The number of rows in all tables.
    #[must_use]
    pub fn rows(&self) -> u64 {
        let tables = self.entries.iter().filter_map(|entry| self.summary_of(entry));
        tables.fold(0, |sum, table| sum.saturating_add(table.rows))
    }

    /// The manifest's summary of a table.
    #[must_use]
    pub fn summary_of(&self, entry: &TableEntry) -> Option<&TableSummary> {
        self.reader.table_summary(entry.number)
    }

    /// Options for a sorter that keeps this much in memory and spills the rest to disk.
    #[must_use]
    pub fn spill_options(&self, memory_bytes: usize) -> SpillOptions {
        let dir = self.options.spill_dir.clone();
        SpillOptions { dir, memory_bytes, env: self.env.clone(), files: SpillFiles::default() }
    }

    /// Fails if the restore was cancelled.
    pub fn check_cancelled(&self) -> Result<(), OpError> {
        if self.options.cancel.is_cancelled() { Err(OpError::Cancelled) } else { Ok(()) }
    }

    /// Lists the leaves of a table in batches. Leaves below nodes that cannot be read are reported as damage.
    /// Fails if the manifest has no usable tree for the table, the store fails, or `each` fails.
    pub fn list_leaves(
        &self,
        table: usize,
        each: &mut dyn FnMut(Vec<LeafRef>) -> Result<(), OpError>,
    ) -> Result<(), OpError> {
        let entry = self.entries[table];
        let root = self.rows_root(entry)?;
        self.reader.leaf_batches(&root, &mut |LeafBatch { leaves, lost, lost_streams }| {
            self.report_lost(entry, &lost);
            self.report_lost_streams(lost_streams)?;
            each(leaves)
        })
    }

    fn rows_root(&self, entry: &TableEntry) -> Result<Skeleton, RepoError> {
        let root = self.reader.root(entry.number, TreeKind::Rows)?;
        root.ok_or_else(|| RepoError::Damaged {
            object: "the manifest".to_owned(),
            reason: format!("it has no tree for table {}", entry.name),
        })
    }

    fn report_lost(&self, entry: &TableEntry, lost: &[LostNode]) {
        for node in lost {
            self.damage.add_rows(&entry.name, node.rows, &node.error);
        }
    }

    /// The index finds the values whose locations are lost.
    fn report_lost_streams(&self, lost: Vec<RepoError>) -> Result<(), RepoError> {
        for error in lost {
            self.damage.add_unreadable(finding_of(Some(self.reader.source()), error)?);
        }
        Ok(())
    }

    /// Reports a leaf whose content cannot be decoded.
    pub fn report_damaged_leaf(&self, table: usize, error: &WireError) {
        let name = &self.entries[table].name;
        self.damage.add(name, &format!("rows of a leaf are left out: it {error}"));
    }

    /// Reads leaves, in any order. Leaves that cannot be read are reported and skipped.
    /// Fails if the store or `each` fails.
    pub fn fetch_leaves<'l>(
        &self,
        leaves: &'l [TableLeaf],
        each: &mut dyn FnMut(&'l TableLeaf, Vec<u8>) -> Result<(), OpError>,
    ) -> Result<(), OpError> {
        let wants: Vec<Want> = leaves.iter().map(want).collect();
        self.reader.fetch(&wants, |at, content| {
            let described = content.and_then(|content| leaf_of_length(&wants[at], leaves[at].leaf.bytes, content));
            match described {
                Ok(content) => each(&leaves[at], content),
                Err(error) => self.leave_out(&leaves[at], error),
            }
        })
    }

    /// Reports damage. A failure of the store is returned as an error instead.
    fn leave_out(&self, leaf: &TableLeaf, error: RepoError) -> Result<(), OpError> {
        match error {
            error @ RepoError::Store(_) => Err(error.into()),
            error => {
                self.report_unreadable(leaf, &error);
                Ok(())
            }
        }
    }

    fn report_unreadable(&self, leaf: &TableLeaf, error: &RepoError) {
        let name = &self.entries[leaf.table].name;
        self.damage.add_rows(name, leaf.leaf.rows, error);
    }
}

fn want(leaf: &TableLeaf) -> Want {
    Want { kind: FrameType::Leaf, id: leaf.leaf.id, location: leaf.leaf.location }
}
