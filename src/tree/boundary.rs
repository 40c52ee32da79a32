//! Where leaves and nodes end (`docs/format.md` sections 6 and 7).

use crate::base::limit::{FAN_OUT_MAX, FAN_OUT_MIN, FAN_OUT_TARGET};

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

/// Whether a node ends after `children` children. `hash` is the boundary hash of the last child's last key on the
/// node's level.
#[must_use]
pub fn is_node_boundary(children: usize, hash: impl FnOnce() -> u64) -> bool {
    if children < FAN_OUT_MIN {
        return false;
    }
    children >= FAN_OUT_MAX || u128::from(hash()) < node_threshold(children)
}

/// Hashes below this threshold end a node.
fn node_threshold(children: usize) -> u128 {
    let target = FAN_OUT_TARGET as u128;
    if children < FAN_OUT_TARGET { HASHES / (4 * target) } else { HASHES * 4 / target }
}

#[cfg(test)]
mod tests {
    use super::is_node_boundary;

    #[test]
    fn nodes_end_by_their_number_of_children() {
        let children = |hash: u64| (1..).find(|&children| is_node_boundary(children, || hash));
        let below = |divisor: u64| u64::MAX / divisor;
        assert_eq!([0, below(2048), below(128), u64::MAX].map(children), [256, 256, 512, 1024].map(Some));
        assert_eq!(children(below(2048) + 1), Some(512));
        assert_eq!(children(below(128) + 1), Some(1024));
    }
}
