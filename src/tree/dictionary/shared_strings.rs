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
const FILTER_SLOTS: usize = 1 << 17;

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

/// How many owners have something.
#[derive(Clone, Copy, Default)]
struct OwnerCount {
    owners: u32,
    /// The owner that was counted last. Owners come one after another.
    last: u32,
}

impl OwnerCount {
    fn count(&mut self, owner: u32) {
        if self.owners == 0 || self.last != owner {
            self.owners += 1;
            self.last = owner;
        }
    }

    fn suffices(self) -> bool {
        self.owners >= DICTIONARY_OWNERS_MIN
    }
}

/// In how many places, and in rows of how many owners, a string occurs.
#[derive(Clone, Copy, Default)]
struct Occurrences {
    owners: OwnerCount,
    places: u32,
}

/// The strings at some places of a sample.
#[derive(Default)]
struct CountedStrings {
    numbers: ByHash<u32>,
    /// By number.
    strings: Vec<Occurrences>,
    /// The number of the string at each place, in the order of counting.
    at_places: Vec<u32>,
}

impl CountedStrings {
    fn count(&mut self, hash: u64, owner: u32) {
        let next = self.strings.len() as u32;
        let number = *self.numbers.entry(hash).or_insert(next);
        if number == next {
            self.strings.push(Occurrences::default());
        }
        let string = &mut self.strings[number as usize];
        string.owners.count(owner);
        string.places += 1;
        self.at_places.push(number);
    }

    /// Whether the string at each place is shared, in the order of counting.
    fn are_shared(&self) -> impl Iterator<Item = bool> {
        self.at_places.iter().map(|number| self.strings[*number as usize].owners.suffices())
    }

    /// Hash and number of places of each shared string.
    fn shared(&self) -> impl Iterator<Item = (u64, u32)> {
        let found = self.numbers.iter().map(|(hash, number)| (*hash, self.strings[*number as usize]));
        found.filter(|(_, string)| string.owners.suffices()).map(|(hash, string)| (hash, string.places))
    }
}

/// The shared strings of `rows`, at most `bytes_max` bytes, the most useful ones last. Rows of one owner must be next to
/// each other.
pub(super) fn shared_strings<'a>(rows: &'a [SampledRow<'a>], seed: u64, bytes_max: usize) -> Vec<&'a [u8]> {
    let mut sample = Sample::new(rows, seed);
    sample.count_grams();
    for step in 1..LENGTHS.len() {
        sample.lengthen(step);
    }
    sample.select(bytes_max)
}

/// The longest shared string at each place of a sample.
struct Sample<'a> {
    rows: &'a [SampledRow<'a>],
    seed: u64,
    /// Per row and place: 0, or one more than the position in [`LENGTHS`] of the longest shared string.
    longest: Vec<Vec<u8>>,
    /// Places of each shared gram that no selected string covers yet.
    gains: ByHash<u32>,
}

