//! Counts by user: gathered in memory while they are few, sorted by user on disk when they are many, so
//! that the memory of a diff does not grow with the number of users.

use std::collections::HashMap;

use crate::format::key::Class;
use crate::format::wire::{Put, Take, WireError};
use crate::ops::diff::report::{Changes, UserDiff, UserTable};
use crate::ops::error::OpError;
use crate::ops::readable::key_text;
use crate::sort::{Sorter, SpillOptions};
use crate::tree::diff::TreeRow;

/// Users gathered before they are laid aside.
const USERS_IN_MEMORY: usize = 16 << 10;

/// Counts changes by user.
pub struct UserCounts {
    sorter: Sorter,
    gathered: HashMap<(Vec<u8>, u32), Changes>,
}

/// The user of a row, if it has one.
#[must_use]
pub fn user_of(row: &TreeRow) -> Option<&[u8]> {
    (row.class() == Class::Owned as u8).then(|| row.owner())
}

impl UserCounts {
    /// Nothing counted yet.
    #[must_use]
    pub fn new(spill: SpillOptions) -> Self {
        Self { sorter: Sorter::new(spill), gathered: HashMap::new() }
    }

    /// Counts changes of rows of `user` in a table.
    pub fn add(&mut self, user: &[u8], table: u32, changes: &Changes) -> Result<(), OpError> {
        if self.gathered.len() >= USERS_IN_MEMORY {
            self.lay_aside()?;
        }
        self.gathered.entry((user.to_vec(), table)).or_default().add(changes);
        Ok(())
    }

    fn lay_aside(&mut self) -> Result<(), OpError> {
        for ((user, table), changes) in self.gathered.drain() {
            let mut payload = Vec::new();
            payload.put_uv(u64::from(table));
            [changes.added, changes.changed, changes.removed, changes.moved].iter().for_each(|n| payload.put_uv(*n));
            self.sorter.push(&user, &payload)?;
        }
        Ok(())
    }

    /// How many users have changes, and those with the most, `users_max` at most.
    pub fn finish(
        mut self,
        users_max: usize,
        table_name: &dyn Fn(u32) -> String,
    ) -> Result<(u64, Vec<UserDiff>), OpError> {
        self.lay_aside()?;
        let mut merge = self.sorter.finish()?;
        let mut top = Top { users: Vec::new(), max: users_max };
        let mut count = 0;
        let mut current: Option<(Vec<u8>, ByTable)> = None;
        let broken = |error: WireError| OpError::Damaged { what: "a count".to_owned(), reason: error.to_string() };
        while let Some((user, payload)) = merge.next()? {
            let (table, changes) = read(payload).map_err(broken)?;
            match &mut current {
                Some((known, tables)) if known == user => match tables.iter_mut().find(|known| known.0 == table) {
                    Some((_, known)) => known.add(&changes),
                    None => tables.push((table, changes)),
                },
                _ => {
                    count += 1;
                    if let Some((user, tables)) = current.replace((user.to_vec(), vec![(table, changes)])) {
                        top.push(&user, tables, table_name);
                    }
                }
            }
        }
        if let Some((user, tables)) = current {
            top.push(&user, tables, table_name);
        }
        Ok((count, top.finish()))
    }
}

/// Changes of one user by table number.
type ByTable = Vec<(u32, Changes)>;

fn read(payload: &[u8]) -> Result<(u32, Changes), WireError> {
    let mut take = Take::new(payload);
    let table = take.uv_as("table")?;
    let mut next = || take.uv("count");
    Ok((table, Changes { added: next()?, changed: next()?, removed: next()?, moved: next()? }))
}

/// Users with the most changes.
struct Top {
    users: Vec<UserDiff>,
    max: usize,
}

impl Top {
    fn push(&mut self, user: &[u8], tables: ByTable, table_name: &dyn Fn(u32) -> String) {
        let mut rows = Changes::default();
        tables.iter().for_each(|(_, changes)| rows.add(changes));
        let tables = tables.into_iter().map(|(table, rows)| UserTable { table: table_name(table), rows }).collect();
        self.users.push(UserDiff { user: key_text(user), rows, tables });
        if self.users.len() > self.max.saturating_mul(2) {
            self.cut();
        }
    }

    fn cut(&mut self) {
        // Stable: equal counts stay in the order of the users' keys.
        self.users.sort_by_key(|user| std::cmp::Reverse(user.rows.total()));
        self.users.truncate(self.max);
    }

    fn finish(mut self) -> Vec<UserDiff> {
        self.cut();
        self.users
    }
}
