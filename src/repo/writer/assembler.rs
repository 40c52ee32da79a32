//! The assembler: one thread that puts leaves back into order, fills packs, and builds nodes.
//!
//! A node names the packs of its children, and a pack has a name only once it is closed. So a node
//! waits until all its children lie in closed packs, and goes into a pack of nodes of its own kind,
//! which also keeps nodes together for whoever reads only them.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::BuildHasherDefault;
use std::sync::mpsc::{Receiver, SyncSender};

use crate::base::frame::FrameType;
use crate::base::id::{ChunkId, Digest};
use crate::crypto::ids::SourceIdKeys;
use crate::crypto::seal::Sealer;
use crate::format::codec::Encoder;
use crate::format::manifest::{TreeKind, TreeRoot};
use crate::format::node::{Child, FrameLocation, PackRef, PieceList, Skeleton, StreamHint, ranges_id};
use crate::format::pack::PackContent;
use crate::repo::fragment;
use crate::repo::index::{FirstBytes, Index, IndexedPack};
use crate::repo::packer::{ClosedPack, OpenPack, PackSeal, SealedFrame};
use crate::repo::writer::pipeline::{BuiltTree, StoredPack, Upload, UsedPacks, WriteError, WriterSetup, Written};
use crate::repo::writer::worker::{SealResult, SealedLeaf, seal};
use crate::tree::builder::{BuiltNode, TreeBuilder, TreeKeys};

/// Entries after which an index fragment is written, so that memory does not grow with the session.
const FRAGMENT_ENTRIES: usize = 128 << 10;
/// Nodes that may wait for a pack of streams to fill before it is closed as it is.
const PENDING_MAX: usize = 256;

