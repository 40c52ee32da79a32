//! The index in memory: chunk id to location, 32 bytes per entry (`docs/format.md` section 8).
//!
//! Sorted runs, merged geometrically as a session adds to them, with a small map in front. Ids are truncated to 128
//! bits. They are keyed, so nobody without the key can construct a collision.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use thiserror::Error;

use crate::base::frame::FrameCounter;
use crate::base::id::{ChunkId, Epoch};
use crate::format::codec::Codec;
use crate::format::node::{FrameLocation, PackRef};
use crate::format::pack::PackContent;

const RECENT_MAX: usize = 16 << 10;
/// Limit on interpolation probes, and number of slots below which interpolation does not pay off.
const INTERPOLATIONS: usize = 8;
const NEAR: usize = 8;

/// A pack that contains chunks.
#[derive(Clone, Debug)]
pub struct IndexedPack {
    pub pack: PackRef,
    /// Size of the object in bytes.
    pub size: u64,
    pub content: PackContent,
    pub epoch: Epoch,
}

/// A location that exceeds a limit of the format. It could not be found again.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("frame {id} of {stored} bytes cannot be indexed")]
pub struct Unindexable {
    pub id: ChunkId,
    pub stored: u32,
}

#[derive(Clone, Copy)]
struct IndexSlot {
    id: [u8; 16],
    /// Pack ordinal << 8 | codec << 4 | session.
    pack: u32,
    offset: u32,
    /// Stored length << 8 | thread.
    stored: u32,
    counter: u32,
}

const _: () = assert!(size_of::<IndexSlot>() == 32);

impl IndexSlot {
    /// Fails if a part of the location does not fit.
    fn new(id: &ChunkId, location: &FrameLocation) -> Result<Self, Unindexable> {
        Self::of_parts(id, location).ok_or(Unindexable { id: *id, stored: location.stored })
    }

    fn of_parts(id: &ChunkId, location: &FrameLocation) -> Option<Self> {
        if location.session > 0xf {
            return None;
        }
        let seal = location.codec as u8 * 16 + location.session;
        Some(Self {
            id: short(id),
            pack: with_low_byte(location.pack, seal)?,
            offset: location.offset,
            stored: with_low_byte(location.stored, location.frame_counter.thread)?,
            counter: location.frame_counter.counter,
        })
    }

    fn location(&self) -> FrameLocation {
        let codec = Codec::from_byte((self.pack >> 4 & 0xf) as u8).expect("an entry was made from a codec");
        FrameLocation {
            pack: self.pack >> 8,
            offset: self.offset,
            stored: self.stored >> 8,
            codec,
            session: (self.pack & 0xf) as u8,
            frame_counter: FrameCounter { thread: self.stored as u8, counter: self.counter },
        }
    }
}

/// `high << 8 | low`. `None` if `high` has more than 24 bits.
fn with_low_byte(high: u32, low: u8) -> Option<u32> {
    high.checked_mul(1 << 8).map(|high| high | u32::from(low))
}

fn short(id: &ChunkId) -> [u8; 16] {
    *id.as_bytes().first_chunk().expect("20 bytes hold 16")
}

/// Ids are keyed hashes, so their first bytes are already a good hash.
#[derive(Default)]
pub(super) struct FirstBytes(u64);

impl Hasher for FirstBytes {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // A slice is hashed with its length, which carries no information here.
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    fn write_usize(&mut self, _length: usize) {}
}

/// Finds the slot of an id in a sorted run by interpolation. Ids are uniformly distributed, so a few probes suffice,
/// while a binary search would take a dozen and touch another page of memory with each.
fn find<'r>(run: &'r [IndexSlot], id: &[u8; 16]) -> Option<&'r IndexSlot> {
    let mut range = run;
    let mut low = 0;
    let mut high = u64::MAX;
    // Bounded, so that ids that are not uniformly distributed do not make it slow.
    for _ in 0..INTERPOLATIONS {
        if range.len() <= NEAR {
            break;
        }
        let at = estimate(head(id), low, high, range.len());
        let slot = &range[at];
        match slot.id.cmp(id) {
            Ordering::Equal => return Some(slot),
            Ordering::Less => {
                range = &range[at + 1..];
                low = head(&slot.id);
            }
            Ordering::Greater => {
                range = &range[..at];
                high = head(&slot.id);
            }
        }
    }
    let at = range.binary_search_by(|slot| slot.id.cmp(id)).ok()?;
    Some(&range[at])
}

