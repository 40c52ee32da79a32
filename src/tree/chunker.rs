//! Cuts sorted rows into leaves (`docs/format.md` section 6). The cuts follow from the rows and the
//! pinned rows per leaf alone, never from what was stored before.

use crate::base::limit::LEAF_BYTES_MAX;
use crate::format::cell::{Cell, StreamRef};
use crate::format::key::Class;
use crate::format::leaf::{GroupStart, LeafBuilder, write_row};
use crate::format::wire::{Take, WireError};

/// A sorted row as it travels through the external sort: placement key, and a payload that orders
/// equal keys by the bytes of the row.
#[derive(Debug, Default)]
pub struct RowPayload;

const TAIL_LEN: usize = 3;

/// Whether some cell of a row is a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Streams {
    None,
    Some,
}

impl RowPayload {
    /// Appends the payload of a row: its cells, then the length of the owner in its placement key.
    pub fn write(out: &mut Vec<u8>, cell_count: usize, cells: &[u8], owner_len: u16, streams: Streams) {
        write_row(out, cell_count, 1, cells);
        out.extend_from_slice(&owner_len.to_le_bytes());
        out.push(u8::from(streams == Streams::Some));
    }

    fn split(payload: &[u8]) -> Result<(&[u8], usize, Streams), WireError> {
        let what = "spilled row";
        let at = payload.len().checked_sub(TAIL_LEN).ok_or(WireError::Truncated { what })?;
        let (row, tail) = payload.split_at(at);
        let streams = if tail[2] == 0 { Streams::None } else { Streams::Some };
        Ok((row, usize::from(u16::from_le_bytes([tail[0], tail[1]])), streams))
    }
}

/// A leaf, cut.
#[derive(Debug)]
pub struct LeafCut {
    pub content: Vec<u8>,
    pub first_key: Vec<u8>,
    pub last_key: Vec<u8>,
    /// Rows, with multiplicity.
    pub rows: u64,
    /// Rows as they are stored.
    pub distinct_rows: u64,
    /// Owners whose first row is here.
    pub owners: u64,
    /// Streams that rows refer to, in their order.
    pub streams: Vec<StreamRef>,
}

/// Rows by class, for the manifest.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RowCounts {
    pub owned: u64,
    pub none: u64,
    pub orphan: u64,
    /// Rows that share their key with another.
    pub duplicates: u64,
}

/// Cuts the rows of one tree.
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
    /// Class and owner of the last row, over leaves.
    last_owner: Option<Vec<u8>>,
    equal_keys: u64,
    encoded: Vec<u8>,
}

/// A row that is held back until it is known how often it occurs.
#[derive(Debug, Default)]
struct PendingRow {
    key: Vec<u8>,
    payload: Vec<u8>,
    multiplicity: u64,
}

impl<H: Fn(u8, &[u8]) -> u64> LeafCutter<H> {
    /// `hash` is the keyed boundary hash of (level, placement key).
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

    /// The next row in ascending order of (key, payload). Returns a leaf when one is full.
    pub fn push(&mut self, key: &[u8], payload: &[u8]) -> Result<Option<LeafCut>, WireError> {
        self.push_times(key, payload, 1)
    }

    /// The same for a row that is known to come so many times.
    pub fn push_times(&mut self, key: &[u8], payload: &[u8], times: u64) -> Result<Option<LeafCut>, WireError> {
        if self.pending.multiplicity > 0 && self.pending.key == key && self.pending.payload == payload {
            self.pending.multiplicity = self.pending.multiplicity.saturating_add(times);
            return Ok(None);
        }
        let cut = self.place_pending()?;
        self.pending.key.clear();
        self.pending.key.extend_from_slice(key);
        self.pending.payload.clear();
        self.pending.payload.extend_from_slice(payload);
        self.pending.multiplicity = times;
        Ok(cut)
    }

    /// The leaves that are left (at most two) and the counts of all rows.
    pub fn finish(mut self) -> Result<(Vec<LeafCut>, RowCounts), WireError> {
        let mut cuts = Vec::new();
        cuts.extend(self.place_pending()?);
        if self.leaf.row_count() > 0 {
            cuts.push(self.cut());
        }
        self.count_equal_keys();
        Ok((cuts, self.counts))
    }

