//! Decodes leaves into rows as a target takes them: missing cells are filled in, streams are put back, and all cells
//! are in the order of the target's columns. Every restored row passes through here.
//!
//! Rows wait for their streams, so that the streams of several rows are fetched together. Limits for the waiting rows
//! and for the bytes of their streams keep memory small. Rows never overtake each other.

use std::borrow::Cow;

use crate::base::id::ChunkId;
use crate::engine::contract::{EngineError, SinkError};
use crate::format::catalog::TableEntry;
use crate::format::cell::{Cell, StreamRef};
use crate::format::leaf::LeafRows;
use crate::format::node::FrameLocation;
use crate::format::wire::WireError;
use crate::ops::error::OpError;
use crate::ops::restore::open_restore::OpenRestore;
use crate::ops::restore::row_shape::RowShape;
use crate::ops::restore::streams::{self, Damage, StreamContents, StreamLocations, put_back, referred};

/// The most rows that wait for their streams, and the most bytes of these streams.
const WAITING_ROWS: usize = 256;
const WAITING_BYTES: u64 = 8 << 20;

/// Takes one row at a time.
pub type RowConsumer<'e> = &'e mut dyn FnMut(&[Cell<'_>]) -> Result<(), EngineError>;

/// Why decoding ended early.
pub enum RowError {
    /// The content is damaged from here on.
    Content(WireError),
    /// The consumer or the store failed.
    Stop(EngineError),
}

impl From<WireError> for RowError {
    fn from(error: WireError) -> Self {
        Self::Content(error)
    }
}

/// Decodes rows of one table.
pub struct LeafDecoder<'a> {
    restore: &'a OpenRestore<'a>,
    table: usize,
    shape: &'a RowShape,
    locations: Cow<'a, StreamLocations>,
    /// The content of all streams, if it was read ahead.
    contents: Option<StreamContents>,
}

/// A row as it is stored.
#[derive(Default)]
struct StoredRow<'c> {
    cells: Vec<Cell<'c>>,
    multiplicity: u64,
}

impl<'a> LeafDecoder<'a> {
    /// A decoder that reads streams at these locations.
    pub fn new(restore: &'a OpenRestore<'a>, table: usize, locations: Cow<'a, StreamLocations>) -> Self {
        Self { restore, table, shape: &restore.shapes[table], locations, contents: None }
    }

    /// Adds locations of streams.
    pub fn add_locations(&mut self, more: impl Iterator<Item = (ChunkId, Option<FrameLocation>)>) {
        self.locations.to_mut().extend(more);
    }

    /// Reads all streams of the leaves that will be decoded, so that no row has to wait.
    /// Fails as [`streams::fetch`] does.
    pub fn read_ahead(&mut self, wanted: Vec<StreamRef>) -> Result<(), OpError> {
        self.contents = Some(self.fetch(wanted)?);
        Ok(())
    }

    fn fetch(&self, wanted: Vec<StreamRef>) -> Result<StreamContents, OpError> {
        if wanted.is_empty() {
            return Ok(StreamContents::new());
        }
        streams::fetch(self.restore.reader, wanted, &self.locations, &self.restore.damage)
    }

    /// Passes each row of a leaf to `consumer`, as often as the table contains it.
    /// Fails if the content is damaged (the rows before the damage have been passed), if `consumer` fails, or if the
    /// store fails.
    pub fn decode(&self, content: &[u8], consumer: RowConsumer<'_>) -> Result<(), RowError> {
        let fetch = |streams| self.fetch(streams);
        let entry = &self.restore.entries[self.table];
        let damage = &self.restore.damage;
        let decoding = RowDecoding { entry, shape: self.shape, damage, ahead: self.contents.as_ref(), fetch: &fetch };
        decoding.decode(content, consumer)
    }
}

/// Reads streams.
type StreamFetch<'f> = &'f dyn Fn(Vec<StreamRef>) -> Result<StreamContents, OpError>;

/// Decodes one leaf.
struct RowDecoding<'a> {
    entry: &'a TableEntry,
    shape: &'a RowShape,
    damage: &'a Damage,
    /// The content of all streams, if it was read ahead.
    ahead: Option<&'a StreamContents>,
    fetch: StreamFetch<'a>,
}

impl RowDecoding<'_> {
    fn decode(&self, content: &[u8], consumer: RowConsumer<'_>) -> Result<(), RowError> {
        let mut waiting = WaitingRows::default();
        match self.rows(content, &mut waiting, consumer) {
            Err(RowError::Stop(error)) => Err(RowError::Stop(error)),
            // The rows before damage are intact.
            decoded => self.deliver_waiting(&mut waiting, consumer).and(decoded),
        }
    }

    /// Decodes rows. The last ones are left in `waiting`.
    fn rows<'c>(
        &self,
        content: &'c [u8],
        waiting: &mut WaitingRows<'c>,
        consumer: RowConsumer<'_>,
    ) -> Result<(), RowError> {
        let no_contents = StreamContents::new();
        let mut leaf = LeafRows::new(content)?;
        let mut row = StoredRow::default();
        let mut delivery = RowDelivery::new(self, self.ahead.unwrap_or(&no_contents));
        while let Some(header) = leaf.next_row(&mut row.cells)? {
            row.multiplicity = header.multiplicity;
            if self.ahead.is_some() || waiting.lets_pass(&row) {
                delivery.deliver(&row, consumer)?;
                continue;
            }
            waiting.push(std::mem::take(&mut row));
            if waiting.is_full() {
                self.deliver_waiting(waiting, consumer)?;
            }
        }
        Ok(())
    }

    /// Counts values that the source could not read, in the cells of all live columns.
    fn count_lost(&self, cells: &[Cell<'_>], times: u64) {
        for (column, cell) in self.entry.columns.iter().zip(cells) {
            if matches!(cell, Cell::Lost) {
                self.damage.add_lost(&self.entry.name, &column.name, times);
            }
        }
    }

    fn deliver_waiting(&self, waiting: &mut WaitingRows<'_>, consumer: RowConsumer<'_>) -> Result<(), RowError> {
        let WaitingRows { rows, streams, .. } = std::mem::take(waiting);
        let contents = (self.fetch)(streams).map_err(|error| RowError::Stop(to_engine_error(error)))?;
        let mut delivery = RowDelivery::new(self, &contents);
        rows.iter().try_for_each(|row| delivery.deliver(row, consumer))
    }
}

