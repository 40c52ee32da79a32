//! Every row: leaves, ranges and pieces are opened and decoded, and everything that follows from the
//! rows is computed again. What lies between two leaves (order, the cut, the separator, owners that
//! go on) is checked once for each pair of neighbours, so that a snapshot costs what it has new.

use std::collections::{HashMap, HashSet};

use crate::base::finding::{Affected, Finding, FindingKind, Findings};
use crate::base::frame::FrameType;
use crate::base::id::ChunkId;
use crate::base::progress::CountUnit;
use crate::crypto::ids::SourceIdKeys;
use crate::format::catalog::Catalog;
use crate::format::cell::{StreamForm, StreamRef};
use crate::format::manifest::{TableSummary, TreeKind, TreeRoot};
use crate::format::name::Name;
use crate::format::node::{Child, FrameLocation, Skeleton};
use crate::ops::error::OpError;
use crate::ops::verify::frame_map::FrameMap;
use crate::ops::verify::leaf::{LeafFacts, LeafFault, TreeRules};
use crate::ops::verify::nodes::{OpenNode, fetch_nodes, open_node, separators};
use crate::ops::verify::report::{SnapshotChecked, VerifyOptions};
use crate::ops::verify::tree_scan::{LeafPair, PathStep, ScannedLeaf, TreeScan, needed_leaves};
use crate::repo::error::RepoError;
use crate::repo::finding::finding_of;
use crate::repo::ledger::SnapshotRecord;
use crate::repo::reader::{SnapshotReader, StreamPlace, Want};
use crate::tree::builder::RowCounts;

/// Nodes that are in memory on each level.
const NODES_AT_ONCE: usize = 64;
/// Leaves that are looked at together.
const LEAVES_AT_ONCE: usize = 1024;
/// Streams that are looked at together.
const STREAMS_AT_ONCE: usize = 1024;

/// A snapshot with the keys that its ids are made with.
pub struct OpenSnapshot<'a> {
    pub reader: &'a SnapshotReader<'a>,
    pub ids: &'a SourceIdKeys,
    pub record: &'a SnapshotRecord,
}

impl OpenSnapshot<'_> {
    fn manifest_finding(&self, detail: &str) -> Finding {
        manifest_finding(self.reader, self.record, detail)
    }
}

fn manifest_finding(reader: &SnapshotReader<'_>, record: &SnapshotRecord, detail: &str) -> Finding {
    let source = reader.source();
    let name = Name::Manifest(source, record.snapshot.manifest.sha256);
    let finding = Finding::new(FindingKind::Contradiction, name, detail).of_source(source);
    finding.affecting(Affected::snapshot(Some(record.id)))
}

/// What is shared by the row checks of all snapshots of a source.
pub struct RowCheck<'a> {
    frames: &'a FrameMap,
    findings: &'a mut Findings,
    options: &'a VerifyOptions,
    /// Trees and pairs of neighbours in which nothing is wrong.
    sound: HashSet<u64>,
    /// Row counts of leaves by the position of their chunk.
    counts: HashMap<usize, RowCounts>,
    /// Streams that were opened, and what was found wrong with them.
    streams: HashSet<ChunkId>,
    pieces: HashSet<ChunkId>,
    stream_findings: HashMap<ChunkId, Vec<usize>>,
    /// Whether equal keys were ever found on both sides of a cut.
    keys_split: bool,
}

impl<'a> RowCheck<'a> {
    /// Nothing is checked yet.
    pub fn new(frames: &'a FrameMap, findings: &'a mut Findings, options: &'a VerifyOptions) -> Self {
        Self {
            frames,
            findings,
            options,
            sound: HashSet::new(),
            counts: HashMap::new(),
            streams: HashSet::new(),
            pieces: HashSet::new(),
            stream_findings: HashMap::new(),
            keys_split: false,
        }
    }

