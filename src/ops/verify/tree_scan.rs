//! Scans the leaves of one tree in order, with the junction between each leaf and the one before it. Also makes the
//! hashes by which trees and pairs that were found sound are remembered.

use std::collections::HashSet;

use crate::base::finding::{Affected, Finding, FindingKind, Findings};
use crate::base::id::ChunkId;
use crate::base::limit::{FAN_OUT_MAX, FAN_OUT_MIN, FAN_OUT_TARGET};
use crate::base::progress::{CountUnit, SharedProgress};
use crate::format::cell::StreamRef;
use crate::format::node::{Child, FrameLocation, StreamsEntry};
use crate::format::stream_lists::StreamHint;
use crate::ops::error::{OpError, unless_store_fails};
use crate::ops::verify::frame_map::pack_object;
use crate::ops::verify::junction::Junction;
use crate::ops::verify::leaf::{LeafFacts, LeafFault, TreeRules};
use crate::repo::ledger::SnapshotRecord;
use crate::repo::reader::SnapshotReader;
use crate::tree::leaf_cutter::RowCounts;

/// A tree whose leaves are being checked.
pub struct TreeScan<'r> {
    pub reader: &'r SnapshotReader<'r>,
    pub record: &'r SnapshotRecord,
    pub table: &'r str,
    pub rules: TreeRules<'r>,
    /// Distinguishes trees whose rows are placed by different rules.
    rules_hash: [u8; 32],
    /// The nodes above the current leaf, from level 1 to the root.
    pub path: Vec<PathStep>,
    /// The nodes below the root that were met.
    pub nodes: HashSet<ChunkId>,
    /// Child counts of the path at the last leaf. Empty at the beginning, and after a part that was skipped.
    last_counts: Vec<usize>,
    /// Leaves that are queued to be checked together.
    pub batch: Vec<ScannedLeaf>,
    /// The last leaf before the batch.
    pub previous: Option<ScannedLeaf>,
    /// Whether nothing was skipped since the beginning of the tree.
    pub is_complete: bool,
    pub totals: RowCounts,
    /// Streams that are queued to be opened.
    pub streams: Vec<StreamHint>,
    pub is_sound: bool,
    pub opened: u64,
    pub opened_bytes: u64,
}

/// A node on the way from the root to the current leaf.
#[derive(Default)]
pub struct PathStep {
    pub separators: Vec<Vec<u8>>,
    /// Number of children up to and including the current one.
    pub children: usize,
}

/// A leaf at its place in the tree.
pub struct ScannedLeaf {
    pub leaf: Child,
    /// The junction with the leaf before it. `None` at the beginning, and after a part that was skipped.
    pub junction: Option<Junction>,
    pub is_first: bool,
    pub facts: Option<LeafFacts>,
}

/// Leaves that are checked together.
pub struct ScanBatch {
    pub items: Vec<ScannedLeaf>,
    /// The position of the first leaf that does not belong to the previous batch.
    pub first: usize,
}

/// A leaf that must be compared with the one before it.
pub struct LeafPair {
    pub at: usize,
    pub hash: u64,
}

impl<'r> TreeScan<'r> {
    /// Creates a scan that has not checked anything.
    pub fn new(
        reader: &'r SnapshotReader<'r>,
        record: &'r SnapshotRecord,
        table: &'r str,
        rules: TreeRules<'r>,
    ) -> Self {
        Self {
            reader,
            record,
            table,
            rules_hash: rules_hash(&rules),
            rules,
            path: Vec::new(),
            nodes: HashSet::new(),
            last_counts: Vec::new(),
            batch: Vec::new(),
            previous: None,
            is_complete: true,
            totals: RowCounts::default(),
            streams: Vec::new(),
            is_sound: true,
            opened: 0,
            opened_bytes: 0,
        }
    }

