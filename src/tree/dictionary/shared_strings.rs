//! Chooses the strings of a dictionary: byte strings that rows of many owners share (`docs/format.md` section 6).
//!
//! Every string of the result occurs, as a whole, in rows of at least [`DICTIONARY_OWNERS_MIN`] owners. So a dictionary
//! that outlives an erased owner has nothing that only that owner's rows had.

use std::collections::{BinaryHeap, HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Range;

use crate::base::limit::DICTIONARY_OWNERS_MIN;
use crate::tree::dictionary::row_sampler::SampledRow;

/// Lengths of the strings that are counted, ascending. A string can be shared only if its ends of the length before are.
const LENGTHS: [usize; 10] = [6, 8, 10, 12, 16, 20, 24, 32, 48, 64];
/// Length of the strings by which benefit is measured.
const GRAM: usize = LENGTHS[0];
/// Slots of the filter before the first count. A power of two.
const FILTER_SLOTS: usize = 1 << 20;

/// Hashes are their own hash.
#[derive(Default)]
struct HashIsKey(u64);

impl Hasher for HashIsKey {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

type ByHash<V> = HashMap<u64, V, BuildHasherDefault<HashIsKey>>;

/// The hash of a string. With a secret seed, nobody can choose rows whose strings collide.
fn string_hash(seed: u64, bytes: &[u8]) -> u64 {
    let mut hash = seed ^ bytes.len() as u64;
    for part in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..part.len()].copy_from_slice(part);
        hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash = (hash ^ hash >> 32).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        hash ^= hash >> 29;
    }
    hash
}

/// In how many places, and in rows of how many owners, a string occurs.
#[derive(Clone, Copy, Default)]
struct Occurrences {
    owners: u32,
    places: u32,
    /// The owner that was counted last. Owners come one after another.
    last_owner: u64,
}

impl Occurrences {
    fn count(&mut self, owner: u64) {
        self.places = self.places.saturating_add(1);
        if self.owners == 0 || self.last_owner != owner {
            self.owners += 1;
            self.last_owner = owner;
        }
    }

    fn are_shared(self) -> bool {
        self.owners >= DICTIONARY_OWNERS_MIN
    }
}

/// The shared strings of `rows`, at most `bytes_max` bytes, the most useful ones last. `rows` must be sorted by owner.
pub(super) fn shared_strings(rows: &[SampledRow], seed: u64, bytes_max: usize) -> Vec<u8> {
    let mut sample = Sample::new(rows, seed);
    sample.count_grams();
    for step in 1..LENGTHS.len() {
        sample.lengthen(step);
    }
    sample.select(bytes_max)
}

/// The longest shared string at each place of a sample.
struct Sample<'a> {
    rows: &'a [SampledRow],
    seed: u64,
    /// Per row and place: 0, or one more than the position in [`LENGTHS`] of the longest shared string.
    longest: Vec<Vec<u8>>,
    /// Places of each shared gram that no selected string covers yet.
    gains: ByHash<u32>,
}

impl<'a> Sample<'a> {
    fn new(rows: &'a [SampledRow], seed: u64) -> Self {
        let longest = rows.iter().map(|row| vec![0; row.bytes.len()]).collect();
        Self { rows, seed, longest, gains: ByHash::default() }
    }

    /// Marks the places of shared grams.
    fn count_grams(&mut self) {
        let filter = self.filter();
        let mut counts: ByHash<Occurrences> = ByHash::default();
        for row in self.rows {
            for gram in row.bytes.windows(GRAM) {
                let hash = string_hash(self.seed, gram);
                if filter[slot(hash)].are_shared() {
                    counts.entry(hash).or_default().count(row.owner);
                }
            }
        }
        counts.retain(|_, occurrences| occurrences.are_shared());
        self.gains = counts.into_iter().map(|(hash, occurrences)| (hash, occurrences.places)).collect();
        self.mark_grams();
    }

    /// Counts by part of the hash. No gram has more owners than its slot, so that most grams need no entry of their own.
    fn filter(&self) -> Vec<Occurrences> {
        let mut filter = vec![Occurrences::default(); FILTER_SLOTS];
        for row in self.rows {
            for gram in row.bytes.windows(GRAM) {
                filter[slot(string_hash(self.seed, gram))].count(row.owner);
            }
        }
        filter
    }

