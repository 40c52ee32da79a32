//! Restores into a target that wants rows in order: by table as the snapshot lists them, then by hidden rowid or key,
//! so that the target appends instead of searching. All leaves are read and their rows sorted before the target gets
//! them. Rows pass through the sorter in their stored form. Their streams are put back afterwards.

use std::borrow::Cow;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::base::pipeline::{both_or_first_cause, join, spawn};
use crate::base::progress::CountUnit;
use crate::engine::contract::Target;
use crate::format::catalog::{TableEntry, Visibility};
use crate::format::cell::Cell;
use crate::format::key::push_component;
use crate::format::leaf::{LeafBuilder, LeafRows, write_row};
use crate::format::wire::WireError;
use crate::ops::error::OpError;
use crate::ops::restore::decode::{LeafDecoder, RowError};
use crate::ops::restore::open_restore::{OpenRestore, TableLeaf};
use crate::ops::restore::streams::StreamLocations;
use crate::repo::reader::LeafRef;
use crate::sort::{Merge, Sorter, SpillError};

/// Memory of the sorter that brings rows into the target's order.
const SORTER_BYTES: usize = 32 << 20;
/// The most leaves that are read but not sorted yet.
const QUEUE: usize = 64;
/// The most sorted rows that are passed to the target together, and the most bytes of these.
const BATCH_ROWS: u64 = 1024;
const BATCH_BYTES: usize = 1 << 20;

/// Passes all rows to the target. Returns the number of rows that each table got.
/// Fails if the store, the target or a temporary file fails, or the restore is cancelled. Damaged leaves are reported
/// and left out.
pub fn restore(restore: &OpenRestore<'_>, target: &mut dyn Target) -> Result<Vec<u64>, OpError> {
    let SortedRows { merge, locations } = sort(restore)?;
    restore.options.progress.phase("writing", CountUnit::Rows, None);
    SortedWriter::new(restore, &locations, target).write(merge)
}

/// All rows in the target's order.
struct SortedRows {
    merge: Merge,
    locations: StreamLocations,
}

/// The content of a leaf.
struct LeafContent {
    table: usize,
    bytes: Vec<u8>,
}

/// Reads all leaves of the chosen tables and sorts their rows. Leaves that cannot be read are reported and skipped.
fn sort(restore: &OpenRestore<'_>) -> Result<SortedRows, OpError> {
    restore.options.progress.phase("reading", CountUnit::Rows, Some(restore.rows()));
    std::thread::scope(|scope| {
        let (contents, queue) = sync_channel(QUEUE);
        let sorter = spawn(scope, "sort", move || sort_rows(restore, &queue));
        let fetched = fetch_all(restore, &contents);
        drop(contents);
        let (merge, locations) = both_or_first_cause(join(sorter), fetched)?;
        Ok(SortedRows { merge, locations })
    })
}

/// Passes all leaves to the sorter. Returns the locations of their streams.
fn fetch_all(restore: &OpenRestore<'_>, contents: &SyncSender<LeafContent>) -> Result<StreamLocations, OpError> {
    let mut locations = StreamLocations::new();
    for table in 0..restore.entries.len() {
        restore.list_leaves(table, &mut |leaves| {
            note_locations(&leaves, &mut locations);
            fetch(restore, &table_leaves(table, leaves), contents)
        })?;
    }
    Ok(locations)
}

fn note_locations(leaves: &[LeafRef], locations: &mut StreamLocations) {
    for place in leaves.iter().flat_map(|leaf| &leaf.streams) {
        locations.insert(place.stream.id, place.location);
    }
}

fn table_leaves(table: usize, leaves: Vec<LeafRef>) -> Vec<TableLeaf> {
    leaves.into_iter().map(|leaf| TableLeaf { table, leaf }).collect()
}

fn fetch(restore: &OpenRestore<'_>, leaves: &[TableLeaf], contents: &SyncSender<LeafContent>) -> Result<(), OpError> {
    restore.fetch_leaves(leaves, &mut |TableLeaf { table, leaf }, bytes| {
        restore.check_cancelled()?;
        restore.options.progress.add(CountUnit::Rows, leaf.rows);
        contents.send(LeafContent { table: *table, bytes }).map_err(|_| OpError::Cancelled)
    })
}

/// Decodes leaves and sorts their rows into the target's order.
fn sort_rows(restore: &OpenRestore<'_>, queue: &Receiver<LeafContent>) -> Result<Merge, OpError> {
    let mut sorting = RowSorting::new(restore);
    while let Ok(content) = queue.recv() {
        sorting.add_leaf(&content)?;
    }
    Ok(sorting.sorter.finish()?)
}

struct RowSorting<'a> {
    restore: &'a OpenRestore<'a>,
    sorter: Sorter,
    /// Per table.
    order_columns: Vec<Vec<usize>>,
    key: Vec<u8>,
    row: Vec<u8>,
}

impl<'a> RowSorting<'a> {
    fn new(restore: &'a OpenRestore<'a>) -> Self {
        Self {
            restore,
            sorter: Sorter::new(restore.spill_options(SORTER_BYTES)),
            order_columns: restore.entries.iter().map(|entry| order_columns(entry)).collect(),
            key: Vec::new(),
            row: Vec::new(),
        }
    }
}

