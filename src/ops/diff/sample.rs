//! Readable samples of the rows that differ.

use crate::format::catalog::TableEntry;
use crate::format::cell::Cell;
use crate::format::wire::{Take, WireError};
use crate::ops::diff::count::user_of;
use crate::ops::diff::report::{CellSample, RowChange, RowSample};
use crate::ops::diff::user_names::UserNames;
use crate::ops::readable::{cell_value, key_text};
use crate::tree::diff::TreeRow;

/// Makes the sample of a row that exists in the older snapshot (`old`), in the newer one (`new`), or in both.
/// Fails if the cells of a row cannot be decoded.
pub fn sample(
    entry: &TableEntry,
    change: RowChange,
    old: Option<&TreeRow>,
    new: Option<&TreeRow>,
    users: &UserNames,
) -> Result<RowSample, WireError> {
    let before = old.and_then(user_of).map(|user| users.text(user));
    let after = new.and_then(user_of).map(|user| users.text(user));
    let key = if entry.key.is_empty() { None } else { new.or(old).map(|row| key_text(row.key())) };
    let has_moved = old.is_some() && new.is_some() && before != after;
    Ok(RowSample {
        change,
        key: key.unwrap_or_default(),
        owner: if new.is_some() { after } else { before.clone() },
        owner_before: if has_moved { before } else { None },
        cells: cell_samples(entry, change, &cells(old)?, &cells(new)?),
    })
}

/// For a changed row, the cells that differ. For other changes, all cells.
fn cell_samples(entry: &TableEntry, change: RowChange, old: &[Cell<'_>], new: &[Cell<'_>]) -> Vec<CellSample> {
    let mut samples = Vec::new();
    for (at, column) in entry.columns.iter().enumerate() {
        if change == RowChange::Changed && old.get(at) == new.get(at) {
            continue;
        }
        // A moved row has the same cells on both sides.
        let old = old.get(at).filter(|_| change != RowChange::Moved);
        samples.push(CellSample {
            column: column.name.to_string(),
            old: old.map(cell_value),
            new: new.get(at).map(cell_value),
        });
    }
    samples
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
