//! Checks every row: opens and decodes leaves, ranges and pieces, and recomputes everything that follows from the rows.
//! What must hold between two leaves (order, the cut, the separator, owners with rows in both) is checked once for each
//! pair of neighbours, so that the cost of a snapshot depends only on what is new in it.

use std::collections::{HashMap, HashSet};

use crate::base::finding::{Affected, Finding, FindingKind, Findings};
use crate::base::frame::FrameType;
use crate::crypto::ids::SourceIdKeys;
use crate::format::catalog::Catalog;
use crate::format::manifest::{RootPlace, TableSummary, TreeKind, TreeRoot};
use crate::format::name::Name;
use crate::format::node::{Child, Skeleton};
use crate::ops::error::{OpError, unless_store_fails};
use crate::ops::verify::frame_map::FrameMap;
use crate::ops::verify::junction::{Junction, height_fault};
use crate::ops::verify::leaf::{LeafFacts, LeafFault, TreeRules};
use crate::ops::verify::nodes::{NodeContent, VerifiedNode, fetch_nodes, open_node, separators};
use crate::ops::verify::report::{SnapshotChecked, VerifyOptions};
use crate::ops::verify::streams::StreamCheck;
use crate::ops::verify::tree_scan::{LeafPair, PathStep, ScanBatch, ScannedLeaf, TreeScan, needed_leaves};
use crate::repo::error::RepoError;
use crate::repo::finding::finding_of;
use crate::repo::ledger::SnapshotRecord;
use crate::repo::reader::{SnapshotReader, Want};
use crate::tree::leaf_cutter::RowCounts;

/// Number of nodes that are in memory on each level.
const NODES_AT_ONCE: usize = 64;
/// Number of leaves that are checked together.
const LEAVES_AT_ONCE: usize = 1024;

/// An open snapshot, with the keys that its ids were made with.
pub struct OpenSnapshot<'a> {
    pub reader: &'a SnapshotReader<'a>,
    pub ids: &'a SourceIdKeys,
    pub record: &'a SnapshotRecord,
}

impl<'a> OpenSnapshot<'a> {
    fn manifest_finding(&self, detail: &str) -> Finding {
        manifest_finding(self.reader, self.record, detail)
    }

    /// A finding about something in the snapshot that cannot be read.
    /// Fails if the store failed.
    fn finding_of(&self, error: RepoError) -> Result<Finding, OpError> {
        let finding = finding_of(Some(self.reader.source()), error)?;
        Ok(finding.affecting(Affected::snapshot(Some(self.record.id))))
    }

    fn summary(&self, root: &TreeRoot) -> Option<&'a TableSummary> {
        self.reader.table_summary(root.table)
    }

    fn rules(&self, catalog: &'a Catalog, root: &TreeRoot) -> Option<TreeRules<'a>> {
        let entry = self.reader.table_entry(root.table)?;
        Some(TreeRules::new(self.ids, root.kind, entry, &catalog.owners))
    }

    fn has_schema(&self, schema: &[u8], catalog: &Catalog) -> bool {
        data_encoding::HEXLOWER.encode(&self.ids.row_hash(schema)) == catalog.schema_digest
    }
}

fn manifest_finding(reader: &SnapshotReader<'_>, record: &SnapshotRecord, detail: &str) -> Finding {
    let source = reader.source();
    let name = Name::Manifest(source, record.snapshot.manifest.sha256);
    let finding = Finding::new(FindingKind::Contradiction, name, detail).of_source(source);
    finding.affecting(Affected::snapshot(Some(record.id)))
}

/// State that the row checks of all snapshots of a source share.
pub struct RowCheck<'a> {
    frames: &'a FrameMap,
    findings: &'a mut Findings,
    options: &'a VerifyOptions,
    /// Hashes of trees and of pairs of neighbours in which nothing is wrong.
    sound: HashSet<u64>,
    /// Row counts of leaves, by the position of their chunk in the frame map.
    counts: HashMap<usize, RowCounts>,
    streams: StreamCheck<'a>,
    /// Whether equal keys were ever found on both sides of a cut.
    keys_split: bool,
}

impl<'a> RowCheck<'a> {
    /// Creates a check that has not checked anything.
    pub fn new(frames: &'a FrameMap, findings: &'a mut Findings, options: &'a VerifyOptions) -> Self {
        Self {
            frames,
            findings,
            options,
            sound: HashSet::new(),
            counts: HashMap::new(),
            streams: StreamCheck::new(options),
            keys_split: false,
        }
    }

    /// Adds something that was found while rows were read.
    pub fn add_finding(&mut self, finding: Finding) {
        self.findings.add(finding);
    }

