//! Decodes a `COPY ... TO STDOUT (FORMAT binary)` of one table: splits its messages into tuples of fields, and decodes
//! these into rows of canonical cells, without a copy per cell.
//!
//! Messages may end anywhere. A tuple within one message is decoded in place. If a tuple spans messages, each of its
//! bytes is copied once, into a buffer that is allocated for the whole value.

use crate::engine::contract::{RowSink, SinkError};
use crate::engine::postgres::connect::session_settings::SessionEncoding;
use crate::engine::postgres::value::column_type::{ColumnType, FormatPreference, WireFormat};
use crate::engine::postgres::value::copy_error::{CopyError, RowsError};
use crate::engine::postgres::value::field_decoder::{
    PreparedRow, RowScratch, binary_cell, prepare_binary, prepare_text, text_cell,
};
use crate::engine::postgres::value::parent_value_cells::ParentValueCells;
use crate::engine::postgres::value::value_kind::{FieldError, ValueKind};
use crate::format::cell::Cell;

const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";
/// Size of the signature, the flags and the length of the header extension.
const HEADER_BYTES: usize = 19;
const EXTENSION_BYTES_MAX: usize = 1 << 16;
/// Flags that a reader must not ignore: the upper half. None of them is supported.
const CRITICAL_FLAGS: u32 = 0xffff_0000;
const COUNT_BYTES: usize = 2;
const LENGTH_BYTES: usize = 4;
/// Marks the end of the data, in place of a number of fields.
const TRAILER: i16 = -1;
/// Marks NULL, in place of the length of a field.
const NULL_LENGTH: i32 = -1;
/// Longest accepted field. No value is longer.
const FIELD_BYTES_MAX: usize = 1 << 30;
/// Size of the carry buffer that is kept for the next tuple that spans messages.
const CARRY_BYTES_KEPT: usize = 1 << 20;

/// Reads the rows of one table.
pub struct RowReader {
    table: String,
    copy: CopyReader,
    decoder: RowDecoder,
}

impl RowReader {
    /// A reader for a copy of these columns.
    #[must_use]
    pub fn new(table: &str, columns: Vec<CopyColumn>, encoding: SessionEncoding) -> Self {
        Self {
            table: table.to_owned(),
            copy: CopyReader::new(columns.len()),
            decoder: RowDecoder::new(columns, encoding),
        }
    }

    /// Adds these parent values at the end of each row.
    #[must_use]
    pub(crate) fn with_parent_values(mut self, parent_values: ParentValueCells) -> Self {
        self.decoder.parent_values = (!parent_values.of.is_empty()).then_some(parent_values);
        self
    }

    /// Decodes the next message of the copy. Rows that end in it are passed to `sink`.
    /// Follows "Binary Format" on PostgreSQL's page about COPY.
    /// Fails if the data is not a binary COPY of these columns, a value is not valid for its column's type, or `sink`
    /// fails.
    pub fn push(&mut self, message: &[u8], sink: &mut dyn RowSink) -> Result<(), RowsError> {
        let decoder = &mut self.decoder;
        let pushed = self.copy.push(message, &mut |fields| decoder.row(fields, sink));
        pushed.map_err(|failure| self.error(failure))
    }

    /// Number of rows passed on so far.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.copy.rows
    }

    /// Ends the copy. Returns the number of rows.
    /// Fails if the trailer was not received: the copy is truncated.
    pub fn finish(self) -> Result<u64, RowsError> {
        self.copy.finish().map_err(|error| self.error(RowFailure::Copy(error)))
    }

    fn error(&self, failure: RowFailure) -> RowsError {
        let table = self.table.clone();
        match failure {
            RowFailure::Copy(source) => RowsError::Copy { table, source },
            RowFailure::Sink(source) => RowsError::Sink { table, source },
            RowFailure::Value { column, source } => {
                let column = self.decoder.columns[column].name.clone();
                RowsError::Value { table, row: self.copy.rows, column, source }
            }
        }
    }
}

/// Why one row could not be passed on, without the name of the table.
enum RowFailure {
    Copy(CopyError),
    /// `column` is the position of the column.
    Value {
        column: usize,
        source: FieldError,
    },
    Sink(SinkError),
}

impl From<CopyError> for RowFailure {
    fn from(error: CopyError) -> Self {
        Self::Copy(error)
    }
}

