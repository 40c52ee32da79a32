//! What the next snapshot builds upon: the newest manifest that can be read and whose signer is still trusted.
//!
//! Invariant: a number of a table, with its columns' numbers, never comes to mean something else. A snapshot that
//! is passed over here may have given numbers, by renames too, that nobody can look up. So whatever is built upon
//! an older one gives every table a new number, above all that those may have given: each at most
//! [`TABLES_PER_SNAPSHOT_MAX`]. Columns keep their numbers below it, so that no row is stored again.

use crate::base::finding::Finding;
use crate::base::frame::FrameContext;
use crate::base::limit::{COLUMN_NUMBERS_MAX, TABLE_NUMBERS_MAX, TABLES_PER_SNAPSHOT_MAX};
use crate::format::catalog::Catalog;
use crate::ops::error::OpError;
use crate::repo::error::RepoError;
use crate::repo::ledger::{Ledger, SnapshotRecord};
use crate::repo::manifest::{self, Depth, OpenManifest};
use crate::repo::open::Unlocked;

/// What is known of earlier nights.
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
    let mut passed = Passed::default();
    for record in ledger.live().rev() {
        if !ledger.trusts(&record.signer) {
            passed.untrusted += 1;
            if passed.above.is_some() {
                continue;
            }
        }
        match open(unlocked, ledger, record) {
            Ok((_, catalog)) if !ledger.trusts(&record.signer) => {
                passed.above = Some(passed.first_after(catalog.next_table));
            }
            Ok((manifest, catalog)) => {
                passed.note(notes);
                let catalog = passed.renumber(catalog);
                return Ok(ParentSnapshot { manifest: Some(manifest), catalog: Some(catalog) });
            }
            // What a later version wrote may need care that this one does not know of.
            Err(error @ (RepoError::Store(_) | RepoError::Unsupported { .. })) => return Err(error.into()),
            Err(error) => {
                passed.lost += 1;
                let note = format!("manifest of snapshot {} left out: {error}", record.number);
                notes.push(Finding::note("the store", note));
            }
        }
    }
    passed.note(notes);
    let is_first = passed.lost + passed.untrusted == 0;
    let empty = Catalog { next_table: 1, ..Catalog::default() };
    Ok(ParentSnapshot { manifest: None, catalog: (!is_first).then(|| passed.renumber(empty)) })
}

fn open(unlocked: &Unlocked, ledger: &Ledger, record: &SnapshotRecord) -> Result<(OpenManifest, Catalog), RepoError> {
    let context =
        FrameContext { repository: unlocked.repository().id(), source: ledger.source, epoch: record.snapshot.epoch };
    let manifest = manifest::open(unlocked, context, record.snapshot.manifest, Depth::Catalog)?;
    let damaged = |reason: &str| RepoError::Damaged { object: "its catalog".to_owned(), reason: reason.to_owned() };
    let catalog = manifest.catalog.clone().ok_or_else(|| damaged("it is missing"))?;
    if is_sound(&catalog) { Ok((manifest, catalog)) } else { Err(damaged("its numbers make no sense")) }
}

/// Whether a catalog's numbers are such as a writer gives.
fn is_sound(catalog: &Catalog) -> bool {
    let tables = catalog.tables.iter().map(|table| table.number);
    let are_new = |numbers: &mut dyn Iterator<Item = u32>, end: u32| {
        let mut numbers: Vec<u32> = numbers.collect();
        numbers.sort_unstable();
        numbers.windows(2).all(|pair| pair[0] < pair[1]) && numbers.last().is_none_or(|last| *last < end)
    };
    catalog.next_table <= TABLE_NUMBERS_MAX
        && are_new(&mut tables.into_iter(), catalog.next_table)
        && catalog.tables.iter().all(|table| {
            let columns = table.columns.iter().map(|column| column.number);
            table.next_column <= COLUMN_NUMBERS_MAX && are_new(&mut columns.into_iter(), table.next_column)
        })
}

/// Snapshots that are newer than the one to build upon.
#[derive(Default)]
struct Passed {
    /// Whose numbers nobody knows, and which are newer than the one that `above` is of.
    lost: u32,
    untrusted: u32,
    /// Numbers from here on were given by none of them; known once one of them could be read.
    above: Option<u32>,
}

impl Passed {
    /// The first number that is free after a snapshot with this next number, and those lost since.
    fn first_after(&self, next_table: u32) -> u32 {
        let lost = self.lost.saturating_mul(TABLES_PER_SNAPSHOT_MAX);
        next_table.saturating_add(lost).min(TABLE_NUMBERS_MAX - TABLES_PER_SNAPSHOT_MAX)
    }

    fn renumber(&self, catalog: Catalog) -> Catalog {
        if self.lost + self.untrusted == 0 {
            return catalog;
        }
        let first = self.above.unwrap_or(0).max(self.first_after(catalog.next_table));
        catalog.renumbered(first)
    }

    fn note(&self, notes: &mut Vec<Finding>) {
        if self.untrusted > 0 {
            let newest = self.untrusted;
            let note = format!("nothing is built upon the newest {newest} snapshots: whoever signed them was revoked");
            notes.push(Finding::note("the store", note));
        }
    }
}
