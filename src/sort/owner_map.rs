//! Maps the join keys of parent rows to owners. A map within the budget stays in memory, as 128-bit keyed hashes of
//! join keys and numbers of owners. A larger map is on disk, in partitions by hash. If several parents have the same
//! join key, the one with the smallest class and owner counts, so that a map does not depend on the order in which
//! rows are read. [`crate::sort::OwnerJoin`] does the lookups.

use std::collections::HashMap;
use std::collections::hash_map;
use std::hash::{BuildHasherDefault, DefaultHasher, Hash, Hasher};
use std::sync::Mutex;

use crate::base::env::{Env, random};
use crate::base::pipeline::lock;
use crate::format::key::Class;
use crate::sort::spill::{Extent, ExtentWriter, SpillOptions, block_bytes, record_header, record_lengths};
use crate::sort::spill_error::SpillError;

/// Class and owner of a row: the beginning of its placement key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PlacementPrefix<'a> {
    pub class: Class,
    pub owner: &'a [u8],
}

impl<'a> PlacementPrefix<'a> {
    /// Parses the bytes: class, then owner.
    fn from_bytes(bytes: &'a [u8]) -> Option<Self> {
        let (&class, owner) = bytes.split_first()?;
        Some(Self { class: Class::from_byte(class).ok()?, owner })
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(self.class as u8);
        out.extend_from_slice(self.owner);
    }
}

/// A keyed hash that represents a join key or a placement prefix. Two keys of one run do not collide: the hash has 124
/// bits that are keyed at random.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct KeyHash([u8; 16]);

impl KeyHash {
    /// A hash from 16 bytes. `None` for any other length.
    pub(super) fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The 16 bytes of the hash.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn low(&self) -> u64 {
        u128::from_le_bytes(self.0) as u64
    }

    fn high(&self) -> u64 {
        (u128::from_le_bytes(self.0) >> 64) as u64
    }
}

impl Hash for KeyHash {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.low());
    }
}

/// A hasher for [`KeyHash`], which needs no further hashing.
#[derive(Default)]
struct LowHalf(u64);

impl Hasher for LowHalf {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("key hashes hash themselves as one u64");
    }

    fn write_u64(&mut self, half: u64) {
        self.0 = half;
    }
}

/// Numbers of owners, by key hash.
type OwnerNumbers = HashMap<KeyHash, u32, BuildHasherDefault<LowHalf>>;

/// The bits of a key's last byte that the hash keeps, so that neighbouring keys are neighbours in the hash table.
/// Rows in the order of their parents then find the entry in the CPU cache. So few bits that keys with a regular
/// spacing do not cluster.
const NEIGHBOUR_BITS: u8 = 15;

/// Computes hashes of keys: two SipHashes with random one-time keys, at a quarter of the cost of BLAKE3 for keys this short.
pub(super) struct KeyHasher {
    low: DefaultHasher,
    high: DefaultHasher,
}

impl KeyHasher {
    fn new(env: &dyn Env) -> Self {
        Self { low: keyed_hasher(env), high: keyed_hasher(env) }
    }

    /// The hash of a join key or placement prefix.
    pub(super) fn key_hash(&self, bytes: &[u8]) -> KeyHash {
        let near = u64::from(bytes.last().map_or(0, |last| last & NEIGHBOUR_BITS));
        let low = hash_without_neighbour_bits(&self.low, bytes);
        let high = hash_without_neighbour_bits(&self.high, bytes);
        // The hash table compares the topmost bits first.
        let low = (low & !u64::from(NEIGHBOUR_BITS) | near) ^ near << (u64::BITS - 4);
        KeyHash((u128::from(high) << 64 | u128::from(low)).to_le_bytes())
    }
}

fn keyed_hasher(env: &dyn Env) -> DefaultHasher {
    let mut hasher = DefaultHasher::new();
    hasher.write(&random::<16>(env));
    hasher
}

fn hash_without_neighbour_bits(keyed: &DefaultHasher, bytes: &[u8]) -> u64 {
    let mut hasher = keyed.clone();
    if let Some((last, rest)) = bytes.split_last() {
        hasher.write(rest);
        hasher.write_u8(last & !NEIGHBOUR_BITS);
    }
    hasher.finish()
}

/// Whether a map accepted an entry.
#[derive(PartialEq, Eq)]
pub(super) enum MapInsert {
    Stored,
    /// The entry would exceed the limit and was not stored.
    Full,
}

