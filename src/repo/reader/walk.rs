//! Walks the content of a snapshot: nodes down to leaves, and streams down to pieces.

use crate::base::frame::FrameType;
use crate::format::cell::{StreamForm, StreamRef};
use crate::format::manifest::StoredLocation;
use crate::format::node::{Child, FrameLocation, Skeleton, StreamsEntry};
use crate::format::stream_lists::{LeafStreams, ListLevel, PieceList, StreamHint, StreamPiece};
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
    /// does not grow with the table. Nodes that cannot be read are skipped and reported.
    /// Fails with the error of `each`, or if the store fails.
    pub fn leaf_batches<E: From<RepoError>>(
        &self,
        root: &Skeleton,
        each: &mut dyn FnMut(LeafBatch) -> Result<(), E>,
    ) -> Result<(), E> {
        if root.level == 1 {
            return self.leaves_of(std::slice::from_ref(root), Vec::new(), each);
        }
        for children in root.children.chunks(NODES_PER_BATCH) {
            let expanded = self.expand_children(children, root.level - 1)?;
            self.batches_of(expanded, root.level, each)?;
        }
        Ok(())
    }

    /// The leaves below nodes whose parent is at this level.
    fn batches_of<E: From<RepoError>>(
        &self,
        expanded: ExpandedNodes,
        level: u8,
        each: &mut dyn FnMut(LeafBatch) -> Result<(), E>,
    ) -> Result<(), E> {
        if level == 2 {
            return self.leaves_of(&expanded.nodes, expanded.lost, each);
        }
        self.batches_below(&expanded.nodes, expanded.lost, each)
    }

    fn batches_below<E: From<RepoError>>(
        &self,
        nodes: &[Skeleton],
        lost: Vec<LostNode>,
        each: &mut dyn FnMut(LeafBatch) -> Result<(), E>,
    ) -> Result<(), E> {
        each(LeafBatch { lost, ..LeafBatch::default() })?;
        nodes.iter().try_for_each(|node| self.leaf_batches(node, each))
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
        batches.into_iter().try_for_each(|leaves| each(self.leaf_batch(leaves)?))
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
        let LeafStreams { mut streams, packs } = LeafStreams::read(content).in_object(want)?;
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
        let skeleton = Skeleton::read(content).in_object(want)?;
        if skeleton.level != level {
            return Err(RepoError::damaged(want, format!("it is at level {}, not {level}", skeleton.level)));
        }
        Ok(self.intern(skeleton))
    }

    /// Reads the bytes of a stream.
    /// Fails if a piece or the list cannot be read, or if the length differs from the length in `hint`.
    pub fn stream(&self, hint: &StreamHint) -> Result<Vec<u8>, RepoError> {
        let StreamHint { stream, location } = *hint;
        let bytes = match stream.form {
            StreamForm::Piece => self.fetch_one(Want { kind: FrameType::Piece, id: stream.id, location })?,
            StreamForm::List => self.fetch_pieces(&self.pieces(hint)?)?,
        };
        if bytes.len() as u64 != stream.len {
            return Err(wrong_length(&stream, bytes.len()));
        }
        Ok(bytes)
    }

    fn fetch_pieces(&self, wants: &[Want]) -> Result<Vec<u8>, RepoError> {
        let mut pieces = vec![Vec::new(); wants.len()];
        self.fetch(wants, |at, content| {
            pieces[at] = content?;
            Ok::<(), RepoError>(())
        })?;
        Ok(pieces.concat())
    }

    /// Reads the engine's schema document.
    /// Fails if the manifest was opened without secrets (`RepoError::WrongRole`), or if the document cannot be read.
    pub fn schema(&self) -> Result<Vec<u8>, RepoError> {
        let secrets = self.manifest.secrets.as_ref();
        let secrets =
            secrets.ok_or_else(|| self.unlocked.wrong_role("reading a schema", "an admin or the recovery key"))?;
        let stream = StreamRef::try_from(secrets.schema).in_object(SECRETS)?;
        let location = secrets.schema_at.as_ref().map(|hint| self.intern_hint(hint)).transpose()?;
        self.stream(&StreamHint { stream, location })
    }

    fn intern_hint(&self, hint: &StoredLocation) -> Result<FrameLocation, RepoError> {
        let (pack, location) = hint.pack_and_location().in_object(SECRETS)?;
        Ok(FrameLocation { pack: self.intern_packs(&[pack])[0], ..location })
    }

    /// The pieces of a stream that is a list.
    /// Fails if the list cannot be read.
    pub fn pieces(&self, hint: &StreamHint) -> Result<Vec<Want>, RepoError> {
        Ok(self.pieces_and_lengths(hint)?.into_iter().map(|(want, _)| want).collect())
    }

    /// The pieces with the length of each in bytes.
    /// Fails if the list cannot be read.
    pub fn pieces_and_lengths(&self, hint: &StreamHint) -> Result<Vec<(Want, u64)>, RepoError> {
        let list = self.piece_list(hint)?;
        match list.level {
            ListLevel::Pieces => Ok(self.pieces_of(list)),
            ListLevel::Lists => self.pieces_of_lists(&list),
        }
    }

    fn pieces_of_lists(&self, list: &PieceList) -> Result<Vec<(Want, u64)>, RepoError> {
        let lists = self.lists_of(list).into_iter();
        Ok(lists.map(|hint| self.pieces_of_inner(&hint)).collect::<Result<Vec<_>, _>>()?.concat())
    }

    fn pieces_of(&self, list: PieceList) -> Vec<(Want, u64)> {
        let ordinals = self.intern_packs(&list.packs);
        list.pieces.into_iter().map(|piece| want_and_length(piece, &ordinals)).collect()
    }

    /// The pieces of a list within a list.
    fn pieces_of_inner(&self, hint: &StreamHint) -> Result<Vec<(Want, u64)>, RepoError> {
        let list = self.piece_list(hint)?;
        if list.level != ListLevel::Pieces || total_bytes(&list) != hint.stream.len {
            let reason = "it is not the list of pieces that another list names";
            return Err(RepoError::damaged(format!("list {}", hint.stream.id), reason));
        }
        Ok(self.pieces_of(list))
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

    fn piece_list(&self, hint: &StreamHint) -> Result<PieceList, RepoError> {
        let want = Want { kind: FrameType::List, id: hint.stream.id, location: hint.location };
        let content = self.fetch_one(want)?;
        PieceList::read(&content).in_object(want)
    }
}

fn total_bytes(list: &PieceList) -> u64 {
    list.pieces.iter().fold(0, |sum, piece| sum.saturating_add(piece.len))
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

fn wrong_length(stream: &StreamRef, bytes: usize) -> RepoError {
    let reason = format!("it has {bytes} bytes, not {}", stream.len);
    RepoError::damaged(format!("stream {}", stream.id), reason)
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
