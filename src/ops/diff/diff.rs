//! The verb: both snapshots opened, their tables paired by number, each pair compared.

use std::collections::HashSet;
use std::path::PathBuf;

use crate::base::cancel::Cancel;
use crate::base::id::SourceId;
use crate::base::progress::{CountUnit, SharedProgress};
use crate::format::catalog::{Catalog, TableEntry};
use crate::format::manifest::TreeKind;
use crate::ops::diff::count::UserCounts;
use crate::ops::diff::report::{Changes, Compared, DiffReport, TableDiff, TablePresence};
use crate::ops::diff::rows::{IdComparison, Shape, order};
use crate::ops::diff::side::Side;
use crate::ops::diff::table::{TableCompare, descend};
use crate::ops::error::OpError;
use crate::ops::select::Selector;
use crate::repo::error::RepoError;
use crate::repo::ledger::{Ledger, SnapshotRecord};
use crate::repo::open::Unlocked;
use crate::repo::reader::SnapshotReader;
use crate::sort::SpillOptions;

/// Memory of the sorters of one diff.
const ROWS_BYTES: usize = 16 << 20;
const USERS_BYTES: usize = 8 << 20;

/// What to compare.
#[derive(Clone)]
pub struct DiffOptions {
    pub source: SourceId,
    pub old: Selector,
    pub new: Selector,
    /// Only the table that has this name in either snapshot.
    pub table: Option<String>,
    /// Only rows of this user, by the words of its key.
    pub user: Option<String>,
    /// Rows of each table and kind of change that are shown.
    pub samples_max: usize,
    /// Users that are named, those with the most changes.
    pub users_max: usize,
    pub spill_dir: PathBuf,
    pub progress: SharedProgress,
    pub cancel: Cancel,
}

/// Compares two snapshots of a source.
pub fn run(unlocked: &Unlocked, options: &DiffOptions) -> Result<DiffReport, OpError> {
    options.progress.phase("looking at the store", CountUnit::Objects, None);
    let ledger = Ledger::load(unlocked.repository(), options.source)?;
    let old = options.old.find(&ledger)?;
    let new = options.new.find(&ledger)?;
    let (old_reader, new_reader) = (open(unlocked, &ledger, old)?, open(unlocked, &ledger, new)?);
    let ids = if old.snapshot.epoch == new.snapshot.epoch { IdComparison::Comparable } else { IdComparison::Foreign };
    let mut notes = options.new.doubts(&ledger, new);
    if ids == IdComparison::Foreign {
        let note = "the keys were rotated between the snapshots: everything was read, and values of 32 KiB or more were compared by their length";
        notes.push(note.to_owned());
    }
    let pairs = pairs(catalog(&old_reader)?, catalog(&new_reader)?, options.table.as_deref())?;
    let env = unlocked.repository().shared_env();
    let spill = SpillOptions { dir: options.spill_dir.clone(), memory_bytes: ROWS_BYTES, env };
    let users = UserCounts::new(SpillOptions { memory_bytes: USERS_BYTES, ..spill.clone() });
    let readers = Readers { old: &old_reader, new: &new_reader };
    let mut diff = Diff { options, readers, ids, spill, users, leaves_read: 0, leaves_shared: 0 };
    let mut tables = Vec::new();
    for pair in &pairs {
        if options.cancel.is_cancelled() {
            return Err(OpError::Cancelled);
        }
        tables.extend(diff.table(pair)?);
    }
    let name = |number: u32| pairs.iter().find(|pair| pair.entry().number == number).map(|p| p.entry().name.clone());
    let (users_differing, users) = diff.users.finish(options.users_max, &|number| name(number).unwrap_or_default())?;
    let mut rows = Changes::default();
    tables.iter().for_each(|table: &TableDiff| rows.add(&table.rows));
    Ok(DiffReport {
        old: Compared::of(old),
        new: Compared::of(new),
        rows,
        tables,
        users_differing,
        users,
        leaves_read: diff.leaves_read,
        leaves_shared: diff.leaves_shared,
        notes,
    })
}

fn open<'a>(unlocked: &'a Unlocked, ledger: &Ledger, record: &SnapshotRecord) -> Result<SnapshotReader<'a>, OpError> {
    unlocked.admin(record.snapshot.epoch, "a diff")?;
    Ok(SnapshotReader::open(unlocked, ledger, record)?)
}

fn catalog<'r>(reader: &'r SnapshotReader<'_>) -> Result<&'r Catalog, OpError> {
    let missing = || RepoError::Damaged { object: "the manifest".to_owned(), reason: "it has no catalog".to_owned() };
    Ok(reader.manifest().catalog.as_ref().ok_or_else(missing)?)
}

/// A table as one or both snapshots have it.
#[derive(Clone, Copy)]
enum TablePair<'c> {
    Both(&'c TableEntry, &'c TableEntry),
    Added(&'c TableEntry),
    Removed(&'c TableEntry),
}

impl<'c> TablePair<'c> {
    /// The newest that is known of it.
    fn entry(&self) -> &'c TableEntry {
        match *self {
            Self::Both(_, entry) | Self::Added(entry) | Self::Removed(entry) => entry,
        }
    }

    /// The older and newer entry; a table that one side lacks is taken for the other's without rows.
    fn entries(&self) -> (&'c TableEntry, &'c TableEntry) {
        match *self {
            Self::Both(old, new) => (old, new),
            Self::Added(entry) | Self::Removed(entry) => (entry, entry),
        }
    }
}

