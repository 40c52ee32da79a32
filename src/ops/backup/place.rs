//! From a row of the source to a row in the sorter: cells by column number, large values as streams,
//! the owner by joins that stay in memory while they can, and references to other owners.

use crate::base::limit::{ROW_INLINE_BYTES_MAX, STREAM_BYTES_MIN, STREAM_BYTES_MIN_IN_WIDE_ROW};
use crate::crypto::ids::SourceIdKeys;
use crate::format::cell::Cell;
use crate::format::key::{Class, PlacementKey, limit_key, push_component, push_folded};
use crate::format::manifest::Layout;
use crate::format::wire::{Put, Take, WireError};
use crate::ops::backup::plan::{JoinColumns, Slot, TablePlan};
use crate::ops::error::OpError;
use crate::repo::write::Feeder;
use crate::sort::{OwnerJoin, OwnerMapFeed, Placement, Sorter};
use crate::source::contract::{RowSink, SinkError};
use crate::tree::chunker::{RowPayload, Streams, write_reference};

/// Rows between looks at what else goes on.
const ROWS_PER_TICK: u64 = 1024;

/// Places the rows of one table.
pub struct Placer<'a, 'm, 't> {
    plan: &'a TablePlan,
    feeder: &'a Feeder<'a>,
    joins: Vec<OwnerJoin<'m>>,
    out: Placed<'a>,
    /// Called every so many rows with how many; may ask to stop.
    tick: &'t mut dyn FnMut(u64) -> Result<(), OpError>,
    scratch: Scratch,
}

/// Where placed rows go.
pub struct Placed<'a> {
    ids: &'a SourceIdKeys,
    pub number: u32,
    pub rows: Sorter,
    pub references: Sorter,
    /// In the order of what the plan provides.
    maps: Vec<OwnerMapFeed<'a>>,
    pub row_count: u64,
    pub row_bytes: u64,
    pub reference_count: u64,
    pub streams: u64,
    pub stream_bytes: u64,
    key: Vec<u8>,
    payload: Vec<u8>,
}

#[derive(Default)]
struct Scratch {
    cells: Vec<u8>,
    key: Vec<u8>,
    record: Vec<u8>,
    join_key: Vec<u8>,
    rows: u64,
}

impl<'a> Placed<'a> {
    /// Nothing placed yet.
    #[must_use]
    pub fn new(
        plan: &TablePlan,
        ids: &'a SourceIdKeys,
        (rows, references): (Sorter, Sorter),
        maps: Vec<OwnerMapFeed<'a>>,
    ) -> Self {
        Self {
            ids,
            number: plan.number,
            rows,
            references,
            maps,
            row_count: 0,
            row_bytes: 0,
            reference_count: 0,
            streams: 0,
            stream_bytes: 0,
            key: Vec::new(),
            payload: Vec::new(),
        }
    }
}

impl<'a, 'm, 't> Placer<'a, 'm, 't> {
    /// A placer for the rows of `plan`'s table.
    pub fn new(
        plan: &'a TablePlan,
        feeder: &'a Feeder<'a>,
        joins: Vec<OwnerJoin<'m>>,
        out: Placed<'a>,
        tick: &'t mut dyn FnMut(u64) -> Result<(), OpError>,
    ) -> Self {
        Self { plan, feeder, joins, out, tick, scratch: Scratch::default() }
    }