/// Decodes the fields of tuples into cells.
struct RowDecoder {
    encoding: SessionEncoding,
    columns: Vec<CopyColumn>,
    parent_values: Option<ParentValueCells>,
    scratch: RowScratch,
    /// The allocation for the cells of the next row.
    spare: Vec<Cell<'static>>,
}

/// A column of a copy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CopyColumn {
    /// As errors name it.
    pub name: String,
    pub kind: ValueKind,
    pub format: WireFormat,
}

impl CopyColumn {
    /// A column of this type, which must be selected with [`ColumnType::select`].
    #[must_use]
    pub fn new(name: &str, column_type: &ColumnType, preference: FormatPreference) -> Self {
        let format = column_type.wire_format(preference);
        Self { name: name.to_owned(), kind: column_type.kind, format }
    }

    fn prepare(&self, field: &[u8], scratch: &mut RowScratch) -> Result<(), FieldError> {
        match self.format {
            WireFormat::Binary => prepare_binary(self.kind, field, scratch),
            WireFormat::Text => prepare_text(self.kind, field, scratch),
        }
    }

    fn cell<'a>(
        &self,
        field: &'a [u8],
        encoding: SessionEncoding,
        prepared: &mut PreparedRow<'a>,
    ) -> Result<Cell<'a>, FieldError> {
        match self.format {
            WireFormat::Binary => binary_cell(self.kind, encoding, field, prepared),
            WireFormat::Text => text_cell(self.kind, encoding, field, prepared),
        }
    }
}

impl RowDecoder {
    fn new(columns: Vec<CopyColumn>, encoding: SessionEncoding) -> Self {
        let spare = Vec::with_capacity(columns.len());
        Self { encoding, columns, parent_values: None, scratch: RowScratch::default(), spare }
    }

    /// Decodes one row and passes it to `sink`.
    fn row(&mut self, fields: TupleFields<'_>, sink: &mut dyn RowSink) -> Result<(), RowFailure> {
        self.prepare(fields)?;
        let mut cells = emptied(std::mem::take(&mut self.spare));
        self.decode(fields, &mut cells)?;
        if let Some(parent_values) = &self.parent_values {
            parent_values.complete(&mut cells);
        }
        let passed = sink.row(&cells).map_err(RowFailure::Sink);
        self.spare = emptied(cells);
        passed
    }

    /// Fills the scratch buffer for the whole row. Its cells borrow from the buffer afterwards.
    fn prepare(&mut self, fields: TupleFields<'_>) -> Result<(), RowFailure> {
        self.scratch.clear();
        for (at, (column, field)) in self.columns.iter().zip(fields.iter()).enumerate() {
            let Some(field) = field else { continue };
            let prepared = column.prepare(field, &mut self.scratch);
            prepared.map_err(|source| RowFailure::Value { column: at, source })?;
        }
        Ok(())
    }

    fn decode<'a>(&'a self, fields: TupleFields<'a>, cells: &mut Vec<Cell<'a>>) -> Result<(), RowFailure> {
        let mut prepared = PreparedRow::of(&self.scratch);
        for (at, (column, field)) in self.columns.iter().zip(fields.iter()).enumerate() {
            let cell = match field {
                Some(field) => column.cell(field, self.encoding, &mut prepared),
                None => Ok(Cell::Null),
            };
            cells.push(cell.map_err(|source| RowFailure::Value { column: at, source })?);
        }
        Ok(())
    }
}

/// Empties the vector and reuses its allocation for cells with a different lifetime.
fn emptied<'b>(mut cells: Vec<Cell<'_>>) -> Vec<Cell<'b>> {
    cells.clear();
    cells.into_iter().map(|_| unreachable!("the vector is empty")).collect()
}

/// Splits a stream into tuples and fields, without knowing types.
struct CopyReader {
    part: CopyPart,
    /// Number of fields in each tuple.
    columns: usize,
    rows: u64,
    /// The beginning of a part whose end was not received yet.
    carry: Vec<u8>,
    scan: TupleScan,
}

/// The part of the stream that the next bytes belong to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum CopyPart {
    Header,
    Tuple,
    End,
}

/// Whether a part was received completely.
enum PartFound {
    /// The part is complete and has this many bytes.
    Whole(usize),
    /// The part is incomplete. At least this many bytes are needed to continue the scan.
    Needs(usize),
}

impl CopyReader {
    fn new(columns: usize) -> Self {
        let scan = TupleScan { at: 0, spans: Vec::with_capacity(columns) };
        Self { part: CopyPart::Header, columns, rows: 0, carry: Vec::new(), scan }
    }

