//! Extra cells of a row, after the cells of its columns.

use crate::format::cell::Cell;

/// Cells after the cells of a table's columns: the values of some foreign key columns as the parent rows store them.
#[derive(Clone, Default)]
pub(crate) struct ParentValueCells {
    /// Number of columns of the table.
    pub(crate) after: usize,
    /// Positions of the columns that have a parent value, in the order of these cells.
    pub(crate) of: Vec<usize>,
}

impl ParentValueCells {
    /// Fills in the row's own value for parent values that are NULL (there is no parent) or were not selected.
    pub(crate) fn complete(&self, cells: &mut Vec<Cell<'_>>) {
        for (at, &own) in (self.after..).zip(&self.of) {
            match cells.get(at) {
                None => cells.push(cells[own]),
                Some(Cell::Null) => cells[at] = cells[own],
                Some(_) => {}
            }
        }
    }
}
