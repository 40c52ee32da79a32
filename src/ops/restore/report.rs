//! What a restore did.

use crate::base::id::Digest;
use crate::base::time::Moment;
use crate::engine::contract::Refused;
use crate::format::catalog::TableEntry;
use crate::format::manifest::GapSummary;
use crate::ops::restore::open_restore::OpenRestore;
use crate::repo::ledger::SnapshotRecord;

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

impl OpenRestore<'_> {
    /// What is known of a restore from its snapshot and its rows; `restored` has the rows that each table got.
    pub(super) fn report(self, record: &SnapshotRecord, restored: &[u64]) -> RestoreReport {
        RestoreReport {
            snapshot: record.id,
            source_clock: record.snapshot.source_clock,
            named_now: None,
            rows: restored.iter().sum(),
            tables: self.restored_tables(restored),
            refused: Vec::new(),
            gaps: self.reader.manifest().summary.gaps.clone(),
            doubts: Vec::new(),
            stale_hints: self.reader.stale_hints(),
            damaged: self.damage.into_vec(),
        }
    }

    fn restored_tables(&self, restored: &[u64]) -> Vec<RestoredTable> {
        let tables = self.entries.iter().zip(restored);
        tables.map(|(entry, restored)| self.restored_table(entry, *restored)).collect()
    }

    fn restored_table(&self, entry: &TableEntry, restored: u64) -> RestoredTable {
        let rows = self.summary_of(entry).map_or(0, |table| table.rows);
        RestoredTable { name: entry.name.clone(), rows, restored }
    }
}