impl RowSorting<'_> {
    /// Adds the rows of a leaf, up to the point where it is damaged.
    fn add_leaf(&mut self, content: &LeafContent) -> Result<(), OpError> {
        match self.push_rows(content) {
            Ok(pushed) => Ok(pushed?),
            Err(error) => {
                self.restore.report_damaged_leaf(content.table, &error);
                Ok(())
            }
        }
    }

    /// The outer error is about the leaf, the inner one comes from the sorter.
    fn push_rows(&mut self, content: &LeafContent) -> Result<Result<(), SpillError>, WireError> {
        let shape = &self.restore.shapes[content.table];
        let mut rows = LeafRows::new(&content.bytes)?;
        let mut stored = Vec::new();
        let mut cells = Vec::new();
        while let Some(row) = rows.next_row(&mut stored)? {
            shape.fill(&stored, &mut cells);
            self.write_key(content.table, &cells);
            self.write_row(stored.len(), row.multiplicity, row.bytes);
            if let Err(error) = self.sorter.push(&self.key, &self.row) {
                return Ok(Err(error));
            }
        }
        Ok(Ok(()))
    }

    /// Sets `row` to a row in its stored form.
    fn write_row(&mut self, cell_count: usize, multiplicity: u64, cells: &[u8]) {
        self.row.clear();
        write_row(&mut self.row, cell_count, multiplicity, cells);
    }

    fn write_key(&mut self, table: usize, cells: &[Cell<'_>]) {
        self.key.clear();
        write_order_key(&mut self.key, table, &self.order_columns[table], cells);
    }
}

/// Writes sorted rows to the target in batches.
struct SortedWriter<'a, 't> {
    restore: &'a OpenRestore<'a>,
    locations: &'a StreamLocations,
    target: &'t mut dyn Target,
    /// Number of tables that were announced to the target. Waiting rows belong to the last of them.
    begun: usize,
    batch: LeafBuilder,
    /// Per table.
    restored: Vec<u64>,
}

impl<'a, 't> SortedWriter<'a, 't> {
    fn new(restore: &'a OpenRestore<'a>, locations: &'a StreamLocations, target: &'t mut dyn Target) -> Self {
        let batch = LeafBuilder::default();
        let restored = vec![0; restore.entries.len()];
        Self { restore, locations, target, begun: 0, batch, restored }
    }
}

impl SortedWriter<'_, '_> {
    fn write(mut self, mut merge: Merge) -> Result<Vec<u64>, OpError> {
        while let Some((key, row)) = merge.next()? {
            self.begin_tables(table_of(key) + 1)?;
            self.add(row)?;
        }
        self.begin_tables(self.restore.entries.len())?;
        self.write_batch()?;
        Ok(self.restored)
    }

    /// A batch has the form of a leaf with one group.
    fn add(&mut self, row: &[u8]) -> Result<(), OpError> {
        self.batch.push(0, &[], row);
        if self.is_batch_full() { self.write_batch() } else { Ok(()) }
    }

    fn is_batch_full(&self) -> bool {
        self.batch.row_count() >= BATCH_ROWS || self.batch.row_bytes() >= BATCH_BYTES
    }

    /// Announces tables to the target until it knows `count` of them. Before that, all rows of earlier tables are
    /// written.
    fn begin_tables(&mut self, count: usize) -> Result<(), OpError> {
        while self.begun < count {
            self.write_batch()?;
            self.target.table(self.begun)?;
            self.begun += 1;
        }
        Ok(())
    }

    fn write_batch(&mut self) -> Result<(), OpError> {
        if self.batch.row_count() == 0 {
            return Ok(());
        }
        self.restore.check_cancelled()?;
        let table = self.begun - 1;
        let content = self.batch.finish();
        let rows = self.write_rows(table, &content).map_err(write_error)?;
        self.count(table, rows);
        Ok(())
    }

    fn count(&mut self, table: usize, rows: u64) {
        self.restored[table] += rows;
        self.restore.options.progress.add(CountUnit::Rows, rows);
    }

    fn write_rows(&mut self, table: usize, content: &[u8]) -> Result<u64, RowError> {
        let decoder = LeafDecoder::new(self.restore, table, Cow::Borrowed(self.locations));
        let mut rows = 0;
        decoder.decode(content, &mut |cells| {
            rows += 1;
            self.target.row(cells)
        })?;
        Ok(rows)
    }
}

fn write_error(error: RowError) -> OpError {
    match error {
        RowError::Stop(error) => OpError::from_engine(error),
        RowError::Content(error) => OpError::Damaged { what: "a restored row".to_owned(), reason: error.to_string() },
    }
}

/// The columns that order a table's rows, as positions among its columns by number.
fn order_columns(entry: &TableEntry) -> Vec<usize> {
    match entry.columns.iter().position(|column| column.visibility == Visibility::Hidden) {
        Some(hidden) => vec![hidden],
        None => entry.key.iter().filter_map(|number| position(entry, *number)).collect(),
    }
}

fn position(entry: &TableEntry, number: u32) -> Option<usize> {
    entry.columns.iter().position(|column| column.number == number)
}

/// Appends the sort key of a row of a table.
fn write_order_key(key: &mut Vec<u8>, table: usize, columns: &[usize], cells: &[Cell<'_>]) {
    key.extend_from_slice(&(table as u32).to_be_bytes());
    for &column in columns {
        push_component(key, &cells[column]);
    }
}

/// The table in a sort key.
fn table_of(key: &[u8]) -> usize {
    u32::from_be_bytes(*key.first_chunk().expect("a sort key begins with the table")) as usize
}

#[cfg(test)]
mod tests {
    use super::{table_of, write_order_key};
    use crate::format::cell::Cell;

    #[test]
    fn rows_are_ordered_by_table_before_key() {
        let key = |table, n| {
            let mut out = Vec::new();
            write_order_key(&mut out, table, &[0], &[Cell::Integer(n)]);
            out
        };
        assert!(key(1, 500) < key(2, -1) && key(2, -1) < key(2, 7));
        assert_eq!(table_of(&key(7, 1)), 7);
    }
}
