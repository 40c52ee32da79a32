//! A session that loads rows: how rows are sent, and what the result means.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio_postgres::types::ToSql;

use crate::base::pipeline::lock;
use crate::engine::contract::{Batch, EngineError};
use crate::engine::postgres::connect::client::CopyIn;
use crate::engine::postgres::restore::fault::ServerFault;
use crate::engine::postgres::restore::large_objects::PageBuffer;
use crate::engine::postgres::restore::restore_progress;
use crate::engine::postgres::restore::session::TargetSession;
use crate::engine::postgres::restore::table_plan::{CopyFormat, CopyPlan, LoadPlan, PreparedStatements};
use crate::engine::postgres::value::copy_encoder::{push_line, push_tuple};
use crate::engine::postgres::value::field_encoder::{CopyFit, EncodeTarget};
use crate::engine::postgres::value::parameter::Parameter;
use crate::format::cell::Cell;

/// Refused rows that are reported one by one, per table.
const ROWS_NAMED_MAX: u64 = 20;

/// State shared by the loaders of a restore.
pub(super) struct LoadContext {
    pub(super) tables: Vec<LoadPlan>,
    /// Bytes per page of the source's large objects.
    pub(super) large_object_page: u32,
    /// Number of rows refused so far, by table.
    refused: Mutex<HashMap<usize, u64>>,
}

impl LoadContext {
    pub(super) fn new(tables: Vec<LoadPlan>, large_object_page: u32) -> Self {
        Self { tables, large_object_page, refused: Mutex::default() }
    }

    /// Counts one more refused row. Returns whether to report it by its key.
    pub(super) fn count_refused(&self, table: usize) -> RowNaming {
        let mut refused = lock(&self.refused);
        let count = refused.entry(table).or_default();
        *count += 1;
        if *count <= ROWS_NAMED_MAX { RowNaming::Named } else { RowNaming::Counted }
    }
}

/// Whether a refused row is reported by its key or only counted.
#[derive(PartialEq, Eq)]
pub(super) enum RowNaming {
    Named,
    Counted,
}

/// The result of an attempt to load rows.
pub(super) enum LoadOutcome {
    /// The number of rows loaded.
    Loaded(u64),
    Refused {
        reason: String,
    },
    /// Other sessions hold locks: retry the whole transaction.
    Retry,
}

/// Why rows were not loaded.
pub(super) enum LoadFailure {
    Server(tokio_postgres::Error),
    /// A value that no server accepts.
    Value(String),
    /// Other sessions hold locks: retry the whole transaction.
    Retry,
    /// The restore cannot continue.
    Fatal(EngineError),
}

impl From<tokio_postgres::Error> for LoadFailure {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Server(error)
    }
}

impl From<EngineError> for LoadFailure {
    fn from(error: EngineError) -> Self {
        Self::Fatal(error)
    }
}

/// A session that loads rows.
pub(super) struct LoadSession {
    pub(super) session: TargetSession,
    pub(super) context: Arc<LoadContext>,
    prepared: PreparedStatements,
}

impl LoadSession {
    /// A session with no prepared statements.
    pub(super) fn new(session: TargetSession, context: Arc<LoadContext>) -> Self {
        Self { session, context, prepared: PreparedStatements::default() }
    }

    /// The server and session that rows are encoded for.
    pub(super) fn encode_target(&self) -> EncodeTarget {
        self.session.server.encode
    }

    /// Runs our own SQL around the rows.
    /// Fails if the SQL fails. This ends the restore.
    pub(super) fn execute(&self, sql: &str, plan: &LoadPlan) -> Result<(), EngineError> {
        self.session.execute(&doing(plan), sql)
    }

    /// Marks a batch as loaded and commits its transaction.
    /// Fails if one of these statements fails. This ends the restore.
    pub(super) fn commit(&mut self, batch: &dyn Batch, plan: &LoadPlan) -> Result<(), EngineError> {
        let marks = batch.marks().concat();
        let committed = self.mark_and_commit(&plan.name, &marks);
        committed.map_err(|error| self.session.fatal(&error, &doing(plan)))
    }

    fn mark_and_commit(&mut self, table: &str, marks: &[u8]) -> Result<(), tokio_postgres::Error> {
        let statement = self.prepared.get(&self.session.client, restore_progress::MARK_BATCH)?;
        self.session.client.attempt_statement(&statement, &[&table, &marks])?;
        self.session.client.attempt("COMMIT")
    }

