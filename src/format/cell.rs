//! Cells and rows (`docs/format.md` section 4). A cell is stored by the kind of its value, not by its database type, so
//! that adding, renaming or widening a column changes no stored byte.
//!
//! The encoding is canonical: equal values have equal bytes, and readers accept nothing else.

use crate::base::id::ChunkId;
use crate::format::server_encoding::ServerEncoding;
use crate::format::wire::{Put, Take, WireError, ensure};

/// Encoding of text that is not valid UTF-8.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Encoding {
    /// Labelled UTF-8, but with invalid sequences.
    Utf8Invalid,
    /// UTF-16, little-endian, with lone surrogates or an odd length.
    Utf16Le,
    /// UTF-16, big-endian, with lone surrogates or an odd length.
    Utf16Be,
    /// ISO 8859-1.
    Latin1,
    /// Unknown encoding (PostgreSQL's `SQL_ASCII`).
    SqlAscii,
    /// Another encoding of a PostgreSQL server, of text that has no equivalent in Unicode.
    Server(ServerEncoding),
}

/// The byte of the server encoding with number 0.
const SERVER_ENCODINGS: u8 = 64;

impl Encoding {
    /// The byte that is stored.
    #[must_use]
    pub fn byte(self) -> u8 {
        match self {
            Self::Utf8Invalid => 1,
            Self::Utf16Le => 2,
            Self::Utf16Be => 3,
            Self::Latin1 => 4,
            Self::SqlAscii => 5,
            Self::Server(encoding) => SERVER_ENCODINGS + encoding.number(),
        }
    }

    fn from_byte(byte: u8) -> Result<Self, WireError> {
        Ok(match byte {
            1 => Self::Utf8Invalid,
            2 => Self::Utf16Le,
            3 => Self::Utf16Be,
            4 => Self::Latin1,
            5 => Self::SqlAscii,
            other => return Self::of_server(other).ok_or(WireError::unsupported("text encoding", other)),
        })
    }

    fn of_server(byte: u8) -> Option<Self> {
        ServerEncoding::new(byte.checked_sub(SERVER_ENCODINGS)?).map(Self::Server)
    }
}

/// The kind of value that the bytes of a stream represent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StreamKind {
    /// Text, valid UTF-8.
    Text,
    /// Bytes.
    Bytes,
    /// Text in another encoding.
    Encoded(Encoding),
    /// Text from a type's output function.
    Output,
}

/// Refers to the content of a stream: one piece, or a list of pieces.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct StreamRef {
    /// Whether `id` is the id of a piece or of a list.
    pub form: StreamForm,
    /// Id of the piece or list.
    pub id: ChunkId,
    /// Length of the whole stream in bytes.
    pub len: u64,
}

/// Whether the id of a [`StreamRef`] is the id of a piece or of a list.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum StreamForm {
    /// The only piece.
    Piece = 0,
    /// A list of pieces.
    List = 1,
}

impl StreamForm {
    /// The form with this byte.
    /// Fails if this version does not know the byte.
    pub fn from_byte(byte: u8) -> Result<Self, WireError> {
        match byte {
            0 => Ok(Self::Piece),
            1 => Ok(Self::List),
            other => Err(WireError::unsupported("stream form", other)),
        }
    }
}

