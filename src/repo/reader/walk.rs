//! Walks the content of a snapshot: nodes down to leaves, and streams down to pieces.

use std::collections::HashSet;

use crate::base::frame::FrameType;
use crate::base::id::ChunkId;
use crate::base::limit::{PIECE_BYTES_MAX, VALUE_BYTES_MAX};
use crate::format::cell::{StreamForm, StreamRef};
use crate::format::manifest::StoredLocation;
use crate::format::node::{Child, FrameLocation, Hinted, Skeleton, StreamsEntry};
use crate::format::stream_lists::{LeafStreams, ListLevel, ListPlace, PieceList, StreamHint, StreamPiece};
use crate::repo::error::{InObject, RepoError};
use crate::repo::reader::snapshot::{LeafRef, SnapshotReader, Want, renumber_pack};

/// Nodes that are open at the same time while a tree is walked.
const NODES_PER_BATCH: usize = 24;
/// Stream references that are in memory at the same time, unless one leaf has more.
const STREAMS_PER_BATCH: u64 = 64 << 10;

/// Names the secrets in errors.
const SECRETS: &str = "the secrets of the manifest";

impl SnapshotReader<'_> {
    /// The leaves of a tree, in order.
    /// Fails if a node cannot be read.
    pub fn leaves(&self, root: Skeleton) -> Result<Vec<Child>, RepoError> {
        let mut nodes = vec![root];
        while nodes.first().is_some_and(|node| node.level > 1) {
            nodes = self.expand(&nodes)?;
        }
        Ok(nodes.into_iter().flat_map(|node| node.children).collect())
    }

    /// Passes on the leaves of a tree with their stream references, in order, a few thousand at a time, so that memory
    /// does not grow with the table. Nodes that cannot be read, or occur twice, are skipped and reported.
    /// Fails with the error of `each`, or if the store fails.
    pub fn leaf_batches<E: From<RepoError>>(
        &self,
        root: &Skeleton,
        each: &mut dyn FnMut(LeafBatch) -> Result<(), E>,
    ) -> Result<(), E> {
        TreeWalk { reader: self, met: HashSet::new() }.below(root, each)
    }

    fn leaf_batch(&self, leaves: &[&Child]) -> Result<LeafBatch, RepoError> {
        let mut batch = LeafBatch::without_streams(leaves);
        let with_streams: Vec<usize> = (0..leaves.len()).filter(|&at| leaves[at].streams.is_some()).collect();
        let entries: Vec<StreamsEntry> = with_streams.iter().filter_map(|&at| leaves[at].streams).collect();
        self.stream_references(&entries, |n, streams| batch.take_streams(with_streams[n], streams))?;
        Ok(batch)
    }

    /// Reads the stream references of leaves, together. The locations in them refer to the reader's packs.
    /// Fails with the error of `each`.
    pub fn stream_references<E: From<RepoError>>(
        &self,
        entries: &[StreamsEntry],
        mut each: impl FnMut(usize, Result<Vec<StreamHint>, RepoError>) -> Result<(), E>,
    ) -> Result<(), E> {
        let wants: Vec<Want> = entries.iter().map(streams_want).collect();
        self.fetch(&wants, |at, content| {
            let streams = content.and_then(|content| self.open_streams(&wants[at], &entries[at], &content));
            each(at, streams)
        })
    }

    fn open_streams(&self, want: &Want, entry: &StreamsEntry, content: &[u8]) -> Result<Vec<StreamHint>, RepoError> {
        let LeafStreams { mut streams, packs } =
            self.believed(LeafStreams::read_hinted(content).in_object(want)?, want);
        if streams.len() as u64 != entry.count {
            let reason = format!("it has {} references, but its node says {}", streams.len(), entry.count);
            return Err(RepoError::damaged(want, reason));
        }
        let ordinals = self.intern_packs(&packs);
        for hint in &mut streams {
            renumber_pack(&mut hint.location, &ordinals);
        }
        Ok(streams)
    }

    /// The nodes one level below, in order.
    /// Fails if one of them cannot be read.
    pub fn expand(&self, nodes: &[Skeleton]) -> Result<Vec<Skeleton>, RepoError> {
        let level = nodes.first().map_or(0, |node| node.level.saturating_sub(1));
        let mut met = HashSet::new();
        if let Some(twice) = nodes.iter().flat_map(|node| &node.children).find(|child| !met.insert(child.id)) {
            return Err(occurs_twice(&twice.id));
        }
        let expanded = self.expand_children(nodes.iter().flat_map(|node| &node.children), level)?;
        match expanded.lost.into_iter().next() {
            Some(lost) => Err(lost.error),
            None => Ok(expanded.nodes),
        }
    }

    /// Reads the nodes of children, in order. Also returns the ones that cannot be read.
    fn expand_children<'c>(
        &self,
        children: impl IntoIterator<Item = &'c Child>,
        level: u8,
    ) -> Result<ExpandedNodes, RepoError> {
        let mut expansion = NodeExpansion::new(self, children.into_iter().collect(), level);
        let wants = expansion.wants();
        self.fetch(&wants, |at, content| expansion.take(at, &wants[at], content))?;
        Ok(expansion.finish())
    }

    /// Decodes the content of a node.
    /// Fails if it is damaged or not at this level.
    pub fn open_node(&self, want: &Want, content: &[u8], level: u8) -> Result<Skeleton, RepoError> {
        let skeleton = self.believed(Skeleton::read_hinted(content).in_object(want)?, want);
        if skeleton.level != level {
            return Err(RepoError::damaged(want, format!("it is at level {}, not {level}", skeleton.level)));
        }
        Ok(self.intern(skeleton))
    }

    /// Reads the bytes of a stream.
    /// Fails if a piece or the list cannot be read, if lengths differ from those in `hint` or the list, or if it is longer
    /// than any value that is restored.
    pub fn stream(&self, hint: &StreamHint) -> Result<Vec<u8>, RepoError> {
        check_length(&hint.stream)?;
        match hint.stream.form {
            StreamForm::Piece => self.fetch_pieces(&[(piece_want(hint), hint.stream.len)]),
            StreamForm::List => self.fetch_pieces(&self.pieces_and_lengths(hint)?),
        }
    }

    /// The bytes of these pieces, which must have these lengths.
    fn fetch_pieces(&self, pieces: &[(Want, u64)]) -> Result<Vec<u8>, RepoError> {
        let wants: Vec<Want> = pieces.iter().map(|(want, _)| *want).collect();
        let mut contents = vec![Vec::new(); wants.len()];
        self.fetch(&wants, |at, content| {
            contents[at] = content.and_then(|content| piece_of_length(&wants[at], pieces[at].1, content))?;
            Ok::<(), RepoError>(())
        })?;
        Ok(contents.concat())
    }

    /// Reads the engine's schema document.
    /// Fails if the manifest was opened without secrets (`RepoError::WrongRole`), or if the document cannot be read.
    pub fn schema(&self) -> Result<Vec<u8>, RepoError> {
        let secrets = self.manifest.secrets.as_ref();
        let secrets =
            secrets.ok_or_else(|| self.unlocked.wrong_role("reading a schema", "an admin or the recovery key"))?;
        let stream = StreamRef::try_from(secrets.schema).in_object(SECRETS)?;
        let location = secrets.schema_at.as_ref().and_then(|hint| self.intern_hint(hint));
        self.stream(&StreamHint { stream, location })
    }

    /// The location in a hint of the secrets. `None` if it is malformed.
    fn intern_hint(&self, hint: &StoredLocation) -> Option<FrameLocation> {
        match hint.pack_and_location() {
            Ok((pack, location)) => Some(FrameLocation { pack: self.intern_packs(&[pack])[0], ..location }),
            Err(fault) => {
                self.report_hints(SECRETS, &fault);
                None
            }
        }
    }

    /// The pieces of a stream that is a list, with the length of each in bytes. The lengths are possible ones, and their
    /// sum is right.
    /// Fails if the list cannot be read, or is not one that a stream of this length has.
    pub fn pieces_and_lengths(&self, hint: &StreamHint) -> Result<Vec<(Want, u64)>, RepoError> {
        let list = self.piece_list(hint, ListPlace::Whole)?;
        match list.level {
            ListLevel::Pieces => Ok(self.pieces_of(list)),
            ListLevel::Lists => self.pieces_of_lists(&list),
        }
    }

    fn pieces_of_lists(&self, list: &PieceList) -> Result<Vec<(Want, u64)>, RepoError> {
        let mut pieces = Vec::new();
        for (at, hint) in self.lists_of(list).iter().enumerate() {
            let inner = self.piece_list(hint, list.place_of(at))?;
            pieces.extend(self.pieces_of(inner));
        }
        Ok(pieces)
    }

    fn pieces_of(&self, list: PieceList) -> Vec<(Want, u64)> {
        let ordinals = self.intern_packs(&list.packs);
        list.pieces.into_iter().map(|piece| want_and_length(piece, &ordinals)).collect()
    }

    /// The lists that a list of lists names. Empty for a list of pieces.
    #[must_use]
    pub fn lists_of(&self, list: &PieceList) -> Vec<StreamHint> {
        if list.level == ListLevel::Pieces {
            return Vec::new();
        }
        let ordinals = self.intern_packs(&list.packs);
        list.pieces.iter().map(|part| inner_list(*part, &ordinals)).collect()
    }

    fn piece_list(&self, hint: &StreamHint, place: ListPlace) -> Result<PieceList, RepoError> {
        let want = Want { kind: FrameType::List, id: hint.stream.id, location: hint.location };
        let content = self.fetch_one(want)?;
        let list = self.open_list(&want, &content)?;
        list.check(hint.stream.len, place).in_object(want)?;
        Ok(list)
    }

    /// Decodes the content of a list.
    /// Fails if it is not one.
    pub fn open_list(&self, want: &Want, content: &[u8]) -> Result<PieceList, RepoError> {
        Ok(self.believed(PieceList::read_hinted(content).in_object(want)?, want))
    }

    /// What a frame contains. Malformed locations are reported, and the index is asked for what they should lead to.
    pub(super) fn believed<T>(&self, hinted: Hinted<T>, object: impl ToString) -> T {
        if let Some(fault) = &hinted.fault {
            self.report_hints(object, fault);
        }
        hinted.content
    }
}

