//! Which parent row leads to which owner. Kept in memory while it fits the budget, as 128-bit keyed
//! hashes of join keys and numbers of owners; beyond that it lies on disk, in partitions by hash.
//! Of parents with the same join key the one with the least class and owner counts, so that a map does not depend on
//! the order in which rows are read. Looked up through [`crate::sort::OwnerJoin`].

use std::collections::HashMap;
use std::collections::hash_map;
use std::hash::{BuildHasherDefault, DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};

use crate::base::env::{Env, random};
use crate::format::key::Class;
use crate::sort::spill::{
    Extent, ExtentWriter, SpillError, SpillFile, SpillOptions, block_bytes, record_header, record_lengths,
};

/// Where a row belongs: the front of its placement key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Placement<'a> {
    pub class: Class,
    pub owner: &'a [u8],
}

/// Stands for a join key. Two keys of one run never agree in it: it has 124 bits that are keyed at random.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Digest([u8; 16]);

impl Digest {
    pub(super) fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn halves(&self) -> [u64; 2] {
        let both = u128::from_le_bytes(self.0);
        [both as u64, (both >> 64) as u64]
    }
}

impl Hash for Digest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.halves()[0]);
    }
}

/// A digest needs no further hashing.
#[derive(Default)]
struct FirstHalf(u64);

impl Hasher for FirstHalf {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("digests hash themselves as one u64");
    }

    fn write_u64(&mut self, half: u64) {
        self.0 = half;
    }
}

type Numbers = HashMap<Digest, u32, BuildHasherDefault<FirstHalf>>;

/// The bits of a key's last byte that are those of its digest, so that neighbours among keys are neighbours in a
/// table: rows in the order of their parents then find the entry in the processor's cache. Few enough that keys in
/// steps do not crowd.
const NEIGHBOURS: u8 = 15;

/// Makes digests: two SipHashes begun with throw-away keys, at a quarter of the cost of BLAKE3 on keys this short.
pub(super) struct Digester([DefaultHasher; 2]);

impl Digester {
    fn new(env: &dyn Env) -> Self {
        Self([(); 2].map(|()| {
            let mut hasher = DefaultHasher::new();
            hasher.write(&random::<16>(env));
            hasher
        }))
    }

    pub(super) fn digest(&self, bytes: &[u8]) -> Digest {
        let [low, high] = self.0.each_ref().map(|begun| {
            let mut hasher = begun.clone();
            if let Some((last, rest)) = bytes.split_last() {
                hasher.write(rest);
                hasher.write_u8(last & !NEIGHBOURS);
            }
            hasher.finish()
        });
        let near = u64::from(bytes.last().map_or(0, |last| last & NEIGHBOURS));
        // The table compares the uppermost bits first.
        let low = (low & !u64::from(NEIGHBOURS) | near) ^ near << (u64::BITS - 4);
        Digest((u128::from(high) << 64 | u128::from(low)).to_le_bytes())
    }
}

/// Whether an entry found room.
#[derive(PartialEq, Eq)]
pub(super) enum EntryFit {
    Taken,
    Full,
}

/// The map as far as it is in memory.
pub(super) struct MemoryMap {
    limit_bytes: usize,
    /// Join key -> owner.
    places: Numbers,
    /// Class and owner -> owner.
    owners: Numbers,
    /// Class and owner of each owner, back to back, and where each ends.
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

/// However small the budget is, this many entries are taken, so that partitions need not be split for ever.
const ENTRIES_ALWAYS: usize = 16;

impl MemoryMap {
    pub(super) fn new(limit_bytes: usize) -> Self {
        Self {
            limit_bytes,
            places: Numbers::default(),
            owners: Numbers::default(),
            bytes: Vec::new(),
            ends: Vec::new(),
        }
    }

    /// `place` is class and owner.
    pub(super) fn insert(&mut self, digester: &Digester, join_key: Digest, place: &[u8]) -> EntryFit {
        if self.places.get(&join_key).is_some_and(|&known| self.place(known) <= place) {
            return EntryFit::Taken;
        }
        if self.places.len() >= ENTRIES_ALWAYS && self.bytes_after(place.len()) > self.limit_bytes {
            return EntryFit::Full;
        }
        let owner = self.intern(digester, place);
        self.places.insert(join_key, owner);
        EntryFit::Taken
    }

    pub(super) fn get(&self, join_key: Digest) -> Option<Placement<'_>> {
        self.places.get(&join_key).map(|&owner| self.placement(owner))
    }

