//! The report of a diff.

use serde_json::Value;

use crate::base::finding::Finding;
use crate::base::id::Digest;
use crate::base::time::Moment;
use crate::repo::ledger::SnapshotRecord;

/// The differences between two snapshots.
#[derive(Clone, Debug, serde::Serialize)]
pub struct DiffReport {
    pub old: Compared,
    pub new: Compared,
    /// Counts of all rows that differ.
    pub rows: Changes,
    /// Tables with any difference, in the order of the newer snapshot, followed by the removed tables.
    pub tables: Vec<TableDiff>,
    /// Number of users with any difference.
    pub users_differing: u64,
    /// The users with the most differences, in descending order.
    pub users: Vec<UserDiff>,
    /// Number of leaves whose rows were compared, in both snapshots.
    pub leaves_read: u64,
    /// Number of leaves that both snapshots share, below the nodes that were read. These leaves were not read.
    pub leaves_shared: u64,
    /// What makes this diff inexact. Only information.
    pub findings: Vec<Finding>,
}

impl DiffReport {
    /// Creates an empty report.
    #[must_use]
    pub(super) fn new(old: Compared, new: Compared) -> Self {
        Self {
            old,
            new,
            rows: Changes::default(),
            tables: Vec::new(),
            users_differing: 0,
            users: Vec::new(),
            leaves_read: 0,
            leaves_shared: 0,
            findings: Vec::new(),
        }
    }

    /// Adds a table that differs, and its changes to the sum.
    pub(super) fn add(&mut self, table: TableDiff) {
        self.rows.add(&table.rows);
        self.tables.push(table);
    }

    /// Whether the snapshots do not differ.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }
}

/// One of the two snapshots.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Compared {
    pub snapshot: Digest,
    pub number: u64,
    pub source_clock: Moment,
}

impl Compared {
    /// Describes a snapshot of the ledger.
    #[must_use]
    pub fn of(record: &SnapshotRecord) -> Self {
        Self { snapshot: record.id, number: record.number, source_clock: record.snapshot.source_clock }
    }
}

/// Counts of rows that differ.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub struct Changes {
    pub added: u64,
    /// Same key, different values.
    pub changed: u64,
    pub removed: u64,
    /// Same key and values, different owner. The counts of users have such a row as removed from one user and added to
    /// the other.
    pub moved: u64,
}

impl Changes {
    /// Counts `rows` rows with one kind of change.
    pub(super) fn of(change: RowChange, rows: u64) -> Self {
        let mut changes = Self::default();
        match change {
            RowChange::Added => changes.added = rows,
            RowChange::Changed => changes.changed = rows,
            RowChange::Removed => changes.removed = rows,
            RowChange::Moved => changes.moved = rows,
        }
        changes
    }

    /// The sum of all counts.
    #[must_use]
    pub fn total(&self) -> u64 {
        [self.changed, self.removed, self.moved].into_iter().fold(self.added, u64::saturating_add)
    }

    /// Adds other changes.
    pub(super) fn add(&mut self, other: &Self) {
        self.added = self.added.saturating_add(other.added);
        self.changed = self.changed.saturating_add(other.changed);
        self.removed = self.removed.saturating_add(other.removed);
        self.moved = self.moved.saturating_add(other.moved);
    }
}

/// The differences in one table.
#[derive(Clone, Debug, serde::Serialize)]
pub struct TableDiff {
    pub number: u32,
    pub name: String,
    /// Its name in the older snapshot, if the name changed.
    pub renamed_from: Option<String>,
    pub presence: TablePresence,
    pub columns_added: Vec<String>,
    /// Their values are not compared.
    pub columns_removed: Vec<String>,
    pub rows: Changes,
    pub samples: Vec<RowSample>,
}

/// Which of the two snapshots have a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TablePresence {
    Both,
    /// Only the newer one.
    Added,
    /// Only the older one.
    Removed,
}

/// How a row changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RowChange {
    Added,
    Changed,
    Removed,
    Moved,
}

/// A row that differs.
#[derive(Clone, Debug, serde::Serialize)]
pub struct RowSample {
    pub change: RowChange,
    pub key: String,
    pub owner: Option<String>,
    /// The previous owner, if it was a different one.
    pub owner_before: Option<String>,
    /// For a changed row, the cells that differ. For other changes, all cells.
    pub cells: Vec<CellSample>,
}

/// A value of a row that differs. Long values are truncated.
#[derive(Clone, Debug, serde::Serialize)]
pub struct CellSample {
    pub column: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<Value>,
}

/// Changes to the rows of one user.
#[derive(Clone, Debug, serde::Serialize)]
pub struct UserDiff {
    pub user: String,
    pub rows: Changes,
    pub tables: Vec<UserTable>,
}

/// Changes to the rows of one user in one table.
#[derive(Clone, Debug, serde::Serialize)]
pub struct UserTable {
    pub table: String,
    pub rows: Changes,
}