/// Fails if a stream is longer than any value that is restored.
fn check_length(stream: &StreamRef) -> Result<(), RepoError> {
    if stream.len <= VALUE_BYTES_MAX {
        return Ok(());
    }
    let reason = format!("it has {} bytes, but no target takes more than {VALUE_BYTES_MAX}", stream.len);
    Err(RepoError::damaged(format!("stream {}", stream.id), reason))
}

/// The content of a piece, if it has this length and is not longer than pieces are.
/// Fails if it is not, or has another length.
pub fn piece_of_length(want: &Want, expected: u64, content: Vec<u8>) -> Result<Vec<u8>, RepoError> {
    if content.len() as u64 == expected && content.len() <= PIECE_BYTES_MAX {
        return Ok(content);
    }
    let reason = format!("it has {} bytes, not {expected} or more than {PIECE_BYTES_MAX}", content.len());
    Err(RepoError::damaged(want, reason))
}

/// The content of a leaf, if it has the length that its node lists. Otherwise leaves that are read together could take any
/// amount of memory.
/// Fails if it has another length.
pub fn leaf_of_length(want: &Want, expected: u64, content: Vec<u8>) -> Result<Vec<u8>, RepoError> {
    if content.len() as u64 == expected {
        return Ok(content);
    }
    let reason = format!("it has {} bytes, but its node says {expected}", content.len());
    Err(RepoError::damaged(want, reason))
}

