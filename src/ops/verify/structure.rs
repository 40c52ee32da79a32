//! Structure of a snapshot: everything reachable from its roots opens as far as every role can open
//! it, lies in a pack of the inventory where its hint says, and adds up level by level. What several
//! snapshots share is looked at once; a fault in it affects all of them.

use std::collections::{HashMap, HashSet};

use crate::base::finding::{Affected, Finding, FindingKind, Findings};
use crate::base::frame::FrameType;
use crate::base::id::{ChunkId, Digest};
use crate::base::progress::CountUnit;
use crate::format::cell::{StreamForm, StreamRef};
use crate::format::manifest::{TableSummary, TreeKind, TreeRoot};
use crate::format::name::Name;
use crate::format::node::{Child, FrameLocation, PackRef, PieceList, Skeleton, ranges_id};
use crate::ops::error::OpError;
use crate::ops::verify::frame_map::{FrameHint, FrameMap, FrameSearch};
use crate::ops::verify::report::{SnapshotChecked, TableChecked, VerifyOptions};
use crate::repo::error::RepoError;
use crate::repo::ledger::SnapshotRecord;
use crate::repo::reader::{SnapshotReader, StreamPlace, Want};

/// Nodes that are read at once and in memory on each level.
const NODES_AT_ONCE: usize = 64;

/// What is shared by the checks of all snapshots of a source.
pub struct StructureCheck<'a> {
    frames: &'a FrameMap,
    pub findings: &'a mut Findings,
    options: &'a VerifyOptions,
    /// Nodes, lists and roots that were checked.
    visited: HashSet<ChunkId>,
    /// Findings at or below them.
    found_below: HashMap<ChunkId, Vec<usize>>,
}

/// A snapshot while it is checked.
struct CheckedSnapshot<'r> {
    reader: &'r SnapshotReader<'r>,
    record: &'r SnapshotRecord,
    checked: SnapshotChecked,
    /// The current table; empty: none yet.
    table: String,
}

/// Sums over children.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Sums {
    rows: u64,
    bytes: u64,
    owners: u64,
    leaves: u64,
}

impl Sums {
    fn of(child: &Child) -> Self {
        Self { rows: child.rows, bytes: child.bytes, owners: child.owners, leaves: child.leaves }
    }

    fn of_table(table: &TableSummary) -> Self {
        Self { rows: table.rows, bytes: table.bytes, owners: table.owners, leaves: table.leaves }
    }

    fn below(node: &Skeleton) -> Self {
        let mut sums = Self::default();
        for child in &node.children {
            sums.rows = sums.rows.saturating_add(child.rows);
            sums.bytes = sums.bytes.saturating_add(child.bytes);
            sums.owners = sums.owners.saturating_add(child.owners);
            sums.leaves = sums.leaves.saturating_add(child.leaves);
        }
        sums
    }
}

impl<'a> StructureCheck<'a> {
    /// Nothing is visited yet.
    pub fn new(frames: &'a FrameMap, findings: &'a mut Findings, options: &'a VerifyOptions) -> Self {
        Self { frames, findings, options, visited: HashSet::new(), found_below: HashMap::new() }
    }

    /// Checks one snapshot.
    pub fn snapshot(
        &mut self,
        reader: &SnapshotReader<'_>,
        record: &SnapshotRecord,
    ) -> Result<SnapshotChecked, OpError> {
        let checked = SnapshotChecked::new(record);
        let mut snapshot = CheckedSnapshot { reader, record, checked, table: String::new() };
        for table in &reader.manifest().summary.tables {
            self.table(&mut snapshot, table)?;
        }
        if snapshot.has_unlisted_root() {
            self.manifest_fault(&snapshot, "it has a tree of a table that its summary does not list");
        }
        Ok(snapshot.checked)
    }

    fn table(&mut self, snapshot: &mut CheckedSnapshot<'_>, table: &TableSummary) -> Result<(), OpError> {
        snapshot.table.clone_from(&table.name);
        let Some(root) = snapshot.root(table, TreeKind::Rows) else {
            self.manifest_fault(snapshot, "it has no tree of a table that its summary lists");
            return Ok(());
        };
        let Some(sums) = self.root(snapshot, root)? else { return Ok(()) };
        if sums != Sums::of_table(table) || !classes_add_up(table) {
            self.manifest_fault(snapshot, "the counts of its summary are not those of its trees");
        }
        let Sums { rows, bytes, leaves, .. } = sums;
        snapshot.checked.tables.push(TableChecked { name: table.name.clone(), rows, leaves, bytes });
        if let Some(root) = snapshot.root(table, TreeKind::References) {
            self.root(snapshot, root)?;
        }
        Ok(())
    }

