//! Why rows of a binary COPY could not be read.

use thiserror::Error;

use crate::engine::contract::SinkError;
use crate::engine::postgres::value::value_kind::FieldError;

/// Why a table's rows could not be read.
#[derive(Debug, Error)]
pub enum RowsError {
    /// The stream is not a valid binary COPY.
    #[error("cannot read the copy of table {table}")]
    Copy { table: String, source: CopyError },
    /// A value is invalid for its column's type.
    #[error("cannot read table {table}, row {row}, column {column}")]
    Value { table: String, row: u64, column: String, source: FieldError },
    /// The receiver of the rows failed.
    #[error("rows of table {table} could not be passed on")]
    Sink { table: String, source: SinkError },
}

/// Why a stream is not a binary COPY of this table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum CopyError {
    #[error("the data does not begin with the header of a binary copy")]
    Header,
    #[error("the copy has unknown flags or an unknown header extension (flags {flags:#010x})")]
    Unsupported { flags: u32 },
    #[error("row {row} has {found} fields instead of {expected}")]
    Columns { row: u64, found: i16, expected: usize },
    #[error("row {row} has a field of {len} bytes")]
    FieldLength { row: u64, len: i32 },
    #[error("the copy has data after its end")]
    AfterEnd,
    #[error("the copy is truncated after {rows} rows")]
    Truncated { rows: u64 },
}
