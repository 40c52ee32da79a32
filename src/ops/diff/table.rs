//! One table of two snapshots. Rows with one placement are compared as they come; those that are left on
//! one side alone are sorted by their key, because a row that went to another owner stands elsewhere.
//!
//! Several rows with one key (duplicates, keys with nulls) are paired as they come: as many are called
//! changed as both sides have, the rest added or removed. Memory grows with the leaves that differ, by
//! about 200 bytes each, and not with their rows.

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
use crate::ops::error::OpError;
use crate::ops::readable::key_text;
use crate::repo::error::RepoError;
use crate::repo::reader::SnapshotReader;
use crate::sort::{Sorter, SpillOptions};
use crate::tree::diff::{Difference, TreeRow, cancel_common, diff_rows};

/// Goes down from two roots until only leaves that differ are left. Returns the nodes above them and how
/// many leaves were found to be shared.
pub fn descend(
    old: (&SnapshotReader<'_>, Option<Skeleton>),
    new: (&SnapshotReader<'_>, Option<Skeleton>),
) -> Result<(Vec<Skeleton>, Vec<Skeleton>, u64), RepoError> {
    let ((old_reader, old_root), (new_reader, new_root)) = (old, new);
    let (mut old, mut new): (Vec<_>, Vec<_>) = (old_root.into_iter().collect(), new_root.into_iter().collect());
    let level = |nodes: &[Skeleton]| nodes.first().map_or(0, |node| node.level);
    let mut shared = 0;
    loop {
        shared += cancel_common(&mut old, &mut new);
        let (of_old, of_new) = (level(&old), level(&new));
        if of_old.max(of_new) <= 1 {
            return Ok((old, new, shared));
        }
        if of_old >= of_new {
            old = old_reader.expand(&old)?;
        }
        if of_new >= of_old {
            new = new_reader.expand(&new)?;
        }
    }
}

/// Compares the rows of one table.
pub struct TableCompare<'a> {
    pub entry: &'a TableEntry,
    pub order: Order,
    /// Only rows of this user.
    pub user: Option<&'a str>,
    /// Samples of each kind of change at most.
    pub samples_max: usize,
    pub users: &'a mut UserCounts,
    pub spill: SpillOptions,
    pub cancel: &'a Cancel,
}

/// What was found in a table.
#[derive(Debug, Default)]
pub struct TableFound {
    pub rows: Changes,
    pub samples: Vec<RowSample>,
}

impl TableCompare<'_> {
    /// Compares both sides.
    pub fn run(self, old: &mut Side<'_>, new: &mut Side<'_>) -> Result<TableFound, OpError> {
        let left = Left(RefCell::new(Sorter::new(self.spill)));
        let next = |side: &mut Side<'_>, which: u8| loop {
            if self.cancel.is_cancelled() {
                return Err(OpError::Cancelled);
            }
            match side.next()? {
                Some(NextRow::InOrder(row)) if self.order == Order::Common => return Ok(Some(row)),
                Some(NextRow::InOrder(row) | NextRow::Stray(row)) => left.push(which, &row)?,
                None => return Ok::<_, OpError>(None),
            }
        };
        let mut counter = Counter {
            entry: self.entry,
            user: self.user,
            samples_max: self.samples_max,
            users: self.users,
            found: TableFound::default(),
        };
        diff_rows(
            || next(old, OLD),
            || next(new, NEW),
            |mut difference| {
                counter.pair(&mut difference, |_, _| Ordering::Equal, RowChange::Changed)?;
                difference.old.iter().try_for_each(|row| left.push(OLD, row))?;
                difference.new.iter().try_for_each(|row| left.push(NEW, row))
            },
        )?;
        left.finish(|difference| counter.same_key(difference))?;
        Ok(counter.found)
    }
}

const OLD: u8 = 0;
const NEW: u8 = 1;

