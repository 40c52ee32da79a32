//! Rows whose owners are known, on their way into the sorters: rows, references to other owners, and what tables below
//! need to know of them.

use crate::crypto::ids::SourceIdKeys;
use crate::format::cell::Cell;
use crate::format::key::{Class, PlacementKey, limit_key, push_component};
use crate::format::wire::{Put, Take, WireError};
use crate::ops::backup::plan::TablePlan;
use crate::ops::error::OpError;
use crate::sort::{OwnerMapWriter, PlacementPrefix, Sorter};
use crate::tree::chunker::{RowPayload, Streams, write_reference};

/// Where placed rows go.
pub struct Placed<'a> {
    pub(super) ids: &'a SourceIdKeys,
    pub number: u32,
    pub rows: Sorter,
    pub references: Sorter,
    /// In the order of what the plan provides.
    pub(super) maps: Vec<OwnerMapWriter<'a>>,
    pub row_count: u64,
    pub row_bytes: u64,
    pub reference_count: u64,
    pub streams: u64,
    pub stream_bytes: u64,
    key: Vec<u8>,
    payload: Vec<u8>,
    owner: Vec<u8>,
}

impl<'a> Placed<'a> {
    /// Nothing placed yet.
    #[must_use]
    pub fn new(
        plan: &TablePlan,
        ids: &'a SourceIdKeys,
        (rows, references): (Sorter, Sorter),
        maps: Vec<OwnerMapWriter<'a>>,
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

/// A result of one path, as it travels in a record.
pub(super) const NOWHERE: u8 = 0;
pub(super) const FOUND: u8 = 1;
pub(super) const MISSING: u8 = 2;

pub(super) fn put_result(out: &mut Vec<u8>, state: u8, class: Class, owner: &[u8]) {
    out.extend_from_slice(&[state, class as u8]);
    out.put_bytes(owner);
}

pub(super) fn read_result<'r>(take: &mut Take<'r>) -> Result<(u8, Class, &'r [u8]), WireError> {
    let state = take.u8("record")?;
    let class = Class::from_byte(take.u8("record")?)?;
    Ok((state, class, take.bytes("record")?))
}

/// All paths are resolved: the first that leads anywhere places the row, others become references.
pub(super) fn arrive(arrived: &Arrived<'_>, out: &mut Placed<'_>) -> Result<(), OpError> {
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
            map.push(join_key, PlacementPrefix { class, owner })?;
        }
    }
    Ok(())
}

/// A row whose paths are resolved.
pub(super) struct Arrived<'r> {
    /// State, class and owner of each path.
    pub(super) results: Encoded<'r>,
    /// The keys under which others find this row.
    pub(super) provides: Encoded<'r>,
    pub(super) is_owner: bool,
    pub(super) key: &'r [u8],
    pub(super) cell_count: usize,
    pub(super) has_streams: bool,
    pub(super) cells: &'r [u8],
}

/// Several things, back to back.
pub(super) struct Encoded<'r> {
    pub(super) count: usize,
    pub(super) bytes: &'r [u8],
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
    pub(super) fn read(record: &'r [u8]) -> Result<Self, WireError> {
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

/// Records are made and read in this folder, and authenticated on their way over the disk.
pub(super) fn broken(error: &WireError) -> OpError {
    OpError::Damaged { what: "a row on its way to its owner".to_owned(), reason: error.to_string() }
}
