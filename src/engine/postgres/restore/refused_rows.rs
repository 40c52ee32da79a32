//! Loads a batch after the server refused it as a whole: finds the rows that caused the refusal, records them, and
//! loads all others.
//!
//! Each row is decoded and encoded only once, however many are refused. Encoded rows are collected and copied in runs.
//! A refused run is halved until it is a single row. After a run is accepted, the next one is twice as long. There is
//! a savepoint before each run.

use bytes::Bytes;

use crate::engine::contract::Batch;
use crate::engine::postgres::restore::load_session::{
    LoadFailure, LoadOutcome, LoadSession, RowNaming, encode_row, for_each_row,
};
use crate::engine::postgres::restore::restore_progress;
use crate::engine::postgres::restore::table_plan::{CopyPlan, LoadMethod, LoadPlan};
use crate::engine::postgres::value::field_encoder::CopyFit;
use crate::format::cell::Cell;

/// Rows are copied once this many bytes are collected. The last row may exceed it.
const COLLECTED_BYTES: usize = 4 << 20;

/// Loads all rows that the server accepts. Returns their number.
/// Fails if other sessions hold locks (the whole transaction must be retried), a row cannot be read, the session is
/// lost, or the server is out of resources.
pub(super) fn load_accepted_rows(
    load: &mut LoadSession,
    batch: &dyn Batch,
    plan: &LoadPlan,
) -> Result<u64, LoadFailure> {
    load.execute("SAVEPOINT sidekeep", plan)?;
    let mut selective = SelectiveLoad::new(load, batch.table(), plan);
    for_each_row(batch, &mut |cells| selective.row(cells))?;
    selective.finish()
}

struct SelectiveLoad<'a> {
    load: &'a mut LoadSession,
    plan: &'a LoadPlan,
    table: usize,
    collected: EncodedRows,
    /// Number of rows loaded.
    loaded: u64,
    /// The SQL that records the refused rows.
    refused: String,
    /// Number of refused rows that are only counted.
    unnamed: u64,
}

/// Rows in the format of the COPY.
#[derive(Default)]
struct EncodedRows {
    bytes: Vec<u8>,
    /// The end of each row in `bytes`.
    ends: Vec<usize>,
    keys: Vec<String>,
}

impl EncodedRows {
    /// Completes the row that was encoded last.
    fn end_row(&mut self, key: String) {
        self.ends.push(self.bytes.len());
        self.keys.push(key);
    }

    fn start(&self, row: usize) -> usize {
        match row.checked_sub(1) {
            Some(previous) => self.ends[previous],
            None => 0,
        }
    }
}

impl<'a> SelectiveLoad<'a> {
    fn new(load: &'a mut LoadSession, table: usize, plan: &'a LoadPlan) -> Self {
        let collected = EncodedRows::default();
        Self { load, plan, table, collected, loaded: 0, refused: String::new(), unnamed: 0 }
    }

    fn row(&mut self, cells: &[Cell<'_>]) -> Result<(), LoadFailure> {
        match &self.plan.method {
            LoadMethod::Copy(copy) => self.collect(cells, copy),
            LoadMethod::LargeObjects => self.load_one(cells, |load| load.put_page(cells)),
            LoadMethod::Refused(_) => Ok(()),
        }
    }

    fn collect(&mut self, cells: &[Cell<'_>], copy: &CopyPlan) -> Result<(), LoadFailure> {
        match encode_row(&mut self.collected.bytes, cells, copy, self.load.encode_target()) {
            Ok(CopyFit::Fits) => self.collected.end_row(self.plan.key_of(cells)),
            Ok(CopyFit::Unfit) => self.load_one(cells, |load| load.insert(cells, copy))?,
            Err(LoadFailure::Value(reason)) => self.refuse(&self.plan.key_of(cells), &reason),
            Err(other) => return Err(other),
        }
        if self.collected.bytes.len() >= COLLECTED_BYTES {
            self.copy_collected(copy)?;
        }
        Ok(())
    }

    /// Copies the collected rows.
    fn copy_collected(&mut self, copy: &CopyPlan) -> Result<(), LoadFailure> {
        let mut rows = std::mem::take(&mut self.collected);
        let bytes = Bytes::from(std::mem::take(&mut rows.bytes));
        let count = rows.ends.len();
        let mut first = 0;
        let mut run = count;
        while first < count {
            let next = count.min(first + run);
            let encoded = bytes.slice(rows.start(first)..rows.start(next));
            let refused = self.attempt(|load| load.copy_encoded(encoded, copy))?;
            let length = next - first;
            match refused {
                None => run = length * 2,
                Some(reason) if length == 1 => self.refuse(&rows.keys[first], &reason),
                Some(_) => {
                    run = length / 2;
                    continue;
                }
            }
            first = next;
        }
        Ok(())
    }

    /// Loads a row by itself.
    fn load_one(
        &mut self,
        cells: &[Cell<'_>],
        load: impl FnOnce(&mut LoadSession) -> Result<u64, LoadFailure>,
    ) -> Result<(), LoadFailure> {
        if let Some(reason) = self.attempt(load)? {
            self.refuse(&self.plan.key_of(cells), &reason);
        }
        Ok(())
    }

    /// Runs `load`. If it was refused, rolls it back and returns the reason.
    fn attempt(
        &mut self,
        load: impl FnOnce(&mut LoadSession) -> Result<u64, LoadFailure>,
    ) -> Result<Option<String>, LoadFailure> {
        let result = load(self.load);
        match self.load.outcome(result, self.plan)? {
            LoadOutcome::Loaded(rows) => self.keep(rows).map(|()| None),
            LoadOutcome::Refused { reason } => self.undo().map(|()| Some(reason)),
            LoadOutcome::Retry => Err(LoadFailure::Retry),
        }
    }

    /// Keeps what was loaded since the savepoint and sets the next savepoint.
    fn keep(&mut self, rows: u64) -> Result<(), LoadFailure> {
        self.loaded += rows;
        Ok(self.load.execute("RELEASE SAVEPOINT sidekeep; SAVEPOINT sidekeep", self.plan)?)
    }

    fn undo(&mut self) -> Result<(), LoadFailure> {
        Ok(self.load.execute("ROLLBACK TO SAVEPOINT sidekeep", self.plan)?)
    }

    fn refuse(&mut self, key: &str, reason: &str) {
        match self.load.context.count_refused(self.table) {
            RowNaming::Named => {
                let reason = format!("{key} was refused: {reason}");
                self.refused.push_str(&restore_progress::refused_row_sql(&self.plan.name, &reason));
            }
            RowNaming::Counted => self.unnamed += 1,
        }
    }

    fn finish(mut self) -> Result<u64, LoadFailure> {
        if let LoadMethod::Copy(copy) = &self.plan.method {
            self.copy_collected(copy)?;
        }
        if self.unnamed > 0 {
            self.refused.push_str(&restore_progress::unnamed_rows_sql(&self.plan.name, self.unnamed));
        }
        self.load.execute(&format!("RELEASE SAVEPOINT sidekeep; {}", self.refused), self.plan)?;
        Ok(self.loaded)
    }
}
