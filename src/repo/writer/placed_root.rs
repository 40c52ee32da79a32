//! The roots of trees, once it is decided whether they are in the manifest or in a pack.

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
