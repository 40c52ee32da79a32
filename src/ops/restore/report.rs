//! What a restore did.

use crate::base::finding::{Finding, FindingKind};
use crate::base::id::Digest;
use crate::base::time::Moment;
use crate::format::catalog::TableEntry;
use crate::format::manifest::Summary;

/// What a restore did.
#[derive(Clone, Debug, serde::Serialize)]
pub struct RestoreReport {
    pub snapshot: Digest,
    pub source_clock: Moment,
    /// What was asked for names this one by now; what had been begun went on with its own.
    pub named_now: Option<Named>,
    pub rows: u64,
    pub tables: Vec<RestoredTable>,
    /// Rows that are missing, data that could not be read, what the target refused, what the snapshot never had, and
    /// entries of the ledger that may have been a newer snapshot that was meant. Everything else was restored.
    pub findings: Vec<Finding>,
    /// Hints that led nowhere; the index helped.
    pub stale_hints: u64,
}

/// A snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
pub struct Named {
    pub snapshot: Digest,
    pub source_clock: Moment,
}

/// A restored table.
#[derive(Clone, Debug, serde::Serialize)]
pub struct RestoredTable {
    pub name: String,
    /// Rows that the snapshot has.
    pub rows: u64,
    /// Rows given to the target.
    pub restored: u64,
}

impl RestoredTable {
    pub(super) fn finding(&self) -> Option<Finding> {
        let Self { rows, restored, .. } = *self;
        if rows == restored {
            return None;
        }
        let kind = FindingKind::RowCount { expected: rows, restored };
        Some(Finding::new(kind, &self.name, format!("the snapshot has {rows} rows, and {restored} were restored")))
    }
}

/// The restored tables. `restored` has the rows that each got.
pub(super) fn restored_tables(summary: &Summary, entries: &[&TableEntry], restored: &[u64]) -> Vec<RestoredTable> {
    let mut tables = Vec::with_capacity(entries.len());
    for (entry, restored) in entries.iter().zip(restored) {
        let in_summary = summary.tables.iter().find(|table| table.number == entry.number);
        let rows = in_summary.map_or(0, |table| table.rows);
        tables.push(RestoredTable { name: entry.name.clone(), rows, restored: *restored });
    }
    tables
}
