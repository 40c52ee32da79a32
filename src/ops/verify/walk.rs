//! Structure of a snapshot: everything reachable from its roots opens as far as every role can open
//! it, lies in a pack of the inventory where its hint says, and adds up level by level. What several
//! snapshots share is looked at once; a fault in it hurts all of them.

use std::collections::{HashMap, HashSet};

use crate::base::cancel::Cancel;
use crate::base::frame::FrameType;
use crate::base::id::{ChunkId, Digest, SessionId};
use crate::base::progress::{CountUnit, SharedProgress};
use crate::format::cell::{StreamForm, StreamRef};
use crate::format::manifest::{TreeKind, TreeRoot};
use crate::format::name::Name;
use crate::format::node::{Child, FrameLocation, PackRef, PieceList, Skeleton, ranges_id};
use crate::ops::error::OpError;
use crate::ops::verify::places::{FramePlaces, Look};
use crate::ops::verify::report::{SnapshotChecked, TableChecked};
use crate::repo::check::{Fault, Findings, Severity, Victim};
use crate::repo::error::RepoError;
use crate::repo::ledger::SnapshotRecord;
use crate::repo::reader::{SnapshotReader, Want};

/// Nodes that are read at once and in memory on each level.
const NODES_AT_ONCE: usize = 64;

/// What is shared by the walks over all snapshots of a source.
pub struct Walker<'a> {
    pub places: &'a FramePlaces,
    pub findings: &'a mut Findings,
    pub progress: SharedProgress,
    pub cancel: Cancel,
    /// Nodes, lists and roots that were walked.
    visited: HashSet<ChunkId>,
    /// Findings at or below them.
    faults: HashMap<ChunkId, Vec<usize>>,
}

/// What a walk over one snapshot knows.
struct Trip<'r> {
    reader: &'r SnapshotReader<'r>,
    record: &'r SnapshotRecord,
    checked: SnapshotChecked,
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

    fn below(node: &Skeleton) -> Self {
        node.children.iter().fold(Self::default(), |sum, child| Self {
            rows: sum.rows.saturating_add(child.rows),
            bytes: sum.bytes.saturating_add(child.bytes),
            owners: sum.owners.saturating_add(child.owners),
            leaves: sum.leaves.saturating_add(child.leaves),
        })
    }
}

impl<'a> Walker<'a> {
    /// Nothing is visited yet.
    pub fn new(places: &'a FramePlaces, findings: &'a mut Findings, progress: SharedProgress, cancel: Cancel) -> Self {
        Self { places, findings, progress, cancel, visited: HashSet::new(), faults: HashMap::new() }
    }

    /// Walks one snapshot.
    pub fn snapshot(
        &mut self,
        reader: &SnapshotReader<'_>,
        record: &SnapshotRecord,
    ) -> Result<SnapshotChecked, OpError> {
        let mut trip = Trip { reader, record, checked: empty(record), table: String::new() };
        let summary = &reader.manifest().summary;
        for table in &summary.tables {
            trip.table.clone_from(&table.name);
            let find = |kind| reader.manifest().roots.iter().find(|r| (r.table, r.kind) == (table.number, kind));
            let Some(root) = find(TreeKind::Rows) else {
                self.manifest_fault(&trip, "it has no tree of a table that its summary lists");
                continue;
            };
            let Some(sums) = self.root(&mut trip, root)? else { continue };
            let told = (table.rows, table.bytes, table.owners, table.leaves);
            let classes = table.owned.checked_add(table.none).and_then(|sum| sum.checked_add(table.orphan));
            if told != (sums.rows, sums.bytes, sums.owners, sums.leaves) || classes != Some(table.rows) {
                self.manifest_fault(&trip, "the counts of its summary are not those of its trees");
            }
            let Sums { rows, bytes, leaves, .. } = sums;
            trip.checked.tables.push(TableChecked { name: table.name.clone(), rows, leaves, bytes });
            if let Some(root) = find(TreeKind::References) {
                self.root(&mut trip, root)?;
            }
        }
        let known = |root: &&TreeRoot| summary.tables.iter().any(|table| table.number == root.table);
        if !reader.manifest().roots.iter().all(|root| known(&root)) {
            self.manifest_fault(&trip, "it has a tree of a table that its summary does not list");
        }
        Ok(trip.checked)
    }

