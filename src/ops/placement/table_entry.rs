//! The catalog's entry for a table: a new one, or one carried over from the last snapshot, where the table may have had
//! another name.

use crate::engine::contract::{Column, Table};
use crate::format::catalog::{ColumnEntry, TableEntry, Visibility};
use crate::format::cell::{Cell, OwnedCell};
use crate::format::manifest::Layout;

/// The entry of a new table.
pub fn new_entry(number: u32, table: &Table) -> TableEntry {
    let columns: Vec<ColumnEntry> =
        (0u32..).zip(&table.columns).map(|(number, column)| new_column(number, column)).collect();
    TableEntry {
        number,
        name: table.name.clone(),
        oid: table.oid,
        next_column: columns.len() as u32,
        columns,
        key: table.key.iter().map(|&at| at as u32).collect(),
        layout: Layout::Owner,
        paths: Vec::new(),
        rows_per_leaf: None,
    }
}

/// Every row of a new table is stored with this column, so the value for rows without it does not matter.
fn new_column(number: u32, column: &Column) -> ColumnEntry {
    let missing = OwnedCell::new(&Cell::Null);
    column_entry(ColumnNumber { number, missing }, column)
}

/// The entry of a table that had one before. Columns keep their numbers; new columns get the next ones.
pub fn carry_entry(old: &TableEntry, table: &Table) -> TableEntry {
    let CarriedColumns { mut columns, next_column } = carry_columns(old, table);
    let key = table.key.iter().map(|&at| columns[at].number).collect();
    columns.sort_by_key(|column| column.number);
    TableEntry {
        number: old.number,
        name: table.name.clone(),
        oid: table.oid,
        columns,
        next_column,
        key,
        layout: old.layout,
        paths: old.paths.clone(),
        rows_per_leaf: old.rows_per_leaf,
    }
}

/// The columns of a table in the order of the table.
struct CarriedColumns {
    columns: Vec<ColumnEntry>,
    next_column: u32,
}

fn carry_columns(old: &TableEntry, table: &Table) -> CarriedColumns {
    let mut carried = CarriedColumns { columns: Vec::with_capacity(table.columns.len()), next_column: old.next_column };
    for column in &table.columns {
        let number = known_number(old, table, column).unwrap_or_else(|| carried.new_number(column));
        carried.columns.push(column_entry(number, column));
    }
    carried
}

impl CarriedColumns {
    fn new_number(&mut self, column: &Column) -> ColumnNumber {
        let number = self.next_column;
        self.next_column += 1;
        ColumnNumber { number, missing: column.missing.clone() }
    }
}

/// A column's number, and its value in rows that were stored without it.
struct ColumnNumber {
    number: u32,
    missing: OwnedCell,
}

/// The number of a column that has kept its name, or of a column that has vanished from the same position.
fn known_number(old: &TableEntry, table: &Table, column: &Column) -> Option<ColumnNumber> {
    let mut columns = old.columns.iter();
    let same_name = columns.find(|entry| is_same(entry, column));
    let entry = same_name.or_else(|| renamed_column(old, table, column))?;
    Some(ColumnNumber { number: entry.number, missing: entry.missing.clone() })
}

fn renamed_column<'e>(old: &'e TableEntry, table: &Table, column: &Column) -> Option<&'e ColumnEntry> {
    let mut columns = old.columns.iter();
    columns.find(|entry| entry.position == column.position && has_vanished(entry, table))
}

fn is_same(entry: &ColumnEntry, column: &Column) -> bool {
    entry.name == column.name && (entry.visibility == Visibility::Hidden) == column.hidden
}

fn has_vanished(entry: &ColumnEntry, table: &Table) -> bool {
    !table.columns.iter().any(|column| is_same(entry, column))
}

fn column_entry(number: ColumnNumber, column: &Column) -> ColumnEntry {
    let ColumnNumber { number, missing } = number;
    let visibility = if column.hidden { Visibility::Hidden } else { Visibility::Declared };
    ColumnEntry { number, name: column.name.clone(), position: column.position, visibility, missing }
}