    fn placement(&self, owner: u32) -> Placement<'_> {
        as_placement(self.place(owner)).expect("a table holds valid placements")
    }

    fn place(&self, owner: u32) -> &[u8] {
        let owner = owner as usize;
        let start = owner.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start..self.ends[owner]]
    }

    fn intern(&mut self, digester: &Digester, place: &[u8]) -> u32 {
        let next = self.ends.len() as u32;
        if next > 0 && self.place(next - 1) == place {
            return next - 1;
        }
        match self.owners.entry(digester.digest(place)) {
            hash_map::Entry::Occupied(known) => *known.get(),
            hash_map::Entry::Vacant(vacant) => {
                vacant.insert(next);
                grow(&mut self.bytes, place.len());
                self.bytes.extend_from_slice(place);
                grow(&mut self.ends, 1);
                self.ends.push(self.bytes.len());
                next
            }
        }
    }

    /// Most bytes that are allocated at any moment of one more insertion.
    fn bytes_after(&self, place_bytes: usize) -> usize {
        numbers_bytes_after(&self.places)
            + numbers_bytes_after(&self.owners)
            + bytes_after(&self.bytes, place_bytes)
            + bytes_after(&self.ends, 1)
    }
}

/// A hash table has buckets in a power of two, at most 7 of 8 in use, each with one byte of control; it holds the old ones while it grows.
fn numbers_bytes_after(numbers: &Numbers) -> usize {
    let buckets = (numbers.capacity() * 8).div_ceil(7).next_power_of_two();
    let bytes = buckets * (size_of::<(Digest, u32)>() + 1);
    if numbers.len() < numbers.capacity() { bytes } else { bytes * 3 }
}

fn grown<T>(list: &[T], more: usize) -> usize {
    (list.len() / 4).max(64).max(more)
}

/// Makes room by quarters, where doubling would take more than the budget allows.
fn grow<T>(list: &mut Vec<T>, more: usize) {
    if list.capacity() - list.len() < more {
        list.reserve_exact(grown(list, more));
    }
}

fn bytes_after<T>(list: &Vec<T>, more: usize) -> usize {
    let grows = list.capacity() - list.len() < more;
    let entries = list.capacity() + if grows { list.len() + grown(list, more) } else { 0 };
    entries * size_of::<T>()
}

/// Class and owner, back to back.
fn as_placement(place: &[u8]) -> Option<Placement<'_>> {
    let (&class, owner) = place.split_first()?;
    Some(Placement { class: Class::from_byte(class).ok()?, owner })
}

/// How a budget is divided: three quarters for a [`MemoryMap`], the rest for what partitions are written through.
pub(super) struct BudgetShares {
    pub(super) table_bytes: usize,
    /// Bits of the digest that choose a partition.
    bits: u32,
}

impl BudgetShares {
    pub(super) fn of(options: &SpillOptions) -> Self {
        let writers = options.memory_bytes / 4 / block_bytes(options.memory_bytes);
        Self { table_bytes: options.memory_bytes / 4 * 3, bits: writers.max(1).ilog2().clamp(2, 8) }
    }

    /// One writer per partition.
    pub(super) fn writers(&self, options: &SpillOptions) -> Result<Vec<ExtentWriter>, SpillError> {
        let file = SpillFile::create(options)?;
        Ok((0..1 << self.bits).map(|_| ExtentWriter::new(file.clone())).collect())
    }

    /// Partition of a digest when everything was split `level` times before.
    pub(super) fn partition(&self, digest: Digest, level: u32) -> usize {
        let rest = digest.halves()[1].checked_shr(level * self.bits).unwrap_or(0);
        (rest & ((1 << self.bits) - 1)) as usize
    }

    /// Whether [`BudgetShares::partition`] still tells digests apart at `level`.
    pub(super) fn splits(&self, level: u32) -> bool {
        level * self.bits < u64::BITS
    }
}

/// Finishes all.
pub(super) fn finish_all(writers: Vec<ExtentWriter>) -> Result<Vec<Extent>, SpillError> {
    writers.into_iter().map(ExtentWriter::finish).collect()
}

enum Building {
    Memory(MemoryMap),
    Partitions(Vec<ExtentWriter>),
}

/// Collects the parents' rows.
pub struct OwnerMapBuilder {
    options: SpillOptions,
    shares: BudgetShares,
    digester: Digester,
    building: Building,
    place: Vec<u8>,
}

impl OwnerMapBuilder {
    /// Allocates nothing yet.
    #[must_use]
    pub fn new(options: SpillOptions) -> Self {
        let shares = BudgetShares::of(&options);
        Self {
            digester: Digester::new(&*options.env),
            building: Building::Memory(MemoryMap::new(shares.table_bytes)),
            shares,
            options,
            place: Vec::new(),
        }
    }

    /// Rows whose foreign key is `join_key` belong to `placement`, unless another parent says something less.
    pub fn push(&mut self, join_key: &[u8], placement: Placement<'_>) -> Result<(), SpillError> {
        let mut place = std::mem::take(&mut self.place);
        place.clear();
        place.push(placement.class as u8);
        place.extend_from_slice(placement.owner);
        let pushed = self.push_place(join_key, &place);
        self.place = place;
        pushed
    }