/// A map in memory.
pub(super) struct MemoryMap {
    limit_bytes: usize,
    /// By hash of the join key.
    by_join_key: OwnerNumbers,
    /// By hash of the placement prefix.
    by_prefix: OwnerNumbers,
    /// Placement prefixes in the order of owner numbers, concatenated. `prefix_ends` has the end of each.
    prefixes: Vec<u8>,
    prefix_ends: Vec<usize>,
}

/// A map accepts this many entries whatever the budget, so that splitting of partitions terminates.
const ENTRIES_ALWAYS: usize = 16;

impl MemoryMap {
    /// An empty map that accepts entries up to about `limit_bytes` of memory.
    pub(super) fn new(limit_bytes: usize) -> Self {
        Self {
            limit_bytes,
            by_join_key: OwnerNumbers::default(),
            by_prefix: OwnerNumbers::default(),
            prefixes: Vec::new(),
            prefix_ends: Vec::new(),
        }
    }

    /// `prefix` is class and owner.
    pub(super) fn insert(&mut self, key_hasher: &KeyHasher, join_key: KeyHash, prefix: &[u8]) -> MapInsert {
        if self.by_join_key.get(&join_key).is_some_and(|&known| self.prefix(known) <= prefix) {
            return MapInsert::Stored;
        }
        if self.by_join_key.len() >= ENTRIES_ALWAYS && self.bytes_after(prefix.len()) > self.limit_bytes {
            return MapInsert::Full;
        }
        let number = self.owner_number(key_hasher, prefix);
        self.by_join_key.insert(join_key, number);
        MapInsert::Stored
    }

    /// The placement prefix of the parent with this join key.
    pub(super) fn get(&self, join_key: KeyHash) -> Option<PlacementPrefix<'_>> {
        let &number = self.by_join_key.get(&join_key)?;
        Some(PlacementPrefix::from_bytes(self.prefix(number)).expect("a map contains valid prefixes"))
    }

    fn prefix(&self, number: u32) -> &[u8] {
        let number = number as usize;
        let start = match number {
            0 => 0,
            _ => self.prefix_ends[number - 1],
        };
        &self.prefixes[start..self.prefix_ends[number]]
    }

    /// The number of an owner. Assigns a new number if the map does not have the owner yet.
    fn owner_number(&mut self, key_hasher: &KeyHasher, prefix: &[u8]) -> u32 {
        let next = self.prefix_ends.len() as u32;
        if next > 0 && self.prefix(next - 1) == prefix {
            return next - 1;
        }
        match self.by_prefix.entry(key_hasher.key_hash(prefix)) {
            hash_map::Entry::Occupied(known) => return *known.get(),
            hash_map::Entry::Vacant(vacant) => vacant.insert(next),
        };
        self.push_prefix(prefix);
        next
    }

    fn push_prefix(&mut self, prefix: &[u8]) {
        grow(&mut self.prefixes, prefix.len());
        self.prefixes.extend_from_slice(prefix);
        grow(&mut self.prefix_ends, 1);
        self.prefix_ends.push(self.prefixes.len());
    }

    /// Most bytes allocated at any moment during one more insertion.
    fn bytes_after(&self, prefix_bytes: usize) -> usize {
        numbers_bytes_after(&self.by_join_key)
            + numbers_bytes_after(&self.by_prefix)
            + list_bytes_after(&self.prefixes, prefix_bytes)
            + list_bytes_after(&self.prefix_ends, 1)
    }
}

/// A hash table has a power of two of buckets, at most 7 of 8 in use, each with one control byte. While it grows, it
/// keeps the old buckets too.
fn numbers_bytes_after(numbers: &OwnerNumbers) -> usize {
    let buckets = (numbers.capacity() * 8).div_ceil(7).next_power_of_two();
    let bytes = buckets * (size_of::<(KeyHash, u32)>() + 1);
    if numbers.len() < numbers.capacity() { bytes } else { bytes * 3 }
}

/// How much a list grows at once: by a quarter, because doubling could exceed the budget.
fn growth<T>(list: &[T], more: usize) -> usize {
    (list.len() / 4).max(64).max(more)
}

fn grow<T>(list: &mut Vec<T>, more: usize) {
    if list.capacity() - list.len() < more {
        list.reserve_exact(growth(list, more));
    }
}

