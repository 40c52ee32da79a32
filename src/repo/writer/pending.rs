//! Nodes, stream references and lists that wait until everything that they refer to has a location.
//!
//! A chunk waits for one child at a time: the last one that has no location. When the pack with that child is closed,
//! the chunk is read again, and is either complete or waits for another child. So closing a pack costs nothing for the
//! chunks that wait for something else. A chunk is read at most once for each pack that has some of its children:
//! usually once, because children are stored in about the order in which they are referred to.
//!
//! In memory, a waiting chunk takes about 150 bytes, whatever its size: beyond [`SHELF_BYTES`] the contents are on
//! disk. There is at most one node for each 256 leaves. The stream references of the leaves of one node wait together, in
//! groups of about [`GROUP_REFERENCES`], so that they are stored next to each other. Lists wait only until the pack of
//! streams is full.

use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasherDefault;

use crate::base::id::ChunkId;
use crate::format::cell::StreamRef;
use crate::format::node::Skeleton;
use crate::format::stream_lists::{LeafStreams, PieceList};
use crate::format::wire::{Put, Take, WireError};
use crate::repo::index::FirstBytes;
use crate::repo::writer::locator::Locations;
use crate::sort::{Shelved, SpillError, SpillOptions, SpillShelf};
use crate::tree::tree_builder::BuiltNode;

/// Stream references that wait together, unless one leaf has more.
const GROUP_REFERENCES: usize = 4096;
/// Bytes of waiting chunks in memory.
const SHELF_BYTES: usize = 8 << 20;

/// The stream references of one leaf, with the id of their frame.
pub(super) struct PendingStreams {
    pub(super) id: ChunkId,
    pub(super) list: LeafStreams,
}

/// Stream references of consecutive leaves of one node.
#[derive(Default)]
pub(super) struct StreamsGroup {
    pub(super) leaves: Vec<PendingStreams>,
    references: usize,
}

impl StreamsGroup {
    pub(super) fn push(&mut self, id: ChunkId, streams: &[StreamRef]) {
        self.references += streams.len();
        self.leaves.push(PendingStreams { id, list: LeafStreams::new(streams) });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.leaves.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.references >= GROUP_REFERENCES
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for PendingStreams { id, list } in &self.leaves {
            bytes.extend_from_slice(id.as_bytes());
            bytes.put_bytes(&list.content());
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut take = Take::new(bytes);
        let mut group = Self::default();
        while take.remaining() > 0 {
            let id = ChunkId::new(take.array("id")?);
            let list = LeafStreams::read(take.bytes("stream references")?)?;
            group.references += list.streams.len();
            group.leaves.push(PendingStreams { id, list });
        }
        Ok(group)
    }
}

/// A chunk of the structure tier.
pub(super) enum StructureChunk {
    Node(BuiltNode),
    Streams(StreamsGroup),
    List { id: ChunkId, list: PieceList },
}

impl StructureChunk {
    /// The last of what it refers to that has no location.
    fn last_missing(&self, locations: &Locations<'_>) -> Option<ChunkId> {
        match self {
            Self::Node(node) => locations.last_missing_of_node(&node.skeleton),
            Self::Streams(group) => locations.last_missing_of_streams(group.leaves.iter().map(|leaf| &leaf.list)),
            Self::List { list, .. } => locations.last_missing_of_list(list),
        }
    }

    /// The chunk without locations.
    fn encode(&self) -> Vec<u8> {
        match self {
            Self::Node(node) => encode_node(node),
            Self::Streams(group) => group.encode(),
            Self::List { list, .. } => list.content(),
        }
    }
}

fn encode_node(node: &BuiltNode) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.put_bytes(&node.ranges);
    bytes.extend_from_slice(&node.skeleton.content());
    bytes
}

fn decode_node(id: ChunkId, bytes: &[u8]) -> Result<BuiltNode, WireError> {
    let mut take = Take::new(bytes);
    let ranges = take.bytes("ranges")?.to_vec();
    Ok(BuiltNode { id, skeleton: Skeleton::read(take.rest())?, ranges })
}

/// What the bytes on the shelf are.
#[derive(Clone, Copy)]
enum StructureKind {
    Node(ChunkId),
    Streams,
    List(ChunkId),
}

