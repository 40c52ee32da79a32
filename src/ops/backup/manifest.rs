//! Drafts the manifest of a snapshot from what was read and stored.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::base::finding::{Finding, FindingKind};
use crate::base::frame::SessionWrap;
use crate::base::id::ChunkId;
use crate::crypto::ids::StructureKeys;
use crate::format::catalog::{Catalog, TableEntry};
use crate::format::fact::{FactKind, TableTexts, identity_text};
use crate::format::losses::{Loss, Losses};
use crate::format::manifest::{GapSummary, Secrets, StoredLocation, Summary, TableSummary, TreeKind, TreeRoot};
use crate::ops::backup::pipeline::{ReadTotals, references_tree, rows_tree};
use crate::ops::backup::store_rows::{BackupRun, StoredRows};
use crate::repo::index::Index;
use crate::repo::manifest::ManifestDraft;
use crate::repo::writer::BuiltTree;

/// A table that a restore to PostgreSQL keeps in its target until it ends.
const RESTORE_RECORD: &str = "sidekeep_restore.head";

/// Drafts the manifest. Takes the trees out of `stored`. `catalog` does not name this run's dictionaries yet. `wrap` is
/// the wrap of this run's session.
pub fn draft(run: &BackupRun<'_>, mut catalog: Catalog, stored: &mut StoredRows, wrap: &SessionWrap) -> ManifestDraft {
    catalog.set_dictionaries(&stored.dictionaries);
    let mut trees = Trees::new(std::mem::take(&mut stored.written.trees));
    let losses = losses(run, &catalog, stored);
    let summary = summary(run, &catalog, stored, &trees, &losses);
    let roots = roots(&catalog, &mut trees);
    let secrets = secrets(run, stored);
    ManifestDraft { summary, catalog, roots, secrets, losses: Losses::new(losses), wrap: wrap.clone() }
}

/// The trees that were built.
struct Trees {
    built: Vec<BuiltTree>,
    /// Positions by number.
    positions: HashMap<u32, usize>,
}

impl Trees {
    fn new(built: Vec<BuiltTree>) -> Self {
        let positions = built.iter().map(|built| built.tree).zip(0..).collect();
        Self { built, positions }
    }

    fn get(&self, tree: u32) -> Option<&BuiltTree> {
        self.positions.get(&tree).map(|&at| &self.built[at])
    }

    /// Moves the content of a root out of its tree.
    fn take_root(&mut self, table: u32, tree: u32, kind: TreeKind) -> Option<TreeRoot> {
        let BuiltTree { place, skeleton, ranges, .. } = &mut self.built[*self.positions.get(&tree)?];
        Some(TreeRoot {
            table,
            kind,
            place: *place,
            skeleton: std::mem::take(skeleton),
            ranges: std::mem::take(ranges),
        })
    }
}

fn summary(run: &BackupRun<'_>, catalog: &Catalog, stored: &StoredRows, trees: &Trees, losses: &[Loss]) -> Summary {
    let description = &run.image.description;
    let rows = RowFacts {
        structure: &run.keys.structure,
        catalog,
        names: catalog.tables.iter().map(|table| (table.number, table.name.as_str())).collect(),
        totals: &stored.totals,
        lost: lost_rows(losses),
    };
    Summary {
        engine: catalog.engine.clone(),
        source_clock: description.source_clock,
        started: run.started,
        identity: run.keys.structure.fact_digest(FactKind::Identity as u8, &identity_text(catalog)),
        restoring: catalog.table_named(RESTORE_RECORD).is_some(),
        tables: catalog.tables.iter().filter_map(|table| rows.table_summary(table, trees)).collect(),
        gaps: gap_summaries(run, stored),
        streams: stored.totals.streams,
        stream_bytes: stored.totals.stream_bytes,
        journal: None,
        proofs: None,
    }
}