fn list_bytes_after<T>(list: &Vec<T>, more: usize) -> usize {
    let grows = list.capacity() - list.len() < more;
    let entries = list.capacity() + if grows { list.len() + growth(list, more) } else { 0 };
    entries * size_of::<T>()
}

/// Divides a budget: three quarters for a [`MemoryMap`], the rest for the writers of partitions.
pub(super) struct BudgetShares {
    pub(super) table_bytes: usize,
    /// Bits of the hash that select a partition.
    bits: u32,
}

impl BudgetShares {
    /// The shares of this budget.
    pub(super) fn of(options: &SpillOptions) -> Self {
        let writers = options.memory_bytes / 4 / block_bytes(options.memory_bytes);
        Self { table_bytes: options.memory_bytes / 4 * 3, bits: writers.max(1).ilog2().clamp(2, 8) }
    }

    /// One writer per partition, all in one spill file.
    /// Fails if the file cannot be created.
    pub(super) fn writers(&self, options: &SpillOptions) -> Result<Vec<ExtentWriter>, SpillError> {
        let file = options.files.file(options)?;
        Ok((0..1 << self.bits).map(|_| ExtentWriter::new(file.clone())).collect())
    }

    /// The partition of a hash after `level` splits.
    pub(super) fn partition(&self, key_hash: KeyHash, level: u32) -> usize {
        let rest = key_hash.high().checked_shr(level * self.bits).unwrap_or(0);
        (rest & ((1 << self.bits) - 1)) as usize
    }

    /// Whether [`BudgetShares::partition`] can still distinguish hashes at `level`.
    pub(super) fn can_split(&self, level: u32) -> bool {
        level * self.bits < u64::BITS
    }
}

/// Finishes all writers.
/// Fails if a record cannot be written.
pub(super) fn finish_all(writers: Vec<ExtentWriter>) -> Result<Vec<Extent>, SpillError> {
    writers.into_iter().map(ExtentWriter::finish).collect()
}

enum UnfinishedEntries {
    Memory(MemoryMap),
    Partitions(Vec<ExtentWriter>),
}

/// Collects the parent rows.
pub struct OwnerMapBuilder {
    options: SpillOptions,
    shares: BudgetShares,
    key_hasher: KeyHasher,
    entries: UnfinishedEntries,
}

impl OwnerMapBuilder {
    /// Allocates nothing yet.
    #[must_use]
    pub fn new(options: SpillOptions) -> Self {
        let shares = BudgetShares::of(&options);
        Self {
            key_hasher: KeyHasher::new(&*options.env),
            entries: UnfinishedEntries::Memory(MemoryMap::new(shares.table_bytes)),
            shares,
            options,
        }
    }

    /// Assigns rows whose foreign key is `join_key` to the owner in `prefix` (class and owner), unless another parent
    /// has a smaller one.
    fn push(&mut self, join_key: &[u8], prefix: &[u8]) -> Result<(), SpillError> {
        let key_hash = self.key_hasher.key_hash(join_key);
        if let UnfinishedEntries::Memory(map) = &mut self.entries {
            if map.insert(&self.key_hasher, key_hash, prefix) == MapInsert::Stored {
                return Ok(());
            }
            let writers = spill_map(map, &self.shares, &self.options)?;
            self.entries = UnfinishedEntries::Partitions(writers);
        }
        match &mut self.entries {
            UnfinishedEntries::Memory(_) => Ok(()),
            UnfinishedEntries::Partitions(writers) => write_entry(writers, &self.shares, key_hash, prefix),
        }
    }

    /// Completes the map.
    /// Fails if the map is on disk and an entry cannot be written.
    pub fn finish(self) -> Result<OwnerMap, SpillError> {
        let entries = match self.entries {
            UnfinishedEntries::Memory(map) => MapEntries::Memory(map),
            UnfinishedEntries::Partitions(writers) => MapEntries::Partitions(finish_all(writers)?),
        };
        Ok(OwnerMap { options: self.options, shares: self.shares, key_hasher: self.key_hasher, entries })
    }
}

/// Writes a map that has become too large to partitions on disk.
fn spill_map(map: &MemoryMap, shares: &BudgetShares, options: &SpillOptions) -> Result<Vec<ExtentWriter>, SpillError> {
    let mut writers = shares.writers(options)?;
    for (&key_hash, &number) in &map.by_join_key {
        write_entry(&mut writers, shares, key_hash, map.prefix(number))?;
    }
    Ok(writers)
}