    /// Checks every row of a snapshot.
    pub fn snapshot(&mut self, snapshot: &OpenSnapshot<'_>, checked: &mut SnapshotChecked) -> Result<(), OpError> {
        let manifest = snapshot.reader.manifest();
        let Some(catalog) = &manifest.catalog else { return Ok(()) };
        self.schema(snapshot, catalog)?;
        for root in &manifest.roots {
            let summary = manifest.summary.tables.iter().find(|table| table.number == root.table);
            let (Some(entry), Some(summary)) = (catalog.table(root.table), summary) else {
                let detail = "it has a tree of a table that its catalog does not have";
                self.findings.add(snapshot.manifest_finding(detail));
                continue;
            };
            let is_owner = catalog.owner_table == Some(root.table);
            let rules = TreeRules { ids: snapshot.ids, kind: root.kind, entry, is_owner };
            let mut tree = TreeScan::new(snapshot.reader, snapshot.record, &summary.name, rules);
            self.tree(&mut tree, root, summary)?;
            checked.opened += tree.opened;
            checked.opened_bytes += tree.opened_bytes;
        }
        Ok(())
    }

    fn schema(&mut self, snapshot: &OpenSnapshot<'_>, catalog: &Catalog) -> Result<(), OpError> {
        match snapshot.reader.schema() {
            Ok(schema) => {
                let digest = data_encoding::HEXLOWER.encode(&snapshot.ids.row_hash(&schema));
                if digest != catalog.schema_digest {
                    let detail = "its schema is not the one whose digest its catalog has";
                    self.findings.add(snapshot.manifest_finding(detail));
                }
            }
            Err(error) => {
                let finding = finding_of(Some(snapshot.reader.source()), error)?;
                self.findings.add(finding.affecting(Affected::snapshot(Some(snapshot.record.id))));
            }
        }
        Ok(())
    }

    fn tree(&mut self, tree: &mut TreeScan<'_>, root: &TreeRoot, summary: &TableSummary) -> Result<(), OpError> {
        // A root that does not open has been reported with its structure.
        let Ok(skeleton) = tree.reader.open_root(root) else { return Ok(()) };
        let root_id = tree.reader.root_id(root)?;
        let hash = tree.hash(&[root_id.as_bytes(), &counts_bytes(summary)]);
        if self.sound.contains(&hash) {
            return Ok(());
        }
        let Some(separators) = separators(tree.rules.ids, &skeleton, &root.ranges) else {
            self.manifest_fault(tree, "the ranges of a root are not those that it names");
            return Ok(());
        };
        tree.path = (0..skeleton.level).map(|_| PathStep::default()).collect();
        self.node(tree, &skeleton, separators)?;
        self.check_batch(tree)?;
        self.check_streams(tree)?;
        self.check_end(tree, &skeleton);
        if root.kind == TreeKind::Rows && tree.is_complete {
            self.check_totals(tree, summary);
        }
        if tree.is_sound && tree.is_complete {
            self.sound.insert(hash);
        }
        Ok(())
    }

    fn node(&mut self, tree: &mut TreeScan<'_>, node: &Skeleton, separators: Vec<Vec<u8>>) -> Result<(), OpError> {
        if self.options.cancel.is_cancelled() {
            return Err(OpError::Cancelled);
        }
        let level = usize::from(node.level);
        tree.path[level - 1] = PathStep { separators, children: 0 };
        if level == 1 {
            return self.leaves(tree, node);
        }
        for children in node.children.chunks(NODES_AT_ONCE) {
            for opened in self.open_nodes(tree, node.level - 1, children)? {
                tree.path[level - 1].children += 1;
                match opened {
                    Some(OpenNode { skeleton, separators }) => self.node(tree, &skeleton, separators)?,
                    None => {
                        self.check_batch(tree)?;
                        tree.skip();
                    }
                }
            }
        }
        Ok(())
    }

    fn leaves(&mut self, tree: &mut TreeScan<'_>, node: &Skeleton) -> Result<(), OpError> {
        for leaf in &node.children {
            tree.push(leaf);
            if tree.batch.len() >= LEAVES_AT_ONCE {
                self.check_batch(tree)?;
            }
        }
        Ok(())
    }

