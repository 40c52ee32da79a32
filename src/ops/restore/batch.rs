//! Leaves of one table on their way to a loader, as rows: decoded when they are asked for, with their streams put back.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

use crate::base::id::ChunkId;
use crate::engine::contract::{Batch, Mark, SinkError, SourceError};
use crate::format::cell::{Cell, StreamRef};
use crate::format::leaf::LeafRows;
use crate::format::node::FrameLocation;
use crate::format::wire::WireError;
use crate::ops::error::OpError;
use crate::ops::restore::reading::OpenRestore;
use crate::ops::restore::streams::{self, Contents, put_back, referred};
use crate::repo::reader::LeafRef;

/// Streams of a batch that are read before it goes to a loader; of more they are read as its rows come up.
const AHEAD_BYTES_MAX: u64 = 16 << 20;
/// Rows that wait for their streams at most, and bytes of these.
const WAITING_ROWS: usize = 256;
const WAITING_BYTES: u64 = 8 << 20;

/// Rows of some leaves.
pub struct LeavesBatch<'a> {
    reading: &'a OpenRestore<'a>,
    table: usize,
    marks: Vec<Mark>,
    contents: Vec<Vec<u8>>,
    locations: HashMap<ChunkId, Option<FrameLocation>>,
    stream_bytes: u64,
    ahead: Option<Contents>,
    /// Leaves that turned out to be damaged, so that each is named once.
    damaged: RefCell<HashSet<usize>>,
}

/// How a target remembers a leaf. Ids are keyed hashes: nobody can choose two that agree in these bytes.
#[must_use]
pub fn mark_of(leaf: &LeafRef) -> Mark {
    *leaf.id.as_bytes().first_chunk().expect("an id is longer")
}

impl<'a> LeavesBatch<'a> {
    /// Nothing of this table yet.
    pub fn new(reading: &'a OpenRestore<'a>, table: usize) -> Self {
        Self {
            reading,
            table,
            marks: Vec::new(),
            contents: Vec::new(),
            locations: HashMap::new(),
            stream_bytes: 0,
            ahead: None,
            damaged: RefCell::default(),
        }
    }

    /// One more leaf.
    pub fn add(&mut self, leaf: &LeafRef, content: Vec<u8>) {
        self.marks.push(mark_of(leaf));
        self.contents.push(content);
        self.stream_bytes += leaf.streams.iter().map(|place| place.stream.len).sum::<u64>();
        self.locations.extend(leaf.streams.iter().map(|place| (place.stream.id, place.location)));
    }

    /// Reads the streams, unless they are too many to be kept.
    pub fn read_ahead(&mut self, leaves: &[&LeafRef]) -> Result<(), OpError> {
        let wanted: Vec<StreamRef> = leaves.iter().flat_map(|leaf| &leaf.streams).map(|place| place.stream).collect();
        self.ahead = Some(match wanted.is_empty() {
            true => Contents::new(),
            false if self.stream_bytes > AHEAD_BYTES_MAX => return Ok(()),
            false => self.fetch(wanted)?,
        });
        Ok(())
    }

    fn fetch(&self, wanted: Vec<StreamRef>) -> Result<Contents, OpError> {
        let location = |stream: &StreamRef| self.locations.get(&stream.id).copied().flatten();
        streams::fetch(self.reading.reader, wanted, &location, &self.reading.damage)
    }

    fn leaf_rows(&self, content: &[u8], each: Each<'_>) -> Result<(), RowError> {
        let mut leaf = LeafRows::new(content)?;
        let shape = &self.reading.shapes[self.table];
        let (mut stored, mut waiting, mut wanted) = (Vec::new(), Vec::new(), Vec::new());
        if let Some(contents) = &self.ahead {
            let (mut filled, mut cells) = (Vec::new(), Vec::new());
            while let Some(row) = leaf.next_row(&mut stored)? {
                shape.fill(&stored, &mut filled);
                put_back(&mut filled, contents)?;
                shape.deliver(&filled, &mut cells);
                (0..row.multiplicity).try_for_each(|_| each(&cells)).map_err(RowError::Stop)?;
            }
            return Ok(());
        }
        let mut wanted_bytes = 0;
        while let Some(row) = leaf.next_row(&mut stored)? {
            for stream in referred(&stored) {
                wanted_bytes += stream.len;
                wanted.push(stream);
            }
            waiting.push((std::mem::take(&mut stored), row.multiplicity));
            if waiting.len() >= WAITING_ROWS || wanted_bytes >= WAITING_BYTES {
                self.give_waiting(&mut waiting, std::mem::take(&mut wanted), each)?;
                wanted_bytes = 0;
            }
        }
        self.give_waiting(&mut waiting, wanted, each)
    }

    fn give_waiting(
        &self,
        waiting: &mut Vec<(Vec<Cell<'_>>, u64)>,
        wanted: Vec<StreamRef>,
        each: Each<'_>,
    ) -> Result<(), RowError> {
        let contents = self.fetch(wanted).map_err(|error| RowError::Stop(passed_on(error)))?;
        waiting.drain(..).try_for_each(|(cells, multiplicity)| self.give(&cells, multiplicity, &contents, each))
    }

    fn give(
        &self,
        stored: &[Cell<'_>],
        multiplicity: u64,
        contents: &Contents,
        each: Each<'_>,
    ) -> Result<(), RowError> {
        let shape = &self.reading.shapes[self.table];
        let (mut filled, mut cells) = (Vec::with_capacity(stored.len()), Vec::with_capacity(stored.len()));
        shape.fill(stored, &mut filled);
        put_back(&mut filled, contents)?;
        shape.deliver(&filled, &mut cells);
        (0..multiplicity).try_for_each(|_| each(&cells)).map_err(RowError::Stop)
    }
}

type Each<'e> = &'e mut dyn FnMut(&[Cell<'_>]) -> Result<(), SourceError>;

enum RowError {
    /// The leaf is damaged from here on.
    Leaf(WireError),
    /// Nothing goes on.
    Stop(SourceError),
}

impl From<WireError> for RowError {
    fn from(error: WireError) -> Self {
        Self::Leaf(error)
    }
}

/// An error of this floor on its way through a target.
fn passed_on(error: OpError) -> SourceError {
    SourceError::Sink(Box::new(error) as SinkError)
}

impl Batch for LeavesBatch<'_> {
    fn table(&self) -> usize {
        self.table
    }

    fn marks(&self) -> &[Mark] {
        &self.marks
    }

    fn rows(&self, each: &mut dyn FnMut(&[Cell<'_>]) -> Result<(), SourceError>) -> Result<(), SourceError> {
        for (at, content) in self.contents.iter().enumerate() {
            if self.reading.options.cancel.is_cancelled() {
                return Err(passed_on(OpError::Cancelled));
            }
            match self.leaf_rows(content, each) {
                Ok(()) => {}
                Err(RowError::Stop(error)) => return Err(error),
                Err(RowError::Leaf(error)) => {
                    if self.damaged.borrow_mut().insert(at) {
                        let name = &self.reading.entries[self.table].name;
                        self.reading.damage.add(name, &format!("rows of a leaf are left out: it {error}"));
                    }
                }
            }
        }
        Ok(())
    }
}
