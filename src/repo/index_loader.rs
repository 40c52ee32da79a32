//! Loads an index of wanted packs: from index fragments, and from the tables of packs that no fragment covers. If a
//! fragment is damaged, only those tables have to be read.

use std::collections::HashMap;

use crate::base::finding::Finding;
use crate::base::id::{ChunkId, Digest, KeyId, SourceId};
use crate::crypto::ids::StructureKeys;
use crate::format::fragment::{Fragment, FragmentPack};
use crate::format::name::Name;
use crate::format::node::{FrameLocation, PackRef};
use crate::format::pack::PackContent;
use crate::repo::error::RepoError;
use crate::repo::finding::store_note;
use crate::repo::fragment::{self, Signers};
use crate::repo::index::{Index, IndexedPack};
use crate::repo::objects::{ObjectRead, Objects};
use crate::repo::open::Repository;
use crate::repo::pack_table::{FRONT_BYTES, PackTable};
use crate::repo::wanted_packs::{WantedPack, WantedPacks};
use crate::store::ListedObject;

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
) -> Result<WantedPacks, RepoError> {
    if packs.is_empty() {
        return Ok(WantedPacks::default());
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
pub(super) fn index_of_readable(
    repository: &Repository,
    keys: &StructureKeys,
    signers: &Signers,
    wanted: &WantedPacks,
) -> Result<LoadedIndex, RepoError> {
    let wanted = existing(repository, keys, wanted.all())?;
    load_index(repository, keys, signers, &wanted, UnsupportedPack::Skip)
}

/// The same from the packs' own tables alone: a fragment may be wrong about the packs of its signer.
/// Fails if the store cannot list or read objects.
pub(super) fn index_of_tables(
    repository: &Repository,
    keys: &StructureKeys,
    wanted: &WantedPacks,
) -> Result<Index, RepoError> {
    let wanted = existing(repository, keys, wanted.all())?;
    let mut builder = IndexBuilder::new(keys, &wanted);
    builder.add_all_missing(repository.objects(), UnsupportedPack::Skip)?;
    builder.finish()
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
    wanted: &WantedPacks,
    unsupported: UnsupportedPack,
) -> Result<LoadedIndex, RepoError> {
    let objects = repository.objects();
    let mut notes = Vec::new();
    let mut builder = IndexBuilder::new(keys, wanted);
    fragment::read_all(objects, keys, signers, &mut notes, &mut |fragment| builder.add_fragment(fragment))?;
    notes.extend(builder.add_all_missing(objects, unsupported)?);
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
    wanted: &'a WantedPacks,
    /// In the order of `wanted`.
    packs: Vec<Option<IndexedPack>>,
    entries: Vec<(ChunkId, FrameLocation)>,
}

impl<'a> IndexBuilder<'a> {
    fn new(keys: &'a StructureKeys, wanted: &'a WantedPacks) -> Self {
        Self { keys, wanted, packs: vec![None; wanted.all().len()], entries: Vec::new() }
    }

    /// Adds all packs that no fragment covers. Returns notes about those that cannot be read.
    fn add_all_missing(&mut self, objects: &Objects, unsupported: UnsupportedPack) -> Result<Vec<Finding>, RepoError> {
        let missing = self.missing();
        let reads: Vec<ObjectRead> = missing.iter().map(|rank| self.front_read(*rank)).collect();
        let mut notes = Vec::new();
        objects.get_many(&reads, |at, front| {
            let rank = missing[at];
            match front.ok().and_then(|front| self.open_front(rank, &front)) {
                Some(table) => self.add_table(rank, &table),
                None => notes.extend(self.add_missing(objects, rank, unsupported)?),
            }
            Ok::<(), RepoError>(())
        })?;
        Ok(notes)
    }

    fn front_read(&self, rank: usize) -> ObjectRead {
        let pack = self.wanted.all()[rank];
        let name = Name::Pack(self.keys.context().source, pack.digest);
        ObjectRead { name, range: Some((0, pack.size.min(FRONT_BYTES))), bytes_max: 0 }
    }

    /// The table of a pack, if it is in these first bytes.
    fn open_front(&self, rank: usize, front: &[u8]) -> Option<PackTable> {
        let pack = self.wanted.all()[rank];
        PackTable::open_front(front, self.keys, pack.digest, pack.size).ok()
    }

    /// Adds a pack from its own table. If the table cannot be read, skips the pack and returns a note.
    fn add_missing(
        &mut self,
        objects: &Objects,
        rank: usize,
        unsupported: UnsupportedPack,
    ) -> Result<Option<Finding>, RepoError> {
        let pack = self.wanted.all()[rank];
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

    /// Adds the wanted packs that a fragment covers first, and their entries.
    fn add_fragment(&mut self, fragment: Fragment) {
        let signer = fragment.signer;
        let ranks: Vec<_> = fragment.packs.into_iter().map(|pack| self.add_if_first(pack, &signer)).collect();
        for (id, location) in fragment.entries {
            if let Some(rank) = ranks[location.pack as usize] {
                self.add_entry(rank, id, location);
            }
        }
    }

    /// Adds a pack of a fragment with this signer. Returns its position in `wanted`, if the fragment counts for it.
    fn add_if_first(&mut self, pack: FragmentPack, signer: &KeyId) -> Option<usize> {
        let rank = self.wanted.rank(&pack.pack.digest, signer)?;
        if self.packs[rank].is_some() {
            return None;
        }
        self.add_pack(rank, pack.pack, pack.content);
        Some(rank)
    }

    fn add_table(&mut self, rank: usize, table: &PackTable) {
        for (id, location) in table.locations() {
            self.add_entry(rank, id, location);
        }
        self.packs[rank] = Some(table.indexed());
    }

    /// Adds an empty pack, so that other packs keep their ordinals. No entry refers to it.
    fn skip(&mut self, rank: usize) {
        let pack = PackRef { digest: self.wanted.all()[rank].digest, sessions: Vec::new() };
        let epoch = self.keys.context().epoch;
        self.packs[rank] = Some(IndexedPack { pack, size: 0, content: PackContent::Leaves, epoch });
    }

    fn add_pack(&mut self, rank: usize, pack: PackRef, content: PackContent) {
        let epoch = self.keys.context().epoch;
        self.packs[rank] = Some(IndexedPack { pack, size: self.wanted.all()[rank].size, content, epoch });
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
