//! Rows out of leaves: stored cells by column number, missing ones filled in, in the target's order.

use crate::engine::contract::{TargetColumn, TargetTable};
use crate::format::catalog::{TableEntry, Visibility};
use crate::format::cell::{Cell, OwnedCell};

/// How the rows of a table are laid out in leaves and for the target.
#[derive(Clone, Debug)]
pub struct RowShape {
    /// Per live column, ascending by number: its number and what a row without it holds.
    columns: Vec<(usize, OwnedCell)>,
    /// Positions in `columns` in the order of the source's delivery.
    delivery: Vec<usize>,
}

impl RowShape {
    /// The shape of a table's rows.
    #[must_use]
    pub fn new(entry: &TableEntry) -> Self {
        let columns =
            entry.columns.iter().map(|column| (column.number as usize, column.missing.clone())).collect::<Vec<_>>();
        let mut delivery: Vec<usize> = (0..columns.len()).collect();
        delivery.sort_by_key(|&at| {
            let column = &entry.columns[at];
            (column.visibility == Visibility::Hidden, column.position, column.number)
        });
        Self { columns, delivery }
    }

    /// The cells of all live columns, ascending by number, from those that are stored.
    pub fn fill<'c>(&'c self, stored: &[Cell<'c>], out: &mut Vec<Cell<'c>>) {
        out.clear();
        out.extend(self.columns.iter().map(|(number, missing)| match stored.get(*number) {
            Some(cell) => *cell,
            None => missing.get(),
        }));
    }

    /// The same cells in the order in which the target gets them.
    pub fn deliver<'c>(&self, cells: &[Cell<'c>], out: &mut Vec<Cell<'c>>) {
        out.clear();
        out.extend(self.delivery.iter().map(|&at| cells[at]));
    }

    /// The table as the target needs to know it.
    #[must_use]
    pub fn target(&self, entry: &TableEntry) -> TargetTable {
        let columns = self
            .delivery
            .iter()
            .map(|&at| &entry.columns[at])
            .map(|column| TargetColumn { name: column.name.clone(), hidden: column.visibility == Visibility::Hidden });
        let place = |number: &u32| self.delivery.iter().position(|&at| entry.columns[at].number == *number);
        let key = entry.key.iter().filter_map(place).collect();
        TargetTable { name: entry.name.clone(), columns: columns.collect(), key }
    }
}
