//! Cuts streams into pieces (`docs/format.md` section 7). FastCDC proposes candidates, and a keyed hash of the bytes
//! before a candidate accepts or rejects it. Without the key, the lengths of pieces therefore reveal only whether
//! contents are equal. A cut does not depend on anything more than [`PIECE_BYTES_MAX`] after the start of its piece.

use fastcdc::v2020::{FastCDC, Normalization};

use crate::base::limit::{PIECE_BYTES_MAX, PIECE_BYTES_MIN, PIECE_BYTES_TARGET};

const CANDIDATE_BYTES_MIN: usize = 2 << 10;
const CANDIDATE_BYTES_TARGET: usize = 8 << 10;
const CANDIDATE_BYTES_MAX: usize = 64 << 10;
/// Bytes before a candidate that the keyed hash covers.
const WINDOW_BYTES: usize = 64;
/// One candidate in 32 is accepted below [`PIECE_BYTES_TARGET`], one in 2 from there on.
const ACCEPT_BELOW_TARGET: u64 = 1 << (64 - 5);
const ACCEPT_FROM_TARGET: u64 = 1 << (64 - 1);

const _: () = assert!(CANDIDATE_BYTES_MAX <= PIECE_BYTES_MAX && CANDIDATE_BYTES_MAX <= PIECE_BYTES_TARGET);

/// The pieces of one stream, in order. Concatenated, they are the stream. An empty stream has one empty piece.
pub struct StreamChunker<'a, H> {
    bytes: &'a [u8],
    candidates: FastCDC<'a>,
    boundary_hash: H,
    /// The newest candidate.
    candidate: usize,
    /// Where the next piece begins.
    cut: usize,
    state: ChunkerState,
}

/// Needed because an empty stream has one piece too.
#[derive(PartialEq, Eq)]
enum ChunkerState {
    /// No piece was returned yet.
    Fresh,
    /// A piece was returned.
    Returned,
}

impl<'a, H: Fn(&[u8]) -> u64> StreamChunker<'a, H> {
    /// `boundary_hash` is the keyed hash of at most 64 bytes.
    pub fn new(bytes: &'a [u8], boundary_hash: H) -> Self {
        let candidates = FastCDC::with_level_and_seed(
            bytes,
            CANDIDATE_BYTES_MIN,
            CANDIDATE_BYTES_TARGET,
            CANDIDATE_BYTES_MAX,
            Normalization::Level1,
            0,
        );
        Self { bytes, candidates, boundary_hash, candidate: 0, cut: 0, state: ChunkerState::Fresh }
    }

    fn accepts(&self, candidate: usize) -> bool {
        let distance = candidate - self.cut;
        if distance < PIECE_BYTES_MIN {
            return false;
        }
        let threshold = if distance < PIECE_BYTES_TARGET { ACCEPT_BELOW_TARGET } else { ACCEPT_FROM_TARGET };
        let window = &self.bytes[candidate.saturating_sub(WINDOW_BYTES)..candidate];
        (self.boundary_hash)(window) < threshold
    }

    /// The end of the piece that begins at the last cut.
    fn find_cut(&mut self) -> usize {
        let forced = self.bytes.len().min(self.cut + PIECE_BYTES_MAX);
        loop {
            if self.candidate >= forced && self.candidate > self.cut {
                return forced;
            }
            if self.candidate > self.cut && self.accepts(self.candidate) {
                return self.candidate;
            }
            match self.candidates.next() {
                Some(chunk) => self.candidate = chunk.offset + chunk.length,
                None => return forced,
            }
        }
    }
}