fn head(id: &[u8; 16]) -> u64 {
    u64::from_be_bytes(*id.first_chunk().expect("16 bytes hold 8"))
}

/// Expected position of `head` among `len` uniformly distributed values from `low` to `high`.
fn estimate(head: u64, low: u64, high: u64, len: usize) -> usize {
    let above_low = u128::from(head.saturating_sub(low));
    let values = u128::from(high - low) + 1;
    let at = above_low * len as u128 / values;
    (at as usize).min(len - 1)
}

/// Maps chunks to locations. Their `pack` indexes [`Index::packs`].
#[derive(Default)]
pub struct Index {
    packs: Vec<IndexedPack>,
    runs: Vec<Vec<IndexSlot>>,
    /// Further locations of chunks that several packs have, in the order of ids and then of packs.
    copies: Vec<IndexSlot>,
    recent: HashMap<[u8; 16], IndexSlot, BuildHasherDefault<FirstBytes>>,
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Index({} packs, {} chunks)", self.packs.len(), self.len())
    }
}

impl Index {
    /// Adds a pack and returns its ordinal. There can be at most 2^24 packs (256 TiB if all are full).
    pub fn add_pack(&mut self, pack: IndexedPack) -> u32 {
        assert!(self.packs.len() < 1 << 24, "an index counts packs in 24 bits");
        self.packs.push(pack);
        (self.packs.len() - 1) as u32
    }

    /// The packs, by ordinal.
    #[must_use]
    pub fn packs(&self) -> &[IndexedPack] {
        &self.packs
    }

    /// Adds many entries at once. Of entries with equal ids, the one in the pack with the lowest ordinal wins.
    /// Fails, and adds nothing, if the ordinal of a pack or the stored length has more than 24 bits, or a session is
    /// above 15.
    pub fn load(&mut self, entries: impl Iterator<Item = (ChunkId, FrameLocation)>) -> Result<(), Unindexable> {
        let slots: Result<Vec<IndexSlot>, _> = entries.map(|(id, location)| IndexSlot::new(&id, &location)).collect();
        let mut run = slots?;
        run.sort_unstable_by_key(|entry| (entry.id, entry.pack));
        self.take_copies(&mut run);
        run.shrink_to_fit();
        self.push_run(run);
        Ok(())
    }

    /// Moves all but the first entry of each id to the copies.
    fn take_copies(&mut self, run: &mut Vec<IndexSlot>) {
        let copies = &mut self.copies;
        run.dedup_by(|next, first| {
            let is_copy = next.id == first.id;
            copies.extend(is_copy.then_some(*next));
            is_copy
        });
        copies.sort_unstable_by_key(|entry| (entry.id, entry.pack));
    }

    /// Adds an entry unless its id is already known.
    /// Fails if the ordinal of the pack or the stored length has more than 24 bits, or the session is above 15.
    pub fn insert(&mut self, id: &ChunkId, location: &FrameLocation) -> Result<(), Unindexable> {
        let slot = IndexSlot::new(id, location)?;
        self.recent.entry(slot.id).or_insert(slot);
        if self.recent.len() >= RECENT_MAX {
            self.empty_recent();
        }
        Ok(())
    }

    /// Turns the entries of the small map into a run.
    fn empty_recent(&mut self) {
        let mut run: Vec<IndexSlot> = self.recent.drain().map(|entry| entry.1).collect();
        run.sort_unstable_by_key(|entry| entry.id);
        self.push_run(run);
    }

    fn push_run(&mut self, run: Vec<IndexSlot>) {
        self.runs.push(run);
        while self.are_last_runs_alike() {
            self.merge_last_runs();
        }
    }

    /// Whether the newest run is more than half as long as the previous one.
    fn are_last_runs_alike(&self) -> bool {
        matches!(self.runs.as_slice(), [.., older, newer] if newer.len() * 2 > older.len())
    }

    fn merge_last_runs(&mut self) {
        let newer = self.runs.pop().expect("there are two");
        let older = self.runs.pop().expect("there are two");
        self.runs.push(merge(&older, &newer));
    }

    /// The location of a chunk.
    #[must_use]
    pub fn get(&self, id: &ChunkId) -> Option<FrameLocation> {
        let id = short(id);
        if let Some(entry) = self.recent.get(&id) {
            return Some(entry.location());
        }
        self.runs.iter().find_map(|run| find(run, &id)).map(IndexSlot::location)
    }

