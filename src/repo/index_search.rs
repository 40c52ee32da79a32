//! Finds single chunks in index fragments with reads of ranges (`docs/format.md` section 8), for a reader that lacks a
//! few locations. Loading the whole index reads every byte of every fragment, and lists all packs.

use bytes::Bytes;

use crate::base::id::ChunkId;
use crate::base::limit::INDEX_BYTES_MAX;
use crate::crypto::ids::StructureKeys;
use crate::format::fragment::{FragmentEntry, SealedFragment};
use crate::format::name::Name;
use crate::format::node::{FrameLocation, PackRef};
use crate::repo::error::RepoError;
use crate::repo::fragment::{self, FragmentHead, Signers};
use crate::repo::objects::{ObjectRead, Objects};
use crate::repo::wanted_packs::WantedPacks;
use crate::store::{ListedObject, StoreError};

/// Bytes of the first read. They contain the directory of nearly every fragment, and all of a small fragment.
const HEAD_BYTES: u64 = 64 << 10;

/// The fragments of a source, with open directories. What cannot be read or is not trusted is left out. A reader that
/// finds nothing here loads the index.
#[derive(Debug, Default)]
pub(super) struct IndexSearch {
    fragments: Vec<Searchable>,
}

/// A fragment and the bytes of its beginning.
#[derive(Debug)]
struct Searchable {
    name: Name,
    head: FragmentHead,
    bytes: Bytes,
}

/// What a search needs at each step.
#[derive(Clone, Copy)]
pub(super) struct SearchScope<'a> {
    pub(super) objects: &'a Objects,
    pub(super) keys: &'a StructureKeys,
    pub(super) signers: &'a Signers,
    /// Packs that count. Those at the front are preferred.
    pub(super) inventory: &'a WantedPacks,
}

impl SearchScope<'_> {
    /// The beginnings of all fragments that are not too long.
    fn head_reads(&self) -> Result<Vec<ObjectRead>, RepoError> {
        let listed = self.objects.list(&format!("{}/index", self.keys.context().source))?;
        let fragments = listed.iter().filter(|listed| listed.size_bytes <= INDEX_BYTES_MAX as u64);
        Ok(fragments.filter_map(head_read).collect())
    }

    fn cached(&self, name: &Name) -> Option<Bytes> {
        self.objects.cache()?.get(name)
    }
}

impl IndexSearch {
    /// Opens the directories of all fragments: one listing, and one or two reads per fragment that is not in the cache.
    ///
    /// Fails if the store cannot list them.
    pub(super) fn open(scope: SearchScope<'_>) -> Result<Self, RepoError> {
        let mut search = Self::default();
        let mut reads = Vec::new();
        for read in scope.head_reads()? {
            match scope.cached(&read.name) {
                Some(bytes) => search.add(scope, read.name, bytes),
                None => reads.push(read),
            }
        }
        search.read(scope, &reads)?;
        Ok(search)
    }

    fn read(&mut self, scope: SearchScope<'_>, reads: &[ObjectRead]) -> Result<(), RepoError> {
        scope.objects.get_many(reads, |at, bytes| {
            if let Ok(bytes) = bytes {
                self.add(scope, reads[at].name, bytes);
            }
            Ok(())
        })
    }

    fn add(&mut self, scope: SearchScope<'_>, name: Name, bytes: Bytes) {
        self.fragments.extend(Searchable::open(scope, name, bytes));
    }

    /// Where a chunk is, the best pack first: at most one read per fragment. A fragment is asked only about the packs of
    /// its signer.
    pub(super) fn find(&self, scope: SearchScope<'_>, id: &ChunkId) -> Vec<(PackRef, FrameLocation)> {
        let mut ranked = Vec::new();
        for fragment in &self.fragments {
            let Ok(Some((pack, location))) = fragment.find(scope, id) else { continue };
            let rank = scope.inventory.rank(&pack.digest, &fragment.head.signer);
            ranked.extend(rank.map(|rank| (rank, pack, location)));
        }
        ranked.sort_by_key(|(rank, ..)| *rank);
        ranked.into_iter().map(|(_, pack, location)| (pack, location)).collect()
    }
}

/// The location of a chunk among entries that are sorted by id.
fn location_among(entries: &[FragmentEntry], id: &ChunkId) -> Option<FrameLocation> {
    let at = entries.binary_search_by_key(id, |entry| entry.0).ok()?;
    Some(entries[at].1)
}

fn head_read(listed: &ListedObject) -> Option<ObjectRead> {
    let range = Some((0, listed.size_bytes.min(HEAD_BYTES)));
    Some(ObjectRead { name: Name::parse(&listed.name)?, range, bytes_max: 0 })
}

impl Searchable {
    /// Opens a fragment whose first bytes these are. `None` if it cannot be used.
    fn open(scope: SearchScope<'_>, name: Name, bytes: Bytes) -> Option<Self> {
        let len = SealedFragment::head_len(&bytes).ok().filter(|len| *len <= INDEX_BYTES_MAX)?;
        let bytes = if len > bytes.len() { scope.objects.get_range(&name, 0, len as u64).ok()? } else { bytes };
        let head = fragment::open_head(name, &bytes, scope.keys, scope.signers).ok()??;
        Some(Self { name, head, bytes })
    }

    fn find(&self, scope: SearchScope<'_>, id: &ChunkId) -> Result<Option<(PackRef, FrameLocation)>, RepoError> {
        let Some((block, offset)) = self.head.directory.block_of(id) else { return Ok(None) };
        let sealed = self.range(scope.objects, self.head.blocks_at + offset, block.stored)?;
        let entries = self.head.open_block(block, &sealed, scope.keys)?;
        Ok(location_among(&entries, id).map(|location| (self.pack(&location), location)))
    }

    fn pack(&self, location: &FrameLocation) -> PackRef {
        self.head.directory.packs[location.pack as usize].pack.clone()
    }

    /// Bytes of the fragment: those that were read already, or read now.
    fn range(&self, objects: &Objects, offset: u64, len: u32) -> Result<Bytes, StoreError> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = start.saturating_add(len as usize);
        if end <= self.bytes.len() {
            return Ok(self.bytes.slice(start..end));
        }
        objects.get_range(&self.name, offset, u64::from(len))
    }
}
