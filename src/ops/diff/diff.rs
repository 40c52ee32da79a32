//! Opens both snapshots, pairs their tables by number, and compares each pair.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use crate::base::cancel::Cancel;
use crate::base::env::SharedEnv;
use crate::base::finding::{Finding, FindingKind, Severity};
use crate::base::id::SourceId;
use crate::base::progress::{CountUnit, SharedProgress};
use crate::crypto::ids::SourceIdKeys;
use crate::format::catalog::{Catalog, ColumnEntry, TableEntry};
use crate::format::manifest::TreeKind;
use crate::format::node::Skeleton;
use crate::ops::access::access_findings;
use crate::ops::diff::count::{ReportNames, UserCounts};
use crate::ops::diff::report::{Compared, DiffReport, TableDiff, TablePresence};
use crate::ops::diff::rows::{IdComparison, Order, RowRule, Shape, order};
use crate::ops::diff::side::Side;
use crate::ops::diff::table::{TableCompare, TableFound, TreeSide, descend};
use crate::ops::diff::user_names::UserNames;
use crate::ops::error::OpError;
use crate::ops::select::Selector;
use crate::repo::error::RepoError;
use crate::repo::ledger::{Ledger, SnapshotRecord};
use crate::repo::open::Unlocked;
use crate::repo::reader::SnapshotReader;
use crate::sort::{SpillFiles, SpillOptions};

/// Memory for sorting rows, in bytes.
const ROWS_BYTES: usize = 16 << 20;
/// Memory for sorting counts by user, in bytes.
const USERS_BYTES: usize = 8 << 20;

const KEYS_ROTATED: &str = "the keys were rotated between them, so all rows were read, and values of 32 KiB or more \
                            were compared only by their length";

/// What to compare.
#[derive(Clone)]
pub struct DiffOptions {
    pub source: SourceId,
    pub old: Selector,
    pub new: Selector,
    /// Compare only the table that has this name in either snapshot.
    pub table: Option<String>,
    /// Compare only the rows of this user. The user is named by its key as text.
    pub user: Option<String>,
    /// Maximum number of sample rows for each table and kind of change.
    pub samples_max: usize,
    /// Maximum number of users in the report. It has the users with the most changes.
    pub users_max: usize,
    pub spill_dir: PathBuf,
    pub progress: SharedProgress,
    pub cancel: Cancel,
}

/// Compares two snapshots of a source.
/// Fails if a snapshot or the named table does not exist, the key may not open rows, a part that differs cannot be
/// read, a temporary file fails, or the diff is cancelled.
pub fn run(unlocked: &Unlocked, options: &DiffOptions) -> Result<DiffReport, OpError> {
    options.progress.phase("looking at the store", CountUnit::Objects, None);
    let ledger = Ledger::load(unlocked.repository(), options.source)?;
    let old = options.old.find(&ledger)?;
    let new = options.new.find(&ledger)?;
    let old_reader = open(unlocked, &ledger, old)?;
    let new_reader = open(unlocked, &ledger, new)?;
    let old_catalog = catalog(&old_reader)?;
    let new_catalog = catalog(&new_reader)?;
    let pairs = pair_tables(old_catalog, new_catalog, options.table.as_deref())?;
    let users = UserNames::of(old_catalog, new_catalog);
    let readers = Readers { old: &old_reader, new: &new_reader, users: &users };
    let mut diff = Diff::new(options, readers, IdComparison::of(old, new), unlocked.repository().shared_env());
    let mut report = DiffReport::new(Compared::of(old), Compared::of(new));
    diff.tables(&pairs, &mut report)?;
    report.leaves_read = diff.leaves_read;
    report.leaves_shared = diff.leaves_shared;
    report.findings = findings(options, &ledger, old, new);
    report.findings.extend(access_findings(unlocked, &ledger));
    let names = names_by_number(&pairs);
    let name_of = |number| names.get(&number).map_or_else(String::new, |name| (*name).to_owned());
    let report_names = ReportNames { table: &name_of, users: &users };
    let (users_differing, users) = diff.users.finish(options.users_max, &report_names)?;
    report.users_differing = users_differing;
    report.users = users;
    Ok(report)
}

/// What makes the diff inexact. Most is only information, because nothing is wrong with the stored data.
fn findings(options: &DiffOptions, ledger: &Ledger, old: &SnapshotRecord, new: &SnapshotRecord) -> Vec<Finding> {
    let mut findings = Vec::new();
    for finding in options.new.uncounted(ledger, new) {
        let lacks = finding.kind == FindingKind::Unsupported;
        findings.push(if lacks { finding } else { finding.with_severity(Severity::Information) });
    }
    if IdComparison::of(old, new) == IdComparison::Foreign {
        findings.push(Finding::new(FindingKind::KeysRotated, "the snapshots", KEYS_ROTATED));
    }
    findings
}

