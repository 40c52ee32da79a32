//! Reads the tables of an open image as canonical cells. Each session reads its own parts.
//!
//! A server sends a row in one message of at most 1 GB. A longer row is read column by column. It is found by the
//! number of rows before it, which works only where rows come in physical order. If a parent cannot be looked up
//! (because its index is damaged, for example), only parent values are missing, never rows.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::base::causes;
use crate::base::finding::{Finding, FindingKind};
use crate::base::pipeline::lock;
use crate::engine::contract::{EngineError, Reader, RowSink, SinkError};
use crate::engine::postgres::backup::image::{PgImage, TableLock};
use crate::engine::postgres::backup::lock_watchdog::LockWatchdog;
use crate::engine::postgres::backup::read_options::RateLimiter;
use crate::engine::postgres::backup::readable_table::{ParentMode, ReadableTable, RowOrder, ScanPart, SelectedColumn};
use crate::engine::postgres::backup::user_types::{Aspect, UserTypes};
use crate::engine::postgres::connect::client::Client;
use crate::engine::postgres::connect::error::PostgresError;
use crate::engine::postgres::connect::session_settings::SessionEncoding;
use crate::engine::postgres::value::column_type::{ColumnType, FormatPreference};
use crate::engine::postgres::value::copy_decoder::{CopyColumn, RowReader};
use crate::engine::postgres::value::copy_error::RowsError;
use crate::format::cell::{Cell, OwnedCell};

/// SQLSTATE program_limit_exceeded: a row or a value is too long to be sent.
const TOO_LONG: &str = "54000";
const UNDO: &str = "ROLLBACK TO SAVEPOINT reading; RELEASE SAVEPOINT reading";

/// Names the operation in errors before the table is known.
const READING: &str = "read a table";

/// An open image with all of its tables.
pub(super) struct ReadableImage {
    pub(super) image: PgImage,
    pub(super) watchdog: LockWatchdog,
    pub(super) types: UserTypes,
    pub(super) tables: Vec<ReadableTable>,
    pub(super) encoding: SessionEncoding,
    pub(super) limiter: Option<RateLimiter>,
    /// Held by the reader that uses the leader's session, because other readers sometimes use it too.
    pub(super) leader_turn: Mutex<()>,
}

impl ReadableImage {
    /// Replaces an error of a read by its cause, if that is known.
    fn explain(&self, error: EngineError) -> EngineError {
        // A session that the watchdog terminated looks like a lost connection.
        if let Some(verdict) = self.watchdog.verdict() {
            return verdict.into();
        }
        if !matches!(error, EngineError::Failed { .. } | EngineError::Server { .. }) {
            return error;
        }
        // The server looks up some types by name, which fails if they were renamed since the image began.
        match self.altered_type() {
            Some(name) => {
                let reason = format!("type {name} was altered meanwhile ({error})");
                EngineError::Yielded { what: self.image.address().to_string(), reason }
            }
            None => error,
        }
    }

    /// A table whose rows can be read.
    fn table(&self, at: usize) -> Result<&ReadableTable, EngineError> {
        let table = self.tables.get(at).ok_or_else(|| failed(READING, "there is no such table"))?;
        match &table.untyped_column {
            Some(column) => Err(unknown_type(&table.name, column)),
            None => Ok(table),
        }
    }

    fn altered_type(&self) -> Option<String> {
        let altered = self.types.altered(&self.image, &self.watchdog, Aspect::Definition);
        altered.ok().and_then(|mut names| names.pop())
    }

    /// Two readers in one session would end each other's savepoints.
    fn leader_turn(&self, client: &Arc<Client>) -> Option<MutexGuard<'_, ()>> {
        if !Arc::ptr_eq(client, self.image.leader()) {
            return None;
        }
        Some(lock(&self.leader_turn))
    }
}

/// One session of the image at work.
pub(super) struct ImageSession<'s> {
    pub(super) open: &'s ReadableImage,
    pub(super) client: Arc<Client>,
    pub(super) locks: SessionLocks,
    pub(super) preference: FormatPreference,
}

/// Which tables a session has locked.
pub(super) enum SessionLocks {
    /// All of them, because the session is the leader.
    All,
    Own(HashSet<String>),
}

