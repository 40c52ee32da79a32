//! Builds the nodes of a tree over its leaves, level by level (`docs/format.md` section 7).

use crate::base::frame::FrameType;
use crate::base::id::ChunkId;
use crate::base::limit::{FAN_OUT_MAX, FAN_OUT_MIN, FAN_OUT_TARGET};
use crate::format::node::{Child, Ranges, Skeleton, separator};

/// The keyed hashes that a tree is built with.
pub trait TreeKeys {
    /// Boundary hash of (level, placement key).
    fn boundary(&self, level: u8, key: &[u8]) -> u64;
    /// Chunk id of content of a type.
    fn chunk_id(&self, kind: FrameType, content: &[u8]) -> ChunkId;
}

/// A node, complete but for the places of its children.
#[derive(Debug)]
pub struct BuiltNode {
    pub id: ChunkId,
    /// Without packs and locations.
    pub skeleton: Skeleton,
    /// Content of the ranges.
    pub ranges: Vec<u8>,
}

#[derive(Debug, Default)]
struct TreeLevel {
    children: Vec<Child>,
    separators: Vec<Vec<u8>>,
    first_key: Vec<u8>,
    last_key: Vec<u8>,
}

/// Receives leaves in order; gives nodes as they are complete.
#[derive(Debug)]
pub struct TreeBuilder<K> {
    keys: K,
    levels: Vec<TreeLevel>,
    built: Vec<BuiltNode>,
}

impl<K: TreeKeys> TreeBuilder<K> {
    /// A tree without rows.
    pub fn new(keys: K) -> Self {
        Self { keys, levels: vec![TreeLevel::default()], built: Vec::new() }
    }

    /// The next leaf, with its first and last placement key.
    pub fn push(&mut self, leaf: Child, first_key: &[u8], last_key: &[u8]) {
        self.push_at(0, leaf, first_key, last_key);
    }

    /// Nodes that became complete since the last call.
    pub fn take_built(&mut self) -> Vec<BuiltNode> {
        std::mem::take(&mut self.built)
    }

    /// Completes the tree: the nodes that were still open, and the root.
    pub fn finish(mut self) -> (Vec<BuiltNode>, BuiltNode) {
        let mut at = 0;
        while at + 1 < self.levels.len() {
            if !self.levels[at].children.is_empty() {
                self.cut(at);
            }
            at += 1;
        }
        let root = std::mem::take(&mut self.levels[at]);
        let root = self.node(at, root.children, root.separators);
        (self.built, root)
    }

    fn push_at(&mut self, at: usize, child: Child, first_key: &[u8], last_key: &[u8]) {
        if self.levels.len() == at {
            self.levels.push(TreeLevel::default());
        }
        let level = &mut self.levels[at];
        if level.children.is_empty() {
            level.first_key = first_key.to_vec();
        } else {
            level.separators.push(separator(&level.last_key, first_key));
        }
        level.last_key.clear();
        level.last_key.extend_from_slice(last_key);
        level.children.push(child);
        if self.boundary(at) {
            self.cut(at);
        }
    }

    fn boundary(&self, at: usize) -> bool {
        let level = &self.levels[at];
        is_node_boundary(level.children.len(), || self.keys.boundary(at as u8 + 1, &level.last_key))
    }

    fn cut(&mut self, at: usize) {
        let level = std::mem::take(&mut self.levels[at]);
        let node = self.node(at, level.children, level.separators);
        let sum = |count: fn(&Child) -> u64| node.skeleton.children.iter().map(count).sum();
        let child = Child {
            id: node.id,
            rows: sum(|c| c.rows),
            bytes: sum(|c| c.bytes),
            owners: sum(|c| c.owners),
            leaves: sum(|c| c.leaves),
            streams: Vec::new(),
            location: None,
            ranges_location: None,
        };
        self.built.push(node);
        self.push_at(at + 1, child, &level.first_key, &level.last_key);
    }

    fn node(&self, at: usize, children: Vec<Child>, separators: Vec<Vec<u8>>) -> BuiltNode {
        let ranges = Ranges { separators }.content();
        let ranges_id = self.keys.chunk_id(FrameType::Ranges, &ranges);
        let skeleton = Skeleton { level: at as u8 + 1, ranges: ranges_id, children, packs: Vec::new() };
        BuiltNode { id: self.keys.chunk_id(FrameType::Node, &skeleton.hashed()), skeleton, ranges }
    }
}

/// Whether a node ends after its n-th child, `hash` being that of the child's last key on the node's level.
#[must_use]
pub fn is_node_boundary(children: usize, hash: impl FnOnce() -> u64) -> bool {
    if children < FAN_OUT_MIN {
        return false;
    }
    let all = 1u128 << 64;
    let target = FAN_OUT_TARGET as u128;
    let threshold = if children < FAN_OUT_TARGET { all / (4 * target) } else { all * 4 / target };
    children >= FAN_OUT_MAX || u128::from(hash()) < threshold
}
