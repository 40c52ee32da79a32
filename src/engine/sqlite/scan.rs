//! Reads every row of a table in storage order, without a copy per cell.
//!
//! A table with more columns than one statement may return is read by several statements that step together. Within
//! one image they see the same rows in the same order.
//!
//! SQLite has a special case for UTF-16 databases. If a text on overflow pages has more than 4,000 bytes and starts
//! with U+FEFF or U+FFFE, SQLite treats that as a byte order mark: every statement and function that reads the column
//! from a table with rowids gets the text without it. The file still contains it, and two things show this.
//! `octet_length` takes the length from the row header, and after U+FFFE the rest counts as text in the other byte
//! order, which a cast corrects. This module puts the mark back. It cannot do so where both fail: in REAL columns,
//! whose texts are read even for their length, and for texts that are equal in both byte orders.

use rusqlite::limits::Limit;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row, Rows, Statement};

use crate::base::finding::{Finding, FindingKind};
use crate::engine::contract::{EngineError, RowSink};
use crate::engine::sqlite::affinity::{self, ColumnAffinity, StrictTables};
use crate::engine::sqlite::sql::{Decoded, TextEncoding, cell_of, failed_sql, is_damage, quoted, reason};
use crate::format::cell::Cell;

/// SQLite's default limit.
const RESULT_COLUMNS_MAX: usize = 2000;

/// How a table stores its values.
#[derive(Clone, Copy)]
pub(super) struct TableStorage<'a> {
    pub(super) has_rowids: bool,
    pub(super) strict: &'a StrictTables,
}

/// How to read one table.
pub(super) struct Scan {
    table: String,
    encoding: TextEncoding,
    columns: usize,
    /// Each returns some of the columns. Together they return all columns in order.
    selects: Vec<String>,
}

impl Scan {
    /// A scan of `columns` of `table`.
    /// Fails if SQLite cannot read the table's definition.
    pub(super) fn new(
        conn: &Connection,
        encoding: TextEncoding,
        storage: TableStorage<'_>,
        table: &str,
        columns: &[&str],
    ) -> rusqlite::Result<Self> {
        let items = select_items(conn, encoding, storage, table, columns)?;
        let selects = items.chunks(columns_per_select(conn, encoding)).map(|items| select(items, table)).collect();
        Ok(Self { table: table.to_owned(), encoding, columns: columns.len(), selects })
    }

    /// Fails if SQLite rejects one of the statements.
    pub(super) fn check(&self, conn: &Connection) -> rusqlite::Result<()> {
        self.prepare(conn).map(drop)
    }

