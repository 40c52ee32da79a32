//! Every row: leaves, ranges and pieces are opened and decoded, and everything that follows from the
//! rows is computed again. What lies between two leaves (order, the cut, the separator, owners that
//! go on) is checked once for each pair of neighbours, so that a snapshot costs what it has new.

use std::collections::{HashMap, HashSet};

use crate::base::cancel::Cancel;
use crate::base::frame::FrameType;
use crate::base::id::ChunkId;
use crate::base::progress::{CountUnit, SharedProgress};
use crate::crypto::ids::SourceIdKeys;
use crate::format::catalog::Catalog;
use crate::format::cell::{StreamForm, StreamRef};
use crate::format::manifest::{TableSummary, TreeKind, TreeRoot};
use crate::format::name::Name;
use crate::format::node::{Child, FrameLocation, Ranges, Skeleton, ranges_id};
use crate::ops::error::OpError;
use crate::ops::verify::leaf::{LeafFault, TreeRules};
use crate::ops::verify::places::FramePlaces;
use crate::ops::verify::report::SnapshotChecked;
use crate::ops::verify::sequence::{PathStep, PlacedLeaf, Tree};
use crate::repo::check::{Fault, Findings, Victim};
use crate::repo::error::RepoError;
use crate::repo::ledger::SnapshotRecord;
use crate::repo::reader::{SnapshotReader, StreamPlace, Want};
use crate::tree::builder::RowCounts;

/// Nodes that are in memory on each level.
const NODES_AT_ONCE: usize = 64;
/// Leaves that are looked at together.
const LEAVES_AT_ONCE: usize = 1024;
/// Streams that are looked at together.
const STREAMS_AT_ONCE: usize = 1024;

/// What is shared by the deep checks of all snapshots of a source.
pub struct Deep<'a> {
    pub places: &'a FramePlaces,
    pub findings: &'a mut Findings,
    pub progress: SharedProgress,
    pub cancel: Cancel,
    /// Trees and pairs of neighbours in which nothing is wrong.
    sound: HashSet<u64>,
    /// Row counts of leaves by chunk number.
    counts: HashMap<usize, RowCounts>,
    /// Streams that were opened, and what was wrong with them.
    streams: HashSet<ChunkId>,
    pieces: HashSet<ChunkId>,
    faults: HashMap<ChunkId, Vec<usize>>,
    /// Whether equal keys were ever found on both sides of a cut.
    keys_split: bool,
}

impl<'a> Deep<'a> {
    /// Nothing was looked at yet.
    pub fn new(places: &'a FramePlaces, findings: &'a mut Findings, progress: SharedProgress, cancel: Cancel) -> Self {
        Self {
            places,
            findings,
            progress,
            cancel,
            sound: HashSet::new(),
            counts: HashMap::new(),
            streams: HashSet::new(),
            pieces: HashSet::new(),
            faults: HashMap::new(),
            keys_split: false,
        }
    }

