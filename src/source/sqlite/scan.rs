//! Reading every row of a table, in the order in which it lies in the file, without a copy per cell.
//!
//! More columns than one statement may return are read by several statements that step together: within
//! one image they see the same rows in the same order.

use rusqlite::limits::Limit;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row, Rows};

use crate::format::cell::{Cell, Encoding};
use crate::source::contract::{Gap, RowSink, SourceError};
use crate::source::sqlite::sql::{Decoded, TextEncoding, failed_sql, is_damage, quoted, reason};

/// How to read one table.
pub(super) struct Scan {
    table: String,
    encoding: TextEncoding,
    columns: usize,
    /// Each returns a run of the columns, in order.
    selects: Vec<String>,
}

impl Scan {
    /// A scan of `columns` of `table`.
    pub(super) fn new(conn: &Connection, encoding: TextEncoding, table: &str, columns: &[&str]) -> Self {
        let width = if encoding == TextEncoding::Utf8 { 1 } else { 2 };
        let limit = conn.limit(Limit::SQLITE_LIMIT_COLUMN).ok().and_then(|limit| usize::try_from(limit).ok());
        let run = (limit.unwrap_or(2000) / width).max(1);
        let select = |names: &[&str]| {
            let items: Vec<String> = names.iter().map(|name| item(encoding, name)).collect();
            // An index that covers the columns would be read instead of the table.
            format!("SELECT {} FROM main.{} NOT INDEXED", items.join(", "), quoted(table))
        };
        Self {
            table: table.to_owned(),
            encoding,
            columns: columns.len(),
            selects: columns.chunks(run).map(select).collect(),
        }
    }

    /// Fails if SQLite does not understand the statements.
    pub(super) fn check(&self, conn: &Connection) -> rusqlite::Result<()> {
        self.selects.iter().try_for_each(|sql| conn.prepare(sql).map(drop))
    }

    /// Passes every row on. Where the file is damaged the rows before the damage are passed on and the gap is named.
    pub(super) fn run(&self, conn: &Connection, sink: &mut dyn RowSink) -> Result<Vec<Gap>, SourceError> {
        let error = |error: &rusqlite::Error| failed_sql(format!("read table {}", self.table), error);
        let mut statements = self
            .selects
            .iter()
            .map(|sql| conn.prepare(sql))
            .collect::<rusqlite::Result<Vec<_>>>()
            .map_err(|e| error(&e))?;
        let mut selected: Vec<Rows<'_>> = statements.iter_mut().map(|statement| statement.raw_query()).collect();
        let mut spare: Vec<Cell<'static>> = Vec::with_capacity(self.columns);
        let mut text = Texts::default();
        let mut rows_read: u64 = 0;
        loop {
            let stepped =
                selected.iter_mut().map(|rows| rows.next()).collect::<rusqlite::Result<Option<Vec<&Row<'_>>>>>();
            let rows = match stepped {
                Ok(Some(rows)) => rows,
                Ok(None) => return Ok(Vec::new()),
                Err(e) if is_damage(&e) => return Ok(vec![self.damage(rows_read, &e)]),
                Err(e) => return Err(error(&e)),
            };
            let mut cells = emptied(spare);
            match self.encoding {
                TextEncoding::Utf8 => cells_utf8(&rows, &mut cells),
                _ => text.cells_utf16(self.encoding, &rows, &mut cells),
            }
            .map_err(|e| error(&e))?;
            sink.row(&cells).map_err(SourceError::Sink)?;
            rows_read += 1;
            spare = emptied(cells);
        }
    }

    fn damage(&self, rows_read: u64, error: &rusqlite::Error) -> Gap {
        let reason = format!("the file is damaged: {} rows were read, then: {}", rows_read, reason(error));
        Gap { object: self.table.clone(), reason }
    }
}

/// What selects a column: itself; in a UTF-16 database its text as bytes, and whether it is text.
fn item(encoding: TextEncoding, name: &str) -> String {
    let name = quoted(name);
    match encoding {
        TextEncoding::Utf8 => name,
        _ => format!(
            "CASE typeof({name}) WHEN 'text' THEN CAST({name} AS BLOB) ELSE {name} END, typeof({name}) = 'text'"
        ),
    }
}

/// The same allocation for cells that borrow from something else.
fn emptied<'b>(mut cells: Vec<Cell<'_>>) -> Vec<Cell<'b>> {
    cells.clear();
    cells.into_iter().map(|_| -> Cell<'b> { unreachable!("the vector is empty") }).collect()
}

fn cells_utf8<'r>(rows: &[&'r Row<'_>], cells: &mut Vec<Cell<'r>>) -> rusqlite::Result<()> {
    for row in rows {
        for column in 0..row.as_ref().column_count() {
            cells.push(cell_of(row.get_ref(column)?));
        }
    }
    Ok(())
}

/// The cell of a value of a UTF-8 database.
pub(super) fn cell_of(value: ValueRef<'_>) -> Cell<'_> {
    match value {
        ValueRef::Null => Cell::Null,
        ValueRef::Integer(value) => Cell::Integer(value),
        ValueRef::Real(value) => Cell::Real(value),
        ValueRef::Text(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Cell::Text(text),
            Err(_) => Cell::Encoded(Encoding::Utf8Invalid, bytes),
        },
        ValueRef::Blob(bytes) => Cell::Bytes(bytes),
    }
}

/// Texts of one row of a UTF-16 database, decoded.
#[derive(Default)]
struct Texts {
    decoded: String,
    /// Per column, where its text lies in `decoded`, if it is valid text.
    spans: Vec<Option<(usize, usize)>>,
}

impl Texts {
    fn cells_utf16<'r>(
        &'r mut self,
        encoding: TextEncoding,
        rows: &[&'r Row<'_>],
        cells: &mut Vec<Cell<'r>>,
    ) -> rusqlite::Result<()> {
        self.decoded.clear();
        self.spans.clear();
        let columns = |row: &Row<'_>| (0..row.as_ref().column_count()).step_by(2);
        for row in rows {
            for column in columns(row) {
                let start = self.decoded.len();
                let valid = match (row.get_ref(column)?, row.get_ref(column + 1)?) {
                    (ValueRef::Blob(bytes), ValueRef::Integer(1)) => encoding.decode(bytes, &mut self.decoded),
                    _ => Decoded::Invalid,
                };
                self.spans.push((valid == Decoded::Valid).then_some((start, self.decoded.len())));
            }
        }
        let texts = &*self;
        let mut spans = texts.spans.iter();
        for row in rows {
            for column in columns(row) {
                let span = spans.next().copied().flatten();
                cells.push(match (span, row.get_ref(column)?, row.get_ref(column + 1)?) {
                    (Some((start, end)), ..) => Cell::Text(&texts.decoded[start..end]),
                    (None, ValueRef::Blob(bytes), ValueRef::Integer(1)) => Cell::Encoded(encoding.invalid(), bytes),
                    (None, value, _) => cell_of(value),
                });
            }
        }
        Ok(())
    }
}
