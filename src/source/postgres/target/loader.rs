//! Loads batches: a transaction for each, with a COPY of its rows and the mark that they are in. If the server refuses
//! it, the rows that are to blame are found by halving, named, and left out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio_postgres::types::ToSql;

use crate::format::cell::Cell;
use crate::source::contract::{Batch, Loader, SourceError};
use crate::source::postgres::client::Client;
use crate::source::postgres::encode::{Parameter, Way as LineWay, push_line};
use crate::source::postgres::encode_binary::{self, Fit, push_tuple};
use crate::source::postgres::target::fault::{Fault, fatal, judge};
use crate::source::postgres::target::large;
use crate::source::postgres::target::ledger;
use crate::source::postgres::target::run::rollback;
use crate::source::postgres::target::session::Server;
use crate::source::postgres::target::tables::{Copy, Form, Prepared, TablePlan, Way};

/// Bytes that are sent in one go.
const CHUNK_BYTES: usize = 256 << 10;
/// Refused rows that are named one by one, per table.
const ROWS_NAMED_MAX: u64 = 20;
/// How often a batch that met a deadlock is tried again.
const TRIES: u32 = 10;

/// What the loaders of a restore have in common.
pub(super) struct Loading {
    pub(super) server: Server,
    pub(super) tables: Vec<TablePlan>,
    /// Rows that were refused so far, by table.
    refused: Mutex<HashMap<usize, u64>>,
}

impl Loading {
    pub(super) fn new(server: Server, tables: Vec<TablePlan>) -> Self {
        Self { server, tables, refused: Mutex::default() }
    }

    /// How to name a refused row, if it is still named.
    fn refuse(&self, table: usize) -> Naming {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let count = refused.entry(table).or_default();
        *count += 1;
        if *count <= ROWS_NAMED_MAX { Naming::Named } else { Naming::Counted }
    }
}

#[derive(PartialEq, Eq)]
enum Naming {
    Named,
    Counted,
}

/// A session that loads.
pub(super) struct PostgresLoader {
    client: Client,
    loading: Arc<Loading>,
    prepared: Prepared,
}

/// Rows from the first to before the last, as a batch counts them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Range {
    start: u64,
    end: u64,
}

const ALL: Range = Range { start: 0, end: u64::MAX };

/// What came of an attempt to load some rows.
enum Loaded {
    Rows(u64),
    Refused { reason: String },
    Again,
}

impl PostgresLoader {
    pub(super) fn new(client: Client, loading: Arc<Loading>) -> Self {
        Self { client, loading, prepared: Prepared::default() }
    }

    fn stop(&self, error: &tokio_postgres::Error, table: &str) -> SourceError {
        fatal(error, &self.loading.server.name, &format!("loading {table}"))
    }

    /// The transaction around a batch.
    fn transaction(&mut self, batch: &dyn Batch, plan: &TablePlan) -> Result<Option<u64>, SourceError> {
        self.client.attempt("BEGIN").map_err(|error| self.stop(&error, &plan.name))?;
        let rows = match self.attempt(batch, plan, ALL)? {
            Loaded::Rows(rows) => rows,
            Loaded::Again => {
                rollback(&self.client, &self.loading.server)?;
                return Ok(None);
            }
            Loaded::Refused { .. } => {
                rollback(&self.client, &self.loading.server)?;
                self.client.attempt("BEGIN").map_err(|error| self.stop(&error, &plan.name))?;
                let mut count = 0;
                batch.rows(&mut |_| {
                    count += 1;
                    Ok(())
                })?;
                self.halve(batch, plan, Range { start: 0, end: count })?
            }
        };
        self.commit(batch, plan)?;
        Ok(Some(rows))
    }

    fn commit(&mut self, batch: &dyn Batch, plan: &TablePlan) -> Result<(), SourceError> {
        let marks = batch.marks().concat();
        let commit = |loader: &mut Self| {
            let mark = loader.prepared.get(&loader.client, ledger::MARK_BATCH)?;
            loader.client.attempt_statement(&mark, &[&plan.name, &marks])?;
            loader.client.attempt("COMMIT")
        };
        commit(self).map_err(|error| self.stop(&error, &plan.name))
    }

    /// Loads rows of which at least one is refused.
    fn halve(&mut self, batch: &dyn Batch, plan: &TablePlan, range: Range) -> Result<u64, SourceError> {
        let point =
            |loader: &Self, sql: &str| loader.client.attempt(sql).map_err(|error| loader.stop(&error, &plan.name));
        let mut rows = 0;
        let mut waiting = vec![range];
        while let Some(Range { start, end }) = waiting.pop() {
            point(self, "SAVEPOINT sidekeep")?;
            let loaded = self.attempt(batch, plan, Range { start, end })?;
            if let Loaded::Rows(loaded) = loaded {
                point(self, "RELEASE SAVEPOINT sidekeep")?;
                rows += loaded;
                continue;
            }
            point(self, "ROLLBACK TO SAVEPOINT sidekeep; RELEASE SAVEPOINT sidekeep")?;
            let Loaded::Refused { reason } = loaded else {
                waiting.push(Range { start, end });
                continue;
            };
            if end - start > 1 {
                let middle = start + (end - start) / 2;
                waiting.push(Range { start: middle, end });
                waiting.push(Range { start, end: middle });
                continue;
            }
            let mut key = String::new();
            each_of(batch, Range { start, end }, &mut |cells| {
                key = plan.key_of(cells);
                Ok(())
            })?;
            let note = match self.loading.refuse(batch.table()) {
                Naming::Named => ledger::refused(&plan.name, Some(&format!("{key} was refused: {reason}")), 1),
                Naming::Counted => ledger::refused(&plan.name, None, 1),
            };
            point(self, &note)?;
        }
        Ok(rows)
    }

