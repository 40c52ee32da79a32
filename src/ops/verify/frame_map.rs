//! The location of every frame of the inventory, from the packs' own tables. A frame takes 32 bytes, and frames with
//! equal ids are adjacent. Ids are truncated to 128 bits, and what seals a frame to a hash of 32 bits. That is enough
//! to find mistakes, because opening a frame authenticates it.

use std::collections::HashMap;

use crate::base::frame::FrameType;
use crate::base::id::{ChunkId, Digest, SessionId, SourceId};
use crate::format::name::Name;
use crate::format::node::FrameLocation;
use crate::format::pack::FrameEntry;
use crate::repo::open_pack::location;

/// A frame in a pack.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct FrameRecord {
    id: [u8; 16],
    /// Pack ordinal << 8 | frame type.
    pack_kind: u32,
    /// Offset from the first byte of the pack.
    offset: u32,
    /// Length of the content in bytes.
    content: u32,
    /// Hash of everything else that a reader must know to open the frame.
    check: u32,
}

const _: () = assert!(size_of::<FrameRecord>() == 32);

impl FrameRecord {
    fn new(ordinal: u32, entry: &FrameEntry, location: &FrameLocation, session: &SessionId) -> Self {
        Self {
            id: short(&entry.id),
            pack_kind: ordinal << 8 | u32::from(entry.kind.byte()),
            offset: location.offset,
            content: entry.content,
            check: check(location, session),
        }
    }
    fn is_of(&self, kind: FrameType) -> bool {
        self.pack_kind & 0xff == u32::from(kind.byte())
    }

    fn pack_ordinal(&self) -> usize {
        (self.pack_kind >> 8) as usize
    }
}

/// The locations of all frames.
#[derive(Debug, Default)]
pub struct FrameMap {
    packs: Vec<Digest>,
    ordinals: HashMap<Digest, u32>,
    frames: Vec<FrameRecord>,
}

/// Where a frame should be: in a pack, sealed by one of its sessions.
#[derive(Clone, Copy, Debug)]
pub struct FrameHint<'a> {
    pub pack: &'a Digest,
    pub session: &'a SessionId,
    pub location: FrameLocation,
}

/// The result of a search for a chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameSearch {
    /// At the location in the hint. `content` is the length of its content in bytes.
    Exact { content: u32 },
    /// In a pack of the inventory, but not at the location in the hint.
    Elsewhere { content: u32 },
    /// In no pack of the inventory whose table can be read.
    Nowhere,
}

impl FrameSearch {
    /// The length of the content in bytes, if the chunk was found at all.
    #[must_use]
    pub fn content(self) -> Option<u32> {
        match self {
            Self::Exact { content } | Self::Elsewhere { content } => Some(content),
            Self::Nowhere => None,
        }
    }
}

/// The object that a fault of a pack is reported for. If the pack is not known, the folder of all packs.
pub fn pack_object(source: SourceId, pack: Option<Digest>) -> String {
    match pack {
        Some(digest) => Name::Pack(source, digest).to_string(),
        None => format!("{source}/packs"),
    }
}

impl FrameMap {
    /// Adds a pack and its frames. The frames begin at offset `base` of the pack.
    pub fn add(&mut self, digest: Digest, sessions: &[SessionId], base: u32, entries: &[FrameEntry]) {
        let ordinal = self.packs.len() as u32;
        self.packs.push(digest);
        self.ordinals.insert(digest, ordinal);
        self.frames.reserve(entries.len());
        for entry in entries {
            if let Some(session) = sessions.get(usize::from(entry.session)) {
                let location = location(entry, base);
                self.frames.push(FrameRecord::new(ordinal, entry, &location, session));
            }
        }
    }

    /// Sorts the frames. Must be called after the last pack was added and before the first search.
    pub fn seal(&mut self) {
        self.frames.shrink_to_fit();
        self.frames.sort_unstable();
    }

    /// Number of known frames.
    #[must_use]
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether the table of this pack was read.
    #[must_use]
    pub fn has_pack(&self, digest: &Digest) -> bool {
        self.ordinals.contains_key(digest)
    }

    /// Looks for a chunk, first at the location in `hint`.
    #[must_use]
    pub fn find(&self, kind: FrameType, id: &ChunkId, hint: Option<FrameHint<'_>>) -> FrameSearch {
        let mut search = FrameSearch::Nowhere;
        for frame in self.frames_of(id).filter(|frame| frame.is_of(kind)) {
            let content = frame.content;
            if hint.is_some_and(|hint| self.is_at(frame, hint)) {
                return FrameSearch::Exact { content };
            }
            if search == FrameSearch::Nowhere {
                search = FrameSearch::Elsewhere { content };
            }
        }
        search
    }