    /// Checks every row of a snapshot.
    /// Fails if the store fails or the check is cancelled.
    pub fn snapshot(&mut self, snapshot: &OpenSnapshot<'_>, checked: &mut SnapshotChecked) -> Result<(), OpError> {
        let manifest = snapshot.reader.manifest();
        let Some(catalog) = &manifest.catalog else { return Ok(()) };
        self.schema(snapshot, catalog)?;
        for root in &manifest.roots {
            self.root(snapshot, catalog, root, checked)?;
        }
        Ok(())
    }

    fn root<'r>(
        &mut self,
        snapshot: &OpenSnapshot<'r>,
        catalog: &'r Catalog,
        root: &TreeRoot,
        checked: &mut SnapshotChecked,
    ) -> Result<(), OpError> {
        let Some((rules, summary)) = snapshot.rules(catalog, root).zip(snapshot.summary(root)) else {
            self.findings.add(snapshot.manifest_finding("it has a tree for a table that its catalog does not have"));
            return Ok(());
        };
        let mut tree = TreeScan::new(snapshot.reader, snapshot.record, &summary.name, rules);
        self.tree(&mut tree, root, summary)?;
        checked.opened += tree.opened;
        checked.opened_bytes += tree.opened_bytes;
        Ok(())
    }

    fn schema(&mut self, snapshot: &OpenSnapshot<'_>, catalog: &Catalog) -> Result<(), OpError> {
        match snapshot.reader.schema() {
            Ok(schema) if snapshot.has_schema(&schema, catalog) => {}
            Ok(_) => {
                let detail = "its schema does not match the digest in its catalog";
                self.findings.add(snapshot.manifest_finding(detail));
            }
            Err(error) => {
                self.findings.add(snapshot.finding_of(error)?);
            }
        }
        Ok(())
    }

    /// Checks a tree, unless the same tree was found sound before.
    fn tree(&mut self, tree: &mut TreeScan<'_>, root: &TreeRoot, summary: &TableSummary) -> Result<(), OpError> {
        // The structure check has reported a root that cannot be opened.
        let Ok(top) = tree.reader.open_root(root) else { return Ok(()) };
        let root_id = tree.reader.root_id(root)?;
        let hash = tree.hash(&[root_id.as_bytes(), &counts_bytes(summary)]);
        if self.sound.contains(&hash) {
            return Ok(());
        }
        self.fresh_tree(tree, root, top, summary)?;
        if tree.is_sound && tree.is_complete {
            self.sound.insert(hash);
        }
        Ok(())
    }

    fn fresh_tree(
        &mut self,
        tree: &mut TreeScan<'_>,
        root: &TreeRoot,
        top: Skeleton,
        summary: &TableSummary,
    ) -> Result<(), OpError> {
        let Some(VerifiedNode { skeleton, separators }) = self.verified_root(tree, root, top)? else {
            tree.is_sound = false;
            return Ok(());
        };
        self.rows_below(tree, &skeleton, separators)?;
        if root.kind == TreeKind::Rows && tree.is_complete {
            self.check_totals(tree, summary);
        }
        Ok(())
    }

    /// A root with its separators. `None` if it cannot be read.
    fn verified_root(
        &mut self,
        tree: &mut TreeScan<'_>,
        root: &TreeRoot,
        top: Skeleton,
    ) -> Result<Option<VerifiedNode>, OpError> {
        if root.place == RootPlace::Pack {
            return Ok(self.open_nodes(tree, top.level - 1, &top.children)?.pop().flatten());
        }
        let Some(separators) = separators(tree.rules.ids, &top, &root.ranges) else {
            self.manifest_fault(tree, "the ranges of a root are not the ones that it refers to");
            return Ok(None);
        };
        Ok(Some(VerifiedNode { skeleton: top, separators }))
    }

    fn rows_below(
        &mut self,
        tree: &mut TreeScan<'_>,
        root: &Skeleton,
        separators: Vec<Vec<u8>>,
    ) -> Result<(), OpError> {
        tree.path = (0..root.level).map(|_| PathStep::default()).collect();
        self.node(tree, root, separators)?;
        self.check_batch(tree)?;
        self.streams.check(tree, self.findings)?;
        self.check_end(tree, root);
        Ok(())
    }

    fn node(&mut self, tree: &mut TreeScan<'_>, node: &Skeleton, separators: Vec<Vec<u8>>) -> Result<(), OpError> {
        if self.options.cancel.is_cancelled() {
            return Err(OpError::Cancelled);
        }
        let level = usize::from(node.level);
        tree.path[level - 1] = PathStep { separators, children: 0 };
        match level {
            1 => self.leaves(tree, node),
            _ => self.nodes_below(tree, node),
        }
    }

    fn nodes_below(&mut self, tree: &mut TreeScan<'_>, node: &Skeleton) -> Result<(), OpError> {
        for children in node.children.chunks(NODES_AT_ONCE) {
            for child in self.open_nodes(tree, node.level - 1, children)? {
                tree.path[usize::from(node.level) - 1].children += 1;
                self.child(tree, child)?;
            }
        }
        Ok(())
    }

    /// Continues with a node. Skips a node that cannot be read.
    fn child(&mut self, tree: &mut TreeScan<'_>, child: Option<VerifiedNode>) -> Result<(), OpError> {
        match child {
            Some(VerifiedNode { skeleton, separators }) => self.node(tree, &skeleton, separators),
            None => {
                self.check_batch(tree)?;
                tree.skip();
                Ok(())
            }
        }
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

    /// Opens nodes with their separators. `None` for a node that cannot be read.
    fn open_nodes(
        &mut self,
        tree: &mut TreeScan<'_>,
        level: u8,
        children: &[Child],
    ) -> Result<Vec<Option<VerifiedNode>>, OpError> {
        let contents = fetch_nodes(tree.reader, children)?;
        let mut opened = Vec::with_capacity(children.len());
        for (child, content) in children.iter().zip(contents) {
            // A tree is in order. All nodes of a level may have the same children if somebody made them so.
            let is_first = tree.nodes.insert(child.id);
            let content = if is_first { content } else { NodeContent::repeated() };
            let node = open_node(tree, level, child, content);
            if let Err(error) = &node {
                self.report_unreadable_node(tree, child, error);
            }
            opened.push(node.ok());
        }
        Ok(opened)
    }

    fn report_unreadable_node(&mut self, tree: &mut TreeScan<'_>, node: &Child, error: &str) {
        let detail = format!("a node that covers {} rows, or its ranges, cannot be read: {error}", node.rows);
        tree.fault(self.findings, FindingKind::Unreadable, node.location, detail);
    }

    /// Checks the leaves of the batch, and what must hold between them.
    fn check_batch(&mut self, tree: &mut TreeScan<'_>) -> Result<(), OpError> {
        let Some(mut batch) = tree.take_batch() else { return Ok(()) };
        self.check_pairs(tree, &mut batch)?;
        self.streams.queue(tree, self.findings, &batch.items[batch.first..])?;
        self.add_counts(tree, &batch.items[batch.first..]);
        tree.previous = batch.items.pop();
        Ok(())
    }

    fn add_counts(&mut self, tree: &mut TreeScan<'_>, items: &[ScannedLeaf]) {
        for item in items {
            let counts = self.row_counts(item);
            tree.add_counts(counts);
        }
    }

    fn check_pairs(&mut self, tree: &mut TreeScan<'_>, batch: &mut ScanBatch) -> Result<(), OpError> {
        let fresh = self.fresh_pairs(tree, batch);
        let needed = needed_leaves(&batch.items, &fresh);
        self.open_leaves(tree, &mut batch.items, &needed)?;
        for pair in fresh {
            self.check_pair(tree, &batch.items, &pair);
        }
        Ok(())
    }

    fn check_pair(&mut self, tree: &mut TreeScan<'_>, items: &[ScannedLeaf], pair: &LeafPair) {
        match self.judge_pair(tree, items, pair.at) {
            PairVerdict::Sound => drop(self.sound.insert(pair.hash)),
            PairVerdict::Wrong(fault) => self.leaf_fault(tree, &items[pair.at].leaf, fault),
            PairVerdict::Unknown => {}
        }
    }

    /// Pairs of neighbours that were not found sound before.
    fn fresh_pairs(&self, tree: &TreeScan<'_>, batch: &ScanBatch) -> Vec<LeafPair> {
        let mut fresh = Vec::new();
        for at in batch.first..batch.items.len() {
            let hash = tree.pair_hash(&batch.items, at);
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
        let wants: Vec<Want> = needed.iter().map(|&at| leaf_want(&items[at].leaf)).collect();
        let reader = tree.reader;
        reader.fetch(&wants, |n, content| {
            let content = unless_store_fails(content)?;
            self.open_leaf(tree, &mut items[needed[n]], content)
        })
    }

    fn open_leaf(
        &mut self,
        tree: &mut TreeScan<'_>,
        item: &mut ScannedLeaf,
        content: Result<Vec<u8>, RepoError>,
    ) -> Result<(), OpError> {
        match content {
            Ok(content) => item.facts = self.leaf_facts(tree, &item.leaf, &content)?,
            Err(error) => self.report_unreadable_leaf(tree, &item.leaf, &error),
        }
        Ok(())
    }

    fn report_unreadable_leaf(&mut self, tree: &mut TreeScan<'_>, leaf: &Child, error: &RepoError) {
        let detail = format!("{} rows cannot be read: {error}", leaf.rows);
        tree.fault(self.findings, FindingKind::Unreadable, leaf.location, detail);
    }

    /// Computes the facts of a leaf. Reports a leaf with something wrong and returns `None` for it.
    fn leaf_facts(
        &mut self,
        tree: &mut TreeScan<'_>,
        leaf: &Child,
        content: &[u8],
    ) -> Result<Option<LeafFacts>, OpError> {
        tree.count_opened(content, &self.options.progress);
        match tree.facts(leaf, content)? {
            Ok(facts) => return Ok(Some(facts)),
            Err(LeafFault::Wrong(fault)) => {
                tree.fault(self.findings, FindingKind::Contradiction, leaf.location, fault);
            }
            Err(LeafFault::KeyLost) => {
                tree.fault(self.findings, FindingKind::Unreadable, leaf.location, unjudged(leaf));
            }
        }
        Ok(None)
    }

    /// Judges the junction between the leaf at `at` and the leaf before it.
    fn judge_pair(&mut self, tree: &TreeScan<'_>, items: &[ScannedLeaf], at: usize) -> PairVerdict {
        let item = &items[at];
        match (&item.junction, at.checked_sub(1)) {
            (Some(junction), Some(before)) => self.judge_junction(tree, &items[before], junction, item),
            _ if item.is_first => judge_first(item),
            // Something before this leaf cannot be read.
            _ => PairVerdict::Unknown,
        }
    }

    fn judge_junction(
        &mut self,
        tree: &TreeScan<'_>,
        before: &ScannedLeaf,
        junction: &Junction,
        item: &ScannedLeaf,
    ) -> PairVerdict {
        let Some(facts) = &item.facts else { return PairVerdict::Unknown };
        let Some(facts_before) = &before.facts else { return PairVerdict::Unknown };
        self.keys_split |= facts_before.last_key == facts.first_key;
        let fault = facts_before.fault_before(facts, junction, &tree.rules);
        PairVerdict::of(fault.or_else(|| facts.owners_fault(Some(facts_before), &item.leaf)))
    }

    /// The counts of a leaf that was opened now or before.
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
        if let Some(fault) = height_fault(root.level, root.children.len()) {
            self.leaf_fault(tree, &last.leaf, fault);
        }
    }

    fn check_totals(&mut self, tree: &mut TreeScan<'_>, summary: &TableSummary) {
        let mut expected = counts_of(summary);
        if self.keys_split {
            expected.duplicates = tree.totals.duplicates;
        }
        if expected != tree.totals {
            tree.is_sound = false;
            self.manifest_fault(tree, "the counts in its summary differ from the counts of its rows");
        }
    }

    fn leaf_fault(&mut self, tree: &mut TreeScan<'_>, leaf: &Child, fault: &str) {
        let detail = format!("it has {fault}, at leaf {}", leaf.id);
        tree.fault(self.findings, FindingKind::Contradiction, leaf.location, detail);
    }

    fn manifest_fault(&mut self, tree: &TreeScan<'_>, detail: &str) {
        self.findings.add(manifest_finding(tree.reader, tree.record, detail));
    }
}

