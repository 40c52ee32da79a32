//! Input and output of a writing run: the types that its stages share.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::base::cancel::Cancel;
use crate::base::env::SharedEnv;
use crate::base::frame::SessionWrap;
use crate::base::id::{ChunkId, Digest};
use crate::base::progress::SharedProgress;
use crate::crypto::ids::SourceIdKeys;
use crate::crypto::role::Identity;
use crate::crypto::session::SessionKeys;
use crate::format::catalog::DictionaryEntry;
use crate::format::entry::ObjectRef;
use crate::format::manifest::RootPlace;
use crate::repo::dictionaries::DictionaryShelf;
use crate::repo::error::WriteError;
use crate::repo::index::Index;
use crate::repo::objects::Objects;
use crate::sort::SpillOptions;

/// The parameters of a writing run.
pub struct WriterSetup<'a> {
    pub objects: &'a Objects,
    pub env: SharedEnv,
    pub progress: SharedProgress,
    pub cancel: Cancel,
    /// Signs index fragments.
    pub identity: &'a Identity,
    pub ids: &'a SourceIdKeys,
    pub session: &'a SessionKeys,
    pub wrap: &'a SessionWrap,
    /// Chunks that the store has.
    pub known_index: &'a Index,
    /// Dictionaries of earlier runs.
    pub dictionaries: &'a DictionaryShelf,
    /// Number of threads that compress and seal.
    pub workers: usize,
    /// Where streams are spilled while they wait for the workers.
    pub spill: SpillOptions,
    pub mode: WriteMode,
}

impl WriterSetup<'_> {
    /// Fails if the user asked to stop.
    pub(super) fn check_cancelled(&self) -> Result<(), WriteError> {
        if self.cancel.is_cancelled() { Err(WriteError::Cancelled) } else { Ok(()) }
    }
}

/// Whether anything is written to the store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WriteMode {
    Store,
    /// Everything is done except storing. For dry runs.
    Count,
}

/// A stored pack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StoredPack {
    pub digest: Digest,
    /// Size of the object in bytes.
    pub size: u64,
}

impl StoredPack {
    /// The object as the ledger names it.
    #[must_use]
    pub fn object(&self) -> ObjectRef {
        ObjectRef { sha256: self.digest, size: self.size }
    }
}

/// The result of building one tree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BuiltTree {
    /// The caller's number for the tree.
    pub tree: u32,
    pub place: RootPlace,
    /// Content of the root or, if it is in a pack, of a node whose only child is the root.
    pub skeleton: Vec<u8>,
    /// Content of the root's ranges. Empty if the root is in a pack.
    pub ranges: Vec<u8>,
    pub counts: TreeCounts,
}

/// Counts of the leaves of a tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TreeCounts {
    pub leaves: u64,
    /// Leaves that the store did not have.
    pub leaves_new: u64,
    /// Bytes of leaf content.
    pub bytes: u64,
    pub owners: u64,
}

/// The result of a writing run.
#[derive(Debug)]
pub struct Written {
    pub trees: Vec<BuiltTree>,
    /// The dictionaries that this run made.
    pub dictionaries: Vec<DictionaryEntry>,
    /// Packs written, in order.
    pub packs: Vec<StoredPack>,
    /// Bytes of new frames.
    pub frame_bytes: u64,
    /// The locations of everything that this run wrote.
    pub index: Index,
}

/// The packs of known chunks that a snapshot needs.
#[derive(Debug)]
pub struct UsedPacks(Vec<AtomicBool>);

impl UsedPacks {
    /// No pack is marked yet.
    #[must_use]
    pub fn new(packs: usize) -> Self {
        Self((0..packs).map(|_| AtomicBool::new(false)).collect())
    }

    /// Marks the pack with this ordinal.
    pub fn mark(&self, ordinal: u32) {
        self.0[ordinal as usize].store(true, Ordering::Relaxed);
    }

    /// Whether `known` has the chunk. Marks the pack that holds it.
    pub(super) fn mark_if_known(&self, known: &Index, id: &ChunkId) -> bool {
        let location = known.get(id);
        if let Some(location) = location {
            self.mark(location.pack);
        }
        location.is_some()
    }

    /// Marked ordinals, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        (0u32..).zip(&self.0).filter(|(_, used)| used.load(Ordering::Relaxed)).map(|(ordinal, _)| ordinal)
    }
}
