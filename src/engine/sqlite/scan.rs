//! Reading every row of a table, in the order in which it lies in the file, without a copy per cell.
//!
//! More columns than one statement may return are read by several statements that step together: within
//! one image they see the same rows in the same order.
//!
//! Where a text of a UTF-16 database lies on overflow pages and takes more than 4,000 bytes, SQLite takes a
//! leading U+FEFF, or U+FFFE, for a byte order mark: every statement and function that reads the column of a
//! table with rowids gets the text without it. The file still has it, which shows in two things: `octet_length`
//! tells the length from the head of the row, and after U+FFFE the rest counts as text of the other byte
//! order, which a cast puts right. So what was taken away is put back here. It cannot be where both fail: in
//! columns of reals, whose texts are read even for their length, and in a text that is the same in both orders.

use rusqlite::limits::Limit;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row, Rows};

use crate::engine::contract::{Gap, RowSink, SourceError};
use crate::engine::sqlite::affinity::{self, Affinity};
use crate::engine::sqlite::sql::{Decoded, TextEncoding, failed_sql, is_damage, quoted, reason};
use crate::format::cell::{Cell, Encoding};

/// How the reason of a gap begins if rows could not be read.
const DAMAGED: &str = "the file is damaged";

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
    pub(super) fn new(
        conn: &Connection,
        encoding: TextEncoding,
        table: &str,
        columns: &[&str],
    ) -> rusqlite::Result<Self> {
        // Of UTF-16 each column makes two items, and its name stands in a statement nine times.
        let width = if encoding == TextEncoding::Utf8 { 1 } else { 8 };
        let limit = conn.limit(Limit::SQLITE_LIMIT_COLUMN).ok().and_then(|limit| usize::try_from(limit).ok());
        let run = (limit.unwrap_or(2000) / width).max(1);
        let beginnings = match encoding {
            TextEncoding::Utf8 => vec![Beginnings::Shown; columns.len()],
            _ => beginnings(conn, table, columns)?,
        };
        let columns_read: Vec<(&str, Beginnings)> = columns.iter().copied().zip(beginnings).collect();
        let select = |columns: &[(&str, Beginnings)]| {
            let items: Vec<String> =
                columns.iter().map(|(name, beginnings)| item(encoding, name, *beginnings)).collect();
            // An index that covers the columns would be read instead of the table.
            format!("SELECT {} FROM main.{} NOT INDEXED", items.join(", "), quoted(table))
        };
        Ok(Self {
            table: table.to_owned(),
            encoding,
            columns: columns.len(),
            selects: columns_read.chunks(run).map(select).collect(),
        })
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
                Ok(None) => return Ok(self.doubts(&text).into_iter().collect()),
                Err(e) if is_damage(&e) => {
                    return Ok(self.doubts(&text).into_iter().chain([self.damage(rows_read, &e)]).collect());
                }
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

    /// Texts of which SQLite cannot be made to say how they begin.
    fn doubts(&self, texts: &Texts) -> Option<Gap> {
        let reason = format!(
            "of {} long texts SQLite does not tell whether they begin with U+FEFF, U+FFFE or neither: all else of them is in the snapshot",
            texts.doubts
        );
        (texts.doubts > 0).then(|| Gap { object: self.table.clone(), reason })
    }

    fn damage(&self, rows_read: u64, error: &rusqlite::Error) -> Gap {
        let reason = format!("{DAMAGED}: {} rows were read, then: {}", rows_read, reason(error));
        Gap { object: self.table.clone(), reason }
    }

    /// Whether a gap is of a file that could not be read to the end of the table.
    pub(super) fn is_damage(gap: &Gap) -> bool {
        gap.reason.starts_with(DAMAGED)
    }
}

/// Whether the length of a column's texts can be asked for without reading them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Beginnings {
    Shown,
    Hidden,
}

fn beginnings(conn: &Connection, table: &str, columns: &[&str]) -> rusqlite::Result<Vec<Beginnings>> {
    let keyed = "SELECT count(*) FROM pragma_table_list WHERE schema = 'main' AND name = ?1 AND wr";
    let keyed: i64 = conn.query_row(keyed, [table], |row| row.get(0))?;
    let affinities = affinity::of_columns(conn, table, columns)?;
    let of = |affinity: Affinity| {
        if affinity == Affinity::Real && keyed == 0 { Beginnings::Hidden } else { Beginnings::Shown }
    };
    Ok(affinities.into_iter().map(of).collect())
}