/// One value. Borrows its bytes, so that a scan allocates nothing per cell.
#[derive(Clone, Copy, Debug)]
pub enum Cell<'a> {
    Null,
    Absent,
    Bool(bool),
    Integer(i64),
    Real(f64),
    Real32(f32),
    Text(&'a str),
    Bytes(&'a [u8]),
    Encoded(Encoding, &'a [u8]),
    Numeric(Numeric<'a>),
    /// Microseconds since 2000-01-01. `i64::MIN` and `i64::MAX` are the infinities.
    Timestamp(i64),
    /// Days since 2000-01-01. `i32::MIN` and `i32::MAX` are the infinities.
    Date(i32),
    /// Microseconds since midnight.
    Time(i64),
    /// Microseconds since midnight, then seconds west of UTC.
    TimeZoned(i64, i32),
    Interval {
        months: i32,
        days: i32,
        microseconds: i64,
    },
    Uuid([u8; 16]),
    Output(&'a [u8]),
    /// A value that could not be read from the source.
    Lost,
    Stream(StreamKind, StreamRef),
}

/// A decimal number as PostgreSQL stores it: `digits` times ten to `exponent`, displayed with `scale` decimals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numeric<'a> {
    Finite { negative: bool, scale: u16, exponent: i32, digits: &'a [u8] },
    NaN,
    Infinity,
    NegativeInfinity,
}

/// Equality of stored bytes. Reals compare by bits, so a NaN equals the same NaN, and 0.0 differs from -0.0.
impl PartialEq for Cell<'_> {
    fn eq(&self, other: &Self) -> bool {
        OwnedCell::new(self) == OwnedCell::new(other)
    }
}

impl Eq for Cell<'_> {}

const NULL: u8 = 0;
const ABSENT: u8 = 1;
const FALSE: u8 = 2;
const TRUE: u8 = 3;
const INTEGER: u8 = 4;
const REAL: u8 = 5;
const REAL32: u8 = 6;
const TEXT: u8 = 7;
const BYTES: u8 = 8;
const ENCODED: u8 = 9;
const NUMERIC: u8 = 10;
const TIMESTAMP: u8 = 11;
const DATE: u8 = 12;
const TIME: u8 = 13;
const TIME_ZONED: u8 = 14;
const INTERVAL: u8 = 15;
const UUID: u8 = 16;
const OUTPUT: u8 = 17;
const LOST: u8 = 18;
const STREAM: u8 = 32;

impl<'a> Cell<'a> {
    /// Appends the canonical bytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        match *self {
            Self::Null => out.push(NULL),
            Self::Absent => out.push(ABSENT),
            Self::Bool(value) => out.push(if value { TRUE } else { FALSE }),
            Self::Integer(value) => tagged_sv(out, INTEGER, value),
            Self::Real(value) => tagged(out, REAL, &value.to_bits().to_le_bytes()),
            Self::Real32(value) => tagged(out, REAL32, &value.to_bits().to_le_bytes()),
            Self::Text(text) => tagged_bytes(out, TEXT, text.as_bytes()),
            Self::Bytes(bytes) => tagged_bytes(out, BYTES, bytes),
            Self::Encoded(encoding, bytes) => write_encoded(out, encoding, bytes),
            Self::Numeric(numeric) => numeric.write(out),
            Self::Timestamp(value) => tagged_sv(out, TIMESTAMP, value),
            Self::Date(value) => tagged_sv(out, DATE, i64::from(value)),
            Self::Time(value) => tagged_sv(out, TIME, value),
            Self::TimeZoned(value, west) => write_time_zoned(out, value, west),
            Self::Interval { months, days, microseconds } => write_interval(out, months, days, microseconds),
            Self::Uuid(bytes) => tagged(out, UUID, &bytes),
            Self::Output(bytes) => tagged_bytes(out, OUTPUT, bytes),
            Self::Lost => out.push(LOST),
            Self::Stream(kind, stream) => write_stream(out, kind, &stream),
        }
    }

    /// Reads one cell.
    /// Fails if the bytes end inside the cell, if the cell has a kind or encoding that this version does not know, or
    /// if its form is not the canonical one.
    pub fn read(take: &mut Take<'a>) -> Result<Self, WireError> {
        Ok(match take.u8("cell kind")? {
            NULL => Self::Null,
            ABSENT => Self::Absent,
            FALSE => Self::Bool(false),
            TRUE => Self::Bool(true),
            INTEGER => Self::Integer(take.sv("integer")?),
            REAL => Self::Real(f64::from_bits(take.u64("real")?)),
            REAL32 => Self::Real32(f32::from_bits(take.u32("real32")?)),
            TEXT => Self::Text(valid_text(take.bytes("text")?, "text")?),
            BYTES => Self::Bytes(take.bytes("bytes")?),
            ENCODED => Self::Encoded(read_encoding(take)?, take.bytes("encoded text")?),
            NUMERIC => Self::Numeric(Numeric::read(take)?),
            TIMESTAMP => Self::Timestamp(take.sv("timestamp")?),
            DATE => Self::Date(read_i32(take, "date")?),
            TIME => Self::Time(take.sv("time")?),
            TIME_ZONED => read_time_zoned(take)?,
            INTERVAL => read_interval(take)?,
            UUID => Self::Uuid(take.array("uuid")?),
            OUTPUT => Self::Output(take.bytes("output")?),
            LOST => Self::Lost,
            STREAM => read_stream(take)?,
            other => return Err(WireError::unsupported("cell kind", other)),
        })
    }

    /// The bytes of a value of a kind that may be stored as a stream. `None` for other kinds.
    #[must_use]
    pub fn stream_candidate(&self) -> Option<(StreamKind, &'a [u8])> {
        match *self {
            Self::Text(text) => Some((StreamKind::Text, text.as_bytes())),
            Self::Bytes(bytes) => Some((StreamKind::Bytes, bytes)),
            Self::Encoded(encoding, bytes) => Some((StreamKind::Encoded(encoding), bytes)),
            Self::Output(bytes) => Some((StreamKind::Output, bytes)),
            _ => None,
        }
    }

    /// The cell for the bytes of a stream of this kind.
    /// Fails if the bytes of a text are not UTF-8.
    pub fn from_stream(kind: StreamKind, bytes: &'a [u8]) -> Result<Self, WireError> {
        Ok(match kind {
            StreamKind::Text => Self::Text(valid_text(bytes, "text of a stream")?),
            StreamKind::Bytes => Self::Bytes(bytes),
            StreamKind::Encoded(encoding) => Self::Encoded(encoding, bytes),
            StreamKind::Output => Self::Output(bytes),
        })
    }
}

fn tagged(out: &mut Vec<u8>, kind: u8, bytes: &[u8]) {
    out.push(kind);
    out.extend_from_slice(bytes);
}

fn tagged_sv(out: &mut Vec<u8>, kind: u8, value: i64) {
    out.push(kind);
    out.put_sv(value);
}

fn tagged_bytes(out: &mut Vec<u8>, kind: u8, bytes: &[u8]) {
    out.push(kind);
    out.put_bytes(bytes);
}

/// Digits must be decimal, and the first must not be 0.
fn check_digits(digits: &[u8]) -> Result<(), WireError> {
    let are_significant = digits.iter().all(u8::is_ascii_digit) && digits.first() != Some(&b'0');
    ensure(are_significant, "digits of a numeric")
}

fn write_encoded(out: &mut Vec<u8>, encoding: Encoding, bytes: &[u8]) {
    out.push(ENCODED);
    tagged_bytes(out, encoding.byte(), bytes);
}

fn write_time_zoned(out: &mut Vec<u8>, microseconds: i64, west: i32) {
    tagged_sv(out, TIME_ZONED, microseconds);
    out.put_sv(i64::from(west));
}

fn write_interval(out: &mut Vec<u8>, months: i32, days: i32, microseconds: i64) {
    tagged_sv(out, INTERVAL, i64::from(months));
    out.put_sv(i64::from(days));
    out.put_sv(microseconds);
}

fn read_encoding(take: &mut Take<'_>) -> Result<Encoding, WireError> {
    Encoding::from_byte(take.u8("encoding")?)
}

fn read_time_zoned<'a>(take: &mut Take<'a>) -> Result<Cell<'a>, WireError> {
    let microseconds = take.sv("time with zone")?;
    Ok(Cell::TimeZoned(microseconds, read_i32(take, "time with zone")?))
}

