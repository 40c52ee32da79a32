//! Inserts rows into a table of a new database: binds cells unchanged and classifies errors.

use rusqlite::ToSql;
use rusqlite::types::{ToSqlOutput, ValueRef};

use crate::engine::contract::TargetTable;
use crate::engine::sqlite::builder::DatabaseBuilder;
use crate::engine::sqlite::schema_rows::ASIDE;
use crate::engine::sqlite::sql::{TextEncoding, quoted, reason};
use crate::format::cell::{Cell, Encoding};

/// Loaded in place of `sqlite_sequence`, which SQLite changes while rows are loaded.
pub(super) const SEQUENCE_COPY: &str = "sidekeep_sequence";

/// Why a row was not inserted.
pub(super) enum InsertError {
    /// SQLite cannot store a value.
    Value(&'static str),
    Sql(rusqlite::Error),
}

impl InsertError {
    /// Why the row was refused, for messages.
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

/// Whether it is `sqlite_sequence`.
pub(super) fn is_sequence(table: &TargetTable) -> bool {
    table.name == "sqlite_sequence"
}

/// The statement that inserts a row. The columns of `as_bytes` are bound as bytes of text.
pub(super) fn insert_sql(table: &TargetTable, as_bytes: &[usize]) -> String {
    let into = loaded_name(table);
    let names: Vec<String> = table.columns.iter().map(|column| quoted(&column.name)).collect();
    let values: Vec<String> = (0..names.len()).map(|at| parameter(at, as_bytes.contains(&at))).collect();
    // ABORT overrides the conflict clauses of the table's constraints.
    format!("INSERT OR ABORT INTO {into}({}) VALUES({})", names.join(", "), values.join(", "))
}

/// The table into which rows are loaded.
fn loaded_name(table: &TargetTable) -> String {
    match is_sequence(table) {
        true => format!("{ASIDE}.{SEQUENCE_COPY}"),
        false => format!("main.{}", quoted(&table.name)),
    }
}

fn parameter(at: usize, is_bytes: bool) -> String {
    match is_bytes {
        true => format!("CAST(?{} AS TEXT)", at + 1),
        false => format!("?{}", at + 1),
    }
}

/// Inserts one row. `plain_sql` is the statement for rows without cells bound as bytes of text.
/// Fails if SQLite cannot store a value or refuses the row, or if the database cannot be written.
pub(super) fn insert_row(
    builder: &DatabaseBuilder,
    plain_sql: &str,
    table: &TargetTable,
    cells: &[Cell<'_>],
) -> Result<(), InsertError> {
    let row = BoundRow::of(cells, builder.document().encoding).map_err(InsertError::Value)?;
    match row.as_bytes.is_empty() {
        true => execute(builder, plain_sql, &row.values)?,
        false => execute(builder, &insert_sql(table, &row.as_bytes), &row.values)?,
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

/// The bound values of a row.
struct BoundRow<'a> {
    values: Vec<BoundValue<'a>>,
    /// Positions of cells that are bound as bytes of text.
    as_bytes: Vec<usize>,
}

impl<'a> BoundRow<'a> {
    fn of(cells: &[Cell<'a>], encoding: TextEncoding) -> Result<Self, &'static str> {
        let mut row = Self { values: Vec::with_capacity(cells.len()), as_bytes: Vec::new() };
        for cell in cells {
            row.push(bind(cell, encoding)?);
        }
        Ok(row)
    }

    fn push(&mut self, value: BoundValue<'a>) {
        if matches!(value, BoundValue::TextBytes(_)) {
            self.as_bytes.push(self.values.len());
        }
        self.values.push(value);
    }
}

/// A bound value.
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
    match *cell {
        Cell::Text(text) => Ok(bind_text(text, encoding)),
        Cell::Encoded(in_encoding, bytes) => bind_invalid_text(in_encoding, bytes, encoding),
        _ => value_of(cell).map(BoundValue::Borrowed),
    }
}

/// SQLite's value for a cell that is not text.
fn value_of<'a>(cell: &Cell<'a>) -> Result<ValueRef<'a>, &'static str> {
    match *cell {
        Cell::Null | Cell::Absent | Cell::Lost => Ok(ValueRef::Null),
        Cell::Integer(value) => Ok(ValueRef::Integer(value)),
        Cell::Real(value) => Ok(ValueRef::Real(value)),
        Cell::Bytes(bytes) => Ok(ValueRef::Blob(bytes)),
        _ => Err("it has a value of a type that SQLite does not have"),
    }
}

fn bind_text(text: &str, encoding: TextEncoding) -> BoundValue<'_> {
    // SQLite replaces these two when it converts text to UTF-16.
    if encoding != TextEncoding::Utf8 && text.contains(['\u{fffe}', '\u{ffff}']) {
        return BoundValue::TextBytes(encoding.encode(text));
    }
    BoundValue::Borrowed(ValueRef::Text(text.as_bytes()))
}

fn bind_invalid_text(
    in_encoding: Encoding,
    bytes: &[u8],
    encoding: TextEncoding,
) -> Result<BoundValue<'_>, &'static str> {
    if in_encoding != encoding.invalid() {
        return Err("it has text in another encoding than the database");
    }
    match encoding {
        TextEncoding::Utf8 => Ok(BoundValue::Borrowed(ValueRef::Text(bytes))),
        _ if bytes.len().is_multiple_of(2) => Ok(BoundValue::TextBytes(bytes.to_vec())),
        _ => Err("SQLite does not accept UTF-16 text with an odd number of bytes"),
    }
}