/// Counts rows that differ and keeps some as samples.
struct Counter<'a> {
    entry: &'a TableEntry,
    user: Option<&'a str>,
    samples_max: usize,
    users: &'a mut UserCounts,
    found: TableFound,
}

impl Counter<'_> {
    /// Rows with one key, wherever they are placed.
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

    /// Counts rows of both sides that are the same by `same` as one change each, and takes them out.
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
        let (old_user, new_user) = (old.and_then(user_of), new.and_then(user_of));
        if change == RowChange::Moved && old_user == new_user {
            // From one missing owner to another: nobody's.
            return Ok(());
        }
        let is_wanted = |user: Option<&[u8]>| user.is_some_and(|user| Some(key_text(user).as_str()) == self.user);
        if self.user.is_some() && !is_wanted(old_user) && !is_wanted(new_user) {
            return Ok(());
        }
        let changes = changes(change, times);
        self.found.rows.add(&changes);
        let number = self.entry.number;
        if old_user == new_user {
            old_user.map_or(Ok(()), |user| self.users.add(user, number, &changes))?;
        } else {
            let lone = [(old_user, RowChange::Removed), (new_user, RowChange::Added)];
            for (user, change) in lone {
                if let Some(user) = user.filter(|user| self.user.is_none() || is_wanted(Some(user))) {
                    self.users.add(user, number, &self::changes(change, times))?;
                }
            }
        }
        let kept = self.found.samples.iter().filter(|sample| sample.change == change).count();
        if kept < self.samples_max {
            self.found.samples.push(sample(self.entry, change, old, new).map_err(|error| broken(&error))?);
        }
        Ok(())
    }
}

fn changes(change: RowChange, times: u64) -> Changes {
    let mut changes = Changes::default();
    *match change {
        RowChange::Added => &mut changes.added,
        RowChange::Changed => &mut changes.changed,
        RowChange::Removed => &mut changes.removed,
        RowChange::Moved => &mut changes.moved,
    } = times;
    changes
}

/// Rows that have no counterpart where they stand, on their way to be sorted by key.
struct Left(RefCell<Sorter>);

impl Left {
    fn push(&self, side: u8, row: &TreeRow) -> Result<(), OpError> {
        let mut payload = Vec::with_capacity(row.cells.len() + row.owner_len + 16);
        payload.push(side);
        payload.push(row.class());
        payload.put_bytes(row.owner());
        payload.put_uv(row.multiplicity);
        payload.extend_from_slice(&row.cells);
        Ok(self.0.borrow_mut().push(row.key(), &payload)?)
    }

    /// Gives all rows, those with one key together.
    fn finish(self, mut each: impl FnMut(Difference) -> Result<(), OpError>) -> Result<(), OpError> {
        let mut merge = self.0.into_inner().finish()?;
        let (mut at_hand, mut difference) = (Vec::new(), Difference::default());
        while let Some((key, payload)) = merge.next()? {
            if key != at_hand.as_slice() {
                each(std::mem::take(&mut difference))?;
                at_hand = key.to_vec();
            }
            let (side, row) = read(key, payload).map_err(|error| broken(&error))?;
            let rows = if side == OLD { &mut difference.old } else { &mut difference.new };
            rows.push(row);
        }
        each(difference)
    }
}

fn read(key: &[u8], payload: &[u8]) -> Result<(u8, TreeRow), WireError> {
    let mut take = Take::new(payload);
    let side = take.u8("compared row")?;
    let mut place = vec![take.u8("compared row")?];
    let owner = take.bytes("compared row")?;
    place.extend_from_slice(owner);
    place.extend_from_slice(key);
    let multiplicity = take.uv("compared row")?;
    Ok((side, TreeRow { place, owner_len: owner.len(), cells: take.rest().to_vec(), multiplicity }))
}

fn broken(error: &WireError) -> OpError {
    OpError::Damaged { what: "a compared row".to_owned(), reason: error.to_string() }
}
