//! Cuts sorted rows into leaves (`docs/format.md` section 6). A row comes from the external sort as a [`RowPayload`].
//! The cuts depend only on the rows and the pinned rows per leaf, never on what was stored before.

use crate::base::limit::{LEAF_BYTES_MAX, LEAF_BYTES_TARGET, PIN_ROWS_MIN, ROWS_PER_LEAF_MAX};
use crate::format::cell::{Cell, StreamRef};
use crate::format::key::Class;
use crate::format::leaf::{LeafBuilder, write_row};
use crate::format::wire::{Take, WireError};

/// Number of possible boundary hashes.
pub(super) const HASHES: u128 = 1 << 64;

const TAIL_LEN: usize = 3;
const PAYLOAD: &str = "spilled row";

/// Rows per leaf for a table with this many rows and bytes of rows, or `None` while the table is too small to decide.
#[must_use]
pub fn rows_per_leaf(rows: u64, row_bytes: u64) -> Option<u32> {
    if rows < PIN_ROWS_MIN {
        return None;
    }
    let mean = (row_bytes / rows).max(1);
    Some(u32::try_from(LEAF_BYTES_TARGET / mean).unwrap_or(ROWS_PER_LEAF_MAX).clamp(1, ROWS_PER_LEAF_MAX))
}

/// Whether a leaf of `rows` distinct rows ends before a row with another key. `hash` is the boundary hash of the last
/// key.
#[must_use]
pub fn is_leaf_boundary(rows: u64, rows_per_leaf: u64, hash: impl FnOnce() -> u64) -> bool {
    let target = rows_per_leaf.max(1);
    if rows == 0 || rows < target / 4 {
        return false;
    }
    target == 1 || u128::from(hash()) < leaf_threshold(rows, target)
}

/// Hashes below this threshold end a leaf. From the target on a cut is likely but never certain. Otherwise leaves of
/// few rows would be cut by counting, and one inserted row would move many cuts.
fn leaf_threshold(rows: u64, target: u64) -> u128 {
    let divisor = if rows < target { 4 * target } else { (target / 4).max(2) };
    HASHES / u128::from(divisor)
}

/// Whether any cell of a row is a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Streams {
    None,
    Some,
}

/// The payload of a sorted row. The key of the sort is the placement key, and the payload orders equal keys by the
/// bytes of the row: it contains the cells, then the length of the owner in the placement key.
#[derive(Clone, Copy, Debug)]
pub struct RowPayload<'a> {
    pub cell_count: usize,
    pub cells: &'a [u8],
    pub owner_len: u16,
    pub streams: Streams,
}

impl<'a> RowPayload<'a> {
    /// Appends the payload.
    pub fn write(&self, out: &mut Vec<u8>) {
        write_row(out, self.cell_count, 1, self.cells);
        out.extend_from_slice(&self.owner_len.to_le_bytes());
        out.push(u8::from(self.streams == Streams::Some));
    }

    /// Reads what [`Self::write`] has written.
    /// Fails if the payload is too short or does not begin with a valid number.
    fn read(payload: &'a [u8]) -> Result<Self, WireError> {
        match payload.split_last_chunk() {
            Some((row, tail)) => Self::of_parts(row, *tail),
            None => Err(WireError::Truncated { what: PAYLOAD }),
        }
    }

    fn of_parts(row: &'a [u8], tail: [u8; TAIL_LEN]) -> Result<Self, WireError> {
        let mut take = Take::new(row);
        let cell_count = (take.uv(PAYLOAD)? >> 1) as usize;
        Ok(Self {
            cell_count,
            cells: take.rest(),
            owner_len: u16::from_le_bytes([tail[0], tail[1]]),
            streams: if tail[2] == 0 { Streams::None } else { Streams::Some },
        })
    }
}

/// A complete leaf.
#[derive(Debug)]
pub struct LeafCut {
    pub content: Vec<u8>,
    pub first_key: Vec<u8>,
    pub last_key: Vec<u8>,
    /// Rows, with multiplicity.
    pub rows: u64,
    /// Rows without multiplicity, as stored.
    pub distinct_rows: u64,
    /// Owners whose first row is in this leaf.
    pub owners: u64,
    /// Streams that the rows refer to, in the order of the rows.
    pub streams: Vec<StreamRef>,
}