impl<'a> Sample<'a> {
    fn new(rows: &'a [SampledRow<'a>], seed: u64) -> Self {
        let longest = rows.iter().map(|row| vec![0; row.bytes.len()]).collect();
        Self { rows, seed, longest, gains: ByHash::default() }
    }

    /// Marks the places of shared grams.
    fn count_grams(&mut self) {
        self.mark_possible();
        let counted = self.count(0);
        self.gains = counted.shared().collect();
        let mut are_shared = counted.are_shared();
        for mark in self.longest.iter_mut().flatten().filter(|mark| **mark > 0) {
            *mark = u8::from(are_shared.next() == Some(true));
        }
    }

    /// Marks the places of grams that may be shared: no gram has more owners than all grams with this part of the hash.
    /// So most grams need no entry of their own.
    fn mark_possible(&mut self) {
        let mut filter = vec![OwnerCount::default(); FILTER_SLOTS];
        for row in self.rows {
            for gram in row.bytes.windows(GRAM) {
                filter[slot(string_hash(self.seed, gram))].count(row.owner);
            }
        }
        for (row, marks) in self.rows.iter().zip(&mut self.longest) {
            for (gram, mark) in row.bytes.windows(GRAM).zip(marks) {
                *mark = u8::from(filter[slot(string_hash(self.seed, gram))].suffices());
            }
        }
    }

    /// Marks the places where a string of the next length is shared.
    fn lengthen(&mut self, step: usize) {
        let counted = self.count(step);
        let mut are_shared = counted.are_shared();
        for longest in &mut self.longest {
            let places: Vec<usize> = candidates(longest, step).collect();
            for place in places {
                if are_shared.next() == Some(true) {
                    longest[place] = step as u8 + 1;
                }
            }
        }
    }

    /// Counts the strings at all places where one of this step can be shared.
    fn count(&self, step: usize) -> CountedStrings {
        let mut counted = CountedStrings::default();
        for (row, longest) in self.rows.iter().zip(&self.longest) {
            for place in candidates(longest, step) {
                counted.count(self.hash_at(row, place, step), row.owner);
            }
        }
        counted
    }

    fn hash_at(&self, row: &SampledRow<'_>, place: usize, step: usize) -> u64 {
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
                let string = &row.bytes[range];
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

/// The places where a string of this step can be shared: because both of its ends are, or, at step 0, because the filter
/// marked them.
fn candidates(longest: &[u8], step: usize) -> impl Iterator<Item = usize> + '_ {
    let ends = if step == 0 { 1 } else { step };
    let apart = LENGTHS[step] - LENGTHS[step.saturating_sub(1)];
    let end = longest.len().saturating_sub(apart);
    (0..end).filter(move |&place| longest[place] as usize == ends && longest[place + apart] as usize >= ends)
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

    #[derive(PartialEq, Eq, PartialOrd, Ord)]
    struct OwnedRow {
        owner: u32,
        bytes: Vec<u8>,
    }

    /// Words that all, half and a fifth of the owners use, and words of their own.
    fn row(owner: u32, word: u8, number: u32) -> OwnedRow {
        let text = match word % 5 {
            0 => "everybody has this sentence in a row".to_owned(),
            1 => format!("half of them have word {}", owner % 2),
            2 => format!("a few have the phrase {}", owner % 7),
            3 => format!("only this owner's secret {}", u64::from(owner).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            _ => format!("number {number} of all"),
        };
        OwnedRow { owner, bytes: text.into_bytes() }
    }

    fn sampled(rows: &mut [OwnedRow]) -> Vec<SampledRow<'_>> {
        rows.sort();
        rows.iter().map(|row| SampledRow { owner: row.owner, bytes: &row.bytes }).collect()
    }

    fn owners_with(rows: &[SampledRow], string: &[u8]) -> usize {
        let has = |row: &&SampledRow| row.bytes.windows(string.len()).any(|window| window == string);
        rows.iter().filter(has).map(|row| row.owner).collect::<HashSet<_>>().len()
    }

    #[test]
    fn common_sentences_are_found_and_the_most_common_are_last() {
        let mut rows: Vec<_> = (0..600).map(|n| row(n % 120, (n / 120) as u8, n)).collect();
        let rows = sampled(&mut rows);
        let strings = shared_strings(&rows, 1, 4096);
        let all = strings.concat();
        assert!(all.windows(20).any(|window| window == b"everybody has this s"), "{strings:?}");
        assert!(!all.windows(6).any(|window| window == b"secret") || owners_with(&rows, b"secret") >= 50);
        let most = strings.iter().map(|string| owners_with(&rows, string)).max();
        assert_eq!(strings.last().map(|string| owners_with(&rows, string)), most);
    }

    #[test]
    fn nothing_is_shared_by_fewer_owners_than_the_limit() {
        let are_found = |mut rows: Vec<OwnedRow>| !shared_strings(&sampled(&mut rows), 1, 4096).is_empty();
        assert!(!are_found((1..DICTIONARY_OWNERS_MIN).map(|owner| row(owner, 0, 0)).collect()));
        assert!(are_found((0..DICTIONARY_OWNERS_MIN).map(|owner| row(owner, 0, 0)).collect()));
        assert!(!are_found((0..5000).map(|_| row(1, 0, 0)).collect()));
    }

    proptest! {
        #![proptest_config(crate::base::property::with_cases(64))]

        #[test]
        fn every_string_occurs_in_rows_of_enough_owners(
            drawn in proptest::collection::vec((0_u32..90, 0_u8..5, 0_u32..40), 100..900),
            seed in any::<u64>(),
            bytes_max in 0_usize..5000,
        ) {
            let mut rows: Vec<OwnedRow> = drawn.into_iter().map(|(owner, word, n)| row(owner, word, n)).collect();
            let rows = sampled(&mut rows);
            let strings = shared_strings(&rows, seed, bytes_max);
            prop_assert!(strings.iter().map(|string| string.len()).sum::<usize>() <= bytes_max);
            for string in strings {
                prop_assert!(owners_with(&rows, string) >= DICTIONARY_OWNERS_MIN as usize, "{string:?}");
            }
        }
    }
}