fn pairs<'c>(old: &'c Catalog, new: &'c Catalog, wanted: Option<&str>) -> Result<Vec<TablePair<'c>>, OpError> {
    let before = |entry: &TableEntry| old.table(entry.number).or_else(|| same_definition(old, new, entry));
    let kept = new.tables.iter().map(|entry| match before(entry) {
        Some(before) => TablePair::Both(before, entry),
        None => TablePair::Added(entry),
    });
    let mut pairs: Vec<TablePair<'_>> = kept.collect();
    let kept: HashSet<u32> = new.tables.iter().filter_map(before).map(|entry| entry.number).collect();
    pairs.extend(old.tables.iter().filter(|entry| !kept.contains(&entry.number)).map(TablePair::Removed));
    if let Some(name) = wanted {
        let meant = [old, new].map(|catalog| catalog.table_meant(name).map(|entry| entry.name.clone()));
        let is_meant = |entry: &TableEntry| meant.iter().flatten().any(|name| *name == entry.name);
        pairs.retain(|pair| {
            let (old, new) = pair.entries();
            is_meant(old) || is_meant(new)
        });
        if pairs.is_empty() {
            return Err(OpError::NotFound(format!("neither snapshot has a table {name:?}")));
        }
    }
    Ok(pairs)
}

/// The table that `entry` was before it got another number, as all tables do after a manifest was lost.
fn same_definition<'c>(old: &'c Catalog, new: &Catalog, entry: &TableEntry) -> Option<&'c TableEntry> {
    let columns = |entry: &TableEntry| entry.columns.iter().map(|c| (c.number, c.name.clone())).collect::<Vec<_>>();
    let before = old.table_named(&entry.name).filter(|before| columns(before) == columns(entry))?;
    new.table(before.number).is_none().then_some(before)
}

struct Readers<'a> {
    old: &'a SnapshotReader<'a>,
    new: &'a SnapshotReader<'a>,
}

struct Diff<'a> {
    options: &'a DiffOptions,
    readers: Readers<'a>,
    ids: IdComparison,
    spill: SpillOptions,
    users: UserCounts,
    leaves_read: u64,
    leaves_shared: u64,
}

impl Diff<'_> {
    /// The difference of a table, if there is any.
    fn table(&mut self, pair: &TablePair<'_>) -> Result<Option<TableDiff>, OpError> {
        let (old_entry, new_entry) = pair.entries();
        self.options.progress.phase(&format!("comparing {}", new_entry.name), CountUnit::Objects, None);
        let Readers { old, new } = self.readers;
        let old_root = if matches!(pair, TablePair::Added(_)) { None } else { Some(root(old, old_entry)?) };
        let new_root = if matches!(pair, TablePair::Removed(_)) { None } else { Some(root(new, new_entry)?) };
        let (old_nodes, new_nodes, shared) = descend((old, old_root), (new, new_root))?;
        self.leaves_shared += shared;
        let order = order(old_entry, new_entry, self.ids);
        let keys = new.ids().ok_or_else(|| RepoError::Missing { object: "the id keys of an admin".to_owned() })?;
        let shape = |own| Shape::new(own, new_entry, keys, (self.ids, order));
        let mut old_side = Side::new(old, shape(old_entry), old_nodes);
        let mut new_side = Side::new(new, shape(new_entry), new_nodes);
        let compare = TableCompare {
            entry: new_entry,
            order,
            user: self.options.user.as_deref(),
            samples_max: self.options.samples_max,
            users: &mut self.users,
            spill: self.spill.clone(),
            cancel: &self.options.cancel,
        };
        let found = compare.run(&mut old_side, &mut new_side)?;
        self.leaves_read += old_side.leaves_read + new_side.leaves_read;
        let diff = TableDiff {
            number: new_entry.number,
            name: new_entry.name.clone(),
            renamed_from: (old_entry.name != new_entry.name).then(|| old_entry.name.clone()),
            presence: match pair {
                TablePair::Both(..) => TablePresence::Both,
                TablePair::Added(_) => TablePresence::Added,
                TablePair::Removed(_) => TablePresence::Removed,
            },
            columns_added: columns_missing(new_entry, old_entry),
            columns_removed: columns_missing(old_entry, new_entry),
            rows: found.rows,
            samples: found.samples,
        };
        Ok(Some(diff).filter(differs))
    }
}

fn differs(diff: &TableDiff) -> bool {
    diff.rows.total() > 0
        || diff.presence != TablePresence::Both
        || diff.renamed_from.is_some()
        || !diff.columns_added.is_empty()
        || !diff.columns_removed.is_empty()
}

fn root(reader: &SnapshotReader<'_>, entry: &TableEntry) -> Result<crate::format::node::Skeleton, OpError> {
    let missing = || RepoError::Damaged {
        object: "the manifest".to_owned(),
        reason: format!("it has no tree of table {}", entry.name),
    };
    Ok(reader.root(entry.number, TreeKind::Rows)?.ok_or_else(missing)?)
}

/// Names of columns of `entry` that `other` does not have.
fn columns_missing(entry: &TableEntry, other: &TableEntry) -> Vec<String> {
    entry.columns.iter().filter(|c| other.column(c.number).is_none()).map(|c| c.name.clone()).collect()
}
