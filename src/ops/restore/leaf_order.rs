//! The order in which leaves are read: by their position in packs, so that each pack is read once and in long ranges,
//! however many backup runs have scattered a table. Small tables come first, and leaves with large rows come last.
//!
//! An external sort makes the order, so that memory does not grow with the snapshot.

use crate::base::frame::FrameCounter;
use crate::base::id::ChunkId;
use crate::format::catalog::TableEntry;
use crate::format::cell::{StreamForm, StreamRef};
use crate::format::codec::Codec;
use crate::format::node::FrameLocation;
use crate::format::stream_lists::StreamHint;
use crate::format::wire::{Put, Take, WireError};
use crate::ops::error::OpError;
use crate::ops::restore::open_restore::{OpenRestore, TableLeaf};
use crate::repo::reader::LeafRef;
use crate::sort::{Merge, Sorter};

/// Memory of the sorter.
const SORTER_BYTES: usize = 16 << 20;
/// A table with fewer bytes than this is small.
const SMALL_TABLE_BYTES: u64 = 4 << 20;
/// Rows that have more bytes than this on average are large.
const LARGE_ROW_BYTES: u64 = 4 << 10;

/// Leaves in the order in which they are read.
pub struct LeafOrder(Merge);

impl LeafOrder {
    /// Orders the leaves of these tables, except the ones for which `skip` returns `Yes`.
    /// Fails if the leaves cannot be listed or the sorter cannot spill.
    pub fn of_tables(
        restore: &OpenRestore<'_>,
        tables: &[usize],
        skip: &mut dyn FnMut(usize, &LeafRef) -> Skip,
    ) -> Result<Self, OpError> {
        let mut sorter = Sorter::new(restore.spill_options(SORTER_BYTES));
        for &table in tables {
            let mut sorting =
                TableSorting { table, size: table_size(restore, restore.entries[table]), sorter: &mut sorter };
            restore.list_leaves(table, &mut |leaves| sorting.push_all(leaves, skip))?;
        }
        Ok(Self(sorter.finish()?))
    }

    /// The next leaf.
    /// Fails if a temporary file cannot be read or is damaged.
    pub fn next(&mut self) -> Result<Option<TableLeaf>, OpError> {
        let Some((_, payload)) = self.0.next()? else { return Ok(None) };
        let leaf = read_table_leaf(payload).map_err(damaged_leaf)?;
        Ok(Some(leaf))
    }
}

/// Whether a leaf is skipped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Skip {
    Yes,
    No,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum TableSize {
    Small,
    Large,
}

fn table_size(restore: &OpenRestore<'_>, entry: &TableEntry) -> TableSize {
    let bytes = restore.summary_of(entry).map_or(0, |table| table.bytes);
    if bytes < SMALL_TABLE_BYTES { TableSize::Small } else { TableSize::Large }
}

/// Bytes of a leaf's rows and of their streams.
#[must_use]
pub fn bytes_of(leaf: &LeafRef) -> u64 {
    leaf.streams.iter().fold(leaf.bytes, |sum, hint| sum.saturating_add(hint.stream.len))
}

/// Puts the leaves of one table in order.
struct TableSorting<'s> {
    table: usize,
    size: TableSize,
    sorter: &'s mut Sorter,
}

impl TableSorting<'_> {
    fn push_all(&mut self, leaves: Vec<LeafRef>, skip: &mut dyn FnMut(usize, &LeafRef) -> Skip) -> Result<(), OpError> {
        for leaf in leaves {
            if skip(self.table, &leaf) == Skip::No {
                self.push(&leaf)?;
            }
        }
        Ok(())
    }

    fn push(&mut self, leaf: &LeafRef) -> Result<(), OpError> {
        let key = order_key(self.size, leaf);
        let mut payload = Vec::new();
        payload.put_uv(self.table as u64);
        write_leaf(&mut payload, leaf);
        Ok(self.sorter.push(&key, &payload)?)
    }
}

/// The sort key: the leaf's rank, pack and offset.
fn order_key(size: TableSize, leaf: &LeafRef) -> [u8; 9] {
    let place = place_of(leaf);
    let mut key = [0; 9];
    key[0] = rank(size, leaf);
    key[1..5].copy_from_slice(&place.pack.to_be_bytes());
    key[5..].copy_from_slice(&place.offset.to_be_bytes());
    key
}