    fn attempt(&mut self, batch: &dyn Batch, plan: &TablePlan, range: Range) -> Result<Loaded, SourceError> {
        let result = match &plan.way {
            Way::Copy(copy) => self.copy(batch, copy, range),
            Way::LargeObjects => each_page(&self.client, batch, range),
            Way::Refused(_) => Ok(0),
        };
        let error = match result {
            Ok(rows) => return Ok(Loaded::Rows(rows)),
            Err(Failure::Value(reason)) => return Ok(Loaded::Refused { reason }),
            Err(Failure::Batch(error)) => return Err(error),
            Err(Failure::Server(error)) => error,
        };
        match judge(&error, &self.loading.server.name, &format!("loading {}", plan.name)) {
            Fault::Stop(error) => Err(error),
            Fault::Refused { reason, .. } => Ok(Loaded::Refused { reason }),
            Fault::Again => Ok(Loaded::Again),
        }
    }

    fn copy(&mut self, batch: &dyn Batch, copy: &Copy, range: Range) -> Result<u64, Failure> {
        let statement = self.prepared.get(&self.client, &copy.copy_sql)?;
        let place = self.loading.server.place;
        let mut sink = self.client.copy_in(&statement)?;
        let mut chunk = Vec::with_capacity(CHUNK_BYTES * 2);
        if copy.form == Form::Binary {
            chunk.extend_from_slice(encode_binary::HEADER);
        }
        // Rows that go another way, as they are counted.
        let (mut odd, mut at) = (Vec::new(), range.start);
        each_of(batch, range, &mut |cells| {
            let fits = match copy.form {
                Form::Binary => push_tuple(&mut chunk, cells, &copy.kinds, place).map_err(|error| error.to_string()),
                Form::Text => push_line(&mut chunk, cells, &copy.kinds, place)
                    .map(|way| if way == LineWay::Copy { Fit::Fits } else { Fit::Odd })
                    .map_err(|error| error.to_string()),
            };
            if fits.map_err(Failure::Value)? == Fit::Odd {
                odd.push(at);
            }
            at += 1;
            if chunk.len() >= CHUNK_BYTES {
                let full = std::mem::replace(&mut chunk, Vec::with_capacity(CHUNK_BYTES * 2));
                sink.send(Bytes::from(full))?;
            }
            Ok(())
        })?;
        if copy.form == Form::Binary {
            chunk.extend_from_slice(encode_binary::TRAILER);
        }
        sink.send(Bytes::from(chunk))?;
        let mut rows = sink.finish()?;
        for at in odd {
            each_of(batch, Range { start: at, end: at + 1 }, &mut |cells| {
                let values: Vec<Parameter<'_>> = cells
                    .iter()
                    .zip(&copy.kinds)
                    .map(|(cell, kind)| Parameter { cell: *cell, kind: *kind, place })
                    .collect();
                let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| value as _).collect();
                rows += self.client.attempt_with(&copy.insert_sql, &values)?;
                Ok(())
            })?;
        }
        Ok(rows)
    }
}

/// Why rows did not go in.
enum Failure {
    Server(tokio_postgres::Error),
    /// A value that no server takes.
    Value(String),
    /// The batch gives no rows.
    Batch(SourceError),
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Server(error)
    }
}

/// Rows of a batch, as far as `each` wants them.
fn each_of(
    batch: &dyn Batch,
    range: Range,
    each: &mut dyn FnMut(&[Cell<'_>]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let (mut at, mut failed) = (0, None);
    let enough = || SourceError::Sink("enough".into());
    let given = batch.rows(&mut |cells| {
        let wanted = at >= range.start;
        if at >= range.end {
            return Err(enough());
        }
        at += 1;
        if wanted && let Err(failure) = each(cells) {
            failed = Some(failure);
            return Err(enough());
        }
        Ok(())
    });
    match (failed, given) {
        (Some(failure), _) => Err(failure),
        // The rest is not wanted.
        (None, Err(_)) if at >= range.end => Ok(()),
        (None, Err(error)) => Err(Failure::Batch(error)),
        (None, Ok(())) => Ok(()),
    }
}

fn each_page(client: &Client, batch: &dyn Batch, range: Range) -> Result<u64, Failure> {
    let mut pages = large::Pages::default();
    each_of(batch, range, &mut |cells| {
        pages.add(cells).map_err(Failure::Value)?;
        if pages.is_full() { Ok(pages.put(client)?) } else { Ok(()) }
    })?;
    pages.put(client)?;
    Ok(pages.count())
}

impl From<Failure> for SourceError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Batch(error) => error,
            Failure::Value(reason) => Self::Failed { doing: "name a refused row".to_owned(), reason },
            Failure::Server(error) => {
                Self::Failed { doing: "name a refused row".to_owned(), reason: error.to_string() }
            }
        }
    }
}

impl Loader for PostgresLoader {
    fn load(&mut self, batch: &dyn Batch) -> Result<u64, SourceError> {
        let loading = Arc::clone(&self.loading);
        let plan = &loading.tables[batch.table()];
        if matches!(plan.way, Way::Refused(_)) {
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
