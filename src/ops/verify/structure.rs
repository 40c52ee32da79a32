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
use crate::format::node::{Child, FrameLocation, PackRef, PieceList, Skeleton, StreamHint, StreamPiece, ranges_id};
use crate::ops::error::{OpError, unless_store_fails};
use crate::ops::verify::frame_map::{FrameHint, FrameMap, FrameSearch, pack_object};
use crate::ops::verify::nodes::{has_ranges_elsewhere, read_nodes};
use crate::ops::verify::report::{SnapshotChecked, VerifyOptions};
use crate::ops::verify::sums::{Sums, classes_add_up};
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
        let mut snapshot = CheckedSnapshot::new(reader, record);
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
        self.check_summary(snapshot, table, sums);
        snapshot.checked.tables.push(sums.checked(table));
        if let Some(root) = snapshot.root(table, TreeKind::References) {
            self.root(snapshot, root)?;
        }
        Ok(())
    }

    fn check_summary(&mut self, snapshot: &CheckedSnapshot<'_>, table: &TableSummary, sums: Sums) {
        if sums != Sums::of_table(table) || !classes_add_up(table) {
            self.manifest_fault(snapshot, "the counts of its summary are not those of its trees");
        }
    }

    /// Checks a tree. Gives the sums over all of it.
    fn root(&mut self, snapshot: &mut CheckedSnapshot<'_>, root: &TreeRoot) -> Result<Option<Sums>, OpError> {
        match snapshot.reader.open_root(root) {
            Ok(skeleton) => {
                self.check_below(snapshot, root, &skeleton)?;
                Ok(Some(Sums::below(&skeleton)))
            }
            Err(error) => {
                self.manifest_fault(snapshot, &error.to_string());
                Ok(None)
            }
        }
    }

    fn check_below(
        &mut self,
        snapshot: &mut CheckedSnapshot<'_>,
        root: &TreeRoot,
        skeleton: &Skeleton,
    ) -> Result<(), OpError> {
        // Equal roots of two snapshots hold the same hashed part, and mostly the same hints.
        let id = snapshot.reader.root_id(root)?;
        self.once(snapshot, id, |check, snapshot| check.node(snapshot, skeleton))
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
        self.keep_findings(id, mark);
        Ok(())
    }

    /// Remembers what was found since `mark`, as found at or below this chunk.
    fn keep_findings(&mut self, id: ChunkId, mark: usize) {
        let met = self.findings.met_since(mark);
        if !met.is_empty() {
            self.found_below.insert(id, met);
        }
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
        match node.level {
            1 => self.leaves(snapshot, node),
            _ => self.nodes_below(snapshot, node),
        }
    }

    fn nodes_below(&mut self, snapshot: &mut CheckedSnapshot<'_>, node: &Skeleton) -> Result<(), OpError> {
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
        if has_ranges_elsewhere(child) {
            let detail = format!("the ranges of node {} do not lie beside it", child.id);
            self.fault(snapshot, FindingKind::StaleHint, child.location, detail);
        }
    }

    /// Opens those of `children` that were not checked before, and checks them.
    fn children(&mut self, snapshot: &mut CheckedSnapshot<'_>, level: u8, children: &[Child]) -> Result<(), OpError> {
        let fresh = self.fresh_children(snapshot, children);
        let opened = self.open_nodes(snapshot, level, &fresh)?;
        for (child, skeleton) in fresh.iter().zip(&opened) {
            let Some(skeleton) = skeleton else { continue };
            snapshot.checked.nodes += 1;
            self.options.progress.add(CountUnit::Objects, 1);
            self.once(snapshot, child.id, |check, snapshot| check.child(snapshot, child, skeleton))?;
        }
        Ok(())
    }

    /// Those that were not checked before. What was found below the others affects this snapshot too.
    fn fresh_children<'n>(&mut self, snapshot: &CheckedSnapshot<'_>, children: &'n [Child]) -> Vec<&'n Child> {
        let mut fresh = Vec::new();
        for child in children {
            if self.visited.contains(&child.id) {
                self.repeat_findings(snapshot, &child.id);
            } else {
                fresh.push(child);
            }
        }
        fresh
    }

    /// Nodes of `level`; `None` for one that cannot be read, which is reported.
    fn open_nodes(
        &mut self,
        snapshot: &mut CheckedSnapshot<'_>,
        level: u8,
        children: &[&Child],
    ) -> Result<Vec<Option<Skeleton>>, OpError> {
        let nodes = read_nodes(snapshot.reader, level, children)?;
        for (at, error) in nodes.failed {
            let child = children[at];
            self.once(snapshot, child.id, |check, snapshot| {
                check.report_unreadable(snapshot, child, &error);
                Ok(())
            })?;
        }
        Ok(nodes.opened)
    }

    fn report_unreadable(&mut self, snapshot: &CheckedSnapshot<'_>, child: &Child, error: &RepoError) {
        let detail = format!("a node over {} rows cannot be read: {error}", child.rows);
        self.fault(snapshot, FindingKind::Unreadable, child.location, detail);
    }

    fn child(&mut self, snapshot: &mut CheckedSnapshot<'_>, child: &Child, skeleton: &Skeleton) -> Result<(), OpError> {
        if Sums::below(skeleton) != Sums::of(child) {
            let detail = format!("the counts of node {} are not those that its parent has", child.id);
            self.contradiction(snapshot, child.location, detail);
        }
        self.node(snapshot, skeleton)
    }

    fn leaves(&mut self, snapshot: &mut CheckedSnapshot<'_>, node: &Skeleton) -> Result<(), OpError> {
        let mut lists = Vec::new();
        for leaf in &node.children {
            self.leaf(snapshot, leaf);
            for hint in &leaf.streams {
                lists.extend(self.stream(snapshot, hint));
            }
        }
        self.lists(snapshot, &lists)
    }

    /// Checks the place of a stream. Gives it if it is a list, as that has to be opened.
    fn stream(&mut self, snapshot: &mut CheckedSnapshot<'_>, hint: &StreamHint) -> Option<StreamPlace> {
        snapshot.checked.streams += 1;
        let place = StreamPlace { stream: hint.stream, location: hint.location };
        match place.stream.form {
            StreamForm::Piece => {
                self.piece(snapshot, &place);
                None
            }
            StreamForm::List => {
                self.find(snapshot, FrameType::List, place.stream.id, place.location);
                Some(place)
            }
        }
    }

    fn leaf(&mut self, snapshot: &mut CheckedSnapshot<'_>, leaf: &Child) {
        snapshot.checked.leaves += 1;
        let content = self.find(snapshot, FrameType::Leaf, leaf.id, leaf.location);
        if leaf.leaves != 1 || has_other_length(content, leaf.bytes) {
            let detail = format!("leaf {} has another length than its node says", leaf.id);
            self.contradiction(snapshot, leaf.location, detail);
        }
    }

    /// A stream of one piece.
    fn piece(&mut self, snapshot: &CheckedSnapshot<'_>, place: &StreamPlace) {
        let StreamPlace { stream, location } = *place;
        let content = self.find(snapshot, FrameType::Piece, stream.id, location);
        if has_other_length(content, stream.len) {
            let detail = format!("stream {} has another length than its node says", stream.id);
            self.contradiction(snapshot, location, detail);
        }
    }

    /// Opens lists and checks the places and lengths of their pieces.
    fn lists(&mut self, snapshot: &mut CheckedSnapshot<'_>, lists: &[StreamPlace]) -> Result<(), OpError> {
        let fresh = self.fresh_lists(snapshot, lists);
        for batch in fresh.chunks(NODES_AT_ONCE) {
            self.list_batch(snapshot, batch)?;
        }
        Ok(())
    }

    /// Those that were not checked before, each once.
    fn fresh_lists(&mut self, snapshot: &CheckedSnapshot<'_>, lists: &[StreamPlace]) -> Vec<StreamPlace> {
        let mut fresh: Vec<StreamPlace> = Vec::new();
        for list in lists {
            let id = list.stream.id;
            if self.visited.contains(&id) {
                self.repeat_findings(snapshot, &id);
            } else if fresh.iter().all(|known| known.stream.id != id) {
                fresh.push(*list);
            }
        }
        fresh
    }

    fn list_batch(&mut self, snapshot: &mut CheckedSnapshot<'_>, batch: &[StreamPlace]) -> Result<(), OpError> {
        let wants: Vec<Want> = batch.iter().map(list_want).collect();
        let reader = snapshot.reader;
        reader.fetch(&wants, |at, content| {
            let place = &batch[at];
            let list = content.and_then(|content| read_list(&place.stream, &content));
            let list = unless_store_fails(list)?;
            self.once(snapshot, place.stream.id, |check, snapshot| {
                check.opened_list(snapshot, place, list);
                Ok(())
            })
        })
    }

    fn opened_list(
        &mut self,
        snapshot: &mut CheckedSnapshot<'_>,
        place: &StreamPlace,
        list: Result<PieceList, RepoError>,
    ) {
        match list {
            Ok(list) => self.list(snapshot, place, &list),
            Err(error) => {
                let detail = format!("the list of a stream of {} bytes cannot be read: {error}", place.stream.len);
                self.fault(snapshot, FindingKind::Unreadable, place.location, detail);
            }
        }
    }

    fn list(&mut self, snapshot: &mut CheckedSnapshot<'_>, place: &StreamPlace, list: &PieceList) {
        snapshot.checked.nodes += 1;
        let mut sum = 0u64;
        for piece in &list.pieces {
            sum = sum.saturating_add(piece.len);
            if self.has_other_piece(snapshot, list, piece) {
                sum = u64::MAX;
            }
        }
        if sum != place.stream.len {
            let detail = format!("the pieces of stream {} do not add up to its length", place.stream.id);
            self.contradiction(snapshot, place.location, detail);
        }
    }

    /// Whether a piece is of another length than its list says; one that is nowhere is reported by itself.
    fn has_other_piece(&mut self, snapshot: &CheckedSnapshot<'_>, list: &PieceList, piece: &StreamPiece) -> bool {
        let pack = piece.location.map(|location| &list.packs[location.pack as usize]);
        let content = self.find_in(snapshot, FrameType::Piece, piece.id, pack.zip(piece.location));
        has_other_length(content, piece.len)
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
        let search = self.frames.find(kind, &id, hint);
        self.report_search(snapshot, &id, place.map(|(pack, _)| pack.digest), search);
        search.content()
    }

    /// Reports a chunk that is not where the hint to a pack says.
    fn report_search(
        &mut self,
        snapshot: &CheckedSnapshot<'_>,
        id: &ChunkId,
        pack: Option<Digest>,
        search: FrameSearch,
    ) {
        match search {
            FrameSearch::Exact { .. } => {}
            FrameSearch::Elsewhere { .. } => {
                // A hint may lead to a pack that is gone while the chunk is stored again elsewhere.
                let detail = format!("a hint to chunk {id} leads nowhere; the index finds it elsewhere");
                self.pack_fault(snapshot, FindingKind::StaleHint, pack, detail);
            }
            FrameSearch::Nowhere => {
                let detail = format!("chunk {id} is needed from it, and no readable pack of the inventory has it");
                self.pack_fault(snapshot, FindingKind::LostChunk, pack, detail);
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
        let pack = location.map(|location| snapshot.reader.pack_digest(location.pack));
        self.pack_fault(snapshot, kind, pack, detail);
    }

    fn contradiction(&mut self, snapshot: &CheckedSnapshot<'_>, location: Option<FrameLocation>, detail: String) {
        self.fault(snapshot, FindingKind::Contradiction, location, detail);
    }

    fn pack_fault(&mut self, snapshot: &CheckedSnapshot<'_>, kind: FindingKind, pack: Option<Digest>, detail: String) {
        let source = snapshot.reader.source();
        let finding = Finding::new(kind, pack_object(source, pack), detail).of_source(source);
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
        !manifest.roots.iter().all(|root| self.reader.table_summary(root.table).is_some())
    }
}

impl<'r> CheckedSnapshot<'r> {
    fn new(reader: &'r SnapshotReader<'r>, record: &'r SnapshotRecord) -> Self {
        Self { reader, record, checked: SnapshotChecked::new(record), table: String::new() }
    }
    fn root(&self, table: &TableSummary, kind: TreeKind) -> Option<&'r TreeRoot> {
        self.reader.stored_root(table.number, kind)
    }
}

fn list_want(list: &StreamPlace) -> Want {
    Want { kind: FrameType::List, id: list.stream.id, location: list.location }
}

/// Whether a chunk was found, and with another length than it must have.
fn has_other_length(content: Option<u32>, expected: u64) -> bool {
    content.is_some_and(|len| u64::from(len) != expected)
}

fn read_list(stream: &StreamRef, content: &[u8]) -> Result<PieceList, RepoError> {
    PieceList::read(content).map_err(|error| RepoError::wire(format!("list {}", stream.id), &error))
}
