//! Puts rows whose owners are known into the sorters: the rows, references to them from other owners, and the keys by
//! which child tables find them.

use crate::crypto::ids::SourceIdKeys;
use crate::format::key::{Class, KIND_UNKNOWN, PlacementKey, limit_key, limit_key_after};
use crate::format::wire::{Put, Take, WireError};
use crate::ops::backup::plan::TablePlan;
use crate::ops::error::OpError;
use crate::sort::{OwnerMapWriter, PlacementPrefix, Sorter};
use crate::tree::dictionary::RowSampler;
use crate::tree::leaf_cutter::{RowPayload, Streams};
use crate::tree::reference::RowReference;

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
    pub(super) placement: RowPlacement<'r>,
}

/// Class, kind of owner and owner of a row.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct RowPlacement<'r> {
    pub(super) class: Class,
    /// Meaningless in class `None`.
    pub(super) kind: u8,
    /// The owner's key, or the join key if the row is an orphan. Empty in class `None`.
    pub(super) key: &'r [u8],
}

impl<'r> RowPlacement<'r> {
    const NONE: Self = Self { class: Class::None, kind: KIND_UNKNOWN, key: &[] };

    /// The placement with this beginning of its placement key.
    fn of_prefix(prefix: PlacementPrefix<'r>) -> Self {
        match prefix.owner.split_first() {
            Some((&kind, key)) if prefix.class != Class::None => Self { class: prefix.class, kind, key },
            _ => Self::NONE,
        }
    }

    /// Replaces `owner` by the owner in the placement key, with its full length.
    fn write_owner(&self, owner: &mut Vec<u8>) {
        owner.clear();
        if self.class != Class::None {
            owner.push(self.kind);
            owner.extend_from_slice(self.key);
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[self.class as u8, self.kind]);
        out.put_bytes(self.key);
    }

    fn read(take: &mut Take<'r>) -> Result<Self, WireError> {
        let class = Class::from_byte(take.u8(RECORD)?)?;
        Ok(Self { class, kind: take.u8(RECORD)?, key: take.bytes(RECORD)? })
    }
}

impl<'r> PathResult<'r> {
    pub(super) const NOWHERE: Self = Self { parent: ParentRow::None, placement: RowPlacement::NONE };

    /// The path leads to a row with this placement.
    pub(super) fn found(placement: PlacementPrefix<'r>) -> Self {
        Self { parent: ParentRow::Found, placement: RowPlacement::of_prefix(placement) }
    }

    /// The path leads to a row that does not exist.
    pub(super) fn missing(join_key: &'r [u8], kind: u8) -> Self {
        let placement = RowPlacement { class: Class::Orphan, kind, key: join_key };
        Self { parent: ParentRow::Missing, placement }
    }

    fn leads_anywhere(&self) -> bool {
        self.parent != ParentRow::None
    }

    /// The owner to whom this path leads, if there is one.
    pub(super) fn owner(&self) -> Option<RowPlacement<'r>> {
        let is_owned = self.leads_anywhere() && self.placement.class == Class::Owned;
        is_owned.then_some(self.placement)
    }

    /// Appends the stored form.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.push(self.parent as u8);
        self.placement.write(out);
    }

    /// Reads the stored form.
    /// Fails if the bytes are not a result.
    pub(super) fn read(take: &mut Take<'r>) -> Result<Self, WireError> {
        let parent = ParentRow::from_byte(take.u8(RECORD)?)?;
        Ok(Self { parent, placement: RowPlacement::read(take)? })
    }
}

/// A row whose paths are resolved.
pub(super) struct ResolvedRow<'r> {
    /// The [`PathResult`] of each path, back to back.
    pub(super) path_results: &'r [u8],
    /// The keys under which children find this row, each with its length.
    pub(super) provided_keys: &'r [u8],
    /// The kind of the row, if it is an owner.
    pub(super) owner_kind: Option<u8>,
    pub(super) key: &'r [u8],
    pub(super) cell_count: usize,
    pub(super) streams: Streams,
    pub(super) cells: &'r [u8],
}

impl<'r> ResolvedRow<'r> {
    /// The first path that leads anywhere places the row.
    /// Fails if the results cannot be read.
    pub(super) fn placement(&self) -> Result<RowPlacement<'r>, WireError> {
        if let Some(kind) = self.owner_kind {
            return Ok(RowPlacement { class: Class::Owned, kind, key: self.key });
        }
        let first = self.first_that_leads()?;
        Ok(first.unwrap_or(PathResult::NOWHERE).placement)
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

/// Counts of placed rows.
#[derive(Clone, Copy, Default, Debug)]
pub struct PlacedTotals {
    pub rows: u64,
    pub row_bytes: u64,
    pub references: u64,
    pub streams: u64,
    pub stream_bytes: u64,
    /// Values that the source could not read.
    pub lost_cells: u64,
}

impl PlacedTotals {
    /// Adds the counts of other rows.
    pub fn add(&mut self, other: &Self) {
        self.rows += other.rows;
        self.row_bytes += other.row_bytes;
        self.references += other.references;
        self.streams += other.streams;
        self.stream_bytes += other.stream_bytes;
        self.lost_cells += other.lost_cells;
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
    /// Present if the table needs a dictionary.
    pub sample: Option<RowSampler>,
    key: Vec<u8>,
    /// Placement key of the row that references name.
    row_key: Vec<u8>,
    payload: Vec<u8>,
    owner: Vec<u8>,
    other_owner: Vec<u8>,
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
            sample: None,
            key: Vec::new(),
            row_key: Vec::new(),
            payload: Vec::new(),
            owner: Vec::new(),
            other_owner: Vec::new(),
        }
    }