    /// Checks a tree. Gives the sums over all of it.
    fn root(&mut self, snapshot: &mut CheckedSnapshot<'_>, root: &TreeRoot) -> Result<Option<Sums>, OpError> {
        let skeleton = match snapshot.reader.open_root(root) {
            Ok(skeleton) => skeleton,
            Err(error) => {
                self.manifest_fault(snapshot, &error.to_string());
                return Ok(None);
            }
        };
        let sums = Sums::below(&skeleton);
        // Equal roots of two snapshots hold the same hashed part, and mostly the same hints.
        let id = snapshot.reader.root_id(root)?;
        self.once(snapshot, id, |check, snapshot| check.node(snapshot, &skeleton))?;
        Ok(Some(sums))
    }

    /// Does `check` unless it was done for this chunk before; findings of then affect this snapshot too.
    fn once(
        &mut self,
        snapshot: &mut CheckedSnapshot<'_>,
        id: ChunkId,
        check: impl FnOnce(&mut Self, &mut CheckedSnapshot<'_>) -> Result<(), OpError>,
    ) -> Result<(), OpError> {
        if !self.visited.insert(id) {
            self.repeat_findings(snapshot, &id);
            return Ok(());
        }
        let mark = self.findings.mark();
        check(self, snapshot)?;
        let met = self.findings.met_since(mark);
        if !met.is_empty() {
            self.found_below.insert(id, met);
        }
        Ok(())
    }

    /// What was found below a visited chunk affects this snapshot too.
    fn repeat_findings(&mut self, snapshot: &CheckedSnapshot<'_>, id: &ChunkId) {
        for at in self.found_below.get(id).into_iter().flatten() {
            self.findings.met_again(*at, snapshot.affected());
        }
    }

    fn node(&mut self, snapshot: &mut CheckedSnapshot<'_>, node: &Skeleton) -> Result<(), OpError> {
        if self.options.cancel.is_cancelled() {
            return Err(OpError::Cancelled);
        }
        if node.level == 1 {
            return self.leaves(snapshot, node);
        }
        for child in &node.children {
            self.child_place(snapshot, child);
        }
        for children in node.children.chunks(NODES_AT_ONCE) {
            self.children(snapshot, node.level - 1, children)?;
        }
        Ok(())
    }

    /// Checks that a node and its ranges are where their hints say, side by side.
    fn child_place(&mut self, snapshot: &CheckedSnapshot<'_>, child: &Child) {
        self.find(snapshot, FrameType::Node, child.id, child.location);
        self.find(snapshot, FrameType::Ranges, ranges_id(&child.id), child.ranges_location);
        if let (Some(node), Some(ranges)) = (&child.location, &child.ranges_location)
            && !is_followed_by(node, ranges)
        {
            let detail = format!("the ranges of node {} do not lie beside it", child.id);
            self.fault(snapshot, FindingKind::StaleHint, child.location, detail);
        }
    }

    /// Opens those of `children` that were not checked before, and checks them.
    fn children(&mut self, snapshot: &mut CheckedSnapshot<'_>, level: u8, children: &[Child]) -> Result<(), OpError> {
        let mut fresh = Vec::new();
        for child in children {
            if self.visited.contains(&child.id) {
                self.repeat_findings(snapshot, &child.id);
            } else {
                fresh.push(child);
            }
        }
        let opened = self.open_nodes(snapshot, level, &fresh)?;
        for (child, skeleton) in fresh.iter().zip(&opened) {
            let Some(skeleton) = skeleton else { continue };
            snapshot.checked.nodes += 1;
            self.options.progress.add(CountUnit::Objects, 1);
            self.once(snapshot, child.id, |check, snapshot| check.child(snapshot, child, skeleton))?;
        }
        Ok(())
    }

    /// Nodes of `level`; `None` for one that cannot be read, which is reported.
    fn open_nodes(
        &mut self,
        snapshot: &mut CheckedSnapshot<'_>,
        level: u8,
        children: &[&Child],
    ) -> Result<Vec<Option<Skeleton>>, OpError> {
        let want = |child: &&Child| Want { kind: FrameType::Node, id: child.id, location: child.location };
        let wants: Vec<Want> = children.iter().map(want).collect();
        let mut opened: Vec<Option<Skeleton>> = children.iter().map(|_| None).collect();
        let mut failed = Vec::new();
        let reader = snapshot.reader;
        reader.fetch(&wants, |at, content| {
            match content.and_then(|content| reader.open_node(&wants[at], &content, level)) {
                Ok(skeleton) => opened[at] = Some(skeleton),
                Err(RepoError::Store(error)) => return Err(OpError::from(RepoError::Store(error))),
                Err(error) => failed.push((at, error)),
            }
            Ok(())
        })?;
        for (at, error) in failed {
            let child = children[at];
            self.once(snapshot, child.id, |check, snapshot| {
                let detail = format!("a node over {} rows cannot be read: {error}", child.rows);
                check.fault(snapshot, FindingKind::Unreadable, child.location, detail);
                Ok(())
            })?;
        }
        Ok(opened)
    }

    fn child(&mut self, snapshot: &mut CheckedSnapshot<'_>, child: &Child, skeleton: &Skeleton) -> Result<(), OpError> {
        if Sums::below(skeleton) != Sums::of(child) {
            let detail = format!("the counts of node {} are not those that its parent has", child.id);
            self.fault(snapshot, FindingKind::Contradiction, child.location, detail);
        }
        self.node(snapshot, skeleton)
    }

    fn leaves(&mut self, snapshot: &mut CheckedSnapshot<'_>, node: &Skeleton) -> Result<(), OpError> {
        let mut lists = Vec::new();
        for leaf in &node.children {
            self.leaf(snapshot, leaf);
            for hint in &leaf.streams {
                snapshot.checked.streams += 1;
                let place = StreamPlace { stream: hint.stream, location: hint.location };
                match place.stream.form {
                    StreamForm::Piece => self.piece(snapshot, &place),
                    StreamForm::List => {
                        self.find(snapshot, FrameType::List, place.stream.id, place.location);
                        lists.push(place);
                    }
                }
            }
        }
        self.lists(snapshot, &lists)
    }

    fn leaf(&mut self, snapshot: &mut CheckedSnapshot<'_>, leaf: &Child) {
        snapshot.checked.leaves += 1;
        let content = self.find(snapshot, FrameType::Leaf, leaf.id, leaf.location);
        let has_other_length = content.is_some_and(|len| u64::from(len) != leaf.bytes);
        if leaf.leaves != 1 || has_other_length {
            let detail = format!("leaf {} has another length than its node says", leaf.id);
            self.fault(snapshot, FindingKind::Contradiction, leaf.location, detail);
        }
    }

    /// A stream of one piece.
    fn piece(&mut self, snapshot: &CheckedSnapshot<'_>, place: &StreamPlace) {
        let StreamPlace { stream, location } = *place;
        let content = self.find(snapshot, FrameType::Piece, stream.id, location);
        if content.is_some_and(|len| u64::from(len) != stream.len) {
            let detail = format!("stream {} has another length than its node says", stream.id);
            self.fault(snapshot, FindingKind::Contradiction, location, detail);
        }
    }

    /// Opens lists and checks the places and lengths of their pieces.
    fn lists(&mut self, snapshot: &mut CheckedSnapshot<'_>, lists: &[StreamPlace]) -> Result<(), OpError> {
        let mut fresh: Vec<StreamPlace> = Vec::new();
        for list in lists {
            let id = list.stream.id;
            if self.visited.contains(&id) {
                self.repeat_findings(snapshot, &id);
            } else if fresh.iter().all(|known| known.stream.id != id) {
                fresh.push(*list);
            }
        }
        for batch in fresh.chunks(NODES_AT_ONCE) {
            self.list_batch(snapshot, batch)?;
        }
        Ok(())
    }

    fn list_batch(&mut self, snapshot: &mut CheckedSnapshot<'_>, batch: &[StreamPlace]) -> Result<(), OpError> {
        let want = |list: &StreamPlace| Want { kind: FrameType::List, id: list.stream.id, location: list.location };
        let wants: Vec<Want> = batch.iter().map(want).collect();
        let reader = snapshot.reader;
        reader.fetch(&wants, |at, content| {
            let StreamPlace { stream, location } = batch[at];
            let list = match content.and_then(|content| read_list(&stream, &content)) {
                Err(RepoError::Store(error)) => return Err(OpError::from(RepoError::Store(error))),
                list => list,
            };
            self.once(snapshot, stream.id, |check, snapshot| {
                match list {
                    Ok(list) => check.list(snapshot, &batch[at], &list),
                    Err(error) => {
                        let detail = format!("the list of a stream of {} bytes cannot be read: {error}", stream.len);
                        check.fault(snapshot, FindingKind::Unreadable, location, detail);
                    }
                }
                Ok(())
            })
        })
    }

    fn list(&mut self, snapshot: &mut CheckedSnapshot<'_>, place: &StreamPlace, list: &PieceList) {
        snapshot.checked.nodes += 1;
        let mut sum = 0u64;
        for piece in &list.pieces {
            sum = sum.saturating_add(piece.len);
            let pack = piece.location.map(|location| &list.packs[location.pack as usize]);
            let content = self.find_in(snapshot, FrameType::Piece, piece.id, pack.zip(piece.location));
            if content.is_some_and(|len| u64::from(len) != piece.len) {
                sum = u64::MAX;
            }
        }
        if sum != place.stream.len {
            let detail = format!("the pieces of stream {} do not add up to its length", place.stream.id);
            self.fault(snapshot, FindingKind::Contradiction, place.location, detail);
        }
    }

    /// The content length of a chunk, if it lies in a pack of the inventory.
    fn find(
        &mut self,
        snapshot: &CheckedSnapshot<'_>,
        kind: FrameType,
        id: ChunkId,
        location: Option<FrameLocation>,
    ) -> Option<u32> {
        let Some(location) = location else { return self.find_in(snapshot, kind, id, None) };
        let pack = snapshot.reader.pack(location.pack);
        self.find_in(snapshot, kind, id, Some((&pack, location)))
    }

    /// The same with the pack that the location is in.
    fn find_in(
        &mut self,
        snapshot: &CheckedSnapshot<'_>,
        kind: FrameType,
        id: ChunkId,
        place: Option<(&PackRef, FrameLocation)>,
    ) -> Option<u32> {
        let hint = place.and_then(|(pack, location)| {
            let session = pack.sessions.get(usize::from(location.session))?;
            Some(FrameHint { pack: &pack.digest, session, location })
        });
        let pack = place.map(|(pack, _)| pack.digest);
        match self.frames.find(kind, &id, hint) {
            FrameSearch::Exact { content } => Some(content),
            FrameSearch::Elsewhere { content } => {
                // A hint may lead to a pack that is gone while the chunk is stored again elsewhere.
                let detail = format!("a hint to chunk {id} leads nowhere; the index finds it elsewhere");
                self.pack_fault(snapshot, FindingKind::StaleHint, pack, detail);
                Some(content)
            }
            FrameSearch::Nowhere => {
                let detail = format!("chunk {id} is needed from it, and no readable pack of the inventory has it");
                self.pack_fault(snapshot, FindingKind::LostChunk, pack, detail);
                None
            }
        }
    }

    fn manifest_fault(&mut self, snapshot: &CheckedSnapshot<'_>, detail: &str) {
        let source = snapshot.reader.source();
        let name = Name::Manifest(source, snapshot.record.snapshot.manifest.sha256);
        let finding = Finding::new(FindingKind::Contradiction, name, detail).of_source(source);
        self.findings.add(finding.affecting(snapshot.affected()));
    }

    /// A fault of the pack that a hint leads to.
    fn fault(
        &mut self,
        snapshot: &CheckedSnapshot<'_>,
        kind: FindingKind,
        location: Option<FrameLocation>,
        detail: String,
    ) {
        let pack = location.map(|location| snapshot.reader.pack(location.pack).digest);
        self.pack_fault(snapshot, kind, pack, detail);
    }

    fn pack_fault(&mut self, snapshot: &CheckedSnapshot<'_>, kind: FindingKind, pack: Option<Digest>, detail: String) {
        let source = snapshot.reader.source();
        let object = match pack {
            Some(digest) => Name::Pack(source, digest).to_string(),
            None => format!("{source}/packs"),
        };
        let finding = Finding::new(kind, object, detail).of_source(source);
        self.findings.add(finding.affecting(snapshot.affected()));
    }
}

impl CheckedSnapshot<'_> {
    fn affected(&self) -> Affected<'_> {
        let table = (!self.table.is_empty()).then_some(self.table.as_str());
        Affected { snapshot: Some(self.record.id), table }
    }

    fn has_unlisted_root(&self) -> bool {
        let manifest = self.reader.manifest();
        let is_listed = |root: &TreeRoot| manifest.summary.tables.iter().any(|table| table.number == root.table);
        !manifest.roots.iter().all(is_listed)
    }
}

impl<'r> CheckedSnapshot<'r> {
    fn root(&self, table: &TableSummary, kind: TreeKind) -> Option<&'r TreeRoot> {
        let mut roots = self.reader.manifest().roots.iter();
        roots.find(|root| root.table == table.number && root.kind == kind)
    }
}

/// Whether the rows of every class together are all rows.
fn classes_add_up(table: &TableSummary) -> bool {
    let sum = table.owned.checked_add(table.none).and_then(|sum| sum.checked_add(table.orphan));
    sum == Some(table.rows)
}

/// Whether a frame begins where another ends, in the same pack.
fn is_followed_by(frame: &FrameLocation, next: &FrameLocation) -> bool {
    frame.pack == next.pack && u64::from(frame.offset) + u64::from(frame.stored) == u64::from(next.offset)
}

fn read_list(stream: &StreamRef, content: &[u8]) -> Result<PieceList, RepoError> {
    PieceList::read(content).map_err(|error| RepoError::wire(format!("list {}", stream.id), &error))
}
