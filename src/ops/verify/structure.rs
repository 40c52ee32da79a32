//! Checks the structure of a snapshot: everything reachable from its roots can be opened as far as every role can open
//! it, is in a pack of the inventory at the location in its hint, and adds up level by level. Parts that several
//! snapshots share are checked once. A fault in such a part affects all of them.

use std::collections::{HashMap, HashSet};

use crate::base::finding::{Affected, Finding, FindingKind, Findings};
use crate::base::frame::FrameType;
use crate::base::id::{ChunkId, Digest};
use crate::base::progress::CountUnit;
use crate::format::manifest::{RootPlace, TableSummary, TreeKind, TreeRoot};
use crate::format::name::Name;
use crate::format::node::{Child, FrameLocation, PackRef, Skeleton, ranges_id};
use crate::ops::error::OpError;
use crate::ops::verify::frame_map::{FrameHint, FrameMap, FrameSearch, pack_object};
use crate::ops::verify::losses::lost_data;
use crate::ops::verify::nodes::{has_ranges_elsewhere, read_nodes};
use crate::ops::verify::report::{SnapshotChecked, VerifyOptions};
use crate::ops::verify::sums::{Sums, classes_add_up};
use crate::repo::error::RepoError;
use crate::repo::ledger::SnapshotRecord;
use crate::repo::reader::SnapshotReader;

/// Number of nodes that are read together and kept in memory on each level.
pub(super) const NODES_AT_ONCE: usize = 64;

/// State that the checks of all snapshots of a source share.
pub struct StructureCheck<'a> {
    frames: &'a FrameMap,
    pub findings: &'a mut Findings,
    options: &'a VerifyOptions,
    /// Nodes, stream references, lists and roots that were checked.
    pub(super) visited: HashSet<ChunkId>,
    /// Positions of the findings at or below each of them.
    found_below: HashMap<ChunkId, Vec<usize>>,
}

/// A snapshot that is being checked.
pub(super) struct CheckedSnapshot<'r> {
    pub(super) reader: &'r SnapshotReader<'r>,
    record: &'r SnapshotRecord,
    pub(super) checked: SnapshotChecked,
    /// The current table. Empty before the first one.
    table: String,
}

impl<'a> StructureCheck<'a> {
    /// Creates a check that has not visited anything.
    pub fn new(frames: &'a FrameMap, findings: &'a mut Findings, options: &'a VerifyOptions) -> Self {
        Self { frames, findings, options, visited: HashSet::new(), found_below: HashMap::new() }
    }

    /// Checks one snapshot.
    /// Fails if the store fails or the check is cancelled.
    pub fn snapshot(
        &mut self,
        reader: &SnapshotReader<'_>,
        record: &SnapshotRecord,
    ) -> Result<SnapshotChecked, OpError> {
        let mut snapshot = CheckedSnapshot::new(reader, record);
        for table in &reader.manifest().summary.tables {
            self.table(&mut snapshot, table)?;
        }
        if reader.manifest().losses.as_ref().is_some_and(|losses| !losses.is_sound()) {
            self.manifest_fault(&snapshot, "its list of losses is not in order, or too long");
        }
        if snapshot.has_unlisted_root() {
            self.manifest_fault(&snapshot, "it has a tree for a table that its summary does not list");
        }
        Ok(snapshot.checked)
    }

    fn table(&mut self, snapshot: &mut CheckedSnapshot<'_>, table: &TableSummary) -> Result<(), OpError> {
        snapshot.table.clone_from(&table.name);
        let Some(root) = snapshot.root(table, TreeKind::Rows) else {
            self.manifest_fault(snapshot, "it has no tree for a table that its summary lists");
            return Ok(());
        };
        let Some(sums) = self.root(snapshot, root)? else { return Ok(()) };
        self.check_summary(snapshot, table, sums);
        if let Some(lost) = lost_data(table) {
            self.findings.add(lost.of_source(snapshot.reader.source()).affecting(snapshot.affected()));
        }
        snapshot.checked.tables.push(sums.checked(table));
        if let Some(root) = snapshot.root(table, TreeKind::References) {
            self.root(snapshot, root)?;
        }
        Ok(())
    }

    fn check_summary(&mut self, snapshot: &CheckedSnapshot<'_>, table: &TableSummary, sums: Sums) {
        if sums != Sums::of_table(table) || !classes_add_up(table) {
            self.manifest_fault(snapshot, "the counts in its summary differ from the counts in its trees");
        }
        if snapshot.reader.has_other_facts(table) {
            self.manifest_fault(snapshot, "the digests in its summary differ from its catalog");
        }
    }

