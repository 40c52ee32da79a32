//! Where leaves and nodes end (`docs/format.md` sections 6 and 7).

use crate::base::limit::{FAN_OUT_MAX, FAN_OUT_MIN, FAN_OUT_TARGET, STREAMS_PER_WEIGHT};
use crate::format::node::Child;

/// Number of possible boundary hashes.
const HASHES: u128 = 1 << 64;

/// Whether a leaf of `rows` distinct rows ends before a row with another key. `hash` is the boundary hash of the last
/// key.
#[must_use]
pub fn is_leaf_boundary(rows: u64, rows_per_leaf: u64, hash: impl FnOnce() -> u64) -> bool {
    let target = rows_per_leaf.max(1);
    if rows == 0 || rows < target / 4 {
        return false;
    }
    target == 1 || u128::from(hash()) < leaf_threshold(rows, target)
}

/// Hashes below this threshold end a leaf. From the target on a cut is likely but never certain. Otherwise leaves of
/// few rows would be cut by counting, and one inserted row would move many cuts.
fn leaf_threshold(rows: u64, target: u64) -> u128 {
    let divisor = if rows < target { 4 * target } else { (target / 4).max(2) };
    HASHES / u128::from(divisor)
}

/// The children of a node so far, as the rule that ends nodes counts them: a leaf with many stream references counts as
/// several children, because a node repeats the references of its leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FanOut {
    pub children: usize,
    weight: usize,
    /// Weight of the last child.
    last: usize,
}

impl FanOut {
    /// All children of a node.
    pub fn of<'c>(children: impl IntoIterator<Item = &'c Child>) -> Self {
        let mut fan_out = Self::default();
        children.into_iter().for_each(|child| fan_out.add(child));
        fan_out
    }

    /// Adds the next child.
    pub fn add(&mut self, child: &Child) {
        self.children += 1;
        self.last = 1 + child.streams.len() / STREAMS_PER_WEIGHT;
        self.weight += self.last;
    }

    /// Whether the node ends after the last child. `hash` is the boundary hash of that child's last key on the node's
    /// level.
    #[must_use]
    pub fn ends_node(&self, hash: impl FnOnce() -> u64) -> bool {
        if self.weight < FAN_OUT_MIN {
            return false;
        }
        self.weight >= FAN_OUT_MAX || u128::from(hash()) < self.threshold()
    }

    /// Hashes below this threshold end the node. It grows with the last child, so that a node ends with the same
    /// probability per weight whatever its children are.
    fn threshold(&self) -> u128 {
        let target = FAN_OUT_TARGET as u128;
        let one = if self.weight < FAN_OUT_TARGET { HASHES / (4 * target) } else { HASHES * 4 / target };
        one * self.last as u128
    }

    /// Equal for nodes that end after the same hashes.
    #[must_use]
    pub fn summary(&self) -> [u8; 2] {
        let bounds = [FAN_OUT_MIN, FAN_OUT_TARGET, FAN_OUT_MAX];
        let range = bounds.iter().filter(|&&bound| self.weight >= bound).count();
        [range as u8, u8::try_from(self.last).unwrap_or(u8::MAX)]
    }
}

#[cfg(test)]
mod tests {
    use super::FanOut;
    use crate::base::id::ChunkId;
    use crate::base::limit::{FAN_OUT_MAX, STREAMS_PER_WEIGHT};
    use crate::format::cell::{StreamForm, StreamRef};
    use crate::format::node::{Child, StreamHint};

    fn leaf(references: usize) -> Child {
        let id = ChunkId::new([0; 20]);
        let stream = StreamRef { form: StreamForm::Piece, id, len: 600 };
        let streams = vec![StreamHint { stream, location: None }; references];
        Child { id, rows: 1, bytes: 1, owners: 1, leaves: 1, streams, location: None, ranges_location: None }
    }

    /// Children of a node whose leaves have this many references, if hashes are above `hash`.
    fn children(references: usize, hash: u64) -> usize {
        let leaf = leaf(references);
        let mut fan_out = FanOut::default();
        loop {
            fan_out.add(&leaf);
            if fan_out.ends_node(|| hash) {
                return fan_out.children;
            }
        }
    }

    #[test]
    fn leaves_with_many_references_make_small_nodes() {
        // Shortest, at the target, and longest.
        for (references, lengths) in
            [(0, [256, 512, 1024]), (31, [256, 512, 1024]), (32, [128, 256, 512]), (1990, [5, 9, 17]), (65_535, [1; 3])]
        {
            let weight = (1 + references / STREAMS_PER_WEIGHT) as u64;
            let hashes = [0, weight.saturating_mul(1 << 57) - 1, u64::MAX];
            assert_eq!(hashes.map(|hash| children(references, hash)), lengths, "{references} references");
        }
        for references in [0, 1, 100, 5000, 10_000] {
            let before_last = (children(references, u64::MAX) - 1) * references;
            assert!(before_last < FAN_OUT_MAX * STREAMS_PER_WEIGHT);
        }
    }

    #[test]
    fn the_threshold_grows_with_the_weight() {
        let ends = |references: usize, hash: u64| {
            let mut fan_out = FanOut::of(&vec![leaf(0); 300]);
            fan_out.add(&leaf(references));
            fan_out.ends_node(|| hash)
        };
        let one = (1u64 << 53) - 1;
        assert!(ends(0, one) && !ends(0, one + 1));
        assert!(ends(64, one * 3) && !ends(64, (one + 1) * 3));
    }
}
