//! Canonical cells back into a server: the inverse of reading.
//!
//! Rows go as COPY in text format, which every version reads alike. A few values cannot: bytes of which the
//! hexadecimal text would be too long for a line, a "char" that is no text before version 16, a NaN with bits
//! of its own, the longest intervals. A row that holds one goes as the parameters of an INSERT, each as text or in its binary form.
//! The session has the settings of `transport`.

use std::borrow::Cow;

use bytes::BytesMut;
use thiserror::Error;
use tokio_postgres::types::{Format, IsNull, ToSql, Type};

use crate::engine::postgres::connect::session::SessionEncoding;
use crate::engine::postgres::value::calendar::{self, Zone};
use crate::engine::postgres::value::numeric::{self, NumericFit};
use crate::engine::postgres::value::value_kind::ValueKind;
use crate::format::cell::{Cell, Encoding};

/// Why a cell is no value of a PostgreSQL column.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum EncodeError {
    #[error("a text with a zero byte")]
    ZeroByte,
    #[error("a text in an encoding that the database does not have")]
    Encoding,
    #[error("a number that is larger than any server holds")]
    TooLarge,
    #[error("a value of a dropped column")]
    Absent,
    #[error("a value that was not put back into its row")]
    Stream,
    #[error("a row of more than the gigabyte that a server takes at once")]
    RowTooLong,
}

/// Where rows are restored to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EncodeTarget {
    /// Major version of the server.
    pub version: u32,
    /// Of the session.
    pub encoding: SessionEncoding,
}

/// How a row can be restored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum RowForm {
    /// As a line of a COPY.
    Copy,
    /// As parameters of an INSERT: nothing was written.
    Parameters,
}

/// The longest line that goes to a COPY: a server fails at 2^30 bytes, conversion may double them.
const LINE_BYTES_MAX: usize = 1 << 28;
/// The longest message that a server takes, and what it has in it beside the values of a row.
const MESSAGE_BYTES_MAX: usize = (1 << 30) - 2;
const MESSAGE_BYTES_OF_ROW: usize = 32;
const MESSAGE_BYTES_OF_VALUE: usize = 6;
const NULL: &[u8] = b"\\N";
/// The only NaN that a text stands for.
const NAN: u64 = 0x7ff8_0000_0000_0000;
const NAN32: u32 = 0x7fc0_0000;
/// The first version that reads a "char" above ASCII from text.
const CHAR_TEXT_SINCE: u32 = 16;
/// The first version with infinite intervals.
const INTERVAL_INFINITY_SINCE: u32 = 17;
/// The first version that reads all intervals; earlier ones end at 2^31 hours.
const LONG_INTERVAL_TEXT_SINCE: u32 = 15;
const SHORT_INTERVAL_US: u64 = (1 << 31) * 3_600_000_000;

