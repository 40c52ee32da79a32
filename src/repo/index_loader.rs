//! Loads an index of wanted packs: from index fragments, and from the tables of packs that no fragment covers. If a
//! fragment is damaged, only those tables have to be read.

use std::collections::HashMap;

use crate::base::finding::Finding;
use crate::base::id::{ChunkId, Digest, SourceId};
use crate::crypto::ids::StructureKeys;
use crate::format::fragment::{Fragment, FragmentPack};
use crate::format::name::Name;
use crate::format::node::{FrameLocation, PackRef};
use crate::format::pack::PackContent;
use crate::repo::error::RepoError;
use crate::repo::finding::store_note;
use crate::repo::fragment::{self, Signers};
use crate::repo::index::{Index, IndexedPack};
use crate::repo::ledger::InventoryPack;
use crate::repo::objects::Objects;
use crate::repo::open::Repository;
use crate::repo::pack_table::PackTable;
use crate::store::ListedObject;

/// A pack that an index should cover.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WantedPack {
    pub digest: Digest,
    /// Size of the object in bytes.
    pub size: u64,
}

impl From<&InventoryPack> for WantedPack {
    fn from(pack: &InventoryPack) -> Self {
        Self { digest: pack.digest, size: pack.size }
    }
}

/// An index, and notes for the user about what could not be read.
#[derive(Debug)]
pub struct LoadedIndex {
    pub index: Index,
    pub(super) notes: Vec<Finding>,
}

/// The packs that the store still has in full size. This takes one request per thousand packs, and ensures that a
/// backup never shares data with a missing pack but stores the data again.
/// Fails if the store cannot list the packs.
pub(super) fn existing(
    repository: &Repository,
    keys: &StructureKeys,
    packs: &[WantedPack],
) -> Result<Vec<WantedPack>, RepoError> {
    if packs.is_empty() {
        return Ok(Vec::new());
    }
    let sizes = stored_sizes(repository, keys.context().source)?;
    Ok(packs.iter().filter(|pack| sizes.get(&pack.digest) == Some(&pack.size)).copied().collect())
}

/// The sizes of all packs of a source, as listed by the store.
fn stored_sizes(repository: &Repository, source: SourceId) -> Result<HashMap<Digest, u64>, RepoError> {
    let mut sizes = HashMap::new();
    repository.objects().list_each(&format!("{source}/packs"), |listed| {
        sizes.extend(digest_and_size(&listed));
        Ok::<(), RepoError>(())
    })?;
    Ok(sizes)
}

fn digest_and_size(listed: &ListedObject) -> Option<(Digest, u64)> {
    match Name::parse(&listed.name)? {
        Name::Pack(_, digest) => Some((digest, listed.size_bytes)),
        _ => None,
    }
}

/// The index of the packs of `wanted` that can be read, for a reader that works around damage.
/// Fails if the store cannot list or read objects. A missing or damaged object is skipped.
pub fn index_of_readable(
    repository: &Repository,
    keys: &StructureKeys,
    signers: &Signers,
    wanted: &[WantedPack],
) -> Result<LoadedIndex, RepoError> {
    let wanted = existing(repository, keys, wanted)?;
    load_index(repository, keys, signers, &wanted, UnsupportedPack::Skip)
}

/// How to handle a pack of a later version.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum UnsupportedPack {
    /// Fail: a writer that does not understand the repository must not write to it.
    Fail,
    /// Skip the pack: a reader works around it.
    Skip,
}

/// An index of exactly these packs, from fragments and, if those do not cover them, from the packs' own tables. A pack
/// that cannot be read is skipped, so a writer stores its content again.
/// Fails if the store cannot list or read objects or, unless `unsupported` says to skip it, if a pack that no fragment
/// covers is of a later version.
pub(super) fn load_index(
    repository: &Repository,
    keys: &StructureKeys,
    signers: &Signers,
    wanted: &[WantedPack],
    unsupported: UnsupportedPack,
) -> Result<LoadedIndex, RepoError> {
    let objects = repository.objects();
    let mut notes = Vec::new();
    let mut builder = IndexBuilder::new(keys, wanted);
    for fragment in fragment::read_all(objects, keys, signers, &mut notes)? {
        builder.add_fragment(fragment);
    }
    for rank in builder.missing() {
        notes.extend(builder.add_missing(objects, rank, unsupported)?);
    }
    Ok(LoadedIndex { index: builder.finish()?, notes })
}

