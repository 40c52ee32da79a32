//! The parent of the next snapshot: the newest snapshot whose manifest can be read and whose signer is still trusted.
//!
//! Invariant: the number of a table, and the numbers of its columns, never change their meaning. A snapshot that is
//! skipped here may have assigned numbers, by renames too, that nobody can look up any more. If the parent is older
//! than such a snapshot, every table therefore gets a new number, above all numbers that the skipped snapshots may have
//! assigned (at most [`TABLES_PER_SNAPSHOT_MAX`] each). Within its table a column keeps its number, so that no row is
//! stored again.

use crate::base::finding::Finding;
use crate::base::frame::FrameContext;
use crate::base::id::SessionId;
use crate::base::limit::{
    COLUMN_NUMBERS_MAX, KINDS_PER_SNAPSHOT_MAX, Limit, LimitError, OWNER_KINDS_END, TABLE_NUMBERS_MAX,
    TABLES_PER_SNAPSHOT_MAX,
};
use crate::format::catalog::{Catalog, TableEntry};
use crate::ops::backup::plausible::{NextNumbers, OLDER_CATALOGS_MAX};
use crate::ops::error::{OpError, unless_store_fails};
use crate::repo::error::RepoError;
use crate::repo::ledger::{Ledger, SnapshotRecord};
use crate::repo::manifest::{self, Depth, OpenManifest};
use crate::repo::open::Unlocked;

/// What is known about earlier snapshots.
#[derive(Debug, Default)]
pub struct ParentSnapshot {
    /// The session that wrote the parent snapshot, if there is one.
    pub session: Option<SessionId>,
    /// The parent's catalog. Without a parent, a catalog without tables whose next number is free, or None if no number
    /// was ever assigned.
    pub catalog: Option<Catalog>,
    /// Tables of the catalog that got new numbers because snapshots were skipped.
    renumbered: u32,
}

impl ParentSnapshot {
    /// The number that the next new table gets.
    #[must_use]
    pub fn next_table(&self) -> u32 {
        self.catalog.as_ref().map_or(1, |catalog| catalog.next_table)
    }

    /// Fails if the numbers of the next catalog are not those that a reader accepts. It was made from this parent's
    /// catalog, whose next new table would have got the number `first_new`.
    pub fn check_numbers(&self, first_new: u32, next: &Catalog) -> Result<(), LimitError> {
        let new = next.next_table.saturating_sub(first_new);
        NEW_TABLES.check("this snapshot", u64::from(self.renumbered) + u64::from(new))?;
        TABLE_NUMBERS.check("this source", u64::from(next.next_table))?;
        for table in &next.tables {
            COLUMN_NUMBERS.check(&table.name, u64::from(table.next_column))?;
        }
        Ok(())
    }
}

const DIVIDE: &str = "nothing was committed; divide the database into several, and back up each as a source";
const NEW_TABLES: Limit = Limit { most: TABLES_PER_SNAPSHOT_MAX as u64 - 1, unit: "new tables", remedy: DIVIDE };
const TABLE_NUMBERS: Limit = Limit {
    most: TABLE_NUMBERS_MAX as u64,
    unit: "used table numbers",
    remedy: "nothing was committed; back up the database as a new source",
};
const COLUMN_NUMBERS: Limit = Limit { most: COLUMN_NUMBERS_MAX as u64, unit: "used column numbers", remedy: DIVIDE };

/// Finds the parent snapshot. A manifest that cannot be read becomes a note: the backup continues without it and may
/// store more than necessary.
/// Fails if the store fails, or a manifest has a version that this release does not support.
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
            if !are_numbers_explained(unlocked, ledger, record, &opened)? {
                passed.pass_lost(record, &damaged_catalog("one snapshot cannot have given so many numbers"), notes);
                continue;
            }
            passed.note_untrusted(notes);
            let session = Some(record.snapshot.session);
            let mut catalog = passed.renumber(opened, record.number);
            notes.extend(note_of_uncarried(&catalog.limit_carried()));
            if unlocked.repository().roster().open_epoch().is_none_or(|(epoch, _)| epoch != record.snapshot.epoch) {
                // Other epochs have other keys, and leaves of their own.
                catalog.dictionaries.clear();
            }
            let renumbered = if passed.is_empty() { 0 } else { catalog.tables.len() as u32 };
            return Ok(ParentSnapshot { session, catalog: Some(catalog), renumbered });
        }
    }
    passed.note_untrusted(notes);
    Ok(ParentSnapshot { session: None, catalog: passed.catalog_without_parent(), renumbered: 0 })
}

/// Whether older catalogs explain the numbers of this one, if they are so high that they must. Older snapshots are read
/// only in that case.
fn are_numbers_explained(
    unlocked: &Unlocked,
    ledger: &Ledger,
    record: &SnapshotRecord,
    catalog: &Catalog,
) -> Result<bool, OpError> {
    let mut newer = NextNumbers::of(catalog, record.number);
    let older = ledger.live().rev().filter(|older| older.number < record.number);
    for older in older.take(OLDER_CATALOGS_MAX) {
        if newer.are_plain() {
            return Ok(true);
        }
        let Ok(opened) = unless_store_fails(open(unlocked, ledger, older))? else { continue };
        let numbers = NextNumbers::of(&opened, older.number);
        if !newer.can_follow(&numbers) {
            return Ok(false);
        }
        newer = numbers;
    }
    Ok(newer.are_plain() || newer.can_follow(&NextNumbers::NONE))
}

