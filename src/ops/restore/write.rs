//! The last step of a row: its streams put back, given to the target. Rows with streams wait in a
//! batch, so that their streams are fetched together.

use std::collections::HashMap;

use crate::base::id::ChunkId;
use crate::engine::contract::Target;
use crate::format::cell::{Cell, StreamRef};
use crate::format::node::FrameLocation;
use crate::format::wire::{Take, WireError};
use crate::ops::error::OpError;
use crate::ops::restore::rows::RowShape;
use crate::ops::restore::streams::{self, Contents, Damage, put_back, referred};
use crate::repo::reader::SnapshotReader;

/// Rows that wait at most, and bytes of their streams.
const BATCH_ROWS: usize = 256;
const BATCH_STREAM_BYTES: u64 = 8 << 20;

/// Writes sorted rows.
pub struct RowWriter<'a> {
    reader: &'a SnapshotReader<'a>,
    streams: &'a HashMap<ChunkId, Option<FrameLocation>>,
    target: &'a mut dyn Target,
    damage: &'a Damage,
    waiting: Vec<(RowShape, Vec<u8>)>,
    wanted: Vec<StreamRef>,
    wanted_bytes: u64,
}

impl<'a> RowWriter<'a> {
    /// A writer to `target`; `damage` gets what cannot be read.
    pub fn new(
        reader: &'a SnapshotReader<'a>,
        streams: &'a HashMap<ChunkId, Option<FrameLocation>>,
        target: &'a mut dyn Target,
        damage: &'a Damage,
    ) -> Self {
        let (waiting, wanted, wanted_bytes) = (Vec::new(), Vec::new(), 0);
        Self { reader, streams, target, damage, waiting, wanted, wanted_bytes }
    }

    /// Rows of the table with this position follow.
    pub fn begin_table(&mut self, table: usize) -> Result<(), OpError> {
        self.flush()?;
        Ok(self.target.table(table)?)
    }

    /// Takes a row: multiplicity, number of cells, cells. Returns how often it occurs.
    pub fn push(&mut self, shape: &RowShape, payload: &[u8]) -> Result<u64, OpError> {
        let row = SortedRow::read(payload).map_err(|error| broken(&error))?;
        let wanted = self.wanted.len();
        self.wanted.extend(referred(&row.cells));
        if self.wanted.len() == wanted && self.waiting.is_empty() {
            self.deliver(shape, &row, &Contents::new())?;
        } else {
            self.wanted_bytes += self.wanted[wanted..].iter().map(|stream| stream.len).sum::<u64>();
            self.waiting.push((shape.clone(), payload.to_vec()));
            if self.waiting.len() >= BATCH_ROWS || self.wanted_bytes >= BATCH_STREAM_BYTES {
                self.flush()?;
            }
        }
        Ok(row.multiplicity)
    }

    /// Writes the rows that wait.
    pub fn flush(&mut self) -> Result<(), OpError> {
        let wanted = std::mem::take(&mut self.wanted);
        self.wanted_bytes = 0;
        let location = |stream: &StreamRef| self.streams.get(&stream.id).copied().flatten();
        let contents = streams::fetch(self.reader, wanted, &location, self.damage)?;
        for (shape, payload) in std::mem::take(&mut self.waiting) {
            let row = SortedRow::read(&payload).map_err(|error| broken(&error))?;
            self.deliver(&shape, &row, &contents)?;
        }
        Ok(())
    }

    fn deliver(&mut self, shape: &RowShape, row: &SortedRow<'_>, contents: &Contents) -> Result<(), OpError> {
        let (mut filled, mut cells) = (Vec::new(), Vec::new());
        shape.fill(&row.cells, &mut filled);
        put_back(&mut filled, contents).map_err(|error| broken(&error))?;
        shape.deliver(&filled, &mut cells);
        for _ in 0..row.multiplicity {
            self.target.row(&cells)?;
        }
        Ok(())
    }
}

/// A row on its way from the sorter.
struct SortedRow<'p> {
    multiplicity: u64,
    cells: Vec<Cell<'p>>,
}

impl<'p> SortedRow<'p> {
    fn read(payload: &'p [u8]) -> Result<Self, WireError> {
        let mut take = Take::new(payload);
        let multiplicity = take.uv("sorted row")?;
        let count = take.count(1, "sorted row")?;
        let cells = (0..count).map(|_| Cell::read(&mut take)).collect::<Result<_, _>>()?;
        take.finish()?;
        Ok(Self { multiplicity, cells })
    }
}

pub(super) fn broken(error: &WireError) -> OpError {
    OpError::Damaged { what: "a restored row".to_owned(), reason: error.to_string() }
}