    /// Whether exactly this frame is known. Its type is not compared.
    #[must_use]
    pub fn has(&self, id: &ChunkId, hint: FrameHint<'_>) -> bool {
        self.frames_of(id).any(|frame| self.is_at(frame, hint))
    }

    /// The position of the first frame with this id. It identifies the chunk.
    #[must_use]
    pub fn chunk(&self, id: &ChunkId) -> Option<usize> {
        let first = self.first_of(id);
        (self.frames.get(first)?.id == short(id)).then_some(first)
    }

    /// The position of the first frame with this id, or where it would be.
    fn first_of(&self, id: &ChunkId) -> usize {
        let id = short(id);
        self.frames.partition_point(|frame| frame.id < id)
    }

    fn frames_of(&self, id: &ChunkId) -> impl Iterator<Item = &FrameRecord> {
        let short_id = short(id);
        self.frames[self.first_of(id)..].iter().take_while(move |frame| frame.id == short_id)
    }

    fn is_at(&self, frame: &FrameRecord, hint: FrameHint<'_>) -> bool {
        self.packs[frame.pack_ordinal()] == *hint.pack
            && frame.offset == hint.location.offset
            && frame.check == check(&hint.location, hint.session)
    }
}

fn short(id: &ChunkId) -> [u8; 16] {
    *id.as_bytes().first_chunk().expect("20 bytes hold 16")
}

fn check(location: &FrameLocation, session: &SessionId) -> u32 {
    let hash = blake3::hash(&seal_bytes(location, session));
    u32::from_le_bytes(*hash.as_bytes().first_chunk().expect("32 bytes hold 4"))
}

/// Everything that a reader must know to open a frame, apart from its position.
fn seal_bytes(location: &FrameLocation, session: &SessionId) -> [u8; 26] {
    let mut bytes = [0; 26];
    bytes[..16].copy_from_slice(session.as_bytes());
    bytes[16..20].copy_from_slice(&location.stored.to_le_bytes());
    bytes[20..24].copy_from_slice(&location.frame_counter.counter.to_le_bytes());
    bytes[24..].copy_from_slice(&[location.codec as u8, location.frame_counter.thread]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::{FrameHint, FrameMap, FrameSearch};
    use crate::base::frame::{FrameCounter, FrameType};
    use crate::base::id::{ChunkId, Digest, SessionId};
    use crate::format::codec::Codec;
    use crate::format::pack::FrameEntry;
    use crate::repo::open_pack::location;

    fn entry(n: u8, offset: u32) -> FrameEntry {
        let frame_counter = FrameCounter { thread: 1, counter: offset };
        FrameEntry {
            kind: FrameType::Leaf,
            codec: Codec::Zstd,
            session: 0,
            frame_counter,
            id: ChunkId::new([n; 20]),
            offset,
            stored: 9,
            content: 30,
        }
    }

    #[test]
    fn a_chunk_in_two_packs_is_found_in_either() {
        let one = Digest::new([1; 32]);
        let two = Digest::new([2; 32]);
        let session = SessionId::new([3; 16]);
        let mut frames = FrameMap::default();
        frames.add(one, &[session], 100, &[entry(7, 0), entry(8, 9)]);
        frames.add(two, &[session], 200, &[entry(7, 50)]);
        frames.seal();
        let id = ChunkId::new([7; 20]);
        for (pack, entry, base) in [(one, entry(7, 0), 100), (two, entry(7, 50), 200)] {
            let location = location(&entry, base);
            let hint = FrameHint { pack: &pack, session: &session, location };
            assert!(matches!(frames.find(FrameType::Leaf, &id, Some(hint)), FrameSearch::Exact { content: 30 }));
            assert!(matches!(frames.find(FrameType::Piece, &id, Some(hint)), FrameSearch::Nowhere));
            let mut wrong = hint;
            wrong.location.stored += 1;
            assert!(matches!(frames.find(FrameType::Leaf, &id, Some(wrong)), FrameSearch::Elsewhere { .. }));
            assert!(frames.has(&id, hint) && !frames.has(&id, wrong));
        }
        assert_eq!(frames.find(FrameType::Leaf, &ChunkId::new([9; 20]), None), FrameSearch::Nowhere);
    }
}