fn note_of_uncarried(objects: &[String]) -> Option<Finding> {
    let first = objects.first()?;
    let note = format!(
        "{} parts of the last catalog that this version does not know are not carried forward, because they are too large \
         or not plain; the first belongs to {first}",
        objects.len()
    );
    Some(Finding::note("the store", note))
}

/// Opens the catalog of a snapshot.
fn open(unlocked: &Unlocked, ledger: &Ledger, record: &SnapshotRecord) -> Result<Catalog, RepoError> {
    let catalog = open_manifest(unlocked, ledger, record)?.catalog;
    let catalog = catalog.ok_or_else(|| damaged_catalog("it is missing"))?;
    if !is_sound(&catalog) {
        return Err(damaged_catalog("its numbers are contradictory"));
    }
    Ok(catalog)
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

/// Whether a catalog's numbers are such that a writer can have assigned them.
fn is_sound(catalog: &Catalog) -> bool {
    let numbers = catalog.tables.iter().map(|table| table.number).collect();
    catalog.next_table <= TABLE_NUMBERS_MAX
        && has_sound_kinds(catalog)
        && are_distinct_below(numbers, catalog.next_table)
        && catalog.tables.iter().all(has_sound_columns)
}

fn has_sound_kinds(catalog: &Catalog) -> bool {
    let kinds = catalog.owners.iter().map(|owner| u32::from(owner.kind)).collect();
    let tables = catalog.owners.iter().map(|owner| owner.table).collect();
    (1..=OWNER_KINDS_END).contains(&catalog.next_kind)
        && catalog.owners.iter().all(|owner| owner.kind > 0)
        && are_distinct_below(kinds, u32::from(catalog.next_kind))
        && are_distinct_below(tables, catalog.next_table)
}

fn has_sound_columns(table: &TableEntry) -> bool {
    let numbers = table.columns.iter().map(|column| column.number).collect();
    table.next_column <= COLUMN_NUMBERS_MAX && are_distinct_below(numbers, table.next_column)
}

fn are_distinct_below(mut numbers: Vec<u32>, end: u32) -> bool {
    numbers.sort_unstable();
    let are_distinct = numbers.is_sorted_by(|one, next| one < next);
    are_distinct && numbers.last().is_none_or(|last| *last < end)
}

/// The snapshots that are newer than the parent and were skipped.
#[derive(Default)]
struct PassedSnapshots {
    /// Number of snapshots whose manifest cannot be read, so that nobody knows which numbers they assigned.
    lost: u32,
    untrusted: u32,
    /// No skipped snapshot assigned a number from here on. Known once an untrusted snapshot could be read.
    free_from: Option<u32>,
    /// No skipped snapshot gave a kind from here on.
    kinds_free_from: u16,
    /// The number of the newest of them in the ledger.
    newest: u64,
}

impl PassedSnapshots {
    fn is_empty(&self) -> bool {
        self.lost + self.untrusted == 0
    }

    /// Skips a snapshot whose signer is not trusted. Its rows and placements are not used, but the numbers that it
    /// assigned stay taken.
    fn pass_untrusted(
        &mut self,
        unlocked: &Unlocked,
        ledger: &Ledger,
        record: &SnapshotRecord,
        notes: &mut Vec<Finding>,
    ) -> Result<(), OpError> {
        self.untrusted += 1;
        self.newest = self.newest.max(record.number);
        if self.free_from.is_some() {
            return Ok(());
        }
        if let Some(opened) = self.open_or_pass(unlocked, ledger, record, notes)? {
            self.free_from = Some(self.first_after(opened.next_table));
            self.kinds_free_from = self.kinds_after(opened.next_kind);
        }
        Ok(())
    }

    /// A catalog without tables, with a next number above all that were ever assigned. None if no number was ever
    /// assigned.
    fn catalog_without_parent(&self) -> Option<Catalog> {
        if self.is_empty() {
            return None;
        }
        let numbered = self.renumber(Catalog { next_table: 1, ..Catalog::default() }, 0);
        // Kinds begin again, so that rows keep their bytes.
        Some(Catalog { next_kind: 1, ..numbered })
    }

    /// Opens a manifest, or notes that it is skipped.
    fn open_or_pass(
        &mut self,
        unlocked: &Unlocked,
        ledger: &Ledger,
        record: &SnapshotRecord,
        notes: &mut Vec<Finding>,
    ) -> Result<Option<Catalog>, OpError> {
        match open(unlocked, ledger, record) {
            Ok(opened) => Ok(Some(opened)),
            // A manifest of a later version may need handling that this version does not know.
            Err(error @ (RepoError::Store(_) | RepoError::Unsupported { .. })) => Err(error.into()),
            Err(error) => {
                self.pass_lost(record, &error, notes);
                Ok(None)
            }
        }
    }

    /// Skips a snapshot whose catalog cannot be used.
    fn pass_lost(&mut self, record: &SnapshotRecord, error: &RepoError, notes: &mut Vec<Finding>) {
        self.lost += 1;
        self.newest = self.newest.max(record.number);
        notes.push(note_of_lost(record, error));
    }

    /// The first number that is free after a snapshot with this next number and the lost snapshots since then.
    fn first_after(&self, next_table: u32) -> u32 {
        let lost = self.lost.saturating_mul(TABLES_PER_SNAPSHOT_MAX);
        next_table.saturating_add(lost).min(TABLE_NUMBERS_MAX)
    }

    /// The same for kinds.
    fn kinds_after(&self, next_kind: u16) -> u16 {
        let lost = u16::try_from(self.lost).unwrap_or(u16::MAX).saturating_mul(KINDS_PER_SNAPSHOT_MAX);
        next_kind.saturating_add(lost).min(OWNER_KINDS_END)
    }

    /// Gives the tables of a catalog, whose snapshot has this ledger number, numbers that no skipped snapshot can have
    /// given. If that leaves too few, somebody has used them up, and what the skipped snapshots gave is given again.
    fn renumber(&self, mut catalog: Catalog, entry: u64) -> Catalog {
        if self.is_empty() {
            return catalog;
        }
        let numbers = NextNumbers::of(&catalog, entry);
        catalog.next_kind = self.next_kind(&catalog, &numbers);
        let first = self.first_number(&catalog, &numbers);
        catalog.renumbered(first)
    }

    fn first_number(&self, catalog: &Catalog, numbers: &NextNumbers) -> u32 {
        let untrusted = self.free_from.unwrap_or(0).min(numbers.highest_table(self.newest));
        let first = untrusted.max(self.first_after(catalog.next_table));
        if first <= TABLE_NUMBERS_MAX - TABLES_PER_SNAPSHOT_MAX { first } else { catalog.next_table }
    }

    fn next_kind(&self, catalog: &Catalog, numbers: &NextNumbers) -> u16 {
        let untrusted = self.kinds_free_from.min(numbers.highest_kind(self.newest));
        let kind = untrusted.max(self.kinds_after(catalog.next_kind));
        if kind <= OWNER_KINDS_END - KINDS_PER_SNAPSHOT_MAX { kind } else { catalog.next_kind }
    }

    fn note_untrusted(&self, notes: &mut Vec<Finding>) {
        if self.untrusted > 0 {
            let newest = self.untrusted;
            let note = format!(
                "the newest {newest} snapshots are not used as a parent: the keys that signed them were revoked"
            );
            notes.push(Finding::note("the store", note));
        }
    }
}

fn note_of_lost(record: &SnapshotRecord, error: &RepoError) -> Finding {
    let note = format!("skipped the manifest of snapshot {}: {error}", record.number);
    Finding::note("the store", note)
}

#[cfg(test)]
mod tests {
    use super::{COLUMN_NUMBERS_MAX, ParentSnapshot, TABLE_NUMBERS_MAX, TABLES_PER_SNAPSHOT_MAX};
    use crate::format::catalog::{Catalog, TableEntry, UnknownMembers};
    use crate::format::manifest::Layout;

    fn catalog(next_table: u32, next_column: u32) -> Catalog {
        let table = TableEntry {
            number: 1,
            name: "users".to_owned(),
            oid: None,
            columns: Vec::new(),
            next_column,
            key: Vec::new(),
            layout: Layout::Owner,
            paths: Vec::new(),
            below: Vec::new(),
            answer: None,
            labels: Vec::new(),
            unknown: UnknownMembers::new(),
        };
        Catalog { next_table, tables: vec![table], ..Catalog::default() }
    }

    #[test]
    fn numbers_that_no_reader_accepts_are_refused() {
        let fault = |before: u32, renumbered, next: &Catalog| {
            let parent = ParentSnapshot { session: None, catalog: Some(catalog(before, 1)), renumbered };
            parent.check_numbers(parent.next_table(), next).err().map(|error| error.to_string())
        };
        let refused = |fault: Option<String>, words: &str| assert!(fault.expect("refused").contains(words));
        assert_eq!(fault(7, 0, &catalog(7, COLUMN_NUMBERS_MAX)), None);
        refused(fault(7, 0, &catalog(7, COLUMN_NUMBERS_MAX + 1)), "users has 65537 used column numbers");
        assert_eq!(fault(7, 5, &catalog(7 + TABLES_PER_SNAPSHOT_MAX - 6, 1)), None);
        refused(fault(7, 6, &catalog(7 + TABLES_PER_SNAPSHOT_MAX - 6, 1)), "1048576 new tables");
        assert_eq!(fault(TABLE_NUMBERS_MAX, 0, &catalog(TABLE_NUMBERS_MAX, 1)), None);
        refused(fault(TABLE_NUMBERS_MAX, 0, &catalog(TABLE_NUMBERS_MAX + 1, 1)), "used table numbers");
    }
}