fn read_i32(take: &mut Take<'_>, what: &'static str) -> Result<i32, WireError> {
    i32::try_from(take.sv(what)?).map_err(|_| WireError::Invalid { what })
}

fn valid_text<'a>(bytes: &'a [u8], what: &'static str) -> Result<&'a str, WireError> {
    std::str::from_utf8(bytes).map_err(|_| WireError::Invalid { what })
}

fn read_interval<'a>(take: &mut Take<'a>) -> Result<Cell<'a>, WireError> {
    let months = read_i32(take, "interval")?;
    let days = read_i32(take, "interval")?;
    let microseconds = take.sv("interval")?;
    Ok(Cell::Interval { months, days, microseconds })
}

fn write_stream(out: &mut Vec<u8>, kind: StreamKind, stream: &StreamRef) {
    out.push(STREAM);
    write_stream_kind(out, kind);
    stream.write(out);
}

fn write_stream_kind(out: &mut Vec<u8>, kind: StreamKind) {
    match kind {
        StreamKind::Text => out.push(TEXT),
        StreamKind::Bytes => out.push(BYTES),
        StreamKind::Encoded(encoding) => out.extend_from_slice(&[ENCODED, encoding.byte()]),
        StreamKind::Output => out.push(OUTPUT),
    }
}

fn read_stream<'a>(take: &mut Take<'a>) -> Result<Cell<'a>, WireError> {
    let kind = read_stream_kind(take)?;
    Ok(Cell::Stream(kind, StreamRef::read(take)?))
}

impl StreamRef {
    fn write(&self, out: &mut Vec<u8>) {
        out.push(self.form as u8);
        out.put_uv(self.len);
        out.extend_from_slice(self.id.as_bytes());
    }

    fn read(take: &mut Take<'_>) -> Result<Self, WireError> {
        let form = StreamForm::from_byte(take.u8("stream form")?)?;
        let len = take.uv("stream length")?;
        let id = ChunkId::new(take.array("stream id")?);
        Ok(Self { form, id, len })
    }
}

fn read_stream_kind(take: &mut Take<'_>) -> Result<StreamKind, WireError> {
    match take.u8("stream kind")? {
        TEXT => Ok(StreamKind::Text),
        BYTES => Ok(StreamKind::Bytes),
        ENCODED => read_encoding(take).map(StreamKind::Encoded),
        OUTPUT => Ok(StreamKind::Output),
        other => Err(WireError::unsupported("stream kind", other)),
    }
}

