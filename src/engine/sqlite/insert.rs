//! Inserts rows into a table of a new database: cells bound as they are, and errors told apart.

use rusqlite::ToSql;
use rusqlite::types::{ToSqlOutput, ValueRef};

use crate::engine::contract::TargetTable;
use crate::engine::sqlite::builder::DatabaseBuilder;
use crate::engine::sqlite::sql::{TextEncoding, quoted, reason};
use crate::format::cell::{Cell, Encoding};

/// Stands in for `sqlite_sequence`, which loading rows changes.
pub(super) const SEQUENCE_COPY: &str = "sidekeep_sequence";

/// Why a row was not inserted.
pub(super) enum InsertError {
    /// SQLite cannot hold a value.
    Value(&'static str),
    Sql(rusqlite::Error),
}

impl InsertError {
    pub(super) fn reason(&self) -> String {
        match self {
            Self::Value(why) => (*why).to_owned(),
            Self::Sql(error) => reason(error),
        }
    }
}

impl From<rusqlite::Error> for InsertError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

pub(super) fn is_sequence(table: &TargetTable) -> bool {
    table.name == "sqlite_sequence"
}

/// The statement that inserts a row; the columns of `as_bytes` are bound as bytes of text.
pub(super) fn insert_sql(table: &TargetTable, as_bytes: &[usize]) -> String {
    let into = match is_sequence(table) {
        true => format!("temp.{SEQUENCE_COPY}"),
        false => format!("main.{}", quoted(&table.name)),
    };
    let names: Vec<String> = table.columns.iter().map(|column| quoted(&column.name)).collect();
    let values: Vec<String> = (0..names.len()).map(|at| parameter(at, as_bytes.contains(&at))).collect();
    // ABORT overrules whatever a constraint of the table says is to be done to rows that break it.
    format!("INSERT OR ABORT INTO {into}({}) VALUES({})", names.join(", "), values.join(", "))
}

fn parameter(at: usize, is_bytes: bool) -> String {
    match is_bytes {
        true => format!("CAST(?{} AS TEXT)", at + 1),
        false => format!("?{}", at + 1),
    }
}

/// Inserts one row. `plain_sql` is the statement for rows of which no cell is bound as bytes of text.
pub(super) fn insert_row(
    builder: &DatabaseBuilder,
    plain_sql: &str,
    table: &TargetTable,
    cells: &[Cell<'_>],
) -> Result<(), InsertError> {
    let encoding = builder.document().encoding;
    let mut as_bytes = Vec::new();
    let mut values = Vec::with_capacity(cells.len());
    for (at, cell) in cells.iter().enumerate() {
        let value = bind(cell, encoding).map_err(InsertError::Value)?;
        if matches!(value, BoundValue::TextBytes(_)) {
            as_bytes.push(at);
        }
        values.push(value);
    }
    match as_bytes.is_empty() {
        true => execute(builder, plain_sql, &values)?,
        false => execute(builder, &insert_sql(table, &as_bytes), &values)?,
    }
    Ok(())
}

fn execute(builder: &DatabaseBuilder, sql: &str, values: &[BoundValue<'_>]) -> rusqlite::Result<()> {
    let mut statement = builder.conn.prepare_cached(sql)?;
    for (at, value) in values.iter().enumerate() {
        statement.raw_bind_parameter(at + 1, value)?;
    }
    statement.raw_execute().map(drop)
}

/// How a cell is bound.
enum BoundValue<'a> {
    Borrowed(ValueRef<'a>),
    /// Bytes of a text in the database's encoding.
    TextBytes(Vec<u8>),
}

impl ToSql for BoundValue<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Borrowed(value) => *value,
            Self::TextBytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

fn bind<'a>(cell: &Cell<'a>, encoding: TextEncoding) -> Result<BoundValue<'a>, &'static str> {
    let value = match *cell {
        Cell::Null | Cell::Absent => ValueRef::Null,
        Cell::Integer(value) => ValueRef::Integer(value),
        Cell::Real(value) => ValueRef::Real(value),
        Cell::Bytes(bytes) => ValueRef::Blob(bytes),
        // On its way to UTF-16 SQLite replaces these two.
        Cell::Text(text) if encoding != TextEncoding::Utf8 && text.contains(['\u{fffe}', '\u{ffff}']) => {
            return Ok(BoundValue::TextBytes(encoding.encode(text)));
        }
        Cell::Text(text) => ValueRef::Text(text.as_bytes()),
        Cell::Encoded(in_encoding, bytes) => return bind_invalid_text(in_encoding, bytes, encoding),
        _ => return Err("it has a value of a kind that SQLite does not have"),
    };
    Ok(BoundValue::Borrowed(value))
}

fn bind_invalid_text(
    in_encoding: Encoding,
    bytes: &[u8],
    encoding: TextEncoding,
) -> Result<BoundValue<'_>, &'static str> {
    if in_encoding != encoding.invalid() {
        return Err("it has text in an encoding that is not the database's");
    }
    match encoding {
        TextEncoding::Utf8 => Ok(BoundValue::Borrowed(ValueRef::Text(bytes))),
        _ if bytes.len().is_multiple_of(2) => Ok(BoundValue::TextBytes(bytes.to_vec())),
        _ => Err("SQLite takes no UTF-16 text of an odd number of bytes"),
    }
}
