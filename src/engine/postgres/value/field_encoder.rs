//! Encodes one canonical cell as a value of its column, in its type's binary form or as the text that the type's input
//! function reads: the inverse of `field_decoder.rs`.
//!
//! A few values have no usable text: a "char" that is not text before version 16, a NaN with unusual bits, and the longest
//! intervals.

use std::borrow::Cow;

use thiserror::Error;

use crate::engine::postgres::connect::session_settings::SessionEncoding;
use crate::engine::postgres::value::calendar::{self, Zone};
use crate::engine::postgres::value::numeric::{self, NumericFit};
use crate::engine::postgres::value::value_kind::ValueKind;
use crate::format::cell::{Cell, Encoding, Numeric};

/// Why a cell or row cannot be stored in PostgreSQL.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum EncodeError {
    #[error("a text with a zero byte")]
    ZeroByte,
    #[error("a text in an encoding that the database does not support")]
    Encoding,
    #[error("a number that is too large for any server")]
    TooLarge,
    #[error("a value of a dropped column")]
    Absent,
    #[error("a value that is still a reference to a stream")]
    Stream,
    #[error("the row is larger than 1 GiB, the most that a server accepts in one message")]
    RowTooLong,
}

/// The server and session that rows are encoded for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EncodeTarget {
    /// Major version of the server.
    pub version: u32,
    /// Encoding of the session.
    pub encoding: SessionEncoding,
}

/// Whether a row, or a value of one, can go by COPY.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum CopyFit {
    Fits,
    /// It must be sent as parameters of an INSERT. Nothing of its row was written to the output.
    Unfit,
}

/// Bits of the only NaN that has a text.
const NAN: u64 = 0x7ff8_0000_0000_0000;
const NAN32: u32 = 0x7fc0_0000;
/// The first version that reads a "char" above ASCII from its text.
const CHAR_TEXT_SINCE: u32 = 16;
/// The first version with infinite intervals.
const INTERVAL_INFINITY_SINCE: u32 = 17;
/// The first version that reads all intervals from text. Earlier versions fail from 2^31 hours on.
const LONG_INTERVAL_TEXT_SINCE: u32 = 15;
const SHORT_INTERVAL_US: u64 = (1 << 31) * 3_600_000_000;
const JSONB_VERSION: u8 = 1;

/// The text of a cell in the session's encoding. `None` if the cell is not a text.
/// Fails if the text has a zero byte or is UTF-16.
pub(crate) fn text_of<'a>(cell: &Cell<'a>, encoding: SessionEncoding) -> Result<Option<Cow<'a, [u8]>>, EncodeError> {
    let text = unchecked_text(cell, encoding)?;
    if text.as_ref().is_some_and(|text| text.contains(&0)) {
        return Err(EncodeError::ZeroByte);
    }
    Ok(text)
}

/// Like [`text_of`], but may contain zero bytes.
fn unchecked_text<'a>(cell: &Cell<'a>, encoding: SessionEncoding) -> Result<Option<Cow<'a, [u8]>>, EncodeError> {
    Ok(Some(match *cell {
        Cell::Text(text) => Cow::Borrowed(text.as_bytes()),
        Cell::Output(bytes) | Cell::Encoded(Encoding::SqlAscii | Encoding::Utf8Invalid, bytes) => Cow::Borrowed(bytes),
        Cell::Encoded(Encoding::Latin1, bytes) => latin1_text(bytes, encoding),
        Cell::Encoded(Encoding::Server(_), bytes) if encoding == SessionEncoding::SqlAscii => Cow::Borrowed(bytes),
        Cell::Encoded(Encoding::Utf16Le | Encoding::Utf16Be | Encoding::Server(_), _) => {
            return Err(EncodeError::Encoding);
        }
        _ => return Ok(None),
    }))
}

fn latin1_text(bytes: &[u8], encoding: SessionEncoding) -> Cow<'_, [u8]> {
    match encoding {
        SessionEncoding::Utf8 => Cow::Owned(bytes.iter().map(|byte| char::from(*byte)).collect::<String>().into()),
        SessionEncoding::SqlAscii => Cow::Borrowed(bytes),
    }
}

/// Appends what the input function of the column's type reads, for cells that are neither text nor bytes. The output
/// never needs escapes.
/// Fails if a number is too large for any server, or the cell is absent or a stream.
pub(crate) fn push_scalar_text(
    out: &mut Vec<u8>,
    cell: &Cell<'_>,
    kind: ValueKind,
    target: EncodeTarget,
) -> Result<(), EncodeError> {
    match *cell {
        Cell::Bool(value) => out.push(if value { b't' } else { b'f' }),
        Cell::Integer(value) if kind == ValueKind::Money => push_money(out, value),
        Cell::Integer(value) => push_str(out, &value.to_string()),
        Cell::Real(value) => push_str(out, &real_text(value.is_nan(), value.is_infinite(), &value)),
        Cell::Real32(value) => push_str(out, &real_text(value.is_nan(), value.is_infinite(), &value)),
        Cell::Numeric(number) => return push_numeric(out, &number),
        Cell::Uuid(bytes) => push_str(out, &data_encoding::HEXLOWER.encode(&bytes)),
        Cell::Timestamp(value) => calendar::push_timestamp(out, value, zone_of(kind)),
        Cell::Date(value) => calendar::push_date(out, value),
        Cell::Time(value) => calendar::push_time(out, value),
        Cell::TimeZoned(value, west) => calendar::push_time_zoned(out, value, west),
        Cell::Interval { months, days, microseconds } => push_interval(out, months, days, microseconds, target),
        Cell::Absent => return Err(EncodeError::Absent),
        Cell::Stream(..) => return Err(EncodeError::Stream),
        Cell::Null | Cell::Lost | Cell::Text(_) | Cell::Bytes(_) | Cell::Encoded(..) | Cell::Output(_) => {
            unreachable!("callers push texts, bytes and NULL themselves")
        }
    }
    Ok(())
}