fn open<'a>(unlocked: &'a Unlocked, ledger: &Ledger, record: &SnapshotRecord) -> Result<SnapshotReader<'a>, OpError> {
    unlocked.admin(record.snapshot.epoch, "a diff")?;
    Ok(SnapshotReader::open(unlocked, ledger, record)?)
}

fn catalog<'r>(reader: &'r SnapshotReader<'_>) -> Result<&'r Catalog, OpError> {
    let missing = || RepoError::Damaged { object: "the manifest".to_owned(), reason: "it has no catalog".to_owned() };
    Ok(reader.manifest().catalog.as_ref().ok_or_else(missing)?)
}

/// A table that one or both snapshots have.
#[derive(Clone, Copy)]
enum TablePair<'c> {
    Both(&'c TableEntry, &'c TableEntry),
    Added(&'c TableEntry),
    Removed(&'c TableEntry),
}

impl<'c> TablePair<'c> {
    /// The entry in the newer snapshot. For a removed table, the entry in the older one.
    fn entry(&self) -> &'c TableEntry {
        match *self {
            Self::Both(_, entry) | Self::Added(entry) | Self::Removed(entry) => entry,
        }
    }

    /// The older and the newer entry. If only one snapshot has the table, both are its entry, and the other side has
    /// no rows.
    fn entries(&self) -> (&'c TableEntry, &'c TableEntry) {
        match *self {
            Self::Both(old, new) => (old, new),
            Self::Added(entry) | Self::Removed(entry) => (entry, entry),
        }
    }
}

fn pair_tables<'c>(old: &'c Catalog, new: &'c Catalog, wanted: Option<&str>) -> Result<Vec<TablePair<'c>>, OpError> {
    let mut pairs = Vec::new();
    let mut paired = HashSet::new();
    let sides = IndexedSides { old: old.by_number(), old_by_name: old.by_name(), new: new.by_number() };
    for entry in &new.tables {
        match sides.before(entry) {
            Some(before) => {
                paired.insert(before.number);
                pairs.push(TablePair::Both(before, entry));
            }
            None => pairs.push(TablePair::Added(entry)),
        }
    }
    let unpaired = old.tables.iter().filter(|entry| !paired.contains(&entry.number));
    pairs.extend(unpaired.map(TablePair::Removed));
    match wanted {
        Some(name) => named_pairs(pairs, name, old, new),
        None => Ok(pairs),
    }
}

/// The pairs with a table that `name` refers to in either snapshot.
fn named_pairs<'c>(
    mut pairs: Vec<TablePair<'c>>,
    name: &str,
    old: &Catalog,
    new: &Catalog,
) -> Result<Vec<TablePair<'c>>, OpError> {
    let meant = [old, new].map(|catalog| catalog.find_table(name).map(|entry| entry.name.as_str()));
    let is_meant = |entry: &TableEntry| meant.contains(&Some(entry.name.as_str()));
    pairs.retain(|pair| {
        let (old, new) = pair.entries();
        is_meant(old) || is_meant(new)
    });
    if pairs.is_empty() {
        return Err(OpError::NoTable(format!("neither snapshot has a table named {name:?}")));
    }
    Ok(pairs)
}

/// The tables of both snapshots by number, and the older tables by name.
struct IndexedSides<'c> {
    old: HashMap<u32, &'c TableEntry>,
    old_by_name: HashMap<&'c str, &'c TableEntry>,
    new: HashMap<u32, &'c TableEntry>,
}

impl<'c> IndexedSides<'c> {
    fn before(&self, entry: &TableEntry) -> Option<&'c TableEntry> {
        self.old.get(&entry.number).copied().or_else(|| self.same_definition(entry))
    }

    /// The table that `entry` was before it got another number, as all tables do after a manifest was lost.
    fn same_definition(&self, entry: &TableEntry) -> Option<&'c TableEntry> {
        let before = self.old_by_name.get(entry.name.as_str())?;
        let is_free = !self.new.contains_key(&before.number);
        (is_free && has_same_columns(before, entry)).then_some(*before)
    }
}

fn has_same_columns(a: &TableEntry, b: &TableEntry) -> bool {
    let same = |(a, b): (&ColumnEntry, &ColumnEntry)| a.number == b.number && a.name == b.name;
    a.columns.len() == b.columns.len() && a.columns.iter().zip(&b.columns).all(same)
}

fn names_by_number<'c>(pairs: &[TablePair<'c>]) -> HashMap<u32, &'c str> {
    // Reversed: the first of equal numbers counts.
    pairs.iter().rev().map(|pair| (pair.entry().number, pair.entry().name.as_str())).collect()
}

struct Readers<'a> {
    old: &'a SnapshotReader<'a>,
    new: &'a SnapshotReader<'a>,
    /// The names of the users of both.
    users: &'a UserNames,
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

