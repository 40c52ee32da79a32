//! The messages of a binary COPY of one table into rows of canonical cells, without a copy per cell.

use thiserror::Error;

use crate::engine::contract::{RowSink, SinkError};
use crate::engine::postgres::connect::session::SessionEncoding;
use crate::engine::postgres::value::binary::{self, PreparedRow, RowScratch};
use crate::engine::postgres::value::column_type::{ColumnType, FormatPreference, WireFormat};
use crate::engine::postgres::value::copy::{CopyError, CopyReader, TupleFields};
use crate::engine::postgres::value::output;
use crate::engine::postgres::value::value_kind::FieldError;
use crate::engine::postgres::value::value_kind::ValueKind;
use crate::format::cell::Cell;

/// Why a table's rows could not be read.
#[derive(Debug, Error)]
pub enum RowsError {
    /// The stream is not what a server sends.
    #[error("cannot read the copy of table {table}")]
    Copy { table: String, source: CopyError },
    /// A value is none of its column's type.
    #[error("cannot read table {table}, row {row}, column {column}")]
    Value { table: String, row: u64, column: String, source: FieldError },
    /// Whoever receives the rows failed.
    #[error("rows of table {table} could not be passed on")]
    Sink { table: String, source: SinkError },
}

/// Reads the rows of one table.
pub struct RowReader {
    table: String,
    copy: CopyReader,
    decoder: Decoder,
}

struct Decoder {
    encoding: SessionEncoding,
    names: Vec<String>,
    columns: Vec<(ValueKind, WireFormat)>,
    companions: Companions,
    scratch: RowScratch,
    spare: Vec<Cell<'static>>,
}

/// Cells after those of a table's columns: how parents write some of them.
#[derive(Clone, Default)]
pub(crate) struct Companions {
    /// Columns of the table.
    pub(crate) after: usize,
    /// Positions of the cells that they are companions of.
    pub(crate) of: Vec<usize>,
}

impl Companions {
    /// Lets what has no parent, or was not asked for, be the row's own.
    pub(crate) fn complete(&self, cells: &mut Vec<Cell<'_>>) {
        for (at, &own) in (self.after..).zip(&self.of) {
            match cells.get(at) {
                None => cells.push(cells[own]),
                Some(Cell::Null) => cells[at] = cells[own],
                Some(_) => {}
            }
        }
    }
}

/// Why one row could not be passed on; the table is not known yet.
enum RowFailure {
    Copy(CopyError),
    Value(usize, FieldError),
    Sink(SinkError),
}

impl From<CopyError> for RowFailure {
    fn from(error: CopyError) -> Self {
        Self::Copy(error)
    }
}

impl RowReader {
    /// A reader of a copy of these columns (name and type), selected as [`ColumnType::select`] says.
    #[must_use]
    pub fn new(
        table: &str,
        columns: &[(String, ColumnType)],
        mode: FormatPreference,
        encoding: SessionEncoding,
    ) -> Self {
        let decoder = Decoder {
            encoding,
            names: columns.iter().map(|(name, _)| name.clone()).collect(),
            columns: columns.iter().map(|(_, of)| (of.kind, of.wire_format(mode))).collect(),
            companions: Companions::default(),
            scratch: RowScratch::default(),
            spare: Vec::with_capacity(columns.len()),
        };
        Self { table: table.to_owned(), copy: CopyReader::new(columns.len()), decoder }
    }

    /// The same with these companions at the end of each row.
    #[must_use]
    pub(crate) fn with_companions(mut self, companions: Companions) -> Self {
        self.decoder.companions = companions;
        self
    }

    /// Takes the next message of the copy; rows that end in it go to `sink`.
    pub fn push(&mut self, message: &[u8], sink: &mut dyn RowSink) -> Result<(), RowsError> {
        let decoder = &mut self.decoder;
        let pushed = self.copy.push(message, &mut |fields| decoder.row(fields, sink));
        pushed.map_err(|failure| self.failed(failure))
    }

    /// Rows that were passed on so far.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.copy.rows()
    }

    /// Ends the copy: the number of rows.
    pub fn finish(self) -> Result<u64, RowsError> {
        self.copy.finish().map_err(|error| self.failed(RowFailure::Copy(error)))
    }

    fn failed(&self, failure: RowFailure) -> RowsError {
        let table = self.table.clone();
        match failure {
            RowFailure::Copy(source) => RowsError::Copy { table, source },
            RowFailure::Sink(source) => RowsError::Sink { table, source },
            RowFailure::Value(at, source) => {
                RowsError::Value { table, row: self.copy.rows(), column: self.decoder.names[at].clone(), source }
            }
        }
    }
}

impl Decoder {
    fn row(&mut self, fields: TupleFields<'_>, sink: &mut dyn RowSink) -> Result<(), RowFailure> {
        self.scratch.clear();
        let columns = || self.columns.iter().zip(fields.iter()).enumerate();
        for (at, ((kind, transport), field)) in columns() {
            let Some(field) = field else { continue };
            match transport {
                WireFormat::Binary => binary::prepare(*kind, field, &mut self.scratch),
                WireFormat::Output => output::prepare(*kind, field, &mut self.scratch),
            }
            .map_err(|error| RowFailure::Value(at, error))?;
        }
        let mut prepared = PreparedRow::of(&self.scratch);
        let mut cells = emptied(std::mem::take(&mut self.spare));
        for (at, ((kind, transport), field)) in columns() {
            let cell = match (field, transport) {
                (None, _) => Ok(Cell::Null),
                (Some(field), WireFormat::Binary) => binary::cell(*kind, self.encoding, field, &mut prepared),
                (Some(field), WireFormat::Output) => output::cell(*kind, self.encoding, field, &mut prepared),
            };
            cells.push(cell.map_err(|error| RowFailure::Value(at, error))?);
        }
        self.companions.complete(&mut cells);
        let passed = sink.row(&cells).map_err(RowFailure::Sink);
        self.spare = emptied(cells);
        passed
    }
}

/// The same allocation for cells that borrow from something else.
fn emptied<'b>(mut cells: Vec<Cell<'_>>) -> Vec<Cell<'b>> {
    cells.clear();
    cells.into_iter().map(|_| -> Cell<'b> { unreachable!("the vector is empty") }).collect()
}
