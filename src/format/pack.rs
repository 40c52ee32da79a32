//! Packs: objects of many frames, with a table of contents at each end (`docs/format.md` section 5).

use crate::base::frame::{FrameContext, FrameCounter, FrameType, SessionWrap};
use crate::base::id::{ChunkId, Epoch, RepositoryId, SessionId, SourceId};
use crate::base::limit::{FRAME_CONTENT_BYTES_MAX, FRAME_STORED_BYTES_MAX, PACK_FRAMES_MAX, PACK_WRAPS_MAX};
use crate::format::codec::Codec;
use crate::format::header::{self, ObjectKind};
use crate::format::wire::{Take, WireError, ensure};

/// Length of a table's head: `u32 length, u8 thread, u32 counter`.
pub const TABLE_HEAD_LEN: usize = 9;

/// The content of a pack.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum PackContent {
    Leaves = 1,
    Nodes = 2,
    Streams = 3,
    Repacked = 4,
}

impl PackContent {
    /// The content with this byte.
    /// Fails if this version does not know the byte.
    pub fn from_byte(byte: u8) -> Result<Self, WireError> {
        Ok(match byte {
            1 => Self::Leaves,
            2 => Self::Nodes,
            3 => Self::Streams,
            4 => Self::Repacked,
            other => return Err(WireError::unsupported("pack content", other)),
        })
    }
}

/// The clear part of a pack.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PackHeader {
    pub repository: RepositoryId,
    pub source: SourceId,
    pub epoch: Epoch,
    /// The session that wrote the pack.
    pub session: SessionId,
    /// Number of the pack within its session.
    pub sequence: u32,
    pub content: PackContent,
    /// Sessions whose frames the pack contains.
    pub wraps: Vec<SessionWrap>,
}

/// Length of a header up to its wraps.
const HEADER_BYTES: usize = 70;

impl PackHeader {
    /// The repository, source and epoch of its frames.
    #[must_use]
    pub fn context(&self) -> FrameContext {
        FrameContext { repository: self.repository, source: self.source, epoch: self.epoch }
    }

    /// Appends the header.
    pub fn write(&self, out: &mut Vec<u8>) {
        header::write(out, ObjectKind::Pack);
        header::write_context(out, &self.context());
        out.extend_from_slice(self.session.as_bytes());
        out.extend_from_slice(&self.sequence.to_le_bytes());
        out.push(self.content as u8);
        out.push(self.wraps.len() as u8);
        for wrap in &self.wraps {
            out.extend_from_slice(wrap.as_bytes());
        }
    }

    /// Reads the header at the start of a pack.
    /// Fails if the bytes are not a pack of this version, if its content is unknown, if it has no wraps or more than
    /// [`PACK_WRAPS_MAX`], or if the bytes end inside the header.
    pub fn read(take: &mut Take<'_>) -> Result<Self, WireError> {
        header::read(take, ObjectKind::Pack)?;
        let FrameContext { repository, source, epoch } = header::read_context(take)?;
        let session = SessionId::new(take.array("session id")?);
        let sequence = take.u32("pack sequence")?;
        let content = PackContent::from_byte(take.u8("pack content")?)?;
        let wraps = read_pack_wraps(take)?;
        Ok(Self { repository, source, epoch, session, sequence, content, wraps })
    }

    /// The length of a header with this many wraps.
    #[must_use]
    pub const fn len(wraps: usize) -> u64 {
        (HEADER_BYTES + wraps * SessionWrap::LEN) as u64
    }

    /// Whether its first wrap is the wrap of the session that wrote it. Repacked frames are of other sessions.
    #[must_use]
    pub fn has_own_wrap(&self) -> bool {
        self.content == PackContent::Repacked || self.wraps.first().is_some_and(|wrap| wrap.session() == self.session)
    }

    /// The sessions, in the order in which entries number them.
    #[must_use]
    pub fn sessions(&self) -> Vec<SessionId> {
        self.wraps.iter().map(SessionWrap::session).collect()
    }

    /// The id used in the AAD of the tables, which have no chunk id.
    #[must_use]
    pub fn table_id(&self) -> ChunkId {
        ordinal_id(self.session, self.sequence)
    }
}

/// Reads the wraps of a pack, of which there must be at least one.
fn read_pack_wraps(take: &mut Take<'_>) -> Result<Vec<SessionWrap>, WireError> {
    let count = usize::from(take.u8("wraps")?);
    if !(1..=PACK_WRAPS_MAX).contains(&count) {
        return Err(WireError::Invalid { what: "wraps" });
    }
    take.items(count, |take| Ok(SessionWrap::new(take.array("session wrap")?)))
}