    /// Looks at every row of a snapshot.
    pub fn snapshot(
        &mut self,
        (reader, ids): (&SnapshotReader<'_>, &SourceIdKeys),
        record: &SnapshotRecord,
        checked: &mut SnapshotChecked,
    ) -> Result<(), OpError> {
        let manifest = reader.manifest();
        let Some(catalog) = &manifest.catalog else { return Ok(()) };
        self.schema((reader, ids), record, catalog)?;
        for root in &manifest.roots {
            let summary = manifest.summary.tables.iter().find(|table| table.number == root.table);
            let (Some(entry), Some(summary)) = (catalog.table(root.table), summary) else {
                self.manifest_fault(reader, record, "it has a tree of a table that its catalog does not have");
                continue;
            };
            let is_owner = catalog.owner_table == Some(root.table);
            let rules = TreeRules { ids, kind: root.kind, entry, is_owner };
            let mut tree = Tree::new(reader, record, &summary.name, rules);
            self.tree(&mut tree, root, summary)?;
            checked.opened += tree.opened;
            checked.opened_bytes += tree.opened_bytes;
        }
        Ok(())
    }

    fn manifest_fault(&mut self, reader: &SnapshotReader<'_>, record: &SnapshotRecord, what: &str) {
        let name = Name::Manifest(reader.source(), record.snapshot.manifest.sha256);
        let at = self.findings.add(Fault::Contradiction, Some(reader.source()), name, what);
        self.findings.hurts(at, Victim { snapshot: Some(record.id), table: None });
    }

    fn schema(
        &mut self,
        (reader, ids): (&SnapshotReader<'_>, &SourceIdKeys),
        record: &SnapshotRecord,
        catalog: &Catalog,
    ) -> Result<(), OpError> {
        match reader.schema() {
            Ok(schema) => {
                let digest = data_encoding::HEXLOWER.encode(&ids.row_hash(&schema));
                if digest != catalog.schema_digest {
                    self.manifest_fault(reader, record, "its schema is not the one whose digest its catalog has");
                }
            }
            Err(error) => {
                let at = self.findings.add_error(Some(reader.source()), error)?;
                self.findings.hurts(at, Victim { snapshot: Some(record.id), table: None });
            }
        }
        Ok(())
    }

    fn tree(&mut self, tree: &mut Tree<'_>, root: &TreeRoot, summary: &TableSummary) -> Result<(), OpError> {
        let (reader, record) = (tree.reader, tree.record);
        let Ok(skeleton) = reader.open_root(root) else { return Ok(()) };
        let hash = tree.hash(&[reader.root_id(root)?.as_bytes(), &counts_bytes(summary)]);
        if self.sound.contains(&hash) {
            return Ok(());
        }
        let Some(separators) = separators(tree.rules.ids, &skeleton, &root.ranges) else {
            self.manifest_fault(reader, record, "the ranges of a root are not those that it names");
            return Ok(());
        };
        tree.path = (0..skeleton.level).map(|_| PathStep::default()).collect();
        self.node(tree, &skeleton, separators)?;
        self.flush(tree)?;
        self.flush_streams(tree)?;
        self.end(tree, &skeleton);
        if root.kind == TreeKind::Rows && tree.unbroken {
            let told = RowCounts {
                owned: summary.owned,
                none: summary.none,
                orphan: summary.orphan,
                duplicates: if self.keys_split { tree.totals.duplicates } else { summary.duplicates },
            };
            if told != tree.totals {
                tree.is_sound = false;
                self.manifest_fault(reader, record, "the counts of its summary are not those of the rows");
            }
        }
        if tree.is_sound && tree.unbroken {
            self.sound.insert(hash);
        }
        Ok(())
    }

    fn node(&mut self, tree: &mut Tree<'_>, node: &Skeleton, separators: Vec<Vec<u8>>) -> Result<(), OpError> {
        if self.cancel.is_cancelled() {
            return Err(OpError::Cancelled);
        }
        let level = usize::from(node.level);
        tree.path[level - 1] = PathStep { separators, children: 0 };
        if level == 1 {
            for leaf in &node.children {
                tree.push(leaf);
                if tree.batch.len() >= LEAVES_AT_ONCE {
                    self.flush(tree)?;
                }
            }
            return Ok(());
        }
        for children in node.children.chunks(NODES_AT_ONCE) {
            let opened = self.open_nodes(tree, node.level - 1, children)?;
            for opened in opened {
                tree.path[level - 1].children += 1;
                match opened {
                    Some((skeleton, separators)) => self.node(tree, &skeleton, separators)?,
                    None => {
                        self.flush(tree)?;
                        tree.breaks();
                    }
                }
            }
        }
        Ok(())
    }

    /// Nodes with their separators; `None` for one that cannot be read.
    fn open_nodes(
        &mut self,
        tree: &mut Tree<'_>,
        level: u8,
        children: &[Child],
    ) -> Result<Vec<Option<OpenNode>>, OpError> {
        let wants: Vec<Want> = children
            .iter()
            .flat_map(|child| {
                let node = Want { kind: FrameType::Node, id: child.id, location: child.location };
                [node, Want { kind: FrameType::Ranges, id: ranges_id(&child.id), location: child.ranges_location }]
            })
            .collect();
        let mut contents: Vec<Result<Vec<u8>, String>> = wants.iter().map(|_| Err(String::new())).collect();
        let reader = tree.reader;
        reader.fetch(&wants, |at, content| {
            contents[at] = match content {
                Ok(content) => Ok(content),
                Err(RepoError::Store(error)) => return Err(OpError::from(RepoError::Store(error))),
                Err(error) => Err(error.to_string()),
            };
            Ok(())
        })?;
        let mut opened = Vec::with_capacity(children.len());
        for (child, pair) in children.iter().zip(contents.chunks(2)) {
            let want = Want { kind: FrameType::Node, id: child.id, location: child.location };
            let node = pair[0].as_ref().map_err(Clone::clone);
            let node = node.and_then(|c| reader.open_node(&want, c, level).map_err(|error| error.to_string()));
            let both = node.and_then(|node| {
                let ranges = pair[1].as_ref().map_err(Clone::clone)?;
                let separators = separators(tree.rules.ids, &node, ranges);
                Ok((node, separators.ok_or_else(|| "its ranges are not those that it names".to_owned())?))
            });
            if let Err(error) = &both {
                let what = format!("a node over {} rows or its ranges cannot be read: {error}", child.rows);
                self.fault(tree, Fault::Unreadable, child.location, what);
            }
            opened.push(both.ok());
        }
        Ok(opened)
    }

    /// Looks at the leaves of the batch and at what lies between them.
    fn flush(&mut self, tree: &mut Tree<'_>) -> Result<(), OpError> {
        let mut items = std::mem::take(&mut tree.batch);
        if items.is_empty() {
            return Ok(());
        }
        let had_before = tree.before.is_some();
        if let Some(before) = tree.before.take() {
            items.insert(0, before);
        }
        let first = usize::from(had_before);
        let hashes: Vec<u64> = (first..items.len()).map(|at| tree.pair_hash(&items, at)).collect();
        let fresh: Vec<usize> = (first..items.len()).filter(|at| !self.sound.contains(&hashes[at - first])).collect();
        let mut needed: Vec<usize> = fresh.iter().flat_map(|&at| [at.checked_sub(1), Some(at)]).flatten().collect();
        // The last one is needed at the tree's end, or by the next batch, or not at all; it costs one leaf.
        needed.push(items.len() - 1);
        needed.sort_unstable();
        needed.dedup();
        needed.retain(|&at| items[at].facts.is_none());
        self.open_leaves(tree, &mut items, &needed)?;
        for at in fresh {
            if self.pair(tree, &items, at) == LeafVerdict::Sound {
                self.sound.insert(hashes[at - first]);
            }
        }
        for item in &items[first..] {
            self.sum(tree, item);
        }
        tree.before = items.pop();
        if tree.streams.len() >= STREAMS_AT_ONCE {
            self.flush_streams(tree)?;
        }
        Ok(())
    }

    fn open_leaves(&mut self, tree: &mut Tree<'_>, items: &mut [PlacedLeaf], needed: &[usize]) -> Result<(), OpError> {
        let want =
            |&at: &usize| Want { kind: FrameType::Leaf, id: items[at].leaf.id, location: items[at].leaf.location };
        let wants: Vec<Want> = needed.iter().map(want).collect();
        let reader = tree.reader;
        reader.fetch(&wants, |n, content| {
            let item = &mut items[needed[n]];
            let leaf = &item.leaf;
            let content = match content {
                Ok(content) => content,
                Err(RepoError::Store(error)) => return Err(OpError::from(RepoError::Store(error))),
                Err(error) => {
                    let what = format!("{} rows cannot be read: {error}", leaf.rows);
                    self.fault(tree, Fault::Unreadable, leaf.location, what);
                    return Ok(());
                }
            };
            tree.opened += 1;
            tree.opened_bytes += content.len() as u64;
            self.progress.add(CountUnit::ContentBytes, content.len() as u64);
            let mut read = |stream: &StreamRef| {
                let location =
                    leaf.streams.iter().find(|hint| hint.stream.id == stream.id).and_then(|hint| hint.location);
                reader.stream(&StreamPlace { stream: *stream, location }).ok()
            };
            match tree.rules.facts(&content, &mut read) {
                Ok(facts) => {
                    let streams = leaf.streams.iter().map(|hint| hint.stream);
                    if facts.rows != leaf.rows
                        || content.len() as u64 != leaf.bytes
                        || !facts.streams.iter().copied().eq(streams)
                    {
                        let what = format!("leaf {} has other rows or streams than its node says", leaf.id);
                        self.fault(tree, Fault::Contradiction, leaf.location, what);
                        return Ok(());
                    }
                    item.facts = Some(facts);
                }
                // The stream is opened with the others, and named then.
                Err(LeafFault::KeyLost) => tree.is_sound = false,
                Err(LeafFault::Wrong(what)) => {
                    let what = format!("leaf {}: {what}", leaf.id);
                    self.fault(tree, Fault::Contradiction, leaf.location, what);
                }
            }
            Ok(())
        })
    }

    /// Checks what lies before the leaf at `at`.
    fn pair(&mut self, tree: &mut Tree<'_>, items: &[PlacedLeaf], at: usize) -> LeafVerdict {
        let item = &items[at];
        let before = at.checked_sub(1).map(|before| &items[before]).filter(|_| item.junction.is_some());
        let Some(facts) = &item.facts else { return LeafVerdict::Unsound };
        let what = match (before, &item.junction) {
            (Some(before), Some(junction)) => {
                let Some(facts_before) = &before.facts else { return LeafVerdict::Unsound };
                self.keys_split |= facts_before.last_key == facts.first_key;
                let owners = facts.owners_after(Some(facts_before)) == item.leaf.owners;
                facts_before
                    .fault_before(facts, junction, &tree.rules)
                    .or((!owners).then_some("a leaf with other owners than its node says"))
            }
            _ if item.is_first => {
                (facts.owners_after(None) != item.leaf.owners).then_some("a leaf with other owners than its node says")
            }
            // Something before it cannot be read.
            _ => return LeafVerdict::Unsound,
        };
        match what {
            None => LeafVerdict::Sound,
            Some(what) => {
                let what = format!("it has {what}, at leaf {}", item.leaf.id);
                self.fault(tree, Fault::Contradiction, item.leaf.location, what);
                LeafVerdict::Unsound
            }
        }
    }

    /// Adds the counts of a leaf, fetched now or before, and queues its streams.
    fn sum(&mut self, tree: &mut Tree<'_>, item: &PlacedLeaf) {
        for hint in &item.leaf.streams {
            let stream = &hint.stream;
            if let Some(faults) = self.faults.get(&stream.id) {
                tree.is_sound = false;
                for at in faults.clone() {
                    self.findings.met_again(at, tree.victim());
                }
            } else if !self.streams.contains(&stream.id) {
                tree.streams.push(StreamPlace { stream: *stream, location: hint.location });
            }
        }
        let number = self.places.chunk(&item.leaf.id);
        let counts = match (&item.facts, number) {
            (Some(facts), Some(number)) => {
                self.counts.insert(number, facts.counts);
                Some(facts.counts)
            }
            (Some(facts), None) => Some(facts.counts),
            (None, number) => number.and_then(|number| self.counts.get(&number).copied()),
        };
        match counts {
            Some(counts) => {
                let sum = &mut tree.totals;
                sum.owned += counts.owned;
                sum.none += counts.none;
                sum.orphan += counts.orphan;
                sum.duplicates += counts.duplicates;
            }
            None => tree.unbroken = false,
        }
    }

    fn end(&mut self, tree: &mut Tree<'_>, root: &Skeleton) {
        let Some(last) = tree.before.take() else { return };
        let Some(facts) = &last.facts else { return };
        let children: Vec<usize> = tree.path.iter().map(|step| step.children).collect();
        debug_assert_eq!(children.len(), usize::from(root.level));
        if let Some(what) = facts.fault_at_end(&children, &tree.rules) {
            let what = format!("it has {what}, at leaf {}", last.leaf.id);
            self.fault(tree, Fault::Contradiction, last.leaf.location, what);
        }
    }

    /// Opens every piece of the streams that wait.
    fn flush_streams(&mut self, tree: &mut Tree<'_>) -> Result<(), OpError> {
        let reader = tree.reader;
        let mut wants: Vec<(Want, u64, ChunkId)> = Vec::new();
        for place in std::mem::take(&mut tree.streams) {
            if !self.streams.insert(place.stream.id) {
                continue;
            }
            let stream = place.stream;
            let pieces = match stream.form {
                StreamForm::Piece => {
                    Ok(vec![(Want { kind: FrameType::Piece, id: stream.id, location: place.location }, stream.len)])
                }
                StreamForm::List => reader.pieces_and_lengths(&place),
            };
            match pieces {
                Ok(pieces) => {
                    let fresh = pieces.into_iter().filter(|(want, _)| self.pieces.insert(want.id));
                    wants.extend(fresh.map(|(want, len)| (want, len, stream.id)));
                }
                Err(RepoError::Store(error)) => return Err(RepoError::Store(error).into()),
                Err(error) => {
                    let what = format!("a value of {} bytes cannot be read: {error}", stream.len);
                    self.stream_fault(tree, stream.id, place.location, what);
                }
            }
        }
        let plain: Vec<Want> = wants.iter().map(|(want, ..)| *want).collect();
        reader.fetch(&plain, |at, content| {
            if self.cancel.is_cancelled() {
                return Err(OpError::Cancelled);
            }
            let (want, len, stream) = wants[at];
            match content {
                Ok(content) => {
                    tree.opened += 1;
                    tree.opened_bytes += content.len() as u64;
                    self.progress.add(CountUnit::ContentBytes, content.len() as u64);
                    if content.len() as u64 != len {
                        let what = format!("piece {} of a value has another length than it must have", want.id);
                        self.stream_fault(tree, stream, want.location, what);
                    }
                }
                Err(RepoError::Store(error)) => return Err(OpError::from(RepoError::Store(error))),
                Err(error) => {
                    self.stream_fault(tree, stream, want.location, format!("a value cannot be read: {error}"))
                }
            }
            Ok(())
        })
    }

    fn stream_fault(&mut self, tree: &mut Tree<'_>, stream: ChunkId, location: Option<FrameLocation>, what: String) {
        let mark = self.findings.mark();
        self.fault(tree, Fault::Unreadable, location, what);
        let met = self.findings.met_since(mark);
        self.faults.entry(stream).or_default().extend(met);
    }

    fn fault(&mut self, tree: &mut Tree<'_>, fault: Fault, location: Option<FrameLocation>, what: String) {
        tree.is_sound = false;
        let source = tree.reader.source();
        let object = match location {
            Some(location) => Name::Pack(source, tree.reader.pack_digest(location.pack)).to_string(),
            None => format!("{source}/packs"),
        };
        let at = self.findings.add(fault, Some(source), object, what);
        self.findings.hurts(at, tree.victim());
    }
}

/// A node with its separators.
type OpenNode = (Skeleton, Vec<Vec<u8>>);

#[derive(Clone, Copy, PartialEq, Eq)]
enum LeafVerdict {
    Sound,
    Unsound,
}

/// The separators of a node, if they are the ones that it names and as many as it needs.
fn separators(ids: &SourceIdKeys, node: &Skeleton, ranges: &[u8]) -> Option<Vec<Vec<u8>>> {
    if ids.chunk_id(FrameType::Ranges, ranges) != node.ranges {
        return None;
    }
    let separators = Ranges::read(ranges).ok()?.separators;
    (separators.len() == node.children.len().saturating_sub(1)).then_some(separators)
}

fn counts_bytes(summary: &TableSummary) -> Vec<u8> {
    let counts = [summary.owned, summary.none, summary.orphan, summary.duplicates];
    counts.iter().flat_map(|count| count.to_le_bytes()).collect()
}
