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
use crate::sort::{LookUp, OwnerJoin, OwnerMapFeed, Placement, Sorter};
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
    owner: Vec<u8>,
}

#[derive(Default)]
struct Scratch {
    cells: Vec<u8>,
    key: Vec<u8>,
    record: Vec<u8>,
    join_key: Vec<u8>,
    results: Vec<u8>,
    provides: Vec<u8>,
    rows: u64,
}

/// What is known of a row beside its bytes.
struct Row {
    cell_count: usize,
    streams: Streams,
}

/// Whether all paths of a row could be resolved.
enum Resolved {
    /// So many.
    Now(usize),
    Later,
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
            owner: Vec::new(),
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
        self.scratch.provides.clear();
        for (columns, _) in &self.plan.provides {
            put_join_key(&mut self.scratch.provides, &mut self.scratch.join_key, columns, cells);
        }
        let row = Row { cell_count, streams };
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
        let Scratch { results, join_key, .. } = &mut self.scratch;
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
                LookUp::Known(Some(found)) => put_result(results, FOUND, found.class, found.owner),
                LookUp::Known(None) => put_result(results, MISSING, Class::Orphan, join_key),
                LookUp::Later => return Resolved::Later,
            }
        }
        Resolved::Now(self.joins.len())
    }

    /// The row waits until its paths can be resolved.
    fn send_on(&mut self, cells: &[Cell<'_>], row: &Row) -> Result<(), OpError> {
        let is_owner = self.is_owner();
        let Scratch { record, join_key, provides, key, cells: encoded, .. } = &mut self.scratch;
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
        put_result(&mut out, state, class, owner);
    }
    let paths = take.uv("record")?;
    let join_key = take.bytes("record")?;
    put_result(&mut out, state, class, if state == MISSING { join_key } else { owner });
    out.put_uv(paths - 1);
    out.extend_from_slice(take.rest());
    Ok(out)
}

fn put_result(out: &mut Vec<u8>, state: u8, class: Class, owner: &[u8]) {
    out.extend_from_slice(&[state, class as u8]);
    out.put_bytes(owner);
}

fn read_result<'r>(take: &mut Take<'r>) -> Result<(u8, Class, &'r [u8]), WireError> {
    let state = take.u8("record")?;
    let class = Class::from_byte(take.u8("record")?)?;
    Ok((state, class, take.bytes("record")?))
}

/// All paths are resolved: the first that leads anywhere places the row, others become references.
fn arrive(arrived: &Arrived<'_>, out: &mut Placed<'_>) -> Result<(), OpError> {
    let mut first = None;
    let mut take = Take::new(arrived.results.bytes);
    for _ in 0..arrived.results.count {
        let (state, class, owner) = read_result(&mut take).map_err(|error| broken(&error))?;
        if state != NOWHERE && first.is_none() {
            first = Some((class, owner));
        }
    }
    let (class, owner) = match first {
        _ if arrived.is_owner => (Class::Owned, arrived.key),
        Some(found) => found,
        None => (Class::None, &[][..]),
    };
    let owner = if class == Class::None { &[][..] } else { owner };
    let mut limited = std::mem::take(&mut out.owner);
    limited.clear();
    limited.extend_from_slice(owner);
    limit_key(&mut limited, |bytes| out.ids.row_hash(bytes));
    let stored = store(arrived, (class, &limited), out);
    out.owner = limited;
    stored
}

/// Passes a row, its references and what others need of it on.
fn store(arrived: &Arrived<'_>, (class, owner): (Class, &[u8]), out: &mut Placed<'_>) -> Result<(), OpError> {
    out.key.clear();
    PlacementKey { class, owner, key: arrived.key }.write(&mut out.key);
    out.payload.clear();
    let streams = if arrived.has_streams { Streams::Some } else { Streams::None };
    RowPayload::write(&mut out.payload, arrived.cell_count, arrived.cells, owner.len() as u16, streams);
    out.rows.push(&out.key, &out.payload)?;
    out.row_count += 1;
    out.row_bytes += out.payload.len() as u64;
    let mut take = Take::new(arrived.results.bytes);
    for _ in 0..arrived.results.count {
        let (state, other_class, other) = read_result(&mut take).map_err(|error| broken(&error))?;
        if state != NOWHERE && other_class == Class::Owned && (class, owner) != (Class::Owned, other) {
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
    let mut take = Take::new(arrived.provides.bytes);
    for map in &mut out.maps {
        let join_key = take.bytes("record").map_err(|error| broken(&error))?;
        if !join_key.is_empty() {
            map.push(join_key, Placement { class, owner })?;
        }
    }
    Ok(())
}

/// A row whose paths are resolved.
struct Arrived<'r> {
    /// State, class and owner of each path.
    results: Encoded<'r>,
    /// The keys under which others find this row.
    provides: Encoded<'r>,
    is_owner: bool,
    key: &'r [u8],
    cell_count: usize,
    has_streams: bool,
    cells: &'r [u8],
}

/// Several things, back to back.
struct Encoded<'r> {
    count: usize,
    bytes: &'r [u8],
}

impl<'r> Encoded<'r> {
    fn read(take: &mut Take<'r>, one: impl Fn(&mut Take<'r>) -> Result<(), WireError>) -> Result<Self, WireError> {
        let count = take.count(1, "record")?;
        let mut ahead = take.clone();
        (0..count).try_for_each(|_| one(&mut ahead))?;
        let len = take.remaining() - ahead.remaining();
        Ok(Self { count, bytes: take.raw(len, "record")? })
    }
}

impl<'r> Arrived<'r> {
    fn read(record: &'r [u8]) -> Result<Self, WireError> {
        let mut take = Take::new(record);
        let results = Encoded::read(&mut take, |take| read_result(take).map(|_| ()))?;
        let _paths = take.uv("record")?;
        let provides = Encoded::read(&mut take, |take| take.bytes("record").map(|_| ()))?;
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
