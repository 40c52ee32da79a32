//! One open pack: sealed frames are appended, then it is closed and becomes the bytes of an object (`docs/format.md`
//! section 5). Locations are known only once it is closed.

use std::sync::Arc;

use bytes::Bytes;

use crate::base::env::Env;
use crate::base::frame::{FrameContext, FrameCounter, FrameType, SessionWrap};
use crate::base::id::{ChunkId, Digest, SessionId};
use crate::base::limit::{PACK_BYTES_TARGET, PACK_FRAMES_MAX};
use crate::crypto::seal::{SealError, Sealer};
use crate::format::codec::{self, Codec};
use crate::format::node::FrameLocation;
use crate::format::pack::{FrameEntry, PackContent, PackHeader, SealedTable, TABLE_HEAD_LEN, padme, write_table};
use crate::repo::dictionaries::TableDictionary;

/// A sealed frame that has no location yet.
#[derive(Debug)]
pub struct SealedFrame {
    pub kind: FrameType,
    pub id: ChunkId,
    pub codec: Codec,
    pub frame_counter: FrameCounter,
    /// Length of the content in bytes.
    pub content_len: u32,
    pub sealed: Vec<u8>,
    /// The dictionary that it needs, which must be in the same pack.
    pub dictionary: Option<Arc<TableDictionary>>,
}

impl SealedFrame {
    /// The entry in the table of contents. `offset` counts from the first frame.
    fn entry(&self, offset: usize) -> FrameEntry {
        FrameEntry {
            kind: self.kind,
            codec: self.codec,
            session: 0,
            frame_counter: self.frame_counter,
            id: self.id,
            offset: offset as u32,
            stored: self.sealed.len() as u32,
            content: self.content_len,
        }
    }
}

/// Space reserved before the first frame for the header and the front table, so that closing a pack does not copy its
/// frames. A larger table, for example for a thousand small frames, does cause a copy.
const HEAD_ROOM: usize = 64 << 10;

/// Frames that will become one object.
#[derive(Debug)]
pub struct OpenPack {
    content: PackContent,
    /// [`HEAD_ROOM`] bytes, then the frames. Empty while there are no frames.
    bytes: Vec<u8>,
    entries: Vec<FrameEntry>,
}

/// A complete pack.
#[derive(Debug)]
pub struct ClosedPack {
    pub digest: Digest,
    pub bytes: Bytes,
    pub content: PackContent,
    /// The location of each frame, with `pack` 0.
    pub locations: Vec<(ChunkId, FrameLocation)>,
}

/// The parameters of a session that are needed to close a pack.
pub struct PackSeal<'a> {
    pub context: FrameContext,
    pub session: SessionId,
    pub wrap: &'a SessionWrap,
    /// Number of this pack within its session.
    pub sequence: u32,
    pub env: &'a dyn Env,
}

impl OpenPack {
    /// An empty pack.
    #[must_use]
    pub fn new(content: PackContent) -> Self {
        Self { content, bytes: Vec::new(), entries: Vec::new() }
    }

