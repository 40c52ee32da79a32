//! What a restore did.

use crate::base::id::Digest;
use crate::base::time::Moment;
use crate::engine::contract::Refused;
use crate::format::catalog::TableEntry;
use crate::format::manifest::{GapSummary, Summary};

/// What a restore did.
#[derive(Clone, Debug, serde::Serialize)]
pub struct RestoreReport {
    pub snapshot: Digest,
    pub source_clock: Moment,
    /// What was asked for names this one by now; what had been begun went on with its own.
    pub named_now: Option<Named>,
    pub rows: u64,
    pub tables: Vec<RestoredTable>,
    /// Rows and statements that the target refused.
    pub refused: Vec<Refused>,
    /// Data that could not be read; everything else was restored.
    pub damaged: Vec<String>,
    /// What the snapshot never had.
    pub gaps: Vec<GapSummary>,
    /// Entries of the ledger that do not count and may have been a newer snapshot that was meant.
    pub doubts: Vec<String>,
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
