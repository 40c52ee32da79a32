//! Puts rows whose owners are known into the sorters: the rows, references to them from other owners, and the keys by
//! which child tables find them.

use crate::crypto::ids::SourceIdKeys;
use crate::format::key::{Class, PlacementKey, limit_key, limit_key_after};
use crate::format::wire::Take;
use crate::ops::backup::plan::TablePlan;
use crate::ops::backup::record::{PathResult, RECORD, ResolvedRow, RowPlacement, intact};
use crate::ops::error::OpError;
use crate::sort::{OwnerMapWriter, PlacementPrefix, Sorter};
use crate::tree::dictionary::RowSampler;
use crate::tree::leaf_cutter::RowPayload;
use crate::tree::reference::RowReference;

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
