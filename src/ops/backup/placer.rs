//! Turns rows of the source into rows in the sorters: orders cells by column number, stores large values as streams,
//! and finds the owner by joins. While the owner maps are in memory, owners are looked up at once. Otherwise the row
//! moves from join to join as a record (see `record`).

use crate::base::limit::{ROW_INLINE_BYTES_MAX, STREAM_BYTES_MIN, STREAM_BYTES_MIN_IN_WIDE_ROW};
use crate::engine::contract::{RowSink, SinkError};
use crate::format::cell::{Cell, StreamRef};
use crate::format::key::{limit_key, push_component};
use crate::format::value_rule::Comparable;
use crate::format::wire::WireError;
use crate::ops::backup::placed_rows::{PathResult, PlacedRows, RECORD, ResolvedRow, damaged, intact, push_key};
use crate::ops::backup::plan::{JoinColumn, JoinCondition, JoinPath, Slot, TablePlan};
use crate::ops::backup::record::{self, NextPath, with_result};
use crate::ops::error::OpError;
use crate::repo::writer::ChunkSink;
use crate::sort::{Lookup, OwnerJoin, PlacementPrefix};
use crate::tree::leaf_cutter::Streams;

/// Rows between two calls of `tick`.
const ROWS_PER_TICK: u64 = 1024;

/// Places the rows of one table.
pub struct Placer<'a, 'm, 't> {
    plan: &'a TablePlan,
    chunk_sink: &'a ChunkSink<'a>,
    joins: Vec<PathJoin<'m>>,
    placed: PlacedRows<'a>,
    /// Called regularly with the number of rows since the last call. An error stops the backup.
    tick: &'t mut dyn FnMut(u64) -> Result<(), OpError>,
    buffers: RowBuffers,
    rows: u64,
}

/// The join of a path.
struct PathJoin<'m> {
    join: OwnerJoin<'m>,
    /// The kind of the owner that a missing parent row would be.
    missing_kind: u8,
}

impl<'m> PathJoin<'m> {
    /// Where the path leads, if its map is in memory.
    fn look_up<'r>(&mut self, join_key: &'r [u8]) -> Option<PathResult<'r>>
    where
        'm: 'r,
    {
        if join_key.is_empty() {
            return Some(PathResult::NOWHERE);
        }
        match self.join.look_up(join_key) {
            Lookup::Found(placement) => Some(path_result(placement, join_key, self.missing_kind)),
            Lookup::Deferred => None,
        }
    }
}

/// Where a path leads. `placement` is None if the parent row is missing.
fn path_result<'r>(placement: Option<PlacementPrefix<'r>>, join_key: &'r [u8], missing_kind: u8) -> PathResult<'r> {
    placement.map_or_else(|| PathResult::missing(join_key, missing_kind), PathResult::found)
}

/// Buffers for the row that is being encoded.
#[derive(Default)]
struct RowBuffers {
    cells: Vec<u8>,
    key: Vec<u8>,
    record: Vec<u8>,
    join_key: Vec<u8>,
    path_results: Vec<u8>,
    provided_keys: Vec<u8>,
}

/// Facts about an encoded row that its bytes do not show.
struct EncodedRow {
    cell_count: usize,
    streams: Streams,
}

impl EncodedRow {
    /// A row has streams if any of its cells has one.
    fn note(&mut self, streams: Streams) {
        if streams == Streams::Some {
            self.streams = Streams::Some;
        }
    }
}

/// Whether all paths of a row could be resolved.
enum Resolved {
    Now,
    Later,
}

impl<'a, 'm, 't> Placer<'a, 'm, 't> {
    /// A placer for the rows of `plan`'s table.
    pub fn new(
        plan: &'a TablePlan,
        chunk_sink: &'a ChunkSink<'a>,
        joins: Vec<OwnerJoin<'m>>,
        placed: PlacedRows<'a>,
        tick: &'t mut dyn FnMut(u64) -> Result<(), OpError>,
    ) -> Self {
        let path_join = |(join, path): (OwnerJoin<'m>, &JoinPath)| PathJoin { join, missing_kind: path.missing_kind };
        let joins = joins.into_iter().zip(&plan.paths).map(path_join).collect();
        Self { plan, chunk_sink, joins, placed, tick, buffers: RowBuffers::default(), rows: 0 }
    }

    /// Resolves the rows that joins still hold, after everything has been read.
    /// Fails if the backup is cancelled, a sorter, join or map cannot spill or be read back, or a record is damaged.
    pub fn finish(mut self) -> Result<PlacedRows<'a>, OpError> {
        (self.tick)(self.rows % ROWS_PER_TICK)?;
        finish_joins(self.joins, &mut self.placed)?;
        self.placed.flush_maps()?;
        Ok(self.placed)
    }

