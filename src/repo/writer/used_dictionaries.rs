//! The dictionaries of a run's new leaves: which of them a pack has, and where the new ones are.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use crate::base::frame::FrameType;
use crate::base::id::ChunkId;
use crate::format::catalog::DictionaryEntry;
use crate::format::manifest::StoredLocation;
use crate::format::node::PackRef;
use crate::format::pack::PackContent;
use crate::repo::dictionaries::{DictionaryShelf, TableDictionary};
use crate::repo::error::WriteError;
use crate::repo::open_pack::{ClosedPack, SealedFrame};
use crate::repo::writer::worker::FrameSealer;

/// The dictionaries of new leaves.
#[derive(Default)]
pub(super) struct UsedDictionaries {
    /// Those that the open pack of leaves has.
    in_pack: HashSet<ChunkId>,
    /// Those that no earlier run made, by id.
    new: BTreeMap<ChunkId, Arc<TableDictionary>>,
    /// Where the new ones are, next to each other.
    entries: Vec<DictionaryEntry>,
}

impl UsedDictionaries {
    /// Whether the open pack of leaves does not have the dictionary yet. From now on it has.
    pub(super) fn is_new_in_pack(&mut self, dictionary: &Arc<TableDictionary>, known: &DictionaryShelf) -> bool {
        if !known.names(&dictionary.id) {
            self.new.entry(dictionary.id).or_insert_with(|| Arc::clone(dictionary));
        }
        self.in_pack.insert(dictionary.id)
    }

    /// The open pack of this kind was closed.
    pub(super) fn end_pack(&mut self, content: PackContent) {
        if content == PackContent::Leaves {
            self.in_pack.clear();
        }
    }

    /// The frames of the new dictionaries. They are stored next to each other, so that one read gets all.
    /// Fails if the session cannot seal more, or memory runs out.
    pub(super) fn seal_new(&self, sealer: &mut FrameSealer) -> Result<Vec<SealedFrame>, WriteError> {
        self.new.values().map(|dictionary| seal_dictionary(sealer, dictionary)).collect()
    }

    /// Records where the new dictionaries in a closed pack of nodes are.
    pub(super) fn locate(&mut self, pack: &PackRef, closed: &ClosedPack) {
        let is_of_nodes = closed.content == PackContent::Nodes;
        for (id, location) in closed.locations.iter().filter(|_| is_of_nodes) {
            let at = StoredLocation::new(pack, location);
            let new = self.new.get(id).zip(at);
            self.entries.extend(new.map(|(new, at)| new.entry(at)));
        }
    }

    /// The new dictionaries with their locations.
    pub(super) fn into_entries(self) -> Vec<DictionaryEntry> {
        self.entries
    }
}

/// The frame of a dictionary.
/// Fails if the session cannot seal more, or memory runs out.
pub(super) fn seal_dictionary(
    sealer: &mut FrameSealer,
    dictionary: &TableDictionary,
) -> Result<SealedFrame, WriteError> {
    sealer.seal(FrameType::Dictionary, dictionary.id, dictionary.dictionary.content(), &[])
}