/// `session id || ordinal`, used as the id of a section that has no chunk id.
#[must_use]
pub fn ordinal_id(session: SessionId, ordinal: u32) -> ChunkId {
    let mut bytes = [0; ChunkId::LEN];
    bytes[..SessionId::LEN].copy_from_slice(session.as_bytes());
    bytes[SessionId::LEN..].copy_from_slice(&ordinal.to_le_bytes());
    ChunkId::new(bytes)
}

/// One frame, as described in the tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameEntry {
    pub kind: FrameType,
    pub codec: Codec,
    /// Index into the pack's wraps.
    pub session: u8,
    pub frame_counter: FrameCounter,
    pub id: ChunkId,
    /// Offset from the start of the first frame.
    pub offset: u32,
    /// Stored length in bytes, including the tag.
    pub stored: u32,
    /// Length of the content in bytes.
    pub content: u32,
}

impl FrameEntry {
    fn seal(&self) -> FrameSeal {
        FrameSeal { codec: self.codec, session: self.session, frame_counter: self.frame_counter }
    }
}

/// The table's plaintext, before zstd.
#[must_use]
pub fn write_table(entries: &[FrameEntry]) -> Vec<u8> {
    let mut out = Vec::with_capacity(4 + entries.len() * 40);
    out.extend_from_slice(&(entries.len() as u32).to_le_bytes());
    write_bytes(&mut out, entries, |entry| entry.kind as u8);
    write_seals(&mut out, entries.iter().map(FrameEntry::seal));
    entries.iter().for_each(|entry| out.extend_from_slice(entry.id.as_bytes()));
    write_extents(&mut out, entries);
    out
}

/// Writes the columns with the offset and length of each frame.
fn write_extents(out: &mut Vec<u8>, entries: &[FrameEntry]) {
    write_words(out, entries, |entry| entry.offset);
    write_words(out, entries, |entry| entry.stored);
    write_words(out, entries, |entry| entry.content);
}

fn write_bytes(out: &mut Vec<u8>, entries: &[FrameEntry], byte: impl Fn(&FrameEntry) -> u8) {
    out.extend(entries.iter().map(byte));
}

fn write_words(out: &mut Vec<u8>, entries: &[FrameEntry], word: impl Fn(&FrameEntry) -> u32) {
    for entry in entries {
        out.extend_from_slice(&word(entry).to_le_bytes());
    }
}

/// Decodes a table's plaintext.
/// Fails if it is malformed, if a frame type or codec is unknown, or if it exceeds the limits of a pack: frames,
/// sessions, stored length of a frame.
pub fn read_table(content: &[u8]) -> Result<Vec<FrameEntry>, WireError> {
    let columns = Take::whole(content, |take| {
        let count = read_frame_count(take)?;
        TableColumns::read(take, count)
    })?;
    (0..columns.kinds.len()).map(|at| columns.entry(at)).collect()
}

fn read_frame_count(take: &mut Take<'_>) -> Result<usize, WireError> {
    let count = take.u32("frames of a pack")? as usize;
    if count > PACK_FRAMES_MAX {
        return Err(WireError::Invalid { what: "frames of a pack" });
    }
    Ok(count)
}

/// The entries of a table as stored: one column per field.
struct TableColumns<'a> {
    kinds: &'a [u8],
    seals: SealColumns<'a>,
    ids: &'a [[u8; ChunkId::LEN]],
    offsets: &'a [[u8; 4]],
    stored: &'a [[u8; 4]],
    contents: &'a [[u8; 4]],
}

impl<'a> TableColumns<'a> {
    fn read(take: &mut Take<'a>, count: usize) -> Result<Self, WireError> {
        Ok(Self {
            kinds: take.raw(count, "frame types")?,
            seals: SealColumns::read(take, count)?,
            ids: take.arrays(count, "chunk ids")?,
            offsets: take.arrays(count, "offsets")?,
            stored: take.arrays(count, "stored lengths")?,
            contents: take.arrays(count, "content lengths")?,
        })
    }

    fn entry(&self, at: usize) -> Result<FrameEntry, WireError> {
        let kind = self.kind(at)?;
        let seal = self.seals.seal(at)?;
        Ok(FrameEntry {
            kind,
            codec: seal.codec,
            session: seal.session,
            frame_counter: seal.frame_counter,
            id: ChunkId::new(self.ids[at]),
            offset: u32::from_le_bytes(self.offsets[at]),
            stored: stored_length(self.stored[at])?,
            content: content_length(self.contents[at])?,
        })
    }

