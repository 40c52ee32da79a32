//! Maps the join keys of parent rows to owners. Kept in memory while it fits the budget, as 128-bit keyed
//! hashes of join keys and numbers of owners; beyond that it lies on disk, in partitions by hash.
//! Of parents with the same join key the one with the least class and owner counts, so that a map does not depend on
//! the order in which rows are read. Looked up through [`crate::sort::OwnerJoin`].

use std::collections::HashMap;
use std::collections::hash_map;
use std::hash::{BuildHasherDefault, DefaultHasher, Hash, Hasher};
use std::sync::Mutex;

use crate::base::env::{Env, random};
use crate::base::pipeline::lock;
use crate::format::key::Class;
use crate::sort::spill::{
    Extent, ExtentWriter, SpillError, SpillFile, SpillOptions, block_bytes, record_header, record_lengths,
};

/// Class and owner of a row: what its placement key begins with.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PlacementPrefix<'a> {
    pub class: Class,
    pub owner: &'a [u8],
}

impl<'a> PlacementPrefix<'a> {
    /// From its bytes: class, then owner.
    fn from_bytes(bytes: &'a [u8]) -> Option<Self> {
        let (&class, owner) = bytes.split_first()?;
        Some(Self { class: Class::from_byte(class).ok()?, owner })
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(self.class as u8);
        out.extend_from_slice(self.owner);
    }
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

    fn low(&self) -> u64 {
        u128::from_le_bytes(self.0) as u64
    }

    fn high(&self) -> u64 {
        (u128::from_le_bytes(self.0) >> 64) as u64
    }
}

impl Hash for Digest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.low());
    }
}

/// A digest needs no further hashing.
#[derive(Default)]
struct LowHalf(u64);

impl Hasher for LowHalf {
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

/// Numbers of owners.
type OwnerNumbers = HashMap<Digest, u32, BuildHasherDefault<LowHalf>>;

/// The bits of a key's last byte that are those of its digest, so that neighbours among keys are neighbours in a
/// table: rows in the order of their parents then find the entry in the processor's cache. Few enough that keys in
/// steps do not crowd.
const NEIGHBOUR_BITS: u8 = 15;

/// Makes digests: two SipHashes begun with throw-away keys, at a quarter of the cost of BLAKE3 on keys this short.
pub(super) struct Digester {
    low: DefaultHasher,
    high: DefaultHasher,
}

impl Digester {
    fn new(env: &dyn Env) -> Self {
        Self { low: keyed_hasher(env), high: keyed_hasher(env) }
    }