/// The location of a leaf. Leaves without a known location come last.
struct LeafPlace {
    pack: u32,
    offset: u32,
}

fn place_of(leaf: &LeafRef) -> LeafPlace {
    match leaf.location {
        Some(location) => LeafPlace { pack: location.pack, offset: location.offset },
        None => LeafPlace { pack: u32::MAX, offset: 0 },
    }
}

fn rank(size: TableSize, leaf: &LeafRef) -> u8 {
    if bytes_of(leaf) / leaf.rows.max(1) > LARGE_ROW_BYTES {
        return 2;
    }
    match size {
        TableSize::Small => 0,
        TableSize::Large => 1,
    }
}

fn write_leaf(out: &mut Vec<u8>, leaf: &LeafRef) {
    out.extend_from_slice(leaf.id.as_bytes());
    out.put_uv(leaf.rows);
    out.put_uv(leaf.bytes);
    out.put_uv(leaf.owners);
    out.put_uv(leaf.streams.len() as u64);
    write_location(out, leaf.location);
    for hint in &leaf.streams {
        write_stream_hint(out, hint);
    }
}

fn write_stream_hint(out: &mut Vec<u8>, hint: &StreamHint) {
    out.push(hint.stream.form as u8);
    out.extend_from_slice(hint.stream.id.as_bytes());
    out.put_uv(hint.stream.len);
    write_location(out, hint.location);
}

fn write_location(out: &mut Vec<u8>, location: Option<FrameLocation>) {
    let Some(location) = location else { return out.push(0) };
    let counter = location.frame_counter;
    out.push(1);
    for number in [location.pack, location.offset, location.stored, counter.counter] {
        out.put_uv(u64::from(number));
    }
    out.extend_from_slice(&[location.codec as u8, location.session, counter.thread]);
}

fn read_table_leaf(payload: &[u8]) -> Result<TableLeaf, WireError> {
    let mut take = Take::new(payload);
    let table = take.uv_as("table of a leaf")?;
    let leaf = read_leaf(&mut take)?;
    Ok(TableLeaf { table, leaf })
}

fn damaged_leaf(error: WireError) -> OpError {
    OpError::Damaged { what: "a temporary file".to_owned(), reason: error.to_string() }
}

fn read_leaf(take: &mut Take<'_>) -> Result<LeafRef, WireError> {
    let what = "leaf in reading order";
    let id = ChunkId::new(take.array(what)?);
    let rows = take.uv(what)?;
    let bytes = take.uv(what)?;
    let owners = take.uv(what)?;
    let count = take.count(1, what)?;
    let location = read_location(take)?;
    let streams = read_stream_hints(take, count)?;
    Ok(LeafRef { id, location, rows, bytes, owners, streams })
}

fn read_stream_hints(take: &mut Take<'_>, count: usize) -> Result<Box<[StreamHint]>, WireError> {
    (0..count).map(|_| read_stream_hint(take)).collect()
}

fn read_stream_hint(take: &mut Take<'_>) -> Result<StreamHint, WireError> {
    let what = "stream in reading order";
    let form = StreamForm::from_byte(take.u8(what)?)?;
    let id = ChunkId::new(take.array(what)?);
    let len = take.uv(what)?;
    let location = read_location(take)?;
    Ok(StreamHint { stream: StreamRef { form, id, len }, location })
}

fn read_location(take: &mut Take<'_>) -> Result<Option<FrameLocation>, WireError> {
    let what = "location in reading order";
    if take.u8(what)? == 0 {
        return Ok(None);
    }
    let pack = take.uv_as(what)?;
    let offset = take.uv_as(what)?;
    let stored = take.uv_as(what)?;
    let counter = take.uv_as(what)?;
    let codec = Codec::from_byte(take.u8(what)?)?;
    let session = take.u8(what)?;
    let frame_counter = FrameCounter { thread: take.u8(what)?, counter };
    Ok(Some(FrameLocation { pack, offset, stored, codec, session, frame_counter }))
}
