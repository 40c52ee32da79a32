//! What a diff found.

use serde_json::Value;

use crate::base::finding::Finding;
use crate::base::id::Digest;
use crate::base::time::Moment;
use crate::repo::ledger::SnapshotRecord;

/// The difference of two snapshots.
#[derive(Clone, Debug, serde::Serialize)]
pub struct DiffReport {
    pub old: Compared,
    pub new: Compared,
    /// All rows that differ.
    pub rows: Changes,
    /// Tables with any difference, in the order of the newer snapshot, then those that are gone.
    pub tables: Vec<TableDiff>,
    /// Users with any difference.
    pub users_differing: u64,
    /// Those of them with the most differences, most first.
    pub users: Vec<UserDiff>,
    /// Leaves whose rows were compared, of both snapshots.
    pub leaves_read: u64,
    /// Leaves that both snapshots share below nodes that were looked at; nothing of them was read.
    pub leaves_shared: u64,
    /// What makes this diff less than exact; information.
    pub findings: Vec<Finding>,
}

impl DiffReport {
    /// Nothing is compared yet.
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

    pub(super) fn add(&mut self, table: TableDiff) {
        self.rows.add(&table.rows);
        self.tables.push(table);
    }

    /// Whether both snapshots hold the same.
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
    /// The facts of a snapshot of the ledger.
    #[must_use]
    pub fn of(record: &SnapshotRecord) -> Self {
        Self { snapshot: record.id, number: record.number, source_clock: record.snapshot.source_clock }
    }
}

/// Counts of rows that differ.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub struct Changes {
    pub added: u64,
    /// Same key, other values.
    pub changed: u64,
    pub removed: u64,
    /// Same key and values under another owner. Counts of users have such rows as removed from one and
    /// added to the other.
    pub moved: u64,
}

impl Changes {
    /// Rows of one kind of change.
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

    /// All rows counted.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.added + self.changed + self.removed + self.moved
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.added += other.added;
        self.changed += other.changed;
        self.removed += other.removed;
        self.moved += other.moved;
    }
}

/// The difference of one table.
#[derive(Clone, Debug, serde::Serialize)]
pub struct TableDiff {
    pub number: u32,
    pub name: String,
    /// Its name in the older snapshot, if that was another.
    pub renamed_from: Option<String>,
    pub presence: TablePresence,
    pub columns_added: Vec<String>,
    /// Their values are not compared.
    pub columns_removed: Vec<String>,
    pub rows: Changes,
    pub samples: Vec<RowSample>,
}

/// Which of the snapshots have a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TablePresence {
    Both,
    /// Only the newer one.
    Added,
    /// Only the older one.
    Removed,
}

/// What became of a row.
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
    /// The owner before, if it was another.
    pub owner_before: Option<String>,
    /// Of a changed row those that differ, of others all.
    pub cells: Vec<CellSample>,
}

/// A value of a row that differs. Long values are cut short.
#[derive(Clone, Debug, serde::Serialize)]
pub struct CellSample {
    pub column: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<Value>,
}

/// What differs of one user.
#[derive(Clone, Debug, serde::Serialize)]
pub struct UserDiff {
    pub user: String,
    pub rows: Changes,
    pub tables: Vec<UserTable>,
}

/// What differs of one user in one table.
#[derive(Clone, Debug, serde::Serialize)]
pub struct UserTable {
    pub table: String,
    pub rows: Changes,
}
