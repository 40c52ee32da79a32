//! The leaves of one tree in their order, each with what lies between it and the one before, and the
//! names under which what was found sound is remembered.

use crate::base::limit::{FAN_OUT_MAX, FAN_OUT_MIN, FAN_OUT_TARGET};
use crate::format::node::Child;
use crate::ops::verify::leaf::{Junction, LeafFacts, TreeRules};
use crate::repo::check::Victim;
use crate::repo::ledger::SnapshotRecord;
use crate::repo::reader::{SnapshotReader, StreamPlace};
use crate::tree::builder::RowCounts;

/// What is known while one tree is looked at.
pub struct Tree<'r> {
    pub reader: &'r SnapshotReader<'r>,
    pub record: &'r SnapshotRecord,
    pub table: &'r str,
    pub rules: TreeRules<'r>,
    /// Tells trees apart whose rows are placed by other rules.
    pub rules_hash: [u8; 32],
    /// From level 1 to the root: the nodes above the current leaf.
    pub path: Vec<PathStep>,
    /// Counts of the path when the last leaf was reached; empty at the beginning and after something left out.
    pub children_before: Vec<usize>,
    pub batch: Vec<PlacedLeaf>,
    pub before: Option<PlacedLeaf>,
    /// Whether nothing was left out since `before`, or the tree's beginning.
    pub unbroken: bool,
    pub totals: RowCounts,
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
pub struct PlacedLeaf {
    pub leaf: Child,
    /// What lies between the leaf before and this; `None` at the beginning and after something left out.
    pub junction: Option<Junction>,
    pub is_first: bool,
    pub facts: Option<LeafFacts>,
}

impl<'r> Tree<'r> {
    /// Nothing was looked at yet.
    pub fn new(
        reader: &'r SnapshotReader<'r>,
        record: &'r SnapshotRecord,
        table: &'r str,
        rules: TreeRules<'r>,
    ) -> Self {
        let entry = serde_json::to_vec(rules.entry).expect("a catalog entry is plain JSON");
        let mut hasher = blake3::Hasher::new();
        hasher.update(&entry).update(&[rules.kind as u8, u8::from(rules.is_owner)]);
        let rules_hash = *hasher.finalize().as_bytes();
        Self {
            reader,
            record,
            table,
            rules,
            rules_hash,
            path: Vec::new(),
            children_before: Vec::new(),
            batch: Vec::new(),
            before: None,
            unbroken: true,
            totals: RowCounts::default(),
            streams: Vec::new(),
            is_sound: true,
            opened: 0,
            opened_bytes: 0,
        }
    }

    /// Whom a fault hurts.
    pub fn victim(&self) -> Victim<'r> {
        Victim { snapshot: Some(self.record.id), table: Some(self.table) }
    }

    /// The next leaf of the level-1 node at the end of the path.
    pub fn push(&mut self, leaf: &Child) {
        self.path[0].children += 1;
        let now: Vec<usize> = self.path.iter().map(|step| step.children).collect();
        let is_first = self.unbroken && self.children_before.is_empty();
        let before = std::mem::replace(&mut self.children_before, now);
        let junction = (!before.is_empty()).then(|| self.junction(before));
        self.batch.push(PlacedLeaf { leaf: leaf.clone(), junction, is_first, facts: None });
    }

    /// What lies between the leaf that was reached by `before` and the one reached now. The lowest
    /// node above both is on the highest level whose count has moved.
    fn junction(&self, mut before: Vec<usize>) -> Junction {
        let now = &self.children_before;
        let moved = (0..now.len()).rev().find(|&at| now[at] != before[at]).unwrap_or(0);
        let separator = now[moved].checked_sub(2).and_then(|at| self.path[moved].separators.get(at));
        before.truncate(moved + 1);
        Junction { separator: separator.cloned().unwrap_or_default(), children: before }
    }

    /// Something is left out here.
    pub fn breaks(&mut self) {
        self.before = None;
        self.children_before.clear();
        self.unbroken = false;
    }

    /// A name for something that was found sound in a tree with these rules.
    pub fn hash(&self, parts: &[&[u8]]) -> u64 {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.rules_hash);
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
        }
        u64::from_le_bytes(*hasher.finalize().as_bytes().first_chunk().expect("32 bytes hold 8"))
    }

    /// Names the neighbours `at - 1` and `at`, all that their node says of the second, and what lies between.
    pub fn pair_hash(&self, items: &[PlacedLeaf], at: usize) -> u64 {
        let item = &items[at];
        let before = at.checked_sub(1).filter(|_| item.junction.is_some()).map(|before| items[before].leaf.id);
        let leaf = &item.leaf;
        let counts: Vec<u8> = [leaf.rows, leaf.bytes, leaf.owners].iter().flat_map(|n| n.to_le_bytes()).collect();
        let mut streams = Vec::new();
        for hint in &leaf.streams {
            streams.push(hint.stream.form as u8);
            streams.extend_from_slice(hint.stream.id.as_bytes());
            streams.extend_from_slice(&hint.stream.len.to_le_bytes());
        }
        let junction = item.junction.as_ref();
        // Only the range in which a count lies decides where a node ends.
        let ranges =
            |count: &usize| [FAN_OUT_MIN, FAN_OUT_TARGET, FAN_OUT_MAX].iter().filter(|&at| count >= at).count() as u8;
        let children: Vec<u8> = junction.map(|j| j.children.iter().map(ranges).collect()).unwrap_or_default();
        self.hash(&[
            before.as_ref().map_or(&[][..], |id| id.as_bytes()),
            leaf.id.as_bytes(),
            &[u8::from(item.is_first)],
            &counts,
            &streams,
            junction.map_or(&[][..], |j| &j.separator),
            &children,
        ])
    }
}