    fn kind(&self, at: usize) -> Result<FrameType, WireError> {
        let kind = self.kinds[at];
        FrameType::from_byte(kind).ok_or(WireError::unsupported("frame type", kind))
    }
}

/// The stored length of a frame.
/// Fails if it is more than [`FRAME_STORED_BYTES_MAX`]: longer frames are never stored.
pub(super) fn stored_length(bytes: [u8; 4]) -> Result<u32, WireError> {
    let stored = u32::from_le_bytes(bytes);
    if stored as usize > FRAME_STORED_BYTES_MAX {
        return Err(WireError::Invalid { what: "stored length of a frame" });
    }
    Ok(stored)
}

/// The length of the content of a frame.
/// Fails if it is more than [`FRAME_CONTENT_BYTES_MAX`].
fn content_length(bytes: [u8; 4]) -> Result<u32, WireError> {
    let content = u32::from_le_bytes(bytes);
    ensure(content as usize <= FRAME_CONTENT_BYTES_MAX, "content length of a frame").map(|()| content)
}

/// How a frame is coded and sealed. Tables of packs and fragments of the index store it in the same columns.
#[derive(Clone, Copy)]
pub(super) struct FrameSeal {
    pub(super) codec: Codec,
    /// Index into the pack's sessions.
    pub(super) session: u8,
    pub(super) frame_counter: FrameCounter,
}

/// Appends the columns that [`SealColumns`] reads.
pub(super) fn write_seals(out: &mut Vec<u8>, seals: impl Iterator<Item = FrameSeal> + Clone) {
    out.extend(seals.clone().map(|seal| seal.codec as u8));
    out.extend(seals.clone().map(|seal| seal.session));
    out.extend(seals.clone().map(|seal| seal.frame_counter.thread));
    out.extend(seals.flat_map(|seal| seal.frame_counter.counter.to_le_bytes()));
}

/// Seals as they are stored: each member of all of them in a row.
pub(super) struct SealColumns<'a> {
    codecs: &'a [u8],
    sessions: &'a [u8],
    threads: &'a [u8],
    counters: &'a [[u8; 4]],
}

impl<'a> SealColumns<'a> {
    /// Reads the columns of `count` seals.
    /// Fails if the bytes end before that.
    pub(super) fn read(take: &mut Take<'a>, count: usize) -> Result<Self, WireError> {
        Ok(Self {
            codecs: take.raw(count, "codecs")?,
            sessions: take.raw(count, "sessions")?,
            threads: take.raw(count, "threads")?,
            counters: take.arrays(count, "counters")?,
        })
    }

    /// Seal number `at`, from 0. Panics if there are fewer.
    /// Fails if the codec is unknown, or if the session is not below [`PACK_WRAPS_MAX`].
    pub(super) fn seal(&self, at: usize) -> Result<FrameSeal, WireError> {
        let codec = Codec::from_byte(self.codecs[at])?;
        let session = self.sessions[at];
        if usize::from(session) >= PACK_WRAPS_MAX {
            return Err(WireError::Invalid { what: "session of a frame" });
        }
        let counter = u32::from_le_bytes(self.counters[at]);
        let frame_counter = FrameCounter { thread: self.threads[at], counter };
        Ok(FrameSeal { codec, session, frame_counter })
    }
}

const REAR_TABLE: &str = "rear table";
const NO_REAR_TABLE: WireError = WireError::Truncated { what: REAR_TABLE };

/// The last `len` of `bytes`.
fn last(bytes: &[u8], len: usize) -> Option<&[u8]> {
    let start = bytes.len().checked_sub(len)?;
    Some(&bytes[start..])
}

/// A sealed table as stored in a pack.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SealedTable {
    pub frame_counter: FrameCounter,
    pub sealed: Vec<u8>,
}

impl SealedTable {
    fn head(&self) -> [u8; TABLE_HEAD_LEN] {
        let mut head = [0; TABLE_HEAD_LEN];
        head[..4].copy_from_slice(&(self.sealed.len() as u32).to_le_bytes());
        head[4] = self.frame_counter.thread;
        head[5..].copy_from_slice(&self.frame_counter.counter.to_le_bytes());
        head
    }