    /// Nodes with their separators; `None` for one that cannot be read.
    fn open_nodes(
        &mut self,
        tree: &mut TreeScan<'_>,
        level: u8,
        children: &[Child],
    ) -> Result<Vec<Option<OpenNode>>, OpError> {
        let contents = fetch_nodes(tree.reader, children)?;
        let mut opened = Vec::with_capacity(children.len());
        for (child, content) in children.iter().zip(contents) {
            match open_node(tree, level, child, content) {
                Ok(node) => opened.push(Some(node)),
                Err(error) => {
                    let detail = format!("a node over {} rows or its ranges cannot be read: {error}", child.rows);
                    self.fault(tree, FindingKind::Unreadable, child.location, detail);
                    opened.push(None);
                }
            }
        }
        Ok(opened)
    }

    /// Checks the leaves of the batch and what lies between them.
    fn check_batch(&mut self, tree: &mut TreeScan<'_>) -> Result<(), OpError> {
        let mut items = std::mem::take(&mut tree.batch);
        if items.is_empty() {
            return Ok(());
        }
        let mut first = 0;
        if let Some(previous) = tree.previous.take() {
            items.insert(0, previous);
            first = 1;
        }
        let fresh = self.fresh_pairs(tree, &items, first);
        let needed = needed_leaves(&items, &fresh);
        self.open_leaves(tree, &mut items, &needed)?;
        for pair in fresh {
            if self.check_pair(tree, &items, pair.at) == LeafVerdict::Sound {
                self.sound.insert(pair.hash);
            }
        }
        for item in &items[first..] {
            self.queue_streams(tree, item);
            let counts = self.row_counts(item);
            tree.add_counts(counts);
        }
        tree.previous = items.pop();
        if tree.streams.len() >= STREAMS_AT_ONCE {
            self.check_streams(tree)?;
        }
        Ok(())
    }

    /// Pairs of neighbours that were not found sound before.
    fn fresh_pairs(&self, tree: &TreeScan<'_>, items: &[ScannedLeaf], first: usize) -> Vec<LeafPair> {
        let mut fresh = Vec::new();
        for at in first..items.len() {
            let hash = tree.pair_hash(items, at);
            if !self.sound.contains(&hash) {
                fresh.push(LeafPair { at, hash });
            }
        }
        fresh
    }

    fn open_leaves(
        &mut self,
        tree: &mut TreeScan<'_>,
        items: &mut [ScannedLeaf],
        needed: &[usize],
    ) -> Result<(), OpError> {
        let mut wants = Vec::new();
        for &at in needed {
            let leaf = &items[at].leaf;
            wants.push(Want { kind: FrameType::Leaf, id: leaf.id, location: leaf.location });
        }
        let reader = tree.reader;
        reader.fetch(&wants, |n, content| {
            let item = &mut items[needed[n]];
            match content {
                Ok(content) => item.facts = self.leaf_facts(tree, &item.leaf, &content),
                Err(RepoError::Store(error)) => return Err(OpError::from(RepoError::Store(error))),
                Err(error) => {
                    let detail = format!("{} rows cannot be read: {error}", item.leaf.rows);
                    self.fault(tree, FindingKind::Unreadable, item.leaf.location, detail);
                }
            }
            Ok(())
        })
    }

    /// What the rows of a leaf say, unless something is wrong with them.
    fn leaf_facts(&mut self, tree: &mut TreeScan<'_>, leaf: &Child, content: &[u8]) -> Option<LeafFacts> {
        self.count_opened(tree, content);
        let reader = tree.reader;
        let mut read = |stream: &StreamRef| reader.stream(&place_of(leaf, stream)).ok();
        let fault = match tree.rules.facts(content, &mut read) {
            Ok(facts) if facts.is_as_described(leaf, content) => return Some(facts),
            Ok(_) => format!("leaf {} has other rows or streams than its node says", leaf.id),
            Err(LeafFault::Wrong(fault)) => format!("leaf {}: {fault}", leaf.id),
            Err(LeafFault::KeyLost) => {
                // The stream is opened with the others, and named then.
                tree.is_sound = false;
                return None;
            }
        };
        self.fault(tree, FindingKind::Contradiction, leaf.location, fault);
        None
    }