/// The gaps. Rows that are not captured are only counted here, because this tier names no rows.
fn gap_summaries(run: &BackupRun<'_>, stored: &StoredRows) -> Vec<GapSummary> {
    let mut summaries = Vec::new();
    let mut long_rows: BTreeMap<&str, u64> = BTreeMap::new();
    for gap in run.gaps(stored) {
        match gap.kind {
            FindingKind::ValueTooLong { .. } => *long_rows.entry(&gap.object).or_default() += 1,
            _ => summaries.push(GapSummary { object: gap.object.clone(), reason: gap.detail.clone() }),
        }
    }
    summaries.extend(long_rows.into_iter().map(|(table, rows)| long_rows_gap(table, rows)));
    summaries
}

fn long_rows_gap(table: &str, rows: u64) -> GapSummary {
    let reason = format!("{rows} rows are not captured, because the server does not send one of their values");
    GapSummary { object: table.to_owned(), reason }
}

/// The rows that could not be read.
fn losses(run: &BackupRun<'_>, catalog: &Catalog, stored: &StoredRows) -> Vec<Loss> {
    let tables = catalog.by_name();
    run.gaps(stored).filter_map(|gap| loss(gap, tables.get(gap.object.as_str())?)).collect()
}

fn loss(gap: &Finding, table: &TableEntry) -> Option<Loss> {
    let FindingKind::ValueTooLong { column, row } = &gap.kind else { return None };
    let column = table.columns.iter().find(|entry| entry.name == column.as_str()).map(|entry| entry.number);
    Some(Loss { table: table.number, key: None, row: Some(row.clone()), column, text: gap.detail.clone() })
}

/// Lost rows by table, also those for which the list of losses has no room. A row may have lost several values.
fn lost_rows(losses: &[Loss]) -> HashMap<u32, u64> {
    let rows: HashSet<_> = losses.iter().map(|loss| (loss.table, &loss.key, &loss.row)).collect();
    let mut counts = HashMap::new();
    for (table, ..) in rows {
        *counts.entry(table).or_default() += 1;
    }
    counts
}

/// What the summaries of tables are made of.
struct RowFacts<'a> {
    structure: &'a StructureKeys,
    catalog: &'a Catalog,
    /// The names of tables by number.
    names: HashMap<u32, &'a str>,
    totals: &'a ReadTotals,
    /// Lost rows by table.
    lost: HashMap<u32, u64>,
}

impl RowFacts<'_> {
    fn table_summary(&self, table: &TableEntry, trees: &Trees) -> Option<TableSummary> {
        let built = trees.get(rows_tree(table.number))?;
        let counts = self.totals.row_counts.get(&built.tree).copied().unwrap_or_default();
        let texts = TableTexts::of(self.catalog, table, &|number| self.names.get(&number).copied());
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
            columns: table.columns.len() as u32,
            columns_digest: self.structure.fact_digest(FactKind::Columns as u8, &texts.columns),
            mapping_digest: self.structure.fact_digest(FactKind::Mapping as u8, &texts.mapping),
            lost_rows: self.lost.get(&table.number).copied().unwrap_or_default(),
            lost_cells: self.totals.lost_cells.get(&table.number).copied().unwrap_or_default(),
            window: None,
        })
    }
}

fn roots(catalog: &Catalog, trees: &mut Trees) -> Vec<TreeRoot> {
    let mut roots = Vec::with_capacity(trees.built.len());
    for table in catalog.tables.iter().map(|table| table.number) {
        roots.extend(trees.take_root(table, rows_tree(table), TreeKind::Rows));
        roots.extend(trees.take_root(table, references_tree(table), TreeKind::References));
    }
    roots
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

#[cfg(test)]
mod tests {
    use super::lost_rows;
    use crate::format::losses::Loss;

    #[test]
    fn every_lost_row_counts_once() {
        let loss = |table, row: u32, column| Loss {
            table,
            key: None,
            row: Some(format!("ctid (0,{row})")),
            column: Some(column),
            text: "invalid page".to_owned(),
        };
        // More rows than the list of losses has room for, then two values of one row of another table.
        let many = (0..10_001).map(|row| loss(1, row, 2)).chain([loss(2, 7, 1), loss(2, 7, 2)]);
        let rows = lost_rows(&many.collect::<Vec<_>>());
        assert_eq!((rows[&1], rows[&2]), (10_001, 1));
    }
}
