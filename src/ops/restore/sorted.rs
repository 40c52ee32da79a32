//! Rows for a target that wants them in order: all leaves are read, their rows sorted by the target's order, then
//! written one after the other.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::base::frame::FrameType;
use crate::base::id::ChunkId;
use crate::base::progress::CountUnit;
use crate::base::thread::{join, spawn};
use crate::engine::contract::Target;
use crate::format::leaf::LeafRows;
use crate::format::manifest::TreeKind;
use crate::format::node::FrameLocation;
use crate::format::wire::Put;
use crate::ops::error::OpError;
use crate::ops::restore::order::{order_columns, order_key};
use crate::ops::restore::reading::OpenRestore;
use crate::ops::restore::write::RowWriter;
use crate::repo::error::RepoError;
use crate::repo::reader::{LeafBatch, LeafRef, Want};
use crate::sort::{Merge, Sorter, SpillOptions};

/// Memory of the sorter that brings rows into the target's order.
const SORTER_BYTES: usize = 32 << 20;
/// Leaves that are decoded and not sorted yet.
const QUEUE: usize = 64;

/// Gives all rows to the target. Returns how many each table got.
pub fn restore(reading: &OpenRestore<'_>, target: &mut dyn Target) -> Result<Vec<u64>, OpError> {
    let restore = Restore { reading };
    let SortedRestore { merge, streams } = restore.sort()?;
    restore.write(merge, &streams, target)
}

/// Where each stream should be.
type StreamSpots = HashMap<ChunkId, Option<FrameLocation>>;

/// All rows in the target's order.
struct SortedRestore {
    merge: Merge,
    streams: StreamSpots,
}

struct Restore<'a> {
    reading: &'a OpenRestore<'a>,
}

impl Restore<'_> {
    /// Reads all leaves of the chosen tables and sorts their rows. A leaf that cannot be read is
    /// named and left out.
    fn sort(&self) -> Result<SortedRestore, OpError> {
        let rows = self.reading.rows();
        self.reading.options.progress.phase("reading", CountUnit::Rows, Some(rows));
        std::thread::scope(|scope| {
            let (contents, queue) = sync_channel(QUEUE);
            let sorter = spawn(scope, "sort", move || self.sort_rows(&queue));
            let fetched = self.fetch_all(&contents);
            drop(contents);
            let sorted = join(sorter);
            Ok(SortedRestore { merge: sorted?, streams: fetched? })
        })
    }

    fn fetch_all(&self, contents: &SyncSender<(u32, Vec<u8>)>) -> Result<StreamSpots, OpError> {
        let mut streams = HashMap::new();
        for (table, entry) in (0u32..).zip(&self.reading.entries) {
            let missing = || RepoError::Damaged {
                object: "the manifest".to_owned(),
                reason: format!("it has no tree of table {}", entry.name),
            };
            let root = self.reading.reader.root(entry.number, TreeKind::Rows)?.ok_or_else(missing)?;
            self.reading.reader.leaf_batches(&root, &mut |LeafBatch { leaves, lost }| {
                self.reading.name_lost(entry, &lost);
                for place in leaves.iter().flat_map(|leaf| &leaf.streams) {
                    streams.insert(place.stream.id, place.location);
                }
                self.fetch(table, &leaves, contents)
            })?;
        }
        Ok(streams)
    }

    fn fetch(&self, table: u32, leaves: &[LeafRef], contents: &SyncSender<(u32, Vec<u8>)>) -> Result<(), OpError> {
        let wants: Vec<Want> =
            leaves.iter().map(|leaf| Want { kind: FrameType::Leaf, id: leaf.id, location: leaf.location }).collect();
        self.reading.reader.fetch(&wants, |at, content| {
            if self.reading.options.cancel.is_cancelled() {
                return Err(OpError::Cancelled);
            }
            match content {
                Ok(content) => {
                    self.reading.options.progress.add(CountUnit::Rows, leaves[at].rows);
                    contents.send((table, content)).map_err(|_| OpError::Cancelled)
                }
                Err(error @ RepoError::Store(_)) => Err(error.into()),
                Err(error) => {
                    let name = &self.reading.entries[table as usize].name;
                    self.reading.damage.add_rows(name, leaves[at].rows, &error);
                    Ok(())
                }
            }
        })
    }

    /// Decodes leaves and brings their rows into the target's order.
    fn sort_rows(&self, queue: &Receiver<(u32, Vec<u8>)>) -> Result<Merge, OpError> {
        let (dir, env) = (self.reading.options.spill_dir.clone(), self.reading.env.clone());
        let mut sorter = Sorter::new(SpillOptions { dir, memory_bytes: SORTER_BYTES, env });
        let orders: Vec<Vec<usize>> = self.reading.entries.iter().map(|entry| order_columns(entry)).collect();
        let (mut key, mut payload) = (Vec::new(), Vec::new());
        while let Ok((table, content)) = queue.recv() {
            let (shape, order) = (&self.reading.shapes[table as usize], &orders[table as usize]);
            let (mut stored, mut cells) = (Vec::new(), Vec::new());
            let mut sort = |content| {
                let mut rows = LeafRows::new(content)?;
                while let Some(row) = rows.next_row(&mut stored)? {
                    shape.fill(&stored, &mut cells);
                    key.clear();
                    order_key(&mut key, table, order, &cells);
                    payload.clear();
                    payload.put_uv(row.multiplicity);
                    payload.put_uv(stored.len() as u64);
                    payload.extend_from_slice(row.bytes);
                    if let Err(error) = sorter.push(&key, &payload) {
                        return Ok(Err(error));
                    }
                }
                Ok::<_, crate::format::wire::WireError>(Ok(()))
            };
            match sort(&content) {
                Ok(pushed) => pushed?,
                Err(error) => {
                    let name = &self.reading.entries[table as usize].name;
                    self.reading.damage.add(name, &format!("rows of a leaf are left out: it {error}"));
                }
            }
        }
        Ok(sorter.finish()?)
    }

    /// Gives all rows to the target. Returns how many each table got.
    fn write(&self, mut merge: Merge, streams: &StreamSpots, target: &mut dyn Target) -> Result<Vec<u64>, OpError> {
        self.reading.options.progress.phase("writing", CountUnit::Rows, None);
        let mut writer = RowWriter::new(self.reading.reader, streams, target, &self.reading.damage);
        let mut restored = vec![0; self.reading.entries.len()];
        let mut begun = 0;
        while let Some((key, payload)) = merge.next()? {
            let table = u32::from_be_bytes(*key.first_chunk().expect("a sort key begins with the table")) as usize;
            while begun <= table {
                writer.begin_table(begun)?;
                begun += 1;
            }
            restored[table] += writer.push(&self.reading.shapes[table], payload)?;
            if restored[table].is_multiple_of(1024) {
                self.reading.options.progress.add(CountUnit::Rows, 1024);
                if self.reading.options.cancel.is_cancelled() {
                    return Err(OpError::Cancelled);
                }
            }
        }
        while begun < self.reading.entries.len() {
            writer.begin_table(begun)?;
            begun += 1;
        }
        writer.flush()?;
        Ok(restored)
    }
}
