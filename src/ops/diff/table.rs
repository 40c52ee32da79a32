//! Compares one table of two snapshots. Rows with the same placement are compared as they arrive. Rows without a
//! counterpart are sorted by key and compared again, because a row that moved to another owner has another placement.
//!
//! If several rows have the same key (duplicates, keys with nulls), they are paired as they arrive: the pairs count as
//! changed, and the other rows as added or removed. Memory grows by about 200 bytes for each leaf that differs, but not
//! with the number of rows.

use std::cell::RefCell;
use std::cmp::Ordering;

use crate::base::cancel::Cancel;
use crate::format::catalog::TableEntry;
use crate::format::node::Skeleton;
use crate::format::wire::{Put, Take, WireError};
use crate::ops::diff::count::{UserCounts, user_of};
use crate::ops::diff::report::{Changes, RowChange, RowSample};
use crate::ops::diff::rows::Order;
use crate::ops::diff::sample::sample;
use crate::ops::diff::side::{NextRow, Side};
use crate::ops::diff::user_names::UserNames;
use crate::ops::error::OpError;
use crate::repo::error::RepoError;
use crate::repo::reader::SnapshotReader;
use crate::sort::{Sorter, SpillOptions};
use crate::tree::diff::{Difference, TreeRow, cancel_common, diff_rows};

/// The tree of a table in one snapshot. `root` is `None` if the snapshot does not have the table.
pub struct TreeSide<'a> {
    pub reader: &'a SnapshotReader<'a>,
    pub root: Option<Skeleton>,
}

/// The parts of two trees that they do not share.
pub struct DifferingNodes {
    /// Nodes of level 1 in the older tree, and in the newer one.
    pub old: Vec<Skeleton>,
    pub new: Vec<Skeleton>,
    /// Number of leaves that were found to be shared.
    pub leaves_shared: u64,
}

/// Descends from two roots to level 1 and drops the nodes that both trees have.
/// Fails if a node cannot be read.
pub fn descend(old_side: TreeSide<'_>, new_side: TreeSide<'_>) -> Result<DifferingNodes, RepoError> {
    let mut old: Vec<Skeleton> = old_side.root.into_iter().collect();
    let mut new: Vec<Skeleton> = new_side.root.into_iter().collect();
    let mut leaves_shared = 0;
    loop {
        leaves_shared += cancel_common(&mut old, &mut new);
        let old_level = level(&old);
        let new_level = level(&new);
        if old_level.max(new_level) <= 1 {
            return Ok(DifferingNodes { old, new, leaves_shared });
        }
        if old_level >= new_level {
            old = old_side.reader.expand(&old)?;
        }
        if new_level >= old_level {
            new = new_side.reader.expand(&new)?;
        }
    }
}

fn level(nodes: &[Skeleton]) -> u8 {
    nodes.first().map_or(0, |node| node.level)
}

/// Compares the rows of one table.
pub struct TableCompare<'a> {
    pub entry: &'a TableEntry,
    pub order: Order,
    /// Count only the rows of this user.
    pub user: Option<&'a str>,
    pub names: &'a UserNames,
    /// Maximum number of samples for each kind of change.
    pub samples_max: usize,
    pub users: &'a mut UserCounts,
    pub spill: SpillOptions,
    pub cancel: &'a Cancel,
}

/// The differences that were found in a table.
#[derive(Debug, Default)]
pub struct TableFound {
    pub rows: Changes,
    pub samples: Vec<RowSample>,
}

impl TableCompare<'_> {
    /// Compares both sides.
    /// Fails if a leaf cannot be read, a temporary file cannot be written or read, or the diff is cancelled.
    pub fn run(self, old: &mut Side<'_>, new: &mut Side<'_>) -> Result<TableFound, OpError> {
        let unpaired = UnpairedRows(RefCell::new(Sorter::new(self.spill)));
        let rows = OrderedRows { order: self.order, cancel: self.cancel, unpaired: &unpaired };
        let mut counter = Counter {
            entry: self.entry,
            user: self.user,
            names: self.names,
            samples_max: self.samples_max,
            users: self.users,
            found: TableFound::default(),
        };
        diff_rows(
            || rows.next(old, OLD),
            || rows.next(new, NEW),
            |mut difference| {
                counter.pair(&mut difference, |_, _| Ordering::Equal, RowChange::Changed)?;
                difference.old.iter().try_for_each(|row| unpaired.push(OLD, row))?;
                difference.new.iter().try_for_each(|row| unpaired.push(NEW, row))
            },
        )?;
        unpaired.finish(|difference| counter.same_key(difference))?;
        Ok(counter.found)
    }
}

/// The rows of a side that come in the order that both sides share. The other rows are added to `unpaired`.
struct OrderedRows<'a> {
    order: Order,
    cancel: &'a Cancel,
    unpaired: &'a UnpairedRows,
}

impl OrderedRows<'_> {
    fn next(&self, side: &mut Side<'_>, number: u8) -> Result<Option<TreeRow>, OpError> {
        loop {
            if self.cancel.is_cancelled() {
                return Err(OpError::Cancelled);
            }
            match side.next()? {
                Some(NextRow::InOrder(row)) if self.order == Order::Common => return Ok(Some(row)),
                Some(NextRow::InOrder(row) | NextRow::Stray(row)) => self.unpaired.push(number, &row)?,
                None => return Ok(None),
            }
        }
    }
}

const OLD: u8 = 0;
const NEW: u8 = 1;

