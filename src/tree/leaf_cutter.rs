//! Cuts sorted rows into leaves (`docs/format.md` section 6). A row comes from the external sort as a [`RowPayload`].
//! The cuts depend only on the rows, never on what was stored before.

use crate::base::limit::LEAF_BYTES_MAX;
use crate::format::cell::{Cell, StreamRef};
use crate::format::key::Class;
use crate::format::leaf::{LeafBuilder, write_row};
use crate::format::wire::{Take, WireError};

/// Number of possible boundary hashes.
pub(super) const HASHES: u128 = 1 << 64;

const TAIL_LEN: usize = 3;
const PAYLOAD: &str = "spilled row";

/// Whose row comes next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NextOwner {
    /// The last row's owner: the same class and owner.
    Same,
    Other,
}

impl NextOwner {
    /// Compares class and owner of two neighbouring rows.
    #[must_use]
    pub fn between(last: &[u8], next: &[u8]) -> Self {
        if last == next { Self::Same } else { Self::Other }
    }
}

/// The bytes of a leaf's rows so far, as they are stored.
#[derive(Clone, Copy, Default, Debug)]
pub struct RowsSize {
    pub all: usize,
    pub last_row: usize,
    /// Bytes of the last owner's rows.
    pub last_owner: usize,
}

impl RowsSize {
    /// Counts a row of this owner.
    pub fn add(&mut self, row_bytes: usize, owner: NextOwner) {
        if owner == NextOwner::Other {
            self.last_owner = 0;
        }
        self.all += row_bytes;
        self.last_row = row_bytes;
        self.last_owner += row_bytes;
    }

    /// Whether a leaf of these rows ends before a row with another key. It always does after a wide row, and after an
    /// owner's last row if the owner has many bytes here: otherwise such leaves would end by counting, and one changed
    /// row would move many cuts. `hash` is the boundary hash of the last key.
    #[must_use]
    pub fn is_leaf_boundary(self, target: usize, next: NextOwner, hash: impl FnOnce() -> u64) -> bool {
        let (weight, certain) = match next {
            NextOwner::Same => (self.last_row, target / 2),
            NextOwner::Other => (self.last_owner, target / 4),
        };
        weight >= certain || (self.all >= target / 4 && u128::from(hash()) < self.threshold(weight, target))
    }

    /// Hashes below this threshold end a leaf. It grows with the bytes of the last row or owner, so that a leaf ends with
    /// the same probability per byte whether they are short or long.
    fn threshold(self, weight: usize, target: usize) -> u128 {
        let mean = if self.all < target { 4 * target } else { target / 4 };
        weight as u128 * (HASHES / mean as u128)
    }
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

