//! Finds the locations of a node's children and of a list's pieces, once all of them are in closed packs.

use std::collections::HashMap;

use crate::base::id::ChunkId;
use crate::format::node::{Child, FrameLocation, PackRef, PieceList, Skeleton, ranges_id};
use crate::repo::index::Index;

/// Whether all locations were found.
pub(super) enum Located {
    All,
    NotYet,
}

/// Finds the locations for one node or list, and collects their packs.
pub(super) struct Locator<'a> {
    /// Chunks that the store had before this session.
    known_index: &'a Index,
    /// Packs that this session wrote and closed.
    closed: &'a Index,
    packs: Vec<PackRef>,
    /// Ordinals in `packs`, by an index and the pack's ordinal in that index.
    ordinals: HashMap<(IndexOrigin, u32), u32>,
}

/// One of the two indexes of a writing run.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum IndexOrigin {
    Known,
    Closed,
}

impl<'a> Locator<'a> {
    pub(super) fn new(known_index: &'a Index, closed: &'a Index) -> Self {
        Self { known_index, closed, packs: Vec::new(), ordinals: HashMap::new() }
    }

    pub(super) fn locate_node(mut self, skeleton: &mut Skeleton) -> Located {
        if self.is_last_missing(skeleton.children.last().map(|last| &last.id)) {
            return Located::NotYet;
        }
        if self.locate_children(skeleton).is_none() {
            return Located::NotYet;
        }
        skeleton.packs = self.packs;
        Located::All
    }

    pub(super) fn locate_list(mut self, list: &mut PieceList) -> Located {
        if self.is_last_missing(list.pieces.last().map(|last| &last.id)) {
            return Located::NotYet;
        }
        if self.locate_pieces(list).is_none() {
            return Located::NotYet;
        }
        list.packs = self.packs;
        Located::All
    }

    fn locate_pieces(&mut self, list: &mut PieceList) -> Option<()> {
        for piece in &mut list.pieces {
            piece.location = Some(self.location(&piece.id)?);
        }
        Some(())
    }

    /// Chunks are stored in order. If the last one has no location, searching for all of them would be wasted work.
    fn is_last_missing(&self, last: Option<&ChunkId>) -> bool {
        last.is_some_and(|id| self.closed.get(id).is_none() && self.known_index.get(id).is_none())
    }

    /// `None` if a location is missing.
    fn locate_children(&mut self, skeleton: &mut Skeleton) -> Option<()> {
        let inner = skeleton.level > 1;
        skeleton.children.iter_mut().try_for_each(|child| self.locate_child(child, inner))
    }

    /// `None` if a location is missing.
    fn locate_child(&mut self, child: &mut Child, inner: bool) -> Option<()> {
        child.location = Some(self.location(&child.id)?);
        if inner {
            child.ranges_location = self.location(&ranges_id(&child.id));
        }
        for hint in &mut child.streams {
            hint.location = Some(self.location(&hint.stream.id)?);
        }
        Some(())
    }

    fn location(&mut self, id: &ChunkId) -> Option<FrameLocation> {
        let (origin, location) = self.find(id)?;
        Some(FrameLocation { pack: self.pack_ordinal(origin, location.pack), ..location })
    }

    fn find(&self, id: &ChunkId) -> Option<(IndexOrigin, FrameLocation)> {
        let known = self.known_index.get(id).map(|location| (IndexOrigin::Known, location));
        known.or_else(|| Some((IndexOrigin::Closed, self.closed.get(id)?)))
    }

    fn pack_ordinal(&mut self, origin: IndexOrigin, pack: u32) -> u32 {
        let index = self.index(origin);
        let packs = &mut self.packs;
        *self.ordinals.entry((origin, pack)).or_insert_with(|| {
            packs.push(index.packs()[pack as usize].pack.clone());
            (packs.len() - 1) as u32
        })
    }

    fn index(&self, origin: IndexOrigin) -> &'a Index {
        match origin {
            IndexOrigin::Known => self.known_index,
            IndexOrigin::Closed => self.closed,
        }
    }
}
