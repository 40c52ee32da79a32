//! The dictionaries that a catalog names.

use serde::{Deserialize, Serialize};

use crate::base::id::ChunkId;
use crate::format::manifest::StoredLocation;

/// A dictionary of a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DictionaryEntry {
    pub number: u32,
    /// The table for which it was made.
    pub table: u32,
    pub id: ChunkId,
    pub at: StoredLocation,
}
