//! Puts rows whose owners are known into the sorters: the rows, references to them from other owners, and the keys by
//! which child tables find them.
//!
//! A row whose owner is not known yet moves from join to join as a record. A record contains, in this order: the
//! results of the paths resolved so far, the join keys of the remaining paths, the keys under which children find the
//! row, and the row.

use crate::crypto::ids::SourceIdKeys;
use crate::format::cell::Cell;
use crate::format::key::{Class, PlacementKey, limit_key, push_component};
use crate::format::wire::{Put, Take, WireError};
use crate::ops::backup::plan::TablePlan;
use crate::ops::error::OpError;
use crate::sort::{OwnerMapWriter, PlacementPrefix, Sorter};
use crate::tree::builder::{RowPayload, Streams, write_reference};

/// The name of a record in errors.
pub(super) const RECORD: &str = "record";

/// Whether a path leads to a parent row.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ParentRow {
    /// A column of the path is null.
    None = 0,
    Found = 1,
    /// The parent table has no such row.
    Missing = 2,
}

impl ParentRow {
    fn from_byte(byte: u8) -> Result<Self, WireError> {
        match byte {
            0 => Ok(Self::None),
            1 => Ok(Self::Found),
            2 => Ok(Self::Missing),
            _ => Err(WireError::Invalid { what: RECORD }),
        }
    }
}

/// Where a path leads.
#[derive(Clone, Copy)]
pub(super) struct PathResult<'r> {
    parent: ParentRow,
    class: Class,
    /// The owner's key, or the join key if the parent row is missing.
    owner: &'r [u8],
}

impl<'r> PathResult<'r> {
    pub(super) const NOWHERE: Self = Self { parent: ParentRow::None, class: Class::None, owner: &[] };

    /// The result of a join for `join_key`. `placement` is None if the parent row is missing.
    pub(super) fn new(placement: Option<PlacementPrefix<'r>>, join_key: &'r [u8]) -> Self {
        match placement {
            Some(PlacementPrefix { class, owner }) => Self { parent: ParentRow::Found, class, owner },
            None => Self { parent: ParentRow::Missing, class: Class::Orphan, owner: join_key },
        }
    }

    fn leads_anywhere(&self) -> bool {
        self.parent != ParentRow::None
    }

    /// The owner to whom this path leads, if there is one.
    fn owner(&self) -> Option<PlacementPrefix<'r>> {
        let is_owned = self.leads_anywhere() && self.class == Class::Owned;
        is_owned.then(|| self.placement())
    }

    /// The placement of a row that is placed by this path.
    fn placement(&self) -> PlacementPrefix<'r> {
        let owner = if self.class == Class::None { &[][..] } else { self.owner };
        PlacementPrefix { class: self.class, owner }
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[self.parent as u8, self.class as u8]);
        out.put_bytes(self.owner);
    }

    fn read(take: &mut Take<'r>) -> Result<Self, WireError> {
        let parent = ParentRow::from_byte(take.u8(RECORD)?)?;
        let class = Class::from_byte(take.u8(RECORD)?)?;
        Ok(Self { parent, class, owner: take.bytes(RECORD)? })
    }
}

/// The next unresolved path of a record.
pub(super) struct NextPath<'r> {
    /// Including this one.
    pub(super) paths_left: usize,
    pub(super) join_key: &'r [u8],
}

impl<'r> NextPath<'r> {
    /// None when all paths are resolved.
    pub(super) fn read(record: &'r [u8]) -> Result<Option<Self>, WireError> {
        let mut take = Take::new(record);
        skip_path_results(&mut take)?;
        let paths_left = take.count(1, RECORD)?;
        if paths_left == 0 {
            return Ok(None);
        }
        Ok(Some(Self { paths_left, join_key: take.bytes(RECORD)? }))
    }
}

/// A row whose paths are resolved.
pub(super) struct ResolvedRow<'r> {
    /// The [`PathResult`] of each path, back to back.
    pub(super) path_results: &'r [u8],
    /// The keys under which children find this row, each with its length.
    pub(super) provided_keys: &'r [u8],
    pub(super) is_owner: bool,
    pub(super) key: &'r [u8],
    pub(super) cell_count: usize,
    pub(super) streams: Streams,
    pub(super) cells: &'r [u8],
}

impl<'r> ResolvedRow<'r> {
    pub(super) fn read(record: &'r [u8]) -> Result<Self, WireError> {
        let mut take = Take::new(record);
        let path_results = skip_path_results(&mut take)?;
        let _paths = take.uv(RECORD)?;
        let provided_keys = read_list(&mut take, |take| take.bytes(RECORD).map(drop))?;
        let is_owner = take.u8(RECORD)? == 1;
        let key = take.bytes(RECORD)?;
        let cell_count = take.uv_as(RECORD)?;
        let streams = if take.u8(RECORD)? == 1 { Streams::Some } else { Streams::None };
        Ok(Self { path_results, provided_keys, is_owner, key, cell_count, streams, cells: take.rest() })
    }

