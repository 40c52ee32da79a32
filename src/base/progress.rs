//! Progress of a long operation: phases and counters. The library reports them, the command line draws them, and tests
//! collect them.

use std::sync::Arc;

/// What a count counts. The name contains the unit.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum CountUnit {
    /// Rows read from or written to a database.
    Rows,
    /// Bytes of rows before compression.
    ContentBytes,
    /// Bytes stored in, or fetched from, the store.
    StoredBytes,
    /// Objects or chunks checked.
    Objects,
}

/// Whether the image of a live database is still held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ImageState {
    /// Held open from now on: the database cannot clean up old versions of rows that the image still shows.
    Held,
    Released,
}

/// Watches one operation. All methods may be called from any thread.
pub trait Progress: Send + Sync {
    /// A phase begins ("reading contacts"). `total` is the expected count of `unit`, if known.
    fn phase(&self, name: &str, unit: CountUnit, total: Option<u64>);
    /// Adds `by` to a counter.
    fn add(&self, count: CountUnit, by: u64);
    /// Reports a line of text for a person, at once.
    fn note(&self, text: &str);
    /// An image is now held, or was released.
    fn image(&self, _image: ImageState) {}
}

/// Shared by the threads of one operation.
pub type SharedProgress = Arc<dyn Progress>;

/// Ignores all progress.
#[derive(Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn phase(&self, _name: &str, _unit: CountUnit, _total: Option<u64>) {}
    fn add(&self, _count: CountUnit, _by: u64) {}
    fn note(&self, _text: &str) {}
}