    /// Checks what lies before the leaf at `at`.
    fn check_pair(&mut self, tree: &mut TreeScan<'_>, items: &[ScannedLeaf], at: usize) -> LeafVerdict {
        let item = &items[at];
        let Some(facts) = &item.facts else { return LeafVerdict::Unsound };
        let fault = match (&item.junction, at.checked_sub(1)) {
            (Some(junction), Some(before)) => {
                let Some(facts_before) = &items[before].facts else { return LeafVerdict::Unsound };
                self.keys_split |= facts_before.last_key == facts.first_key;
                let fault = facts_before.fault_before(facts, junction, &tree.rules);
                fault.or_else(|| facts.owners_fault(Some(facts_before), &item.leaf))
            }
            _ if item.is_first => facts.owners_fault(None, &item.leaf),
            // Something before it cannot be read.
            _ => return LeafVerdict::Unsound,
        };
        let Some(fault) = fault else { return LeafVerdict::Sound };
        self.leaf_fault(tree, &item.leaf, fault);
        LeafVerdict::Unsound
    }

    /// Queues the streams of a leaf that were not opened yet.
    fn queue_streams(&mut self, tree: &mut TreeScan<'_>, item: &ScannedLeaf) {
        for hint in &item.leaf.streams {
            let stream = hint.stream;
            if let Some(found) = self.stream_findings.get(&stream.id) {
                tree.is_sound = false;
                for at in found {
                    self.findings.met_again(*at, tree.affected());
                }
            } else if !self.streams.contains(&stream.id) {
                tree.streams.push(StreamPlace { stream, location: hint.location });
            }
        }
    }

    /// The counts of a leaf, opened now or before.
    fn row_counts(&mut self, item: &ScannedLeaf) -> Option<RowCounts> {
        let chunk = self.frames.chunk(&item.leaf.id);
        let Some(facts) = &item.facts else { return self.counts.get(&chunk?).copied() };
        if let Some(chunk) = chunk {
            self.counts.insert(chunk, facts.counts);
        }
        Some(facts.counts)
    }

    fn check_end(&mut self, tree: &mut TreeScan<'_>, root: &Skeleton) {
        let Some(last) = tree.previous.take() else { return };
        let Some(facts) = &last.facts else { return };
        let children: Vec<usize> = tree.path.iter().map(|step| step.children).collect();
        debug_assert_eq!(children.len(), usize::from(root.level));
        if let Some(fault) = facts.fault_at_end(&children, &tree.rules) {
            self.leaf_fault(tree, &last.leaf, fault);
        }
    }

    fn check_totals(&mut self, tree: &mut TreeScan<'_>, summary: &TableSummary) {
        let expected = RowCounts {
            owned: summary.owned,
            none: summary.none,
            orphan: summary.orphan,
            duplicates: if self.keys_split { tree.totals.duplicates } else { summary.duplicates },
        };
        if expected != tree.totals {
            tree.is_sound = false;
            self.manifest_fault(tree, "the counts of its summary are not those of the rows");
        }
    }

    /// Opens every piece of the streams that wait.
    fn check_streams(&mut self, tree: &mut TreeScan<'_>) -> Result<(), OpError> {
        let mut pieces = Vec::new();
        for place in std::mem::take(&mut tree.streams) {
            if self.streams.insert(place.stream.id) {
                self.queue_pieces(tree, &place, &mut pieces)?;
            }
        }
        let wants: Vec<Want> = pieces.iter().map(|piece| piece.want).collect();
        let reader = tree.reader;
        reader.fetch(&wants, |at, content| {
            if self.options.cancel.is_cancelled() {
                return Err(OpError::Cancelled);
            }
            let piece = &pieces[at];
            match content {
                Ok(content) => self.check_piece(tree, piece, &content),
                Err(RepoError::Store(error)) => return Err(OpError::from(RepoError::Store(error))),
                Err(error) => self.stream_fault(tree, piece, format!("a value cannot be read: {error}")),
            }
            Ok(())
        })
    }

