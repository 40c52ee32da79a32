//! What a demo did, in figures.

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
    Nights,
    Disaster,
    Restore,
    Proof,
}

/// The whole story.
#[derive(Clone, Debug, serde::Serialize)]
pub struct DemoReport {
    /// Everything that was made is here.
    pub dir: PathBuf,
    pub keys_dir: PathBuf,
    pub database: PathBuf,
    pub repository: PathBuf,
    pub fingerprint: Digest,
    pub users: u64,
    /// Rows and bytes of the database on the last good night.
    pub rows: u64,
    pub database_bytes: u64,
    /// Rows in each table on the last good night, after the disaster, and after the restore.
    pub before: Holdings,
    pub after_disaster: Holdings,
    pub after_restore: Holdings,
    pub nights: Vec<NightlyRun>,
    pub disaster: Disaster,
    pub restored: Restored,
    pub verified: Verified,
    /// How the operator's key was refused when it was used to restore.
    pub operator_refused: String,
    /// What was shown, one sentence each.
    pub proven: Vec<String>,
    /// What went wrong; then the demo has failed.
    pub failures: Vec<String>,
    pub elapsed_ms: u64,
}

/// One night.
#[derive(Clone, Debug, serde::Serialize)]
pub struct NightlyRun {
    pub snapshot: Digest,
    pub number: u64,
    pub source_clock: Moment,
    /// Rows changed since the night before; none before the first.
    pub rows_changed: Option<u64>,
    pub users_active: Option<u64>,
    pub rows: u64,
    pub database_bytes: u64,
    /// Bytes that the night added to the store: packs, manifest.
    pub added_bytes: u64,
    /// The same as a share of the database's bytes.
    pub added_share: f64,
    pub leaves: u64,
    pub leaves_new: u64,
    pub elapsed_ms: u64,
}

/// The night after.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Disaster {
    /// The backup of the emptied database.
    pub snapshot: Digest,
    pub number: u64,
    pub rows: u64,
    /// Against the last good night.
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
    /// Against the copy that was kept aside.
    pub comparison: DatabaseComparison,
}

/// The store, read and opened.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Verified {
    pub objects: u64,
    /// Objects whose every byte was compared with a digest, with public keys alone, and their bytes.
    pub objects_read: u64,
    pub bytes_read: u64,
    /// Entries of the ledger whose signatures and links hold.
    pub entries: u64,
    /// Snapshots whose every row and stream was decoded and computed again, with the admin's key.
    pub snapshots: u64,
    /// Chunks that were opened for that.
    pub chunks_opened: u64,
    /// What is not as it must be.
    pub damage: Vec<String>,
    /// Objects in which something of the database can be read.
    pub readable: u64,
}
