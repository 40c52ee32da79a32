//! Into which order restored rows are brought before the target gets them: by table as the snapshot
//! lists them, then by hidden rowid or integer key, so that a target appends instead of searching.

use crate::format::catalog::{TableEntry, Visibility};
use crate::format::cell::Cell;
use crate::format::key::push_component;

/// The columns, as positions among the table's columns by number, that order its rows.
#[must_use]
pub fn order_columns(entry: &TableEntry) -> Vec<usize> {
    let hidden = entry.columns.iter().position(|column| column.visibility == Visibility::Hidden);
    match hidden {
        Some(at) => vec![at],
        None => entry
            .key
            .iter()
            .filter_map(|number| entry.columns.iter().position(|column| column.number == *number))
            .collect(),
    }
}

/// Appends the sort key of a row of the `table`-th table.
pub fn order_key(out: &mut Vec<u8>, table: u32, columns: &[usize], cells: &[Cell<'_>]) {
    out.extend_from_slice(&table.to_be_bytes());
    columns.iter().for_each(|&at| push_component(out, &cells[at]));
}

#[cfg(test)]
mod tests {
    use super::order_key;
    use crate::format::cell::Cell;

    #[test]
    fn tables_come_before_keys() {
        let key = |table, n| {
            let mut out = Vec::new();
            order_key(&mut out, table, &[0], &[Cell::Integer(n)]);
            out
        };
        assert!(key(1, 500) < key(2, -1) && key(2, -1) < key(2, 7));
    }
}
