//! Drafts the manifest of a snapshot from what was read and stored.

use std::collections::HashSet;

use crate::base::finding::Finding;
use crate::base::frame::SessionWrap;
use crate::base::id::{ChunkId, Digest, SessionId};
use crate::base::limit::WRAPS_PER_PAGE;
use crate::format::catalog::{Catalog, TableEntry};
use crate::format::manifest::{
    GapSummary, Secrets, StoredLocation, Summary, TableSummary, TreeKind, TreeRoot, WrapPage,
};
use crate::format::name::Name;
use crate::ops::backup::options::BackupMode;
use crate::ops::backup::pipeline::{ReadTotals, references_tree, rows_tree};
use crate::ops::backup::store_rows::{BackupRun, StoredRows};
use crate::ops::error::OpError;
use crate::repo::error::RepoError;
use crate::repo::index::Index;
use crate::repo::manifest::{ManifestDraft, OpenManifest, carry_wraps};

/// Drafts the manifest. `catalog` does not have this run's pinned rows per leaf yet. `own_wrap` is the wrap of this
/// run's session.
pub fn draft(
    run: &BackupRun<'_>,
    mut catalog: Catalog,
    stored: &StoredRows,
    parent: Option<&OpenManifest>,
    own_wrap: &SessionWrap,
) -> Result<ManifestDraft, OpError> {
    pin_rows_per_leaf(&mut catalog, &stored.totals);
    let summary = summary(run, &catalog, stored);
    let roots = roots(&catalog, stored);
    let secrets = secrets(run, stored);
    let SnapshotWraps { pages, wraps } = snapshot_wraps(run, parent, own_wrap)?;
    Ok(ManifestDraft { summary, catalog, roots, secrets, pages, wraps })
}

fn pin_rows_per_leaf(catalog: &mut Catalog, totals: &ReadTotals) {
    for table in &mut catalog.tables {
        if let Some(rows) = totals.rows_per_leaf.get(&table.number) {
            table.rows_per_leaf = Some(*rows);
        }
    }
}

fn summary(run: &BackupRun<'_>, catalog: &Catalog, stored: &StoredRows) -> Summary {
    let description = &run.image.description;
    Summary {
        engine: catalog.engine.clone(),
        source_clock: description.source_clock,
        started: run.started,
        tables: catalog.tables.iter().filter_map(|table| table_summary(table, stored)).collect(),
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

fn table_summary(table: &TableEntry, stored: &StoredRows) -> Option<TableSummary> {
    let built = stored.tree(rows_tree(table.number))?;
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

fn roots(catalog: &Catalog, stored: &StoredRows) -> Vec<TreeRoot> {
    catalog.tables.iter().flat_map(|table| roots_of(table, stored)).collect()
}

fn roots_of(table: &TableEntry, stored: &StoredRows) -> impl Iterator<Item = TreeRoot> {
    let number = table.number;
    let rows = root(number, rows_tree(number), TreeKind::Rows, stored);
    let references = root(number, references_tree(number), TreeKind::References, stored);
    rows.into_iter().chain(references)
}

fn root(table: u32, tree: u32, kind: TreeKind, stored: &StoredRows) -> Option<TreeRoot> {
    let built = stored.tree(tree)?;
    Some(TreeRoot { table, kind, skeleton: built.skeleton.clone(), ranges: built.ranges.clone() })
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

/// The wraps of all sessions whose chunks a snapshot may need.
struct SnapshotWraps {
    /// Full pages.
    pages: Vec<Digest>,
    /// Wraps that do not fill a page.
    wraps: Vec<SessionWrap>,
}

fn snapshot_wraps(
    run: &BackupRun<'_>,
    parent: Option<&OpenManifest>,
    own: &SessionWrap,
) -> Result<SnapshotWraps, OpError> {
    // Wraps of another epoch are sealed to another restore key.
    let parent = parent.filter(|manifest| manifest.context.epoch == run.epoch);
    let pages = parent.map_or_else(Vec::new, |manifest| manifest.pages.clone());
    let mut snapshot = SnapshotWraps { pages, wraps: needed_wraps(run, parent, own) };
    if snapshot.fill_a_page() {
        snapshot.store_page(run)?;
    }
    Ok(snapshot)
}

impl SnapshotWraps {
    fn fill_a_page(&self) -> bool {
        self.wraps.len() >= WRAPS_PER_PAGE
    }

    fn store_page(&mut self, run: &BackupRun<'_>) -> Result<(), OpError> {
        let page = take_full_page(&mut self.wraps);
        self.pages.push(store_page(run, page)?);
        Ok(())
    }
}

/// The wraps of the parent's last page and of adopted sessions that are still needed, then this run's own.
fn needed_wraps(run: &BackupRun<'_>, parent: Option<&OpenManifest>, own: &SessionWrap) -> Vec<SessionWrap> {
    let inherited = parent.map_or(&[][..], |manifest| &manifest.wraps);
    let needed = sessions_of(&run.known.index);
    carry_wraps(inherited, |session| needed.contains(session), &run.known.wraps, own)
}

fn sessions_of(index: &Index) -> HashSet<SessionId> {
    index.packs().iter().flat_map(|pack| pack.pack.sessions.iter().copied()).collect()
}

/// Takes a full page from the front. The last wrap of the page also stays in `wraps`.
fn take_full_page(wraps: &mut Vec<SessionWrap>) -> Vec<SessionWrap> {
    let rest = wraps.split_off(WRAPS_PER_PAGE - 1);
    let mut page = std::mem::replace(wraps, rest);
    page.push(wraps[0].clone());
    page
}

fn store_page(run: &BackupRun<'_>, wraps: Vec<SessionWrap>) -> Result<Digest, OpError> {
    let repository = run.unlocked.repository().id();
    let page = WrapPage { repository, source: run.source, wraps }.to_bytes();
    let digest = Digest::of(&page);
    if run.options.mode == BackupMode::Commit {
        create_page(run, digest, page)?;
    }
    Ok(digest)
}

fn create_page(run: &BackupRun<'_>, digest: Digest, page: Vec<u8>) -> Result<(), RepoError> {
    let objects = run.unlocked.repository().objects();
    objects.create(&Name::Wraps(run.source, digest), page.into())?;
    Ok(())
}
