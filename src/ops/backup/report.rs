//! What a backup did.

use crate::base::finding::Finding;
use crate::base::id::{Digest, SourceId};
use crate::base::time::Moment;
use crate::format::manifest::{Summary, TableSummary};
use crate::ops::backup::store_rows::{BackupRun, StoredRows};
use crate::repo::commit::Committed;

/// What a backup did.
#[derive(Clone, Debug, serde::Serialize)]
pub struct BackupReport {
    /// The snapshot's id. None after a dry run.
    pub snapshot: Option<Digest>,
    pub number: Option<u64>,
    pub source: SourceId,
    pub source_clock: Moment,
    pub rows: u64,
    /// Bytes of leaf content and streams.
    pub content_bytes: u64,
    /// Bytes of new packs.
    pub new_bytes: u64,
    pub packs: usize,
    /// Bytes of the manifest.
    pub manifest_bytes: u64,
    pub tables: Vec<TableReport>,
    /// Notes, how rows would be placed differently today, and what the snapshot does not contain.
    pub findings: Vec<Finding>,
    /// How long the live database's image was held open, in milliseconds.
    pub image_held_ms: u64,
    /// Packs of interrupted runs that were reused.
    pub adopted: usize,
    pub races_lost: usize,
}

/// What a backup found in one table.
#[derive(Clone, Debug, serde::Serialize)]
pub struct TableReport {
    pub name: String,
    pub rows: u64,
    pub orphans: u64,
    pub duplicates: u64,
    pub leaves: u64,
    pub leaves_new: u64,
}

impl BackupReport {
    /// What is known before the commit. The other fields are empty.
    pub(super) fn of_stored(run: &BackupRun<'_>, stored: &StoredRows, summary: &Summary) -> Self {
        Self {
            snapshot: None,
            number: None,
            source: run.source,
            source_clock: summary.source_clock,
            rows: stored.totals.rows,
            content_bytes: content_bytes(summary),
            new_bytes: stored.pack_bytes(),
            packs: stored.written.packs.len(),
            manifest_bytes: 0,
            tables: summary.tables.iter().map(TableReport::new).collect(),
            findings: run.gaps(stored).cloned().collect(),
            image_held_ms: stored.image_held_ms,
            adopted: 0,
            races_lost: 0,
        }
    }

    /// Adds the results of the commit.
    pub(super) fn set_committed(&mut self, committed: &Committed) {
        self.snapshot = Some(committed.entry.sha256);
        self.number = Some(committed.entry.number);
        self.races_lost = committed.races_lost;
    }
}

fn content_bytes(summary: &Summary) -> u64 {
    let leaf_bytes: u64 = summary.tables.iter().map(|table| table.bytes).sum();
    leaf_bytes + summary.stream_bytes
}

impl TableReport {
    fn new(table: &TableSummary) -> Self {
        Self {
            name: table.name.clone(),
            rows: table.rows,
            orphans: table.orphan,
            duplicates: table.duplicates,
            leaves: table.leaves,
            leaves_new: table.leaves_new,
        }
    }
}