/// The result of comparing two neighbours.
enum PairVerdict {
    Sound,
    Wrong(&'static str),
    /// One of them cannot be read.
    Unknown,
}

impl PairVerdict {
    fn of(fault: Option<&'static str>) -> Self {
        fault.map_or(Self::Sound, Self::Wrong)
    }
}

/// Judges the first leaf of a tree.
fn judge_first(item: &ScannedLeaf) -> PairVerdict {
    match &item.facts {
        Some(facts) => PairVerdict::of(facts.owners_fault(None, &item.leaf)),
        None => PairVerdict::Unknown,
    }
}

fn unjudged(leaf: &Child) -> String {
    format!("leaf {} is not checked: a value that its keys are made of cannot be read", leaf.id)
}

fn leaf_want(leaf: &Child) -> Want {
    Want { kind: FrameType::Leaf, id: leaf.id, location: leaf.location }
}

fn counts_of(summary: &TableSummary) -> RowCounts {
    RowCounts { owned: summary.owned, none: summary.none, orphan: summary.orphan, duplicates: summary.duplicates }
}

fn counts_bytes(summary: &TableSummary) -> Vec<u8> {
    let mut bytes = Vec::new();
    for count in [summary.owned, summary.none, summary.orphan, summary.duplicates] {
        bytes.extend_from_slice(&count.to_le_bytes());
    }
    bytes
}
