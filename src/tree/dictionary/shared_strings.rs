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
const FILTER_SLOTS: usize = 1 << 19;

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

/// The hash of a string of 4 bytes or more. With a secret seed, nobody can choose rows whose strings collide.
fn string_hash(seed: u64, bytes: &[u8]) -> u64 {
    let mut hash = seed ^ bytes.len() as u64;
    let (words, _) = bytes.as_chunks::<8>();
    for word in words {
        hash = mixed(hash, u64::from_le_bytes(*word));
    }
    mixed(hash, last_word(bytes))
}

/// The last 8 bytes. Of a shorter string, the first four and the last four.
fn last_word(bytes: &[u8]) -> u64 {
    let half = |half: Option<&[u8; 4]>| half.map_or(0, |half| u64::from(u32::from_le_bytes(*half)));
    match bytes.last_chunk() {
        Some(last) => u64::from_le_bytes(*last),
        None => half(bytes.first_chunk()) << 32 | half(bytes.last_chunk()),
    }
}

fn mixed(hash: u64, word: u64) -> u64 {
    let mut hash = (hash ^ word).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ hash >> 32).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ hash >> 29
}

/// In how many places, and in rows of how many owners, a string occurs.
#[derive(Clone, Copy, Default)]
struct Occurrences {
    owners: u32,
    places: u32,
    /// The owner that was counted last. Owners come one after another.
    last_owner: u32,
}

impl Occurrences {
    fn count(&mut self, owner: u32) {
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
pub(super) fn shared_strings(rows: &[SampledRow], seed: u64, bytes_max: usize) -> Vec<&[u8]> {
    let mut sample = Sample::new(rows, seed);
    sample.count_grams();
    for step in 1..LENGTHS.len() {
        sample.lengthen(step);
    }
    sample.select(bytes_max)
}

/// A row and its owner by number.
struct NumberedRow<'a> {
    owner: u32,
    bytes: &'a [u8],
}

fn numbered(rows: &[SampledRow]) -> Vec<NumberedRow<'_>> {
    let owners = (0..).zip(rows.chunk_by(|one, next| one.owner == next.owner));
    owners.flat_map(|(owner, rows)| rows.iter().map(move |row| NumberedRow { owner, bytes: &row.bytes })).collect()
}

/// The longest shared string at each place of a sample.
struct Sample<'a> {
    rows: Vec<NumberedRow<'a>>,
    seed: u64,
    /// Per row and place: 0, or one more than the position in [`LENGTHS`] of the longest shared string.
    longest: Vec<Vec<u8>>,
    /// Places of each shared gram that no selected string covers yet.
    gains: ByHash<u32>,
}

impl<'a> Sample<'a> {
    fn new(rows: &'a [SampledRow], seed: u64) -> Self {
        let longest = rows.iter().map(|row| vec![0; row.bytes.len()]).collect();
        Self { rows: numbered(rows), seed, longest, gains: ByHash::default() }
    }

    /// Marks the places of shared grams.
    fn count_grams(&mut self) {
        self.mark_possible();
        let mut counts: ByHash<Occurrences> = ByHash::default();
        for (row, marks) in self.rows.iter().zip(&self.longest) {
            for place in marked(marks) {
                counts.entry(self.hash_at(row, place, 0)).or_default().count(row.owner);
            }
        }
        counts.retain(|_, occurrences| occurrences.are_shared());
        self.gains = counts.into_iter().map(|(hash, occurrences)| (hash, occurrences.places)).collect();
        let mut longest = std::mem::take(&mut self.longest);
        for (row, marks) in self.rows.iter().zip(&mut longest) {
            for place in marked(marks).collect::<Vec<_>>() {
                marks[place] = u8::from(self.gains.contains_key(&self.hash_at(row, place, 0)));
            }
        }
        self.longest = longest;
    }