    /// What a fault affects.
    pub fn affected(&self) -> Affected<'r> {
        Affected { snapshot: Some(self.record.id), table: Some(self.table) }
    }

    /// Queues the next leaf of the level-1 node at the end of the path.
    pub fn push(&mut self, leaf: &Child) {
        self.path[0].children += 1;
        let counts: Vec<usize> = self.path.iter().map(|step| step.children).collect();
        let is_first = self.is_complete && self.last_counts.is_empty();
        let before = std::mem::replace(&mut self.last_counts, counts);
        let junction = (!before.is_empty()).then(|| self.junction(before));
        self.batch.push(ScannedLeaf { leaf: leaf.clone(), junction, is_first, facts: None });
    }

    /// The facts of a leaf, if they match its node.
    /// Fails if the store fails.
    pub fn facts(&self, leaf: &Child, content: &[u8]) -> Result<Result<LeafFacts, LeafFault>, OpError> {
        let mut failure = None;
        let facts = self.rules.facts(content, &mut |stream| self.read_key(stream, &mut failure));
        if let Some(error) = failure {
            return Err(error);
        }
        Ok(facts.map_err(|fault| fault.of_leaf(leaf)).and_then(|facts| self.as_described(facts, leaf, content)))
    }

    /// Reads a key value that is stored as a stream. If the store fails, its error is put into `failure`.
    fn read_key(&self, stream: &StreamRef, failure: &mut Option<OpError>) -> Option<Vec<u8>> {
        match unless_store_fails(self.reader.stream(&StreamHint { stream: *stream, location: None })) {
            Ok(content) => content.ok(),
            Err(error) => {
                *failure = Some(error);
                None
            }
        }
    }

    fn as_described(&self, facts: LeafFacts, leaf: &Child, content: &[u8]) -> Result<LeafFacts, LeafFault> {
        if facts.is_as_described(leaf, content, &self.rules) {
            return Ok(facts);
        }
        Err(LeafFault::Wrong(format!("leaf {} does not have the rows or streams that its node lists", leaf.id)))
    }

    /// Takes the queued leaves, together with the leaf before them. `None` if the queue is empty.
    pub fn take_batch(&mut self) -> Option<ScanBatch> {
        let mut items = std::mem::take(&mut self.batch);
        if items.is_empty() {
            return None;
        }
        let mut first = 0;
        if let Some(previous) = self.previous.take() {
            items.insert(0, previous);
            first = 1;
        }
        Some(ScanBatch { items, first })
    }

    /// Reports something wrong in this tree.
    pub fn fault(
        &mut self,
        findings: &mut Findings,
        kind: FindingKind,
        location: Option<FrameLocation>,
        detail: String,
    ) {
        self.is_sound = false;
        let source = self.reader.source();
        let pack = location.map(|location| self.reader.pack_digest(location.pack));
        let finding = Finding::new(kind, pack_object(source, pack), detail).of_source(source);
        findings.add(finding.affecting(self.affected()));
    }

    /// Counts a leaf or piece that was opened.
    pub fn count_opened(&mut self, content: &[u8], progress: &SharedProgress) {
        let len = content.len() as u64;
        self.opened += 1;
        self.opened_bytes += len;
        progress.add(CountUnit::ContentBytes, len);
    }

    /// The junction between the leaf whose path had the child counts `before` and the current leaf. The lowest node
    /// above both is on the highest level whose count has changed.
    fn junction(&self, mut before: Vec<usize>) -> Junction {
        let moved = self.highest_moved(&before);
        let separators = &self.path[moved].separators;
        let separator = self.last_counts[moved].checked_sub(2).and_then(|at| separators.get(at));
        before.truncate(moved + 1);
        Junction { separator: separator.cloned().unwrap_or_default(), children: before }
    }

    fn highest_moved(&self, before: &[usize]) -> usize {
        let counts = &self.last_counts;
        let mut levels = (0..counts.len()).rev();
        levels.find(|&level| counts[level] != before[level]).unwrap_or(0)
    }

    /// Records that a part of the tree is skipped here.
    pub fn skip(&mut self) {
        self.previous = None;
        self.last_counts.clear();
        self.is_complete = false;
    }

    /// Adds the counts of a leaf. If they are not known, the totals are incomplete.
    pub fn add_counts(&mut self, counts: Option<RowCounts>) {
        match counts {
            Some(counts) => self.add_to_totals(counts),
            None => self.is_complete = false,
        }
    }

    fn add_to_totals(&mut self, counts: RowCounts) {
        self.totals.owned = self.totals.owned.saturating_add(counts.owned);
        self.totals.none = self.totals.none.saturating_add(counts.none);
        self.totals.orphan = self.totals.orphan.saturating_add(counts.orphan);
        self.totals.duplicates = self.totals.duplicates.saturating_add(counts.duplicates);
    }

    /// The hash by which something that was found sound in a tree with these rules is remembered.
    pub fn hash(&self, parts: &[&[u8]]) -> u64 {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.rules_hash);
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        u64::from_le_bytes(*hasher.finalize().as_bytes().first_chunk().expect("32 bytes hold 8"))
    }

    /// The hash of the neighbours `at - 1` and `at`, of everything that the second leaf's node contains about it, and
    /// of their junction.
    pub fn pair_hash(&self, items: &[ScannedLeaf], at: usize) -> u64 {
        let item = &items[at];
        let mut between = JunctionParts::default();
        if let Some(junction) = &item.junction {
            let before = at.checked_sub(1).map(|before| &items[before]);
            between = JunctionParts::of(before, junction);
        }
        self.hash_of(item, &between)
    }

    fn hash_of(&self, item: &ScannedLeaf, between: &JunctionParts<'_>) -> u64 {
        let leaf = &item.leaf;
        self.hash(&[
            between.leaf_before,
            leaf.id.as_bytes(),
            &[u8::from(item.is_first)],
            &counts_bytes(leaf),
            &streams_bytes(leaf.streams.as_ref()),
            between.separator,
            &between.fan_outs,
        ])
    }
}