    /// The first path that leads anywhere places the row.
    fn placement(&self) -> Result<PlacementPrefix<'r>, WireError> {
        if self.is_owner {
            return Ok(PlacementPrefix { class: Class::Owned, owner: self.key });
        }
        let first = self.first_that_leads()?;
        Ok(first.unwrap_or(PathResult::NOWHERE).placement())
    }

    fn first_that_leads(&self) -> Result<Option<PathResult<'r>>, WireError> {
        let mut results = Take::new(self.path_results);
        while results.remaining() > 0 {
            let result = PathResult::read(&mut results)?;
            if result.leads_anywhere() {
                return Ok(Some(result));
            }
        }
        Ok(None)
    }
}

/// The record with its first unresolved path resolved. `result` maps the path's join key to the result.
pub(super) fn with_result<'r>(
    record: &'r [u8],
    result: impl FnOnce(&'r [u8]) -> PathResult<'r>,
) -> Result<Vec<u8>, WireError> {
    let parts = RecordParts::read(record)?;
    let result = result(parts.join_key);
    let mut out = Vec::with_capacity(record.len() + result.owner.len() + 4);
    out.put_uv(parts.results + 1);
    out.extend_from_slice(parts.path_results);
    result.write(&mut out);
    out.put_uv(parts.paths - 1);
    out.extend_from_slice(parts.rest);
    Ok(out)
}

/// A record with unresolved paths, split at the first of them.
struct RecordParts<'r> {
    results: u64,
    path_results: &'r [u8],
    paths: u64,
    join_key: &'r [u8],
    rest: &'r [u8],
}

impl<'r> RecordParts<'r> {
    fn read(record: &'r [u8]) -> Result<Self, WireError> {
        let mut take = Take::new(record);
        let results = take.clone().uv(RECORD)?;
        let path_results = skip_path_results(&mut take)?;
        let paths = take.uv(RECORD)?;
        let join_key = take.bytes(RECORD)?;
        Ok(Self { results, path_results, paths, join_key, rest: take.rest() })
    }
}

/// Skips the results of the resolved paths and returns their bytes.
fn skip_path_results<'r>(take: &mut Take<'r>) -> Result<&'r [u8], WireError> {
    read_list(take, |take| PathResult::read(take).map(drop))
}

/// Reads a count and that many items. Returns the bytes of the items.
fn read_list<'r>(
    take: &mut Take<'r>,
    read_item: impl Fn(&mut Take<'r>) -> Result<(), WireError>,
) -> Result<&'r [u8], WireError> {
    let count = take.count(1, RECORD)?;
    let mut end = take.clone();
    for _ in 0..count {
        read_item(&mut end)?;
    }
    take.raw(take.remaining() - end.remaining(), RECORD)
}

/// The error for a record that cannot be read. Only this file writes and reads records, and they are authenticated on
/// disk.
pub(super) fn damaged(error: &WireError) -> OpError {
    OpError::Damaged { what: "a row whose owner is being looked up".to_owned(), reason: error.to_string() }
}

pub(super) fn intact<T>(read: Result<T, WireError>) -> Result<T, OpError> {
    read.map_err(|error| damaged(&error))
}

/// Counts of placed rows.
#[derive(Clone, Copy, Default, Debug)]
pub struct PlacedTotals {
    pub rows: u64,
    pub row_bytes: u64,
    pub references: u64,
    pub streams: u64,
    pub stream_bytes: u64,
}

impl PlacedTotals {
    /// Adds the counts of other rows.
    pub fn add(&mut self, other: &Self) {
        self.rows += other.rows;
        self.row_bytes += other.row_bytes;
        self.references += other.references;
        self.streams += other.streams;
        self.stream_bytes += other.stream_bytes;
    }
}

/// Where placed rows go: the sorters for rows and for references from other owners, and the maps by which children find
/// their owners.
pub struct PlacedRows<'a> {
    pub(super) ids: &'a SourceIdKeys,
    /// Number of the table.
    number: u32,
    pub rows: Sorter,
    pub references: Sorter,
    /// In the order of what the plan provides.
    maps: Vec<OwnerMapWriter<'a>>,
    pub totals: PlacedTotals,
    key: Vec<u8>,
    payload: Vec<u8>,
    owner: Vec<u8>,
}

