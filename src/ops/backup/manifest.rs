//! Drafts the manifest of a snapshot from what was read and stored.

use std::collections::HashMap;

use crate::base::finding::Finding;
use crate::base::frame::SessionWrap;
use crate::base::id::ChunkId;
use crate::format::catalog::{Catalog, TableEntry};
use crate::format::manifest::{GapSummary, Secrets, StoredLocation, Summary, TableSummary, TreeKind, TreeRoot};
use crate::ops::backup::pipeline::{ReadTotals, references_tree, rows_tree};
use crate::ops::backup::store_rows::{BackupRun, StoredRows};
use crate::repo::index::Index;
use crate::repo::manifest::ManifestDraft;
use crate::repo::writer::BuiltTree;

/// Drafts the manifest. `catalog` does not have this run's pinned rows per leaf yet. `wrap` is the wrap of this run's
/// session.
pub fn draft(run: &BackupRun<'_>, mut catalog: Catalog, stored: &StoredRows, wrap: &SessionWrap) -> ManifestDraft {
    pin_rows_per_leaf(&mut catalog, &stored.totals);
    let trees = Trees::of(stored);
    let summary = summary(run, &catalog, stored, &trees);
    let roots = roots(&catalog, &trees);
    let secrets = secrets(run, stored);
    ManifestDraft { summary, catalog, roots, secrets, wrap: wrap.clone() }
}

/// The trees that were built, by number.
struct Trees<'a>(HashMap<u32, &'a BuiltTree>);

impl<'a> Trees<'a> {
    fn of(stored: &'a StoredRows) -> Self {
        Self(stored.written.trees.iter().map(|built| (built.tree, built)).collect())
    }

    fn get(&self, tree: u32) -> Option<&'a BuiltTree> {
        self.0.get(&tree).copied()
    }
}

fn pin_rows_per_leaf(catalog: &mut Catalog, totals: &ReadTotals) {
    for table in &mut catalog.tables {
        if let Some(rows) = totals.rows_per_leaf.get(&table.number) {
            table.rows_per_leaf = Some(*rows);
        }
    }
}

fn summary(run: &BackupRun<'_>, catalog: &Catalog, stored: &StoredRows, trees: &Trees<'_>) -> Summary {
    let description = &run.image.description;
    Summary {
        engine: catalog.engine.clone(),
        source_clock: description.source_clock,
        started: run.started,
        tables: catalog.tables.iter().filter_map(|table| table_summary(table, stored, trees)).collect(),
        gaps: run.gaps(stored).map(gap_summary).collect(),
        streams: stored.totals.streams,
        stream_bytes: stored.totals.stream_bytes,
        journal: None,
        proofs: None,
    }
}

fn gap_summary(gap: &Finding) -> GapSummary {
    GapSummary { object: gap.object.clone(), reason: gap.detail.clone() }
}

fn table_summary(table: &TableEntry, stored: &StoredRows, trees: &Trees<'_>) -> Option<TableSummary> {
    let built = trees.get(rows_tree(table.number))?;
    let counts = stored.totals.row_counts.get(&built.tree).copied().unwrap_or_default();
    Some(TableSummary {
        number: table.number,
        name: table.name.clone(),
        layout: table.layout,
        rows: counts.owned + counts.none + counts.orphan,
        owned: counts.owned,
        none: counts.none,
        orphan: counts.orphan,
        duplicates: counts.duplicates,
        bytes: built.counts.bytes,
        owners: built.counts.owners,
        leaves: built.counts.leaves,
        leaves_new: built.counts.leaves_new,
    })
}

fn roots(catalog: &Catalog, trees: &Trees<'_>) -> Vec<TreeRoot> {
    catalog.tables.iter().flat_map(|table| roots_of(table, trees)).collect()
}

fn roots_of(table: &TableEntry, trees: &Trees<'_>) -> impl Iterator<Item = TreeRoot> {
    let number = table.number;
    let rows = root(number, rows_tree(number), TreeKind::Rows, trees);
    let references = root(number, references_tree(number), TreeKind::References, trees);
    rows.into_iter().chain(references)
}

fn root(table: u32, tree: u32, kind: TreeKind, trees: &Trees<'_>) -> Option<TreeRoot> {
    let built = trees.get(tree)?;
    let BuiltTree { place, skeleton, ranges, .. } = built;
    Some(TreeRoot { table, kind, place: *place, skeleton: skeleton.clone(), ranges: ranges.clone() })
}

/// The schema and its location.
fn secrets(run: &BackupRun<'_>, stored: &StoredRows) -> Secrets {
    let id = stored.schema.id;
    let known = location_in(&run.known.index, &id);
    let schema_at = known.or_else(|| location_in(&stored.written.index, &id));
    Secrets { schema: stored.schema.into(), schema_at }
}

fn location_in(index: &Index, id: &ChunkId) -> Option<StoredLocation> {
    let location = index.get(id)?;
    StoredLocation::new(&index.packs()[location.pack as usize].pack, &location)
}