    /// The row in a payload: its number of cells and the cells.
    #[must_use]
    pub fn row_of(payload: &[u8]) -> &[u8] {
        &payload[..payload.len().saturating_sub(TAIL_LEN)]
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
    target: usize,
    leaf: LeafBuilder,
    size: RowsSize,
    first_key: Vec<u8>,
    last_key: Vec<u8>,
    /// Length of the owner in `last_key`.
    last_owner_len: usize,
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
    /// `hash` is the keyed boundary hash of a placement key on level 0, the level of leaves. `target` is the bytes of
    /// rows from which the end of a leaf becomes likely: `LEAF_BYTES_TARGET`, except in tests.
    pub fn new(hash: H, target: usize) -> Self {
        Self {
            hash,
            target,
            leaf: LeafBuilder::default(),
            size: RowsSize::default(),
            first_key: Vec::new(),
            last_key: Vec::new(),
            last_owner_len: 0,
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
        let owner_len = usize::from(row.owner_len);
        let owner = self.owner_of(&pending.key[..=owner_len]);
        let cut = self.begin_row(pending, owner);
        self.count_rows(&pending.key[..=owner_len], pending.multiplicity)?;
        if row.streams == Streams::Some {
            collect_streams(row.cells, row.cell_count, &mut self.streams)?;
        }
        self.append(pending, owner_len, owner);
        Ok(cut)
    }

    /// Whether a row with this class and owner has the last row's owner.
    fn owner_of(&self, class_and_owner: &[u8]) -> NextOwner {
        match self.last_key.get(..=self.last_owner_len) {
            Some(last) => NextOwner::between(last, class_and_owner),
            None => NextOwner::Other,
        }
    }

    /// Returns the leaf if it ends before the encoded row.
    fn begin_row(&mut self, pending: &PendingRow, owner: NextOwner) -> Option<LeafCut> {
        let is_same_key = self.equal_keys > 0 && self.last_key == pending.key;
        let cut = self.ends_before(is_same_key, owner).then(|| self.cut());
        if !is_same_key {
            self.count_equal_keys();
        }
        self.equal_keys = self.equal_keys.saturating_add(pending.multiplicity);
        cut
    }

    /// Whether the leaf ends before the encoded row.
    fn ends_before(&self, is_same_key: bool, owner: NextOwner) -> bool {
        let is_full = self.leaf.row_count() > 0 && self.size.all + self.encoded.len() > LEAF_BYTES_MAX;
        let ends = || self.size.is_leaf_boundary(self.target, owner, || (self.hash)(&self.last_key));
        is_full || (!is_same_key && ends())
    }

    /// Adds the encoded row to the leaf.
    fn append(&mut self, pending: &PendingRow, owner_len: usize, owner: NextOwner) {
        let key = &pending.key;
        if self.leaf.row_count() == 0 {
            self.first_key.clone_from(key);
        }
        self.leaf.push(key[0], &key[1..=owner_len], &self.encoded);
        self.size.add(self.encoded.len(), owner);
        self.rows = self.rows.saturating_add(pending.multiplicity);
        self.last_key.clone_from(key);
        self.last_owner_len = owner_len;
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
        self.size = RowsSize::default();
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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::{HASHES, LeafCutter, NextOwner, RowPayload, RowsSize, Streams};
    use crate::base::limit::LEAF_BYTES_MAX;

    const TARGET: usize = 256;

    #[test]
    fn leaves_end_by_the_bytes_of_all_rows_and_of_the_last_row_or_owner() {
        let ends = |all: usize, last: usize, next: NextOwner, hash: u128| {
            let hash = u64::try_from(hash).expect("a hash");
            let (last_row, last_owner) = if next == NextOwner::Same { (last, all) } else { (1, last) };
            RowsSize { all, last_row, last_owner }.is_leaf_boundary(TARGET, next, || hash)
        };
        let last = HASHES - 1;
        for next in [NextOwner::Same, NextOwner::Other] {
            assert!(!ends(63, 63, next, 0) && ends(64, 1, next, 0));
            for bytes in [1, 10, 60] {
                let (rarely, likely) = (bytes as u128 * (HASHES / 1024), bytes as u128 * (HASHES / 64));
                assert!(ends(64, bytes, next, rarely - 1) && !ends(64, bytes, next, rarely));
                assert!(ends(255, bytes, next, rarely - 1) && !ends(255, bytes, next, rarely));
                assert!(ends(256, bytes, next, likely - 1) && !ends(256, bytes, next, likely));
            }
            assert!(ends(256, 64, next, last) && !ends(256, 63, next, last));
            assert!(ends(usize::MAX, usize::MAX, next, last));
        }
        assert!(ends(128, 128, NextOwner::Same, last) && !ends(255, 127, NextOwner::Same, last));
        assert!(ends(64, 64, NextOwner::Other, last) && !ends(255, 63, NextOwner::Other, last));
    }

    /// A row of a table that the tests make: its key, and the bytes of its cells.
    type TestRow = (u64, usize);

    /// Rows from whose keys the owner follows: so many neighbouring keys have one owner. 0 means that no row has an owner.
    #[derive(Clone, Copy)]
    struct KeysPerOwner(u64);

    impl KeysPerOwner {
        /// Class and owner.
        fn owner_of(self, key: u64) -> Vec<u8> {
            match key.checked_div(self.0) {
                Some(owner) => [&[0x10], owner.to_be_bytes().as_slice()].concat(),
                None => vec![0x20],
            }
        }
    }

    fn hash(of: u64, seed: u64) -> u64 {
        let hash = blake3::Hasher::new().update(&of.to_le_bytes()).update(&seed.to_le_bytes()).finalize();
        u64::from_le_bytes(*hash.as_bytes().first_chunk().expect("32 bytes hold 8"))
    }

    /// The contents of the leaves of these rows.
    fn leaves(rows: &[TestRow], owners: KeysPerOwner, seed: u64) -> Vec<Vec<u8>> {
        let key_hash = |key: &[u8]| hash(u64::from_be_bytes(*key.last_chunk().expect("a key")), seed);
        let mut cutter = LeafCutter::new(key_hash, TARGET);
        let mut cuts = Vec::new();
        for &(key, bytes) in rows {
            let owner = owners.owner_of(key);
            let placement = [owner.as_slice(), key.to_be_bytes().as_slice()].concat();
            let mut cells = key.to_be_bytes().to_vec();
            cells.resize(8 + bytes, 7);
            let mut payload = Vec::new();
            RowPayload { cell_count: 1, cells: &cells, owner_len: owner.len() as u16 - 1, streams: Streams::None }
                .write(&mut payload);
            cuts.extend(cutter.push(&placement, &payload).expect("a row"));
        }
        cuts.extend(cutter.finish().expect("rows").0);
        cuts.into_iter().map(|cut| cut.content).collect()
    }

    #[test]
    fn only_their_bytes_part_rows_with_equal_keys() {
        let rows: Vec<TestRow> = (0..1500).map(|bytes| (1, bytes)).chain([(2, 1)]).collect();
        let leaves = leaves(&rows, KeysPerOwner(0), 1);
        let full = LEAF_BYTES_MAX - 2000..LEAF_BYTES_MAX + 16;
        assert!(leaves.len() == 6 && leaves[..4].iter().all(|leaf| full.contains(&leaf.len())));
    }

    /// A change of one row.
    fn change(rows: &mut Vec<TestRow>, at: usize, seed: u64) {
        let (key, bytes) = rows[at];
        match seed % 4 {
            0 => rows.insert(at, (key - 1, bytes)),
            1 => drop(rows.remove(at)),
            2 => rows[at].1 = bytes * 3 + 1,
            _ => rows[at].1 = bytes / 3,
        }
    }

    proptest! {
        #![proptest_config(crate::base::property::with_cases(12))]

        /// The cuts after a changed row soon meet the cuts that were there before.
        #[test]
        fn a_changed_row_changes_few_leaves(
            seed: u64,
            shortest in 0usize..600,
            spread in 1usize..30,
            keys_per_owner in prop_oneof![Just(0), Just(2), 2u64..100],
        ) {
            let owners = KeysPerOwner(keys_per_owner);
            let width = |n: u64| shortest + (hash(n, !seed) as usize % spread) * (1 + shortest / 10);
            let rows: Vec<TestRow> = (1..1000).map(|n| (2 * n, width(n))).collect();
            let before = leaves(&rows, owners, seed);
            let known: HashSet<&Vec<u8>> = before.iter().collect();
            let mut changed = Vec::new();
            for at in (0..rows.len()).step_by(30) {
                let mut rows = rows.clone();
                change(&mut rows, at, seed.wrapping_add(at as u64 / 30));
                changed.push(leaves(&rows, owners, seed).iter().filter(|leaf| !known.contains(leaf)).count());
            }
            prop_assert!(changed.iter().sum::<usize>() <= 8 * changed.len(), "{:?} of {}", changed, before.len());
            prop_assert!(changed.iter().all(|&leaves| leaves <= 100), "{:?} of {}", changed, before.len());
        }

        /// What comes later has no influence on a leaf, and all leaves together have the rows.
        #[test]
        fn leaves_before_the_last_one_do_not_depend_on_later_rows(
            seed: u64,
            widths in prop::collection::vec(0usize..900, 1..200),
            keys_per_owner in 0u64..20,
        ) {
            let owners = KeysPerOwner(keys_per_owner);
            let rows: Vec<TestRow> = (1..).zip(widths).collect();
            let all = leaves(&rows, owners, seed);
            let some = leaves(&rows[..rows.len().div_ceil(2)], owners, seed);
            prop_assert_eq!(&some[..some.len() - 1], &all[..some.len() - 1]);
            prop_assert!(all.iter().all(|leaf| leaf.len() < LEAF_BYTES_MAX));
        }
    }
}