    /// Marks the places of grams that may be shared: no gram has more owners than all grams with this part of the hash.
    /// So most grams need no entry of their own.
    fn mark_possible(&mut self) {
        let mut filter = vec![Occurrences::default(); FILTER_SLOTS];
        for row in &self.rows {
            for gram in row.bytes.windows(GRAM) {
                filter[slot(string_hash(self.seed, gram))].count(row.owner);
            }
        }
        for (row, marks) in self.rows.iter().zip(&mut self.longest) {
            for (gram, mark) in row.bytes.windows(GRAM).zip(marks) {
                *mark = u8::from(filter[slot(string_hash(self.seed, gram))].are_shared());
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

    fn hash_at(&self, row: &NumberedRow<'_>, place: usize, step: usize) -> u64 {
        string_hash(self.seed, &row.bytes[place..place + LENGTHS[step]])
    }

    /// Takes the strings that cover most, per byte, of what no other string covers.
    fn select(mut self, bytes_max: usize) -> Vec<&'a [u8]> {
        let mut heap = self.all_strings();
        let mut chosen: Vec<&[u8]> = Vec::new();
        let mut bytes = 0;
        while let Some(SharedString { gain, string }) = heap.pop() {
            let now = self.gain(string);
            if now < gain {
                heap.extend((now > 0).then_some(SharedString { gain: now, string }));
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
        chosen
    }

    /// Every shared string that is in no longer one at the same place, once.
    fn all_strings(&self) -> BinaryHeap<SharedString<'a>> {
        let mut seen: HashSet<u64, BuildHasherDefault<HashIsKey>> = HashSet::default();
        let mut heap = BinaryHeap::new();
        for (row, longest) in self.rows.iter().zip(&self.longest) {
            for range in longest_ranges(longest) {
                let string: &'a [u8] = &row.bytes[range];
                if seen.insert(string_hash(self.seed, string)) {
                    heap.push(SharedString { gain: self.gain(string), string });
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

fn marked(marks: &[u8]) -> impl Iterator<Item = usize> + '_ {
    (0..marks.len()).filter(|&place| marks[place] > 0)
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
struct SharedString<'a> {
    gain: u64,
    string: &'a [u8],
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::shared_strings;
    use crate::base::limit::DICTIONARY_OWNERS_MIN;
    use crate::tree::dictionary::row_sampler::SampledRow;

    /// Words that all, half and a fifth of the owners use, and words of their own.
    fn row(owner: u64, word: u8, number: u32) -> SampledRow {
        let text = match word % 5 {
            0 => "everybody has this sentence in a row".to_owned(),
            1 => format!("half of them have word {}", owner % 2),
            2 => format!("a few have the phrase {}", owner % 7),
            3 => format!("only this owner's secret {}", owner.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            _ => format!("number {number} of all"),
        };
        SampledRow { owner, bytes: text.into_bytes() }
    }

    fn owners_with(rows: &[SampledRow], string: &[u8]) -> usize {
        let has = |row: &&SampledRow| row.bytes.windows(string.len()).any(|window| window == string);
        rows.iter().filter(has).map(|row| row.owner).collect::<HashSet<_>>().len()
    }

    #[test]
    fn common_sentences_are_found_and_the_most_common_are_last() {
        let mut rows: Vec<_> = (0..600).map(|n| row(n % 120, (n / 120) as u8, n as u32)).collect();
        rows.sort();
        let strings = shared_strings(&rows, 1, 4096);
        let all = strings.concat();
        assert!(all.windows(20).any(|window| window == b"everybody has this s"), "{strings:?}");
        assert!(!all.windows(6).any(|window| window == b"secret") || owners_with(&rows, b"secret") >= 50);
        let most = strings.iter().map(|string| owners_with(&rows, string)).max();
        assert_eq!(strings.last().map(|string| owners_with(&rows, string)), most);
    }

    #[test]
    fn nothing_is_shared_by_fewer_owners_than_the_limit() {
        let rows = |owners: u64| -> Vec<SampledRow> { (0..owners).map(|owner| row(owner, 0, 0)).collect() };
        let limit = u64::from(DICTIONARY_OWNERS_MIN);
        assert!(shared_strings(&rows(limit - 1), 1, 4096).is_empty());
        assert!(!shared_strings(&rows(limit), 1, 4096).is_empty());
        let many_of_one: Vec<SampledRow> = (0..5000).map(|_| row(1, 0, 0)).collect();
        assert!(shared_strings(&many_of_one, 1, 4096).is_empty());
    }

    proptest! {
        #![proptest_config(crate::base::property::with_cases(64))]

        #[test]
        fn every_string_occurs_in_rows_of_enough_owners(
            drawn in proptest::collection::vec((0_u64..90, 0_u8..5, 0_u32..40), 100..900),
            seed in any::<u64>(),
            bytes_max in 0_usize..5000,
        ) {
            let mut rows: Vec<SampledRow> = drawn.into_iter().map(|(owner, word, n)| row(owner, word, n)).collect();
            rows.sort();
            let strings = shared_strings(&rows, seed, bytes_max);
            prop_assert!(strings.iter().map(|string| string.len()).sum::<usize>() <= bytes_max);
            for string in strings {
                prop_assert!(owners_with(&rows, string) >= DICTIONARY_OWNERS_MIN as usize, "{string:?}");
            }
        }
    }
}
