//! What must hold between a leaf and its node, its neighbours and the end of its tree. Does no I/O.

use crate::base::frame::FrameType;
use crate::base::id::ChunkId;
use crate::base::limit::LEAF_BYTES_MAX;
use crate::format::key::Class;
use crate::format::node::Child;
use crate::format::ranges::separator;
use crate::format::stream_lists::LeafStreams;
use crate::ops::verify::leaf::{LeafFacts, TreeRules};
use crate::tree::tree_builder::is_node_boundary;

/// How the nodes of a tree connect two neighbouring leaves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Junction {
    /// The separator between them, in the lowest node above both.
    pub separator: Vec<u8>,
    /// For each level, from 1 to the level of that node: the position of the first leaf's side among the children of
    /// its node, counted from 1.
    pub children: Vec<usize>,
}

impl LeafFacts {
    /// Number of owners of this leaf without an owner that continues from the previous leaf, `before`.
    #[must_use]
    fn owners_after(&self, before: Option<&Self>) -> u64 {
        let is_owned = self.first_owner.first() == Some(&(Class::Owned as u8));
        let goes_on = before.is_some_and(|before| is_owned && before.last_owner == self.first_owner);
        self.owners - u64::from(goes_on)
    }

    /// What is wrong if the number of owners in its node is not correct.
    #[must_use]
    pub fn owners_fault(&self, before: Option<&Self>, described: &Child) -> Option<&'static str> {
        (self.owners_after(before) != described.owners).then_some("a leaf with a wrong owner count")
    }

    /// Whether it has the rows, bytes and streams that its node describes.
    #[must_use]
    pub fn is_as_described(&self, described: &Child, content: &[u8], rules: &TreeRules<'_>) -> bool {
        self.rows == described.rows
            && content.len() as u64 == described.bytes
            && self.streams_entry(rules) == described.streams.map(|streams| (streams.id, streams.count))
    }

    /// The id of its stream references and their number, if it has any.
    fn streams_entry(&self, rules: &TreeRules<'_>) -> Option<(ChunkId, u64)> {
        if self.streams.is_empty() {
            return None;
        }
        let id = rules.ids.chunk_id(FrameType::Streams, &LeafStreams::new(&self.streams).hashed());
        Some((id, self.streams.len() as u64))
    }

    /// What is wrong between this leaf and the next one.
    #[must_use]
    pub fn fault_before(&self, next: &Self, junction: &Junction, rules: &TreeRules<'_>) -> Option<&'static str> {
        if self.last_key > next.first_key {
            return Some("leaves that are not in order");
        }
        if self.ends_too_early(next, rules) {
            return Some("a leaf that ends too early");
        }
        if junction.separator != separator(&self.last_key, &next.first_key) {
            return Some("a separator that does not match its leaves");
        }
        self.has_misplaced_end(junction, rules).then_some("a node that ends in the wrong place")
    }

    /// Whether the rows of `next` belong in this leaf.
    fn ends_too_early(&self, next: &Self, rules: &TreeRules<'_>) -> bool {
        let is_full = self.row_bytes.all + next.first_row_bytes > LEAF_BYTES_MAX;
        !is_full && (self.last_key == next.first_key || !rules.ends_leaf(self, next))
    }

    /// Whether a node above ends here although it must not, or continues although it must end.
    fn has_misplaced_end(&self, junction: &Junction, rules: &TreeRules<'_>) -> bool {
        let top = junction.children.len();
        let mut nodes = (1..).zip(&junction.children);
        nodes.any(|(level, children)| self.ends_node(level, *children, rules) != (level < top))
    }

    fn ends_node(&self, level: usize, children: usize, rules: &TreeRules<'_>) -> bool {
        is_node_boundary(level, children, || rules.ids.boundary_hash(level as u8, &self.last_key))
    }
}

/// What is wrong with the height of a tree whose root has this level and number of children.
#[must_use]
pub fn height_fault(level: u8, children: usize) -> Option<&'static str> {
    (level > 1 && children < 2).then_some("a tree of the wrong height")
}

#[cfg(test)]
mod tests {
    use super::{Junction, height_fault};
    use crate::base::id::ChunkId;
    use crate::crypto::ids::SourceIdKeys;
    use crate::format::node::Child;
    use crate::format::ranges::Ranges;
    use crate::ops::verify::leaf::tests::{cut, entry, facts, ids, joined, many, rules};
    use crate::ops::verify::leaf::{LeafFacts, LeafFault};
    use crate::tree::tree_builder::{TreeBuilder, TreeKeys};