    fn prepare<'c>(&self, conn: &'c Connection) -> rusqlite::Result<Vec<Statement<'c>>> {
        self.selects.iter().map(|sql| conn.prepare(sql)).collect()
    }

    /// Passes every row to `sink`. If the file is damaged, passes the rows before the damage and returns the gap.
    /// Fails if SQLite rejects a statement, a read fails for a reason other than damage, or `sink` fails.
    pub(super) fn run(&self, conn: &Connection, sink: &mut dyn RowSink) -> Result<Vec<Finding>, EngineError> {
        let mut statements = self.prepare(conn).map_err(|error| self.error(&error))?;
        let mut progress = ScanProgress::new(self.columns);
        let damage = self.pass_rows(&mut statements, &mut progress, sink)?;
        let mut gaps = Vec::from_iter(self.ambiguity_gap(&progress.texts));
        gaps.extend(damage.map(|error| self.damage_gap(progress.rows_read, &error)));
        Ok(gaps)
    }

    /// Passes all rows to `sink`, or the rows before the damage, which it returns.
    fn pass_rows(
        &self,
        statements: &mut [Statement<'_>],
        progress: &mut ScanProgress,
        sink: &mut dyn RowSink,
    ) -> Result<Option<rusqlite::Error>, EngineError> {
        let mut results: Vec<Rows<'_>> = statements.iter_mut().map(Statement::raw_query).collect();
        loop {
            match step_all(&mut results) {
                Ok(Some(rows)) => self.pass_row(&rows, progress, sink)?,
                Ok(None) => return Ok(None),
                Err(error) if is_damage(&error) => return Ok(Some(error)),
                Err(error) => return Err(self.error(&error)),
            }
        }
    }

    fn pass_row(
        &self,
        rows: &[&Row<'_>],
        progress: &mut ScanProgress,
        sink: &mut dyn RowSink,
    ) -> Result<(), EngineError> {
        let mut cells = emptied(std::mem::take(&mut progress.spare));
        self.read_cells(rows, &mut progress.texts, &mut cells).map_err(|error| self.error(&error))?;
        sink.row(&cells).map_err(EngineError::Sink)?;
        progress.rows_read += 1;
        progress.spare = emptied(cells);
        Ok(())
    }

    fn read_cells<'r>(
        &self,
        rows: &[&'r Row<'_>],
        texts: &'r mut Utf16Texts,
        cells: &mut Vec<Cell<'r>>,
    ) -> rusqlite::Result<()> {
        match self.encoding {
            TextEncoding::Utf8 => read_cells_utf8(rows, cells),
            encoding => texts.read_cells(encoding, rows, cells),
        }
    }

    fn error(&self, error: &rusqlite::Error) -> EngineError {
        failed_sql(format!("read table {}", self.table), error)
    }

    /// Texts whose first character is unknown.
    fn ambiguity_gap(&self, texts: &Utf16Texts) -> Option<Finding> {
        let reason = format!(
            "SQLite does not reveal whether {} long texts start with U+FEFF, U+FFFE or neither: the rest of each text is in the snapshot",
            texts.ambiguous
        );
        let kind = FindingKind::AmbiguousTexts { texts: texts.ambiguous };
        (texts.ambiguous > 0).then(|| Finding::new(kind, &self.table, reason))
    }

    fn damage_gap(&self, rows_read: u64, error: &rusqlite::Error) -> Finding {
        let reason = format!("the file is damaged: {} rows were read, then: {}", rows_read, reason(error));
        Finding::new(FindingKind::DamagedTable { rows_read }, &self.table, reason)
    }

    /// Whether a gap means that damage kept the table from being read to the end.
    pub(super) fn is_damage(gap: &Finding) -> bool {
        matches!(gap.kind, FindingKind::DamagedTable { .. })
    }
}

/// A scan in progress.
struct ScanProgress {
    /// The cells of the last row, kept for their allocation.
    spare: Vec<Cell<'static>>,
    texts: Utf16Texts,
    rows_read: u64,
}

impl ScanProgress {
    fn new(columns: usize) -> Self {
        Self { spare: Vec::with_capacity(columns), texts: Utf16Texts::default(), rows_read: 0 }
    }
}

/// The next row of each result, or `None` at the end.
fn step_all<'r, 's>(results: &'r mut [Rows<'s>]) -> rusqlite::Result<Option<Vec<&'r Row<'s>>>> {
    results.iter_mut().map(Rows::next).collect()
}

fn columns_per_select(conn: &Connection, encoding: TextEncoding) -> usize {
    // With UTF-16 each column becomes two items, and its name occurs nine times in a statement.
    let width = if encoding == TextEncoding::Utf8 { 1 } else { 8 };
    (result_columns_max(conn) / width).max(1)
}

fn result_columns_max(conn: &Connection) -> usize {
    let limit = conn.limit(Limit::SQLITE_LIMIT_COLUMN).ok();
    let limit = limit.and_then(|limit| usize::try_from(limit).ok());
    limit.unwrap_or(RESULT_COLUMNS_MAX)
}

fn select(items: &[String], table: &str) -> String {
    // Otherwise SQLite could read an index that covers the columns instead of the table.
    format!("SELECT {} FROM main.{} NOT INDEXED", items.join(", "), quoted(table))
}

/// The SELECT items of each column.
fn select_items(
    conn: &Connection,
    encoding: TextEncoding,
    storage: TableStorage<'_>,
    table: &str,
    columns: &[&str],
) -> rusqlite::Result<Vec<String>> {
    match encoding {
        TextEncoding::Utf8 => Ok(columns.iter().map(|column| quoted(column)).collect()),
        _ => utf16_items(conn, storage, table, columns),
    }
}

