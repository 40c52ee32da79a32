//! Finds the locations of a node's children and of a list's pieces, once all of them are in closed packs.

use std::collections::HashMap;

use crate::base::id::ChunkId;
use crate::format::node::{Child, FrameLocation, PackRef, Skeleton, ranges_id};
use crate::format::stream_lists::PieceList;
use crate::repo::index::Index;

/// Whether all locations were found.
pub(super) enum Located {
    All,
    NotYet,
}

/// The locations that a writing run knows.
#[derive(Clone, Copy)]
pub(super) struct Locations<'a> {
    /// Chunks that the store had before this session.
    pub(super) known: &'a Index,
    /// Packs that this session wrote and closed.
    pub(super) closed: &'a Index,
}

/// One of the two indexes of a writing run.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum IndexOrigin {
    Known,
    Closed,
}

impl<'a> Locations<'a> {
    /// The last stream without a location or, if all have one, the last such child.
    pub(super) fn last_missing_of_node(&self, skeleton: &Skeleton) -> Option<ChunkId> {
        let streams = skeleton.children.iter().flat_map(|child| &child.streams).map(|hint| hint.stream.id);
        let children = skeleton.children.iter().map(|child| child.id);
        self.last_missing(streams).or_else(|| self.last_missing(children))
    }

    /// The last piece without a location.
    pub(super) fn last_missing_of_list(&self, list: &PieceList) -> Option<ChunkId> {
        self.last_missing(list.pieces.iter().map(|piece| piece.id))
    }

    fn last_missing(&self, ids: impl DoubleEndedIterator<Item = ChunkId>) -> Option<ChunkId> {
        ids.rev().find(|id| !self.has(id))
    }

    /// Whether a chunk is in a closed pack of this session or in the store.
    pub(super) fn has(&self, id: &ChunkId) -> bool {
        self.find(id).is_some()
    }

    fn find(&self, id: &ChunkId) -> Option<(IndexOrigin, FrameLocation)> {
        let known = self.known.get(id).map(|location| (IndexOrigin::Known, location));
        known.or_else(|| Some((IndexOrigin::Closed, self.closed.get(id)?)))
    }

    fn index(&self, origin: IndexOrigin) -> &'a Index {
        match origin {
            IndexOrigin::Known => self.known,
            IndexOrigin::Closed => self.closed,
        }
    }
}

/// Finds the locations for one node or list, and collects their packs.
pub(super) struct Locator<'a> {
    locations: Locations<'a>,
    packs: Vec<PackRef>,
    /// Ordinals in `packs`, by an index and the pack's ordinal in that index.
    ordinals: HashMap<(IndexOrigin, u32), u32>,
}

impl<'a> Locator<'a> {
    pub(super) fn new(locations: Locations<'a>) -> Self {
        Self { locations, packs: Vec::new(), ordinals: HashMap::new() }
    }

    pub(super) fn locate_node(mut self, skeleton: &mut Skeleton) -> Located {
        if self.locate_children(skeleton).is_none() {
            return Located::NotYet;
        }
        skeleton.packs = self.packs;
        Located::All
    }

    pub(super) fn locate_list(mut self, list: &mut PieceList) -> Located {
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
        let (origin, location) = self.locations.find(id)?;
        Some(FrameLocation { pack: self.pack_ordinal(origin, location.pack), ..location })
    }

    fn pack_ordinal(&mut self, origin: IndexOrigin, pack: u32) -> u32 {
        let index = self.locations.index(origin);
        let packs = &mut self.packs;
        *self.ordinals.entry((origin, pack)).or_insert_with(|| {
            packs.push(index.packs()[pack as usize].pack.clone());
            (packs.len() - 1) as u32
        })
    }
}