/// Counts the rows that differ and keeps some of them as samples.
struct Counter<'a> {
    entry: &'a TableEntry,
    user: Option<&'a str>,
    names: &'a UserNames,
    samples_max: usize,
    users: &'a mut UserCounts,
    found: TableFound,
}

impl Counter<'_> {
    /// Pairs and counts the rows with one key, whatever their placement.
    fn same_key(&mut self, mut difference: Difference) -> Result<(), OpError> {
        difference.cancel_equal();
        self.pair(&mut difference, |a, b| a.cells.cmp(&b.cells), RowChange::Moved)?;
        let owner = |a: &TreeRow, b: &TreeRow| (a.class(), a.owner()).cmp(&(b.class(), b.owner()));
        self.pair(&mut difference, owner, RowChange::Changed)?;
        self.pair(&mut difference, |_, _| Ordering::Equal, RowChange::Changed)?;
        for row in &difference.old {
            self.count(RowChange::Removed, Some(row), None, row.multiplicity)?;
        }
        for row in &difference.new {
            self.count(RowChange::Added, None, Some(row), row.multiplicity)?;
        }
        Ok(())
    }

    /// Pairs rows of both sides that are equal by `same`. Counts each pair as one change and removes it.
    fn pair(
        &mut self,
        difference: &mut Difference,
        same: impl Fn(&TreeRow, &TreeRow) -> Ordering,
        change: RowChange,
    ) -> Result<(), OpError> {
        difference.old.sort_by(&same);
        difference.new.sort_by(&same);
        let mut result = Ok(());
        difference.cancel(same, |old, new, times| {
            if result.is_ok() {
                result = self.count(change, Some(old), Some(new), times);
            }
        });
        result
    }

    fn count(
        &mut self,
        change: RowChange,
        old: Option<&TreeRow>,
        new: Option<&TreeRow>,
        times: u64,
    ) -> Result<(), OpError> {
        let old_user = old.and_then(user_of);
        let new_user = new.and_then(user_of);
        if change == RowChange::Moved && old_user == new_user {
            // It moved from one missing owner to another, so no user is affected.
            return Ok(());
        }
        if !self.is_wanted(old_user) && !self.is_wanted(new_user) {
            return Ok(());
        }
        self.found.rows.add(&Changes::of(change, times));
        if old_user == new_user {
            self.count_user(old_user, change, times)?;
        } else {
            self.count_user(old_user, RowChange::Removed, times)?;
            self.count_user(new_user, RowChange::Added, times)?;
        }
        self.keep_sample(change, old, new)
    }

    /// Whether changes to the rows of `user` are wanted. Rows without a user are wanted only if no user is named.
    fn is_wanted(&self, user: Option<&[u8]>) -> bool {
        let Some(wanted) = self.user else { return true };
        user.is_some_and(|user| self.names.is_meant(user, wanted))
    }

    fn count_user(&mut self, user: Option<&[u8]>, change: RowChange, times: u64) -> Result<(), OpError> {
        match user {
            Some(user) if self.is_wanted(Some(user)) => {
                self.users.add(user, self.entry.number, &Changes::of(change, times))
            }
            _ => Ok(()),
        }
    }

    fn keep_sample(&mut self, change: RowChange, old: Option<&TreeRow>, new: Option<&TreeRow>) -> Result<(), OpError> {
        let kept = self.found.samples.iter().filter(|sample| sample.change == change).count();
        if kept < self.samples_max {
            let sample = sample(self.entry, change, old, new, self.names).map_err(|error| broken(&error))?;
            self.found.samples.push(sample);
        }
        Ok(())
    }
}

/// Rows that have no counterpart with the same placement. They are sorted by key.
struct UnpairedRows(RefCell<Sorter>);

impl UnpairedRows {
    fn push(&self, side: u8, row: &TreeRow) -> Result<(), OpError> {
        let mut payload = Vec::with_capacity(row.cells.len() + row.owner_len + 16);
        payload.push(side);
        payload.push(row.class());
        payload.put_bytes(row.owner());
        payload.put_uv(row.multiplicity);
        payload.extend_from_slice(&row.cells);
        Ok(self.0.borrow_mut().push(row.key(), &payload)?)
    }

    /// Passes all rows to `each`, grouped by key.
    fn finish(self, mut each: impl FnMut(Difference) -> Result<(), OpError>) -> Result<(), OpError> {
        let mut merge = self.0.into_inner().finish()?;
        let mut current_key = Vec::new();
        let mut difference = Difference::default();
        while let Some((key, payload)) = merge.next()? {
            if key != current_key.as_slice() {
                each(std::mem::take(&mut difference))?;
                current_key = key.to_vec();
            }
            let (side, row) = read(key, payload).map_err(|error| broken(&error))?;
            let rows = if side == OLD { &mut difference.old } else { &mut difference.new };
            rows.push(row);
        }
        each(difference)
    }
}

/// Decodes the side of an unpaired row, and the row.
fn read(key: &[u8], payload: &[u8]) -> Result<(u8, TreeRow), WireError> {
    let what = "compared row";
    let mut take = Take::new(payload);
    let side = take.u8(what)?;
    let mut place = vec![take.u8(what)?];
    let owner = take.bytes(what)?;
    place.extend_from_slice(owner);
    place.extend_from_slice(key);
    let multiplicity = take.uv(what)?;
    Ok((side, TreeRow { place, owner_len: owner.len(), cells: take.rest().to_vec(), multiplicity }))
}

fn broken(error: &WireError) -> OpError {
    OpError::Damaged { what: "a compared row".to_owned(), reason: error.to_string() }
}
