//! The assembler: one thread that restores the order of leaves, fills packs, and builds nodes.
//!
//! A node names the packs of its children, and a pack has a name only once it is closed. A pack is closed when it is
//! full or nothing more comes. So a node waits until all its children are in closed packs. It then goes into a pack of
//! nodes, which also keeps nodes together for roles that read nothing else. The stream references of its leaves wait in
//! the same way for their streams, and the node then waits for them.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasherDefault;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};

use bytes::Bytes;

use crate::base::frame::FrameType;
use crate::base::id::{ChunkId, Digest};
use crate::base::limit::{INDEX_ENTRIES_MAX, Limit, PACK_BYTES_MAX, PACK_FRAMES_MAX, REPORT};
use crate::crypto::ids::SourceIdKeys;
use crate::format::cell::StreamRef;
use crate::format::node::{Child, FrameLocation, PackRef};
use crate::format::pack::PackContent;
use crate::format::ranges::ranges_id;
use crate::format::stream_lists::PieceList;
use crate::repo::dictionaries::TableDictionary;
use crate::repo::error::WriteError;
use crate::repo::fragment::FragmentDraft;
use crate::repo::index::{FirstBytes, Index, IndexedPack};
use crate::repo::open_pack::{ClosedPack, OpenPack, PackSeal, SealedFrame};
use crate::repo::writer::in_order::{InOrder, TreePart};
use crate::repo::writer::locator::{Locations, Locator};
use crate::repo::writer::pending::{PendingChunks, PendingStreams, ShelvedChunk, StreamsGroup, StructureChunk};
use crate::repo::writer::placed_root::{InlineRoots, PlacedRoot, TopNode, all_located};
use crate::repo::writer::setup::{StoredPack, TreeCounts, UsedPacks, WriterSetup, Written};
use crate::repo::writer::used_dictionaries::{UsedDictionaries, seal_dictionary};
use crate::repo::writer::worker::{FrameSealer, SealResult, SealedLeaf, send};
use crate::tree::tree_builder::{BuiltNode, TreeBuilder, TreeKeys};

/// Number of entries after which an index fragment is written, so that memory does not grow with the session.
const FRAGMENT_ENTRIES: usize = 128 << 10;
const _: () = assert!(FRAGMENT_ENTRIES + PACK_FRAMES_MAX <= INDEX_ENTRIES_MAX);

const PACK: Limit = Limit::bytes(PACK_BYTES_MAX, REPORT);

/// An object to be uploaded.
pub(super) enum Upload {
    Pack(Digest, Bytes),
    Index(Digest, Bytes),
}

/// Turns results into packs and trees until no more come. Sends objects to be stored to `uploads`.
/// Fails if another stage has ended (`WriteError::Stopped`), if a frame or object exceeds a limit, if keys are used up,
/// if memory runs out, or if waiting chunks cannot be spilled or read back.
pub(super) fn run(
    setup: &WriterSetup<'_>,
    used: &UsedPacks,
    results: &Receiver<SealResult>,
    uploads: SyncSender<Upload>,
) -> Result<Written, WriteError> {
    let mut assembler = Assembler::new(setup, used, uploads)?;
    let mut ordered = InOrder::default();
    while let Ok(result) = results.recv() {
        assembler.take(result, &mut ordered)?;
        while let Some(part) = ordered.next() {
            assembler.add_part(part)?;
        }
    }
    assembler.finish()
}

struct AssemblerKeys<'a>(&'a SourceIdKeys);

impl TreeKeys for AssemblerKeys<'_> {
    fn boundary(&self, level: u8, key: &[u8]) -> u64 {
        self.0.boundary_hash(level, key)
    }

    fn chunk_id(&self, kind: FrameType, content: &[u8]) -> ChunkId {
        self.0.chunk_id(kind, content)
    }
}

impl SealedLeaf {
    /// The leaf as a child of its node, without locations.
    fn child(&self) -> Child {
        Child {
            id: self.id,
            rows: self.cut.rows,
            bytes: self.bytes,
            owners: self.cut.owners,
            leaves: 1,
            streams: self.streams,
            location: None,
            ranges_location: None,
        }
    }
}