    fn place_pending(&mut self) -> Result<Option<LeafCut>, WireError> {
        if self.pending.multiplicity == 0 {
            return Ok(None);
        }
        let (key, payload) = (std::mem::take(&mut self.pending.key), std::mem::take(&mut self.pending.payload));
        let (row, owner_len, streams) = RowPayload::split(&payload)?;
        let mut encoded = std::mem::take(&mut self.encoded);
        encoded.clear();
        let mut take = Take::new(row);
        let cell_count = (take.uv("spilled row")? >> 1) as usize;
        let cells = take.rest();
        write_row(&mut encoded, cell_count, self.pending.multiplicity, cells);
        let same_key = self.last_key == key && self.leaf_or_earlier_rows();
        let full = self.leaf.row_count() > 0 && self.leaf.row_bytes() + encoded.len() > LEAF_BYTES_MAX;
        let cut = (full || (!same_key && self.boundary())).then(|| self.cut());
        if self.leaf.row_count() == 0 {
            self.first_key.clone_from(&key);
        }
        if !same_key {
            self.count_equal_keys();
        }
        self.equal_keys += self.pending.multiplicity;
        self.count_row(&key[..=owner_len])?;
        if streams == Streams::Some {
            collect_streams(cells, cell_count, &mut self.streams)?;
        }
        let start = self.leaf.push(key[0], &key[1..=owner_len], &encoded);
        debug_assert!(start == GroupStart::New || self.leaf.row_count() > 1);
        self.rows += self.pending.multiplicity;
        self.last_key.clone_from(&key);
        self.encoded = encoded;
        (self.pending.key, self.pending.payload) = (key, payload);
        Ok(cut)
    }

    fn leaf_or_earlier_rows(&self) -> bool {
        self.equal_keys > 0
    }

    fn count_row(&mut self, class_and_owner: &[u8]) -> Result<(), WireError> {
        let rows = self.pending.multiplicity;
        let class = Class::from_byte(class_and_owner[0])?;
        match class {
            Class::Owned => self.counts.owned += rows,
            Class::None => self.counts.none += rows,
            Class::Orphan => self.counts.orphan += rows,
        }
        if class == Class::Owned && self.last_owner.as_deref() != Some(class_and_owner) {
            self.owners += 1;
            self.last_owner = Some(class_and_owner.to_vec());
        }
        Ok(())
    }

    fn count_equal_keys(&mut self) {
        if self.equal_keys > 1 {
            self.counts.duplicates += self.equal_keys;
        }
        self.equal_keys = 0;
    }

    fn boundary(&self) -> bool {
        is_leaf_boundary(self.leaf.row_count(), self.rows_per_leaf, || (self.hash)(0, &self.last_key))
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

/// Whether a leaf of `rows` distinct rows ends before a row with another key, `hash` being that of the last key.
#[must_use]
pub fn is_leaf_boundary(rows: u64, rows_per_leaf: u64, hash: impl FnOnce() -> u64) -> bool {
    let (n, target) = (rows, rows_per_leaf.max(1));
    if n == 0 || n < target / 4 {
        return false;
    }
    if target == 1 {
        return true;
    }
    // From the target on a cut is likely but never certain: else leaves of few rows would be cut by
    // counting, and one inserted row would move the cuts of many.
    let all = 1u128 << 64;
    let threshold = if n < target { all / u128::from(4 * target) } else { all / u128::from((target / 4).max(2)) };
    u128::from(hash()) < threshold
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

/// Rows per leaf for a table of this many rows and bytes of rows, or `None` while it is too small to tell.
#[must_use]
pub fn rows_per_leaf(rows: u64, row_bytes: u64) -> Option<u32> {
    use crate::base::limit::{LEAF_BYTES_TARGET, PIN_ROWS_MIN, ROWS_PER_LEAF_MAX};
    if rows < PIN_ROWS_MIN {
        return None;
    }
    let mean = (row_bytes / rows).max(1);
    Some(u32::try_from(LEAF_BYTES_TARGET / mean).unwrap_or(ROWS_PER_LEAF_MAX).clamp(1, ROWS_PER_LEAF_MAX))
}

/// Appends `uv` length-prefixed cells of a reference row: the table and key that another owner is named in.
pub fn write_reference(out: &mut Vec<u8>, table: u32, key: &[u8], owner_len: u16) {
    let mut cells = Vec::with_capacity(key.len() + 12);
    Cell::Integer(i64::from(table)).write(&mut cells);
    Cell::Bytes(key).write(&mut cells);
    RowPayload::write(out, 2, &cells, owner_len, Streams::None);
}
