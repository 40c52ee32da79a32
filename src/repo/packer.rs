//! One open pack: sealed frames are appended, then it is closed into the bytes of an object
//! (`docs/format.md` section 5). Places are known when it is closed, not before.

use crate::base::env::Env;
use crate::base::frame::{Context, FrameType, Seat, SessionWrap};
use crate::base::id::{ChunkId, Digest, SessionId};
use crate::base::limit::{PACK_BYTES_TARGET, PACK_FRAMES_MAX};
use crate::crypto::seal::{SealError, Sealer};
use crate::format::codec::{self, Codec};
use crate::format::node::Spot;
use crate::format::pack::{FrameEntry, PackContent, PackHeader, SealedTable, padme, write_table};

/// A frame that is sealed and has no place yet.
#[derive(Debug)]
pub struct SealedFrame {
    pub kind: FrameType,
    pub id: ChunkId,
    pub codec: Codec,
    pub seat: Seat,
    /// Length of the content in bytes.
    pub content_len: u32,
    pub sealed: Vec<u8>,
}

/// Frames that will be one object.
#[derive(Debug)]
pub struct OpenPack {
    content: PackContent,
    frames: Vec<u8>,
    entries: Vec<FrameEntry>,
}

/// A pack, complete.
#[derive(Debug)]
pub struct ClosedPack {
    pub digest: Digest,
    pub bytes: Vec<u8>,
    pub content: PackContent,
    /// Where each frame lies; `pack` is 0.
    pub spots: Vec<(ChunkId, Spot)>,
}

/// What closing a pack needs to know of its session.
pub struct PackSeal<'a> {
    pub context: Context,
    pub session: SessionId,
    pub wrap: &'a SessionWrap,
    /// Number of this pack within the session.
    pub sequence: u32,
    pub env: &'a dyn Env,
}

impl OpenPack {
    /// An empty pack.
    #[must_use]
    pub fn new(content: PackContent) -> Self {
        Self { content, frames: Vec::new(), entries: Vec::new() }
    }

    /// Whether there are no frames.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether it should be closed before more is appended.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.frames.len() >= PACK_BYTES_TARGET || self.entries.len() + 2 > PACK_FRAMES_MAX
    }

    /// Appends a frame.
    pub fn push(&mut self, frame: &SealedFrame) {
        if self.frames.is_empty() {
            // Grown by doubling, a full pack would take twice its size. Pages not touched take nothing.
            self.frames.reserve_exact(PACK_BYTES_TARGET + (1 << 20));
        }
        self.entries.push(FrameEntry {
            kind: frame.kind,
            codec: frame.codec,
            session: 0,
            seat: frame.seat,
            id: frame.id,
            offset: self.frames.len() as u32,
            stored: frame.sealed.len() as u32,
            content: frame.content_len,
        });
        self.frames.extend_from_slice(&frame.sealed);
    }

    /// The object. Packs of streams are shuffled and padded first.
    pub fn close(mut self, seal: &PackSeal<'_>, sealer: &mut Sealer) -> Result<ClosedPack, SealError> {
        if self.content == PackContent::Streams {
            self.shuffle(seal.env);
        }
        let header = PackHeader {
            repository: seal.context.repository,
            source: seal.context.source,
            epoch: seal.context.epoch,
            session: seal.session,
            sequence: seal.sequence,
            content: self.content,
            wraps: vec![seal.wrap.clone()],
        };
        let table = write_table(&self.entries);
        let table = codec::compress(&table).expect("a table of contents compresses");
        let mut sealed_table = |kind| {
            let mut sealed = table.clone();
            let seat = sealer.seal(kind, &header.table_id(), &mut sealed)?;
            Ok(SealedTable { seat, sealed })
        };
        let (front, rear) = (sealed_table(FrameType::FrontTable)?, sealed_table(FrameType::RearTable)?);
        let mut bytes = Vec::with_capacity(self.frames.len() + 2 * table.len() + 2048);
        header.write(&mut bytes);
        front.write_front(&mut bytes);
        let base = bytes.len() as u32;
        bytes.append(&mut self.frames);
        if self.content == PackContent::Streams {
            let rear_len = rear.sealed.len() + crate::format::pack::TABLE_HEAD_LEN;
            bytes.resize(padme(bytes.len() + rear_len) - rear_len, 0);
        }
        rear.write_rear(&mut bytes);
        let spots = self.entries.iter().map(|entry| (entry.id, spot(entry, base))).collect();
        Ok(ClosedPack { digest: Digest::of(&bytes), bytes, content: self.content, spots })
    }

    /// Puts the frames in random order (Fisher and Yates), so that the lengths of neighbours do not
    /// spell out a photo.
    fn shuffle(&mut self, env: &dyn Env) {
        let mut random = vec![0; self.entries.len() * 8];
        env.fill(&mut random);
        let mut order: Vec<usize> = (0..self.entries.len()).collect();
        for (at, word) in (1..order.len()).rev().zip(random.as_chunks::<8>().0) {
            order.swap(at, (u64::from_le_bytes(*word) % (at as u64 + 1)) as usize);
        }
        let mut shuffled = Self::new(self.content);
        for at in order {
            let mut entry = self.entries[at];
            let start = entry.offset as usize;
            let frame = &self.frames[start..start + entry.stored as usize];
            entry.offset = shuffled.frames.len() as u32;
            shuffled.frames.extend_from_slice(frame);
            shuffled.entries.push(entry);
        }
        *self = shuffled;
    }
}

/// The place of a table's entry in a pack whose frames begin at `base`.
#[must_use]
pub fn spot(entry: &FrameEntry, base: u32) -> Spot {
    Spot {
        pack: 0,
        offset: base + entry.offset,
        stored: entry.stored,
        codec: entry.codec,
        session: entry.session,
        seat: entry.seat,
    }
}