    /// Queues the pieces of a stream that were not opened yet.
    fn queue_pieces(
        &mut self,
        tree: &mut TreeScan<'_>,
        place: &StreamPlace,
        queue: &mut Vec<StreamPart>,
    ) -> Result<(), OpError> {
        let StreamPlace { stream, location } = *place;
        let whole = Want { kind: FrameType::Piece, id: stream.id, location };
        let pieces = match stream.form {
            StreamForm::Piece => Ok(vec![(whole, stream.len)]),
            StreamForm::List => tree.reader.pieces_and_lengths(place),
        };
        match pieces {
            Ok(pieces) => {
                for (want, len) in pieces {
                    if self.pieces.insert(want.id) {
                        queue.push(StreamPart { want, len, stream: stream.id });
                    }
                }
                Ok(())
            }
            Err(RepoError::Store(error)) => Err(RepoError::Store(error).into()),
            Err(error) => {
                let list = StreamPart { want: whole, len: stream.len, stream: stream.id };
                self.stream_fault(tree, &list, format!("a value of {} bytes cannot be read: {error}", stream.len));
                Ok(())
            }
        }
    }

    fn check_piece(&mut self, tree: &mut TreeScan<'_>, piece: &StreamPart, content: &[u8]) {
        self.count_opened(tree, content);
        if content.len() as u64 != piece.len {
            let detail = format!("piece {} of a value has another length than it must have", piece.want.id);
            self.stream_fault(tree, piece, detail);
        }
    }

    fn count_opened(&self, tree: &mut TreeScan<'_>, content: &[u8]) {
        tree.opened += 1;
        tree.opened_bytes += content.len() as u64;
        self.options.progress.add(CountUnit::ContentBytes, content.len() as u64);
    }

    fn stream_fault(&mut self, tree: &mut TreeScan<'_>, part: &StreamPart, detail: String) {
        let mark = self.findings.mark();
        self.fault(tree, FindingKind::Unreadable, part.want.location, detail);
        let met = self.findings.met_since(mark);
        self.stream_findings.entry(part.stream).or_default().extend(met);
    }

    fn leaf_fault(&mut self, tree: &mut TreeScan<'_>, leaf: &Child, fault: &str) {
        let detail = format!("it has {fault}, at leaf {}", leaf.id);
        self.fault(tree, FindingKind::Contradiction, leaf.location, detail);
    }

    fn manifest_fault(&mut self, tree: &TreeScan<'_>, detail: &str) {
        self.findings.add(manifest_finding(tree.reader, tree.record, detail));
    }

    fn fault(&mut self, tree: &mut TreeScan<'_>, kind: FindingKind, location: Option<FrameLocation>, detail: String) {
        tree.is_sound = false;
        let source = tree.reader.source();
        let object = match location {
            Some(location) => Name::Pack(source, tree.reader.pack_digest(location.pack)).to_string(),
            None => format!("{source}/packs"),
        };
        let finding = Finding::new(kind, object, detail).of_source(source);
        self.findings.add(finding.affecting(tree.affected()));
    }
}

/// A piece of a stream.
struct StreamPart {
    want: Want,
    len: u64,
    stream: ChunkId,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum LeafVerdict {
    Sound,
    Unsound,
}

/// Where a stream of a leaf should be.
fn place_of(leaf: &Child, stream: &StreamRef) -> StreamPlace {
    let hint = leaf.streams.iter().find(|hint| hint.stream.id == stream.id);
    StreamPlace { stream: *stream, location: hint.and_then(|hint| hint.location) }
}

fn counts_bytes(summary: &TableSummary) -> Vec<u8> {
    let mut bytes = Vec::new();
    for count in [summary.owned, summary.none, summary.orphan, summary.duplicates] {
        bytes.extend_from_slice(&count.to_le_bytes());
    }
    bytes
}
