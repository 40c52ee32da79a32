//! Builds the nodes above the leaves of a tree, level by level (`docs/format.md` section 7).

use crate::base::frame::FrameType;
use crate::base::id::ChunkId;
use crate::base::limit::{FAN_OUT_OF_LEAVES, FAN_OUT_OF_NODES};
use crate::format::node::{Child, Skeleton};
use crate::format::ranges::{Ranges, separator};
use crate::tree::leaf_cutter::HASHES;

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

/// The keyed hashes for building a tree.
pub trait TreeKeys {
    /// Boundary hash of (level, placement key).
    fn boundary(&self, level: u8, key: &[u8]) -> u64;
    /// Chunk id of content of type `kind`.
    fn chunk_id(&self, kind: FrameType, content: &[u8]) -> ChunkId;
}

/// A node, complete except for the locations of its children.
#[derive(Debug)]
pub struct BuiltNode {
    pub id: ChunkId,
    /// Without packs and locations.
    pub skeleton: Skeleton,
    /// Content of the ranges.
    pub ranges: Vec<u8>,
}

impl BuiltNode {
    /// A node one level above that has only this child. It is not part of the tree.
    #[must_use]
    pub fn above(&self) -> Skeleton {
        let ranges = ChunkId::new([0; ChunkId::LEN]);
        let level = self.skeleton.level.saturating_add(1);
        Skeleton { level, ranges, children: vec![child_of(self)], packs: Vec::new() }
    }
}

/// Children of the incomplete node of one level.
#[derive(Debug, Default)]
struct OpenNode {
    children: Vec<Child>,
    separators: Vec<Vec<u8>>,
    first_key: Vec<u8>,
    last_key: Vec<u8>,
    /// It ends before the next child. Without one it may be the root, so it waits.
    is_full: bool,
}

impl OpenNode {
    fn push(&mut self, child: Child, first_key: &[u8], last_key: &[u8]) {
        if self.children.is_empty() {
            self.first_key = first_key.to_vec();
        } else {
            self.separators.push(separator(&self.last_key, first_key));
        }
        self.last_key.clear();
        self.last_key.extend_from_slice(last_key);
        self.children.push(child);
    }
}

/// Receives leaves in order and returns nodes as they are completed.
#[derive(Debug)]
pub struct TreeBuilder<K> {
    keys: K,
    /// From the leaves' parents upwards.
    levels: Vec<OpenNode>,
    built: Vec<BuiltNode>,
}

impl<K: TreeKeys> TreeBuilder<K> {
    /// A tree without rows.
    pub fn new(keys: K) -> Self {
        Self { keys, levels: vec![OpenNode::default()], built: Vec::new() }
    }

    /// Adds the next leaf, with its first and last placement key.
    pub fn push(&mut self, leaf: Child, first_key: &[u8], last_key: &[u8]) {
        self.push_at(0, leaf, first_key, last_key);
    }

    /// Nodes completed since the last call.
    pub fn take_built(&mut self) -> Vec<BuiltNode> {
        std::mem::take(&mut self.built)
    }

    /// Completes the tree: returns the nodes that were still open, and the root.
    pub fn finish(mut self) -> (Vec<BuiltNode>, BuiltNode) {
        let mut index = 0;
        // Completing a node may add a level.
        while index + 1 < self.levels.len() {
            self.complete_node(index);
            index += 1;
        }
        let root = std::mem::take(&mut self.levels[index]);
        let root = self.build(index, root.children, root.separators);
        (self.built, root)
    }

    fn push_at(&mut self, index: usize, child: Child, first_key: &[u8], last_key: &[u8]) {
        if self.levels.len() == index {
            self.levels.push(OpenNode::default());
        }
        if self.levels[index].is_full {
            self.complete_node(index);
        }
        self.levels[index].push(child, first_key, last_key);
        self.levels[index].is_full = self.is_boundary(index);
    }