fn utf16_items(
    conn: &Connection,
    storage: TableStorage<'_>,
    table: &str,
    columns: &[&str],
) -> rusqlite::Result<Vec<String>> {
    let TableStorage { has_rowids, strict } = storage;
    let affinities = affinity::of_columns(conn, strict, table, columns)?;
    let names = columns.iter().map(|column| quoted(column)).zip(affinities);
    Ok(names.map(|(name, affinity)| utf16_item(&name, &mark_of(&name, affinity, has_rowids))).collect())
}

/// Selects a column of a UTF-16 database: its text as bytes, and what happened to its byte order mark.
fn utf16_item(name: &str, mark: &str) -> String {
    format!(
        "CASE typeof({name}) WHEN 'text' THEN CAST({name} AS BLOB) ELSE {name} END, \
         CASE WHEN typeof({name}) <> 'text' THEN NULL {mark} END"
    )
}

/// The SQL that finds out what happened to the byte order mark.
fn mark_of(name: &str, affinity: ColumnAffinity, has_rowids: bool) -> String {
    match affinity {
        ColumnAffinity::Real if has_rowids => mark_by_length(name),
        _ => mark_by_octet_length(name),
    }
}

/// Compares the length in the row header with the length of the text.
fn mark_by_octet_length(name: &str) -> String {
    format!(
        "WHEN octet_length({name}) - {MARK_BYTES} <> octet_length(CAST({name} AS BLOB)) THEN {MARK_KEPT} \
         WHEN CAST({name} AS BLOB) = CAST(CAST({name} AS TEXT) AS BLOB) THEN {MARK_TAKEN} \
         ELSE {SWAPPED_MARK_TAKEN}"
    )
}

/// For columns whose texts are read even for their length.
fn mark_by_length(name: &str) -> String {
    let length = format!("octet_length(CAST({name} AS BLOB))");
    format!("WHEN {length} + {MARK_BYTES} <= {TEXT_BYTES_KEPT} THEN {MARK_KEPT} ELSE {MARK_UNKNOWN}")
}

/// SQLite leaves texts up to this size unchanged.
const TEXT_BYTES_KEPT: usize = 4000;
const MARK_BYTES: usize = 2;

/// The text is complete.
const MARK_KEPT: i64 = 0;
/// SQLite removed U+FEFF, or U+FFFE from a text that is equal in both byte orders.
const MARK_TAKEN: i64 = 1;
/// SQLite removed U+FFFE.
const SWAPPED_MARK_TAKEN: i64 = 2;
/// SQLite may have removed either mark.
const MARK_UNKNOWN: i64 = 3;

/// Reuses the allocation for cells with another lifetime.
fn emptied<'b>(mut cells: Vec<Cell<'_>>) -> Vec<Cell<'b>> {
    cells.clear();
    cells.into_iter().map(|_| -> Cell<'b> { unreachable!("the vector is empty") }).collect()
}

fn read_cells_utf8<'r>(rows: &[&'r Row<'_>], cells: &mut Vec<Cell<'r>>) -> rusqlite::Result<()> {
    for row in rows {
        for column in 0..row.as_ref().column_count() {
            cells.push(cell_of(row.get_ref(column)?));
        }
    }
    Ok(())
}

/// Decoded texts of one row of a UTF-16 database.
#[derive(Default)]
struct Utf16Texts {
    decoded: String,
    /// Bytes of invalid texts whose byte order mark was put back.
    invalid: Vec<u8>,
    /// One per column.
    locations: Vec<ValueLocation>,
    /// Texts so far, in all rows, whose first character is uncertain.
    ambiguous: u64,
}

/// The location of a column's value.
#[derive(Clone, Copy)]
enum ValueLocation {
    /// Start and end in `decoded`.
    Decoded(usize, usize),
    /// Start and end in `invalid`.
    Invalid(usize, usize),
    /// In the row, as invalid text.
    InvalidInRow,
    /// In the row, and not text.
    InRow,
}