struct OpenTree<'a> {
    builder: TreeBuilder<AssemblerKeys<'a>>,
    /// New stream references of the last leaves. They are stored before the node of these leaves.
    streams: StreamsGroup,
    counts: TreeCounts,
}

impl<'a> OpenTree<'a> {
    fn new(ids: &'a SourceIdKeys) -> Self {
        let builder = TreeBuilder::new(AssemblerKeys(ids));
        Self { builder, streams: StreamsGroup::default(), counts: TreeCounts::default() }
    }

    /// Adds a leaf. Returns the nodes that it completes.
    fn push(&mut self, leaf: &SealedLeaf) -> Vec<BuiltNode> {
        self.count(leaf);
        self.builder.push(leaf.child(), &leaf.cut.first_key, &leaf.cut.last_key);
        self.builder.take_built()
    }

    fn count(&mut self, leaf: &SealedLeaf) {
        self.counts.leaves += 1;
        self.counts.leaves_new += u64::from(leaf.frame.is_some());
        self.counts.bytes += leaf.bytes;
        self.counts.owners += leaf.cut.owners;
    }
}

/// A tree that gets no more leaves. Its root waits for the locations of its children.
struct FinishedTree {
    tree: u32,
    root: ShelvedChunk,
    counts: TreeCounts,
}

struct Assembler<'a> {
    setup: &'a WriterSetup<'a>,
    used: &'a UsedPacks,
    uploads: SyncSender<Upload>,
    frame_sealer: FrameSealer,
    /// The packs that this session wrote and closed.
    closed: Index,
    /// Chunks in packs that are still open, and pending nodes and lists.
    open: HashSet<ChunkId, BuildHasherDefault<FirstBytes>>,
    leaves: OpenPack,
    nodes: OpenPack,
    streams: OpenPack,
    pending: PendingChunks,
    trees: HashMap<u32, OpenTree<'a>>,
    finished: Vec<FinishedTree>,
    packs: Vec<StoredPack>,
    frame_bytes: u64,
    fragment: FragmentDraft,
    dictionaries: UsedDictionaries,
}

impl<'a> Assembler<'a> {
    fn new(setup: &'a WriterSetup<'a>, used: &'a UsedPacks, uploads: SyncSender<Upload>) -> Result<Self, WriteError> {
        Ok(Self {
            setup,
            used,
            uploads,
            frame_sealer: FrameSealer::new(setup.session)?,
            closed: Index::default(),
            open: HashSet::default(),
            leaves: OpenPack::new(PackContent::Leaves),
            nodes: OpenPack::new(PackContent::Nodes),
            streams: OpenPack::new(PackContent::Streams),
            pending: PendingChunks::new(&setup.spill),
            trees: HashMap::new(),
            finished: Vec::new(),
            packs: Vec::new(),
            frame_bytes: 0,
            fragment: FragmentDraft::default(),
            dictionaries: UsedDictionaries::default(),
        })
    }

    /// Takes a result. Results that must be in order go into `ordered`.
    fn take(&mut self, result: SealResult, ordered: &mut InOrder) -> Result<(), WriteError> {
        match result {
            SealResult::Piece(frame) => self.append(PackContent::Streams, &frame)?,
            SealResult::List { id, list } => self.add_pending(id, &StructureChunk::List { id, list })?,
            SealResult::Leaves { seq, tree, leaves } => ordered.insert(seq, TreePart::Leaves { tree, leaves }),
            SealResult::TreeEnd { seq, tree } => ordered.insert(seq, TreePart::End { tree }),
        }
        Ok(())
    }

    fn add_part(&mut self, part: TreePart) -> Result<(), WriteError> {
        match part {
            TreePart::Leaves { tree, leaves } => leaves.into_iter().try_for_each(|leaf| self.add_leaf(tree, leaf)),
            TreePart::End { tree } => self.end_tree(tree),
        }
    }

