//! Loads batches. Each batch is one transaction with a COPY of its rows and the marks that record it. If the server
//! refuses the COPY, [`load_accepted_rows`] loads the batch without the rows that caused the refusal.

use std::sync::Arc;

use bytes::Bytes;

use crate::engine::contract::{Batch, EngineError, Loader};
use crate::engine::postgres::connect::client::{Client, CopyIn};
use crate::engine::postgres::restore::large_objects::PageBuffer;
use crate::engine::postgres::restore::load_session::{
    LoadContext, LoadFailure, LoadOutcome, LoadSession, encode_row, for_each_row,
};
use crate::engine::postgres::restore::refused_rows::load_accepted_rows;
use crate::engine::postgres::restore::session::TargetSession;
use crate::engine::postgres::restore::table_plan::{CopyPlan, LoadMethod, LoadPlan};
use crate::engine::postgres::value::field_encoder::CopyFit;
use crate::engine::postgres::value::field_encoder::EncodeTarget;
use crate::format::cell::Cell;

/// Bytes of rows that are sent together.
const CHUNK_BYTES: usize = 256 << 10;
/// Number of attempts to load a batch that meets deadlocks or lock conflicts.
const TRIES_MAX: u32 = 10;

/// Loads batches in one session.
pub(super) struct PostgresLoader {
    load: LoadSession,
}

impl PostgresLoader {
    /// A loader of these tables that uses this session.
    pub(super) fn new(session: TargetSession, context: Arc<LoadContext>) -> Self {
        Self { load: LoadSession::new(session, context) }
    }

    /// Runs the transaction of a batch. Returns the number of rows loaded, or `None` if it must be retried.
    fn transaction(&mut self, batch: &dyn Batch, plan: &LoadPlan) -> Result<Option<u64>, EngineError> {
        let mut outcome = self.load_all(batch, plan)?;
        if let LoadOutcome::Refused { .. } = outcome {
            self.load.session.rollback()?;
            outcome = self.load_accepted(batch, plan)?;
        }
        if let LoadOutcome::Loaded(rows) = outcome {
            self.load.commit(batch, plan)?;
            return Ok(Some(rows));
        }
        self.load.session.rollback()?;
        Ok(None)
    }

    fn write_pages(&self, batch: &dyn Batch) -> Result<u64, LoadFailure> {
        let client = &self.load.session.client;
        let mut pages = PageBuffer::new(self.load.context.large_object_page);
        for_each_row(batch, &mut |cells| add_page(&mut pages, cells, client))?;
        pages.write(client)?;
        Ok(pages.written())
    }

    fn load_all(&mut self, batch: &dyn Batch, plan: &LoadPlan) -> Result<LoadOutcome, EngineError> {
        self.load.execute("BEGIN", plan)?;
        let loaded = match &plan.method {
            LoadMethod::Copy(copy) => self.copy(batch, copy),
            LoadMethod::LargeObjects => self.write_pages(batch),
            LoadMethod::Refused(_) => Ok(0),
        };
        self.load.outcome(loaded, plan)
    }

    fn load_accepted(&mut self, batch: &dyn Batch, plan: &LoadPlan) -> Result<LoadOutcome, EngineError> {
        self.load.execute("BEGIN", plan)?;
        let loaded = load_accepted_rows(&mut self.load, batch, plan);
        self.load.outcome(loaded, plan)
    }

    /// Copies all rows, then inserts the rows that COPY cannot carry.
    fn copy(&mut self, batch: &dyn Batch, copy: &CopyPlan) -> Result<u64, LoadFailure> {
        let target = self.load.encode_target();
        let mut stream = CopyStream::new(self.load.begin_copy(copy)?, copy, target);
        for_each_row(batch, &mut |cells| stream.push(cells))?;
        let (copied, left_over) = stream.finish()?;
        Ok(copied + self.insert_rows(batch, copy, &left_over)?)
    }

    /// Inserts the rows with these numbers.
    fn insert_rows(&mut self, batch: &dyn Batch, copy: &CopyPlan, rows: &[u64]) -> Result<u64, LoadFailure> {
        let mut inserted = 0;
        let mut rows = rows.iter().copied().peekable();
        if rows.peek().is_none() {
            return Ok(inserted);
        }
        let mut number = 0;
        for_each_row(batch, &mut |cells| {
            if rows.next_if_eq(&number).is_some() {
                inserted += self.load.insert(cells, copy)?;
            }
            number += 1;
            Ok(())
        })?;
        Ok(inserted)
    }
}

/// The rows of a batch on their way into a COPY.
struct CopyStream<'a> {
    sink: CopyIn<'a>,
    copy: &'a CopyPlan,
    target: EncodeTarget,
    chunk: Vec<u8>,
    /// Number of the next row.
    number: u64,
    /// Numbers of the rows that COPY cannot carry.
    left_over: Vec<u64>,
}

impl<'a> CopyStream<'a> {
    fn new(sink: CopyIn<'a>, copy: &'a CopyPlan, target: EncodeTarget) -> Self {
        let mut chunk = new_chunk();
        chunk.extend_from_slice(copy.format.header());
        Self { sink, copy, target, chunk, number: 0, left_over: Vec::new() }
    }

    fn push(&mut self, cells: &[Cell<'_>]) -> Result<(), LoadFailure> {
        if encode_row(&mut self.chunk, cells, self.copy, self.target)? == CopyFit::Unfit {
            self.left_over.push(self.number);
        }
        self.number += 1;
        if self.chunk.len() >= CHUNK_BYTES {
            self.send_chunk()?;
        }
        Ok(())
    }

    fn send_chunk(&mut self) -> Result<(), LoadFailure> {
        let full = std::mem::replace(&mut self.chunk, new_chunk());
        self.sink.send(Bytes::from(full))?;
        Ok(())
    }

    /// Returns how many rows were copied, and the numbers of the rows that were not.
    fn finish(mut self) -> Result<(u64, Vec<u64>), LoadFailure> {
        self.chunk.extend_from_slice(self.copy.format.trailer());
        self.sink.send(Bytes::from(self.chunk))?;
        let copied = self.sink.finish()?;
        Ok((copied, self.left_over))
    }
}

fn new_chunk() -> Vec<u8> {
    Vec::with_capacity(CHUNK_BYTES * 2)
}

fn add_page(pages: &mut PageBuffer, cells: &[Cell<'_>], client: &Client) -> Result<(), LoadFailure> {
    pages.add(cells).map_err(LoadFailure::Value)?;
    if pages.is_full() {
        pages.write(client)?;
    }
    Ok(())
}

impl Loader for PostgresLoader {
    fn load(&mut self, batch: &dyn Batch) -> Result<u64, EngineError> {
        let context = Arc::clone(&self.load.context);
        let plan = &context.tables[batch.table()];
        if matches!(plan.method, LoadMethod::Refused(_)) {
            // The whole table was already recorded as refused.
            return Ok(0);
        }
        for _ in 0..TRIES_MAX {
            if let Some(rows) = self.transaction(batch, plan)? {
                return Ok(rows);
            }
        }
        let reason = "other sessions hold locks on it; every attempt failed".to_owned();
        Err(EngineError::Failed { doing: format!("loading {}", plan.name), reason })
    }
}