/// Rows by class, for the manifest.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RowCounts {
    pub owned: u64,
    pub none: u64,
    pub orphan: u64,
    /// Rows that share their key with another row.
    pub duplicates: u64,
}

impl RowCounts {
    fn add(&mut self, class: Class, rows: u64) {
        match class {
            Class::Owned => self.owned = self.owned.saturating_add(rows),
            Class::None => self.none = self.none.saturating_add(rows),
            Class::Orphan => self.orphan = self.orphan.saturating_add(rows),
        }
    }
}

/// Cuts the rows of one tree into leaves.
#[derive(Debug)]
pub struct LeafCutter<H> {
    hash: H,
    rows_per_leaf: u64,
    leaf: LeafBuilder,
    first_key: Vec<u8>,
    last_key: Vec<u8>,
    rows: u64,
    owners: u64,
    streams: Vec<StreamRef>,
    pending: PendingRow,
    counts: RowCounts,
    /// Class and owner of the last row, across leaves.
    last_owner: Option<Vec<u8>>,
    /// Rows so far with the key `last_key`, across leaves.
    equal_keys: u64,
    encoded: Vec<u8>,
}

/// A row that waits until its multiplicity is known.
#[derive(Debug, Default)]
struct PendingRow {
    key: Vec<u8>,
    payload: Vec<u8>,
    multiplicity: u64,
}

impl PendingRow {
    fn set(&mut self, key: &[u8], payload: &[u8], multiplicity: u64) {
        self.key.clear();
        self.key.extend_from_slice(key);
        self.payload.clear();
        self.payload.extend_from_slice(payload);
        self.multiplicity = multiplicity;
    }

    fn is_same(&self, key: &[u8], payload: &[u8]) -> bool {
        self.multiplicity > 0 && self.key == key && self.payload == payload
    }
}

impl<H: Fn(&[u8]) -> u64> LeafCutter<H> {
    /// `hash` is the keyed boundary hash of a placement key on level 0, the level of leaves.
    pub fn new(hash: H, rows_per_leaf: u32) -> Self {
        Self {
            hash,
            rows_per_leaf: u64::from(rows_per_leaf.max(1)),
            leaf: LeafBuilder::default(),
            first_key: Vec::new(),
            last_key: Vec::new(),
            rows: 0,
            owners: 0,
            streams: Vec::new(),
            pending: PendingRow::default(),
            counts: RowCounts::default(),
            last_owner: None,
            equal_keys: 0,
            encoded: Vec::new(),
        }
    }

    /// Adds the next row, in ascending order of (key, payload). Returns a leaf when one is full.
    /// Fails if the previous row, which is placed now, has a payload that [`RowPayload::write`] does not write, or an
    /// unknown class.
    pub fn push(&mut self, key: &[u8], payload: &[u8]) -> Result<Option<LeafCut>, WireError> {
        self.push_times(key, payload, 1)
    }

    /// Like [`LeafCutter::push`], for a row that occurs `times` times.
    /// Fails like [`LeafCutter::push`].
    pub fn push_times(&mut self, key: &[u8], payload: &[u8], times: u64) -> Result<Option<LeafCut>, WireError> {
        if self.pending.is_same(key, payload) {
            self.pending.multiplicity = self.pending.multiplicity.saturating_add(times);
            return Ok(None);
        }
        let cut = self.place_pending()?;
        self.pending.set(key, payload, times);
        Ok(cut)
    }

    /// The remaining leaves (at most two) and the counts of all rows.
    /// Fails if the last row has an invalid payload or an unknown class.
    pub fn finish(mut self) -> Result<(Vec<LeafCut>, RowCounts), WireError> {
        let mut cuts = Vec::new();
        cuts.extend(self.place_pending()?);
        if self.leaf.row_count() > 0 {
            cuts.push(self.cut());
        }
        self.count_equal_keys();
        Ok((cuts, self.counts))
    }