fn piece_want(hint: &StreamHint) -> Want {
    Want { kind: FrameType::Piece, id: hint.stream.id, location: hint.location }
}

fn occurs_twice(node: &ChunkId) -> RepoError {
    RepoError::damaged(format!("node {node}"), "it occurs twice in its tree")
}

/// A walk from the root of one tree to its leaves.
struct TreeWalk<'a> {
    reader: &'a SnapshotReader<'a>,
    /// Nodes below the root that the walk has met. In a tree, which is in order, each occurs once. So the walk reads no
    /// more than is stored, even if somebody has made a node whose children have the same children.
    met: HashSet<ChunkId>,
}

impl TreeWalk<'_> {
    fn below<E: From<RepoError>>(
        &mut self,
        node: &Skeleton,
        each: &mut dyn FnMut(LeafBatch) -> Result<(), E>,
    ) -> Result<(), E> {
        if node.level == 1 {
            return self.leaves_of(std::slice::from_ref(node), Vec::new(), each);
        }
        for children in node.children.chunks(NODES_PER_BATCH) {
            let expanded = self.expand(children, node.level - 1)?;
            self.batches_of(expanded, node.level, each)?;
        }
        Ok(())
    }

    /// Reads the nodes of children that were not met before.
    fn expand(&mut self, children: &[Child], level: u8) -> Result<ExpandedNodes, RepoError> {
        let (fresh, twice): (Vec<&Child>, Vec<_>) = children.iter().partition(|child| self.met.insert(child.id));
        let mut expanded = self.reader.expand_children(fresh, level)?;
        let lost = twice.iter().map(|child| LostNode { rows: child.rows, error: occurs_twice(&child.id) });
        expanded.lost.extend(lost);
        Ok(expanded)
    }

    /// The leaves below nodes whose parent is at this level.
    fn batches_of<E: From<RepoError>>(
        &mut self,
        expanded: ExpandedNodes,
        level: u8,
        each: &mut dyn FnMut(LeafBatch) -> Result<(), E>,
    ) -> Result<(), E> {
        if level == 2 {
            return self.leaves_of(&expanded.nodes, expanded.lost, each);
        }
        each(LeafBatch { lost: expanded.lost, ..LeafBatch::default() })?;
        expanded.nodes.iter().try_for_each(|node| self.below(node, each))
    }

    /// The leaves of level-1 nodes, as many at a time as memory allows for their stream references.
    fn leaves_of<E: From<RepoError>>(
        &self,
        nodes: &[Skeleton],
        lost: Vec<LostNode>,
        each: &mut dyn FnMut(LeafBatch) -> Result<(), E>,
    ) -> Result<(), E> {
        each(LeafBatch { lost, ..LeafBatch::default() })?;
        let leaves: Vec<&Child> = nodes.iter().flat_map(|node| &node.children).collect();
        let batches = by_stream_count(&leaves, |leaf| leaf.stream_count());
        batches.into_iter().try_for_each(|leaves| each(self.reader.leaf_batch(leaves)?))
    }
}