    /// `place` is class and owner.
    fn push_place(&mut self, join_key: &[u8], place: &[u8]) -> Result<(), SpillError> {
        let digest = self.digester.digest(join_key);
        if let Building::Memory(table) = &mut self.building {
            if table.insert(&self.digester, digest, place) == EntryFit::Taken {
                return Ok(());
            }
            let writers = self.spill_table()?;
            self.building = Building::Partitions(writers);
        }
        if let Building::Partitions(writers) = &mut self.building {
            write_to(writers, &self.shares, digest, place)?;
        }
        Ok(())
    }

    /// The map is complete.
    pub fn finish(self) -> Result<OwnerMap, SpillError> {
        let entries = match self.building {
            Building::Memory(table) => Entries::Memory(table),
            Building::Partitions(writers) => Entries::Partitions(finish_all(writers)?),
        };
        Ok(OwnerMap { options: self.options, shares: self.shares, digester: self.digester, entries })
    }

    fn spill_table(&self) -> Result<Vec<ExtentWriter>, SpillError> {
        let mut writers = self.shares.writers(&self.options)?;
        if let Building::Memory(table) = &self.building {
            for (&digest, &owner) in &table.places {
                write_to(&mut writers, &self.shares, digest, table.place(owner))?;
            }
        }
        Ok(writers)
    }
}

/// Bytes of entries that wait before they go into a shared map.
const FEED_BYTES: usize = 16 << 10;

/// One thread's way into a map that several threads build: few of its entries need the lock.
pub struct OwnerMapFeed<'b> {
    builder: &'b Mutex<OwnerMapBuilder>,
    /// Records of join key, class and owner, each of the two with its length.
    waiting: Vec<u8>,
}

impl<'b> OwnerMapFeed<'b> {
    /// Nothing waits yet.
    #[must_use]
    pub fn new(builder: &'b Mutex<OwnerMapBuilder>) -> Self {
        Self { builder, waiting: Vec::new() }
    }

    /// As [`OwnerMapBuilder::push`].
    pub fn push(&mut self, join_key: &[u8], placement: Placement<'_>) -> Result<(), SpillError> {
        let header = record_header(join_key, placement.owner)?;
        self.waiting.extend_from_slice(&header);
        self.waiting.extend_from_slice(join_key);
        self.waiting.push(placement.class as u8);
        self.waiting.extend_from_slice(placement.owner);
        if self.waiting.len() >= FEED_BYTES { self.flush() } else { Ok(()) }
    }

    /// Passes on what waits; must be called at the end.
    pub fn flush(&mut self) -> Result<(), SpillError> {
        let mut builder = self.builder.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rest = self.waiting.as_slice();
        while let Some((header, after)) = rest.split_first_chunk() {
            let (key, owner) = record_lengths(*header);
            let (join_key, after) = after.split_at(key);
            let (place, after) = after.split_at(1 + owner);
            builder.push_place(join_key, place)?;
            rest = after;
        }
        self.waiting.clear();
        Ok(())
    }
}

fn write_to(
    writers: &mut [ExtentWriter],
    shares: &BudgetShares,
    digest: Digest,
    place: &[u8],
) -> Result<(), SpillError> {
    writers[shares.partition(digest, 0)].write(digest.as_bytes(), place)
}

/// Owners by the join keys of one parent table; any number of [`crate::sort::OwnerJoin`]s may use it.
pub struct OwnerMap {
    pub(super) options: SpillOptions,
    pub(super) shares: BudgetShares,
    pub(super) digester: Digester,
    pub(super) entries: Entries,
}

/// Where a map's entries are.
pub(super) enum Entries {
    Memory(MemoryMap),
    /// Records of digest, class and owner.
    Partitions(Vec<Extent>),
}

#[cfg(test)]
mod tests {
    use super::{Digester, EntryFit, MemoryMap};
    use crate::base::env::Seeded;

    #[test]
    fn memory_stays_below_the_limit() {
        let digester = Digester::new(&Seeded::new(1));
        for limit_bytes in [5_000, 100_000, 3_000_000] {
            let mut table = MemoryMap::new(limit_bytes);
            for n in 0u64.. {
                let place = [&[0x10][..], &(n / 5).to_be_bytes()].concat();
                if table.insert(&digester, digester.digest(&n.to_be_bytes()), &place) == EntryFit::Full {
                    assert!(n > limit_bytes as u64 / 200, "{n} entries in {limit_bytes} bytes");
                    break;
                }
                let allocated = (table.places.capacity() + table.owners.capacity()) * 21
                    + table.bytes.capacity()
                    + table.ends.capacity() * 8;
                assert!(allocated <= limit_bytes, "{allocated} of {limit_bytes}");
            }
        }
    }

    #[test]
    fn owners_are_kept_once() {
        let digester = Digester::new(&Seeded::new(1));
        let mut table = MemoryMap::new(1 << 20);
        for n in 0u64..1000 {
            assert!(
                table.insert(&digester, digester.digest(&n.to_be_bytes()), &[0x10, (n % 7) as u8]) == EntryFit::Taken
            );
        }
        assert_eq!((table.ends.len(), table.bytes.len()), (7, 14));
    }
}