pub(super) fn run(
    setup: &WriterSetup<'_>,
    used: &UsedPacks,
    results: &Receiver<SealResult>,
    uploads: SyncSender<Upload>,
) -> Result<Written, WriteError> {
    let mut assembler = Assembler::new(setup, used, uploads)?;
    let mut waiting = BTreeMap::new();
    let mut next = 0;
    while let Ok(result) = results.recv() {
        match result {
            SealResult::Piece(frame) => assembler.append(PackContent::Streams, &frame)?,
            SealResult::List { id, list } => assembler.pend(PendingChunk::List { id, list }),
            SealResult::Leaves { seq, .. } | SealResult::TreeEnd { seq, .. } => {
                waiting.insert(seq, result);
            }
        }
        while let Some(result) = waiting.remove(&next) {
            next += 1;
            assembler.take(result)?;
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

/// A chunk of the structure tier whose locations are not all known yet.
enum PendingChunk {
    Node(BuiltNode),
    List { id: ChunkId, list: PieceList },
}

struct OpenTree<'a> {
    builder: TreeBuilder<AssemblerKeys<'a>>,
    leaves: u64,
    leaves_new: u64,
    bytes: u64,
    owners: u64,
}

struct Assembler<'a> {
    setup: &'a WriterSetup<'a>,
    used: &'a UsedPacks,
    uploads: SyncSender<Upload>,
    sealer: Sealer,
    encoder: Encoder,
    /// What this session wrote and closed.
    closed: Index,
    /// Chunks in packs that are still open, and of pending nodes and lists.
    open: HashSet<ChunkId, BuildHasherDefault<FirstBytes>>,
    leaves: OpenPack,
    nodes: OpenPack,
    streams: OpenPack,
    pending: VecDeque<PendingChunk>,
    trees: HashMap<u32, OpenTree<'a>>,
    roots: Vec<(BuiltTree, BuiltNode)>,
    packs: Vec<StoredPack>,
    frame_bytes: u64,
    fragment: fragment::FragmentDraft,
}

impl<'a> Assembler<'a> {
    fn new(setup: &'a WriterSetup<'a>, used: &'a UsedPacks, uploads: SyncSender<Upload>) -> Result<Self, WriteError> {
        Ok(Self {
            setup,
            used,
            uploads,
            sealer: setup.session.sealer()?,
            encoder: Encoder::new()?,
            closed: Index::default(),
            open: HashSet::default(),
            leaves: OpenPack::new(PackContent::Leaves),
            nodes: OpenPack::new(PackContent::Nodes),
            streams: OpenPack::new(PackContent::Streams),
            pending: VecDeque::new(),
            trees: HashMap::new(),
            roots: Vec::new(),
            packs: Vec::new(),
            frame_bytes: 0,
            fragment: fragment::FragmentDraft::default(),
        })
    }

    fn take_leaf(&mut self, tree: u32, leaf: SealedLeaf) -> Result<(), WriteError> {
        let SealedLeaf { id, cut, bytes, frame } = leaf;
        if let Some(frame) = &frame {
            self.append(PackContent::Leaves, frame)?;
        }
        let open = self.tree(tree);
        open.leaves += 1;
        open.leaves_new += u64::from(frame.is_some());
        open.bytes += bytes;
        open.owners += cut.owners;
        let streams = cut.streams.iter().map(|stream| StreamHint { stream: *stream, location: None }).collect();
        let (rows, owners) = (cut.rows, cut.owners);
        let child = Child { id, rows, bytes, owners, leaves: 1, streams, location: None, ranges_location: None };
        open.builder.push(child, &cut.first_key, &cut.last_key);
        let built = open.builder.take_built();
        self.pend_nodes(built);
        if self.pending.len() > PENDING_MAX { self.settle() } else { Ok(()) }
    }

    fn take(&mut self, result: SealResult) -> Result<(), WriteError> {
        match result {
            SealResult::Leaves { tree, leaves, .. } => {
                for leaf in leaves {
                    self.take_leaf(tree, leaf)?;
                }
            }
            SealResult::TreeEnd { tree, .. } => {
                self.tree(tree);
                let Some(open) = self.trees.remove(&tree) else { return Ok(()) };
                let (built, root) = open.builder.finish();
                self.pend_nodes(built);
                let skeleton = Vec::new();
                let built = BuiltTree {
                    tree,
                    root: TreeRoot { table: tree, kind: TreeKind::Rows, skeleton, ranges: root.ranges.clone() },
                    leaves: open.leaves,
                    leaves_new: open.leaves_new,
                    bytes: open.bytes,
                    owners: open.owners,
                };
                self.roots.push((built, root));
            }
            SealResult::Piece(_) | SealResult::List { .. } => {}
        }
        Ok(())
    }

    fn tree(&mut self, tree: u32) -> &mut OpenTree<'a> {
        let ids = self.setup.ids;
        self.trees.entry(tree).or_insert_with(|| OpenTree {
            builder: TreeBuilder::new(AssemblerKeys(ids)),
            leaves: 0,
            leaves_new: 0,
            bytes: 0,
            owners: 0,
        })
    }

    fn pend_nodes(&mut self, nodes: Vec<BuiltNode>) {
        for node in nodes {
            if let Some(location) = self.setup.base.get(&node.id) {
                self.used.mark(location.pack);
            } else if !self.knows(&node.id) {
                self.pend(PendingChunk::Node(node));
            }
        }
    }

    fn pend(&mut self, pending: PendingChunk) {
        let id = match &pending {
            PendingChunk::Node(node) => node.id,
            PendingChunk::List { id, .. } => *id,
        };
        if !self.closed_or_base(&id) && self.open.insert(id) {
            self.pending.push_back(pending);
        }
    }

    fn knows(&self, id: &ChunkId) -> bool {
        self.open.contains(id) || self.closed_or_base(id)
    }

    fn closed_or_base(&self, id: &ChunkId) -> bool {
        self.closed.get(id).is_some() || self.setup.base.get(id).is_some()
    }

    /// Appends a frame to the open pack of its kind, unless it came before.
    fn append(&mut self, content: PackContent, frame: &SealedFrame) -> Result<(), WriteError> {
        if self.knows(&frame.id) {
            return Ok(());
        }
        self.open.insert(frame.id);
        self.frame_bytes += frame.sealed.len() as u64;
        let pack = self.pack(content);
        pack.push(frame);
        if pack.is_full() {
            self.close(content)?;
            self.resolve()?;
        }
        Ok(())
    }

    fn pack(&mut self, content: PackContent) -> &mut OpenPack {
        match content {
            PackContent::Nodes | PackContent::Repacked => &mut self.nodes,
            PackContent::Leaves => &mut self.leaves,
            PackContent::Streams => &mut self.streams,
        }
    }

    fn close(&mut self, content: PackContent) -> Result<(), WriteError> {
        let pack = std::mem::replace(self.pack(content), OpenPack::new(content));
        if pack.is_empty() {
            return Ok(());
        }
        let setup = self.setup;
        let (context, session) = (setup.session.context(), setup.session.session());
        let sequence = self.packs.len() as u32;
        let seal = PackSeal { context, session, wrap: setup.wrap, sequence, env: &*setup.env };
        let ClosedPack { digest, bytes, content, locations } = pack.close(&seal, &mut self.sealer)?;
        let size = bytes.len() as u64;
        let pack = PackRef { digest, sessions: vec![session] };
        let indexed = IndexedPack { pack, size, content, epoch: context.epoch };
        let ordinal = self.closed.add_pack(indexed.clone());
        for (id, location) in &locations {
            self.closed.insert(id, &FrameLocation { pack: ordinal, ..*location });
            self.open.remove(id);
        }
        self.fragment.add(indexed, locations.into_iter());
        self.packs.push(StoredPack { digest, size });
        self.upload(Upload::Pack(digest, bytes))?;
        if self.fragment.entries() >= FRAGMENT_ENTRIES {
            self.write_fragment()?;
        }
        Ok(())
    }

    fn upload(&self, upload: Upload) -> Result<(), WriteError> {
        self.uploads.send(upload).map_err(|_| WriteError::Stopped)
    }

    fn write_fragment(&mut self) -> Result<(), WriteError> {
        match self.fragment.take(self.setup.session, &mut self.sealer, self.setup.identity)? {
            Some(bytes) => self.upload(Upload::Index(Digest::of(&bytes), bytes.into())),
            None => Ok(()),
        }
    }

    /// Writes every pending chunk whose children all have a place. In the order of pending, so that
    /// children come before their parents.
    fn resolve(&mut self) -> Result<(), WriteError> {
        let mut waiting = VecDeque::new();
        while let Some(pending) = self.pending.pop_front() {
            match pending {
                PendingChunk::Node(mut node) => match self.locate_node(&mut node.skeleton) {
                    Located::All => self.write_node(&node)?,
                    Located::NotYet => waiting.push_back(PendingChunk::Node(node)),
                },
                PendingChunk::List { id, mut list } => match self.locate_list(&mut list) {
                    Located::All => {
                        let content = list.content();
                        let frame = seal(&mut self.encoder, &mut self.sealer, FrameType::List, id, &content, &[])?;
                        self.write_structure(&[frame])?;
                    }
                    Located::NotYet => waiting.push_back(PendingChunk::List { id, list }),
                },
            }
        }
        self.pending = waiting;
        Ok(())
    }

    fn write_node(&mut self, node: &BuiltNode) -> Result<(), WriteError> {
        let (encoder, sealer) = (&mut self.encoder, &mut self.sealer);
        let skeleton = seal(encoder, sealer, FrameType::Node, node.id, &node.skeleton.content(), &[])?;
        let ranges = seal(encoder, sealer, FrameType::Ranges, ranges_id(&node.id), &node.ranges, &[])?;
        self.write_structure(&[skeleton, ranges])
    }

    /// Appends frames side by side to the pack of nodes. They are in `open` already.
    fn write_structure(&mut self, frames: &[SealedFrame]) -> Result<(), WriteError> {
        if self.nodes.is_full() {
            self.close(PackContent::Nodes)?;
        }
        for frame in frames {
            self.open.insert(frame.id);
            self.frame_bytes += frame.sealed.len() as u64;
            self.nodes.push(frame);
        }
        Ok(())
    }

    /// Closes the packs that the oldest pending chunks wait for.
    fn settle(&mut self) -> Result<(), WriteError> {
        self.resolve()?;
        for content in [PackContent::Streams, PackContent::Leaves, PackContent::Nodes] {
            if self.pending.len() > PENDING_MAX / 2 {
                self.close(content)?;
                self.resolve()?;
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Written, WriteError> {
        self.close(PackContent::Leaves)?;
        self.close(PackContent::Streams)?;
        self.resolve()?;
        // Each round writes one more level of nodes.
        while !self.pending.is_empty() {
            if self.nodes.is_empty() {
                return Err(WriteError::Stopped);
            }
            self.close(PackContent::Nodes)?;
            self.resolve()?;
        }
        self.close(PackContent::Nodes)?;
        self.write_fragment()?;
        let mut trees = Vec::with_capacity(self.roots.len());
        for (mut tree, mut root) in std::mem::take(&mut self.roots) {
            if let Located::NotYet = self.locate_node(&mut root.skeleton) {
                return Err(WriteError::Stopped);
            }
            tree.root.skeleton = root.skeleton.content();
            trees.push(tree);
        }
        Ok(Written { trees, packs: self.packs, frame_bytes: self.frame_bytes, index: self.closed })
    }

    fn locate_node(&self, skeleton: &mut Skeleton) -> Located {
        // Children are stored in order: while the last has no place, it is of no use to look for all.
        if skeleton.children.last().is_some_and(|last| !self.closed_or_base(&last.id)) {
            return Located::NotYet;
        }
        let mut places = PackPlaces::new(self);
        let inner = skeleton.level > 1;
        for child in &mut skeleton.children {
            let Some(location) = places.of(&child.id) else { return Located::NotYet };
            child.location = Some(location);
            if inner {
                child.ranges_location = places.of(&ranges_id(&child.id));
            }
            for hint in &mut child.streams {
                let Some(location) = places.of(&hint.stream.id) else { return Located::NotYet };
                hint.location = Some(location);
            }
        }
        skeleton.packs = places.packs;
        Located::All
    }

    fn locate_list(&self, list: &mut PieceList) -> Located {
        if list.pieces.last().is_some_and(|last| !self.closed_or_base(&last.id)) {
            return Located::NotYet;
        }
        let mut places = PackPlaces::new(self);
        for piece in &mut list.pieces {
            let Some(location) = places.of(&piece.id) else { return Located::NotYet };
            piece.location = Some(location);
        }
        list.packs = places.packs;
        Located::All
    }
}

enum Located {
    All,
    NotYet,
}

/// Collects the packs of one node's locations.
struct PackPlaces<'a, 'b> {
    assembler: &'b Assembler<'a>,
    packs: Vec<PackRef>,
    /// (which index, ordinal there) -> ordinal in `packs`.
    seen: HashMap<(Which, u32), u32>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Which {
    Base,
    Session,
}

impl<'a, 'b> PackPlaces<'a, 'b> {
    fn new(assembler: &'b Assembler<'a>) -> Self {
        Self { assembler, packs: Vec::new(), seen: HashMap::new() }
    }

    fn of(&mut self, id: &ChunkId) -> Option<FrameLocation> {
        let (which, index) = (self.assembler.setup.base, &self.assembler.closed);
        let (which, index, location) = match which.get(id) {
            Some(location) => (Which::Base, which, location),
            None => (Which::Session, index, index.get(id)?),
        };
        let packs = &mut self.packs;
        let ordinal = *self.seen.entry((which, location.pack)).or_insert_with(|| {
            packs.push(index.packs()[location.pack as usize].pack.clone());
            (packs.len() - 1) as u32
        });
        Some(FrameLocation { pack: ordinal, ..location })
    }
}
