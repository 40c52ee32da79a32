//! The roots of trees, once it is decided whether they are in the manifest or in a pack.

use crate::format::manifest::RootPlace;
use crate::format::node::Skeleton;
use crate::repo::error::WriteError;
use crate::repo::writer::locator::{Located, Locations, Locator};
use crate::repo::writer::setup::{BuiltTree, TreeCounts};

/// A root that is in the manifest or in a pack.
pub(super) struct PlacedRoot {
    pub(super) tree: u32,
    pub(super) place: RootPlace,
    /// The root itself, or the node above it.
    pub(super) top: Skeleton,
    pub(super) ranges: Vec<u8>,
    pub(super) counts: TreeCounts,
}

impl PlacedRoot {
    /// The tree as the manifest contains it.
    /// Fails if a location is missing (`WriteError::Stopped`).
    pub(super) fn locate(self, locations: Locations<'_>) -> Result<BuiltTree, WriteError> {
        let Self { tree, place, mut top, ranges, counts } = self;
        all_located(Locator::new(locations).locate_node(&mut top))?;
        Ok(BuiltTree { tree, place, skeleton: top.content(), ranges, counts })
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
