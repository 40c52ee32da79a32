//! Finds the locations of a node's children, of a leaf's streams and of a list's pieces, once all of them are in closed packs.

use std::collections::HashMap;

use crate::base::id::ChunkId;
use crate::format::node::{Child, FrameLocation, PackRef, Skeleton};
use crate::format::ranges::ranges_id;
use crate::format::stream_lists::{LeafStreams, PieceList};
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
    /// The last frame of stream references without a location or, if all have one, the last such child.
    pub(super) fn last_missing_of_node(&self, skeleton: &Skeleton) -> Option<ChunkId> {
        let streams = skeleton.streams().map(|streams| streams.id);
        let children = skeleton.children.iter().map(|child| child.id);
        self.last_missing(streams).or_else(|| self.last_missing(children))
    }

    /// The last piece without a location.
    pub(super) fn last_missing_of_list(&self, list: &PieceList) -> Option<ChunkId> {
        self.last_missing(list.pieces.iter().map(|piece| piece.id))
    }

    /// The last stream without a location.
    pub(super) fn last_missing_of_streams<'s>(
        &self,
        leaves: impl DoubleEndedIterator<Item = &'s LeafStreams>,
    ) -> Option<ChunkId> {
        self.last_missing(leaves.flat_map(|leaf| &leaf.streams).map(|hint| hint.stream.id))
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
    /// A locator for one node or list.
    pub(super) fn new(locations: Locations<'a>) -> Self {
        Self { locations, packs: Vec::new(), ordinals: HashMap::new() }
    }

    /// Sets the packs of a node and the locations of its children and their streams.
    pub(super) fn locate_node(mut self, skeleton: &mut Skeleton) -> Located {
        if self.locate_children(skeleton).is_none() {
            return Located::NotYet;
        }
        skeleton.packs = self.packs;
        Located::All
    }

    /// Sets the packs of a list and the locations of its pieces.
    pub(super) fn locate_list(mut self, list: &mut PieceList) -> Located {
        if self.locate_pieces(list).is_none() {
            return Located::NotYet;
        }
        list.packs = self.packs;
        Located::All
    }

    pub(super) fn locate_streams(mut self, leaf: &mut LeafStreams) -> Located {
        if self.locate_references(leaf).is_none() {
            return Located::NotYet;
        }
        leaf.packs = self.packs;
        Located::All
    }

    fn locate_references(&mut self, leaf: &mut LeafStreams) -> Option<()> {
        for hint in &mut leaf.streams {
            hint.location = Some(self.location(&hint.stream.id)?);
        }
        Some(())
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
        if let Some(streams) = &mut child.streams {
            streams.location = Some(self.location(&streams.id)?);
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