fn write_entry(
    writers: &mut [ExtentWriter],
    shares: &BudgetShares,
    key_hash: KeyHash,
    prefix: &[u8],
) -> Result<(), SpillError> {
    writers[shares.partition(key_hash, 0)].write(key_hash.as_bytes(), prefix)
}

/// Bytes of entries that an [`OwnerMapWriter`] buffers.
const WRITER_BUFFER_BYTES: usize = 16 << 10;

/// Writes to a map that several threads build. Buffers entries, so that it rarely needs the lock.
pub struct OwnerMapWriter<'b> {
    builder: &'b Mutex<OwnerMapBuilder>,
    /// Records of join key and placement prefix. The length of the owner in their headers excludes the class.
    buffer: Vec<u8>,
}

impl<'b> OwnerMapWriter<'b> {
    /// A writer with an empty buffer.
    #[must_use]
    pub fn new(builder: &'b Mutex<OwnerMapBuilder>) -> Self {
        Self { builder, buffer: Vec::new() }
    }

    /// Assigns rows whose foreign key is `join_key` to the owner in `prefix`, unless another parent has a smaller one.
    /// Fails if the key or owner has 4 GiB or more, or with the error of [`OwnerMapWriter::flush`].
    pub fn push(&mut self, join_key: &[u8], prefix: PlacementPrefix<'_>) -> Result<(), SpillError> {
        let header = record_header(join_key, prefix.owner)?;
        self.buffer.extend_from_slice(&header);
        self.buffer.extend_from_slice(join_key);
        prefix.write(&mut self.buffer);
        if self.buffer.len() >= WRITER_BUFFER_BYTES { self.flush() } else { Ok(()) }
    }

    /// Passes the buffered entries to the builder. Must be called at the end.
    /// Fails if the map is too large for memory and cannot be spilled.
    pub fn flush(&mut self) -> Result<(), SpillError> {
        let mut builder = lock(self.builder);
        let mut rest = self.buffer.as_slice();
        while let Some((header, after)) = rest.split_first_chunk() {
            let (key_bytes, owner_bytes) = record_lengths(*header);
            let (join_key, after) = after.split_at(key_bytes);
            let (prefix, after) = after.split_at(1 + owner_bytes);
            builder.push(join_key, prefix)?;
            rest = after;
        }
        self.buffer.clear();
        Ok(())
    }
}

/// Owners by the join keys of one parent table. Several [`crate::sort::OwnerJoin`]s may use it.
pub struct OwnerMap {
    pub(super) options: SpillOptions,
    pub(super) shares: BudgetShares,
    pub(super) key_hasher: KeyHasher,
    pub(super) entries: MapEntries,
}

/// The entries of a map.
pub(super) enum MapEntries {
    Memory(MemoryMap),
    /// Records of hash and placement prefix.
    Partitions(Vec<Extent>),
}

#[cfg(test)]
mod tests {
    use super::{KeyHasher, MapInsert, MemoryMap};
    use crate::base::env::Seeded;

    #[test]
    fn memory_stays_below_the_limit() {
        let key_hasher = KeyHasher::new(&Seeded::new(1));
        for limit_bytes in [5_000, 100_000, 3_000_000] {
            let mut map = MemoryMap::new(limit_bytes);
            for n in 0u64.. {
                let prefix = [&[0x10][..], &(n / 5).to_be_bytes()].concat();
                if map.insert(&key_hasher, key_hasher.key_hash(&n.to_be_bytes()), &prefix) == MapInsert::Full {
                    assert!(n > limit_bytes as u64 / 200, "{n} entries in {limit_bytes} bytes");
                    break;
                }
                let allocated = (map.by_join_key.capacity() + map.by_prefix.capacity()) * 21
                    + map.prefixes.capacity()
                    + map.prefix_ends.capacity() * 8;
                assert!(allocated <= limit_bytes, "{allocated} of {limit_bytes}");
            }
        }
    }

    #[test]
    fn each_owner_is_stored_once() {
        let key_hasher = KeyHasher::new(&Seeded::new(1));
        let mut map = MemoryMap::new(1 << 20);
        for n in 0u64..1000 {
            assert!(
                map.insert(&key_hasher, key_hasher.key_hash(&n.to_be_bytes()), &[0x10, (n % 7) as u8])
                    == MapInsert::Stored
            );
        }
        assert_eq!((map.prefix_ends.len(), map.prefixes.len()), (7, 14));
    }
}