    fn place(&mut self, cells: &[Cell<'_>]) -> Result<(), OpError> {
        self.count_row()?;
        self.placed.totals.lost_cells += cells.iter().filter(|cell| matches!(cell, Cell::Lost)).count() as u64;
        let row = self.encode(cells)?;
        self.write_key(cells);
        self.write_provided_keys(cells);
        match self.resolve(cells) {
            Resolved::Now => self.placed.place(&self.buffers.resolved_row(self.plan, &row)),
            Resolved::Later => self.send_to_joins(cells, &row),
        }
    }

    fn count_row(&mut self) -> Result<(), OpError> {
        self.rows += 1;
        if self.rows.is_multiple_of(ROWS_PER_TICK) {
            (self.tick)(ROWS_PER_TICK)?;
        }
        Ok(())
    }

    /// Encodes the cells in the order of their numbers. If the row is too long, it is encoded again with a lower limit
    /// for streams.
    fn encode(&mut self, cells: &[Cell<'_>]) -> Result<EncodedRow, OpError> {
        let row = self.encode_with(cells, STREAM_BYTES_MIN)?;
        if self.buffers.cells.len() <= ROW_INLINE_BYTES_MAX {
            return Ok(row);
        }
        self.encode_with(cells, STREAM_BYTES_MIN_IN_WIDE_ROW)
    }

    fn encode_with(&mut self, cells: &[Cell<'_>], stream_bytes_min: usize) -> Result<EncodedRow, OpError> {
        let mut row = EncodedRow { cell_count: 0, streams: Streams::None };
        let mut kept_len = 0;
        self.buffers.cells.clear();
        for (number, slot) in self.plan.slots.iter().enumerate() {
            let start = self.buffers.cells.len();
            row.note(self.write_slot(slot, cells, stream_bytes_min)?);
            if !is_filled_in(slot, &self.buffers.cells[start..]) {
                row.cell_count = number + 1;
                kept_len = self.buffers.cells.len();
            }
        }
        // Trailing cells that a reader fills in are left out.
        self.buffers.cells.truncate(kept_len);
        Ok(row)
    }

    fn write_slot(&mut self, slot: &Slot, cells: &[Cell<'_>], stream_bytes_min: usize) -> Result<Streams, OpError> {
        match slot {
            Slot::Column { at, .. } => self.write_cell(&cells[*at], stream_bytes_min),
            Slot::Dropped => {
                Cell::Absent.write(&mut self.buffers.cells);
                Ok(Streams::None)
            }
        }
    }

    /// Appends a cell, as a stream if its value is long.
    fn write_cell(&mut self, cell: &Cell<'_>, stream_bytes_min: usize) -> Result<Streams, OpError> {
        match cell.stream_candidate() {
            Some((kind, bytes)) if bytes.len() >= stream_bytes_min => {
                let stream = self.store_stream(bytes)?;
                Cell::Stream(kind, stream).write(&mut self.buffers.cells);
                Ok(Streams::Some)
            }
            _ => {
                cell.write(&mut self.buffers.cells);
                Ok(Streams::None)
            }
        }
    }

    fn store_stream(&mut self, bytes: &[u8]) -> Result<StreamRef, OpError> {
        let stream = self.chunk_sink.stream(bytes)?;
        self.placed.totals.streams += 1;
        self.placed.totals.stream_bytes += stream.len;
        Ok(stream)
    }

    /// Writes the row's key. In a table without a key it is the hash of the row's cells.
    fn write_key(&mut self, cells: &[Cell<'_>]) {
        let ids = self.placed.ids;
        let key = &mut self.buffers.key;
        key.clear();
        for &at in &self.plan.key {
            push_component(key, &cells[at]);
        }
        if self.plan.key.is_empty() {
            key.extend_from_slice(&ids.row_hash(&self.buffers.cells));
        }
        limit_key(key, |bytes| ids.row_hash(bytes));
    }

    /// Writes the keys under which children find the row.
    fn write_provided_keys(&mut self, cells: &[Cell<'_>]) {
        let RowBuffers { provided_keys, join_key, .. } = &mut self.buffers;
        provided_keys.clear();
        for provided in &self.plan.provides {
            set_join_key(join_key, &provided.columns, cells);
            push_key(provided_keys, join_key);
        }
    }

    /// Resolves all paths of a row into `path_results`, if all maps are in memory.
    fn resolve(&mut self, cells: &[Cell<'_>]) -> Resolved {
        let RowBuffers { path_results, join_key, .. } = &mut self.buffers;
        path_results.clear();
        for (join, path) in self.joins.iter_mut().zip(&self.plan.paths) {
            set_path_key(join_key, path, cells);
            let Some(result) = join.look_up(join_key) else { return Resolved::Later };
            result.write(path_results);
        }
        Resolved::Now
    }

    /// Passes the row to the joins, where it waits until its paths can be resolved.
    fn send_to_joins(&mut self, cells: &[Cell<'_>], row: &EncodedRow) -> Result<(), OpError> {
        let mut record = std::mem::take(&mut self.buffers.record);
        self.write_record(&mut record, cells, row);
        let sent = advance(&mut self.joins, &record, &mut self.placed);
        // Keep the allocation.
        self.buffers.record = record;
        sent
    }

    fn write_record(&mut self, record: &mut Vec<u8>, cells: &[Cell<'_>], row: &EncodedRow) {
        record::begin(record, self.plan.paths.len());
        for path in &self.plan.paths {
            set_path_key(&mut self.buffers.join_key, path, cells);
            push_key(record, &self.buffers.join_key);
        }
        self.buffers.resolved_row(self.plan, row).write(self.plan.provides.len(), record);
    }
}

/// Whether a cell at the end of a row is left out, because a reader fills it in.
fn is_filled_in(slot: &Slot, cell: &[u8]) -> bool {
    match slot {
        Slot::Column { missing, .. } => cell == missing.as_bytes(),
        Slot::Dropped => true,
    }
}

impl RowSink for Placer<'_, '_, '_> {
    fn row(&mut self, cells: &[Cell<'_>]) -> Result<(), SinkError> {
        self.place(cells).map_err(|error| Box::new(error) as SinkError)
    }
}

impl RowBuffers {
    fn resolved_row(&self, plan: &TablePlan, row: &EncodedRow) -> ResolvedRow<'_> {
        // A table with layout `Key` has no joins, so no path is resolved.
        ResolvedRow {
            path_results: &self.path_results,
            provided_keys: &self.provided_keys,
            owner_kind: plan.owner_kind,
            key: &self.key,
            cell_count: row.cell_count,
            streams: row.streams,
            cells: &self.cells,
        }
    }
}

/// Replaces `key` by the key of these columns, or by nothing if one of them matches nothing.
fn set_join_key(key: &mut Vec<u8>, columns: &[JoinColumn], cells: &[Cell<'_>]) {
    key.clear();
    for column in columns {
        if column.rule.push(key, &cells[column.at]) == Comparable::No {
            return key.clear();
        }
    }
}

/// Replaces `key` by the key in which a path compares a row, or by nothing if the path leads nowhere.
fn set_path_key(key: &mut Vec<u8>, path: &JoinPath, cells: &[Cell<'_>]) {
    if path.conditions.iter().all(|condition| holds(condition, key, cells)) {
        set_join_key(key, &path.key.columns, cells);
    } else {
        key.clear();
    }
}

/// Whether a condition holds. `buffer` is scratch space.
fn holds(condition: &JoinCondition, buffer: &mut Vec<u8>, cells: &[Cell<'_>]) -> bool {
    buffer.clear();
    push_component(buffer, &cells[condition.at]);
    *buffer == condition.equals
}

/// Passes a record on to the next join, or to the sorters if no path is left.
fn advance(joins: &mut [PathJoin<'_>], record: &[u8], placed: &mut PlacedRows<'_>) -> Result<(), OpError> {
    let Some(path) = intact(NextPath::read(record))? else {
        return placed.place(&intact(ResolvedRow::read(record))?);
    };
    let (current, rest) = joins_left(joins, path.paths_left)?;
    if path.join_key.is_empty() {
        return advance_nowhere(rest, record, placed);
    }
    let missing_kind = current.missing_kind;
    current.join.push(path.join_key, record, &mut |placement: Option<PlacementPrefix<'_>>, record: &[u8]| {
        advance(rest, &with_placement(record, placement, missing_kind)?, placed)
    })
}

/// Resolves a path with a null column, which leads nowhere.
fn advance_nowhere(joins: &mut [PathJoin<'_>], record: &[u8], placed: &mut PlacedRows<'_>) -> Result<(), OpError> {
    advance(joins, &intact(with_result(record, |_| PathResult::NOWHERE))?, placed)
}

/// Resolves the rows that the joins still hold, one join after the other.
fn finish_joins(mut joins: Vec<PathJoin<'_>>, placed: &mut PlacedRows<'_>) -> Result<(), OpError> {
    while !joins.is_empty() {
        let PathJoin { join, missing_kind } = joins.remove(0);
        join.finish(&mut |placement: Option<PlacementPrefix<'_>>, record: &[u8]| {
            advance(&mut joins, &with_placement(record, placement, missing_kind)?, placed)
        })?;
    }
    Ok(())
}

/// The join of the next path, and the joins after it. `joins` ends with the joins that the record has not passed yet.
fn joins_left<'j, 'm>(
    joins: &'j mut [PathJoin<'m>],
    paths_left: usize,
) -> Result<(&'j mut PathJoin<'m>, &'j mut [PathJoin<'m>]), OpError> {
    let passed = joins.len().saturating_sub(paths_left);
    joins[passed..].split_first_mut().ok_or_else(|| damaged(&WireError::Invalid { what: RECORD }))
}

/// The record with its first unresolved path resolved to what the join found.
fn with_placement(record: &[u8], placement: Option<PlacementPrefix<'_>>, missing_kind: u8) -> Result<Vec<u8>, OpError> {
    intact(with_result(record, |join_key| path_result(placement, join_key, missing_kind)))
}