/// The note about a pack that cannot be read. Returns errors that do not justify skipping the pack.
fn note_or_error(error: RepoError, unsupported: UnsupportedPack) -> Result<Finding, RepoError> {
    match error {
        RepoError::Unsupported { .. } if unsupported == UnsupportedPack::Fail => Err(error),
        RepoError::Store(_) => Err(error),
        error => Ok(store_note(format!("skipped: {error}"))),
    }
}

/// Builds an index in which packs have the ordinals of `wanted`.
struct IndexBuilder<'a> {
    keys: &'a StructureKeys,
    wanted: &'a [WantedPack],
    /// Positions in `wanted`, by digest.
    ranks: HashMap<Digest, usize>,
    /// In the order of `wanted`.
    packs: Vec<Option<IndexedPack>>,
    entries: Vec<(ChunkId, FrameLocation)>,
}

impl<'a> IndexBuilder<'a> {
    fn new(keys: &'a StructureKeys, wanted: &'a [WantedPack]) -> Self {
        let ranks = wanted.iter().enumerate().map(|(rank, pack)| (pack.digest, rank)).collect();
        Self { keys, wanted, ranks, packs: vec![None; wanted.len()], entries: Vec::new() }
    }

    /// Adds a pack from its own table. If the table cannot be read, skips the pack and returns a note.
    fn add_missing(
        &mut self,
        objects: &Objects,
        rank: usize,
        unsupported: UnsupportedPack,
    ) -> Result<Option<Finding>, RepoError> {
        let pack = self.wanted[rank];
        match PackTable::read(objects, self.keys, pack.digest, pack.size) {
            Ok(table) => self.add_table(rank, &table),
            Err(error) => return self.skip_or_fail(error, rank, unsupported).map(Some),
        }
        Ok(None)
    }

    fn skip_or_fail(
        &mut self,
        error: RepoError,
        rank: usize,
        unsupported: UnsupportedPack,
    ) -> Result<Finding, RepoError> {
        let note = note_or_error(error, unsupported)?;
        self.skip(rank);
        Ok(note)
    }

    /// Adds the wanted packs of a fragment, and their entries.
    fn add_fragment(&mut self, fragment: Fragment) {
        let ranks = self.ranks_of(&fragment.packs);
        for (pack, rank) in fragment.packs.into_iter().zip(&ranks) {
            if let Some(rank) = *rank {
                self.add_pack(rank, pack.pack, pack.content);
            }
        }
        for (id, location) in fragment.entries {
            if let Some(rank) = ranks[location.pack as usize] {
                self.add_entry(rank, id, location);
            }
        }
    }

    /// The positions of a fragment's packs in `wanted`.
    fn ranks_of(&self, packs: &[FragmentPack]) -> Vec<Option<usize>> {
        packs.iter().map(|pack| self.ranks.get(&pack.pack.digest).copied()).collect()
    }

    fn add_table(&mut self, rank: usize, table: &PackTable) {
        for (id, location) in table.locations() {
            self.add_entry(rank, id, location);
        }
        self.packs[rank] = Some(table.indexed());
    }

    /// Adds an empty pack, so that other packs keep their ordinals. No entry refers to it.
    fn skip(&mut self, rank: usize) {
        let pack = PackRef { digest: self.wanted[rank].digest, sessions: Vec::new() };
        let epoch = self.keys.context().epoch;
        self.packs[rank] = Some(IndexedPack { pack, size: 0, content: PackContent::Leaves, epoch });
    }

    fn add_pack(&mut self, rank: usize, pack: PackRef, content: PackContent) {
        let epoch = self.keys.context().epoch;
        self.packs[rank] = Some(IndexedPack { pack, size: self.wanted[rank].size, content, epoch });
    }

    fn add_entry(&mut self, rank: usize, id: ChunkId, location: FrameLocation) {
        self.entries.push((id, FrameLocation { pack: rank as u32, ..location }));
    }

    /// Positions of the packs that no fragment covers.
    fn missing(&self) -> Vec<usize> {
        (0..self.packs.len()).filter(|rank| self.packs[*rank].is_none()).collect()
    }

    fn finish(self) -> Result<Index, RepoError> {
        let mut index = Index::default();
        for pack in self.packs.into_iter().flatten() {
            index.add_pack(pack);
        }
        let loaded = index.load(self.entries.into_iter());
        loaded.map_err(|error| RepoError::damaged("the index", error.to_string()))?;
        Ok(index)
    }
}