/// The parts of a junction that the hash of a pair covers.
#[derive(Default)]
struct JunctionParts<'a> {
    leaf_before: &'a [u8],
    separator: &'a [u8],
    fan_outs: Vec<u8>,
}

impl<'a> JunctionParts<'a> {
    fn of(before: Option<&'a ScannedLeaf>, junction: &'a Junction) -> Self {
        Self {
            leaf_before: before.map_or(&[], |before| before.leaf.id.as_bytes()),
            separator: &junction.separator,
            fan_outs: junction.children.iter().map(fan_out_range).collect(),
        }
    }
}

fn rules_hash(rules: &TreeRules<'_>) -> [u8; 32] {
    let entry = serde_json::to_vec(rules.entry).expect("a catalog entry is plain JSON");
    let owners = serde_json::to_vec(rules.owners).expect("owner tables are plain JSON");
    let mut hasher = blake3::Hasher::new();
    hasher.update(&entry);
    hasher.update(&owners);
    hasher.update(&[rules.kind as u8]);
    *hasher.finalize().as_bytes()
}

/// The range that a count of children is in. Where a node ends depends only on this range.
fn fan_out_range(children: &usize) -> u8 {
    let bounds = [FAN_OUT_MIN, FAN_OUT_TARGET, FAN_OUT_MAX];
    bounds.iter().filter(|&bound| children >= bound).count() as u8
}

fn counts_bytes(leaf: &Child) -> Vec<u8> {
    let mut bytes = Vec::new();
    for count in [leaf.rows, leaf.bytes, leaf.owners] {
        bytes.extend_from_slice(&count.to_le_bytes());
    }
    bytes
}

fn streams_bytes(streams: Option<&StreamsEntry>) -> Vec<u8> {
    let Some(streams) = streams else { return Vec::new() };
    [&streams.count.to_le_bytes(), &streams.id.as_bytes()[..]].concat()
}

/// Positions of the leaves that must be opened to compare these pairs.
pub fn needed_leaves(items: &[ScannedLeaf], pairs: &[LeafPair]) -> Vec<usize> {
    let mut needed = leaves_of_pairs(pairs);
    // The last leaf is needed at the end of the tree, or by the next batch, or not at all. It costs one leaf.
    needed.push(items.len() - 1);
    needed.sort_unstable();
    needed.dedup();
    needed.retain(|&at| items[at].facts.is_none());
    needed
}

fn leaves_of_pairs(pairs: &[LeafPair]) -> Vec<usize> {
    let mut leaves = Vec::new();
    for pair in pairs {
        leaves.extend(pair.at.checked_sub(1));
        leaves.push(pair.at);
    }
    leaves
}
