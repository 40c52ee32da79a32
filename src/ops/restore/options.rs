//! What to restore and how.

use std::path::PathBuf;

use crate::base::cancel::Cancel;
use crate::base::id::SourceId;
use crate::base::progress::SharedProgress;
use crate::ops::select::Selector;

/// What to restore and how.
#[derive(Clone)]
pub struct RestoreOptions {
    pub source: SourceId,
    pub snapshot: Selector,
    /// Only these tables. Empty means all.
    pub tables: Vec<String>,
    pub spill_dir: PathBuf,
    pub progress: SharedProgress,
    pub cancel: Cancel,
}
