//! Loads a batch of which the server refused something: finds the rows that are to blame, names them, and leaves them
//! out.
//!
//! Each row is decoded and encoded once, however many are refused. Rows wait in a piece as a COPY takes them, and go in
//! runs: a run that is refused is halved until one row stands alone, a run that went in is followed by a longer one.
//! There is a savepoint before each.

use bytes::Bytes;

use crate::engine::contract::Batch;
use crate::engine::postgres::restore::ledger;
use crate::engine::postgres::restore::loader::{
    LoadFailure, Loaded, PostgresLoader, RowNaming, each_of, push, put_page,
};
use crate::engine::postgres::restore::table_plan::{Copy, LoadMethod, LoadPlan};
use crate::engine::postgres::value::encode::BinaryFit;
use crate::format::cell::Cell;

/// Bytes of rows that wait, but for the last row.
const PIECE_BYTES: usize = 4 << 20;

/// Loads all rows that are not refused; gives their number.
pub(super) fn pick(loader: &mut PostgresLoader, batch: &dyn Batch, plan: &LoadPlan) -> Result<u64, LoadFailure> {
    loader.run("SAVEPOINT sidekeep", plan)?;
    let mut picking = Picking {
        loader,
        plan,
        table: batch.table(),
        piece: CopyPiece::default(),
        rows: 0,
        notes: String::new(),
        more: 0,
    };
    each_of(batch, &mut |cells| picking.row(cells))?;
    picking.end()
}

struct Picking<'a> {
    loader: &'a mut PostgresLoader,
    plan: &'a LoadPlan,
    table: usize,
    piece: CopyPiece,
    rows: u64,
    /// The SQL that keeps which rows were refused.
    notes: String,
    /// Refused rows that are not named.
    more: u64,
}

/// Rows as a COPY takes them.
#[derive(Default)]
struct CopyPiece {
    bytes: Vec<u8>,
    /// Where each row ends.
    ends: Vec<usize>,
    keys: Vec<String>,
}

impl Picking<'_> {
    fn row(&mut self, cells: &[Cell<'_>]) -> Result<(), LoadFailure> {
        let plan = self.plan;
        let copy = match &plan.way {
            LoadMethod::Copy(copy) => copy,
            LoadMethod::LargeObjects => return self.alone(cells, |loader| put_page(loader, cells)),
            LoadMethod::Refused(_) => return Ok(()),
        };
        match push(&mut self.piece.bytes, cells, copy, self.loader.place()) {
            Ok(BinaryFit::Fits) => {
                self.piece.ends.push(self.piece.bytes.len());
                self.piece.keys.push(plan.key_of(cells));
            }
            Ok(BinaryFit::Odd) => self.alone(cells, |loader| loader.insert(cells, copy))?,
            Err(LoadFailure::Value(reason)) => self.refuse(&plan.key_of(cells), &reason),
            Err(other) => return Err(other),
        }
        if self.piece.bytes.len() >= PIECE_BYTES { self.send(copy) } else { Ok(()) }
    }

    /// Sends the rows that wait.
    fn send(&mut self, copy: &Copy) -> Result<(), LoadFailure> {
        let CopyPiece { bytes, ends, keys } = std::mem::take(&mut self.piece);
        let bytes = Bytes::from(bytes);
        let (mut at, mut run) = (0, ends.len());
        while at < ends.len() {
            let end = ends.len().min(at + run);
            let start = if at == 0 { 0 } else { ends[at - 1] };
            let rows = bytes.slice(start..ends[end - 1]);
            match self.attempt(|loader| loader.copy_rows(rows, copy))? {
                None => run = (end - at) * 2,
                Some(reason) if end - at == 1 => self.refuse(&keys[at], &reason),
                Some(_) => {
                    run = (end - at) / 2;
                    continue;
                }
            }
            at = end;
        }
        Ok(())
    }

    /// Loads a row by itself.
    fn alone(
        &mut self,
        cells: &[Cell<'_>],
        load: impl FnOnce(&mut PostgresLoader) -> Result<u64, LoadFailure>,
    ) -> Result<(), LoadFailure> {
        if let Some(reason) = self.attempt(load)? {
            self.refuse(&self.plan.key_of(cells), &reason);
        }
        Ok(())
    }

    /// Why what `load` does was refused, if it was, and then it left no trace.
    fn attempt(
        &mut self,
        load: impl FnOnce(&mut PostgresLoader) -> Result<u64, LoadFailure>,
    ) -> Result<Option<String>, LoadFailure> {
        let loaded = load(self.loader);
        match self.loader.judged(loaded, self.plan)? {
            Loaded::Rows(rows) => {
                self.rows += rows;
                self.loader.run("RELEASE SAVEPOINT sidekeep; SAVEPOINT sidekeep", self.plan)?;
                Ok(None)
            }
            Loaded::Refused { reason } => {
                self.loader.run("ROLLBACK TO SAVEPOINT sidekeep", self.plan)?;
                Ok(Some(reason))
            }
            Loaded::Again => Err(LoadFailure::Again),
        }
    }

    fn refuse(&mut self, key: &str, reason: &str) {
        match self.loader.naming(self.table) {
            RowNaming::Named => {
                let reason = format!("{key} was refused: {reason}");
                self.notes.push_str(&ledger::refused(&self.plan.name, Some(&reason), 1));
            }
            RowNaming::Counted => self.more += 1,
        }
    }

    fn end(mut self) -> Result<u64, LoadFailure> {
        if let LoadMethod::Copy(copy) = &self.plan.way {
            self.send(copy)?;
        }
        if self.more > 0 {
            self.notes.push_str(&ledger::refused(&self.plan.name, None, self.more));
        }
        self.loader.run(&format!("RELEASE SAVEPOINT sidekeep; {}", self.notes), self.plan)?;
        Ok(self.rows)
    }
}
