//! From a row of the source to a row in the sorter: cells by column number, large values as streams, the owner by joins:
//! at once while their maps are in memory, else by records that travel from join to join.

use crate::base::limit::{ROW_INLINE_BYTES_MAX, STREAM_BYTES_MIN, STREAM_BYTES_MIN_IN_WIDE_ROW};
use crate::engine::contract::{RowSink, SinkError};
use crate::format::cell::Cell;
use crate::format::key::{Class, limit_key, push_component, push_folded};
use crate::format::manifest::Layout;
use crate::format::wire::{Put, Take, WireError};
use crate::ops::backup::placed::{
    Arrived, Encoded, FOUND, MISSING, NOWHERE, Placed, arrive, broken, put_result, read_result,
};
use crate::ops::backup::plan::{JoinColumns, Slot, TablePlan};
use crate::ops::error::OpError;
use crate::repo::writer::ChunkSink;
use crate::sort::{Lookup, OwnerJoin, PlacementPrefix};
use crate::tree::chunker::Streams;

/// Rows between looks at what else goes on.
const ROWS_PER_TICK: u64 = 1024;

/// Places the rows of one table.
pub struct Placer<'a, 'm, 't> {
    plan: &'a TablePlan,
    chunk_sink: &'a ChunkSink<'a>,
    joins: Vec<OwnerJoin<'m>>,
    out: Placed<'a>,
    /// Called every so many rows with how many; may ask to stop.
    tick: &'t mut dyn FnMut(u64) -> Result<(), OpError>,
    scratch: PlacerScratch,
}

#[derive(Default)]
struct PlacerScratch {
    cells: Vec<u8>,
    key: Vec<u8>,
    record: Vec<u8>,
    join_key: Vec<u8>,
    results: Vec<u8>,
    provides: Vec<u8>,
    rows: u64,
}

/// What is known of a row beside its bytes.
struct EncodedRow {
    cell_count: usize,
    streams: Streams,
}

/// Whether all paths of a row could be resolved.
enum Resolved {
    /// So many.
    Now(usize),
    Later,
}

impl<'a, 'm, 't> Placer<'a, 'm, 't> {
    /// A placer for the rows of `plan`'s table.
    pub fn new(
        plan: &'a TablePlan,
        chunk_sink: &'a ChunkSink<'a>,
        joins: Vec<OwnerJoin<'m>>,
        out: Placed<'a>,
        tick: &'t mut dyn FnMut(u64) -> Result<(), OpError>,
    ) -> Self {
        Self { plan, chunk_sink, joins, out, tick, scratch: PlacerScratch::default() }
    }

