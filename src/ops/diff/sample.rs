//! Some of the rows that differ, as a person reads them.

use crate::format::catalog::TableEntry;
use crate::format::cell::Cell;
use crate::format::wire::{Take, WireError};
use crate::ops::diff::count::user_of;
use crate::ops::diff::report::{CellSample, RowChange, RowSample};
use crate::ops::readable::{cell_value, key_text};
use crate::tree::diff::TreeRow;

/// The sample of a row that is there before (`old`), after (`new`), or both.
pub fn sample(
    entry: &TableEntry,
    change: RowChange,
    old: Option<&TreeRow>,
    new: Option<&TreeRow>,
) -> Result<RowSample, WireError> {
    let owner = |row: Option<&TreeRow>| row.and_then(user_of).map(key_text);
    let (before, after) = (owner(old), owner(new));
    let row = new.or(old);
    let key =
        if entry.key.is_empty() { String::new() } else { row.map_or_else(String::new, |row| key_text(row.key())) };
    let (old_cells, new_cells) = (cells(old)?, cells(new)?);
    let mut samples = Vec::new();
    for (at, column) in entry.columns.iter().enumerate() {
        let (old, new) = (old_cells.get(at), new_cells.get(at));
        if change != RowChange::Changed || old != new {
            let (old, new) = if change == RowChange::Moved { (None, new) } else { (old, new) };
            samples.push(CellSample {
                column: column.name.clone(),
                old: old.map(cell_value),
                new: new.map(cell_value),
            });
        }
    }
    let moved = old.is_some() && new.is_some() && before != after;
    let owner = if new.is_some() { after } else { before.clone() };
    Ok(RowSample { change, key, owner, owner_before: if moved { before } else { None }, cells: samples })
}

fn cells(row: Option<&TreeRow>) -> Result<Vec<Cell<'_>>, WireError> {
    let Some(row) = row else { return Ok(Vec::new()) };
    let mut take = Take::new(&row.cells);
    let mut cells = Vec::new();
    while take.remaining() > 0 {
        cells.push(Cell::read(&mut take)?);
    }
    Ok(cells)
}
