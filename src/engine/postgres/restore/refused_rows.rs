//! Loads a batch of which the server refused something: finds the rows that are to blame, records them, and leaves them
//! out.
//!
//! Each row is decoded and encoded once, however many are refused. Rows are collected as a COPY takes them, and copied in
//! runs: a run that is refused is halved until one row stands alone, a run that went in is followed by a longer one.
//! There is a savepoint before each.

use bytes::Bytes;

use crate::engine::contract::Batch;
use crate::engine::postgres::restore::ledger;
use crate::engine::postgres::restore::load_session::{
    LoadFailure, LoadOutcome, LoadSession, RowNaming, encode_row, for_each_row,
};
use crate::engine::postgres::restore::table_plan::{CopyPlan, LoadMethod, LoadPlan};
use crate::engine::postgres::value::encode::CopyFit;
use crate::format::cell::Cell;

/// Bytes of rows that are collected, but for the last row.
const COLLECTED_BYTES: usize = 4 << 20;

/// Loads all rows that are not refused; gives their number.
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
    /// Rows that are in.
    loaded: u64,
    /// The SQL that records which rows were refused.
    refused: String,
    /// Refused rows that are not named.
    unnamed: u64,
}

/// Rows as a COPY takes them.
#[derive(Default)]
struct EncodedRows {
    bytes: Vec<u8>,
    /// Where each row ends.
    ends: Vec<usize>,
    keys: Vec<String>,
}

impl EncodedRows {
    /// The row that was encoded last is complete.
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

    /// Copies the rows that are collected.
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

    /// Why what `load` does was refused, if it was, and then it left no trace.
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

    /// Keeps what was loaded since the savepoint.
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
                self.refused.push_str(&ledger::refused_row_sql(&self.plan.name, &reason));
            }
            RowNaming::Counted => self.unnamed += 1,
        }
    }

    fn finish(mut self) -> Result<u64, LoadFailure> {
        if let LoadMethod::Copy(copy) = &self.plan.method {
            self.copy_collected(copy)?;
        }
        if self.unnamed > 0 {
            self.refused.push_str(&ledger::unnamed_rows_sql(&self.plan.name, self.unnamed));
        }
        self.load.execute(&format!("RELEASE SAVEPOINT sidekeep; {}", self.refused), self.plan)?;
        Ok(self.loaded)
    }
}
