//! Loads batches: a transaction for each, with a COPY of its rows and the mark that they are in. If the server refuses
//! it, `pick` finds the rows that are to blame.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio_postgres::types::ToSql;

use crate::engine::contract::{Batch, Loader, SourceError};
use crate::engine::postgres::connect::client::Client;
use crate::engine::postgres::restore::fault::{ServerFault, fatal, judge};
use crate::engine::postgres::restore::items::rollback;
use crate::engine::postgres::restore::large_objects::PageBuffer;
use crate::engine::postgres::restore::ledger;
use crate::engine::postgres::restore::refused_rows::pick;
use crate::engine::postgres::restore::server::TargetServer;
use crate::engine::postgres::restore::table_plan::{Copy, Form, LoadMethod, LoadPlan, PreparedStatements};
use crate::engine::postgres::value::encode::{BinaryFit, EncodeTarget, RowForm, push_line, push_tuple};
use crate::engine::postgres::value::parameter::Parameter;
use crate::format::cell::Cell;

/// Bytes that are sent in one go.
const CHUNK_BYTES: usize = 256 << 10;
/// Refused rows that are named one by one, per table.
const ROWS_NAMED_MAX: u64 = 20;
/// How often a batch that met a deadlock is tried again.
const TRIES: u32 = 10;

/// What the loaders of a restore have in common.
pub(super) struct LoadContext {
    pub(super) server: TargetServer,
    pub(super) tables: Vec<LoadPlan>,
    /// Rows that were refused so far, by table.
    refused: Mutex<HashMap<usize, u64>>,
}

impl LoadContext {
    pub(super) fn new(server: TargetServer, tables: Vec<LoadPlan>) -> Self {
        Self { server, tables, refused: Mutex::default() }
    }

    /// How to name a refused row, if it is still named.
    fn refuse(&self, table: usize) -> RowNaming {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let count = refused.entry(table).or_default();
        *count += 1;
        if *count <= ROWS_NAMED_MAX { RowNaming::Named } else { RowNaming::Counted }
    }
}

/// Whether a refused row is named.
#[derive(PartialEq, Eq)]
pub(super) enum RowNaming {
    Named,
    Counted,
}

/// A session that loads.
pub(super) struct PostgresLoader {
    client: Client,
    loading: Arc<LoadContext>,
    prepared: PreparedStatements,
}

/// What came of an attempt to load some rows.
pub(super) enum Loaded {
    Rows(u64),
    Refused { reason: String },
    Again,
}

/// Why rows did not go in.
pub(super) enum LoadFailure {
    Server(tokio_postgres::Error),
    /// A value that no server takes.
    Value(String),
    /// Others hold locks: the whole transaction is to be tried again.
    Again,
    /// Nothing goes on.
    Stop(SourceError),
}

impl From<tokio_postgres::Error> for LoadFailure {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Server(error)
    }
}

impl From<SourceError> for LoadFailure {
    fn from(error: SourceError) -> Self {
        Self::Stop(error)
    }
}

impl PostgresLoader {
    pub(super) fn new(client: Client, loading: Arc<LoadContext>) -> Self {
        Self { client, loading, prepared: PreparedStatements::default() }
    }

    pub(super) fn place(&self) -> EncodeTarget {
        self.loading.server.place
    }

    pub(super) fn naming(&self, table: usize) -> RowNaming {
        self.loading.refuse(table)
    }

    fn stop(&self, error: &tokio_postgres::Error, table: &str) -> SourceError {
        fatal(error, &self.loading.server.name, &format!("loading {table}"))
    }

    /// Runs SQL around the rows, which no server refuses.
    pub(super) fn run(&self, sql: &str, plan: &LoadPlan) -> Result<(), SourceError> {
        self.client.attempt(sql).map_err(|error| self.stop(&error, &plan.name))
    }

    /// The transaction around a batch. None: others hold locks.
    fn transaction(&mut self, batch: &dyn Batch, plan: &LoadPlan) -> Result<Option<u64>, SourceError> {
        self.run("BEGIN", plan)?;
        let whole = match &plan.way {
            LoadMethod::Copy(copy) => self.copy(batch, copy),
            LoadMethod::LargeObjects => put_pages(&self.client, batch),
            LoadMethod::Refused(_) => Ok(0),
        };
        let mut loaded = self.judged(whole, plan)?;
        if let Loaded::Refused { .. } = loaded {
            rollback(&self.client, &self.loading.server)?;
            self.run("BEGIN", plan)?;
            let picked = pick(self, batch, plan);
            loaded = self.judged(picked, plan)?;
        }
        if let Loaded::Rows(rows) = loaded {
            self.commit(batch, plan)?;
            return Ok(Some(rows));
        }
        rollback(&self.client, &self.loading.server)?;
        Ok(None)
    }

    fn commit(&mut self, batch: &dyn Batch, plan: &LoadPlan) -> Result<(), SourceError> {
        let marks = batch.marks().concat();
        let commit = |loader: &mut Self| {
            let mark = loader.prepared.get(&loader.client, ledger::MARK_BATCH)?;
            loader.client.attempt_statement(&mark, &[&plan.name, &marks])?;
            loader.client.attempt("COMMIT")
        };
        commit(self).map_err(|error| self.stop(&error, &plan.name))
    }

