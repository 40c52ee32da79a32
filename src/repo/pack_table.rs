//! Reads a pack's table of contents from the store: the front one or, if that is damaged, the rear one.

use bytes::Bytes;

use crate::base::frame::FrameType;
use crate::base::id::{ChunkId, Digest};
use crate::base::limit::PACK_WRAPS_MAX;
use crate::crypto::ids::StructureKeys;
use crate::format::codec;
use crate::format::name::Name;
use crate::format::node::{FrameLocation, PackRef};
use crate::format::pack::{FrameEntry, PackHeader, SealedTable, TABLE_HEAD_LEN, read_table};
use crate::format::wire::{Take, WireError};
use crate::repo::error::{InObject, RepoError};
use crate::repo::index::IndexedPack;
use crate::repo::objects::Objects;
use crate::repo::open_pack::location;

/// Length of the first read of a pack. Enough for the header, one wrap and the table of a typical pack.
pub const FRONT_BYTES: u64 = 96 << 10;

/// A pack and its contents.
#[derive(Debug)]
pub struct PackTable {
    pub header: PackHeader,
    pub entries: Vec<FrameEntry>,
    /// Offset of the first frame.
    pub frames_start: u32,
    pub size: u64,
    pub digest: Digest,
}

impl PackTable {
    /// Reads the table of the pack with this digest and size, by range reads. Frames are not read.
    /// Fails if the pack is missing, shorter or of a later version, if it belongs elsewhere, if neither of its tables
    /// can be opened, or if the store fails.
    pub fn read(objects: &Objects, keys: &StructureKeys, digest: Digest, size: u64) -> Result<Self, RepoError> {
        let name = Name::Pack(keys.context().source, digest);
        let mut len = size.min(FRONT_BYTES);
        loop {
            let front = objects.get_range(&name, 0, len).map_err(RepoError::referenced)?;
            match Self::from_front(&front, keys, digest, size) {
                Err(TableError::Wire(WireError::Truncated { .. })) if len < size => len = size.min(len * 4),
                Err(TableError::Header(error)) => return Err(error),
                Err(_) => return Self::from_rear(objects, &front, keys, digest, size),
                Ok(table) => return Ok(table),
            }
        }
    }

    /// Opens the front table of a pack, given all of its bytes.
    /// Fails like [`Self::open_front`].
    pub fn from_bytes(bytes: &[u8], keys: &StructureKeys, digest: Digest) -> Result<Self, RepoError> {
        Self::open_front(bytes, keys, digest, bytes.len() as u64)
    }

    /// Length in bytes of a pack's front (header and table). `start` must contain the header and the table's length.
    /// Fails if `start` is too short, or if the header is damaged, of a later version or belongs elsewhere.
    pub fn front_len(start: &[u8], keys: &StructureKeys, digest: Digest) -> Result<u64, RepoError> {
        let mut take = Take::new(start);
        let name = Name::Pack(keys.context().source, digest);
        header(&mut take, keys, digest).map_err(|error| error.into_repo(name))?;
        let header_len = start.len() - take.remaining();
        let table_len = take.u32("table length").in_object(name)?;
        Ok((header_len + TABLE_HEAD_LEN) as u64 + u64::from(table_len))
    }

    /// Opens the front table of a pack of `size` bytes.
    /// Fails if `front` is too short, if the header is damaged, of a later version or belongs elsewhere, or if the
    /// table cannot be opened or decoded.
    pub fn open_front(front: &[u8], keys: &StructureKeys, digest: Digest, size: u64) -> Result<Self, RepoError> {
        let name = Name::Pack(keys.context().source, digest);
        Self::from_front(front, keys, digest, size).map_err(|error| error.into_repo(name))
    }

    /// The frames listed in the rear table. `tail` is the end of the pack.
    /// Fails if `tail` is too short, or if the table cannot be opened or decoded.
    pub fn open_rear(&self, tail: &[u8], keys: &StructureKeys) -> Result<Vec<FrameEntry>, RepoError> {
        let name = Name::Pack(keys.context().source, self.digest);
        let table = SealedTable::read_rear(tail).in_object(name)?;
        open(&table, FrameType::RearTable, &self.header, keys).map_err(|error| error.into_repo(name))
    }

    fn from_front(front: &[u8], keys: &StructureKeys, digest: Digest, size: u64) -> Result<Self, TableError> {
        let mut take = Take::new(front);
        let header = header(&mut take, keys, digest)?;
        let table = SealedTable::read_front(&mut take).map_err(TableError::Wire)?;
        let frames_start = (front.len() - take.remaining()) as u32;
        let entries = open(&table, FrameType::FrontTable, &header, keys)?;
        Ok(Self { header, entries, frames_start, size, digest })
    }