    pub(super) fn digest(&self, bytes: &[u8]) -> Digest {
        let near = u64::from(bytes.last().map_or(0, |last| last & NEIGHBOUR_BITS));
        let low = hash_without_neighbour_bits(&self.low, bytes);
        let high = hash_without_neighbour_bits(&self.high, bytes);
        // The table compares the uppermost bits first.
        let low = (low & !u64::from(NEIGHBOUR_BITS) | near) ^ near << (u64::BITS - 4);
        Digest((u128::from(high) << 64 | u128::from(low)).to_le_bytes())
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

/// Whether a map took an entry.
#[derive(PartialEq, Eq)]
pub(super) enum MapInsert {
    Stored,
    /// The entry would exceed the limit; it was not stored.
    Full,
}

/// The part of a map that is in memory.
pub(super) struct MemoryMap {
    limit_bytes: usize,
    /// By digest of the join key.
    by_join_key: OwnerNumbers,
    /// By digest of the placement prefix.
    by_prefix: OwnerNumbers,
    /// Placement prefix of each owner number, back to back, and where each ends.
    prefixes: Vec<u8>,
    prefix_ends: Vec<usize>,
}

/// However small the budget is, this many entries are taken, so that partitions need not be split for ever.
const ENTRIES_ALWAYS: usize = 16;

impl MemoryMap {
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
    pub(super) fn insert(&mut self, digester: &Digester, join_key: Digest, prefix: &[u8]) -> MapInsert {
        if self.by_join_key.get(&join_key).is_some_and(|&known| self.prefix(known) <= prefix) {
            return MapInsert::Stored;
        }
        if self.by_join_key.len() >= ENTRIES_ALWAYS && self.bytes_after(prefix.len()) > self.limit_bytes {
            return MapInsert::Full;
        }
        let number = self.owner_number(digester, prefix);
        self.by_join_key.insert(join_key, number);
        MapInsert::Stored
    }

    pub(super) fn get(&self, join_key: Digest) -> Option<PlacementPrefix<'_>> {
        let &number = self.by_join_key.get(&join_key)?;
        Some(PlacementPrefix::from_bytes(self.prefix(number)).expect("a map holds valid prefixes"))
    }

    fn prefix(&self, number: u32) -> &[u8] {
        let number = number as usize;
        let start = match number {
            0 => 0,
            _ => self.prefix_ends[number - 1],
        };
        &self.prefixes[start..self.prefix_ends[number]]
    }

    /// The number of an owner; a new one if the map does not have the owner yet.
    fn owner_number(&mut self, digester: &Digester, prefix: &[u8]) -> u32 {
        let next = self.prefix_ends.len() as u32;
        if next > 0 && self.prefix(next - 1) == prefix {
            return next - 1;
        }
        match self.by_prefix.entry(digester.digest(prefix)) {
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

    /// Most bytes that are allocated at any moment of one more insertion.
    fn bytes_after(&self, prefix_bytes: usize) -> usize {
        numbers_bytes_after(&self.by_join_key)
            + numbers_bytes_after(&self.by_prefix)
            + list_bytes_after(&self.prefixes, prefix_bytes)
            + list_bytes_after(&self.prefix_ends, 1)
    }
}

/// A hash table has buckets in a power of two, at most 7 of 8 in use, each with one byte of control; it holds the old
/// ones while it grows.
fn numbers_bytes_after(numbers: &OwnerNumbers) -> usize {
    let buckets = (numbers.capacity() * 8).div_ceil(7).next_power_of_two();
    let bytes = buckets * (size_of::<(Digest, u32)>() + 1);
    if numbers.len() < numbers.capacity() { bytes } else { bytes * 3 }
}

/// How much a list grows at once: by quarters, where doubling would take more than the budget allows.
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
        let rest = digest.high().checked_shr(level * self.bits).unwrap_or(0);
        (rest & ((1 << self.bits) - 1)) as usize
    }

    /// Whether [`BudgetShares::partition`] still tells digests apart at `level`.
    pub(super) fn can_split(&self, level: u32) -> bool {
        level * self.bits < u64::BITS
    }
}

/// Finishes all.
pub(super) fn finish_all(writers: Vec<ExtentWriter>) -> Result<Vec<Extent>, SpillError> {
    writers.into_iter().map(ExtentWriter::finish).collect()
}

enum UnfinishedEntries {
    Memory(MemoryMap),
    Partitions(Vec<ExtentWriter>),
}

/// Collects the parents' rows.
pub struct OwnerMapBuilder {
    options: SpillOptions,
    shares: BudgetShares,
    digester: Digester,
    entries: UnfinishedEntries,
}

impl OwnerMapBuilder {
    /// Allocates nothing yet.
    #[must_use]
    pub fn new(options: SpillOptions) -> Self {
        let shares = BudgetShares::of(&options);
        Self {
            digester: Digester::new(&*options.env),
            entries: UnfinishedEntries::Memory(MemoryMap::new(shares.table_bytes)),
            shares,
            options,
        }
    }

    /// Rows whose foreign key is `join_key` belong to the owner in `prefix` (class and owner), unless another parent
    /// has a lesser one.
    fn push(&mut self, join_key: &[u8], prefix: &[u8]) -> Result<(), SpillError> {
        let digest = self.digester.digest(join_key);
        if let UnfinishedEntries::Memory(map) = &mut self.entries {
            if map.insert(&self.digester, digest, prefix) == MapInsert::Stored {
                return Ok(());
            }
            let writers = spill_map(map, &self.shares, &self.options)?;
            self.entries = UnfinishedEntries::Partitions(writers);
        }
        match &mut self.entries {
            UnfinishedEntries::Memory(_) => Ok(()),
            UnfinishedEntries::Partitions(writers) => write_entry(writers, &self.shares, digest, prefix),
        }
    }