/// A list within a list.
fn inner_list(mut part: StreamPiece, ordinals: &[u32]) -> StreamHint {
    renumber_pack(&mut part.location, ordinals);
    StreamHint { stream: StreamRef { form: StreamForm::List, id: part.id, len: part.len }, location: part.location }
}

fn want_and_length(mut piece: StreamPiece, ordinals: &[u32]) -> (Want, u64) {
    renumber_pack(&mut piece.location, ordinals);
    (Want { kind: FrameType::Piece, id: piece.id, location: piece.location }, piece.len)
}

/// Children whose nodes are being read.
struct NodeExpansion<'a, 'c> {
    reader: &'a SnapshotReader<'a>,
    children: Vec<&'c Child>,
    level: u8,
    /// In the order of the children.
    nodes: Vec<Option<Skeleton>>,
    lost: Vec<LostNode>,
}

impl<'a, 'c> NodeExpansion<'a, 'c> {
    fn new(reader: &'a SnapshotReader<'a>, children: Vec<&'c Child>, level: u8) -> Self {
        let nodes = vec![None; children.len()];
        Self { reader, children, level, nodes, lost: Vec::new() }
    }

    fn wants(&self) -> Vec<Want> {
        self.children.iter().map(|child| node_want(child)).collect()
    }

    fn take(&mut self, at: usize, want: &Want, content: Result<Vec<u8>, RepoError>) -> Result<(), RepoError> {
        match content.and_then(|content| self.reader.open_node(want, &content, self.level)) {
            Ok(node) => self.nodes[at] = Some(node),
            Err(RepoError::Store(error)) => return Err(RepoError::Store(error)),
            Err(error) => self.lost.push(LostNode { rows: self.children[at].rows, error }),
        }
        Ok(())
    }

