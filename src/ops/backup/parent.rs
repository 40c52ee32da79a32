//! What the next snapshot builds upon: the newest manifest that can be read and whose signer is still trusted.
//!
//! Invariant: a number of a table, with its columns' numbers, never comes to mean something else. A snapshot that
//! is passed over here may have given numbers, by renames too, that nobody can look up. So whatever is built upon
//! an older one gives every table a new number, above all that those may have given: each at most
//! [`TABLES_PER_SNAPSHOT_MAX`]. Columns keep their numbers below it, so that no row is stored again.

use crate::base::finding::Finding;
use crate::base::frame::FrameContext;
use crate::base::limit::{COLUMN_NUMBERS_MAX, TABLE_NUMBERS_MAX, TABLES_PER_SNAPSHOT_MAX};
use crate::format::catalog::{Catalog, TableEntry};
use crate::ops::error::OpError;
use crate::repo::error::RepoError;
use crate::repo::ledger::{Ledger, SnapshotRecord};
use crate::repo::manifest::{self, Depth, OpenManifest};
use crate::repo::open::Unlocked;

/// What is known of earlier snapshots.
#[derive(Debug, Default)]
pub struct ParentSnapshot {
    /// The newest that counts.
    pub manifest: Option<OpenManifest>,
    /// Its catalog, or one without tables whose numbers are all free. None: nothing was ever numbered.
    pub catalog: Option<Catalog>,
}

/// The newest manifest to build upon. One that cannot be read is a note: the backup goes on without, and may store
/// more than it would have to.
pub fn last_manifest(
    unlocked: &Unlocked,
    ledger: &Ledger,
    notes: &mut Vec<Finding>,
) -> Result<ParentSnapshot, OpError> {
    let mut passed = PassedSnapshots::default();
    for record in ledger.live().rev() {
        if !ledger.trusts(&record.signer) {
            passed.pass_untrusted(unlocked, ledger, record, notes)?;
        } else if let Some(opened) = passed.open_or_pass(unlocked, ledger, record, notes)? {
            passed.note_untrusted(notes);
            let catalog = passed.renumber(opened.catalog);
            return Ok(ParentSnapshot { manifest: Some(opened.manifest), catalog: Some(catalog) });
        }
    }
    passed.note_untrusted(notes);
    Ok(ParentSnapshot { manifest: None, catalog: passed.catalog_without_parent() })
}

/// A snapshot's manifest with its catalog.
struct OpenedSnapshot {
    manifest: OpenManifest,
    catalog: Catalog,
}

fn open(unlocked: &Unlocked, ledger: &Ledger, record: &SnapshotRecord) -> Result<OpenedSnapshot, RepoError> {
    let manifest = open_manifest(unlocked, ledger, record)?;
    let catalog = manifest.catalog.clone().ok_or_else(|| damaged_catalog("it is missing"))?;
    if !is_sound(&catalog) {
        return Err(damaged_catalog("its numbers make no sense"));
    }
    Ok(OpenedSnapshot { manifest, catalog })
}

fn open_manifest(unlocked: &Unlocked, ledger: &Ledger, record: &SnapshotRecord) -> Result<OpenManifest, RepoError> {
    let repository = unlocked.repository().id();
    let epoch = record.snapshot.epoch;
    let context = FrameContext { repository, source: ledger.source, epoch };
    manifest::open(unlocked, context, record.snapshot.manifest, Depth::Catalog)
}

fn damaged_catalog(reason: &str) -> RepoError {
    RepoError::Damaged { object: "its catalog".to_owned(), reason: reason.to_owned() }
}

/// Whether a catalog's numbers are such as a writer gives.
fn is_sound(catalog: &Catalog) -> bool {
    let numbers = catalog.tables.iter().map(|table| table.number).collect();
    catalog.next_table <= TABLE_NUMBERS_MAX
        && are_distinct_below(numbers, catalog.next_table)
        && catalog.tables.iter().all(has_sound_columns)
}

fn has_sound_columns(table: &TableEntry) -> bool {
    let numbers = table.columns.iter().map(|column| column.number).collect();
    table.next_column <= COLUMN_NUMBERS_MAX && are_distinct_below(numbers, table.next_column)
}

fn are_distinct_below(mut numbers: Vec<u32>, end: u32) -> bool {
    numbers.sort_unstable();
    let are_distinct = numbers.windows(2).all(|pair| pair[0] < pair[1]);
    are_distinct && numbers.last().is_none_or(|last| *last < end)
}

/// Snapshots that are newer than the one to build upon.
#[derive(Default)]
struct PassedSnapshots {
    /// Whose numbers nobody knows, and which are newer than the one that `free_from` is of.
    lost: u32,
    untrusted: u32,
    /// Numbers from here on were given by none of them; known once one of them could be read.
    free_from: Option<u32>,
}

impl PassedSnapshots {
    fn is_empty(&self) -> bool {
        self.lost + self.untrusted == 0
    }

    /// Its rows and placements do not count, but the numbers that it gave do.
    fn pass_untrusted(
        &mut self,
        unlocked: &Unlocked,
        ledger: &Ledger,
        record: &SnapshotRecord,
        notes: &mut Vec<Finding>,
    ) -> Result<(), OpError> {
        self.untrusted += 1;
        if self.free_from.is_some() {
            return Ok(());
        }
        if let Some(opened) = self.open_or_pass(unlocked, ledger, record, notes)? {
            self.free_from = Some(self.first_after(opened.catalog.next_table));
        }
        Ok(())
    }

    /// Without tables; its numbers begin above all that were given. None if no number was ever given.
    fn catalog_without_parent(&self) -> Option<Catalog> {
        if self.is_empty() {
            return None;
        }
        Some(self.renumber(Catalog { next_table: 1, ..Catalog::default() }))
    }

    /// Opens a manifest, or notes that it is passed over.
    fn open_or_pass(
        &mut self,
        unlocked: &Unlocked,
        ledger: &Ledger,
        record: &SnapshotRecord,
        notes: &mut Vec<Finding>,
    ) -> Result<Option<OpenedSnapshot>, OpError> {
        match open(unlocked, ledger, record) {
            Ok(opened) => Ok(Some(opened)),
            // What a later version wrote may need care that this one does not know of.
            Err(error @ (RepoError::Store(_) | RepoError::Unsupported { .. })) => Err(error.into()),
            Err(error) => {
                self.lost += 1;
                notes.push(note_of_lost(record, &error));
                Ok(None)
            }
        }
    }

    /// The first number that is free after a snapshot with this next number, and those lost since.
    fn first_after(&self, next_table: u32) -> u32 {
        let lost = self.lost.saturating_mul(TABLES_PER_SNAPSHOT_MAX);
        next_table.saturating_add(lost).min(TABLE_NUMBERS_MAX - TABLES_PER_SNAPSHOT_MAX)
    }

    fn renumber(&self, catalog: Catalog) -> Catalog {
        if self.is_empty() {
            return catalog;
        }
        let first = self.free_from.unwrap_or(0).max(self.first_after(catalog.next_table));
        catalog.renumbered(first)
    }

    fn note_untrusted(&self, notes: &mut Vec<Finding>) {
        if self.untrusted > 0 {
            let newest = self.untrusted;
            let note = format!("nothing is built upon the newest {newest} snapshots: whoever signed them was revoked");
            notes.push(Finding::note("the store", note));
        }
    }
}

fn note_of_lost(record: &SnapshotRecord, error: &RepoError) -> Finding {
    let note = format!("manifest of snapshot {} left out: {error}", record.number);
    Finding::note("the store", note)
}