    /// The map is complete.
    pub fn finish(self) -> Result<OwnerMap, SpillError> {
        let entries = match self.entries {
            UnfinishedEntries::Memory(map) => MapEntries::Memory(map),
            UnfinishedEntries::Partitions(writers) => MapEntries::Partitions(finish_all(writers)?),
        };
        Ok(OwnerMap { options: self.options, shares: self.shares, digester: self.digester, entries })
    }
}

/// Writes a map that has become too large to partitions.
fn spill_map(map: &MemoryMap, shares: &BudgetShares, options: &SpillOptions) -> Result<Vec<ExtentWriter>, SpillError> {
    let mut writers = shares.writers(options)?;
    for (&digest, &number) in &map.by_join_key {
        write_entry(&mut writers, shares, digest, map.prefix(number))?;
    }
    Ok(writers)
}

fn write_entry(
    writers: &mut [ExtentWriter],
    shares: &BudgetShares,
    digest: Digest,
    prefix: &[u8],
) -> Result<(), SpillError> {
    writers[shares.partition(digest, 0)].write(digest.as_bytes(), prefix)
}

/// Bytes of entries that an [`OwnerMapWriter`] gathers.
const WRITER_BUFFER_BYTES: usize = 16 << 10;

/// Writes to a map that several threads build. It gathers entries, so that few of them need the lock.
pub struct OwnerMapWriter<'b> {
    builder: &'b Mutex<OwnerMapBuilder>,
    /// Records of join key and placement prefix. Their headers count the owner without its class.
    buffer: Vec<u8>,
}

impl<'b> OwnerMapWriter<'b> {
    /// A writer with an empty buffer.
    #[must_use]
    pub fn new(builder: &'b Mutex<OwnerMapBuilder>) -> Self {
        Self { builder, buffer: Vec::new() }
    }

    /// Rows whose foreign key is `join_key` belong to the owner in `prefix`, unless another parent has a lesser one.
    pub fn push(&mut self, join_key: &[u8], prefix: PlacementPrefix<'_>) -> Result<(), SpillError> {
        let header = record_header(join_key, prefix.owner)?;
        self.buffer.extend_from_slice(&header);
        self.buffer.extend_from_slice(join_key);
        prefix.write(&mut self.buffer);
        if self.buffer.len() >= WRITER_BUFFER_BYTES { self.flush() } else { Ok(()) }
    }

    /// Passes the buffer on; must be called at the end.
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

/// Owners by the join keys of one parent table; any number of [`crate::sort::OwnerJoin`]s may use it.
pub struct OwnerMap {
    pub(super) options: SpillOptions,
    pub(super) shares: BudgetShares,
    pub(super) digester: Digester,
    pub(super) entries: MapEntries,
}

/// Where a map's entries are.
pub(super) enum MapEntries {
    Memory(MemoryMap),
    /// Records of digest and placement prefix.
    Partitions(Vec<Extent>),
}

#[cfg(test)]
mod tests {
    use super::{Digester, MapInsert, MemoryMap};
    use crate::base::env::Seeded;

    #[test]
    fn memory_stays_below_the_limit() {
        let digester = Digester::new(&Seeded::new(1));
        for limit_bytes in [5_000, 100_000, 3_000_000] {
            let mut map = MemoryMap::new(limit_bytes);
            for n in 0u64.. {
                let prefix = [&[0x10][..], &(n / 5).to_be_bytes()].concat();
                if map.insert(&digester, digester.digest(&n.to_be_bytes()), &prefix) == MapInsert::Full {
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
    fn owners_are_kept_once() {
        let digester = Digester::new(&Seeded::new(1));
        let mut map = MemoryMap::new(1 << 20);
        for n in 0u64..1000 {
            assert!(
                map.insert(&digester, digester.digest(&n.to_be_bytes()), &[0x10, (n % 7) as u8]) == MapInsert::Stored
            );
        }
        assert_eq!((map.prefix_ends.len(), map.prefixes.len()), (7, 14));
    }
}