impl ImageSession<'_> {
    /// The session that reads these tables: this one, or the leader if another session is queued for a lock on one of
    /// them. The leader already holds these locks, and the watchdog looks after sessions that wait for it.
    fn lock_tables(&mut self, tables: Vec<String>) -> Result<Arc<Client>, EngineError> {
        let SessionLocks::Own(locked) = &mut self.locks else { return Ok(Arc::clone(&self.client)) };
        for table in tables {
            if locked.contains(&table) {
                continue;
            }
            if self.open.image.try_lock(&self.client, &table)? == TableLock::Contended {
                return Ok(Arc::clone(self.open.image.leader()));
            }
            locked.insert(table);
        }
        Ok(Arc::clone(&self.client))
    }

    fn read_part(
        &mut self,
        table: &ReadableTable,
        part: &ScanPart,
        sink: &mut dyn RowSink,
    ) -> Result<Vec<Finding>, EngineError> {
        let client = self.lock_tables(table.tables_to_lock(part))?;
        let _turn = self.open.leader_turn(&client);
        let copier = self.copier(&client, &table.name);
        let mut scan = PartScan::new(copier, table, part);
        while scan.read_more(sink)? == ScanState::Interrupted {}
        Ok(scan.gaps)
    }

    fn copier<'a>(&'a self, client: &'a Client, table: &'a str) -> Copier<'a> {
        let open = self.open;
        Copier { client, table, preference: self.preference, encoding: open.encoding, limiter: open.limiter.as_ref() }
    }
}

impl Reader for ImageSession<'_> {
    fn read(&mut self, table: usize, part: usize, sink: &mut dyn RowSink) -> Result<Vec<Finding>, EngineError> {
        let open = self.open;
        let table = open.table(table)?;
        // A partitioned table without partitions has no rows.
        if table.parts.is_empty() {
            return Ok(Vec::new());
        }
        let part = table.parts.get(part).ok_or_else(|| failed(READING, "there is no such part"))?;
        self.read_part(table, part, sink).map_err(|error| open.explain(error))
    }
}

/// Why reading rows stopped.
enum ReadFailure {
    /// The server cannot send the row that follows the first `rows` rows.
    TooLong {
        rows: u64,
        error: PostgresError,
    },
    /// The server reported another error after `rows` rows.
    Refused {
        rows: u64,
        error: PostgresError,
    },
    Other(EngineError),
}

impl ReadFailure {
    fn of(rows: u64, error: PostgresError) -> Self {
        match error.state() {
            Some(TOO_LONG) => Self::TooLong { rows, error },
            _ => Self::of_statement(rows, error),
        }
    }

    fn of_statement(rows: u64, error: PostgresError) -> Self {
        match error.state() {
            // Not when the session ended or the query was cancelled.
            Some(state) if !state.starts_with("08") && !state.starts_with("57") => Self::Refused { rows, error },
            _ => Self::Other(error.into()),
        }
    }
}

impl From<ReadFailure> for EngineError {
    fn from(failure: ReadFailure) -> Self {
        match failure {
            ReadFailure::TooLong { error, .. } | ReadFailure::Refused { error, .. } => error.into(),
            ReadFailure::Other(error) => error,
        }
    }
}

impl From<RowsError> for ReadFailure {
    fn from(error: RowsError) -> Self {
        Self::Other(match error {
            RowsError::Sink { source, .. } => EngineError::Sink(source),
            other => failed("read the rows", causes::describe(&other)),
        })
    }
}

/// A part of a table that is being read.
struct PartScan<'a> {
    copier: Copier<'a>,
    table: &'a ReadableTable,
    part: &'a ScanPart,
    parents: ParentMode,
    /// The condition of the rows that are still to be read, unless all rows of the part are.
    rest: Option<String>,
    gaps: Vec<Finding>,
}

#[derive(PartialEq, Eq)]
enum ScanState {
    Finished,
    /// More rows follow.
    Interrupted,
}

impl<'a> PartScan<'a> {
    fn new(copier: Copier<'a>, table: &'a ReadableTable, part: &'a ScanPart) -> Self {
        let mut scan = Self { copier, table, part, parents: ParentMode::LookUp, rest: None, gaps: Vec::new() };
        if let Some(reason) = &table.lookup_obstacle {
            scan.skip_parents(reason);
        }
        scan.rest = scan.whole();
        scan
    }

    /// A condition that selects all rows and makes them come in physical order, where that is needed.
    fn whole(&self) -> Option<String> {
        // Without it, narrow rows might come from an index, in index order. Wide rows never come from one.
        if self.is_ordered() && self.table.has_parent_values() {
            return Some("ctid >= '(0,0)'::pg_catalog.tid".to_owned());
        }
        None
    }