    /// All locations of a chunk, the best pack first. There is no limit: a thief could fill it with copies that
    /// do not open.
    pub fn all(&self, id: &ChunkId) -> impl Iterator<Item = FrameLocation> {
        let key = short(id);
        let start = self.copies.partition_point(|copy| copy.id < key);
        let copies = self.copies[start..].iter().take_while(move |copy| copy.id == key);
        self.get(id).into_iter().chain(copies.map(IndexSlot::location))
    }

    /// Number of chunks known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.recent.len() + self.runs.iter().map(Vec::len).sum::<usize>()
    }

    /// Whether no chunk is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Merges both runs. Of slots with equal ids, the older one wins.
fn merge(older: &[IndexSlot], newer: &[IndexSlot]) -> Vec<IndexSlot> {
    let mut merged = Vec::with_capacity(older.len() + newer.len());
    let mut newer = newer.iter().peekable();
    for old in older {
        while let Some(new) = newer.next_if(|new| new.id < old.id) {
            merged.push(*new);
        }
        newer.next_if(|new| new.id == old.id);
        merged.push(*old);
    }
    merged.extend(newer);
    merged
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::{Index, IndexSlot};
    use crate::base::frame::FrameCounter;
    use crate::base::id::ChunkId;
    use crate::format::codec::Codec;
    use crate::format::node::FrameLocation;

    fn id(n: u32) -> ChunkId {
        ChunkId::new(blake3::hash(&n.to_le_bytes()).as_bytes()[..20].try_into().expect("20 bytes"))
    }

    fn location(n: u32) -> FrameLocation {
        let frame_counter = FrameCounter { thread: (n % 256) as u8, counter: n };
        FrameLocation {
            pack: n % 1000,
            offset: n,
            stored: n % (1 << 24),
            codec: Codec::Split,
            session: (n % 16) as u8,
            frame_counter,
        }
    }

    /// Memory of the entries in bytes.
    fn entry_bytes(index: &Index) -> usize {
        index.runs.iter().map(|run| run.capacity() * size_of::<IndexSlot>()).sum()
    }

    #[test]
    fn ids_that_are_not_uniformly_distributed_are_found() {
        let mut index = Index::default();
        let odd =
            |n: u32| ChunkId::new(std::array::from_fn(|at| if at < 12 { 7 } else { (n >> (8 * (at % 4))) as u8 }));
        index.load((0..5000).map(|n| (odd(n * 2), location(n)))).expect("they fit");
        for n in 0..5000 {
            assert_eq!(index.get(&odd(n * 2)), Some(location(n)));
            assert_eq!(index.get(&odd(n * 2 + 1)), None);
        }
        for byte in [0, 255] {
            assert_eq!(index.get(&ChunkId::new([byte; 20])), None);
        }
    }

    #[test]
    fn a_location_that_does_not_fit_is_refused() {
        let mut index = Index::default();
        let longest = FrameLocation { stored: (1 << 24) - 1, pack: (1 << 24) - 1, session: 15, ..location(1) };
        assert_eq!(index.insert(&id(1), &longest), Ok(()));
        assert_eq!(index.get(&id(1)), Some(longest));
        for wrong in [
            FrameLocation { stored: 1 << 24, ..longest },
            FrameLocation { pack: 1 << 24, ..longest },
            FrameLocation { session: 16, ..longest },
        ] {
            let refused = Err(super::Unindexable { id: id(2), stored: wrong.stored });
            assert_eq!(index.insert(&id(2), &wrong), refused);
            assert_eq!(index.load([(id(2), wrong)].into_iter()), refused);
            assert_eq!(index.get(&id(2)), None);
        }
    }

    #[test]
    fn get_returns_the_first_location_inserted_for_an_id() {
        let mut index = Index::default();
        index.load((0..50_000).map(|n| (id(n), location(n)))).expect("they fit");
        (50_000..120_000).for_each(|n| index.insert(&id(n), &location(n)).expect("it fits"));
        let expected: HashMap<u32, FrameLocation> = (0..120_000).map(|n| (n, location(n))).collect();
        for (n, location) in expected {
            assert_eq!(index.get(&id(n)), Some(location));
        }
        assert_eq!(index.get(&id(120_001)), None);
        assert_eq!(index.len(), 120_000);
        assert!(entry_bytes(&index) <= 120_000 * 32);
        index.insert(&id(60_000), &location(1)).expect("it fits");
        index.load([(id(1), location(9))].into_iter()).expect("it fits");
        assert_eq!(index.get(&id(1)), Some(location(1)));
    }
}