    /// Scans the next message. Tuples that end in it are passed to `sink`, whose errors are returned.
    fn push<E: From<CopyError>>(
        &mut self,
        message: &[u8],
        sink: &mut impl FnMut(TupleFields<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut rest = message;
        while !self.carry.is_empty() && !rest.is_empty() {
            rest = self.extend_carry(rest, sink)?;
        }
        while !rest.is_empty() {
            rest = self.take_part(rest, sink)?;
        }
        Ok(())
    }

    /// Adds the bytes that the carried part needs next, and processes the part if it is complete. Returns the rest of
    /// the message.
    fn extend_carry<'m, E: From<CopyError>>(
        &mut self,
        message: &'m [u8],
        sink: &mut impl FnMut(TupleFields<'_>) -> Result<(), E>,
    ) -> Result<&'m [u8], E> {
        let mut carry = std::mem::take(&mut self.carry);
        let missing = self.missing_bytes(&carry)?;
        let (taken, rest) = message.split_at(missing.min(message.len()));
        carry.reserve_exact(missing);
        carry.extend_from_slice(taken);
        if let PartFound::Whole(_) = self.scan_part(&carry)? {
            self.complete(&carry, sink)?;
            carry.clear();
            carry.shrink_to(CARRY_BYTES_KEPT);
        }
        self.carry = carry;
        Ok(rest)
    }

    fn missing_bytes(&mut self, carry: &[u8]) -> Result<usize, CopyError> {
        let PartFound::Needs(bytes) = self.scan_part(carry)? else {
            // `extend_carry` adds no more bytes than the part needs, and removes it once it is complete.
            unreachable!("a complete part is not carried");
        };
        Ok(bytes.saturating_sub(carry.len()))
    }

    /// Processes the part at the start of the message if it is complete, otherwise carries it until its end arrives.
    /// Returns the rest of the message.
    fn take_part<'m, E: From<CopyError>>(
        &mut self,
        message: &'m [u8],
        sink: &mut impl FnMut(TupleFields<'_>) -> Result<(), E>,
    ) -> Result<&'m [u8], E> {
        match self.scan_part(message)? {
            PartFound::Whole(bytes) => {
                let (part, rest) = message.split_at(bytes);
                self.complete(part, sink)?;
                Ok(rest)
            }
            PartFound::Needs(bytes) => {
                self.carry.reserve_exact(bytes);
                self.carry.extend_from_slice(message);
                Ok(&[])
            }
        }
    }

    /// Ends the stream. Fails if the trailer was not received.
    fn finish(&self) -> Result<u64, CopyError> {
        if self.part != CopyPart::End {
            return Err(CopyError::Truncated { rows: self.rows });
        }
        Ok(self.rows)
    }

    /// Scans the current part, continuing where the last scan stopped.
    fn scan_part(&mut self, bytes: &[u8]) -> Result<PartFound, CopyError> {
        match self.part {
            CopyPart::Header => header(bytes),
            CopyPart::Tuple => self.scan.tuple(bytes, self.columns, self.rows),
            CopyPart::End => Err(CopyError::AfterEnd),
        }
    }

    /// Processes a complete part.
    fn complete<E: From<CopyError>>(
        &mut self,
        bytes: &[u8],
        sink: &mut impl FnMut(TupleFields<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        match self.part {
            CopyPart::Header => self.part = CopyPart::Tuple,
            CopyPart::Tuple if self.scan.is_trailer() => self.part = CopyPart::End,
            CopyPart::Tuple => {
                sink(TupleFields { tuple: bytes, spans: &self.scan.spans })?;
                self.rows += 1;
                self.scan.restart();
            }
            CopyPart::End => return Err(CopyError::AfterEnd.into()),
        }
        Ok(())
    }
}

/// Checks as much of the signature as was received.
fn check_signature(bytes: &[u8]) -> Result<(), CopyError> {
    let known = bytes.len().min(SIGNATURE.len());
    if bytes[..known] == SIGNATURE[..known] { Ok(()) } else { Err(CopyError::Header) }
}

fn header(bytes: &[u8]) -> Result<PartFound, CopyError> {
    check_signature(bytes)?;
    if bytes.len() < HEADER_BYTES {
        return Ok(PartFound::Needs(HEADER_BYTES));
    }
    let whole = HEADER_BYTES + extension_bytes(bytes)?;
    Ok(if bytes.len() < whole { PartFound::Needs(whole) } else { PartFound::Whole(whole) })
}