    /// Whether rows come in physical order.
    fn is_ordered(&self) -> bool {
        self.part.order == RowOrder::ByCtid && self.table.condition.is_none()
    }

    fn looks_up_parents(&self) -> bool {
        self.parents == ParentMode::LookUp && self.table.has_parent_values()
    }

    fn skip_parents(&mut self, reason: &str) {
        self.parents = ParentMode::Skip;
        self.gaps.extend(self.table.lookup_gap(reason));
    }

    /// Reads rows until the part ends, or until a row must be read in another way.
    fn read_more(&mut self, sink: &mut dyn RowSink) -> Result<ScanState, EngineError> {
        self.copier.client.execute("starting to read", "SAVEPOINT reading")?;
        match self.read_rows(sink) {
            Ok(()) => {
                self.copier.client.execute("finishing a read", "RELEASE SAVEPOINT reading")?;
                return Ok(ScanState::Finished);
            }
            Err(ReadFailure::TooLong { rows, .. }) if self.is_ordered() => self.step_over_long_row(rows, sink)?,
            Err(ReadFailure::Refused { rows, error }) if self.can_skip_parents(rows) => {
                self.continue_without_parents(rows, &error)?;
            }
            Err(failure) => return Err(failure.into()),
        }
        Ok(ScanState::Interrupted)
    }

    fn read_rows(&self, sink: &mut dyn RowSink) -> Result<(), ReadFailure> {
        let mut columns = Vec::new();
        let mut expressions = Vec::new();
        for SelectedColumn { column, sql } in self.selected() {
            columns.push(column);
            expressions.push(sql);
        }
        let select = self.table.select(self.part, &expressions.join(", "), self.rest.as_deref());
        let reader = self.copier.row_reader(&columns).with_parent_values(self.table.parent_value_cells());
        self.copier.copy(&select, reader, sink)
    }

    fn selected(&self) -> Vec<SelectedColumn> {
        self.table.selected(self.part, self.parents, self.copier.preference)
    }

    /// Whether we know which rows remain after the first `rows`.
    fn can_skip_parents(&self, rows: u64) -> bool {
        self.looks_up_parents() && (self.is_ordered() || rows == 0)
    }

    fn continue_without_parents(&mut self, rows: u64, error: &PostgresError) -> Result<(), EngineError> {
        self.undo()?;
        if let Some(last) = rows.checked_sub(1) {
            self.rest_after(&self.ctid(last)?);
        }
        self.skip_parents(&error.to_string());
        Ok(())
    }

    /// Reads the long row after the first `rows` separately, and continues after it.
    fn step_over_long_row(&mut self, rows: u64, sink: &mut dyn RowSink) -> Result<(), EngineError> {
        self.undo()?;
        let ctid = self.ctid(rows)?;
        let parents = self.parents;
        self.read_long_row(&ctid, sink)?;
        // The parents of the rows that follow may be readable.
        self.parents = parents;
        self.rest_after(&ctid);
        Ok(())
    }

    fn rest_after(&mut self, ctid: &str) {
        self.rest = Some(format!("ctid > '{ctid}'::pg_catalog.tid"));
    }

    fn undo(&self) -> Result<(), PostgresError> {
        self.copier.client.execute("rolling back to a savepoint", UNDO)
    }

    /// The `ctid` of the row after the first `before` of the remaining rows.
    fn ctid(&self, before: u64) -> Result<String, PostgresError> {
        let mut sql = self.table.select(self.part, "ctid", self.rest.as_deref());
        sql.push_str(&format!(" ORDER BY ctid OFFSET {before} LIMIT 1"));
        self.copier.client.value("looking for a row", &sql)
    }

    /// Reads the one row with this `ctid`, column by column.
    fn read_long_row(&mut self, ctid: &str, sink: &mut dyn RowSink) -> Result<(), EngineError> {
        let condition = format!("ctid = '{ctid}'::pg_catalog.tid");
        self.copier.client.execute("starting to read a row", "SAVEPOINT reading")?;
        let mut cells = Vec::new();
        for SelectedColumn { column, sql } in self.selected() {
            let select = self.table.select(self.part, &sql, Some(&condition));
            match self.copier.copy_cell(&select, &column.0, &column.1) {
                Ok(cell) => cells.push(cell),
                Err(ReadFailure::TooLong { error, .. }) => {
                    self.undo()?;
                    self.gaps.push(self.long_cell_gap(ctid, &column.0, &error));
                    return Ok(());
                }
                Err(ReadFailure::Refused { error, .. }) if self.looks_up_parents() => {
                    self.undo()?;
                    self.skip_parents(&error.to_string());
                    return self.read_long_row(ctid, sink);
                }
                Err(failure) => return Err(failure.into()),
            }
        }
        self.copier.client.execute("finishing a row", "RELEASE SAVEPOINT reading")?;
        self.pass_on(&cells, sink)
    }

