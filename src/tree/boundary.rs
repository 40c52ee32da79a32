//! Where leaves and nodes end (`docs/format.md` sections 6 and 7).

use crate::base::limit::{FAN_OUT_OF_LEAVES, FAN_OUT_OF_NODES};

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

/// The number of children from which a node of this level is likely to end.
#[must_use]
pub fn fan_out(level: usize) -> usize {
    if level <= 1 { FAN_OUT_OF_LEAVES } else { FAN_OUT_OF_NODES }
}

/// Whether a node of this level ends after `children` children. `hash` is the boundary hash of the last child's last
/// key on the node's level.
#[must_use]
pub fn is_node_boundary(level: usize, children: usize, hash: impl FnOnce() -> u64) -> bool {
    let target = fan_out(level);
    if children < target / 2 {
        return false;
    }
    children >= 2 * target || u128::from(hash()) < node_threshold(children, target)
}

/// Hashes below this threshold end a node.
fn node_threshold(children: usize, target: usize) -> u128 {
    let divisor = if children < target { 4 * target } else { target / 4 };
    HASHES / divisor as u128
}

#[cfg(test)]
mod tests {
    use super::is_node_boundary;

    #[test]
    fn nodes_end_by_their_number_of_children() {
        let below = |divisor: u64| u64::MAX / divisor;
        for (level, target) in [(1, 32), (2, 256), (3, 256)] {
            let children = |hash: u64| (1..).find(|&children| is_node_boundary(level, children, || hash));
            let likely = below(target as u64 * 4);
            let possible = below(target as u64 / 4);
            let expected = [target / 2, target / 2, target, 2 * target].map(Some);
            assert_eq!([0, likely, possible, u64::MAX].map(children), expected);
            assert_eq!(children(likely + 1), Some(target));
            assert_eq!(children(possible + 1), Some(2 * target));
        }
    }
}
