//! What to back up and how.

use std::path::PathBuf;

use crate::base::cancel::Cancel;
use crate::base::id::SourceId;
use crate::base::progress::SharedProgress;
use crate::ops::placement::update::{Pinned, PlacementConfig};

/// What to back up and how.
#[derive(Clone)]
pub struct BackupOptions {
    pub source: BackupSubject,
    /// Where the database is, without user and password. Kept in the catalog.
    pub address: Option<String>,
    pub tags: Vec<String>,
    /// Threads that compress and seal.
    pub workers: usize,
    /// Directory for sorted rows that are spilled to disk.
    pub spill_dir: PathBuf,
    pub placement: PlacementConfig,
    /// `Renew` infers the placement of rows again, at the cost of storing moved rows again.
    pub pinned: Pinned,
    pub mode: BackupMode,
    pub progress: SharedProgress,
    pub cancel: Cancel,
}

/// The source that is backed up, as the repository knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BackupSubject {
    Known(SourceId),
    /// A source that is added under this name after its database has answered, so that a database that cannot be read
    /// leaves no source behind.
    New(String),
}

/// Whether anything is stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BackupMode {
    Commit,
    /// Reads everything and reports what would be stored, but stores nothing.
    DryRun,
}