    fn manifest_fault(&mut self, trip: &Trip<'_>, what: &str) {
        let name = Name::Manifest(trip.reader.source(), trip.record.snapshot.manifest.sha256);
        let at = self.findings.add(Fault::Contradiction, Some(trip.reader.source()), name, what);
        self.findings.hurts(at, trip.victim());
    }

    /// Walks a tree. Gives the sums over all of it.
    fn root(&mut self, trip: &mut Trip<'_>, root: &TreeRoot) -> Result<Option<Sums>, OpError> {
        let skeleton = match trip.reader.open_root(root) {
            Ok(skeleton) => skeleton,
            Err(error) => {
                self.manifest_fault(trip, &error.to_string());
                return Ok(None);
            }
        };
        let sums = Sums::below(&skeleton);
        // Equal roots of two nights hold the same hashed part, and mostly the same hints.
        let id = trip.reader.root_id(root)?;
        self.enter(trip, id, |walker, trip| walker.node(trip, &skeleton))?;
        Ok(Some(sums))
    }

    /// Does `walk` unless it was done for this chunk before; findings of then hurt this snapshot too.
    fn enter(
        &mut self,
        trip: &mut Trip<'_>,
        id: ChunkId,
        walk: impl FnOnce(&mut Self, &mut Trip<'_>) -> Result<(), OpError>,
    ) -> Result<(), OpError> {
        if !self.visited.insert(id) {
            for at in self.faults.get(&id).cloned().unwrap_or_default() {
                self.findings.met_again(at, trip.victim());
            }
            return Ok(());
        }
        let mark = self.findings.mark();
        walk(self, trip)?;
        let met = self.findings.met_since(mark);
        if !met.is_empty() {
            self.faults.insert(id, met);
        }
        Ok(())
    }

    fn node(&mut self, trip: &mut Trip<'_>, node: &Skeleton) -> Result<(), OpError> {
        if self.cancel.is_cancelled() {
            return Err(OpError::Cancelled);
        }
        if node.level == 1 {
            return self.leaves(trip, node);
        }
        for child in &node.children {
            self.place(trip, FrameType::Node, child.id, child.location);
            self.place(trip, FrameType::Ranges, ranges_id(&child.id), child.ranges_location);
            let beside = match (&child.location, &child.ranges_location) {
                (Some(node), Some(ranges)) => {
                    node.pack == ranges.pack
                        && u64::from(node.offset) + u64::from(node.stored) == u64::from(ranges.offset)
                }
                _ => true,
            };
            if !beside {
                let object = trip.object(child.location);
                let what = format!("the ranges of node {} do not lie beside it", child.id);
                self.fault(trip, Fault::StaleHint, object, what);
            }
        }
        for children in node.children.chunks(NODES_AT_ONCE) {
            self.children(trip, node.level - 1, children)?;
        }
        Ok(())
    }

    /// Opens those of `children` that were not walked before, and walks them.
    fn children(&mut self, trip: &mut Trip<'_>, level: u8, children: &[Child]) -> Result<(), OpError> {
        let mut fresh = Vec::new();
        for child in children {
            if self.visited.contains(&child.id) {
                self.enter(trip, child.id, |_, _| Ok(()))?;
            } else {
                fresh.push(child);
            }
        }
        let want = |child: &&Child| Want { kind: FrameType::Node, id: child.id, location: child.location };
        let wants: Vec<Want> = fresh.iter().map(want).collect();
        let mut opened: Vec<Option<Skeleton>> = fresh.iter().map(|_| None).collect();
        let mut failed = Vec::new();
        let reader = trip.reader;
        reader.fetch(&wants, |at, content| {
            match content.and_then(|content| reader.open_node(&wants[at], &content, level)) {
                Ok(skeleton) => opened[at] = Some(skeleton),
                Err(RepoError::Store(error)) => return Err(OpError::from(RepoError::Store(error))),
                Err(error) => failed.push((at, error)),
            }
            Ok(())
        })?;
        for (at, error) in failed {
            let child = fresh[at];
            self.enter(trip, child.id, |walker, trip| {
                let object = trip.object(child.location);
                let what = format!("a node over {} rows cannot be read: {error}", child.rows);
                walker.fault(trip, Fault::Unreadable, object, what);
                Ok(())
            })?;
        }
        for (child, skeleton) in fresh.iter().zip(&opened) {
            let Some(skeleton) = skeleton else { continue };
            trip.checked.nodes += 1;
            self.progress.add(CountUnit::Objects, 1);
            self.enter(trip, child.id, |walker, trip| {
                if Sums::below(skeleton) != Sums::of(child) {
                    let object = trip.object(child.location);
                    let what = format!("the counts of node {} are not those that its parent has", child.id);
                    walker.fault(trip, Fault::Contradiction, object, what);
                }
                walker.node(trip, skeleton)
            })?;
        }
        Ok(())
    }

    fn leaves(&mut self, trip: &mut Trip<'_>, node: &Skeleton) -> Result<(), OpError> {
        let mut lists = Vec::new();
        for leaf in &node.children {
            trip.checked.leaves += 1;
            let content = self.place(trip, FrameType::Leaf, leaf.id, leaf.location);
            if leaf.leaves != 1 || content.is_some_and(|len| u64::from(len) != leaf.bytes) {
                let object = trip.object(leaf.location);
                let what = format!("leaf {} has another length than its node says", leaf.id);
                self.fault(trip, Fault::Contradiction, object, what);
            }
            for hint in &leaf.streams {
                self.stream(trip, hint.stream, hint.location, &mut lists);
            }
        }
        self.lists(trip, &lists)
    }

    fn stream(
        &mut self,
        trip: &mut Trip<'_>,
        stream: StreamRef,
        location: Option<FrameLocation>,
        lists: &mut Vec<(StreamRef, Option<FrameLocation>)>,
    ) {
        trip.checked.streams += 1;
        match stream.form {
            StreamForm::Piece => {
                let content = self.place(trip, FrameType::Piece, stream.id, location);
                if content.is_some_and(|len| u64::from(len) != stream.len) {
                    let object = trip.object(location);
                    let what = format!("stream {} has another length than its node says", stream.id);
                    self.fault(trip, Fault::Contradiction, object, what);
                }
            }
            StreamForm::List => {
                self.place(trip, FrameType::List, stream.id, location);
                lists.push((stream, location));
            }
        }
    }

    /// Opens lists and checks the places and lengths of their pieces.
    fn lists(&mut self, trip: &mut Trip<'_>, lists: &[(StreamRef, Option<FrameLocation>)]) -> Result<(), OpError> {
        let mut fresh: Vec<(StreamRef, Option<FrameLocation>)> = Vec::new();
        for (stream, location) in lists {
            if self.visited.contains(&stream.id) {
                self.enter(trip, stream.id, |_, _| Ok(()))?;
            } else if !fresh.iter().any(|(known, _)| known.id == stream.id) {
                fresh.push((*stream, *location));
            }
        }
        for batch in fresh.chunks(NODES_AT_ONCE) {
            let want = |(stream, location): &(StreamRef, Option<FrameLocation>)| Want {
                kind: FrameType::List,
                id: stream.id,
                location: *location,
            };
            let wants: Vec<Want> = batch.iter().map(want).collect();
            let reader = trip.reader;
            reader.fetch(&wants, |at, content| {
                let (stream, location) = batch[at];
                let list = content.and_then(|content| {
                    PieceList::read(&content).map_err(|error| RepoError::wire(format!("list {}", stream.id), &error))
                });
                if let Err(RepoError::Store(error)) = list {
                    return Err(OpError::from(RepoError::Store(error)));
                }
                self.enter(trip, stream.id, |walker, trip| {
                    walker.list(trip, (stream, location), list);
                    Ok(())
                })
            })?;
        }
        Ok(())
    }

    fn list(
        &mut self,
        trip: &mut Trip<'_>,
        (stream, location): (StreamRef, Option<FrameLocation>),
        list: Result<PieceList, RepoError>,
    ) {
        let list = match list {
            Ok(list) => list,
            Err(error) => {
                let object = trip.object(location);
                let what = format!("the list of a stream of {} bytes cannot be read: {error}", stream.len);
                return self.fault(trip, Fault::Unreadable, object, what);
            }
        };
        trip.checked.nodes += 1;
        let mut sum = 0u64;
        for piece in &list.pieces {
            sum = sum.saturating_add(piece.len);
            let hint = piece.location.map(|location| (&list.packs[location.pack as usize], location));
            let content = self.look(trip, FrameType::Piece, piece.id, hint);
            if content.is_some_and(|len| u64::from(len) != piece.len) {
                sum = u64::MAX;
            }
        }
        if sum != stream.len {
            let object = trip.object(location);
            let what = format!("the pieces of stream {} do not add up to its length", stream.id);
            self.fault(trip, Fault::Contradiction, object, what);
        }
    }

    /// The content length of a chunk, if it lies in a pack of the inventory.
    fn place(
        &mut self,
        trip: &mut Trip<'_>,
        kind: FrameType,
        id: ChunkId,
        location: Option<FrameLocation>,
    ) -> Option<u32> {
        match location {
            Some(location) => {
                let pack = trip.reader.pack(location.pack);
                self.look(trip, kind, id, Some((&pack, location)))
            }
            None => self.look(trip, kind, id, None),
        }
    }

    fn look(
        &mut self,
        trip: &mut Trip<'_>,
        kind: FrameType,
        id: ChunkId,
        hint: Option<(&PackRef, FrameLocation)>,
    ) -> Option<u32> {
        let hinted = hint.as_ref().and_then(|(pack, location)| {
            let session: &SessionId = pack.sessions.get(usize::from(location.session))?;
            Some((&pack.digest, session, location))
        });
        let digest: Option<Digest> = hint.as_ref().map(|(pack, _)| pack.digest);
        match self.places.look(kind, &id, hinted) {
            Look::Exact { content, .. } => Some(content),
            Look::Elsewhere { content, .. } => {
                // A hint may lead to a pack that is gone while the chunk is stored again elsewhere.
                let what = format!("a hint to chunk {id} leads nowhere; the index finds it elsewhere");
                let object = trip.name_of(digest);
                self.fault(trip, Fault::StaleHint, object, what);
                Some(content)
            }
            Look::Nowhere => {
                let what = format!("chunk {id} is needed from it, and no readable pack of the inventory has it");
                let object = trip.name_of(digest);
                self.fault(trip, Fault::LostChunk, object, what);
                None
            }
        }
    }

    fn fault(&mut self, trip: &Trip<'_>, fault: Fault, object: String, what: String) {
        let key = (fault, Some(trip.reader.source()), object);
        let severity = if fault == Fault::StaleHint { Severity::Warning } else { fault.severity() };
        let at = self.findings.add_as(severity, key, what);
        self.findings.hurts(at, trip.victim());
    }
}

impl Trip<'_> {
    fn victim(&self) -> Victim<'_> {
        let table = (!self.table.is_empty()).then_some(self.table.as_str());
        Victim { snapshot: Some(self.record.id), table }
    }

    /// The name of the pack that a hint leads to.
    fn object(&self, location: Option<FrameLocation>) -> String {
        self.name_of(location.map(|location| self.reader.pack(location.pack).digest))
    }

    fn name_of(&self, pack: Option<Digest>) -> String {
        let source = self.reader.source();
        match pack {
            Some(digest) => Name::Pack(source, digest).to_string(),
            None => format!("{source}/packs"),
        }
    }
}

/// A report of nothing checked yet.
#[must_use]
pub fn empty(record: &SnapshotRecord) -> SnapshotChecked {
    let (nodes, leaves, streams, opened, opened_bytes) = (0, 0, 0, 0, 0);
    SnapshotChecked {
        snapshot: record.id,
        number: record.number,
        source_clock: record.snapshot.source_clock,
        intact: true,
        gaps: Vec::new(),
        tables: Vec::new(),
        nodes,
        leaves,
        streams,
        opened,
        opened_bytes,
    }
}