fn push_numeric(out: &mut Vec<u8>, number: &Numeric<'_>) -> Result<(), EncodeError> {
    match numeric::push_text(out, number) {
        NumericFit::Fits => Ok(()),
        NumericFit::TooLarge => Err(EncodeError::TooLarge),
    }
}

fn push_money(out: &mut Vec<u8>, value: i64) {
    let sign = if value < 0 { "-" } else { "" };
    let units = value.unsigned_abs();
    push_str(out, &format!("{sign}{}.{:02}", units / 100, units % 100));
}

fn zone_of(kind: ValueKind) -> Zone {
    if kind == ValueKind::TimestampZoned { Zone::Shown } else { Zone::Hidden }
}

fn push_interval(out: &mut Vec<u8>, months: i32, days: i32, microseconds: i64, target: EncodeTarget) {
    let knows_infinity = target.version >= INTERVAL_INFINITY_SINCE;
    match (months, days, microseconds) {
        (i32::MAX, i32::MAX, i64::MAX) if knows_infinity => push_str(out, "infinity"),
        (i32::MIN, i32::MIN, i64::MIN) if knows_infinity => push_str(out, "-infinity"),
        _ => calendar::push_interval(out, months, days, microseconds),
    }
}

fn push_str(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

/// The shortest decimal digits that are read back as the same bits.
fn real_text(nan: bool, infinite: bool, value: &dyn std::fmt::Debug) -> String {
    match (nan, infinite) {
        (true, _) => "NaN".to_owned(),
        (_, true) => format!("{value:?}").replace("inf", "Infinity"),
        _ => format!("{value:?}"),
    }
}

/// Whether this value has no text that this server reads correctly.
pub(crate) fn is_binary_only(cell: &Cell<'_>, kind: ValueKind, target: EncodeTarget) -> bool {
    match *cell {
        Cell::Real(value) => value.is_nan() && value.to_bits() != NAN,
        Cell::Real32(value) => value.is_nan() && value.to_bits() != NAN32,
        Cell::Text(text) => kind == ValueKind::Char && target.version < CHAR_TEXT_SINCE && text.len() > 1,
        Cell::Interval { .. } => is_binary_only_interval(cell, target.version),
        _ => false,
    }
}

fn is_binary_only_interval(cell: &Cell<'_>, version: u32) -> bool {
    match *cell {
        Cell::Interval { months: i32::MIN, days: i32::MIN, microseconds: i64::MIN } => {
            version < INTERVAL_INFINITY_SINCE
        }
        // The server reads the digits before it applies the sign, and the smallest i64 has no positive counterpart.
        Cell::Interval { microseconds: i64::MIN, .. } => true,
        Cell::Interval { microseconds, .. } => {
            version < LONG_INTERVAL_TEXT_SINCE && microseconds.unsigned_abs() >= SHORT_INTERVAL_US
        }
        _ => false,
    }
}

/// Appends the binary form of a value. `Unfit` if the cell is not a value of its column's kind.
/// Fails if a text has a zero byte or is UTF-16. A part of the value may then be in `out`.
pub(crate) fn push_binary_value(
    out: &mut Vec<u8>,
    cell: &Cell<'_>,
    kind: ValueKind,
    target: EncodeTarget,
) -> Result<CopyFit, EncodeError> {
    match kind {
        ValueKind::Text | ValueKind::Json | ValueKind::Jsonb => push_binary_text(out, cell, kind, target),
        ValueKind::Int2 | ValueKind::Int4 | ValueKind::Int8 | ValueKind::Unsigned32 | ValueKind::Money => {
            Ok(push_binary_integer(out, cell, kind))
        }
        ValueKind::Numeric => Ok(push_binary_numeric(out, cell)),
        ValueKind::Char => Ok(push_binary_char(out, cell)),
        ValueKind::Bool | ValueKind::Real32 | ValueKind::Real | ValueKind::Bytes | ValueKind::Uuid => {
            Ok(push_binary_bytes(out, cell, kind))
        }
        ValueKind::Date | ValueKind::Time | ValueKind::TimeZoned => Ok(push_binary_time(out, cell, kind)),
        ValueKind::Timestamp | ValueKind::TimestampZoned | ValueKind::Interval => Ok(push_binary_time(out, cell, kind)),
        ValueKind::Output => Ok(CopyFit::Unfit),
    }
}

fn push_binary_text(
    out: &mut Vec<u8>,
    cell: &Cell<'_>,
    kind: ValueKind,
    target: EncodeTarget,
) -> Result<CopyFit, EncodeError> {
    match (kind, *cell) {
        (ValueKind::Text, Cell::Text(_) | Cell::Encoded(..)) | (ValueKind::Json, Cell::Output(_)) => {}
        (ValueKind::Jsonb, Cell::Output(_)) => out.push(JSONB_VERSION),
        _ => return Ok(CopyFit::Unfit),
    }
    let Some(text) = text_of(cell, target.encoding)? else { return Ok(CopyFit::Unfit) };
    out.extend_from_slice(&text);
    Ok(CopyFit::Fits)
}

fn push_binary_integer(out: &mut Vec<u8>, cell: &Cell<'_>, kind: ValueKind) -> CopyFit {
    let Cell::Integer(value) = *cell else { return CopyFit::Unfit };
    match kind {
        ValueKind::Int2 => push_bytes(out, i16::try_from(value).map(i16::to_be_bytes)),
        ValueKind::Int4 => push_bytes(out, i32::try_from(value).map(i32::to_be_bytes)),
        ValueKind::Unsigned32 => push_bytes(out, u32::try_from(value).map(u32::to_be_bytes)),
        ValueKind::Int8 | ValueKind::Money => push_bytes(out, Ok::<_, ()>(value.to_be_bytes())),
        _ => CopyFit::Unfit,
    }
}

fn push_bytes<const N: usize, E>(out: &mut Vec<u8>, bytes: Result<[u8; N], E>) -> CopyFit {
    let Ok(bytes) = bytes else { return CopyFit::Unfit };
    out.extend_from_slice(&bytes);
    CopyFit::Fits
}

fn push_binary_numeric(out: &mut Vec<u8>, cell: &Cell<'_>) -> CopyFit {
    let Cell::Numeric(number) = cell else { return CopyFit::Unfit };
    match numeric::push_binary(out, number) {
        NumericFit::Fits => CopyFit::Fits,
        NumericFit::TooLarge => CopyFit::Unfit,
    }
}

fn push_binary_char(out: &mut Vec<u8>, cell: &Cell<'_>) -> CopyFit {
    let Cell::Text(text) = *cell else { return CopyFit::Unfit };
    push_bytes(out, char_byte(text).map(|byte| [byte]).ok_or(()))
}

/// The byte of a "char". Servers write it as an empty text, one byte, or a backslash and three octal digits.
fn char_byte(text: &str) -> Option<u8> {
    match *text.as_bytes() {
        [] => Some(0),
        [byte] => Some(byte),
        [b'\\', a, b, c] => u8::from_str_radix(std::str::from_utf8(&[a, b, c]).ok()?, 8).ok(),
        _ => None,
    }
}

/// Appends values whose binary form is just their bytes.
fn push_binary_bytes(out: &mut Vec<u8>, cell: &Cell<'_>, kind: ValueKind) -> CopyFit {
    match (kind, *cell) {
        (ValueKind::Bool, Cell::Bool(value)) => out.push(u8::from(value)),
        (ValueKind::Real, Cell::Real(value)) => out.extend_from_slice(&value.to_be_bytes()),
        (ValueKind::Real32, Cell::Real32(value)) => out.extend_from_slice(&value.to_be_bytes()),
        (ValueKind::Bytes, Cell::Bytes(bytes)) => out.extend_from_slice(bytes),
        (ValueKind::Uuid, Cell::Uuid(bytes)) => out.extend_from_slice(&bytes),
        _ => return CopyFit::Unfit,
    }
    CopyFit::Fits
}

/// Appends a date, a time or an interval.
fn push_binary_time(out: &mut Vec<u8>, cell: &Cell<'_>, kind: ValueKind) -> CopyFit {
    match (kind, *cell) {
        (ValueKind::Date, Cell::Date(value)) => out.extend_from_slice(&value.to_be_bytes()),
        (ValueKind::Time, Cell::Time(value)) => out.extend_from_slice(&value.to_be_bytes()),
        (ValueKind::Timestamp | ValueKind::TimestampZoned, Cell::Timestamp(value)) => {
            out.extend_from_slice(&value.to_be_bytes());
        }
        (ValueKind::TimeZoned, Cell::TimeZoned(value, west)) => {
            out.extend_from_slice(&value.to_be_bytes());
            out.extend_from_slice(&west.to_be_bytes());
        }
        (ValueKind::Interval, Cell::Interval { months, days, microseconds }) => {
            out.extend_from_slice(&interval_bytes(months, days, microseconds));
        }
        _ => return CopyFit::Unfit,
    }
    CopyFit::Fits
}

/// The binary form of an interval.
pub(crate) fn interval_bytes(months: i32, days: i32, microseconds: i64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&microseconds.to_be_bytes());
    bytes[8..12].copy_from_slice(&days.to_be_bytes());
    bytes[12..].copy_from_slice(&months.to_be_bytes());
    bytes
}
