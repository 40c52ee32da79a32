//! The report of a demo, with figures.

use std::path::PathBuf;

use crate::base::id::Digest;
use crate::base::time::Moment;
use crate::ops::demo::service::{DatabaseComparison, Holdings};

/// A part of the story.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Chapter {
    Service,
    Repository,
    Runs,
    Disaster,
    Restore,
    Proof,
}

/// The whole story.
#[derive(Clone, Debug, serde::Serialize)]
pub struct DemoReport {
    /// Directory of everything that was created.
    pub dir: PathBuf,
    pub keys_dir: PathBuf,
    pub database: PathBuf,
    pub repository: PathBuf,
    pub fingerprint: Digest,
    pub users: u64,
    /// Rows and bytes of the database at the last backup run before the disaster.
    pub rows: u64,
    pub database_bytes: u64,
    /// Rows in each table before the disaster, after the disaster, and after the restore.
    pub before: Holdings,
    pub after_disaster: Holdings,
    pub after_restore: Holdings,
    pub runs: Vec<DemoRun>,
    pub disaster: Disaster,
    pub restored: Restored,
    pub verified: Verified,
    /// The error message when the operator's key was used to restore.
    pub operator_refused: String,
    /// What was proven, one sentence each.
    pub proven: Vec<String>,
    /// What went wrong. If there is anything, the demo has failed.
    pub failures: Vec<String>,
    pub elapsed_ms: u64,
}

/// One nightly backup.
#[derive(Clone, Debug, serde::Serialize)]
pub struct DemoRun {
    pub snapshot: Digest,
    pub number: u64,
    pub source_clock: Moment,
    /// Rows that changed since the previous run. `None` for the first run.
    pub rows_changed: Option<u64>,
    pub users_active: Option<u64>,
    pub rows: u64,
    pub database_bytes: u64,
    /// Bytes that the run added to the store: packs and the manifest.
    pub added_bytes: u64,
    /// The same as a fraction of the database's bytes.
    pub added_share: f64,
    pub leaves: u64,
    pub leaves_new: u64,
    pub elapsed_ms: u64,
}

/// The nightly backup after the disaster.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Disaster {
    /// The backup of the emptied database.
    pub snapshot: Digest,
    pub number: u64,
    pub rows: u64,
    /// Compared with the last run before the disaster.
    pub rows_lost: u64,
    pub users_affected: u64,
}

/// The restore.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Restored {
    pub to: PathBuf,
    pub snapshot: Digest,
    pub number: u64,
    pub rows: u64,
    pub elapsed_ms: u64,
    /// Comparison with a copy from before the disaster.
    pub comparison: DatabaseComparison,
}

/// The result of reading and opening the whole store.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Verified {
    pub objects: u64,
    /// Number of objects of which every byte was compared with a digest, with public keys only, and their total size.
    pub objects_read: u64,
    pub bytes_read: u64,
    /// Number of ledger entries whose signatures and links are valid.
    pub entries: u64,
    /// Number of snapshots of which every row and stream was decoded and recomputed, with the admin's key.
    pub snapshots: u64,
    /// Number of chunks that were opened for that.
    pub chunks_opened: u64,
    /// Damage that was found.
    pub damage: Vec<String>,
    /// Number of objects in which something of the database can be read.
    pub readable: u64,
}