    fn from_rear(
        objects: &Objects,
        front: &[u8],
        keys: &StructureKeys,
        digest: Digest,
        size: u64,
    ) -> Result<Self, RepoError> {
        let name = Name::Pack(keys.context().source, digest);
        let tail = read_tail(objects, &name, size)?;
        let mut take = Take::new(front);
        let header = header(&mut take, keys, digest).map_err(|_| no_header(name))?;
        let header_len = front.len() - take.remaining();
        let table = SealedTable::read_rear(&tail).in_object(name)?;
        let entries = open(&table, FrameType::RearTable, &header, keys).map_err(|_| no_table(name))?;
        // Both tables have the same length, so the rear one determines where frames begin.
        let frames_start = (header_len + len_with_head(&table)) as u32;
        Ok(Self { header, entries, frames_start, size, digest })
    }

    /// Length of the rear table with its head. It equals the length of the front table.
    #[must_use]
    pub fn rear_len(&self) -> u64 {
        let mut header = Vec::new();
        self.header.write(&mut header);
        u64::from(self.frames_start).saturating_sub(header.len() as u64)
    }

    /// The pack as an index entry.
    #[must_use]
    pub fn indexed(&self) -> IndexedPack {
        IndexedPack {
            pack: PackRef { digest: self.digest, sessions: self.header.sessions() },
            size: self.size,
            content: self.header.content,
            epoch: self.header.epoch,
        }
    }

    /// The location of each frame, with `pack` 0.
    pub fn locations(&self) -> impl Iterator<Item = (ChunkId, FrameLocation)> + '_ {
        self.entries.iter().map(|entry| (entry.id, location(entry, self.frames_start)))
    }
}

fn len_with_head(table: &SealedTable) -> usize {
    TABLE_HEAD_LEN + table.sealed.len()
}

fn no_header(name: Name) -> RepoError {
    RepoError::damaged(name, "neither its header nor its front table can be read")
}

fn no_table(name: Name) -> RepoError {
    RepoError::damaged(name, "neither of its tables can be opened")
}

/// Reads the end of a pack, which contains the rear table.
fn read_tail(objects: &Objects, name: &Name, size: u64) -> Result<Bytes, RepoError> {
    let start = size.saturating_sub(FRONT_BYTES.max(size / 4));
    objects.get_range(name, start, size - start).map_err(RepoError::referenced)
}

enum TableError {
    Header(RepoError),
    Wire(WireError),
    Damaged(String),
}

impl TableError {
    fn into_repo(self, name: Name) -> RepoError {
        match self {
            Self::Header(error) => error,
            Self::Wire(error) => RepoError::wire(name, &error),
            Self::Damaged(reason) => RepoError::damaged(name, reason),
        }
    }
}

fn header(take: &mut Take<'_>, keys: &StructureKeys, digest: Digest) -> Result<PackHeader, TableError> {
    let context = keys.context();
    let name = Name::Pack(context.source, digest);
    let header = PackHeader::read(take).map_err(|error| unreadable_header(name, error))?;
    debug_assert!(header.wraps.len() <= PACK_WRAPS_MAX);
    if header.context() == context { Ok(header) } else { Err(TableError::Header(foreign_pack(name))) }
}

fn foreign_pack(name: Name) -> RepoError {
    RepoError::damaged(name, "it belongs to another repository, source or epoch")
}

fn unreadable_header(name: Name, error: WireError) -> TableError {
    match error {
        WireError::Foreign | WireError::Unsupported { .. } => TableError::Header(RepoError::wire(name, &error)),
        other => TableError::Wire(other),
    }
}

fn open(
    table: &SealedTable,
    kind: FrameType,
    header: &PackHeader,
    keys: &StructureKeys,
) -> Result<Vec<FrameEntry>, TableError> {
    let content = unseal(table, kind, header, keys)?;
    let content = codec::decompress(&content).map_err(|error| TableError::Damaged(error.to_string()))?;
    read_table(&content).map_err(TableError::Wire)
}

fn unseal(
    table: &SealedTable,
    kind: FrameType,
    header: &PackHeader,
    keys: &StructureKeys,
) -> Result<Vec<u8>, TableError> {
    let mut content = table.sealed.clone();
    let opener = keys.opener(header.session);
    let opened = opener.open(kind, &header.table_id(), table.frame_counter, &mut content);
    opened.map_err(|error| TableError::Damaged(error.to_string()))?;
    Ok(content)
}