    fn finish(self) -> ExpandedNodes {
        ExpandedNodes { nodes: self.nodes.into_iter().flatten().collect(), lost: self.lost }
    }
}

/// Nodes one level below others, in order.
struct ExpandedNodes {
    nodes: Vec<Skeleton>,
    /// Nodes that cannot be read.
    lost: Vec<LostNode>,
}

fn node_want(child: &Child) -> Want {
    Want { kind: FrameType::Node, id: child.id, location: child.location }
}

/// Consecutive leaves, except those below lost nodes.
#[derive(Debug, Default)]
pub struct LeafBatch {
    pub leaves: Vec<LeafRef>,
    pub lost: Vec<LostNode>,
    /// Why stream references of some leaves cannot be read. Only hints are lost with them: the leaves have the ids.
    pub lost_streams: Vec<RepoError>,
}

impl LeafBatch {
    fn without_streams(leaves: &[&Child]) -> Self {
        Self { leaves: leaves.iter().map(|leaf| leaf_ref(leaf)).collect(), ..Self::default() }
    }

    /// Takes the stream references of the leaf at `at`, or why they cannot be read.
    /// Fails if the store failed.
    fn take_streams(&mut self, at: usize, streams: Result<Vec<StreamHint>, RepoError>) -> Result<(), RepoError> {
        match streams {
            Ok(streams) => self.leaves[at].streams = streams.into(),
            Err(error @ RepoError::Store(_)) => return Err(error),
            Err(error) => self.lost_streams.push(error),
        }
        Ok(())
    }
}

/// Divides leaves, so that each part has at most [`STREAMS_PER_BATCH`] stream references or only one leaf.
pub fn by_stream_count<T>(leaves: &[T], count: impl Fn(&T) -> u64) -> Vec<&[T]> {
    let mut sum = 0u64;
    let has_room = |before: &T, next: &T| {
        sum = sum.saturating_add(count(before));
        let has_room = sum.saturating_add(count(next)) <= STREAMS_PER_BATCH;
        if !has_room {
            sum = 0;
        }
        has_room
    };
    leaves.chunk_by(has_room).collect()
}

fn streams_want(entry: &StreamsEntry) -> Want {
    Want { kind: FrameType::Streams, id: entry.id, location: entry.location }
}

/// A node that cannot be read.
#[derive(Debug)]
pub struct LostNode {
    /// Rows below it.
    pub rows: u64,
    pub error: RepoError,
}

/// A leaf without its stream references.
fn leaf_ref(child: &Child) -> LeafRef {
    LeafRef {
        id: child.id,
        location: child.location,
        rows: child.rows,
        bytes: child.bytes,
        owners: child.owners,
        streams: Box::default(),
    }
}
