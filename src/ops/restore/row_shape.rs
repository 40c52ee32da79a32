//! Converts stored rows into rows for the target: takes cells by column number, fills in missing ones, and puts them in
//! the target's order.

use crate::engine::contract::{TargetColumn, TargetTable};
use crate::format::catalog::{ColumnEntry, TableEntry, Visibility};
use crate::format::cell::{Cell, OwnedCell};

/// How the rows of a table are laid out in leaves and for the target.
#[derive(Clone, Debug)]
pub struct RowShape {
    /// Per live column, ascending by number: the number, and the column's value in rows that were stored without it.
    columns: Vec<(usize, OwnedCell)>,
    /// Positions in `columns`, in the order in which the source delivers cells.
    delivery: Vec<usize>,
}

impl RowShape {
    /// The shape of a table's rows.
    #[must_use]
    pub fn new(entry: &TableEntry) -> Self {
        let missing = |column: &ColumnEntry| (column.number as usize, column.missing.clone());
        let columns = entry.columns.iter().map(missing).collect();
        Self { columns, delivery: delivery_order(&entry.columns) }
    }

    /// Fills `out` with the cells of all live columns, ascending by number.
    pub fn fill<'c>(&'c self, stored: &[Cell<'c>], out: &mut Vec<Cell<'c>>) {
        out.clear();
        for (number, missing) in &self.columns {
            let cell = stored.get(*number).copied();
            out.push(cell.unwrap_or_else(|| missing.get()));
        }
    }

    /// Fills `out` with these cells in the target's order.
    pub fn deliver<'c>(&self, cells: &[Cell<'c>], out: &mut Vec<Cell<'c>>) {
        out.clear();
        out.extend(self.delivery.iter().map(|&at| cells[at]));
    }

    /// The description of the table for the target.
    #[must_use]
    pub fn target_table(&self, entry: &TableEntry) -> TargetTable {
        let columns: Vec<&ColumnEntry> = self.delivery.iter().map(|&at| &entry.columns[at]).collect();
        let key = entry.key.iter().filter_map(|number| position(&columns, *number)).collect();
        let columns = columns.into_iter().map(target_column).collect();
        TargetTable { name: entry.name.clone(), columns, key }
    }
}

fn position(columns: &[&ColumnEntry], number: u32) -> Option<usize> {
    columns.iter().position(|column| column.number == number)
}

/// Positions of columns in the order in which the source delivers cells.
fn delivery_order(columns: &[ColumnEntry]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..columns.len()).collect();
    order.sort_by_key(|&at| {
        let column = &columns[at];
        (column.visibility == Visibility::Hidden, column.position, column.number)
    });
    order
}

fn target_column(column: &ColumnEntry) -> TargetColumn {
    TargetColumn { name: column.name.clone(), hidden: column.visibility == Visibility::Hidden }
}