impl<'a, H: Fn(&[u8]) -> u64> Iterator for StreamChunker<'a, H> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.cut == self.bytes.len() && self.state == ChunkerState::Returned {
            return None;
        }
        let start = self.cut;
        self.cut = self.find_cut();
        self.state = ChunkerState::Returned;
        Some(&self.bytes[start..self.cut])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::StreamChunker;
    use crate::base::limit::{PIECE_BYTES_MAX, PIECE_BYTES_MIN};

    fn boundary_hash(bytes: &[u8]) -> u64 {
        let hash = blake3::keyed_hash(&[7; 32], bytes);
        u64::from_le_bytes(*hash.as_bytes().first_chunk().expect("32 bytes"))
    }

    fn pieces(bytes: &[u8]) -> Vec<&[u8]> {
        StreamChunker::new(bytes, boundary_hash).collect()
    }

    fn lengths(bytes: &[u8]) -> Vec<usize> {
        pieces(bytes).iter().map(|piece| piece.len()).collect()
    }

    /// Bytes without a pattern, the same on every machine.
    fn noise(seed: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
        bytes
    }

    /// Lines like in a dump.
    fn text(seed: u64, len: usize) -> Vec<u8> {
        let words = ["alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel"];
        let mut out = Vec::with_capacity(len + 80);
        let noise = noise(seed, len / 8);
        for (line, random) in noise.chunks_exact(4).enumerate() {
            let [a, b, c, d] = [random[0], random[1], random[2], random[3]];
            let word = |n: u8| words[usize::from(n % 8)];
            out.extend_from_slice(format!("{line}\t{}\t{}@{}.example\t{d}\n", word(a), word(b), word(c)).as_bytes());
        }
        assert!(out.len() >= len);
        out.truncate(len);
        out
    }

    #[test]
    fn cut_points_are_pinned() {
        assert_eq!(
            lengths(&noise(1, 1 << 20)),
            [70623, 72278, 70819, 100783, 82133, 70157, 105246, 83079, 46694, 30734, 95186, 68684, 77878, 72395, 1887]
        );
        assert_eq!(
            lengths(&text(1, 1 << 20)),
            [55688, 96052, 65555, 76595, 88645, 79392, 99568, 70500, 79004, 100981, 80849, 100350, 55397]
        );
    }

    #[test]
    fn empty_short_and_uniform_streams_are_cut() {
        assert_eq!(lengths(b""), [0]);
        assert_eq!(lengths(b"x"), [1]);
        let noise = noise(2, 16 << 10);
        assert_eq!(lengths(&noise), [16 << 10]);
        let zeros = lengths(&vec![0; 700_001]);
        assert!(zeros.iter().rev().skip(1).all(|&len| len == zeros[0]), "{zeros:?}");
    }

    #[test]
    fn cuts_depend_on_the_key() {
        let bytes = noise(3, 1 << 20);
        let other: Vec<usize> =
            StreamChunker::new(&bytes, |window| boundary_hash(window).rotate_left(32)).map(<[u8]>::len).collect();
        assert_ne!(lengths(&bytes), other);
        let never: Vec<usize> = StreamChunker::new(&bytes, |_| u64::MAX).map(<[u8]>::len).collect();
        assert_eq!(never, [256 << 10; 4]);
        let always = StreamChunker::new(&bytes, |_| 0).map(<[u8]>::len).collect::<Vec<_>>();
        assert!(always.iter().rev().skip(1).all(|len| (16 << 10..80 << 10).contains(len)), "{always:?}");
    }

    #[test]
    fn piece_sizes_match_the_format_document() {
        let lengths = lengths(&noise(4, 64 << 20));
        let mean = lengths.iter().sum::<usize>() as f64 / lengths.len() as f64;
        let variance = lengths.iter().map(|&len| (len as f64 - mean).powi(2)).sum::<f64>() / lengths.len() as f64;
        assert!((73_000.0..78_000.0).contains(&mean), "mean {mean}");
        assert!((20_000.0..24_000.0).contains(&variance.sqrt()), "sd {}", variance.sqrt());
    }

    static NOISE: LazyLock<Vec<u8>> = LazyLock::new(|| noise(5, 4 << 20));

    proptest! {
        #![proptest_config(crate::base::property::with_cases(24))]

        #[test]
        fn an_insertion_changes_few_pieces(at in 0usize..4 << 20, inserted in prop::collection::vec(any::<u8>(), 1..300)) {
            let edited = [&NOISE[..at], &inserted, &NOISE[at..]].concat();
            let known: HashSet<&[u8]> = pieces(&NOISE).into_iter().collect();
            let edited = pieces(&edited);
            let new: usize = edited.iter().filter(|piece| !known.contains(*piece)).map(|piece| piece.len()).sum();
            prop_assert!(new <= 640 << 10, "{} bytes in new pieces", new);
        }

        #[test]
        fn cuts_do_not_depend_on_distant_later_bytes(len in 0usize..4 << 20) {
            let mut start = 0;
            for (short, long) in pieces(&NOISE[..len]).into_iter().zip(pieces(&NOISE)) {
                if start + PIECE_BYTES_MAX >= len {
                    break;
                }
                prop_assert_eq!(short.len(), long.len());
                start += short.len();
            }
        }

        #[test]
        fn concatenated_pieces_are_the_stream(start in 0usize..1 << 20, len in 0usize..2 << 20) {
            let bytes = &NOISE[start..start + len];
            let pieces = pieces(bytes);
            prop_assert!(pieces.concat() == bytes);
            let (last, others) = pieces.split_last().expect("a piece");
            prop_assert!(last.len() <= PIECE_BYTES_MAX);
            prop_assert!(others.iter().all(|piece| (PIECE_BYTES_MIN..=PIECE_BYTES_MAX).contains(&piece.len())));
        }
    }
}
