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
    pub tags: Vec<String>,
    /// Threads that compress and seal.
    pub workers: usize,
    /// Where sorted rows are laid aside.
    pub spill_dir: PathBuf,
    pub placement: PlacementConfig,
    /// `Renew` makes the placement of rows anew, at the price of storing moved rows again.
    pub pinned: Pinned,
    pub mode: BackupMode,
    pub progress: SharedProgress,
    pub cancel: Cancel,
}

/// The source that is backed up, as the repository knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BackupSubject {
    Known(SourceId),
    /// It is added under this name once the database has answered, so that one that cannot be read leaves none behind.
    New(String),
}

/// Whether anything is stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BackupMode {
    Commit,
    /// Reads everything and says what would be stored; stores nothing.
    DryRun,
}