/// Appends a row as a line of COPY in text format, unless it must go another way. Cells stand beside the
/// kinds of their columns.
pub fn push_line(
    out: &mut Vec<u8>,
    cells: &[Cell<'_>],
    kinds: &[ValueKind],
    place: EncodeTarget,
) -> Result<RowForm, EncodeError> {
    fits_message(cells)?;
    let start = out.len();
    for (at, (cell, kind)) in cells.iter().zip(kinds).enumerate() {
        if at > 0 {
            out.push(b'\t');
        }
        // Bytes take two digits each, and a text grows by its escapes.
        let too_long = cell.stream_candidate().is_some_and(|(_, bytes)| bytes.len() > LINE_BYTES_MAX / 2);
        if too_long || is_binary_only(cell, *kind, place) || out.len() - start > LINE_BYTES_MAX {
            out.truncate(start);
            return Ok(RowForm::Parameters);
        }
        let field = push_field(out, cell, *kind, place);
        if let Err(error) = field {
            out.truncate(start);
            return Err(error);
        }
    }
    out.push(b'\n');
    Ok(RowForm::Copy)
}

/// Whether the row could go as parameters at worst; a server ends the session over one that is too long.
pub(crate) fn fits_message(cells: &[Cell<'_>]) -> Result<(), EncodeError> {
    let values = cells.iter().filter_map(Cell::stream_candidate).map(|(_, bytes)| bytes.len());
    let bytes = values.sum::<usize>() + MESSAGE_BYTES_OF_ROW + MESSAGE_BYTES_OF_VALUE * cells.len();
    if bytes > MESSAGE_BYTES_MAX { Err(EncodeError::RowTooLong) } else { Ok(()) }
}

fn push_field(out: &mut Vec<u8>, cell: &Cell<'_>, kind: ValueKind, place: EncodeTarget) -> Result<(), EncodeError> {
    match *cell {
        Cell::Null => out.extend_from_slice(NULL),
        Cell::Bytes(bytes) => {
            out.push(b'\\');
            push_hex(out, bytes);
        }
        _ => match text_of(cell, place.encoding)? {
            Some(text) => push_escaped(out, &text),
            None => push_words(out, cell, kind, place)?,
        },
    }
    Ok(())
}

/// A backslash before what ends a field or a line, and before itself.
fn push_escaped(out: &mut Vec<u8>, text: &[u8]) {
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'\\' | b'\t' | b'\n' | b'\r')) {
        out.extend_from_slice(&rest[..at]);
        out.push(b'\\');
        out.push(match rest[at] {
            b'\t' => b't',
            b'\n' => b'n',
            b'\r' => b'r',
            other => other,
        });
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

/// What the input function of bytea reads.
fn push_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(b"\\x");
    let start = out.len();
    out.resize(start + 2 * bytes.len(), 0);
    data_encoding::HEXLOWER.encode_mut(bytes, &mut out[start..]);
}

/// The text of a cell that is one, as the session takes it.
pub(crate) fn text_of<'a>(cell: &Cell<'a>, encoding: SessionEncoding) -> Result<Option<Cow<'a, [u8]>>, EncodeError> {
    let text = match *cell {
        Cell::Text(text) => Cow::Borrowed(text.as_bytes()),
        Cell::Output(bytes) | Cell::Encoded(Encoding::SqlAscii | Encoding::Utf8Invalid, bytes) => Cow::Borrowed(bytes),
        Cell::Encoded(Encoding::Latin1, bytes) => match encoding {
            SessionEncoding::Utf8 => Cow::Owned(bytes.iter().map(|byte| char::from(*byte)).collect::<String>().into()),
            SessionEncoding::SqlAscii => Cow::Borrowed(bytes),
        },
        Cell::Encoded(Encoding::Utf16Le | Encoding::Utf16Be, _) => return Err(EncodeError::Encoding),
        _ => return Ok(None),
    };
    if text.contains(&0) { Err(EncodeError::ZeroByte) } else { Ok(Some(text)) }
}

/// What the input function of the column's type reads, of cells that are neither text nor bytes. None of
/// these words needs an escape.
fn push_words(out: &mut Vec<u8>, cell: &Cell<'_>, kind: ValueKind, place: EncodeTarget) -> Result<(), EncodeError> {
    match *cell {
        Cell::Bool(value) => out.push(if value { b't' } else { b'f' }),
        Cell::Integer(value) if kind == ValueKind::Money => {
            let (sign, units) = (if value < 0 { "-" } else { "" }, value.unsigned_abs());
            push_str(out, &format!("{sign}{}.{:02}", units / 100, units % 100));
        }
        Cell::Integer(value) => push_str(out, &value.to_string()),
        Cell::Real(value) => push_str(out, &real_words(value.is_nan(), value.is_infinite(), &value)),
        Cell::Real32(value) => push_str(out, &real_words(value.is_nan(), value.is_infinite(), &value)),
        Cell::Numeric(number) => match numeric::push_text(out, &number) {
            NumericFit::Yes => {}
            NumericFit::TooLarge => return Err(EncodeError::TooLarge),
        },
        Cell::Timestamp(value) => {
            let zone = if kind == ValueKind::TimestampZoned { Zone::Shown } else { Zone::Hidden };
            calendar::push_timestamp(out, value, zone);
        }
        Cell::Date(value) => calendar::push_date(out, value),
        Cell::Time(value) => calendar::push_time(out, value),
        Cell::TimeZoned(value, west) => calendar::push_time_zoned(out, value, west),
        Cell::Interval { months: i32::MAX, days: i32::MAX, microseconds: i64::MAX } if knows_infinity(place) => {
            push_str(out, "infinity");
        }
        Cell::Interval { months: i32::MIN, days: i32::MIN, microseconds: i64::MIN } if knows_infinity(place) => {
            push_str(out, "-infinity");
        }
        Cell::Interval { months, days, microseconds } => calendar::push_interval(out, months, days, microseconds),
        Cell::Uuid(bytes) => push_str(out, &data_encoding::HEXLOWER.encode(&bytes)),
        Cell::Absent => return Err(EncodeError::Absent),
        Cell::Stream(..) => return Err(EncodeError::Stream),
        Cell::Null | Cell::Text(_) | Cell::Bytes(_) | Cell::Encoded(..) | Cell::Output(_) => {
            unreachable!("texts, bytes and nulls have their own ways")
        }
    }
    Ok(())
}