impl<'a> Numeric<'a> {
    fn write(&self, out: &mut Vec<u8>) {
        out.push(NUMERIC);
        match *self {
            Self::Finite { negative, scale, exponent, digits } => {
                out.push(u8::from(negative));
                out.put_uv(u64::from(scale));
                out.put_sv(i64::from(exponent));
                out.put_bytes(digits);
            }
            Self::NaN => out.push(2),
            Self::Infinity => out.push(3),
            Self::NegativeInfinity => out.push(4),
        }
    }

    fn read(take: &mut Take<'a>) -> Result<Self, WireError> {
        match take.u8("numeric")? {
            sign @ 0..=1 => Self::read_finite(take, sign == 1),
            2 => Ok(Self::NaN),
            3 => Ok(Self::Infinity),
            4 => Ok(Self::NegativeInfinity),
            other => Err(WireError::unsupported("numeric form", other)),
        }
    }

    fn read_finite(take: &mut Take<'a>, negative: bool) -> Result<Self, WireError> {
        let scale = take.uv_as("scale of a numeric")?;
        let exponent = read_i32(take, "exponent of a numeric")?;
        let digits = take.bytes("digits of a numeric")?;
        check_digits(digits)?;
        Ok(Self::Finite { negative, scale, exponent, digits })
    }
}

/// A value that owns its bytes, for column defaults in the catalog and reference rows in tests.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct OwnedCell {
    /// Empty if the value is null: of a million columns, nearly all have no default.
    bytes: Box<[u8]>,
}

impl OwnedCell {
    /// Copies `cell`.
    #[must_use]
    pub fn new(cell: &Cell<'_>) -> Self {
        let mut bytes = Vec::new();
        if !matches!(cell, Cell::Null) {
            cell.write(&mut bytes);
        }
        Self { bytes: bytes.into() }
    }

    /// Reads canonical bytes.
    /// Fails unless they are exactly one cell.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, WireError> {
        let mut take = Take::new(bytes);
        let cell = Cell::read(&mut take)?;
        take.finish()?;
        Ok(Self::new(&cell))
    }

    /// The canonical bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        if self.bytes.is_empty() { &[NULL] } else { &self.bytes }
    }

    /// The cell.
    #[must_use]
    pub fn get(&self) -> Cell<'_> {
        Cell::read(&mut Take::new(self.as_bytes())).expect("an OwnedCell holds one valid cell")
    }
}

#[cfg(test)]
mod tests {
    use super::{Cell, Encoding, Numeric, StreamForm, StreamKind, StreamRef};
    use crate::base::id::ChunkId;
    use crate::format::server_encoding::ServerEncoding;
    use crate::format::wire::Take;

    #[test]
    fn every_kind_round_trips() {
        let stream = StreamRef { form: StreamForm::List, id: ChunkId::new([9; 20]), len: 1 << 40 };
        let cells = [
            Cell::Null,
            Cell::Absent,
            Cell::Bool(true),
            Cell::Integer(i64::MIN),
            Cell::Integer(i64::MAX),
            Cell::Real(-0.0),
            Cell::Real(f64::from_bits(0x7ff8_0000_0000_0001)),
            Cell::Real32(f32::NEG_INFINITY),
            Cell::Text("a\0b\u{1F600}"),
            Cell::Bytes(&[0, 255]),
            Cell::Encoded(Encoding::Utf16Le, &[0x00, 0xd8]),
            Cell::Numeric(Numeric::Finite { negative: true, scale: 2, exponent: -2, digits: b"1050" }),
            Cell::Numeric(Numeric::NaN),
            Cell::Timestamp(i64::MAX),
            Cell::Date(i32::MIN),
            Cell::Time(86_400_000_000),
            Cell::TimeZoned(1, -3600),
            Cell::Interval { months: -1, days: 2, microseconds: -3 },
            Cell::Uuid([7; 16]),
            Cell::Output(b"{1,2}"),
            Cell::Lost,
            Cell::Encoded(Encoding::Server(ServerEncoding::new(24).expect("WIN1252")), &[0x81]),
            Cell::Stream(StreamKind::Encoded(Encoding::SqlAscii), stream),
        ];
        for cell in cells {
            let mut bytes = Vec::new();
            cell.write(&mut bytes);
            let mut take = Take::new(&bytes);
            assert_eq!(Cell::read(&mut take), Ok(cell));
            assert_eq!(take.finish(), Ok(()));
            for cut in 0..bytes.len() {
                assert!(Cell::read(&mut Take::new(&bytes[..cut])).is_err(), "{cell:?} cut at {cut}");
            }
        }
    }
}
