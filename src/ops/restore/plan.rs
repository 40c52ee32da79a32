//! In which order leaves are read: that in which they lie in their packs, so that each pack is read once and in long
//! ranges, however many nights have scattered a table. Small tables come first, and leaves of large rows last.
//!
//! The order is made by an external sort: memory does not grow with the snapshot.

use crate::base::frame::FrameCounter;
use crate::base::id::ChunkId;
use crate::format::catalog::TableEntry;
use crate::format::cell::{StreamForm, StreamRef};
use crate::format::codec::Codec;
use crate::format::manifest::TreeKind;
use crate::format::node::FrameLocation;
use crate::format::wire::{Put, Take, WireError};
use crate::ops::error::OpError;
use crate::ops::restore::reading::OpenRestore;
use crate::repo::error::RepoError;
use crate::repo::reader::{LeafBatch, LeafRef, StreamPlace};
use crate::sort::{Merge, Sorter, SpillOptions};

/// Memory of the sorter.
const SORTER_BYTES: usize = 16 << 20;
/// A table with less than this is small.
const SMALL_TABLE_BYTES: u64 = 4 << 20;
/// Rows that take more than this on average are large.
const LARGE_ROW_BYTES: u64 = 4 << 10;

/// Leaves in the order in which they are read.
pub struct LeafOrder(Merge);

impl LeafOrder {
    /// Lists the leaves of these tables, but for those that `skip` knows.
    pub fn make(
        reading: &OpenRestore<'_>,
        tables: &[usize],
        skip: &mut dyn FnMut(usize, &LeafRef) -> Skip,
    ) -> Result<Self, OpError> {
        let (dir, env) = (reading.options.spill_dir.clone(), reading.env.clone());
        let mut sorter = Sorter::new(SpillOptions { dir, memory_bytes: SORTER_BYTES, env });
        let (mut key, mut payload) = (Vec::new(), Vec::new());
        for &table in tables {
            let entry = reading.entries[table];
            let size = size(reading, entry);
            let missing = || RepoError::Damaged {
                object: "the manifest".to_owned(),
                reason: format!("it has no tree of table {}", entry.name),
            };
            let root = reading.reader.root(entry.number, TreeKind::Rows)?.ok_or_else(missing)?;
            reading.reader.leaf_batches(&root, &mut |LeafBatch { leaves, lost }| {
                reading.name_lost(entry, &lost);
                for leaf in leaves {
                    if skip(table, &leaf) == Skip::Yes {
                        continue;
                    }
                    key.clear();
                    push_key(&mut key, size, &leaf);
                    payload.clear();
                    payload.put_uv(table as u64);
                    push_leaf(&mut payload, &leaf);
                    sorter.push(&key, &payload)?;
                }
                Ok::<(), OpError>(())
            })?;
        }
        Ok(Self(sorter.finish()?))
    }

    /// The next leaf and its table.
    pub fn next(&mut self) -> Result<Option<(usize, LeafRef)>, OpError> {
        let Some((_, payload)) = self.0.next()? else { return Ok(None) };
        let mut take = Take::new(payload);
        let read = |take: &mut Take<'_>| Ok((take.uv_as("planned table")?, take_leaf(take)?));
        let planned = read(&mut take).map_err(|error: WireError| OpError::Damaged {
            what: "a temporary file".to_owned(),
            reason: error.to_string(),
        })?;
        Ok(Some(planned))
    }
}

/// Whether a leaf is left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Skip {
    Yes,
    No,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Size {
    Small,
    Large,
}

fn size(reading: &OpenRestore<'_>, entry: &TableEntry) -> Size {
    let summary = &reading.reader.manifest().summary;
    let bytes = summary.tables.iter().find(|table| table.number == entry.number).map_or(0, |table| table.bytes);
    if bytes < SMALL_TABLE_BYTES { Size::Small } else { Size::Large }
}

/// Bytes of a leaf's rows, with those of their streams.
#[must_use]
pub fn bytes_of(leaf: &LeafRef) -> u64 {
    leaf.bytes + leaf.streams.iter().map(|place| place.stream.len).sum::<u64>()
}

fn push_key(key: &mut Vec<u8>, size: Size, leaf: &LeafRef) {
    let has_large_rows = bytes_of(leaf) / leaf.rows.max(1) > LARGE_ROW_BYTES;
    key.push(match (has_large_rows, size) {
        (false, Size::Small) => 0,
        (false, Size::Large) => 1,
        (true, _) => 2,
    });
    let (pack, offset) = leaf.location.map_or((u32::MAX, 0), |location| (location.pack, location.offset));
    key.extend_from_slice(&pack.to_be_bytes());
    key.extend_from_slice(&offset.to_be_bytes());
}

fn push_leaf(out: &mut Vec<u8>, leaf: &LeafRef) {
    out.extend_from_slice(leaf.id.as_bytes());
    [leaf.rows, leaf.bytes, leaf.owners, leaf.streams.len() as u64].iter().for_each(|number| out.put_uv(*number));
    push_location(out, leaf.location);
    for StreamPlace { stream, location } in &leaf.streams {
        out.push(stream.form as u8);
        out.extend_from_slice(stream.id.as_bytes());
        out.put_uv(stream.len);
        push_location(out, *location);
    }
}

fn push_location(out: &mut Vec<u8>, location: Option<FrameLocation>) {
    let Some(location) = location else { return out.push(0) };
    out.push(1);
    [location.pack, location.offset, location.stored, location.frame_counter.counter]
        .iter()
        .for_each(|n| out.put_uv(u64::from(*n)));
    out.extend_from_slice(&[location.codec as u8, location.session, location.frame_counter.thread]);
}

fn take_leaf(take: &mut Take<'_>) -> Result<LeafRef, WireError> {
    let what = "planned leaf";
    let id = ChunkId::new(take.array(what)?);
    let (rows, bytes, owners) = (take.uv(what)?, take.uv(what)?, take.uv(what)?);
    let count = take.count(1, what)?;
    let location = take_location(take)?;
    let streams = (0..count).map(|_| {
        let (form, id) = (StreamForm::from_byte(take.u8(what)?)?, ChunkId::new(take.array(what)?));
        let stream = StreamRef { form, id, len: take.uv(what)? };
        Ok(StreamPlace { stream, location: take_location(take)? })
    });
    let streams = streams.collect::<Result<_, WireError>>()?;
    Ok(LeafRef { id, location, rows, bytes, owners, streams })
}

fn take_location(take: &mut Take<'_>) -> Result<Option<FrameLocation>, WireError> {
    let what = "planned place";
    if take.u8(what)? == 0 {
        return Ok(None);
    }
    let (pack, offset, stored, counter) = (take.uv_as(what)?, take.uv_as(what)?, take.uv_as(what)?, take.uv_as(what)?);
    let codec = Codec::from_byte(take.u8(what)?)?;
    let (session, thread) = (take.u8(what)?, take.u8(what)?);
    Ok(Some(FrameLocation { pack, offset, stored, codec, session, frame_counter: FrameCounter { thread, counter } }))
}