    fn add_leaf(&mut self, tree: u32, leaf: SealedLeaf) -> Result<(), WriteError> {
        if let Some(frame) = &leaf.frame {
            self.append(PackContent::Leaves, frame)?;
        }
        if let Some(streams) = leaf.streams {
            self.add_streams(tree, streams.id, &leaf.cut.streams)?;
        }
        let nodes = self.open_tree(tree).push(&leaf);
        if !nodes.is_empty() {
            self.end_streams_group(tree)?;
        }
        self.add_nodes(nodes)
    }

    /// Adds the stream references of a leaf, unless the store or this session has the same ones.
    fn add_streams(&mut self, tree: u32, id: ChunkId, streams: &[StreamRef]) -> Result<(), WriteError> {
        if self.used.mark_if_known(self.setup.known_index, &id) || self.is_written(&id) {
            return Ok(());
        }
        self.open.insert(id);
        let group = &mut self.open_tree(tree).streams;
        group.push(id, streams);
        if group.is_full() { self.end_streams_group(tree) } else { Ok(()) }
    }

    /// Stores the stream references of the last leaves as soon as all their streams have a location.
    fn end_streams_group(&mut self, tree: u32) -> Result<(), WriteError> {
        let group = std::mem::take(&mut self.open_tree(tree).streams);
        if group.is_empty() { Ok(()) } else { self.add_waiting(&StructureChunk::Streams(group)) }
    }

