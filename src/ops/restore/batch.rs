//! Batches of leaves of one table for a loader. Rows are decoded only when the loader asks for them.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashSet;

use crate::engine::contract::{Batch, EngineError, Mark};
use crate::format::cell::{Cell, StreamRef};
use crate::format::stream_lists::StreamHint;
use crate::format::wire::WireError;
use crate::ops::error::OpError;
use crate::ops::restore::decode::{LeafDecoder, RowConsumer, RowError, to_engine_error};
use crate::ops::restore::open_restore::OpenRestore;
use crate::ops::restore::streams::StreamLocations;
use crate::repo::reader::LeafRef;

/// If the streams of a batch have at most this many bytes, they are read before the batch goes to a loader. Otherwise
/// they are read while its rows are decoded.
const AHEAD_BYTES_MAX: u64 = 16 << 20;

/// The rows of some leaves of one table.
pub struct LeavesBatch<'a> {
    restore: &'a OpenRestore<'a>,
    table: usize,
    marks: Vec<Mark>,
    contents: Vec<Vec<u8>>,
    decoder: LeafDecoder<'a>,
    streams: Vec<StreamRef>,
    /// Positions of leaves that turned out to be damaged, so that each is reported once.
    damaged: RefCell<HashSet<usize>>,
}

/// The mark by which a target remembers a leaf. Ids are keyed hashes, so nobody can choose two that agree in these
/// bytes.
#[must_use]
pub fn mark_of(leaf: &LeafRef) -> Mark {
    *leaf.id.as_bytes().first_chunk().expect("an id is longer")
}

impl<'a> LeavesBatch<'a> {
    /// A batch without leaves.
    pub fn new(restore: &'a OpenRestore<'a>, table: usize) -> Self {
        Self {
            restore,
            table,
            marks: Vec::new(),
            contents: Vec::new(),
            decoder: LeafDecoder::new(restore, table, Cow::Owned(StreamLocations::new())),
            streams: Vec::new(),
            damaged: RefCell::default(),
        }
    }

    /// Adds a leaf.
    pub fn add(&mut self, leaf: &LeafRef, content: Vec<u8>) {
        self.marks.push(mark_of(leaf));
        self.contents.push(content);
        self.add_streams(&leaf.streams);
    }

    fn add_streams(&mut self, hints: &[StreamHint]) {
        self.streams.extend(hints.iter().map(|hint| hint.stream));
        self.decoder.add_locations(hints.iter().map(|hint| (hint.stream.id, hint.location)));
    }

    /// Reads the streams, unless they are too large to be kept in memory.
    /// Fails if the store fails. A stream that cannot be read is reported as damage.
    pub fn read_ahead(mut self) -> Result<Self, OpError> {
        let streams = std::mem::take(&mut self.streams);
        let bytes = streams.iter().fold(0u64, |sum, stream| sum.saturating_add(stream.len));
        if bytes <= AHEAD_BYTES_MAX {
            self.decoder.read_ahead(streams)?;
        }
        Ok(self)
    }

    /// Decodes a leaf. Damage is reported, and the rest of the leaf is skipped.
    fn decode_leaf(&self, at: usize, content: &[u8], each: RowConsumer<'_>) -> Result<(), EngineError> {
        match self.decoder.decode(content, each) {
            Ok(()) => Ok(()),
            Err(RowError::Content(error)) => {
                self.report_damaged(at, &error);
                Ok(())
            }
            Err(RowError::Stop(error)) => Err(error),
        }
    }

    fn report_damaged(&self, at: usize, error: &WireError) {
        if self.damaged.borrow_mut().insert(at) {
            self.restore.report_damaged_leaf(self.table, error);
        }
    }
}

impl Batch for LeavesBatch<'_> {
    fn table(&self) -> usize {
        self.table
    }

    fn marks(&self) -> &[Mark] {
        &self.marks
    }

    fn rows(&self, each: &mut dyn FnMut(&[Cell<'_>]) -> Result<(), EngineError>) -> Result<(), EngineError> {
        for (at, content) in self.contents.iter().enumerate() {
            self.restore.check_cancelled().map_err(to_engine_error)?;
            self.decode_leaf(at, content, each)?;
        }
        Ok(())
    }
}