    /// Whether there are no frames.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether it should be closed before more is appended.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.bytes.len() >= HEAD_ROOM + PACK_BYTES_TARGET || self.entries.len() + 2 > PACK_FRAMES_MAX
    }

    /// Appends a frame.
    pub fn push(&mut self, frame: &SealedFrame) {
        self.make_room();
        self.entries.push(frame.entry(self.frame_bytes()));
        self.bytes.extend_from_slice(&frame.sealed);
    }

    /// Bytes of frames so far.
    fn frame_bytes(&self) -> usize {
        self.bytes.len() - HEAD_ROOM
    }

    fn make_room(&mut self) {
        if self.bytes.is_empty() {
            // Reserved at once, because growth by doubling would take twice the size of a full pack. Untouched pages
            // take no memory.
            self.bytes.reserve_exact(HEAD_ROOM + PACK_BYTES_TARGET + (1 << 20));
            self.bytes.resize(HEAD_ROOM, 0);
        }
    }

    /// Closes the pack and returns the object. Packs of streams are shuffled and padded first.
    /// Fails if `sealer` is used up. Panics if memory for compression runs out.
    pub fn close(mut self, seal: &PackSeal<'_>, sealer: &mut Sealer) -> Result<ClosedPack, SealError> {
        if self.content == PackContent::Streams {
            self.shuffle(seal.env);
        }
        let tables = SealedTables::new(&self.entries, seal.header(self.content), sealer)?;
        let head = tables.head();
        let start = self.put_head(&head);
        self.pad(start, &tables.rear, seal.env);
        tables.rear.write_rear(&mut self.bytes);
        let locations = self.locations(head.len() as u32);
        let bytes = Bytes::from(self.bytes).slice(start..);
        Ok(ClosedPack { digest: Digest::of(&bytes), bytes, content: self.content, locations })
    }

    fn locations(&self, frames_start: u32) -> Vec<(ChunkId, FrameLocation)> {
        self.entries.iter().map(|entry| (entry.id, location(entry, frames_start))).collect()
    }

    /// Writes what precedes the frames. Returns the offset at which the pack begins.
    fn put_head(&mut self, head: &[u8]) -> usize {
        self.make_room();
        match HEAD_ROOM.checked_sub(head.len()) {
            Some(start) => {
                self.bytes[start..HEAD_ROOM].copy_from_slice(head);
                start
            }
            None => {
                self.bytes.splice(..HEAD_ROOM, head.iter().copied());
                0
            }
        }
    }

    /// Pads a pack of streams that begins at `start`, so that its length reveals little. The padding is random, because
    /// anyone could see where frames end and zeros begin.
    fn pad(&mut self, start: usize, rear: &SealedTable, env: &dyn Env) {
        if self.content == PackContent::Streams {
            let rear_len = rear.sealed.len() + TABLE_HEAD_LEN;
            let padded = padme(self.bytes.len() - start + rear_len);
            let frames_end = self.bytes.len();
            self.bytes.resize(start + padded - rear_len, 0);
            env.fill(&mut self.bytes[frames_end..]);
        }
    }

    /// Shuffles the frames, so that the lengths of neighbours do not identify a known file.
    fn shuffle(&mut self, env: &dyn Env) {
        let mut shuffled = Self::new(self.content);
        shuffled.make_room();
        for at in random_order(self.entries.len(), env) {
            shuffled.push_from(self, at);
        }
        *self = shuffled;
    }

    /// Appends a frame of another pack.
    fn push_from(&mut self, other: &Self, at: usize) {
        let mut entry = other.entries[at];
        let start = HEAD_ROOM + entry.offset as usize;
        let frame = &other.bytes[start..start + entry.stored as usize];
        entry.offset = self.frame_bytes() as u32;
        self.bytes.extend_from_slice(frame);
        self.entries.push(entry);
    }
}

/// The numbers below `len` in random order (Fisher-Yates shuffle).
fn random_order(len: usize, env: &dyn Env) -> Vec<usize> {
    let mut random = vec![0; len * 8];
    env.fill(&mut random);
    let mut order: Vec<usize> = (0..len).collect();
    for (at, word) in (1..len).rev().zip(random.as_chunks::<8>().0) {
        let other = u64::from_le_bytes(*word) % (at as u64 + 1);
        order.swap(at, other as usize);
    }
    order
}

/// The tables of contents before and after the frames.
struct SealedTables {
    header: PackHeader,
    front: SealedTable,
    rear: SealedTable,
}

impl SealedTables {
    fn new(entries: &[FrameEntry], header: PackHeader, sealer: &mut Sealer) -> Result<Self, SealError> {
        let table = codec::compress(&write_table(entries)).expect("a table of contents compresses");
        let front = seal_table(sealer, FrameType::FrontTable, &header, table.clone())?;
        let rear = seal_table(sealer, FrameType::RearTable, &header, table)?;
        Ok(Self { header, front, rear })
    }

    /// The bytes that precede the frames.
    fn head(&self) -> Vec<u8> {
        let mut head = Vec::new();
        self.header.write(&mut head);
        self.front.write_front(&mut head);
        head
    }
}

fn seal_table(
    sealer: &mut Sealer,
    kind: FrameType,
    header: &PackHeader,
    mut table: Vec<u8>,
) -> Result<SealedTable, SealError> {
    let frame_counter = sealer.seal(kind, &header.table_id(), &mut table)?;
    Ok(SealedTable { frame_counter, sealed: table })
}

impl PackSeal<'_> {
    fn header(&self, content: PackContent) -> PackHeader {
        PackHeader {
            repository: self.context.repository,
            source: self.context.source,
            epoch: self.context.epoch,
            session: self.session,
            sequence: self.sequence,
            content,
            wraps: vec![self.wrap.clone()],
        }
    }
}

/// The location of a table's entry in a pack whose frames begin at `frames_start`.
#[must_use]
pub fn location(entry: &FrameEntry, frames_start: u32) -> FrameLocation {
    FrameLocation {
        pack: 0,
        offset: frames_start + entry.offset,
        stored: entry.stored,
        codec: entry.codec,
        session: entry.session,
        frame_counter: entry.frame_counter,
    }
}
