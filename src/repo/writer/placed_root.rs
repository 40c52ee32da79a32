//! The roots of trees, once it is decided whether they are in the manifest or in a pack.

use crate::base::limit::ROOT_INLINE_BYTES_MAX;
use crate::format::manifest::RootPlace;
use crate::format::node::Skeleton;
use crate::repo::error::WriteError;
use crate::repo::writer::locator::{Located, Locations, Locator};
use crate::repo::writer::setup::{BuiltTree, TreeCounts};

/// A root that is in the manifest or in a pack.
pub(super) struct PlacedRoot {
    pub(super) tree: u32,
    pub(super) top: TopNode,
    pub(super) counts: TreeCounts,
}

/// What the manifest contains of a tree.
pub(super) enum TopNode {
    /// The content of the root. It is complete, because with many trees their nodes would take much memory.
    Root { skeleton: Vec<u8>, ranges: Vec<u8> },
    /// The node above the root, which is in a pack that may still be open.
    Above(Skeleton),
}

impl PlacedRoot {
    /// The tree as the manifest contains it.
    /// Fails if a location is missing (`WriteError::Stopped`).
    pub(super) fn locate(self, locations: Locations<'_>) -> Result<BuiltTree, WriteError> {
        let Self { tree, top, counts } = self;
        match top {
            TopNode::Root { skeleton, ranges } => {
                Ok(BuiltTree { tree, place: RootPlace::Inline, skeleton, ranges, counts })
            }
            TopNode::Above(mut above) => {
                all_located(Locator::new(locations).locate_node(&mut above))?;
                let skeleton = above.content();
                Ok(BuiltTree { tree, place: RootPlace::Pack, skeleton, ranges: Vec::new(), counts })
            }
        }
    }
}

/// Checks that everything has a location.
/// Fails if a location is missing (`WriteError::Stopped`): another stage has failed before it sent the chunk.
pub(super) fn all_located(located: Located) -> Result<(), WriteError> {
    match located {
        Located::All => Ok(()),
        Located::NotYet => Err(WriteError::Stopped),
    }
}

/// The bytes of the roots that the manifest contains of one table.
#[derive(Default)]
pub(super) struct InlineRoots {
    table: u32,
    bytes: usize,
}

impl InlineRoots {
    /// Whether the manifest has room for the root of this tree, of this many bytes. Trees come in ascending order: first
    /// the rows of a table (2n), then its references (2n + 1).
    pub(super) fn has_room_for(&mut self, tree: u32, bytes: usize) -> bool {
        let table = tree / 2;
        if table != self.table {
            *self = Self { table, bytes: 0 };
        }
        let has_room = self.bytes + bytes <= ROOT_INLINE_BYTES_MAX;
        self.bytes += if has_room { bytes } else { 0 };
        has_room
    }
}

#[cfg(test)]
mod tests {
    use super::InlineRoots;
    use crate::base::limit::ROOT_INLINE_BYTES_MAX;

    #[test]
    fn the_inline_roots_of_one_table_share_a_limit() {
        let mut inline = InlineRoots::default();
        let most = ROOT_INLINE_BYTES_MAX;
        let placed =
            [(2, most), (3, 1), (4, most + 1), (5, most), (6, 300), (7, most - 300), (8, 300), (9, most - 299)];
        let is_inline = placed.map(|(tree, bytes)| inline.has_room_for(tree, bytes));
        assert_eq!(is_inline, [true, false, false, true, true, true, true, false]);
    }
}