    /// Adds the pending row to the leaf. Returns the previous leaf if it ends here.
    fn place_pending(&mut self) -> Result<Option<LeafCut>, WireError> {
        if self.pending.multiplicity == 0 {
            return Ok(None);
        }
        let pending = std::mem::take(&mut self.pending);
        let cut = self.place(&pending)?;
        // Keep the allocations.
        self.pending = pending;
        Ok(cut)
    }

    fn place(&mut self, pending: &PendingRow) -> Result<Option<LeafCut>, WireError> {
        let row = RowPayload::read(&pending.payload)?;
        self.encoded.clear();
        write_row(&mut self.encoded, row.cell_count, pending.multiplicity, row.cells);
        let cut = self.begin_row(pending);
        let owner_len = usize::from(row.owner_len);
        self.count_rows(&pending.key[..=owner_len], pending.multiplicity)?;
        if row.streams == Streams::Some {
            collect_streams(row.cells, row.cell_count, &mut self.streams)?;
        }
        self.append(pending, owner_len);
        Ok(cut)
    }

    /// Returns the leaf if it ends before the encoded row.
    fn begin_row(&mut self, pending: &PendingRow) -> Option<LeafCut> {
        let is_same_key = self.equal_keys > 0 && self.last_key == pending.key;
        let cut = self.ends_before(is_same_key).then(|| self.cut());
        if !is_same_key {
            self.count_equal_keys();
        }
        self.equal_keys = self.equal_keys.saturating_add(pending.multiplicity);
        cut
    }

    /// Whether the leaf ends before the encoded row.
    fn ends_before(&self, is_same_key: bool) -> bool {
        let is_full = self.leaf.row_count() > 0 && self.leaf.row_bytes() + self.encoded.len() > LEAF_BYTES_MAX;
        is_full || (!is_same_key && self.is_boundary())
    }

    fn is_boundary(&self) -> bool {
        is_leaf_boundary(self.leaf.row_count(), self.rows_per_leaf, || (self.hash)(&self.last_key))
    }

    /// Adds the encoded row to the leaf.
    fn append(&mut self, pending: &PendingRow, owner_len: usize) {
        let key = &pending.key;
        if self.leaf.row_count() == 0 {
            self.first_key.clone_from(key);
        }
        self.leaf.push(key[0], &key[1..=owner_len], &self.encoded);
        self.rows = self.rows.saturating_add(pending.multiplicity);
        self.last_key.clone_from(key);
    }

    fn count_rows(&mut self, class_and_owner: &[u8], rows: u64) -> Result<(), WireError> {
        let class = Class::from_byte(class_and_owner[0])?;
        self.counts.add(class, rows);
        if class == Class::Owned {
            self.count_owner(class_and_owner);
        }
        Ok(())
    }

    fn count_owner(&mut self, class_and_owner: &[u8]) {
        if self.last_owner.as_deref() != Some(class_and_owner) {
            self.owners += 1;
            self.last_owner = Some(class_and_owner.to_vec());
        }
    }

    fn count_equal_keys(&mut self) {
        if self.equal_keys > 1 {
            self.counts.duplicates = self.counts.duplicates.saturating_add(self.equal_keys);
        }
        self.equal_keys = 0;
    }

    fn cut(&mut self) -> LeafCut {
        LeafCut {
            distinct_rows: self.leaf.row_count(),
            content: self.leaf.finish(),
            first_key: std::mem::take(&mut self.first_key),
            last_key: self.last_key.clone(),
            rows: std::mem::take(&mut self.rows),
            owners: std::mem::take(&mut self.owners),
            streams: std::mem::take(&mut self.streams),
        }
    }
}

fn collect_streams(cells: &[u8], count: usize, streams: &mut Vec<StreamRef>) -> Result<(), WireError> {
    let mut take = Take::new(cells);
    for _ in 0..count {
        if let Cell::Stream(_, stream) = Cell::read(&mut take)? {
            streams.push(stream);
        }
    }
    Ok(())
}