    /// Classifies the result of loading rows.
    /// Fails if the restore cannot continue: the session is lost, the server shuts down or is out of resources, or a
    /// row could not be read from the snapshot.
    pub(super) fn outcome(
        &self,
        result: Result<u64, LoadFailure>,
        plan: &LoadPlan,
    ) -> Result<LoadOutcome, EngineError> {
        match result {
            Ok(rows) => Ok(LoadOutcome::Loaded(rows)),
            Err(LoadFailure::Value(reason)) => Ok(LoadOutcome::Refused { reason }),
            Err(LoadFailure::Retry) => Ok(LoadOutcome::Retry),
            Err(LoadFailure::Fatal(error)) => Err(error),
            Err(LoadFailure::Server(error)) => self.outcome_of_error(&error, plan),
        }
    }

    fn outcome_of_error(&self, error: &tokio_postgres::Error, plan: &LoadPlan) -> Result<LoadOutcome, EngineError> {
        match self.session.classify(error, &doing(plan)) {
            ServerFault::Fatal(error) => Err(error),
            ServerFault::Refused { reason, .. } => Ok(LoadOutcome::Refused { reason }),
            ServerFault::Retry => Ok(LoadOutcome::Retry),
        }
    }

    /// Starts the COPY of a table.
    /// Fails if the server refuses the COPY or the session is lost.
    pub(super) fn begin_copy(&mut self, copy: &CopyPlan) -> Result<CopyIn<'_>, LoadFailure> {
        let client = &self.session.client;
        let statement = self.prepared.get(client, &copy.copy_sql)?;
        Ok(client.copy_in(&statement)?)
    }

    /// Copies encoded rows.
    /// Fails if the server refuses the COPY or one of its rows, or the session is lost.
    pub(super) fn copy_encoded(&mut self, rows: Bytes, copy: &CopyPlan) -> Result<u64, LoadFailure> {
        let mut sink = self.begin_copy(copy)?;
        let header = Bytes::from_static(copy.format.header());
        let trailer = Bytes::from_static(copy.format.trailer());
        for part in [header, rows, trailer] {
            if !part.is_empty() {
                sink.send(part)?;
            }
        }
        Ok(sink.finish()?)
    }

    /// Inserts a row with its values as parameters.
    /// Fails if a value cannot be encoded, the server refuses the row, or the session is lost.
    pub(super) fn insert(&mut self, cells: &[Cell<'_>], copy: &CopyPlan) -> Result<u64, LoadFailure> {
        let statement = self.prepared.get(&self.session.client, &copy.insert_sql)?;
        let place = self.encode_target();
        let columns = cells.iter().zip(&copy.kinds);
        let values: Vec<Parameter<'_>> =
            columns.map(|(cell, kind)| Parameter { cell: *cell, kind: *kind, target: place }).collect();
        let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| value as _).collect();
        Ok(self.session.client.attempt_statement(&statement, &values)?)
    }

    /// Writes one page of a large object.
    /// `cells` are a row of the large object table.
    /// Fails if they are not, the server refuses the page, or the session is lost.
    pub(super) fn put_page(&mut self, cells: &[Cell<'_>]) -> Result<u64, LoadFailure> {
        let mut page = PageBuffer::new(self.context.large_object_page);
        page.add(cells).map_err(LoadFailure::Value)?;
        page.write(&self.session.client)?;
        Ok(page.written())
    }
}

fn doing(plan: &LoadPlan) -> String {
    format!("loading {}", plan.name)
}

/// Appends a row in the format of the COPY.
/// Fails if a value is one that no server accepts, or the row is too long.
pub(super) fn encode_row(
    out: &mut Vec<u8>,
    cells: &[Cell<'_>],
    copy: &CopyPlan,
    target: EncodeTarget,
) -> Result<CopyFit, LoadFailure> {
    let fit = match copy.format {
        CopyFormat::Binary => push_tuple(out, cells, &copy.kinds, target),
        CopyFormat::Text => push_line(out, cells, &copy.kinds, target),
    };
    fit.map_err(|error| LoadFailure::Value(error.to_string()))
}

/// Passes the rows of a batch to `each` until one fails.
/// Fails with the first failure of `each`, or if a row cannot be read.
pub(super) fn for_each_row(
    batch: &dyn Batch,
    each: &mut dyn FnMut(&[Cell<'_>]) -> Result<(), LoadFailure>,
) -> Result<(), LoadFailure> {
    let mut failed = None;
    let given = batch.rows(&mut |cells| {
        each(cells).map_err(|failure| {
            failed = Some(failure);
            EngineError::Sink("a row failed".into())
        })
    });
    match failed {
        Some(failure) => Err(failure),
        None => Ok(given?),
    }
}
