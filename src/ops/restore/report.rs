//! What a restore did.

use crate::base::finding::{Finding, FindingKind, Severity};
use crate::base::id::Digest;
use crate::base::time::Moment;
use crate::format::catalog::TableEntry;
use crate::ops::restore::open_restore::OpenRestore;
use crate::repo::finding::finding_of;
use crate::repo::ledger::SnapshotRecord;

/// Losses that a report names. The gaps have their number.
const LOSSES_NAMED: usize = 20;

/// What a restore did.
#[derive(Clone, Debug, serde::Serialize)]
pub struct RestoreReport {
    pub snapshot: Digest,
    pub source_clock: Moment,
    /// The snapshot that the options name now, if the restore resumed one of a different snapshot.
    pub named_now: Option<Named>,
    pub rows: u64,
    pub tables: Vec<RestoredTable>,
    /// Missing rows, data that could not be read, what the target refused, the gaps of the snapshot, and ledger entries
    /// that may have been a newer snapshot that was meant. Everything else was restored.
    pub findings: Vec<Finding>,
    /// Location hints that were out of date. The index was used instead.
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
    /// Rows in the snapshot.
    pub rows: u64,
    /// Rows passed to the target.
    pub restored: u64,
}

impl RestoredTable {
    fn finding(&self) -> Option<Finding> {
        let Self { rows, restored, .. } = *self;
        if rows == restored {
            return None;
        }
        let kind = FindingKind::RowCount { expected: rows, restored };
        Some(Finding::new(kind, &self.name, format!("the snapshot has {rows} rows, but {restored} were restored")))
    }
}

impl OpenRestore<'_> {
    /// Makes the report. `restored` is the number of rows that each table got, `refused` what the target refused.
    pub(super) fn report(self, record: &SnapshotRecord, restored: &[u64], refused: Vec<Finding>) -> RestoreReport {
        let tables = self.restored_tables(restored);
        let stale_hints = self.reader.stale_hints();
        RestoreReport {
            snapshot: record.id,
            source_clock: record.snapshot.source_clock,
            named_now: None,
            rows: restored.iter().sum(),
            findings: self.findings(&tables, refused),
            tables,
            stale_hints,
        }
    }

    /// Missing rows, damage, what the target refused, and gaps.
    fn findings(self, tables: &[RestoredTable], refused: Vec<Finding>) -> Vec<Finding> {
        let counts = tables.iter().filter_map(RestoredTable::finding);
        let gaps = self.reader.manifest().summary.gaps.iter().map(Finding::from);
        let keys = self.damaged_keys();
        let lost = self.losses();
        counts.chain(self.damage.into_vec()).chain(keys).chain(refused).chain(gaps).chain(lost).collect()
    }

    /// Objects without a usable key of a session. Another object had the key, or its rows are missing.
    fn damaged_keys(&self) -> Vec<Finding> {
        let errors = self.reader.take_damaged_keys().into_iter();
        let findings = errors.filter_map(|error| finding_of(Some(self.reader.source()), error).ok());
        findings.map(|finding| finding.with_severity(Severity::Warning)).collect()
    }

    /// The first rows and values of the restored tables that could not be read when the snapshot was taken.
    fn losses(&self) -> Vec<Finding> {
        let Some(losses) = &self.reader.manifest().losses else { return Vec::new() };
        let named = losses.entries.iter().filter_map(|loss| {
            let table = self.entries.iter().find(|entry| entry.number == loss.table)?;
            let row = loss.row.as_deref().unwrap_or("a row");
            Some(Finding::new(FindingKind::NotCaptured, &table.name, format!("{row}: {}", loss.text)))
        });
        named.take(LOSSES_NAMED).collect()
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
