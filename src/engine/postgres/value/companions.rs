//! Cells that a row has beside those of its columns.

use crate::format::cell::Cell;

/// Cells after those of a table's columns: how parents write some of them.
#[derive(Clone, Default)]
pub(crate) struct Companions {
    /// Columns of the table.
    pub(crate) after: usize,
    /// Positions of the cells that they are companions of.
    pub(crate) of: Vec<usize>,
}

impl Companions {
    /// Lets what has no parent, or was not asked for, be the row's own.
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