impl<'a> Diff<'a> {
    fn new(options: &'a DiffOptions, readers: Readers<'a>, ids: IdComparison, env: SharedEnv) -> Self {
        let spill = SpillOptions {
            dir: options.spill_dir.clone(),
            memory_bytes: ROWS_BYTES,
            env,
            files: SpillFiles::default(),
        };
        let users = UserCounts::new(SpillOptions { memory_bytes: USERS_BYTES, ..spill.clone() });
        Self { options, readers, ids, spill, users, leaves_read: 0, leaves_shared: 0 }
    }

    /// Adds the tables that differ to the report.
    fn tables(&mut self, pairs: &[TablePair<'_>], report: &mut DiffReport) -> Result<(), OpError> {
        for pair in pairs {
            if self.options.cancel.is_cancelled() {
                return Err(OpError::Cancelled);
            }
            if let Some(table) = self.table(pair)? {
                report.add(table);
            }
        }
        Ok(())
    }

    /// Compares a table. Returns `None` if it does not differ.
    fn table(&mut self, pair: &TablePair<'_>) -> Result<Option<TableDiff>, OpError> {
        let (_, entry) = pair.entries();
        self.options.progress.phase(&format!("comparing {}", entry.name), CountUnit::Objects, None);
        let found = self.rows(pair)?;
        let diff = pair.describe(found);
        Ok(differs(&diff).then_some(diff))
    }

    /// Compares the rows of both sides.
    fn rows(&mut self, pair: &TablePair<'_>) -> Result<TableFound, OpError> {
        let (old_entry, entry) = pair.entries();
        let Readers { old, new, .. } = self.readers;
        let differing = descend(tree_side(old, pair.older())?, tree_side(new, pair.newer())?)?;
        self.leaves_shared += differing.leaves_shared;
        let order = order(old_entry, entry, self.ids);
        let rule = RowRule { keys: id_keys(new)?, ids: self.ids, order };
        let mut old_side = Side::new(old, Shape::new(old_entry, entry, rule), differing.old);
        let mut new_side = Side::new(new, Shape::new(entry, entry, rule), differing.new);
        let found = self.comparison(entry, order).run(&mut old_side, &mut new_side)?;
        self.leaves_read += old_side.leaves_read + new_side.leaves_read;
        Ok(found)
    }

    fn comparison<'s>(&'s mut self, entry: &'s TableEntry, order: Order) -> TableCompare<'s> {
        TableCompare {
            entry,
            order,
            user: self.options.user.as_deref(),
            names: self.readers.users,
            samples_max: self.options.samples_max,
            users: &mut self.users,
            spill: self.spill.clone(),
            cancel: &self.options.cancel,
        }
    }
}

fn id_keys<'r>(reader: &'r SnapshotReader<'_>) -> Result<&'r SourceIdKeys, OpError> {
    let missing = || RepoError::Missing { object: "an admin's id key".to_owned() };
    Ok(reader.ids().ok_or_else(missing)?)
}

impl<'c> TablePair<'c> {
    fn older(&self) -> Option<&'c TableEntry> {
        match *self {
            Self::Both(old, _) | Self::Removed(old) => Some(old),
            Self::Added(_) => None,
        }
    }

    fn newer(&self) -> Option<&'c TableEntry> {
        match *self {
            Self::Both(_, new) | Self::Added(new) => Some(new),
            Self::Removed(_) => None,
        }
    }

    fn presence(&self) -> TablePresence {
        match self {
            Self::Both(..) => TablePresence::Both,
            Self::Added(_) => TablePresence::Added,
            Self::Removed(_) => TablePresence::Removed,
        }
    }

    fn describe(&self, found: TableFound) -> TableDiff {
        let (old, new) = self.entries();
        TableDiff {
            number: new.number,
            name: new.name.clone(),
            renamed_from: (old.name != new.name).then(|| old.name.clone()),
            presence: self.presence(),
            columns_added: columns_missing(new, old),
            columns_removed: columns_missing(old, new),
            rows: found.rows,
            samples: found.samples,
        }
    }
}

fn differs(diff: &TableDiff) -> bool {
    diff.rows.total() > 0
        || diff.presence != TablePresence::Both
        || diff.renamed_from.is_some()
        || !diff.columns_added.is_empty()
        || !diff.columns_removed.is_empty()
}

fn tree_side<'a>(reader: &'a SnapshotReader<'a>, entry: Option<&TableEntry>) -> Result<TreeSide<'a>, OpError> {
    Ok(TreeSide { reader, root: entry.map(|entry| root(reader, entry)).transpose()? })
}

fn root(reader: &SnapshotReader<'_>, entry: &TableEntry) -> Result<Skeleton, OpError> {
    let missing = || RepoError::Damaged {
        object: "the manifest".to_owned(),
        reason: format!("it has no tree for table {}", entry.name),
    };
    Ok(reader.root(entry.number, TreeKind::Rows)?.ok_or_else(missing)?)
}

/// The names of the columns that `entry` has and `other` does not.
fn columns_missing(entry: &TableEntry, other: &TableEntry) -> Vec<String> {
    entry.columns.iter().filter(|c| other.column(c.number).is_none()).map(|c| c.name.to_string()).collect()
}