fn knows_infinity(place: EncodeTarget) -> bool {
    place.version >= INTERVAL_INFINITY_SINCE
}

fn push_str(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

/// The shortest digits that are read back as the same bits.
fn real_words(nan: bool, infinite: bool, value: &dyn std::fmt::Debug) -> String {
    match (nan, infinite) {
        (true, _) => "NaN".to_owned(),
        (_, true) => format!("{value:?}").replace("inf", "Infinity"),
        _ => format!("{value:?}"),
    }
}

/// Whether no text stands for this value.
fn is_binary_only(cell: &Cell<'_>, kind: ValueKind, place: EncodeTarget) -> bool {
    match *cell {
        Cell::Real(value) => value.is_nan() && value.to_bits() != NAN,
        Cell::Real32(value) => value.is_nan() && value.to_bits() != NAN32,
        Cell::Text(text) => kind == ValueKind::Char && place.version < CHAR_TEXT_SINCE && text.len() > 1,
        Cell::Interval { months: i32::MIN, days: i32::MIN, microseconds: i64::MIN } => !knows_infinity(place),
        // The server reads the digits first and the sign afterwards.
        Cell::Interval { microseconds: i64::MIN, .. } => true,
        Cell::Interval { microseconds, .. } => {
            place.version < LONG_INTERVAL_TEXT_SINCE && microseconds.unsigned_abs() >= SHORT_INTERVAL_US
        }
        _ => false,
    }
}

/// A cell as a parameter of an INSERT whose type is the column's.
#[derive(Clone, Copy, Debug)]
pub struct Parameter<'a> {
    pub cell: Cell<'a>,
    pub kind: ValueKind,
    pub place: EncodeTarget,
}

impl Parameter<'_> {
    /// The value's bytes: in its type's binary form where [`Parameter::is_binary`].
    fn push(&self, out: &mut BytesMut) -> Result<IsNull, EncodeError> {
        match self.cell {
            Cell::Null => return Ok(IsNull::Yes),
            Cell::Bytes(bytes) => out.extend_from_slice(bytes),
            _ if self.is_binary() => self.push_binary(out),
            _ => match text_of(&self.cell, self.place.encoding)? {
                Some(text) => out.extend_from_slice(&text),
                None => {
                    let mut words = Vec::new();
                    push_words(&mut words, &self.cell, self.kind, self.place)?;
                    out.extend_from_slice(&words);
                }
            },
        }
        Ok(IsNull::No)
    }

    fn is_binary(&self) -> bool {
        matches!(self.cell, Cell::Bytes(_)) || is_binary_only(&self.cell, self.kind, self.place)
    }

    fn push_binary(&self, out: &mut BytesMut) {
        match self.cell {
            Cell::Real(value) => out.extend_from_slice(&value.to_bits().to_be_bytes()),
            Cell::Real32(value) => out.extend_from_slice(&value.to_bits().to_be_bytes()),
            Cell::Interval { months, days, microseconds } => {
                out.extend_from_slice(&microseconds.to_be_bytes());
                out.extend_from_slice(&days.to_be_bytes());
                out.extend_from_slice(&months.to_be_bytes());
            }
            Cell::Text(text) => {
                // A backslash and three octal digits; of a first digit above 3 the server knows nothing either.
                let byte = text.bytes().skip(1).fold(0u8, |byte, digit| byte << 3 | (digit & 7));
                out.extend_from_slice(&[byte]);
            }
            _ => unreachable!("these alone have no text"),
        }
    }
}