    fn open_tree(&mut self, tree: u32) -> &mut OpenTree<'a> {
        let ids = self.setup.ids;
        self.trees.entry(tree).or_insert_with(|| OpenTree::new(ids))
    }

    fn end_tree(&mut self, tree: u32) -> Result<(), WriteError> {
        self.end_streams_group(tree)?;
        let OpenTree { builder, counts, .. } =
            self.trees.remove(&tree).unwrap_or_else(|| OpenTree::new(self.setup.ids));
        let (nodes, root) = builder.finish();
        self.add_nodes(nodes)?;
        let root = self.pending.shelve(&StructureChunk::Node(root))?;
        self.finished.push(FinishedTree { tree, root, counts });
        Ok(())
    }

    fn add_nodes(&mut self, nodes: Vec<BuiltNode>) -> Result<(), WriteError> {
        for node in nodes {
            if !self.used.mark_if_known(self.setup.known_index, &node.id) {
                self.add_pending(node.id, &StructureChunk::Node(node))?;
            }
        }
        Ok(())
    }

    /// Keeps a chunk until everything that it refers to has a location, unless it already exists.
    fn add_pending(&mut self, id: ChunkId, chunk: &StructureChunk) -> Result<(), WriteError> {
        let is_new = !self.locations().has(&id) && self.open.insert(id);
        if is_new { self.add_waiting(chunk) } else { Ok(()) }
    }

    fn add_waiting(&mut self, chunk: &StructureChunk) -> Result<(), WriteError> {
        self.pending.add(chunk)?;
        self.write_ready()
    }

    fn locations(&self) -> Locations<'_> {
        Locations { known: self.setup.known_index, closed: &self.closed }
    }

    /// Appends a frame to the open pack of its kind, unless its chunk already exists.
    fn append(&mut self, content: PackContent, frame: &SealedFrame) -> Result<(), WriteError> {
        if self.is_written(&frame.id) {
            return Ok(());
        }
        if let Some(dictionary) = &frame.dictionary {
            self.add_dictionary(dictionary)?;
        }
        self.push(content, frame);
        if self.open_pack(content).is_full() { self.close_and_write_ready(content) } else { Ok(()) }
    }

    /// Makes sure that the open pack of leaves has this dictionary. So every pack can be read without others.
    fn add_dictionary(&mut self, dictionary: &Arc<TableDictionary>) -> Result<(), WriteError> {
        if self.dictionaries.is_new_in_pack(dictionary, self.setup.dictionaries) {
            let frame = seal_dictionary(&mut self.frame_sealer, dictionary)?;
            self.push(PackContent::Leaves, &frame);
        }
        Ok(())
    }

    /// Whether a chunk is in a pack, open or closed.
    fn is_written(&self, id: &ChunkId) -> bool {
        self.open.contains(id) || self.locations().has(id)
    }

    /// Closes a pack and writes the chunks that waited for it.
    fn close_and_write_ready(&mut self, content: PackContent) -> Result<(), WriteError> {
        self.close(content)?;
        self.write_ready()
    }

    fn push(&mut self, content: PackContent, frame: &SealedFrame) {
        self.open.insert(frame.id);
        self.frame_bytes += frame.sealed.len() as u64;
        self.open_pack(content).push(frame);
    }

    fn open_pack(&mut self, content: PackContent) -> &mut OpenPack {
        match content {
            PackContent::Nodes | PackContent::Repacked => &mut self.nodes,
            PackContent::Leaves => &mut self.leaves,
            PackContent::Streams => &mut self.streams,
        }
    }

    /// Closes the open pack of a kind, indexes it, and sends it to be uploaded.
    fn close(&mut self, content: PackContent) -> Result<(), WriteError> {
        let pack = std::mem::replace(self.open_pack(content), OpenPack::new(content));
        self.dictionaries.end_pack(content);
        if pack.is_empty() {
            return Ok(());
        }
        let closed = self.seal_pack(pack)?;
        let upload = Upload::Pack(closed.digest, closed.bytes.clone());
        self.packs.push(StoredPack { digest: closed.digest, size: closed.bytes.len() as u64 });
        self.index_pack(closed)?;
        self.upload(upload)?;
        if self.fragment.entries() >= FRAGMENT_ENTRIES { self.write_fragment() } else { Ok(()) }
    }

    fn seal_pack(&mut self, pack: OpenPack) -> Result<ClosedPack, WriteError> {
        let setup = self.setup;
        let seal = PackSeal {
            context: setup.session.context(),
            session: setup.session.session(),
            wrap: setup.wrap,
            sequence: self.packs.len() as u32,
            env: &*setup.env,
        };
        let closed = pack.close(&seal, &mut self.frame_sealer.sealer)?;
        PACK.check("a pack", closed.bytes.len() as u64)?;
        Ok(closed)
    }

    /// Records the locations of the chunks in a closed pack. [`Assembler::write_ready`] writes what waited for them.
    fn index_pack(&mut self, closed: ClosedPack) -> Result<(), WriteError> {
        let indexed = self.indexed(&closed);
        self.dictionaries.locate(&indexed.pack, &closed);
        let ordinal = self.closed.add_pack(indexed.clone());
        for (id, location) in &closed.locations {
            self.closed.insert(id, &FrameLocation { pack: ordinal, ..*location })?;
            self.open.remove(id);
            self.pending.wake(id);
        }
        self.fragment.add(indexed, closed.locations.into_iter());
        Ok(())
    }

    fn indexed(&self, closed: &ClosedPack) -> IndexedPack {
        let session = self.setup.session;
        IndexedPack {
            pack: PackRef { digest: closed.digest, sessions: vec![session.session()] },
            size: closed.bytes.len() as u64,
            content: closed.content,
            epoch: session.context().epoch,
        }
    }

    fn upload(&self, upload: Upload) -> Result<(), WriteError> {
        send(&self.uploads, upload)
    }

    fn write_fragment(&mut self) -> Result<(), WriteError> {
        let sealer = &mut self.frame_sealer.sealer;
        match self.fragment.take(self.setup.session, sealer, self.setup.identity)? {
            Some(bytes) => self.upload(Upload::Index(Digest::of(&bytes), bytes.into())),
            None => Ok(()),
        }
    }

    /// Writes every pending chunk whose children all have a location. In order of arrival, so that children come before
    /// their parents.
    fn write_ready(&mut self) -> Result<(), WriteError> {
        let known = self.setup.known_index;
        while let Some(chunk) = self.pending.next_ready(&Locations { known, closed: &self.closed })? {
            self.write_chunk(chunk)?;
        }
        Ok(())
    }

    fn write_chunk(&mut self, chunk: StructureChunk) -> Result<(), WriteError> {
        match chunk {
            StructureChunk::Node(mut node) => {
                all_located(Locator::new(self.locations()).locate_node(&mut node.skeleton))?;
                self.write_node(&node)
            }
            StructureChunk::Streams(group) => self.write_streams(group),
            StructureChunk::List { id, mut list } => {
                all_located(Locator::new(self.locations()).locate_list(&mut list))?;
                self.write_list(id, &list)
            }
        }
    }

    fn write_node(&mut self, node: &BuiltNode) -> Result<(), WriteError> {
        let skeleton = self.frame_sealer.seal(FrameType::Node, node.id, &node.skeleton.content(), &[])?;
        let ranges = self.frame_sealer.seal(FrameType::Ranges, ranges_id(&node.id), &node.ranges, &[])?;
        self.write_structure(&[skeleton, ranges])
    }

    fn write_streams(&mut self, group: StreamsGroup) -> Result<(), WriteError> {
        for PendingStreams { id, mut list } in group.leaves {
            all_located(Locator::new(self.locations()).locate_streams(&mut list))?;
            let frame = self.frame_sealer.seal(FrameType::Streams, id, &list.content(), &[])?;
            self.write_structure(&[frame])?;
        }
        Ok(())
    }

    fn write_list(&mut self, id: ChunkId, list: &PieceList) -> Result<(), WriteError> {
        let frame = self.frame_sealer.seal(FrameType::List, id, &list.content(), &[])?;
        self.write_structure(&[frame])
    }

    /// Appends frames next to each other to the pack of nodes.
    fn write_structure(&mut self, frames: &[SealedFrame]) -> Result<(), WriteError> {
        if self.nodes.is_full() {
            self.close(PackContent::Nodes)?;
        }
        for frame in frames {
            self.push(PackContent::Nodes, frame);
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Written, WriteError> {
        self.close(PackContent::Leaves)?;
        self.close(PackContent::Streams)?;
        self.write_ready()?;
        self.write_all_pending()?;
        self.close(PackContent::Nodes)?;
        let roots = self.place_roots()?;
        let dictionaries = self.dictionaries.seal_new(&mut self.frame_sealer)?;
        self.write_structure(&dictionaries)?;
        self.close(PackContent::Nodes)?;
        self.write_fragment()?;
        let trees = roots.into_iter().map(|root| root.locate(self.locations())).collect::<Result<_, _>>()?;
        let Self { packs, frame_bytes, closed, dictionaries, .. } = self;
        Ok(Written { trees, dictionaries: dictionaries.into_entries(), packs, frame_bytes, index: closed })
    }

    /// Each iteration writes one more level of nodes.
    fn write_all_pending(&mut self) -> Result<(), WriteError> {
        while !self.pending.is_empty() {
            if self.nodes.is_empty() {
                return Err(WriteError::Stopped);
            }
            self.close_and_write_ready(PackContent::Nodes)?;
        }
        Ok(())
    }

    /// Decides which roots the manifest contains, and stores the others.
    fn place_roots(&mut self) -> Result<Vec<PlacedRoot>, WriteError> {
        let mut finished = std::mem::take(&mut self.finished);
        // The rows of a table come before its references.
        finished.sort_by_key(|tree| tree.tree);
        let mut inline = InlineRoots::default();
        finished.into_iter().map(|tree| self.place_root(tree, &mut inline)).collect()
    }

    fn place_root(&mut self, finished: FinishedTree, inline: &mut InlineRoots) -> Result<PlacedRoot, WriteError> {
        let FinishedTree { tree, root, counts } = finished;
        let StructureChunk::Node(mut root) = self.pending.unshelve(root)? else { return Err(WriteError::Stopped) };
        all_located(Locator::new(self.locations()).locate_node(&mut root.skeleton))?;
        let mut skeleton = root.skeleton.content();
        if inline.has_room_for(tree, skeleton.len() + root.ranges.len()) {
            skeleton.shrink_to_fit();
            return Ok(PlacedRoot { tree, top: TopNode::Root { skeleton, ranges: root.ranges }, counts });
        }
        let is_known = self.used.mark_if_known(self.setup.known_index, &root.id);
        if !is_known && !self.is_written(&root.id) {
            self.write_node(&root)?;
        }
        Ok(PlacedRoot { tree, top: TopNode::Above(root.above()), counts })
    }
}
