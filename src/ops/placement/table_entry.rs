//! The catalog's entry for a table: a new one, or one carried over from the last snapshot, where the table may have had
//! another name.

use std::collections::{HashMap, HashSet};

use crate::engine::contract::{Column, Table};
use crate::format::catalog::{ColumnEntry, TableEntry, UnknownMembers, Visibility};
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
        below: Vec::new(),
        answer: None,
        labels: Vec::new(),
        unknown: UnknownMembers::new(),
    }
}

/// Every row of a new table is stored with this column, so the value for rows without it does not matter.
fn new_column(number: u32, column: &Column) -> ColumnEntry {
    column_entry(ColumnNumber::new(number, OwnedCell::new(&Cell::Null)), column)
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
        below: old.below.clone(),
        answer: old.answer,
        labels: old.labels.clone(),
        unknown: old.unknown.clone(),
    }
}

/// The columns of a table in the order of the table.
struct CarriedColumns {
    columns: Vec<ColumnEntry>,
    next_column: u32,
}

fn carry_columns(old: &TableEntry, table: &Table) -> CarriedColumns {
    let known = KnownColumns::new(old, table);
    let mut carried = CarriedColumns { columns: Vec::with_capacity(table.columns.len()), next_column: old.next_column };
    for column in &table.columns {
        let number = known.number(column).unwrap_or_else(|| carried.new_number(column));
        carried.columns.push(column_entry(number, column));
    }
    carried
}

impl CarriedColumns {
    fn new_number(&mut self, column: &Column) -> ColumnNumber {
        let number = self.next_column;
        self.next_column += 1;
        ColumnNumber::new(number, column.missing.clone())
    }
}

/// What a column keeps for ever: its number, and its value in rows that were stored without it.
struct ColumnNumber {
    number: u32,
    missing: OwnedCell,
    unknown: UnknownMembers,
}

impl ColumnNumber {
    fn new(number: u32, missing: OwnedCell) -> Self {
        Self { number, missing, unknown: UnknownMembers::new() }
    }
}

/// What is the same in two versions of a column: its name, and whether it is hidden.
type ColumnIdentity<'a> = (&'a str, bool);

fn identity(column: &Column) -> ColumnIdentity<'_> {
    (&column.name, column.hidden)
}

fn entry_identity(entry: &ColumnEntry) -> ColumnIdentity<'_> {
    (&entry.name, entry.visibility == Visibility::Hidden)
}

/// The columns of a table's entry.
struct KnownColumns<'a> {
    by_identity: HashMap<ColumnIdentity<'a>, &'a ColumnEntry>,
    /// Columns that the table does not have any more, by position.
    vanished: HashMap<u32, &'a ColumnEntry>,
}

impl<'a> KnownColumns<'a> {
    fn new(old: &'a TableEntry, table: &Table) -> Self {
        let now: HashSet<ColumnIdentity<'_>> = table.columns.iter().map(identity).collect();
        let mut known = Self { by_identity: HashMap::with_capacity(old.columns.len()), vanished: HashMap::new() };
        for entry in &old.columns {
            known.by_identity.entry(entry_identity(entry)).or_insert(entry);
            if !now.contains(&entry_identity(entry)) {
                known.vanished.entry(entry.position).or_insert(entry);
            }
        }
        known
    }

    /// The number of a column that has kept its name, or of a column that has vanished from the same position.
    fn number(&self, column: &Column) -> Option<ColumnNumber> {
        let entry = self.by_identity.get(&identity(column)).or_else(|| self.vanished.get(&column.position))?;
        Some(ColumnNumber { number: entry.number, missing: entry.missing.clone(), unknown: entry.unknown.clone() })
    }
}

fn column_entry(number: ColumnNumber, column: &Column) -> ColumnEntry {
    let ColumnNumber { number, missing, unknown } = number;
    let visibility = if column.hidden { Visibility::Hidden } else { Visibility::Declared };
    let name = column.name.clone();
    // Engines do not deliver generated columns.
    let generated = None;
    ColumnEntry { number, name, position: column.position, visibility, generated, missing, unknown }
}
