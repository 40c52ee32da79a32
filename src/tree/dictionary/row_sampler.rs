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

/// Every n-th row of a table. n doubles whenever the sample is full.
#[derive(Debug)]
pub struct RowSampler {
    sample: StringSample,
    stride: u32,
    /// Rows until the next one is taken.
    wait: u32,
}

/// Sampled rows, without values that are not compressed.
#[derive(Debug, Default)]
pub(super) struct StringSample {
    bytes: Vec<u8>,
    rows: Vec<RowPlace>,
}

/// Where a row of a sample is.
#[derive(Clone, Copy, Debug)]
struct RowPlace {
    /// Hash of class and owner, or of the row if it has no owner.
    owner: u64,
    start: u32,
    len: u32,
}

/// A row, and its owner by number.
#[derive(Clone, Copy, Debug)]
pub(super) struct SampledRow<'a> {
    pub(super) owner: u32,
    pub(super) bytes: &'a [u8],
}

impl Default for RowSampler {
    fn default() -> Self {
        Self { sample: StringSample::default(), stride: 1, wait: 0 }
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
        let start = self.sample.bytes.len();
        write_compressed_part(&mut self.sample.bytes, row)?;
        self.sample.add_row(owner, start);
        self.thin_if_full();
        Ok(())
    }

    fn thin_if_full(&mut self) {
        while self.sample.bytes.len() > SAMPLE_BYTES {
            self.thin();
        }
    }

    fn thin(&mut self) {
        self.sample.thin();
        self.stride = self.stride.saturating_mul(2);
    }

    /// Adds the sample of other rows of the table.
    pub fn append(&mut self, mut other: Self) {
        while self.stride < other.stride {
            self.thin();
        }
        while other.stride < self.stride {
            other.thin();
        }
        for row in &other.sample.rows {
            let start = self.sample.bytes.len();
            self.sample.bytes.extend_from_slice(other.sample.bytes_of(*row));
            self.sample.add_row(row.owner, start);
            self.thin_if_full();
        }
    }

    /// Its memory in bytes, about.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.sample.bytes.capacity() + self.sample.rows.capacity() * size_of::<RowPlace>()
    }

    /// The sample. `None` if it has too few owners for a dictionary.
    pub(super) fn into_sample(self) -> Option<StringSample> {
        let mut sample = self.sample;
        sample.rows.sort_unstable_by_key(|row| row.owner);
        let owners = sample.owners().count();
        (owners >= DICTIONARY_OWNERS_MIN as usize).then_some(sample)
    }
}

impl StringSample {
    /// Adds the row whose bytes begin at `start`.
    fn add_row(&mut self, owner: u64, start: usize) {
        self.rows.push(RowPlace { owner, start: start as u32, len: (self.bytes.len() - start) as u32 });
    }

    fn bytes_of(&self, row: RowPlace) -> &[u8] {
        &self.bytes[row.start as usize..][..row.len as usize]
    }

    /// Drops every second row.
    fn thin(&mut self) {
        let mut end = 0;
        let kept = self.rows.iter().step_by(2).map(|row| {
            let start = row.start as usize;
            self.bytes.copy_within(start..start + row.len as usize, end);
            let moved = RowPlace { start: end as u32, ..*row };
            end += row.len as usize;
            moved
        });
        self.rows = kept.collect();
        self.bytes.truncate(end);
    }

    /// The rows of each owner, if they are sorted.
    fn owners(&self) -> impl Iterator<Item = &[RowPlace]> {
        self.rows.chunk_by(|one, next| one.owner == next.owner)
    }

    /// The rows, the ones of an owner next to each other.
    pub(super) fn rows(&self) -> Vec<SampledRow<'_>> {
        let numbered = (0..).zip(self.owners());
        let rows = numbered.flat_map(|(owner, rows)| rows.iter().map(move |row| (owner, *row)));
        rows.map(|(owner, row)| SampledRow { owner, bytes: self.bytes_of(row) }).collect()
    }
}

fn hash_of(value: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Appends what zstd sees of a row in a leaf: the row without incompressible values, and the beginning of the next row.
/// Appends nothing if the row cannot be decoded.
fn write_compressed_part(out: &mut Vec<u8>, row: &[u8]) -> Result<(), WireError> {
    let start = out.len();
    let written = write_without_spans(out, row);
    out.truncate(if written.is_ok() { start + ROW_BYTES_MAX } else { start });
    out.extend_from_slice(&row[..row.len().min(NEXT_ROW_BYTES)]);
    written
}

fn write_without_spans(out: &mut Vec<u8>, row: &[u8]) -> Result<(), WireError> {
    let mut take = Take::new(row);
    let start = out.len();
    let mut from = 0;
    let mut cells = take.uv("row")? >> 1;
    while cells > 0 && out.len() - start < ROW_BYTES_MAX {
        let cell = Cell::read(&mut take)?;
        let end = row.len() - take.remaining();
        if let Cell::Bytes(bytes) = cell
            && looks_incompressible(bytes)
        {
            out.extend_from_slice(&row[from..end - bytes.len()]);
            from = end;
        }
        cells -= 1;
    }
    out.extend_from_slice(&row[from..]);
    Ok(())
}