/// The sorters of one reader.
pub struct RowSorters {
    pub rows: Sorter,
    pub references: Sorter,
}

impl<'a> PlacedRows<'a> {
    /// No rows placed yet.
    #[must_use]
    pub fn new(plan: &TablePlan, ids: &'a SourceIdKeys, sorters: RowSorters, maps: Vec<OwnerMapWriter<'a>>) -> Self {
        let RowSorters { rows, references } = sorters;
        Self {
            ids,
            number: plan.number,
            rows,
            references,
            maps,
            totals: PlacedTotals::default(),
            key: Vec::new(),
            payload: Vec::new(),
            owner: Vec::new(),
        }
    }

    /// Passes buffered entries on to the maps.
    pub(super) fn flush_maps(&mut self) -> Result<(), OpError> {
        for map in &mut self.maps {
            map.flush()?;
        }
        Ok(())
    }

    /// Places a row whose paths are all resolved. The first path that leads anywhere places it; the others become
    /// references.
    pub(super) fn place(&mut self, row: &ResolvedRow<'_>) -> Result<(), OpError> {
        let PlacementPrefix { class, owner } = intact(row.placement())?;
        let limited = self.limited(owner);
        let stored = self.store(row, PlacementPrefix { class, owner: &limited });
        self.owner = limited;
        stored
    }

    /// An owner's key, limited to its stored length, in the reused buffer.
    fn limited(&mut self, owner: &[u8]) -> Vec<u8> {
        let mut limited = std::mem::take(&mut self.owner);
        limited.clear();
        limited.extend_from_slice(owner);
        limit_key(&mut limited, |bytes| self.ids.row_hash(bytes));
        limited
    }

    fn store(&mut self, row: &ResolvedRow<'_>, placement: PlacementPrefix<'_>) -> Result<(), OpError> {
        self.push_row(row, placement)?;
        self.push_references(row, placement)?;
        self.push_provided_keys(row, placement)
    }

    fn push_row(&mut self, row: &ResolvedRow<'_>, placement: PlacementPrefix<'_>) -> Result<(), OpError> {
        self.write_key(placement, row.key);
        self.write_payload(row, placement.owner.len() as u16);
        self.rows.push(&self.key, &self.payload)?;
        self.totals.rows += 1;
        self.totals.row_bytes += self.payload.len() as u64;
        Ok(())
    }

    fn write_payload(&mut self, row: &ResolvedRow<'_>, owner_len: u16) {
        self.payload.clear();
        RowPayload::write(&mut self.payload, row.cell_count, row.cells, owner_len, row.streams);
    }

    fn write_key(&mut self, placement: PlacementPrefix<'_>, key: &[u8]) {
        let PlacementPrefix { class, owner } = placement;
        self.key.clear();
        PlacementKey { class, owner, key }.write(&mut self.key);
    }

    /// Every owner that a path leads to, except the row's own, gets a reference to the row.
    fn push_references(&mut self, row: &ResolvedRow<'_>, placement: PlacementPrefix<'_>) -> Result<(), OpError> {
        let mut results = Take::new(row.path_results);
        while results.remaining() > 0 {
            let result = intact(PathResult::read(&mut results))?;
            if let Some(other) = result.owner().filter(|other| *other != placement) {
                self.push_reference(row.key, other.owner)?;
            }
        }
        Ok(())
    }

    fn push_reference(&mut self, row_key: &[u8], owner: &[u8]) -> Result<(), OpError> {
        let key = self.reference_key(row_key);
        self.write_key(PlacementPrefix { class: Class::Owned, owner }, &key);
        self.payload.clear();
        write_reference(&mut self.payload, self.number, row_key, owner.len() as u16);
        self.references.push(&self.key, &self.payload)?;
        self.totals.references += 1;
        Ok(())
    }

    /// The key of a reference within its owner: the table, then the row.
    fn reference_key(&self, row_key: &[u8]) -> Vec<u8> {
        let mut key = Vec::with_capacity(row_key.len() + 9);
        push_component(&mut key, &Cell::Integer(i64::from(self.number)));
        key.extend_from_slice(row_key);
        limit_key(&mut key, |bytes| self.ids.row_hash(bytes));
        key
    }

    /// Adds the row to the maps in which its children look it up.
    fn push_provided_keys(&mut self, row: &ResolvedRow<'_>, placement: PlacementPrefix<'_>) -> Result<(), OpError> {
        let mut keys = Take::new(row.provided_keys);
        for map in &mut self.maps {
            let join_key = intact(keys.bytes(RECORD))?;
            if !join_key.is_empty() {
                map.push(join_key, placement)?;
            }
        }
        Ok(())
    }
}