/// Rows that wait until their streams are fetched.
#[derive(Default)]
struct WaitingRows<'c> {
    rows: Vec<StoredRow<'c>>,
    streams: Vec<StreamRef>,
    stream_bytes: u64,
}

impl<'c> WaitingRows<'c> {
    /// Whether a row can be delivered at once: it needs no streams and overtakes no other row.
    fn lets_pass(&self, row: &StoredRow<'_>) -> bool {
        self.rows.is_empty() && referred(&row.cells).next().is_none()
    }

    fn push(&mut self, row: StoredRow<'c>) {
        for stream in referred(&row.cells) {
            self.stream_bytes = self.stream_bytes.saturating_add(stream.len);
            self.streams.push(stream);
        }
        self.rows.push(row);
    }

    fn is_full(&self) -> bool {
        self.rows.len() >= WAITING_ROWS || self.stream_bytes >= WAITING_BYTES
    }
}

/// Converts stored rows to the form that a target takes. Reuses its buffers.
struct RowDelivery<'c> {
    decoding: &'c RowDecoding<'c>,
    contents: &'c StreamContents,
    filled: Vec<Cell<'c>>,
    cells: Vec<Cell<'c>>,
}

impl<'c> RowDelivery<'c> {
    fn new(decoding: &'c RowDecoding<'c>, contents: &'c StreamContents) -> Self {
        Self { decoding, contents, filled: Vec::new(), cells: Vec::new() }
    }

    fn deliver(&mut self, row: &StoredRow<'c>, consumer: RowConsumer<'_>) -> Result<(), RowError> {
        let shape = self.decoding.shape;
        shape.fill(&row.cells, &mut self.filled);
        self.decoding.count_lost(&self.filled, row.multiplicity);
        put_back(&mut self.filled, self.contents)?;
        shape.deliver(&self.filled, &mut self.cells);
        for _ in 0..row.multiplicity {
            consumer(&self.cells).map_err(RowError::Stop)?;
        }
        Ok(())
    }
}

/// Wraps an error so that it can pass through a target. [`OpError::from_engine`] unwraps it.
pub fn to_engine_error(error: OpError) -> EngineError {
    EngineError::Sink(Box::new(error) as SinkError)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{RowDecoding, RowError};
    use crate::base::id::ChunkId;
    use crate::format::catalog::TableEntry;
    use crate::format::cell::{Cell, OwnedCell, StreamForm, StreamKind, StreamRef};
    use crate::format::leaf::{LeafBuilder, write_row};
    use crate::ops::restore::row_shape::RowShape;
    use crate::ops::restore::streams::Damage;

    fn table() -> TableEntry {
        let column = json!({"number": 0, "name": "a", "position": 0, "missing": "AA=="});
        serde_json::from_value(json!({
            "number": 1, "name": "t", "oid": null, "columns": [column], "next_column": 1, "key": [], "layout": "owner",
            "paths": [], "rows_per_leaf": null,
        }))
        .expect("a table")
    }

    fn stream(n: u8) -> StreamRef {
        StreamRef { form: StreamForm::Piece, id: ChunkId::new([n; 20]), len: 9 }
    }

    /// A leaf of a row without a stream and three with one.
    fn leaf() -> Vec<u8> {
        let cells = [Cell::Integer(7)].into_iter().chain([1, 2, 3].map(|n| Cell::Stream(StreamKind::Bytes, stream(n))));
        let mut leaf = LeafBuilder::default();
        for cell in cells {
            let mut bytes = Vec::new();
            cell.write(&mut bytes);
            let mut row = Vec::new();
            write_row(&mut row, 1, 1, &bytes);
            leaf.push(0, b"", &row);
        }
        leaf.finish()
    }

    #[test]
    fn rows_before_damage_are_delivered_even_if_they_wait_for_streams() {
        let whole = leaf();
        let entry = table();
        let shape = RowShape::new(&entry);
        let damage = Damage::default();
        let fetch = |streams: Vec<StreamRef>| Ok(streams.iter().map(|stream| (stream.id, vec![5; 9])).collect());
        let decoding = RowDecoding { entry: &entry, shape: &shape, damage: &damage, ahead: None, fetch: &fetch };
        for (content, expected) in [(&whole[..], 4), (&whole[..whole.len() - 1], 3)] {
            let mut rows = Vec::new();
            let decoded = decoding.decode(content, &mut |cells| {
                rows.push(OwnedCell::new(&cells[0]));
                Ok(())
            });
            assert_eq!(matches!(decoded, Err(RowError::Content(_))), expected < 4);
            let delivered = [Cell::Integer(7)].into_iter().chain([Cell::Bytes(&[5; 9]); 3]).take(expected);
            assert_eq!(rows, delivered.map(|cell| OwnedCell::new(&cell)).collect::<Vec<_>>());
        }
    }
}