    /// Passes buffered entries on to the maps.
    /// Fails if a map cannot spill.
    pub(super) fn flush_maps(&mut self) -> Result<(), OpError> {
        for map in &mut self.maps {
            map.flush()?;
        }
        Ok(())
    }

    /// Places a row whose paths are all resolved. The first path that leads anywhere places it; the others become
    /// references.
    /// Fails if the row's record is damaged, or a sorter or map cannot spill.
    pub(super) fn place(&mut self, row: &ResolvedRow<'_>) -> Result<(), OpError> {
        let placement = intact(row.placement())?;
        let mut owner = std::mem::take(&mut self.owner);
        self.write_owner(&placement, &mut owner);
        let stored = self.store(row, PlacementPrefix { class: placement.class, owner: &owner });
        self.owner = owner;
        stored
    }

    /// Replaces `owner` by the owner in the placement key, limited to its stored length.
    fn write_owner(&self, placement: &RowPlacement<'_>, owner: &mut Vec<u8>) {
        placement.write_owner(owner);
        limit_key_after(owner, 1, |bytes| self.ids.row_hash(bytes));
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
        if let Some(sample) = &mut self.sample {
            intact(sample.push(placement.class, placement.owner, RowPayload::row_of(&self.payload)))?;
        }
        self.totals.rows += 1;
        self.totals.row_bytes += self.payload.len() as u64;
        Ok(())
    }

    fn write_payload(&mut self, row: &ResolvedRow<'_>, owner_len: u16) {
        self.payload.clear();
        let ResolvedRow { cell_count, cells, streams, .. } = *row;
        RowPayload { cell_count, cells, owner_len, streams }.write(&mut self.payload);
    }

    fn write_key(&mut self, placement: PlacementPrefix<'_>, key: &[u8]) {
        let PlacementPrefix { class, owner } = placement;
        self.key.clear();
        PlacementKey { class, owner, key }.write(&mut self.key);
    }

    /// Every owner that a path leads to, except the row's own, gets a reference to the row that was just placed.
    fn push_references(&mut self, row: &ResolvedRow<'_>, placement: PlacementPrefix<'_>) -> Result<(), OpError> {
        std::mem::swap(&mut self.key, &mut self.row_key);
        let mut results = Take::new(row.path_results);
        while results.remaining() > 0 {
            if let Some(other) = intact(PathResult::read(&mut results))?.owner() {
                self.push_reference_unless_own(&other, placement)?;
            }
        }
        Ok(())
    }

    fn push_reference_unless_own(&mut self, other: &RowPlacement<'_>, own: PlacementPrefix<'_>) -> Result<(), OpError> {
        let mut owner = std::mem::take(&mut self.other_owner);
        self.write_owner(other, &mut owner);
        let is_own = PlacementPrefix { class: other.class, owner: &owner } == own;
        let pushed = if is_own { Ok(()) } else { self.push_reference(&owner) };
        self.other_owner = owner;
        pushed
    }

    fn push_reference(&mut self, owner: &[u8]) -> Result<(), OpError> {
        let reference = RowReference::new(self.number, &self.row_key);
        self.payload.clear();
        reference.write_payload(owner.len() as u16, &mut self.payload);
        let mut key = reference.key();
        limit_key(&mut key, |bytes| self.ids.row_hash(bytes));
        self.write_key(PlacementPrefix { class: Class::Owned, owner }, &key);
        self.references.push(&self.key, &self.payload)?;
        self.totals.references += 1;
        Ok(())
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

/// Appends a join key or a provided key.
pub(super) fn push_key(out: &mut Vec<u8>, key: &[u8]) {
    out.put_bytes(key);
}

/// The error for a record that cannot be read. Only the backup writes and reads records, and they are authenticated on
/// disk.
pub(super) fn damaged(error: &WireError) -> OpError {
    OpError::Damaged { what: "a row whose owner is being looked up".to_owned(), reason: error.to_string() }
}

/// The result of reading a record.
/// Fails if the record is damaged.
pub(super) fn intact<T>(read: Result<T, WireError>) -> Result<T, OpError> {
    read.map_err(|error| damaged(&error))
}
