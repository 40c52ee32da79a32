//! Makes a dictionary: strings that many owners share, and entropy tables for the leaves of the table.

use crate::format::codec::{Encoder, LEVEL};
use crate::format::dictionary::{Dictionary, dictionary_of};
use crate::tree::dictionary::row_sampler::RowSampler;
use crate::tree::dictionary::shared_strings::shared_strings;

/// Bytes of strings that are tried, ascending.
const SIZES: [usize; 3] = [2 << 10, 4 << 10, 8 << 10];
/// Fewer bytes of strings are not worth a dictionary.
const STRING_BYTES_MIN: usize = 128;
/// Room for the tables.
const TABLE_BYTES: usize = 256;

/// What a dictionary is made from.
pub struct Training<'a> {
    /// Rows of the whole table.
    pub rows: RowSampler,
    /// What zstd compresses of some leaves.
    pub leaves: &'a [Vec<u8>],
    /// Its number.
    pub number: u32,
    /// Random.
    pub seed: u64,
}

/// The dictionary that compresses the leaves best. `None` if too few owners share anything, or none helps.
#[must_use]
pub fn train(training: Training<'_>) -> Option<Dictionary> {
    let sample = training.rows.into_sample()?;
    let strings = shared_strings(&sample.rows(), training.seed, SIZES[SIZES.len() - 1]).concat();
    if strings.len() < STRING_BYTES_MIN {
        return None;
    }
    let tables = zstd::dict::from_samples(training.leaves, strings.len() + TABLE_BYTES).ok()?;
    let trial = Trial { leaves: training.leaves, strings: &strings, tables: &tables, number: training.number };
    let plain = trial.plain_bytes()?;
    let tried = SIZES.iter().filter_map(|size| trial.with_strings(*size));
    let best = tried.min_by_key(|tried| tried.bytes)?;
    (best.bytes < plain - plain / 20).then_some(best.dictionary)
}

/// A dictionary, and what the leaves take with it.
struct Tried {
    dictionary: Dictionary,
    bytes: usize,
}

struct Trial<'a> {
    leaves: &'a [Vec<u8>],
    /// The most useful ones are last.
    strings: &'a [u8],
    /// A dictionary with entropy tables for these leaves.
    tables: &'a [u8],
    number: u32,
}

impl Trial<'_> {
    /// The dictionary with about `size` bytes of strings. `None` if there are not many more than half as many.
    fn with_strings(&self, size: usize) -> Option<Tried> {
        if size > SIZES[0] && self.strings.len() * 2 <= size {
            return None;
        }
        let strings = &self.strings[self.strings.len().saturating_sub(size)..];
        let dictionary = Dictionary::read(dictionary_of(self.number, self.tables, strings)?).ok()?;
        let bytes = self.bytes_with(&dictionary)?;
        Some(Tried { dictionary, bytes })
    }

    fn bytes_with(&self, dictionary: &Dictionary) -> Option<usize> {
        let mut encoder = Encoder::new().ok()?;
        let mut bytes = 0;
        for leaf in self.judged() {
            bytes += encoder.encode_with(leaf, &[], dictionary).ok()?.1.len();
        }
        Some(bytes)
    }

    fn plain_bytes(&self) -> Option<usize> {
        let mut zstd = zstd::bulk::Compressor::new(LEVEL).ok()?;
        let mut bytes = 0;
        for leaf in self.judged() {
            bytes += zstd.compress(leaf).ok()?.len();
        }
        Some(bytes)
    }

    fn judged(&self) -> impl Iterator<Item = &[u8]> {
        self.leaves.iter().step_by(2).map(Vec::as_slice)
    }
}