/// A chunk whose content is on the shelf.
pub(super) struct ShelvedChunk {
    kind: StructureKind,
    content: Shelved,
}

impl ShelvedChunk {
    fn read(&self) -> Result<StructureChunk, SpillError> {
        let bytes = self.content.read()?;
        let chunk = match self.kind {
            StructureKind::Node(id) => decode_node(id, &bytes).map(StructureChunk::Node),
            StructureKind::Streams => StreamsGroup::decode(&bytes).map(StructureChunk::Streams),
            StructureKind::List(id) => PieceList::read(&bytes).map(|list| StructureChunk::List { id, list }),
        };
        Ok(chunk.expect("a waiting chunk was encoded in this file"))
    }
}

/// The chunks that wait, and the roots of finished trees.
pub(super) struct PendingChunks {
    shelf: SpillShelf,
    /// By the child that they wait for, with the numbers in which they arrived.
    waiting: HashMap<ChunkId, Vec<(u64, ShelvedChunk)>, BuildHasherDefault<FirstBytes>>,
    /// Chunks to be looked at, by number, so that children come before their parents.
    woken: BTreeMap<u64, ShelvedChunk>,
    next_number: u64,
}

impl PendingChunks {
    /// No chunk waits yet. `spill` says where chunks are spilled.
    pub(super) fn new(spill: &SpillOptions) -> Self {
        Self {
            shelf: SpillShelf::new(SpillOptions { memory_bytes: SHELF_BYTES, ..spill.clone() }),
            waiting: HashMap::default(),
            woken: BTreeMap::new(),
            next_number: 0,
        }
    }

