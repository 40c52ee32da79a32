//! Rows of both sides in one form: cells by the newer side's columns, defaults filled in, and a key made
//! by the same rule on both.

use std::collections::BTreeSet;

use crate::base::id::ChunkId;
use crate::crypto::ids::SourceIdKeys;
use crate::format::catalog::TableEntry;
use crate::format::cell::{Cell, OwnedCell, StreamForm, StreamRef};
use crate::format::key::{limit_key, push_component};
use crate::format::leaf::{LeafRow, LeafRows};
use crate::format::wire::WireError;
use crate::tree::diff::TreeRow;

/// Whether chunk ids of the two sides can be compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IdComparison {
    /// Of one epoch.
    Comparable,
    /// Of two: values that are stored as streams are compared by their length.
    Foreign,
}

/// Whether both sides' leaves hold rows in an order that their common keys follow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    Common,
    /// Rows have to be sorted before they can be compared.
    None,
}

/// How the rows of one side become comparable.
pub struct Shape<'a> {
    keys: &'a SourceIdKeys,
    ids: IdComparison,
    order: Order,
    /// Compared columns, ascending: number, and what a row without it holds.
    columns: Vec<(usize, OwnedCell)>,
    /// Positions in `columns` of the key.
    key: Vec<usize>,
}

/// Whether rows of these two entries of one table lie in one order.
#[must_use]
pub fn order(old: &TableEntry, new: &TableEntry, ids: IdComparison) -> Order {
    let numbers = |entry: &TableEntry| entry.columns.iter().map(|column| column.number).collect::<BTreeSet<_>>();
    // A row without a key is placed by the hash of its stored cells.
    let same_rule = old.key == new.key && (!new.key.is_empty() || numbers(old) == numbers(new));
    if same_rule && ids == IdComparison::Comparable { Order::Common } else { Order::None }
}

impl<'a> Shape<'a> {
    /// The shape of rows that `own` describes, to be compared by the columns and key of `common`. Both
    /// sides get the same `keys`.
    #[must_use]
    pub fn new(
        own: &TableEntry,
        common: &TableEntry,
        keys: &'a SourceIdKeys,
        (ids, order): (IdComparison, Order),
    ) -> Self {
        let columns: Vec<(usize, OwnedCell)> = common
            .columns
            .iter()
            .map(|column| {
                let missing = own.column(column.number).unwrap_or(column).missing.clone();
                (column.number as usize, missing)
            })
            .collect();
        let key = common
            .key
            .iter()
            .filter_map(|number| columns.iter().position(|column| column.0 == *number as usize))
            .collect();
        Self { keys, ids, order, columns, key }
    }

    /// Decodes a leaf, its rows appended to `out`.
    pub fn read(&self, content: &[u8], out: &mut impl Extend<TreeRow>) -> Result<(), WireError> {
        let mut rows = LeafRows::new(content)?;
        let mut stored = Vec::new();
        while let Some(row) = rows.next_row(&mut stored)? {
            out.extend([self.row(&row, &stored)]);
        }
        Ok(())
    }

    fn row(&self, row: &LeafRow<'_>, stored: &[Cell<'_>]) -> TreeRow {
        let mut cells = Vec::with_capacity(row.bytes.len() + 8);
        let mut place = Vec::with_capacity(1 + row.owner.len() + 32);
        place.push(row.class);
        place.extend_from_slice(row.owner);
        let mut key = Vec::new();
        let filled: Vec<Cell<'_>> = self
            .columns
            .iter()
            .map(|(number, missing)| stored.get(*number).copied().unwrap_or_else(|| missing.get()))
            .map(|cell| self.comparable(cell))
            .collect();
        filled.iter().for_each(|cell| cell.write(&mut cells));
        self.key.iter().for_each(|&at| push_component(&mut key, &filled[at]));
        if self.key.is_empty() {
            let hashed = if self.order == Order::Common { row.bytes } else { &cells };
            key.extend_from_slice(&self.keys.row_hash(hashed));
        }
        limit_key(&mut key, |bytes| self.keys.row_hash(bytes));
        place.extend_from_slice(&key);
        TreeRow { place, owner_len: row.owner.len(), cells, multiplicity: row.multiplicity }
    }

    fn comparable<'c>(&self, cell: Cell<'c>) -> Cell<'c> {
        match cell {
            Cell::Stream(kind, stream) if self.ids == IdComparison::Foreign => {
                // Where a stream is cut follows from the epoch's keys, so even whether it is has nothing to say.
                let (form, id) = (StreamForm::List, ChunkId::new([0; 20]));
                Cell::Stream(kind, StreamRef { form, id, len: stream.len })
            }
            other => other,
        }
    }
}
