//! The ranges of a node: what divides the keys of its children (`docs/format.md` section 7).

use crate::base::id::ChunkId;
use crate::format::wire::{Put, Take, WireError};

const VERSION: u8 = 1;

/// Separators between the children of a node, computed by [`separator`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ranges {
    /// One fewer than there are children.
    pub separators: Vec<Vec<u8>>,
}

impl Ranges {
    /// The content of the ranges' frame.
    #[must_use]
    pub fn content(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.put_uv(self.separators.len() as u64);
        let mut before: &[u8] = &[];
        for separator in &self.separators {
            write_separator(&mut out, before, separator);
            before = separator;
        }
        out
    }

    /// Reads the content of a ranges' frame.
    /// Fails if it is malformed, or if its version is unknown.
    pub fn read(content: &[u8]) -> Result<Self, WireError> {
        Take::whole(content, |take| {
            take.version(VERSION, "ranges version")?;
            let count = take.count(2, "separators")?;
            Ok(Self { separators: read_separators(take, count)? })
        })
    }
}

/// Writes the number of bytes that a separator shares with the previous one, then the rest of it.
fn write_separator(out: &mut Vec<u8>, before: &[u8], separator: &[u8]) {
    let shared = shared_len(before, separator);
    out.put_uv(shared as u64);
    out.put_bytes(&separator[shared..]);
}

fn read_separators(take: &mut Take<'_>, count: usize) -> Result<Vec<Vec<u8>>, WireError> {
    let mut separators: Vec<Vec<u8>> = Vec::with_capacity(count);
    for _ in 0..count {
        let before = separators.last().map_or(&[][..], Vec::as_slice);
        separators.push(read_separator(take, before)?);
    }
    Ok(separators)
}

fn read_separator(take: &mut Take<'_>, before: &[u8]) -> Result<Vec<u8>, WireError> {
    let mut separator = read_shared(take, before)?.to_vec();
    separator.extend_from_slice(take.bytes("separator")?);
    Ok(separator)
}

/// Reads the bytes that a separator shares with the previous one.
fn read_shared<'b>(take: &mut Take<'_>, before: &'b [u8]) -> Result<&'b [u8], WireError> {
    let len: usize = take.uv_as("shared bytes of a separator")?;
    before.get(..len).ok_or(WireError::Invalid { what: "separator" })
}

/// Length of the longest common prefix.
fn shared_len(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// The id under which the ranges of a node are sealed and found: the bitwise complement of the node's id. So every role
/// can compute it, and every node has ranges of its own.
#[must_use]
pub fn ranges_id(node: &ChunkId) -> ChunkId {
    ChunkId::new(node.as_bytes().map(|byte| !byte))
}

/// The separator between two children: the shortest prefix of `first` that is greater than `last`, or `first` itself if
/// the two are equal.
#[must_use]
pub fn separator(last: &[u8], first: &[u8]) -> Vec<u8> {
    let shared = shared_len(last, first);
    first[..first.len().min(shared + 1)].to_vec()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Ranges, separator};

    proptest! {
        #![proptest_config(crate::base::property::config())]

        #[test]
        fn separators_divide_neighbouring_children(mut keys in proptest::collection::vec(proptest::collection::vec(0u8..3, 0..6), 2..12)) {
            keys.sort();
            let separators: Vec<_> = keys.windows(2).map(|pair| separator(&pair[0], &pair[1])).collect();
            for (pair, between) in keys.windows(2).zip(&separators) {
                prop_assert!(&pair[0] <= between && between <= &pair[1]);
            }
            let ranges = Ranges { separators };
            prop_assert_eq!(Ranges::read(&ranges.content()), Ok(ranges));
        }

        #[test]
        fn reading_arbitrary_ranges_does_not_panic(content: Vec<u8>) {
            let _ = Ranges::read(&content);
        }
    }
}