fn extension_bytes(header: &[u8]) -> Result<usize, CopyError> {
    let flags = number_at(header, SIGNATURE.len());
    let extension = number_at(header, SIGNATURE.len() + 4) as usize;
    match flags & CRITICAL_FLAGS != 0 || extension > EXTENSION_BYTES_MAX {
        true => Err(CopyError::Unsupported { flags }),
        false => Ok(extension),
    }
}

fn number_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// How far the current tuple was scanned. Positions are relative to its start.
struct TupleScan {
    at: usize,
    /// Spans of the fields found so far.
    spans: Vec<Option<FieldSpan>>,
}

impl TupleScan {
    /// Whether the complete part is the trailer. It has no fields, so the scan did not advance.
    fn is_trailer(&self) -> bool {
        self.at == 0
    }

    fn restart(&mut self) {
        self.at = 0;
        self.spans.clear();
    }

    fn tuple(&mut self, bytes: &[u8], columns: usize, row: u64) -> Result<PartFound, CopyError> {
        if self.at == 0 {
            let Some(count) = bytes.first_chunk() else { return Ok(PartFound::Needs(COUNT_BYTES)) };
            let count = i16::from_be_bytes(*count);
            if count == TRAILER {
                return Ok(PartFound::Whole(COUNT_BYTES));
            }
            check_columns(count, columns, row)?;
            self.at = COUNT_BYTES;
        }
        self.fields(bytes, columns, row)
    }

    /// Finds the remaining fields.
    fn fields(&mut self, bytes: &[u8], columns: usize, row: u64) -> Result<PartFound, CopyError> {
        while self.spans.len() < columns {
            if let Some(needed) = self.field(bytes, row)? {
                return Ok(PartFound::Needs(needed));
            }
        }
        Ok(PartFound::Whole(self.at))
    }

    /// Finds the next field. If it was not received completely, returns how many bytes of the tuple are needed.
    fn field(&mut self, bytes: &[u8], row: u64) -> Result<Option<usize>, CopyError> {
        let start = self.at + LENGTH_BYTES;
        let Some(length) = bytes.get(self.at..start).and_then(<[u8]>::first_chunk) else { return Ok(Some(start)) };
        let Some(length) = field_length(i32::from_be_bytes(*length), row)? else {
            self.pass(None, start);
            return Ok(None);
        };
        let end = start + length;
        if bytes.len() < end {
            return Ok(Some(end));
        }
        self.pass(Some(FieldSpan { start, end }), end);
        Ok(None)
    }

    fn pass(&mut self, span: Option<FieldSpan>, end: usize) {
        self.spans.push(span);
        self.at = end;
    }
}

fn check_columns(found: i16, expected: usize, row: u64) -> Result<(), CopyError> {
    if usize::try_from(found) == Ok(expected) { Ok(()) } else { Err(CopyError::Columns { row, found, expected }) }
}

/// The length of a field, or `None` if it is NULL.
fn field_length(len: i32, row: u64) -> Result<Option<usize>, CopyError> {
    match usize::try_from(len) {
        Ok(bytes) if bytes <= FIELD_BYTES_MAX => Ok(Some(bytes)),
        Err(_) if len == NULL_LENGTH => Ok(None),
        _ => Err(CopyError::FieldLength { row, len }),
    }
}

/// The fields of a tuple, as spans of its bytes.
#[derive(Clone, Copy)]
struct TupleFields<'a> {
    tuple: &'a [u8],
    spans: &'a [Option<FieldSpan>],
}

/// The position of a field in its tuple.
#[derive(Clone, Copy)]
struct FieldSpan {
    start: usize,
    end: usize,
}

impl<'a> TupleFields<'a> {
    /// The fields in order. `None` is NULL.
    fn iter(&self) -> impl Iterator<Item = Option<&'a [u8]>> + use<'a> {
        let tuple = self.tuple;
        self.spans.iter().map(move |span| span.map(|span| &tuple[span.start..span.end]))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{CopyError, CopyReader, TupleFields};

    type Rows = Vec<Vec<Option<Vec<u8>>>>;

    fn push(reader: &mut CopyReader, message: &[u8], rows: &mut Rows) -> Result<(), CopyError> {
        reader.push(message, &mut |fields: TupleFields<'_>| {
            rows.push(fields.iter().map(|field| field.map(<[u8]>::to_vec)).collect());
            Ok(())
        })
    }