    pub(super) fn judged(&self, result: Result<u64, LoadFailure>, plan: &LoadPlan) -> Result<Loaded, SourceError> {
        let error = match result {
            Ok(rows) => return Ok(Loaded::Rows(rows)),
            Err(LoadFailure::Value(reason)) => return Ok(Loaded::Refused { reason }),
            Err(LoadFailure::Again) => return Ok(Loaded::Again),
            Err(LoadFailure::Stop(error)) => return Err(error),
            Err(LoadFailure::Server(error)) => error,
        };
        match judge(&error, &self.loading.server.name, &format!("loading {}", plan.name)) {
            ServerFault::Stop(error) => Err(error),
            ServerFault::Refused { reason, .. } => Ok(Loaded::Refused { reason }),
            ServerFault::Again => Ok(Loaded::Again),
        }
    }

    /// Copies all rows; those that no COPY carries follow by themselves.
    fn copy(&mut self, batch: &dyn Batch, copy: &Copy) -> Result<u64, LoadFailure> {
        let (statement, place) = (self.prepared.get(&self.client, &copy.copy_sql)?, self.place());
        let mut sink = self.client.copy_in(&statement)?;
        let mut chunk = Vec::with_capacity(CHUNK_BYTES * 2);
        chunk.extend_from_slice(copy.form.header());
        // Rows that follow, as they are counted.
        let (mut odd, mut at) = (Vec::new(), 0_u64);
        each_of(batch, &mut |cells| {
            if push(&mut chunk, cells, copy, place)? == BinaryFit::Odd {
                odd.push(at);
            }
            at += 1;
            if chunk.len() >= CHUNK_BYTES {
                let full = std::mem::replace(&mut chunk, Vec::with_capacity(CHUNK_BYTES * 2));
                sink.send(Bytes::from(full))?;
            }
            Ok(())
        })?;
        chunk.extend_from_slice(copy.form.trailer());
        sink.send(Bytes::from(chunk))?;
        let mut rows = sink.finish()?;
        let (mut odd, mut at) = (odd.into_iter().peekable(), 0);
        if odd.peek().is_some() {
            each_of(batch, &mut |cells| {
                if odd.next_if_eq(&at).is_some() {
                    rows += self.insert(cells, copy)?;
                }
                at += 1;
                Ok(())
            })?;
        }
        Ok(rows)
    }

    /// Copies rows that are encoded.
    pub(super) fn copy_rows(&mut self, rows: Bytes, copy: &Copy) -> Result<u64, LoadFailure> {
        let statement = self.prepared.get(&self.client, &copy.copy_sql)?;
        let mut sink = self.client.copy_in(&statement)?;
        for part in [Bytes::from_static(copy.form.header()), rows, Bytes::from_static(copy.form.trailer())] {
            if !part.is_empty() {
                sink.send(part)?;
            }
        }
        Ok(sink.finish()?)
    }

    /// Inserts a row as parameters.
    pub(super) fn insert(&mut self, cells: &[Cell<'_>], copy: &Copy) -> Result<u64, LoadFailure> {
        let (statement, place) = (self.prepared.get(&self.client, &copy.insert_sql)?, self.place());
        let values: Vec<Parameter<'_>> = cells
            .iter()
            .zip(&copy.kinds)
            .map(|(cell, kind)| Parameter { cell: *cell, kind: *kind, target: place })
            .collect();
        let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| value as _).collect();
        Ok(self.client.attempt_statement(&statement, &values)?)
    }
}

/// Appends a row as a COPY takes it.
pub(super) fn push(
    out: &mut Vec<u8>,
    cells: &[Cell<'_>],
    copy: &Copy,
    place: EncodeTarget,
) -> Result<BinaryFit, LoadFailure> {
    let fit = match copy.form {
        Form::Binary => push_tuple(out, cells, &copy.kinds, place),
        Form::Text => push_line(out, cells, &copy.kinds, place)
            .map(|way| if way == RowForm::Copy { BinaryFit::Fits } else { BinaryFit::Odd }),
    };
    fit.map_err(|error| LoadFailure::Value(error.to_string()))
}

/// Rows of a batch, until one fails.
pub(super) fn each_of(
    batch: &dyn Batch,
    each: &mut dyn FnMut(&[Cell<'_>]) -> Result<(), LoadFailure>,
) -> Result<(), LoadFailure> {
    let mut failed = None;
    let given = batch.rows(&mut |cells| {
        each(cells).map_err(|failure| {
            failed = Some(failure);
            SourceError::Sink("a row failed".into())
        })
    });
    match failed {
        Some(failure) => Err(failure),
        None => Ok(given?),
    }
}

fn put_pages(client: &Client, batch: &dyn Batch) -> Result<u64, LoadFailure> {
    let mut pages = PageBuffer::default();
    each_of(batch, &mut |cells| {
        pages.add(cells).map_err(LoadFailure::Value)?;
        if pages.is_full() { Ok(pages.put(client)?) } else { Ok(()) }
    })?;
    pages.put(client)?;
    Ok(pages.count())
}

/// A page of a large object by itself.
pub(super) fn put_page(loader: &PostgresLoader, cells: &[Cell<'_>]) -> Result<u64, LoadFailure> {
    let mut page = PageBuffer::default();
    page.add(cells).map_err(LoadFailure::Value)?;
    page.put(&loader.client)?;
    Ok(page.count())
}

impl Loader for PostgresLoader {
    fn load(&mut self, batch: &dyn Batch) -> Result<u64, SourceError> {
        let loading = Arc::clone(&self.loading);
        let plan = &loading.tables[batch.table()];
        if matches!(plan.way, LoadMethod::Refused(_)) {
            // It has been named as a whole.
            return Ok(0);
        }
        for _ in 0..TRIES {
            if let Some(rows) = self.transaction(batch, plan)? {
                return Ok(rows);
            }
        }
        let reason = "others hold locks on it all the time".to_owned();
        Err(SourceError::Failed { doing: format!("loading {}", plan.name), reason })
    }
}