    /// Whether no chunk waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.woken.is_empty()
    }

    /// Adds a chunk. [`PendingChunks::next_ready`] looks at it next.
    /// Fails if it cannot be spilled.
    pub(super) fn add(&mut self, chunk: &StructureChunk) -> Result<(), SpillError> {
        let shelved = self.shelve(chunk)?;
        self.woken.insert(self.next_number, shelved);
        self.next_number += 1;
        Ok(())
    }

    /// Keeps a chunk that waits for nothing.
    /// Fails if it cannot be spilled.
    pub(super) fn shelve(&mut self, chunk: &StructureChunk) -> Result<ShelvedChunk, SpillError> {
        let kind = match chunk {
            StructureChunk::Node(node) => StructureKind::Node(node.id),
            StructureChunk::Streams(_) => StructureKind::Streams,
            StructureChunk::List { id, .. } => StructureKind::List(*id),
        };
        Ok(ShelvedChunk { kind, content: self.shelf.put(chunk.encode())? })
    }

    /// Takes a chunk from the shelf.
    /// Fails if it cannot be read back from disk.
    pub(super) fn unshelve(&mut self, shelved: ShelvedChunk) -> Result<StructureChunk, SpillError> {
        let chunk = shelved.read()?;
        self.shelf.remove(shelved.content);
        Ok(chunk)
    }

    /// A chunk has got a location: looks at those that wait for it.
    pub(super) fn wake(&mut self, located: &ChunkId) {
        self.woken.extend(self.waiting.remove(located).into_iter().flatten());
    }

    /// The next chunk whose children all have a location.
    /// Fails if a chunk cannot be read back from disk.
    pub(super) fn next_ready(&mut self, locations: &Locations<'_>) -> Result<Option<StructureChunk>, SpillError> {
        while let Some((number, shelved)) = self.woken.pop_first() {
            if let Some(chunk) = self.look_at(number, shelved, locations)? {
                return Ok(Some(chunk));
            }
        }
        Ok(None)
    }

    /// Returns a chunk if it is complete. Otherwise it waits again.
    fn look_at(
        &mut self,
        number: u64,
        shelved: ShelvedChunk,
        locations: &Locations<'_>,
    ) -> Result<Option<StructureChunk>, SpillError> {
        let chunk = shelved.read()?;
        if let Some(missing) = chunk.last_missing(locations) {
            self.waiting.entry(missing).or_default().push((number, shelved));
            return Ok(None);
        }
        self.shelf.remove(shelved.content);
        Ok(Some(chunk))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{PendingChunks, StructureChunk};
    use crate::base::env::Seeded;
    use crate::base::frame::FrameCounter;
    use crate::base::id::{ChunkId, Digest, Epoch};
    use crate::format::codec::Codec;
    use crate::format::node::{FrameLocation, PackRef};
    use crate::format::pack::PackContent;
    use crate::format::stream_lists::{ListLevel, PieceList, StreamPiece};
    use crate::repo::index::{Index, IndexedPack};
    use crate::repo::writer::locator::{Located, Locations, Locator};
    use crate::sort::{SpillFiles, SpillOptions};

    const PIECES_PER_LIST: u32 = 50;
    const PIECES_PER_PACK: usize = 200;

    fn id(n: u32) -> ChunkId {
        ChunkId::new(*blake3::hash(&n.to_le_bytes()).as_bytes().first_chunk().expect("32 bytes hold 20"))
    }

    /// A list of consecutive pieces.
    fn list(number: u32) -> StructureChunk {
        let numbers = number * PIECES_PER_LIST..(number + 1) * PIECES_PER_LIST;
        let pieces = numbers.map(|n| StreamPiece { id: id(n), len: 1, location: None }).collect();
        let list = PieceList { level: ListLevel::Pieces, pieces, packs: Vec::new() };
        StructureChunk::List { id: id(u32::MAX - number), list }
    }

    fn pack() -> IndexedPack {
        let pack = PackRef { digest: Digest::new([0; 32]), sessions: Vec::new() };
        IndexedPack { pack, size: 1, content: PackContent::Streams, epoch: Epoch(1) }
    }

    fn location(pack: u32) -> FrameLocation {
        let frame_counter = FrameCounter { thread: 0, counter: 0 };
        FrameLocation { pack, offset: 0, stored: 1, codec: Codec::Stored, session: 0, frame_counter }
    }

    /// Closes packs of pieces in this order while all lists wait. Returns how often a list was looked at.
    fn reads(lists: u32, order: &[u32]) -> usize {
        let env = Arc::new(Seeded::new(1));
        let files = SpillFiles::default();
        let spill = SpillOptions { dir: std::env::temp_dir(), memory_bytes: 0, env, files };
        let mut pending = PendingChunks::new(&spill);
        let known = Index::default();
        let mut closed = Index::default();
        let mut reads = 0;
        for number in 0..lists {
            pending.add(&list(number)).expect("kept");
            assert!(pending.next_ready(&Locations { known: &known, closed: &closed }).expect("read").is_none());
            reads += 1;
        }
        let mut ready = 0;
        for pieces in order.chunks(PIECES_PER_PACK) {
            let ordinal = closed.add_pack(pack());
            pieces.iter().for_each(|&n| closed.insert(&id(n), &location(ordinal)).expect("it fits"));
            pieces.iter().for_each(|&n| pending.wake(&id(n)));
            let locations = Locations { known: &known, closed: &closed };
            while let Some((number, shelved)) = pending.woken.pop_first() {
                reads += 1;
                let Some(chunk) = pending.look_at(number, shelved, &locations).expect("read") else { continue };
                let StructureChunk::List { mut list, .. } = chunk else { panic!("a list was added") };
                assert!(matches!(Locator::new(locations).locate_list(&mut list), Located::All));
                ready += 1;
            }
        }
        assert!(pending.is_empty());
        assert_eq!(ready, lists);
        reads
    }

    #[test]
    fn waiting_costs_little_whatever_the_order_of_streams() {
        let reads_per_list = |lists: u32, order: &[u32]| reads(lists, order) as f64 / f64::from(lists);
        for lists in [200, 2000] {
            let forward: Vec<u32> = (0..lists * PIECES_PER_LIST).collect();
            // Each list is looked at when it arrives and when its pack is closed.
            assert!(reads_per_list(lists, &forward) <= 2.3);
            let backward: Vec<u32> = forward.iter().rev().copied().collect();
            assert!(reads_per_list(lists, &backward) <= 2.3);
            let mut mixed = forward;
            mixed.sort_by_key(|&n| id(n));
            // About the logarithm of the number of pieces.
            assert!(reads_per_list(lists, &mixed) <= 6.5);
        }
    }
}