    /// Everything has been read: resolves what joins still hold.
    pub fn finish(mut self) -> Result<Placed<'a>, OpError> {
        (self.tick)(self.scratch.rows % ROWS_PER_TICK)?;
        let mut rest = self.joins;
        let out = &mut self.out;
        while !rest.is_empty() {
            let first = rest.remove(0);
            first.finish(&mut |placement: Option<PlacementPrefix<'_>>, record: &[u8]| {
                let next = resolved(record, placement)?;
                advance(&mut rest, &next, out)
            })?;
        }
        for map in &mut self.out.maps {
            map.flush()?;
        }
        Ok(self.out)
    }

    fn place(&mut self, cells: &[Cell<'_>]) -> Result<(), OpError> {
        self.scratch.rows += 1;
        if self.scratch.rows.is_multiple_of(ROWS_PER_TICK) {
            (self.tick)(ROWS_PER_TICK)?;
        }
        let (cell_count, streams) = self.encode(cells)?;
        let key = &mut self.scratch.key;
        key.clear();
        self.plan.key.iter().for_each(|&at| push_component(key, &cells[at]));
        if self.plan.key.is_empty() {
            key.extend_from_slice(&self.out.ids.row_hash(&self.scratch.cells));
        }
        limit_key(key, |bytes| self.out.ids.row_hash(bytes));
        self.scratch.provides.clear();
        for (columns, _) in &self.plan.provides {
            put_join_key(&mut self.scratch.provides, &mut self.scratch.join_key, columns, cells);
        }
        let row = EncodedRow { cell_count, streams };
        match self.resolve(cells) {
            Resolved::Now(results) => {
                let scratch = &self.scratch;
                let arrived = Arrived {
                    results: Encoded { count: results, bytes: &scratch.results },
                    provides: Encoded { count: self.plan.provides.len(), bytes: &scratch.provides },
                    is_owner: self.is_owner(),
                    key: &scratch.key,
                    cell_count,
                    has_streams: streams == Streams::Some,
                    cells: &scratch.cells,
                };
                arrive(&arrived, &mut self.out)
            }
            Resolved::Later => self.send_on(cells, &row),
        }
    }

    fn is_owner(&self) -> bool {
        self.plan.is_owner && self.plan.layout == Layout::Owner
    }

    /// Where all paths of a row lead, into `scratch.results`, if all maps are in memory.
    fn resolve(&mut self, cells: &[Cell<'_>]) -> Resolved {
        let PlacerScratch { results, join_key, .. } = &mut self.scratch;
        results.clear();
        // Without joins there is nothing to look into: a table that is laid out by its keys.
        for (join, (columns, _)) in self.joins.iter_mut().zip(&self.plan.paths) {
            join_key.clear();
            push_join_key(join_key, columns, cells);
            if join_key.is_empty() {
                put_result(results, NOWHERE, Class::None, &[]);
                continue;
            }
            match join.look_up(join_key) {
                Lookup::Found(Some(found)) => put_result(results, FOUND, found.class, found.owner),
                Lookup::Found(None) => put_result(results, MISSING, Class::Orphan, join_key),
                Lookup::Deferred => return Resolved::Later,
            }
        }
        Resolved::Now(self.joins.len())
    }

    /// The row waits until its paths can be resolved.
    fn send_on(&mut self, cells: &[Cell<'_>], row: &EncodedRow) -> Result<(), OpError> {
        let is_owner = self.is_owner();
        let PlacerScratch { record, join_key, provides, key, cells: encoded, .. } = &mut self.scratch;
        record.clear();
        // Results so far, keys of the paths still to go, keys under which others find this row.
        record.put_uv(0);
        record.put_uv(self.plan.paths.len() as u64);
        for (columns, _) in &self.plan.paths {
            put_join_key(record, join_key, columns, cells);
        }
        record.put_uv(self.plan.provides.len() as u64);
        record.extend_from_slice(provides);
        record.push(u8::from(is_owner));
        record.put_bytes(key);
        record.put_uv(row.cell_count as u64);
        record.push(u8::from(row.streams == Streams::Some));
        record.extend_from_slice(encoded);
        advance(&mut self.joins, &self.scratch.record, &mut self.out)
    }

    /// Encodes the cells in order of their numbers. Returns how many are stored.
    fn encode(&mut self, cells: &[Cell<'_>]) -> Result<(usize, Streams), OpError> {
        let found = self.encode_with(cells, STREAM_BYTES_MIN)?;
        if self.scratch.cells.len() <= ROW_INLINE_BYTES_MAX {
            return Ok(found);
        }
        self.encode_with(cells, STREAM_BYTES_MIN_IN_WIDE_ROW)
    }

    fn encode_with(&mut self, cells: &[Cell<'_>], stream_bytes_min: usize) -> Result<(usize, Streams), OpError> {
        let out = &mut self.scratch.cells;
        out.clear();
        let (mut kept, mut kept_len) = (0, 0);
        let mut streams = Streams::None;
        for (number, slot) in self.plan.slots.iter().enumerate() {
            let start = out.len();
            match slot {
                Slot::Dropped => Cell::Absent.write(out),
                Slot::Column { at, missing } => {
                    match cells[*at].stream_candidate() {
                        Some((kind, bytes)) if bytes.len() >= stream_bytes_min => {
                            let stream = self.chunk_sink.stream(bytes)?;
                            self.out.streams += 1;
                            self.out.stream_bytes += stream.len;
                            streams = Streams::Some;
                            Cell::Stream(kind, stream).write(out);
                        }
                        _ => cells[*at].write(out),
                    }
                    if out[start..] != *missing.as_bytes() {
                        (kept, kept_len) = (number + 1, out.len());
                    }
                }
            }
        }
        out.truncate(kept_len);
        Ok((kept, streams))
    }
}

impl RowSink for Placer<'_, '_, '_> {
    fn row(&mut self, cells: &[Cell<'_>]) -> Result<(), SinkError> {
        self.place(cells).map_err(|error| Box::new(error) as SinkError)
    }
}

/// Appends the folded key of `columns`, or nothing if any is null (then it leads nowhere).
fn push_join_key(key: &mut Vec<u8>, columns: &JoinColumns, cells: &[Cell<'_>]) {
    if columns.iter().any(|&(at, _)| matches!(cells[at], Cell::Null | Cell::Absent)) {
        return;
    }
    columns.iter().for_each(|&(at, fold)| push_folded(key, &cells[at], fold));
}

/// The same with its length.
fn put_join_key(record: &mut Vec<u8>, scratch: &mut Vec<u8>, columns: &JoinColumns, cells: &[Cell<'_>]) {
    scratch.clear();
    push_join_key(scratch, columns, cells);
    record.put_bytes(scratch);
}

/// Passes a record on to the next join, or to the sorter when there is none.
fn advance(joins: &mut [OwnerJoin<'_>], record: &[u8], out: &mut Placed<'_>) -> Result<(), OpError> {
    let mut take = Take::new(record);
    let results = take.count(1, "record").map_err(|error| broken(&error))?;
    for _ in 0..results {
        read_result(&mut take).map_err(|error| broken(&error))?;
    }
    let paths = take.count(1, "record").map_err(|error| broken(&error))?;
    if paths == 0 {
        return arrive(&Arrived::read(record).map_err(|error| broken(&error))?, out);
    }
    let join_key = take.bytes("record").map_err(|error| broken(&error))?;
    // Joins not yet passed stand last in the slice that is left.
    let at = joins.len() - paths;
    let (current, rest) =
        joins[at..].split_first_mut().ok_or_else(|| broken(&WireError::Invalid { what: "record" }))?;
    if join_key.is_empty() {
        let next = with_result(record, NOWHERE, Class::None, &[]).map_err(|error| broken(&error))?;
        return advance(rest, &next, out);
    }
    current.push(join_key, record, &mut |placement: Option<PlacementPrefix<'_>>, record: &[u8]| {
        let next = resolved(record, placement)?;
        advance(rest, &next, out)
    })
}

/// The record with what its first remaining path came to.
fn resolved(record: &[u8], placement: Option<PlacementPrefix<'_>>) -> Result<Vec<u8>, OpError> {
    match placement {
        Some(placement) => with_result(record, FOUND, placement.class, placement.owner),
        None => with_result(record, MISSING, Class::Orphan, &[]),
    }
    .map_err(|error| broken(&error))
}

fn with_result(record: &[u8], state: u8, class: Class, owner: &[u8]) -> Result<Vec<u8>, WireError> {
    let mut take = Take::new(record);
    let results = take.uv("record")?;
    let mut out = Vec::with_capacity(record.len() + owner.len() + 4);
    out.put_uv(results + 1);
    for _ in 0..results {
        let (state, class, owner) = read_result(&mut take)?;
        put_result(&mut out, state, class, owner);
    }
    let paths = take.uv("record")?;
    let join_key = take.bytes("record")?;
    put_result(&mut out, state, class, if state == MISSING { join_key } else { owner });
    out.put_uv(paths - 1);
    out.extend_from_slice(take.rest());
    Ok(out)
}