impl ToSql for Parameter<'_> {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send + 'static>> {
        Ok(self.push(out)?)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        if self.is_binary() { Format::Binary } else { Format::Text }
    }

    fn to_sql_checked(
        &self,
        ty: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send + 'static>> {
        self.to_sql(ty, out)
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::{EncodeError, EncodeTarget, Parameter, RowForm, push_line};
    use crate::engine::postgres::connect::session::SessionEncoding;
    use crate::engine::postgres::value::value_kind::ValueKind;
    use crate::format::cell::{Cell, Encoding, Numeric};

    const OLD: EncodeTarget = EncodeTarget { version: 13, encoding: SessionEncoding::Utf8 };
    const NEW: EncodeTarget = EncodeTarget { version: 18, encoding: SessionEncoding::Utf8 };

    fn line(cells: &[Cell<'_>], kind: ValueKind, place: EncodeTarget) -> Result<String, EncodeError> {
        let mut out = Vec::new();
        let way = push_line(&mut out, cells, &vec![kind; cells.len()], place)?;
        assert_eq!(way == RowForm::Parameters, out.is_empty());
        Ok(String::from_utf8(out).expect("text"))
    }

    #[test]
    fn lines_are_as_the_server_reads_them() {
        let is = |cells: &[Cell<'_>], kind, expected: &str| assert_eq!(line(cells, kind, NEW).as_deref(), Ok(expected));
        is(&[], ValueKind::Text, "\n");
        is(&[Cell::Null, Cell::Text(""), Cell::Text("\\N")], ValueKind::Text, "\\N\t\t\\\\N\n");
        is(&[Cell::Text("a\tb\r\n")], ValueKind::Text, "a\\tb\\r\\n\n");
        is(&[Cell::Bytes(&[0, 0x5c])], ValueKind::Bytes, "\\\\x005c\n");
        is(&[Cell::Encoded(Encoding::Latin1, b"\xe9")], ValueKind::Text, "é\n");
        is(&[Cell::Integer(-5), Cell::Integer(i64::MIN)], ValueKind::Money, "-0.05\t-92233720368547758.08\n");
        is(
            &[Cell::Real(-0.0), Cell::Real(f64::NEG_INFINITY), Cell::Real(f64::NAN)],
            ValueKind::Real,
            "-0.0\t-Infinity\tNaN\n",
        );
        is(&[Cell::Timestamp(0)], ValueKind::TimestampZoned, "2000-01-01 00:00:00+00\n");
        is(&[Cell::Timestamp(0)], ValueKind::Timestamp, "2000-01-01 00:00:00\n");
    }

    #[test]
    fn what_a_version_cannot_read_from_text_goes_as_parameters() {
        let shortest = Cell::Interval { months: 0, days: 0, microseconds: i64::MIN };
        let long = Cell::Interval { months: 0, days: 0, microseconds: i64::MIN + 1 };
        let infinite = Cell::Interval { months: i32::MAX, days: i32::MAX, microseconds: i64::MAX };
        assert_eq!(line(&[shortest], ValueKind::Interval, NEW).as_deref(), Ok(""));
        for (cell, kind) in
            [(long, ValueKind::Interval), (infinite, ValueKind::Interval), (Cell::Text("\\376"), ValueKind::Char)]
        {
            assert_eq!(line(&[Cell::Integer(1), cell], kind, OLD).as_deref(), Ok(""), "{cell:?}");
            assert_ne!(line(&[cell], kind, NEW).as_deref(), Ok(""), "{cell:?}");
        }
        assert_eq!(line(&[infinite], ValueKind::Interval, NEW).as_deref(), Ok("infinity\n"));
        assert_eq!(line(&[Cell::Real(f64::from_bits(0xfff8 << 48))], ValueKind::Real, NEW).as_deref(), Ok(""));
        let mut out = BytesMut::new();
        let high = Parameter { cell: Cell::Text("\\376"), kind: ValueKind::Char, place: OLD };
        high.push(&mut out).expect("a byte");
        assert_eq!(&out[..], [0xfe]);
    }

    #[test]
    fn a_row_longer_than_a_message_is_refused() {
        let half = vec![0; 1 << 29];
        let row = |rest: usize| line(&[Cell::Bytes(&half), Cell::Bytes(&half[rest..])], ValueKind::Bytes, NEW);
        assert_eq!((row(100).as_deref(), row(40).as_deref()), (Ok(""), Err(&EncodeError::RowTooLong)));
    }

    #[test]
    fn what_is_no_value_leaves_no_trace() {
        let too_large = Numeric::Finite { negative: false, scale: 0, exponent: i32::MAX, digits: b"1" };
        for (cell, error) in [
            (Cell::Text("a\0"), EncodeError::ZeroByte),
            (Cell::Absent, EncodeError::Absent),
            (Cell::Encoded(Encoding::Utf16Be, b"\0a"), EncodeError::Encoding),
            (Cell::Numeric(too_large), EncodeError::TooLarge),
        ] {
            let mut out = b"before\n".to_vec();
            let pushed = push_line(&mut out, &[Cell::Text("x"), cell], &[ValueKind::Text; 2], NEW);
            assert_eq!(pushed, Err(error));
            assert_eq!(out, b"before\n");
        }
    }
}