impl Utf16Texts {
    fn read_cells<'r>(
        &'r mut self,
        encoding: TextEncoding,
        rows: &[&'r Row<'_>],
        cells: &mut Vec<Cell<'r>>,
    ) -> rusqlite::Result<()> {
        self.decode_rows(encoding, rows)?;
        let texts: &'r Self = self;
        let mut locations = texts.locations.iter();
        for row in rows {
            for column in value_columns(row) {
                let location = locations.next().copied().unwrap_or(ValueLocation::InRow);
                cells.push(texts.cell(encoding, location, row.get_ref(column)?));
            }
        }
        Ok(())
    }

    fn decode_rows(&mut self, encoding: TextEncoding, rows: &[&Row<'_>]) -> rusqlite::Result<()> {
        self.clear();
        for row in rows {
            self.decode_row(encoding, row)?;
        }
        Ok(())
    }

    fn clear(&mut self) {
        self.decoded.clear();
        self.invalid.clear();
        self.locations.clear();
    }

    fn decode_row(&mut self, encoding: TextEncoding, row: &Row<'_>) -> rusqlite::Result<()> {
        for column in value_columns(row) {
            let location = match (row.get_ref(column)?, row.get_ref(column + 1)?) {
                (ValueRef::Blob(bytes), ValueRef::Integer(mark)) => self.decode(encoding, bytes, mark),
                _ => ValueLocation::InRow,
            };
            self.locations.push(location);
        }
        Ok(())
    }

    /// Decodes a text and puts its byte order mark back.
    fn decode(&mut self, encoding: TextEncoding, bytes: &[u8], mark: i64) -> ValueLocation {
        self.ambiguous += u64::from(is_ambiguous(bytes, mark));
        let mark = taken_mark(mark);
        match self.push_decoded(encoding, mark, bytes) {
            Some(location) => location,
            None if mark.is_empty() => ValueLocation::InvalidInRow,
            None => self.push_invalid(encoding, mark, bytes),
        }
    }

    /// `None` if the text is invalid.
    fn push_decoded(&mut self, encoding: TextEncoding, mark: &str, bytes: &[u8]) -> Option<ValueLocation> {
        let start = self.decoded.len();
        self.decoded.push_str(mark);
        if encoding.decode(bytes, &mut self.decoded) == Decoded::Valid {
            return Some(ValueLocation::Decoded(start, self.decoded.len()));
        }
        self.decoded.truncate(start);
        None
    }

    fn push_invalid(&mut self, encoding: TextEncoding, mark: &str, bytes: &[u8]) -> ValueLocation {
        let start = self.invalid.len();
        self.invalid.extend_from_slice(&encoding.encode(mark));
        self.invalid.extend_from_slice(bytes);
        ValueLocation::Invalid(start, self.invalid.len())
    }

    fn cell<'r>(&'r self, encoding: TextEncoding, location: ValueLocation, in_row: ValueRef<'r>) -> Cell<'r> {
        match (location, in_row) {
            (ValueLocation::Decoded(start, end), _) => Cell::Text(&self.decoded[start..end]),
            (ValueLocation::Invalid(start, end), _) => Cell::Encoded(encoding.invalid(), &self.invalid[start..end]),
            (ValueLocation::InvalidInRow, ValueRef::Blob(bytes)) => Cell::Encoded(encoding.invalid(), bytes),
            (_, value) => cell_of(value),
        }
    }
}

/// The value columns of a row of a UTF-16 database. Each is followed by the column for its byte order mark.
fn value_columns(row: &Row<'_>) -> impl Iterator<Item = usize> {
    (0..row.as_ref().column_count()).step_by(2)
}

/// The characters that SQLite removed from the start of a text.
fn taken_mark(mark: i64) -> &'static str {
    match mark {
        MARK_TAKEN => "\u{feff}",
        SWAPPED_MARK_TAKEN => "\u{fffe}",
        _ => "",
    }
}

/// Whether the text may have started with a different character than the one put back.
fn is_ambiguous(bytes: &[u8], mark: i64) -> bool {
    mark == MARK_UNKNOWN || mark == MARK_TAKEN && is_same_in_both_orders(bytes)
}

fn is_same_in_both_orders(bytes: &[u8]) -> bool {
    bytes.chunks_exact(2).all(|unit| unit[0] == unit[1])
}