    /// Checks a tree. Returns the sums over the whole tree.
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
        if root.place == RootPlace::Pack {
            return self.node(snapshot, skeleton);
        }
        // Roots with the same id in two snapshots have the same hashed part, and usually the same hints.
        let id = snapshot.reader.root_id(root)?;
        self.once(snapshot, id, |check, snapshot| check.node(snapshot, skeleton))
    }

    /// Runs `check`, unless this chunk was checked before. In that case, the findings of the earlier check also affect
    /// this snapshot.
    /// Fails with the error of `check`.
    pub(super) fn once(
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

    /// Remembers the findings since `mark` as findings at or below this chunk.
    fn keep_findings(&mut self, id: ChunkId, mark: usize) {
        let met = self.findings.met_since(mark);
        if !met.is_empty() {
            self.found_below.insert(id, met);
        }
    }

    /// Makes the findings at or below a visited chunk affect this snapshot too.
    pub(super) fn repeat_findings(&mut self, snapshot: &CheckedSnapshot<'_>, id: &ChunkId) {
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

    /// Checks that a node and its ranges are at the locations in their hints, and adjacent.
    fn child_place(&mut self, snapshot: &CheckedSnapshot<'_>, child: &Child) {
        self.find(snapshot, FrameType::Node, child.id, child.location);
        self.find(snapshot, FrameType::Ranges, ranges_id(&child.id), child.ranges_location);
        if has_ranges_elsewhere(child) {
            let detail = format!("the ranges of node {} are not stored next to it", child.id);
            self.fault(snapshot, FindingKind::StaleHint, child.location, detail);
        }
    }

    /// Opens and checks the children that were not checked before.
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

    /// The children that were not checked before. Findings below the other children also affect this snapshot.
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

    /// Opens nodes of `level`. Reports a node that cannot be read and returns `None` for it.
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
        let detail = format!("a node that covers {} rows cannot be read: {error}", child.rows);
        self.fault(snapshot, FindingKind::Unreadable, child.location, detail);
    }

    fn child(&mut self, snapshot: &mut CheckedSnapshot<'_>, child: &Child, skeleton: &Skeleton) -> Result<(), OpError> {
        if Sums::below(skeleton) != Sums::of(child) {
            let detail = format!("the counts of node {} differ from the counts in its parent", child.id);
            self.contradiction(snapshot, child.location, detail);
        }
        self.node(snapshot, skeleton)
    }

    fn leaves(&mut self, snapshot: &mut CheckedSnapshot<'_>, node: &Skeleton) -> Result<(), OpError> {
        for leaf in &node.children {
            self.leaf(snapshot, leaf);
        }
        self.streams_of_node(snapshot, node)
    }

    fn leaf(&mut self, snapshot: &mut CheckedSnapshot<'_>, leaf: &Child) {
        snapshot.checked.leaves += 1;
        let content = self.find(snapshot, FrameType::Leaf, leaf.id, leaf.location);
        if leaf.leaves != 1 || has_other_length(content, leaf.bytes) {
            let detail = format!("the length of leaf {} differs from the length in its node", leaf.id);
            self.contradiction(snapshot, leaf.location, detail);
        }
    }

    /// Finds a chunk in a pack of the inventory. Returns its content length in bytes.
    pub(super) fn find(
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

    /// The same, with the pack of the location.
    pub(super) fn find_in(
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

    /// Reports a chunk that is not at the location in its hint. `pack` is the pack in the hint.
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
                // The hint may point to a pack that was deleted, while the chunk was stored again in another pack.
                let detail = format!("a hint to chunk {id} is wrong; the index finds the chunk at another location");
                self.pack_fault(snapshot, FindingKind::StaleHint, pack, detail);
            }
            FrameSearch::Nowhere => {
                let detail =
                    format!("chunk {id} is needed from it, but no readable pack of the inventory has the chunk");
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

    /// Reports a fault of the pack that a hint points to.
    pub(super) fn fault(
        &mut self,
        snapshot: &CheckedSnapshot<'_>,
        kind: FindingKind,
        location: Option<FrameLocation>,
        detail: String,
    ) {
        let pack = location.map(|location| snapshot.reader.pack_digest(location.pack));
        self.pack_fault(snapshot, kind, pack, detail);
    }

    pub(super) fn contradiction(
        &mut self,
        snapshot: &CheckedSnapshot<'_>,
        location: Option<FrameLocation>,
        detail: String,
    ) {
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

/// Whether a chunk was found with a length other than `expected`.
pub(super) fn has_other_length(content: Option<u32>, expected: u64) -> bool {
    content.is_some_and(|len| u64::from(len) != expected)
}
