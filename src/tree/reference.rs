//! References: the rows of a tree of references. A reference tells an owner of a row that is placed with another owner.
//! Its cells are the row's table and placement key, by which a reader finds the row in its tree.

use crate::format::cell::Cell;
use crate::format::key::push_component;
use crate::tree::leaf_cutter::{RowPayload, Streams};

/// A reference to a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RowReference<'a> {
    table: u32,
    placement_key: &'a [u8],
}

impl<'a> RowReference<'a> {
    /// A reference to the row of `table` with this placement key.
    #[must_use]
    pub fn new(table: u32, placement_key: &'a [u8]) -> Self {
        Self { table, placement_key }
    }

    /// The reference with these cells. `None` if they are not the cells of a reference.
    #[must_use]
    pub fn of_cells(cells: &[Cell<'a>]) -> Option<Self> {
        let [Cell::Integer(table), Cell::Bytes(placement_key)] = *cells else { return None };
        Some(Self { table: u32::try_from(table).ok()?, placement_key })
    }

    fn table_cell(&self) -> Cell<'static> {
        Cell::Integer(i64::from(self.table))
    }

    /// Its key within its owner, with its full length: the table, then the row.
    #[must_use]
    pub fn key(&self) -> Vec<u8> {
        let mut key = Vec::with_capacity(self.placement_key.len() + 9);
        push_component(&mut key, &self.table_cell());
        key.extend_from_slice(self.placement_key);
        key
    }

    /// Appends its payload for the external sort.
    pub fn write_payload(&self, owner_len: u16, out: &mut Vec<u8>) {
        let mut cells = Vec::with_capacity(self.placement_key.len() + 12);
        self.table_cell().write(&mut cells);
        Cell::Bytes(self.placement_key).write(&mut cells);
        RowPayload { cell_count: 2, cells: &cells, owner_len, streams: Streams::None }.write(out);
    }
}

#[cfg(test)]
mod tests {
    use super::RowReference;
    use crate::format::cell::Cell;
    use crate::format::key::push_component;

    #[test]
    fn references_of_an_owner_are_in_the_order_of_tables_then_of_rows() {
        let keys = [(2, &b"\x20a"[..]), (2, b"\x30"), (3, b"\x10"), (300, b"\x10")];
        let keys = keys.map(|(table, placement_key)| RowReference::new(table, placement_key).key());
        assert!(keys.is_sorted());
        let mut first = Vec::new();
        push_component(&mut first, &Cell::Integer(2));
        assert_eq!(keys[0], [&first[..], b"\x20a"].concat());
    }

    #[test]
    fn only_a_table_number_and_a_placement_key_are_a_reference() {
        let key = Cell::Bytes(b"\x10key");
        assert_eq!(RowReference::of_cells(&[Cell::Integer(7), key]), Some(RowReference::new(7, b"\x10key")));
        for cells in [&[Cell::Integer(-1), key][..], &[Cell::Integer(1 << 32), key], &[key, key], &[Cell::Integer(7)]] {
            assert_eq!(RowReference::of_cells(cells), None);
        }
    }
}
