//! Samples the rows of a table while they are read, with a hash of their owner.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::base::limit::DICTIONARY_OWNERS_MIN;
use crate::format::cell::Cell;
use crate::format::codec::looks_incompressible;
use crate::format::key::Class;
use crate::format::wire::{Take, WireError};

/// Bytes of one table's sample.
const SAMPLE_BYTES: usize = 2 << 20;
/// Longer rows are cut off.
const ROW_BYTES_MAX: usize = 8 << 10;
/// Bytes of the next row that follow a row in a leaf and are usually the same: its number of cells and a kind.
const NEXT_ROW_BYTES: usize = 2;

/// A sampled row, without values that are not compressed.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct SampledRow {
    /// Hash of class and owner, or of the row if it has no owner.
    pub owner: u64,
    pub bytes: Vec<u8>,
}

/// Every n-th row of a table. n doubles whenever the sample is full.
#[derive(Debug)]
pub struct RowSampler {
    rows: Vec<SampledRow>,
    bytes: usize,
    stride: u32,
    /// Rows until the next one is taken.
    wait: u32,
}

impl Default for RowSampler {
    fn default() -> Self {
        Self { rows: Vec::new(), bytes: 0, stride: 1, wait: 0 }
    }
}

impl RowSampler {
    /// Sees the next row, with class and owner of its placement key.
    /// Fails if the row cannot be decoded.
    pub fn push(&mut self, class: Class, owner: &[u8], row: &[u8]) -> Result<(), WireError> {
        if let Some(wait) = self.wait.checked_sub(1) {
            self.wait = wait;
            return Ok(());
        }
        self.wait = self.stride - 1;
        let owner = if class == Class::None { hash_of(row) } else { hash_of(&(class as u8, owner)) };
        self.add(SampledRow { owner, bytes: compressed_part(row)? });
        Ok(())
    }

    fn add(&mut self, row: SampledRow) {
        self.bytes += row.bytes.len();
        self.rows.push(row);
        while self.bytes > SAMPLE_BYTES {
            self.thin();
        }
    }

    /// Drops every second row.
    fn thin(&mut self) {
        let mut at = 0_usize;
        self.rows.retain(|_| {
            at += 1;
            at % 2 == 1
        });
        self.stride = self.stride.saturating_mul(2);
        self.bytes = self.rows.iter().map(|row| row.bytes.len()).sum();
    }

    /// Adds the sample of other rows of the table.
    pub fn append(&mut self, mut other: Self) {
        while self.stride < other.stride {
            self.thin();
        }
        while other.stride < self.stride {
            other.thin();
        }
        other.rows.into_iter().for_each(|row| self.add(row));
    }

    /// Its memory in bytes, about.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.bytes + self.rows.len() * size_of::<SampledRow>()
    }

    /// The rows, sorted by owner. `None` if they have too few owners for a dictionary.
    pub(super) fn into_rows(mut self) -> Option<Vec<SampledRow>> {
        self.rows.sort_unstable();
        let owners = self.rows.chunk_by(|one, next| one.owner == next.owner).count();
        (owners >= DICTIONARY_OWNERS_MIN as usize).then_some(self.rows)
    }
}

fn hash_of(value: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// What zstd sees of a row in a leaf: the row without incompressible values, and the beginning of the next row.
fn compressed_part(row: &[u8]) -> Result<Vec<u8>, WireError> {
    let mut take = Take::new(row);
    let mut part = Vec::new();
    let mut from = 0;
    let mut cells = take.uv("row")? >> 1;
    while cells > 0 && part.len() < ROW_BYTES_MAX {
        let cell = Cell::read(&mut take)?;
        let end = row.len() - take.remaining();
        if let Cell::Bytes(bytes) = cell
            && looks_incompressible(bytes)
        {
            part.extend_from_slice(&row[from..end - bytes.len()]);
            from = end;
        }
        cells -= 1;
    }
    part.extend_from_slice(&row[from..]);
    part.truncate(ROW_BYTES_MAX);
    part.extend_from_slice(&row[..row.len().min(NEXT_ROW_BYTES)]);
    Ok(part)
}
