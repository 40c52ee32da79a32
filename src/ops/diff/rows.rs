//! Converts the rows of both sides to one form: the columns of the newer side with defaults filled in, and a key that
//! is built by the same rule on both sides.

use std::collections::BTreeSet;

use crate::base::id::ChunkId;
use crate::crypto::ids::SourceIdKeys;
use crate::format::catalog::TableEntry;
use crate::format::cell::{Cell, OwnedCell, StreamForm, StreamRef};
use crate::format::key::{limit_key, push_component};
use crate::format::leaf::{LeafRow, LeafRows};
use crate::format::wire::WireError;
use crate::repo::ledger::SnapshotRecord;
use crate::tree::diff::TreeRow;

/// Whether the chunk ids of the two sides can be compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IdComparison {
    /// Both sides have the same epoch.
    Comparable,
    /// The epochs differ. Values that are stored as streams are compared only by their length.
    Foreign,
}

impl IdComparison {
    /// Compares the epochs of two snapshots.
    #[must_use]
    pub fn of(old: &SnapshotRecord, new: &SnapshotRecord) -> Self {
        if old.snapshot.epoch == new.snapshot.epoch { Self::Comparable } else { Self::Foreign }
    }
}

/// Whether the leaves of both sides hold their rows in the order of the common keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    Common,
    /// The rows must be sorted before they can be compared.
    None,
}

/// How the rows of both sides are compared.
#[derive(Clone, Copy)]
pub struct RowRule<'a> {
    /// Used for both sides, so that row hashes are comparable.
    pub keys: &'a SourceIdKeys,
    pub ids: IdComparison,
    pub order: Order,
}

/// Converts the rows of one side to the comparable form.
pub struct Shape<'a> {
    rule: RowRule<'a>,
    /// The compared columns, in the order of their numbers.
    columns: Vec<SharedColumn>,
    /// Positions of the key's columns in `columns`.
    key: Vec<usize>,
}

/// A column that is compared.
struct SharedColumn {
    number: usize,
    /// The value of a row that has no cell for the column.
    missing: OwnedCell,
}

/// Whether the rows of these two entries of one table are stored in the same order.
#[must_use]
pub fn order(old: &TableEntry, new: &TableEntry, ids: IdComparison) -> Order {
    // A row without a key is placed by the hash of its stored cells.
    let same_rule = old.key == new.key && (!new.key.is_empty() || column_numbers(old) == column_numbers(new));
    if same_rule && ids == IdComparison::Comparable { Order::Common } else { Order::None }
}

fn column_numbers(entry: &TableEntry) -> BTreeSet<u32> {
    entry.columns.iter().map(|column| column.number).collect()
}

impl<'a> Shape<'a> {
    /// Creates the shape of rows that `own` describes. They are compared by the columns and the key of `common`.
    #[must_use]
    pub fn new(own: &TableEntry, common: &TableEntry, rule: RowRule<'a>) -> Self {
        let mut columns = Vec::new();
        for column in &common.columns {
            let missing = own.column(column.number).unwrap_or(column).missing.clone();
            columns.push(SharedColumn { number: column.number as usize, missing });
        }
        let position = |number: &u32| columns.iter().position(|column| column.number == *number as usize);
        let key = common.key.iter().filter_map(position).collect();
        Self { rule, columns, key }
    }

    /// Decodes a leaf and appends its rows to `out`.
    /// Fails if the content is not a leaf. Rows before the damage are already in `out`.
    pub fn read(&self, content: &[u8], out: &mut impl Extend<TreeRow>) -> Result<(), WireError> {
        let mut rows = LeafRows::new(content)?;
        let mut stored = Vec::new();
        while let Some(row) = rows.next_row(&mut stored)? {
            out.extend([self.row(&row, &stored)]);
        }
        Ok(())
    }

    fn row(&self, row: &LeafRow<'_>, stored: &[Cell<'_>]) -> TreeRow {
        let mut filled = Vec::with_capacity(self.columns.len());
        let mut cells = Vec::with_capacity(row.bytes.len() + 8);
        for column in &self.columns {
            let cell = stored.get(column.number).copied().unwrap_or_else(|| column.missing.get());
            let cell = self.comparable(cell);
            cell.write(&mut cells);
            filled.push(cell);
        }
        let hashed = if self.rule.order == Order::Common { row.bytes } else { &cells };
        let mut place = Vec::with_capacity(1 + row.owner.len() + 32);
        place.push(row.class);
        place.extend_from_slice(row.owner);
        place.extend_from_slice(&self.row_key(&filled, hashed));
        TreeRow { place, owner_len: row.owner.len(), cells, multiplicity: row.multiplicity }
    }

    /// Builds the key of a row from its cells. If the table has no key, the key is a hash of `hashed`.
    fn row_key(&self, cells: &[Cell<'_>], hashed: &[u8]) -> Vec<u8> {
        let mut key = Vec::new();
        for &at in &self.key {
            push_component(&mut key, &cells[at]);
        }
        if self.key.is_empty() {
            key.extend_from_slice(&self.rule.keys.row_hash(hashed));
        }
        limit_key(&mut key, |bytes| self.rule.keys.row_hash(bytes));
        key
    }

    fn comparable<'c>(&self, cell: Cell<'c>) -> Cell<'c> {
        match cell {
            Cell::Stream(kind, stream) if self.rule.ids == IdComparison::Foreign => {
                // The epoch's keys decide where a stream is cut, so even the form of the stream says nothing.
                let id = ChunkId::new([0; 20]);
                Cell::Stream(kind, StreamRef { form: StreamForm::List, id, len: stream.len })
            }
            other => other,
        }
    }
}