/// What selects a column: itself; in a UTF-16 database its text as bytes, and what became of its beginning.
fn item(encoding: TextEncoding, name: &str, beginnings: Beginnings) -> String {
    let name = quoted(name);
    let length = format!("octet_length(CAST({name} AS BLOB))");
    let beginning = match (encoding, beginnings) {
        (TextEncoding::Utf8, _) => return name,
        (_, Beginnings::Shown) => format!(
            "WHEN octet_length({name}) - {MARK_BYTES} <> {length} THEN {KEPT} \
             WHEN CAST({name} AS BLOB) = CAST(CAST({name} AS TEXT) AS BLOB) THEN {MARK_TAKEN} \
             ELSE {SWAPPED_MARK_TAKEN}"
        ),
        (_, Beginnings::Hidden) => {
            format!("WHEN {length} + {MARK_BYTES} <= {TEXT_BYTES_KEPT} THEN {KEPT} ELSE {UNTOLD}")
        }
    };
    format!(
        "CASE typeof({name}) WHEN 'text' THEN CAST({name} AS BLOB) ELSE {name} END, \
         CASE WHEN typeof({name}) <> 'text' THEN NULL {beginning} END"
    )
}

/// Texts up to this size stay as they are.
const TEXT_BYTES_KEPT: usize = 4000;
const MARK_BYTES: usize = 2;

/// The text is whole.
const KEPT: i64 = 0;
/// It began with U+FEFF, or with U+FFFE and is the same in both byte orders.
const MARK_TAKEN: i64 = 1;
/// It began with U+FFFE.
const SWAPPED_MARK_TAKEN: i64 = 2;
/// It may have begun with either.
const UNTOLD: i64 = 3;

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
    /// Bytes of invalid texts whose beginning was put back.
    raw: Vec<u8>,
    /// Per column.
    places: Vec<ValuePlace>,
    /// Texts so far, in all rows, that may have begun with another character.
    doubts: u64,
}

/// Where the value of a column lies.
#[derive(Clone, Copy)]
enum ValuePlace {
    /// From here to there in `decoded`.
    Decoded(usize, usize),
    /// From here to there in `raw`.
    Raw(usize, usize),
    /// In the row: text that is invalid.
    InvalidInRow,
    /// In the row: no text.
    InRow,
}

impl Texts {
    fn cells_utf16<'r>(
        &'r mut self,
        encoding: TextEncoding,
        rows: &[&'r Row<'_>],
        cells: &mut Vec<Cell<'r>>,
    ) -> rusqlite::Result<()> {
        self.decoded.clear();
        self.raw.clear();
        self.places.clear();
        let columns = |row: &Row<'_>| (0..row.as_ref().column_count()).step_by(2);
        for row in rows {
            for column in columns(row) {
                let place = match (row.get_ref(column)?, row.get_ref(column + 1)?) {
                    (ValueRef::Blob(bytes), ValueRef::Integer(beginning)) => self.text(encoding, bytes, beginning),
                    _ => ValuePlace::InRow,
                };
                self.places.push(place);
            }
        }
        let texts = &*self;
        let mut places = texts.places.iter();
        for row in rows {
            for column in columns(row) {
                let place = places.next().copied().unwrap_or(ValuePlace::InRow);
                cells.push(match (place, row.get_ref(column)?) {
                    (ValuePlace::Decoded(start, end), _) => Cell::Text(&texts.decoded[start..end]),
                    (ValuePlace::Raw(start, end), _) => Cell::Encoded(encoding.invalid(), &texts.raw[start..end]),
                    (ValuePlace::InvalidInRow, ValueRef::Blob(bytes)) => Cell::Encoded(encoding.invalid(), bytes),
                    (_, value) => cell_of(value),
                });
            }
        }
        Ok(())
    }

    /// Decodes a text, and puts back what it began with.
    fn text(&mut self, encoding: TextEncoding, bytes: &[u8], beginning: i64) -> ValuePlace {
        let mark = match beginning {
            MARK_TAKEN => "\u{feff}",
            SWAPPED_MARK_TAKEN => "\u{fffe}",
            _ => "",
        };
        let is_symmetric = || bytes.chunks_exact(2).all(|unit| unit[0] == unit[1]);
        if beginning == UNTOLD || beginning == MARK_TAKEN && is_symmetric() {
            self.doubts += 1;
        }
        let start = self.decoded.len();
        self.decoded.push_str(mark);
        if encoding.decode(bytes, &mut self.decoded) == Decoded::Valid {
            return ValuePlace::Decoded(start, self.decoded.len());
        }
        self.decoded.truncate(start);
        if mark.is_empty() {
            return ValuePlace::InvalidInRow;
        }
        let start = self.raw.len();
        self.raw.extend_from_slice(&encoding.encode(mark));
        self.raw.extend_from_slice(bytes);
        ValuePlace::Raw(start, self.raw.len())
    }
}
