//! Counts changes by user. A few users are counted in memory. Many users are spilled to disk and sorted, so that the
//! memory of a diff does not grow with the number of users.

use std::collections::HashMap;

use crate::format::key::Class;
use crate::format::wire::{Put, Take, WireError};
use crate::ops::diff::report::{Changes, UserDiff, UserTable};
use crate::ops::diff::user_names::UserNames;
use crate::ops::error::OpError;
use crate::sort::{Sorter, SpillOptions};
use crate::tree::diff::TreeRow;

/// Number of users that are counted in memory before they are spilled to disk.
const USERS_IN_MEMORY: usize = 16 << 10;

/// Counts changes by user.
pub struct UserCounts {
    sorter: Sorter,
    gathered: HashMap<(Vec<u8>, u32), Changes>,
}

/// Names in the report.
pub struct ReportNames<'n> {
    /// The name of the table with this number.
    pub table: &'n dyn Fn(u32) -> String,
    pub users: &'n UserNames,
}

/// The user of a row, if it has one: kind and key.
#[must_use]
pub fn user_of(row: &TreeRow) -> Option<&[u8]> {
    (row.class() == Class::Owned as u8).then(|| row.owner())
}

impl UserCounts {
    /// Creates an empty count.
    #[must_use]
    pub fn new(spill: SpillOptions) -> Self {
        Self { sorter: Sorter::new(spill), gathered: HashMap::new() }
    }

    /// Adds changes to the rows of `user` in a table.
    /// Fails if the counts cannot be spilled.
    pub fn add(&mut self, user: &[u8], table: u32, changes: &Changes) -> Result<(), OpError> {
        if self.gathered.len() >= USERS_IN_MEMORY {
            self.spill()?;
        }
        self.gathered.entry((user.to_vec(), table)).or_default().add(changes);
        Ok(())
    }

    fn spill(&mut self) -> Result<(), OpError> {
        for ((user, table), changes) in self.gathered.drain() {
            self.sorter.push(&user, &write(table, &changes))?;
        }
        Ok(())
    }

    /// Returns how many users have changes, and the users with the most changes, at most `users_max` of them.
    /// Fails if a temporary file cannot be written or read, or is damaged.
    pub fn finish(mut self, users_max: usize, names: &ReportNames<'_>) -> Result<(u64, Vec<UserDiff>), OpError> {
        self.spill()?;
        let mut merge = self.sorter.finish()?;
        let top = Top { users: Vec::new(), max: users_max };
        let mut groups = UserGroups { count: 0, current: None, top, names };
        while let Some((user, payload)) = merge.next()? {
            let (table, changes) = read(payload).map_err(|error| damaged_count(&error))?;
            groups.add(user, table, changes);
        }
        Ok(groups.finish())
    }
}

fn damaged_count(error: &WireError) -> OpError {
    OpError::Damaged { what: "a spilled count of changes".to_owned(), reason: error.to_string() }
}

/// Combines the changes of each user. They arrive sorted by user.
struct UserGroups<'n> {
    count: u64,
    current: Option<UserChanges>,
    top: Top,
    names: &'n ReportNames<'n>,
}

impl UserGroups<'_> {
    fn add(&mut self, user: &[u8], table: u32, changes: Changes) {
        match &mut self.current {
            Some(known) if known.user == user => known.add(table, changes),
            _ => self.begin(UserChanges::new(user, table, changes)),
        }
    }

    fn begin(&mut self, next: UserChanges) {
        self.count += 1;
        if let Some(done) = self.current.replace(next) {
            self.top.push(done, self.names);
        }
    }

    /// Returns the number of users, and the users with the most changes.
    fn finish(mut self) -> (u64, Vec<UserDiff>) {
        if let Some(last) = self.current {
            self.top.push(last, self.names);
        }
        (self.count, self.top.finish())
    }
}

/// Changes to the rows of one user, by table number.
struct UserChanges {
    user: Vec<u8>,
    tables: HashMap<u32, Changes>,
    /// Table numbers, in the order in which they came.
    order: Vec<u32>,
}

impl UserChanges {
    fn new(user: &[u8], table: u32, changes: Changes) -> Self {
        Self { user: user.to_vec(), tables: HashMap::from([(table, changes)]), order: vec![table] }
    }

    fn add(&mut self, table: u32, changes: Changes) {
        match self.tables.get_mut(&table) {
            Some(known) => known.add(&changes),
            None => {
                self.tables.insert(table, changes);
                self.order.push(table);
            }
        }
    }

    fn report(self, names: &ReportNames<'_>) -> UserDiff {
        let mut rows = Changes::default();
        let mut tables = Vec::new();
        for table in self.order {
            let changes = self.tables[&table];
            rows.add(&changes);
            tables.push(UserTable { table: (names.table)(table), rows: changes });
        }
        UserDiff { user: names.users.text(&self.user), rows, tables }
    }
}

fn write(table: u32, changes: &Changes) -> Vec<u8> {
    let mut payload = Vec::new();
    payload.put_uv(u64::from(table));
    for count in [changes.added, changes.changed, changes.removed, changes.moved] {
        payload.put_uv(count);
    }
    payload
}

fn read(payload: &[u8]) -> Result<(u32, Changes), WireError> {
    let mut take = Take::new(payload);
    let table = take.uv_as("table")?;
    let changes = Changes {
        added: take.uv("count")?,
        changed: take.uv("count")?,
        removed: take.uv("count")?,
        moved: take.uv("count")?,
    };
    Ok((table, changes))
}

/// The users with the most changes so far.
struct Top {
    users: Vec<UserDiff>,
    max: usize,
}

impl Top {
    fn push(&mut self, user: UserChanges, names: &ReportNames<'_>) {
        self.users.push(user.report(names));
        if self.users.len() > self.max.saturating_mul(2) {
            self.cut();
        }
    }

    fn cut(&mut self) {
        // The sort is stable: users with equal counts stay in the order of their keys.
        self.users.sort_by_key(|user| std::cmp::Reverse(user.rows.total()));
        self.users.truncate(self.max);
    }

    fn finish(mut self) -> Vec<UserDiff> {
        self.cut();
        self.users
    }
}