    fn is_boundary(&self, index: usize) -> bool {
        let node = &self.levels[index];
        is_node_boundary(index + 1, node.children.len(), || self.keys.boundary(index as u8 + 1, &node.last_key))
    }

    /// Turns the open node of a level into a child of the level above.
    fn complete_node(&mut self, index: usize) {
        let OpenNode { children, separators, first_key, last_key, .. } = std::mem::take(&mut self.levels[index]);
        let node = self.build(index, children, separators);
        let child = child_of(&node);
        self.built.push(node);
        self.push_at(index + 1, child, &first_key, &last_key);
    }

    fn build(&self, index: usize, children: Vec<Child>, separators: Vec<Vec<u8>>) -> BuiltNode {
        let ranges = Ranges { separators }.content();
        let ranges_id = self.keys.chunk_id(FrameType::Ranges, &ranges);
        let skeleton = Skeleton { level: index as u8 + 1, ranges: ranges_id, children, packs: Vec::new() };
        BuiltNode { id: self.keys.chunk_id(FrameType::Node, &skeleton.hashed()), skeleton, ranges }
    }
}

/// The entry for a node in its parent.
fn child_of(node: &BuiltNode) -> Child {
    let mut child = Child {
        id: node.id,
        rows: 0,
        bytes: 0,
        owners: 0,
        leaves: 0,
        streams: None,
        location: None,
        ranges_location: None,
    };
    for below in &node.skeleton.children {
        child.rows += below.rows;
        child.bytes += below.bytes;
        child.owners += below.owners;
        child.leaves += below.leaves;
    }
    child
}

#[cfg(test)]
mod tests {
    use super::{TreeBuilder, TreeKeys, is_node_boundary};
    use crate::base::frame::FrameType;
    use crate::base::id::ChunkId;
    use crate::base::limit::{FAN_OUT_OF_LEAVES, FAN_OUT_OF_NODES};
    use crate::format::node::Child;

    /// Keys with which every node ends as early as it can.
    struct EarlyKeys;

    impl TreeKeys for EarlyKeys {
        fn boundary(&self, _level: u8, _key: &[u8]) -> u64 {
            0
        }

        fn chunk_id(&self, kind: FrameType, content: &[u8]) -> ChunkId {
            let hash = blake3::Hasher::new().update(&[kind.byte()]).update(content).finalize();
            ChunkId::new(*hash.as_bytes().first_chunk().expect("32 bytes hold 20"))
        }
    }

    #[test]
    fn a_root_above_nodes_has_two_children_at_least() {
        for leaves in [1, FAN_OUT_OF_LEAVES / 2, FAN_OUT_OF_LEAVES, FAN_OUT_OF_LEAVES / 2 * (FAN_OUT_OF_NODES / 2)] {
            let mut builder = TreeBuilder::new(EarlyKeys);
            for key in 0..leaves as u32 {
                let (location, streams) = (None, None);
                let id = EarlyKeys.chunk_id(FrameType::Leaf, &key.to_be_bytes());
                let leaf =
                    Child { id, rows: 1, bytes: 1, owners: 0, leaves: 1, streams, location, ranges_location: None };
                builder.push(leaf, &key.to_be_bytes(), &key.to_be_bytes());
            }
            let (nodes, root) = builder.finish();
            let below: usize = nodes.iter().filter(|node| node.skeleton.level + 1 == root.skeleton.level).count();
            assert!(root.skeleton.level == 1 || below > 1, "{leaves} leaves");
            assert_eq!(root.skeleton.children.iter().map(|child| child.rows).sum::<u64>(), leaves as u64);
        }
    }

    #[test]
    fn nodes_end_by_their_number_of_children() {
        let below = |divisor: u64| u64::MAX / divisor;
        for (level, target) in [(1, FAN_OUT_OF_LEAVES), (2, FAN_OUT_OF_NODES), (3, FAN_OUT_OF_NODES)] {
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
