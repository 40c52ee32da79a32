//! What a long operation tells whoever watches: phases and counters. The library counts and names;
//! the command line draws; tests collect.

use std::sync::Arc;

/// What a count is a count of; the unit is in the name.
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

/// What becomes of the image of a live database.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ImageState {
    /// Held open from now on: the database can clean nothing up that it shows.
    Held,
    LetGo,
}

/// A watcher of one operation. All methods may be called from any thread.
pub trait Progress: Send + Sync {
    /// A phase begins ("reading contacts"); `total` counts of `unit` are expected when known.
    fn phase(&self, name: &str, unit: CountUnit, total: Option<u64>);
    /// `by` more.
    fn add(&self, count: CountUnit, by: u64);
    /// Something worth a line to a person, now.
    fn note(&self, text: &str);
    /// An image is held open, or not any more.
    fn image(&self, _image: ImageState) {}
}

/// Shared by the threads of one operation.
pub type SharedProgress = Arc<dyn Progress>;

/// Watches nothing.
#[derive(Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn phase(&self, _name: &str, _unit: CountUnit, _total: Option<u64>) {}
    fn add(&self, _count: CountUnit, _by: u64) {}
    fn note(&self, _text: &str) {}
}