    /// Everything has been read: resolves what joins still hold.
    pub fn finish(mut self) -> Result<Placed<'a>, OpError> {
        (self.tick)(self.scratch.rows % ROWS_PER_TICK)?;
        let mut rest = self.joins;
        let out = &mut self.out;
        while !rest.is_empty() {
            let first = rest.remove(0);
            first.finish(&mut |placement: Option<Placement<'_>>, record: &[u8]| {
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
        let record = &mut self.scratch.record;
        record.clear();
        // Results so far, keys of the paths still to go, keys under which others find this row.
        let paths = if self.plan.layout == Layout::Key { 0 } else { self.plan.paths.len() };
        record.put_uv(0);
        record.put_uv(paths as u64);
        for (columns, _) in self.plan.paths.iter().take(paths) {
            put_join_key(record, &mut self.scratch.join_key, columns, cells);
        }
        record.put_uv(self.plan.provides.len() as u64);
        for (columns, _) in &self.plan.provides {
            put_join_key(record, &mut self.scratch.join_key, columns, cells);
        }
        record.push(u8::from(self.plan.is_owner && self.plan.layout == Layout::Owner));
        record.put_bytes(key);
        record.put_uv(cell_count as u64);
        record.push(u8::from(streams == Streams::Some));
        record.extend_from_slice(&self.scratch.cells);
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
                            let stream = self.feeder.stream(bytes)?;
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

/// Appends the folded key of `columns`, or an empty one if any is null (then it leads nowhere).
fn put_join_key(record: &mut Vec<u8>, scratch: &mut Vec<u8>, columns: &JoinColumns, cells: &[Cell<'_>]) {
    scratch.clear();
    for &(at, fold) in columns {
        if matches!(cells[at], Cell::Null | Cell::Absent) {
            scratch.clear();
            break;
        }
        push_folded(scratch, &cells[at], fold);
    }
    record.put_bytes(scratch);
}

/// A result of one path, as it travels in a record.
const NOWHERE: u8 = 0;
const FOUND: u8 = 1;
const MISSING: u8 = 2;

/// Passes a record on to the next join, or to the sorter when there is none.
fn advance(joins: &mut [OwnerJoin<'_>], record: &[u8], out: &mut Placed<'_>) -> Result<(), OpError> {
    let mut take = Take::new(record);
    let results = take.count(1, "record").map_err(|error| broken(&error))?;
    for _ in 0..results {
        read_result(&mut take).map_err(|error| broken(&error))?;
    }
    let paths = take.count(1, "record").map_err(|error| broken(&error))?;
    if paths == 0 {
        return arrive(record, out);
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
    current.push(join_key, record, &mut |placement: Option<Placement<'_>>, record: &[u8]| {
        let next = resolved(record, placement)?;
        advance(rest, &next, out)
    })
}

/// The record with what its first remaining path came to.
fn resolved(record: &[u8], placement: Option<Placement<'_>>) -> Result<Vec<u8>, OpError> {
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
        out.extend_from_slice(&[state, class as u8]);
        out.put_bytes(owner);
    }
    let paths = take.uv("record")?;
    let join_key = take.bytes("record")?;
    out.extend_from_slice(&[state, class as u8]);
    out.put_bytes(if state == MISSING { join_key } else { owner });
    out.put_uv(paths - 1);
    out.extend_from_slice(take.rest());
    Ok(out)
}

fn read_result<'r>(take: &mut Take<'r>) -> Result<(u8, Class, &'r [u8]), WireError> {
    let state = take.u8("record")?;
    let class = Class::from_byte(take.u8("record")?)?;
    Ok((state, class, take.bytes("record")?))
}

/// All paths are resolved: the first that leads anywhere places the row, others become references.
fn arrive(record: &[u8], out: &mut Placed<'_>) -> Result<(), OpError> {
    let arrived = Arrived::read(record).map_err(|error| broken(&error))?;
    let leads = |result: &&(u8, Class, &[u8])| result.0 != NOWHERE;
    let (class, owner) = match arrived.results.iter().find(leads) {
        _ if arrived.is_owner => (Class::Owned, arrived.key),
        Some((_, class, owner)) => (*class, *owner),
        None => (Class::None, &[][..]),
    };
    let owner = if class == Class::None { &[][..] } else { owner };
    let mut limited = owner.to_vec();
    limit_key(&mut limited, |bytes| out.ids.row_hash(bytes));
    let owner = limited.as_slice();
    out.key.clear();
    PlacementKey { class, owner, key: arrived.key }.write(&mut out.key);
    out.payload.clear();
    let streams = if arrived.has_streams { Streams::Some } else { Streams::None };
    RowPayload::write(&mut out.payload, arrived.cell_count, arrived.cells, owner.len() as u16, streams);
    out.rows.push(&out.key, &out.payload)?;
    out.row_count += 1;
    out.row_bytes += out.payload.len() as u64;
    for (_, other_class, other) in arrived.results.iter().filter(leads) {
        if *other_class == Class::Owned && (class, owner) != (Class::Owned, *other) {
            out.key.clear();
            let mut reference = Vec::with_capacity(arrived.key.len() + 9);
            push_component(&mut reference, &Cell::Integer(i64::from(out.number)));
            reference.extend_from_slice(arrived.key);
            limit_key(&mut reference, |bytes| out.ids.row_hash(bytes));
            PlacementKey { class: Class::Owned, owner: other, key: &reference }.write(&mut out.key);
            out.payload.clear();
            write_reference(&mut out.payload, out.number, arrived.key, other.len() as u16);
            out.references.push(&out.key, &out.payload)?;
            out.reference_count += 1;
        }
    }
    for (map, join_key) in out.maps.iter_mut().zip(&arrived.provides) {
        if !join_key.is_empty() {
            map.push(join_key, Placement { class, owner })?;
        }
    }
    Ok(())
}

struct Arrived<'r> {
    results: Vec<(u8, Class, &'r [u8])>,
    provides: Vec<&'r [u8]>,
    is_owner: bool,
    key: &'r [u8],
    cell_count: usize,
    has_streams: bool,
    cells: &'r [u8],
}

impl<'r> Arrived<'r> {
    fn read(record: &'r [u8]) -> Result<Self, WireError> {
        let mut take = Take::new(record);
        let results = take.count(1, "record")?;
        let results = (0..results).map(|_| read_result(&mut take)).collect::<Result<_, _>>()?;
        let _paths = take.uv("record")?;
        let provides = take.count(1, "record")?;
        let provides = (0..provides).map(|_| take.bytes("record")).collect::<Result<_, _>>()?;
        let is_owner = take.u8("record")? == 1;
        let key = take.bytes("record")?;
        let cell_count = take.uv_as("record")?;
        let has_streams = take.u8("record")? == 1;
        Ok(Self { results, provides, is_owner, key, cell_count, has_streams, cells: take.rest() })
    }
}

/// Records are made and read in this file, and authenticated on their way over the disk.
fn broken(error: &WireError) -> OpError {
    OpError::Damaged { what: "a row on its way to its owner".to_owned(), reason: error.to_string() }
}