    #[test]
    fn leaves_as_written_are_valid_and_joined_or_split_ones_are_not() {
        let ids = ids();
        let entry = entry();
        let rules = rules(&ids, &entry).with_leaf_target(64);
        let cuts = cut(&rules, &many(500));
        let all: Vec<LeafFacts> = cuts.iter().map(|cut| facts(&rules, &cut.content).expect("a leaf")).collect();
        assert!(all.len() > 20);
        for (pair, cuts) in all.windows(2).zip(cuts.windows(2)) {
            assert_eq!(pair[1].owners_after(Some(&pair[0])), cuts[1].owners);
            let separator = crate::format::ranges::separator(&pair[0].last_key, &pair[1].first_key);
            let junction = Junction { separator, children: vec![1] };
            assert_eq!(pair[0].fault_before(&pair[1], &junction, &rules), None);
            assert!(pair[1].fault_before(&pair[0], &junction, &rules).is_some(), "leaves in the wrong order");
            let wrong = Junction { separator: pair[1].last_key.clone(), ..junction };
            assert!(pair[0].fault_before(&pair[1], &wrong, &rules).is_some(), "another separator");
        }
        // Two leaves joined into one, and one leaf split in two.
        let rows = many(500);
        let two = (cuts[0].rows + cuts[1].rows) as usize;
        assert!(matches!(facts(&rules, &joined(&rows[..two])), Err(LeafFault::Wrong(_))));
        let first = cuts.iter().position(|cut| cut.rows > 3).expect("a longer leaf");
        let start: usize = cuts[..first].iter().map(|cut| cut.rows as usize).sum();
        let left = facts(&rules, &joined(&rows[start..start + 1])).expect("a leaf by itself");
        let right = facts(&rules, &joined(&rows[start + 1..start + 3])).expect("a leaf by itself");
        let separator = crate::format::ranges::separator(&left.last_key, &right.first_key);
        let fault = left.fault_before(&right, &Junction { separator, children: vec![1] }, &rules);
        assert_eq!(fault, Some("a leaf that ends too early"));
    }

    struct Keys<'a>(&'a SourceIdKeys);

    impl TreeKeys for Keys<'_> {
        fn boundary(&self, level: u8, key: &[u8]) -> u64 {
            self.0.boundary_hash(level, key)
        }

        fn chunk_id(&self, kind: crate::base::frame::FrameType, content: &[u8]) -> ChunkId {
            self.0.chunk_id(kind, content)
        }
    }

    /// Every junction of a tree of three levels is valid on its own level and wrong on any other.
    #[test]
    fn nodes_as_built_are_valid_on_their_own_level_only() {
        let ids = ids();
        let entry = entry();
        let rules = rules(&ids, &entry).with_leaf_target(4);
        let cuts = cut(&rules, &many(2500));
        let all: Vec<LeafFacts> = cuts.iter().map(|cut| facts(&rules, &cut.content).expect("a leaf")).collect();
        let mut builder = TreeBuilder::new(Keys(&ids));
        for cut in &cuts {
            let child = Child {
                id: ids.chunk_id(crate::base::frame::FrameType::Leaf, &cut.content),
                rows: cut.rows,
                bytes: cut.content.len() as u64,
                owners: cut.owners,
                leaves: 1,
                streams: None,
                location: None,
                ranges_location: None,
            };
            builder.push(child, &cut.first_key, &cut.last_key);
        }
        let (nodes, root) = builder.finish();
        assert!(nodes.len() > 2 && root.skeleton.level == 2);
        let separators = |ranges: &[u8]| Ranges::read(ranges).expect("ranges").separators;
        let above = separators(&root.ranges);
        let mut at = 0;
        for (n, node) in nodes.iter().enumerate() {
            let within = separators(&node.ranges);
            for (child, separator) in (1..).zip(within) {
                let junction = Junction { separator: separator.clone(), children: vec![child] };
                assert_eq!(all[at].fault_before(&all[at + 1], &junction, &rules), None);
                let higher = Junction { separator, children: vec![child, n + 1] };
                assert!(all[at].fault_before(&all[at + 1], &higher, &rules).is_some());
                at += 1;
            }
            if let Some(separator) = above.get(n) {
                let count = node.skeleton.children.len();
                let junction = Junction { separator: separator.clone(), children: vec![count, n + 1] };
                assert_eq!(all[at].fault_before(&all[at + 1], &junction, &rules), None);
                let lower = Junction { separator: separator.clone(), children: vec![count] };
                assert!(all[at].fault_before(&all[at + 1], &lower, &rules).is_some());
                at += 1;
            }
        }
        assert_eq!(at, all.len() - 1);
        assert_eq!(height_fault(2, nodes.len()), None);
        assert!(height_fault(2, 1).is_some() && height_fault(1, 1).is_none() && height_fault(1, 0).is_none());
    }
}