    fn long_cell_gap(&self, ctid: &str, column: &str, error: &PostgresError) -> Finding {
        let reason = format!("one row is not captured: its column {column} cannot be read: {error}");
        let kind = FindingKind::ValueTooLong { column: column.to_owned(), row: format!("ctid {ctid}") };
        Finding::new(kind, &self.table.name, reason)
    }

    fn pass_on(&self, cells: &[OwnedCell], sink: &mut dyn RowSink) -> Result<(), EngineError> {
        let mut cells: Vec<Cell<'_>> = cells.iter().map(OwnedCell::get).collect();
        self.table.parent_value_cells().complete(&mut cells);
        sink.row(&cells).map_err(EngineError::Sink)
    }
}

/// Copies rows of a table out of a session.
#[derive(Clone, Copy)]
pub(super) struct Copier<'a> {
    pub(super) client: &'a Client,
    /// The table's name in messages.
    pub(super) table: &'a str,
    pub(super) preference: FormatPreference,
    pub(super) encoding: SessionEncoding,
    pub(super) limiter: Option<&'a RateLimiter>,
}

impl Copier<'_> {
    fn row_reader(&self, columns: &[(String, ColumnType)]) -> RowReader {
        let columns = columns.iter().map(|(name, of)| CopyColumn::new(name, of, self.preference)).collect();
        RowReader::new(self.table, columns, self.encoding)
    }

    /// Passes the rows of a SELECT to the sink.
    fn copy(&self, select: &str, mut reader: RowReader, sink: &mut dyn RowSink) -> Result<(), ReadFailure> {
        let doing = format!("reading {}", self.table);
        let sql = format!("COPY ({select}) TO STDOUT (FORMAT binary)");
        let messages = self.client.copy_out(&doing, &sql).map_err(|error| ReadFailure::of_statement(0, error))?;
        for message in messages {
            let message = message.map_err(|error| ReadFailure::of(reader.rows(), error))?;
            if let Some(limiter) = self.limiter {
                limiter.spend(message.len());
            }
            reader.push(&message, sink)?;
        }
        reader.finish()?;
        Ok(())
    }

    /// The cell of a SELECT that returns one row with one column.
    fn copy_cell(&self, select: &str, name: &str, kind: &ColumnType) -> Result<OwnedCell, ReadFailure> {
        let mut first = FirstCell(None);
        let reader = self.row_reader(&[(name.to_owned(), kind.clone())]);
        self.copy(select, reader, &mut first)?;
        first.0.ok_or_else(|| {
            let reason = format!("the server returned no value for column {name}");
            ReadFailure::Other(failed(format!("read {}", self.table), reason))
        })
    }

    /// The cell of the value that the type's output function writes as `text`.
    /// Fails if the server cannot read `text` as this type, or returns a value that is not valid for it.
    pub(super) fn value(&self, kind: &ColumnType, type_name: &str, text: &str) -> Result<OwnedCell, EngineError> {
        let literal = text.replace('\'', "''");
        let value = kind.select("value", self.preference);
        let select = format!("SELECT {value} FROM (SELECT '{literal}'::{type_name} AS value) AS one");
        Ok(self.copy_cell(&select, "value", kind)?)
    }
}

struct FirstCell(Option<OwnedCell>);

impl RowSink for FirstCell {
    fn row(&mut self, cells: &[Cell<'_>]) -> Result<(), SinkError> {
        self.0 = cells.first().map(OwnedCell::new);
        Ok(())
    }
}

/// An error while `doing` something.
pub(super) fn failed(doing: impl Into<String>, reason: impl ToString) -> EngineError {
    EngineError::Failed { doing: doing.into(), reason: reason.to_string() }
}

fn unknown_type(table: &str, column: &str) -> EngineError {
    failed(format!("read {table}"), format!("the type of column {column} is unknown"))
}