    fn header() -> Vec<u8> {
        [b"PGCOPY\n\xff\r\n\0".as_slice(), &[0, 0, 0, 1, 0, 0, 0, 3], b"new"].concat()
    }

    fn stream(rows: &[Vec<Option<Vec<u8>>>]) -> Vec<u8> {
        let mut out = header();
        for row in rows {
            out.extend((row.len() as i16).to_be_bytes());
            for field in row {
                out.extend(field.as_ref().map_or(-1, |bytes| bytes.len() as i32).to_be_bytes());
                out.extend(field.iter().flatten());
            }
        }
        out.extend((-1i16).to_be_bytes());
        out
    }

    fn read(columns: usize, messages: &[&[u8]]) -> Result<Rows, CopyError> {
        let mut reader = CopyReader::new(columns);
        let mut rows = Rows::default();
        for message in messages {
            push(&mut reader, message, &mut rows)?;
        }
        assert_eq!(reader.finish()?, rows.len() as u64);
        Ok(rows)
    }

    fn table() -> impl Strategy<Value = (usize, Vec<Vec<Option<Vec<u8>>>>)> {
        (0usize..5).prop_flat_map(|columns| {
            let field = prop::option::of(prop::collection::vec(any::<u8>(), 0..9));
            let row = prop::collection::vec(field, columns);
            (Just(columns), prop::collection::vec(row, 0..6))
        })
    }

    proptest! {
        #![proptest_config(crate::base::property::config())]

        #[test]
        fn message_boundaries_do_not_change_the_rows((columns, rows) in table(), cuts in prop::collection::vec(0.0f64..1.0, 0..8)) {
            let bytes = stream(&rows);
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| (cut * bytes.len() as f64) as usize).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let messages: Vec<&[u8]> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
            prop_assert_eq!(read(columns, &messages).expect("a copy"), rows.clone());
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            prop_assert_eq!(read(columns, &single).expect("a copy"), rows);
        }

        #[test]
        fn a_truncated_stream_is_an_error((columns, rows) in table(), cut in 0.0f64..1.0) {
            let bytes = stream(&rows);
            let cut = (cut * bytes.len() as f64) as usize;
            prop_assert!(read(columns, &[&bytes[..cut]]).is_err());
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(columns in 0usize..4, bytes: Vec<u8>, cut in 0usize..20) {
            let bytes = [header(), bytes].concat();
            let (a, b) = bytes.split_at(cut);
            let _ = read(columns, &[a, b]);
        }
    }

    #[test]
    fn a_stream_that_is_not_a_copy_is_refused() {
        let read_one = |columns, bytes: &[u8]| read(columns, &[bytes]).expect_err("not a copy");
        assert_eq!(read_one(1, b"PGCOPY\n\xff\r\n\r"), CopyError::Header);
        let flagged = [b"PGCOPY\n\xff\r\n\0".as_slice(), &[0, 1, 0, 0, 0, 0, 0, 0]].concat();
        assert_eq!(read_one(1, &flagged), CopyError::Unsupported { flags: 1 << 16 });
        let two = stream(&[vec![None, None]]);
        assert_eq!(read_one(1, &two), CopyError::Columns { row: 0, found: 2, expected: 1 });
        let negative = [header(), vec![0, 1, 0xff, 0xff, 0xff, 0xfe]].concat();
        assert_eq!(read_one(1, &negative), CopyError::FieldLength { row: 0, len: -2 });
        let more = [stream(&[]), vec![0]].concat();
        assert_eq!(read_one(1, &more), CopyError::AfterEnd);
    }

    #[test]
    fn the_buffer_for_a_large_value_is_allocated_once_and_freed() {
        let rows = [vec![Some(vec![7; 5 << 20])], vec![Some(vec![8; 3])]];
        let bytes = stream(&rows);
        let mut reader = CopyReader::new(1);
        let mut found = Rows::default();
        let mut rooms = Vec::new();
        for message in bytes.chunks(100_000) {
            push(&mut reader, message, &mut found).expect("a copy");
            rooms.push(reader.carry.capacity());
        }
        assert_eq!(found, rows);
        rooms.dedup();
        assert!(rooms.len() <= 3, "{rooms:?}");
        assert!(rooms.last() <= Some(&super::CARRY_BYTES_KEPT));
    }
}