    /// Appends the table in the form used before the frames.
    pub fn write_front(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head());
        out.extend_from_slice(&self.sealed);
    }

    /// Appends the table in the form used at the end.
    pub fn write_rear(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.sealed);
        out.extend_from_slice(&self.head());
    }

    /// Reads the table that follows a pack's header.
    /// Fails if the bytes end inside the table.
    pub fn read_front(take: &mut Take<'_>) -> Result<Self, WireError> {
        let len = take.u32("table length")? as usize;
        let thread = take.u8("table thread")?;
        let counter = take.u32("table counter")?;
        let sealed = take.raw(len, "front table")?.to_vec();
        Ok(Self { frame_counter: FrameCounter { thread, counter }, sealed })
    }

    /// Reads the table at the end of `tail`, the last bytes of a pack.
    /// Fails if `tail` is too short to contain the table.
    pub fn read_rear(tail: &[u8]) -> Result<Self, WireError> {
        let (front, head) = tail.split_last_chunk::<TABLE_HEAD_LEN>().ok_or(NO_REAR_TABLE)?;
        let mut head = Take::new(head);
        let len = head.u32(REAR_TABLE)? as usize;
        let thread = head.u8(REAR_TABLE)?;
        let counter = head.u32(REAR_TABLE)?;
        let sealed = last(front, len).ok_or(NO_REAR_TABLE)?.to_vec();
        Ok(Self { frame_counter: FrameCounter { thread, counter }, sealed })
    }
}

/// Length to which a pack of streams is padded: PADME (Nikitin et al., "Reducing Metadata Leakage from Encrypted Files
/// and Communication with PURBs", 2019). It adds at most 12 % and reveals only O(log log n) bits of the length.
#[must_use]
pub fn padme(len: usize) -> usize {
    if len < 2 {
        return len;
    }
    let exponent = len.ilog2();
    let kept = exponent.ilog2() + 1;
    let mask = (1usize << (exponent.saturating_sub(kept))) - 1;
    (len + mask) & !mask
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{FrameEntry, PackContent, PackHeader, SealedTable, padme, read_table, write_table};
    use crate::base::frame::{FrameCounter, FrameType, SessionWrap};
    use crate::base::id::{ChunkId, Epoch, RepositoryId, SessionId, SourceId};
    use crate::format::codec::Codec;
    use crate::format::wire::Take;

    #[test]
    fn header_and_tables_round_trip() {
        let header = PackHeader {
            repository: RepositoryId::new([1; 16]),
            source: SourceId::new([2; 16]),
            epoch: Epoch(1),
            session: SessionId::new([3; 16]),
            sequence: 7,
            content: PackContent::Leaves,
            wraps: vec![SessionWrap::new([3; SessionWrap::LEN])],
        };
        let entries: Vec<FrameEntry> = (0..3)
            .map(|n| FrameEntry {
                kind: FrameType::Leaf,
                codec: Codec::Zstd,
                session: 0,
                frame_counter: FrameCounter { thread: 1, counter: n },
                id: ChunkId::new([n as u8; 20]),
                offset: n * 100,
                stored: 100,
                content: 300,
            })
            .collect();
        let table =
            SealedTable { frame_counter: FrameCounter { thread: 1, counter: 9 }, sealed: write_table(&entries) };
        let mut bytes = Vec::new();
        header.write(&mut bytes);
        table.write_front(&mut bytes);
        bytes.extend_from_slice(&[0xee; 300]);
        table.write_rear(&mut bytes);
        let mut take = Take::new(&bytes);
        assert_eq!(PackHeader::read(&mut take).as_ref(), Ok(&header));
        assert_eq!(SealedTable::read_front(&mut take).as_ref(), Ok(&table));
        assert_eq!(SealedTable::read_rear(&bytes).as_ref(), Ok(&table));
        assert_eq!(read_table(&table.sealed).as_ref(), Ok(&entries));
        let with_stored = |stored| [FrameEntry { stored, ..entries[0] }];
        assert!(read_table(&write_table(&with_stored((1 << 24) - 1))).is_ok());
        assert!(read_table(&write_table(&with_stored(1 << 24))).is_err());
        assert!(read_table(&write_table(&[FrameEntry { session: 15, ..entries[0] }])).is_err());
    }

    #[test]
    fn padding_costs_at_most_an_eighth() {
        for len in (1..100_000).chain([16 << 20, (16 << 20) + 12_345]) {
            let padded = padme(len);
            assert!(padded >= len && padded - len <= len / 8, "{len} {padded}");
        }
    }

    proptest! {
        #![proptest_config(crate::base::property::config())]

        #[test]
        fn reading_arbitrary_bytes_does_not_panic(bytes: Vec<u8>) {
            let _ = PackHeader::read(&mut Take::new(&bytes));
            let _ = read_table(&bytes);
            let _ = SealedTable::read_rear(&bytes);
            let _ = SealedTable::read_front(&mut Take::new(&bytes));
        }
    }
}
