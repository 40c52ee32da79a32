//! References: the rows of a tree of references. A reference tells an owner of a row that is placed with another owner.
//! Its cells are the row's table and key.

use crate::format::cell::Cell;
use crate::format::key::push_component;
use crate::tree::payload::{RowPayload, Streams};

/// A reference to a row.
#[derive(Clone, Copy, Debug)]
pub struct RowReference<'a> {
    table: i64,
    row_key: &'a [u8],
}

impl<'a> RowReference<'a> {
    /// A reference to the row of `table` with this key.
    #[must_use]
    pub fn new(table: u32, row_key: &'a [u8]) -> Self {
        Self { table: i64::from(table), row_key }
    }

    /// The reference with these cells. `None` if they are not the cells of a reference.
    #[must_use]
    pub fn of_cells(cells: &[Cell<'a>]) -> Option<Self> {
        let [Cell::Integer(table), Cell::Bytes(row_key)] = *cells else { return None };
        Some(Self { table, row_key })
    }

    /// Its key within its owner, with its full length: the table, then the row.
    #[must_use]
    pub fn key(&self) -> Vec<u8> {
        let mut key = Vec::with_capacity(self.row_key.len() + 9);
        push_component(&mut key, &Cell::Integer(self.table));
        key.extend_from_slice(self.row_key);
        key
    }

    /// Appends its payload for the external sort.
    pub fn write_payload(&self, owner_len: u16, out: &mut Vec<u8>) {
        let mut cells = Vec::with_capacity(self.row_key.len() + 12);
        Cell::Integer(self.table).write(&mut cells);
        Cell::Bytes(self.row_key).write(&mut cells);
        RowPayload { cell_count: 2, cells: &cells, owner_len, streams: Streams::None }.write(out);
    }
}
