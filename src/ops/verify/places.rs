//! Where every frame of the inventory lies, by the packs' own tables: 32 bytes a frame, frames of
//! equal ids side by side. Ids are kept to 128 bits and the seal of a place to a hash of 32, which
//! is enough to find mistakes; whoever opens a frame authenticates it.

use std::collections::HashMap;

use crate::base::frame::FrameType;
use crate::base::id::{ChunkId, Digest, SessionId};
use crate::format::node::FrameLocation;
use crate::format::pack::FrameEntry;

/// A frame in a pack.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct FramePlace {
    id: [u8; 16],
    /// Pack ordinal << 8 | frame type.
    pack_kind: u32,
    /// From the first byte of the pack.
    pub offset: u32,
    /// Length of the content in bytes.
    pub content: u32,
    /// Hash of everything else that a reader must know to open it.
    check: u32,
}

const _: () = assert!(size_of::<FramePlace>() == 32);

/// Where frames lie.
#[derive(Debug, Default)]
pub struct FramePlaces {
    packs: Vec<Digest>,
    ordinals: HashMap<Digest, u32>,
    list: Vec<FramePlace>,
}

/// What became of a look for a chunk at the place where it should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Look {
    /// There.
    Exact { at: usize, content: u32 },
    /// In a pack of the inventory, but not where the hint says.
    Elsewhere { at: usize, content: u32 },
    /// In no pack of the inventory whose table can be read.
    Nowhere,
}

impl FramePlaces {
    /// Adds a pack and its frames, which begin at `base`.
    pub fn add(&mut self, digest: Digest, sessions: &[SessionId], base: u32, entries: &[FrameEntry]) {
        let ordinal = self.packs.len() as u32;
        self.packs.push(digest);
        self.ordinals.insert(digest, ordinal);
        self.list.reserve(entries.len());
        for entry in entries {
            let Some(session) = sessions.get(usize::from(entry.session)) else { continue };
            let location = crate::repo::packer::location(entry, base);
            self.list.push(FramePlace {
                id: short(&entry.id),
                pack_kind: ordinal << 8 | u32::from(entry.kind.byte()),
                offset: location.offset,
                content: entry.content,
                check: check(&location, session),
            });
        }
    }

    /// No more packs come.
    pub fn seal(&mut self) {
        self.list.shrink_to_fit();
        self.list.sort_unstable();
    }

    /// Frames known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether the table of this pack was read.
    #[must_use]
    pub fn has_pack(&self, digest: &Digest) -> bool {
        self.ordinals.contains_key(digest)
    }

    /// Looks for a chunk where `hint` says: a pack, the session that sealed the frame, and the location.
    #[must_use]
    pub fn look(&self, kind: FrameType, id: &ChunkId, hint: Option<(&Digest, &SessionId, &FrameLocation)>) -> Look {
        let id = short(id);
        let first = self.list.partition_point(|place| place.id < id);
        let same = self.list[first..].iter().take_while(|place| place.id == id);
        let mut found = Look::Nowhere;
        for (n, place) in same.enumerate().filter(|(_, place)| place.pack_kind & 0xff == u32::from(kind.byte())) {
            let (at, content) = (first + n, place.content);
            if let Some((digest, session, location)) = hint
                && self.packs[(place.pack_kind >> 8) as usize] == *digest
                && place.offset == location.offset
                && place.check == check(location, session)
            {
                return Look::Exact { at, content };
            }
            if found == Look::Nowhere {
                found = Look::Elsewhere { at, content };
            }
        }
        found
    }

    /// Whether exactly this frame is known in this pack, whatever its type.
    #[must_use]
    pub fn has(&self, digest: &Digest, id: &ChunkId, session: &SessionId, location: &FrameLocation) -> bool {
        let id = short(id);
        let first = self.list.partition_point(|place| place.id < id);
        let mut same = self.list[first..].iter().take_while(|place| place.id == id);
        let wanted = check(location, session);
        same.any(|place| {
            self.packs[(place.pack_kind >> 8) as usize] == *digest
                && place.offset == location.offset
                && place.check == wanted
        })
    }

    /// The number of the first of the frames with this id, which stands for the chunk.
    #[must_use]
    pub fn chunk(&self, id: &ChunkId) -> Option<usize> {
        let id = short(id);
        let first = self.list.partition_point(|place| place.id < id);
        (self.list.get(first)?.id == id).then_some(first)
    }
}

fn short(id: &ChunkId) -> [u8; 16] {
    *id.as_bytes().first_chunk().expect("20 bytes hold 16")
}

fn check(location: &FrameLocation, session: &SessionId) -> u32 {
    let mut bytes = [0; 26];
    bytes[..16].copy_from_slice(session.as_bytes());
    bytes[16..20].copy_from_slice(&location.stored.to_le_bytes());
    bytes[20..24].copy_from_slice(&location.frame_counter.counter.to_le_bytes());
    bytes[24..].copy_from_slice(&[location.codec as u8, location.frame_counter.thread]);
    u32::from_le_bytes(*blake3::hash(&bytes).as_bytes().first_chunk().expect("32 bytes hold 4"))
}

#[cfg(test)]
mod tests {
    use super::{FramePlaces, Look};
    use crate::base::frame::{FrameCounter, FrameType};
    use crate::base::id::{ChunkId, Digest, SessionId};
    use crate::format::codec::Codec;
    use crate::format::pack::FrameEntry;
    use crate::repo::packer::location;

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
        let (one, two) = (Digest::new([1; 32]), Digest::new([2; 32]));
        let session = SessionId::new([3; 16]);
        let mut places = FramePlaces::default();
        places.add(one, &[session], 100, &[entry(7, 0), entry(8, 9)]);
        places.add(two, &[session], 200, &[entry(7, 50)]);
        places.seal();
        let id = ChunkId::new([7; 20]);
        for (pack, entry, base) in [(one, entry(7, 0), 100), (two, entry(7, 50), 200)] {
            let location = location(&entry, base);
            let hint = Some((&pack, &session, &location));
            assert!(matches!(places.look(FrameType::Leaf, &id, hint), Look::Exact { content: 30, .. }));
            assert!(matches!(places.look(FrameType::Piece, &id, hint), Look::Nowhere));
            let mut wrong = location;
            wrong.stored += 1;
            let hint = Some((&pack, &session, &wrong));
            assert!(matches!(places.look(FrameType::Leaf, &id, hint), Look::Elsewhere { .. }));
            assert!(places.has(&pack, &id, &session, &location) && !places.has(&pack, &id, &session, &wrong));
        }
        assert_eq!(places.look(FrameType::Leaf, &ChunkId::new([9; 20]), None), Look::Nowhere);
    }
}
