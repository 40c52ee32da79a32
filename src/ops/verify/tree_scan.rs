//! The leaves of one tree in their order, each with what lies between it and the one before, and the
//! names under which what was found sound is remembered.

use crate::base::finding::Affected;
use crate::base::limit::{FAN_OUT_MAX, FAN_OUT_MIN, FAN_OUT_TARGET};
use crate::format::node::{Child, StreamHint};
use crate::ops::verify::leaf::{Junction, LeafFacts, TreeRules};
use crate::repo::ledger::SnapshotRecord;
use crate::repo::reader::{SnapshotReader, StreamPlace};
use crate::tree::builder::RowCounts;

/// One tree while its leaves are checked.
pub struct TreeScan<'r> {
    pub reader: &'r SnapshotReader<'r>,
    pub record: &'r SnapshotRecord,
    pub table: &'r str,
    pub rules: TreeRules<'r>,
    /// Tells trees apart whose rows are placed by other rules.
    rules_hash: [u8; 32],
    /// From level 1 to the root: the nodes above the current leaf.
    pub path: Vec<PathStep>,
    /// Counts of the path when the last leaf was reached; empty at the beginning and after something left out.
    last_counts: Vec<usize>,
    /// Leaves that wait to be checked together.
    pub batch: Vec<ScannedLeaf>,
    /// The leaf before the batch.
    pub previous: Option<ScannedLeaf>,
    /// Whether nothing was left out since the tree's beginning.
    pub is_complete: bool,
    pub totals: RowCounts,
    /// Streams that wait to be opened.
    pub streams: Vec<StreamPlace>,
    pub is_sound: bool,
    pub opened: u64,
    pub opened_bytes: u64,
}

/// A node on the way from the root to the current leaf.
#[derive(Default)]
pub struct PathStep {
    pub separators: Vec<Vec<u8>>,
    /// Children up to the current one.
    pub children: usize,
}

/// A leaf in its place.
pub struct ScannedLeaf {
    pub leaf: Child,
    /// What lies between the leaf before and this; `None` at the beginning and after something left out.
    pub junction: Option<Junction>,
    pub is_first: bool,
    pub facts: Option<LeafFacts>,
}

/// A leaf that has to be compared with the one before it.
pub struct LeafPair {
    pub at: usize,
    pub hash: u64,
}

impl<'r> TreeScan<'r> {
    /// Nothing is checked yet.
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

    /// The next leaf of the level-1 node at the end of the path.
    pub fn push(&mut self, leaf: &Child) {
        self.path[0].children += 1;
        let counts: Vec<usize> = self.path.iter().map(|step| step.children).collect();
        let is_first = self.is_complete && self.last_counts.is_empty();
        let before = std::mem::replace(&mut self.last_counts, counts);
        let junction = (!before.is_empty()).then(|| self.junction(before));
        self.batch.push(ScannedLeaf { leaf: leaf.clone(), junction, is_first, facts: None });
    }

    /// What lies between the leaf that was reached by `before` and the one reached now. The lowest
    /// node above both is on the highest level whose count has moved.
    fn junction(&self, mut before: Vec<usize>) -> Junction {
        let counts = &self.last_counts;
        let moved = (0..counts.len()).rev().find(|&level| counts[level] != before[level]).unwrap_or(0);
        let separators = &self.path[moved].separators;
        let separator = counts[moved].checked_sub(2).and_then(|at| separators.get(at));
        before.truncate(moved + 1);
        Junction { separator: separator.cloned().unwrap_or_default(), children: before }
    }

    /// Something is left out here.
    pub fn skip(&mut self) {
        self.previous = None;
        self.last_counts.clear();
        self.is_complete = false;
    }

    /// Adds the counts of a leaf; without them the totals mean nothing.
    pub fn add_counts(&mut self, counts: Option<RowCounts>) {
        let Some(counts) = counts else {
            self.is_complete = false;
            return;
        };
        self.totals.owned += counts.owned;
        self.totals.none += counts.none;
        self.totals.orphan += counts.orphan;
        self.totals.duplicates += counts.duplicates;
    }

    /// A name for something that was found sound in a tree with these rules.
    pub fn hash(&self, parts: &[&[u8]]) -> u64 {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.rules_hash);
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        u64::from_le_bytes(*hasher.finalize().as_bytes().first_chunk().expect("32 bytes hold 8"))
    }

    /// Names the neighbours `at - 1` and `at`, all that their node says of the second, and what lies between.
    pub fn pair_hash(&self, items: &[ScannedLeaf], at: usize) -> u64 {
        let item = &items[at];
        let leaf = &item.leaf;
        let mut before: &[u8] = &[];
        let mut separator: &[u8] = &[];
        let mut children = Vec::new();
        if let Some(junction) = &item.junction {
            before = at.checked_sub(1).map_or(&[], |before| items[before].leaf.id.as_bytes());
            separator = &junction.separator;
            children = junction.children.iter().map(fan_out_range).collect();
        }
        self.hash(&[
            before,
            leaf.id.as_bytes(),
            &[u8::from(item.is_first)],
            &counts_bytes(leaf),
            &streams_bytes(&leaf.streams),
            separator,
            &children,
        ])
    }
}

fn rules_hash(rules: &TreeRules<'_>) -> [u8; 32] {
    let entry = serde_json::to_vec(rules.entry).expect("a catalog entry is plain JSON");
    let mut hasher = blake3::Hasher::new();
    hasher.update(&entry);
    hasher.update(&[rules.kind as u8, u8::from(rules.is_owner)]);
    *hasher.finalize().as_bytes()
}

/// Only the range in which a count lies decides where a node ends.
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

fn streams_bytes(streams: &[StreamHint]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for hint in streams {
        bytes.push(hint.stream.form as u8);
        bytes.extend_from_slice(hint.stream.id.as_bytes());
        bytes.extend_from_slice(&hint.stream.len.to_le_bytes());
    }
    bytes
}

/// Positions of the leaves that must be opened to compare these pairs.
pub fn needed_leaves(items: &[ScannedLeaf], pairs: &[LeafPair]) -> Vec<usize> {
    let mut needed = Vec::new();
    for pair in pairs {
        needed.extend(pair.at.checked_sub(1));
        needed.push(pair.at);
    }
    // The last one is needed at the tree's end, or by the next batch, or not at all; it costs one leaf.
    needed.push(items.len() - 1);
    needed.sort_unstable();
    needed.dedup();
    needed.retain(|&at| items[at].facts.is_none());
    needed
}