    fn mark_grams(&mut self) {
        for (row, longest) in self.rows.iter().zip(&mut self.longest) {
            for (gram, mark) in row.bytes.windows(GRAM).zip(longest) {
                *mark = u8::from(self.gains.contains_key(&string_hash(self.seed, gram)));
            }
        }
    }

    /// Marks the places where a string of the next length is shared.
    fn lengthen(&mut self, step: usize) {
        let mut counts: ByHash<Occurrences> = ByHash::default();
        for (row, longest) in self.rows.iter().zip(&self.longest) {
            for place in candidates(longest, step) {
                counts.entry(self.hash_at(row, place, step)).or_default().count(row.owner);
            }
        }
        let mut marks = std::mem::take(&mut self.longest);
        for (row, longest) in self.rows.iter().zip(&mut marks) {
            let places: Vec<usize> = candidates(longest, step).collect();
            for place in places {
                let is_shared = counts.get(&self.hash_at(row, place, step)).is_some_and(|found| found.are_shared());
                if is_shared {
                    longest[place] = step as u8 + 1;
                }
            }
        }
        self.longest = marks;
    }

    fn hash_at(&self, row: &SampledRow, place: usize, step: usize) -> u64 {
        string_hash(self.seed, &row.bytes[place..place + LENGTHS[step]])
    }

    /// Takes the strings that cover most, per byte, of what no other string covers.
    fn select(mut self, bytes_max: usize) -> Vec<u8> {
        let mut heap = self.all_strings();
        let mut chosen: Vec<&[u8]> = Vec::new();
        let mut bytes = 0;
        while let Some(Candidate { gain, string }) = heap.pop() {
            let now = self.gain(string);
            if now < gain {
                heap.extend((now > 0).then_some(Candidate { gain: now, string }));
                continue;
            }
            bytes += string.len();
            if bytes > bytes_max {
                break;
            }
            self.cover(string);
            chosen.push(string);
        }
        chosen.reverse();
        chosen.concat()
    }

    /// Every shared string that is in no longer one at the same place, once.
    fn all_strings(&self) -> BinaryHeap<Candidate<'a>> {
        let mut seen: HashSet<u64, BuildHasherDefault<HashIsKey>> = HashSet::default();
        let mut heap = BinaryHeap::new();
        for (row, longest) in self.rows.iter().zip(&self.longest) {
            for range in longest_ranges(longest) {
                let string = &row.bytes[range];
                if seen.insert(string_hash(self.seed, string)) {
                    heap.push(Candidate { gain: self.gain(string), string });
                }
            }
        }
        heap
    }

    /// Places that a string covers, per 1,024 of its bytes.
    fn gain(&self, string: &[u8]) -> u64 {
        let mut counted = Vec::with_capacity(string.len());
        let mut places = 0;
        for gram in string.windows(GRAM) {
            let hash = string_hash(self.seed, gram);
            if !counted.contains(&hash) {
                counted.push(hash);
                places += u64::from(self.gains.get(&hash).copied().unwrap_or_default());
            }
        }
        places * 1024 / string.len() as u64
    }

    fn cover(&mut self, string: &[u8]) {
        for gram in string.windows(GRAM) {
            if let Some(places) = self.gains.get_mut(&string_hash(self.seed, gram)) {
                *places = 0;
            }
        }
    }
}

fn slot(hash: u64) -> usize {
    hash as usize & (FILTER_SLOTS - 1)
}

/// The places where a string of this step can be shared, because both of its ends are.
fn candidates(longest: &[u8], step: usize) -> impl Iterator<Item = usize> + '_ {
    let apart = LENGTHS[step] - LENGTHS[step - 1];
    let end = longest.len().saturating_sub(apart);
    (0..end).filter(move |&place| longest[place] as usize == step && longest[place + apart] as usize >= step)
}

/// The ranges of the longest shared strings, without those inside of an earlier one.
fn longest_ranges(longest: &[u8]) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let mut covered = 0;
    for (place, &mark) in longest.iter().enumerate().filter(|(_, mark)| **mark > 0) {
        let end = place + LENGTHS[usize::from(mark) - 1];
        if end > covered {
            ranges.push(place..end);
            covered = end;
        }
    }
    ranges
}

/// A string that may be selected. Ordered by gain.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Candidate<'a> {
    gain: u64,
    string: &'a [u8],
}
