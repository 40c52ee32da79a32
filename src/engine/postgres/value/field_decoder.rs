//! Decodes one field of a COPY into a canonical cell (`docs/format.md` section 4), from its type's binary form or from
//! the text of its output function. Both give the same cell, except that the text cannot distinguish NaNs.
//!
//! Cells borrow from the field. Data that the field does not contain literally, such as the digits of a number, is in a
//! `RowScratch`, which is filled for a whole row before its cells are created. Nothing here panics, whatever the
//! bytes are. The session has the settings of `connect::session_settings`.

use std::ops::Range;

use crate::engine::postgres::connect::session_settings::SessionEncoding;
use crate::engine::postgres::value::calendar;
use crate::engine::postgres::value::numeric::{self, Unpacked};
use crate::engine::postgres::value::value_kind::{FieldError, ValueKind};
use crate::format::cell::{Cell, Encoding};

/// Decoded data of one row that its cells borrow but that the server's message does not contain literally.
#[derive(Default, Debug)]
pub(crate) struct RowScratch {
    bytes: Vec<u8>,
    pieces: Vec<RowPiece>,
}

/// A value in a [`RowScratch`].
#[derive(Debug)]
enum RowPiece {
    Numeric(Unpacked),
    Bytes(Range<usize>),
}

impl RowScratch {
    /// Removes all data, to start the next row.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.pieces.clear();
    }

    /// Keeps the text of a "char".
    fn push_char(&mut self, byte: u8) {
        let start = self.bytes.len();
        match byte {
            0 => {}
            1..0x80 => self.bytes.push(byte),
            // As servers write it since version 16. Older servers write the raw byte, which is not valid text.
            _ => self.bytes.extend_from_slice(&octal_escape(byte)),
        }
        self.pieces.push(RowPiece::Bytes(start..self.bytes.len()));
    }

    /// Keeps the bytes of a bytea. Returns `None` if the field is not hexadecimal.
    fn push_hex(&mut self, field: &[u8]) -> Option<()> {
        let start = self.bytes.len();
        unhex(field.strip_prefix(b"\\x"), &mut self.bytes)?;
        self.pieces.push(RowPiece::Bytes(start..self.bytes.len()));
        Some(())
    }
}

/// A backslash and three octal digits.
fn octal_escape(byte: u8) -> [u8; 4] {
    [b'\\', b'0' + (byte >> 6), b'0' + (byte >> 3 & 7), b'0' + (byte & 7)]
}

/// Hands out the pieces of a row in order.
pub(crate) struct PreparedRow<'a> {
    bytes: &'a [u8],
    pieces: std::slice::Iter<'a, RowPiece>,
}

impl<'a> PreparedRow<'a> {
    /// The pieces of a filled scratch buffer.
    pub(crate) fn of(scratch: &'a RowScratch) -> Self {
        Self { bytes: &scratch.bytes, pieces: scratch.pieces.iter() }
    }

    /// The next piece, which must be a number.
    pub(crate) fn numeric(&mut self) -> Cell<'a> {
        match self.pieces.next() {
            Some(RowPiece::Numeric(number)) => Cell::Numeric(number.get(self.bytes)),
            _ => unreachable!("every number was prepared"),
        }
    }

    /// The next piece, which must be bytes.
    pub(crate) fn bytes(&mut self) -> &'a [u8] {
        match self.pieces.next() {
            Some(RowPiece::Bytes(range)) => &self.bytes[range.clone()],
            _ => unreachable!("every value of this kind was prepared"),
        }
    }
}

/// The cell of a text. Bytes that are not UTF-8 are marked with their possible encoding.
pub(crate) fn text(encoding: SessionEncoding, bytes: &[u8]) -> Cell<'_> {
    match (std::str::from_utf8(bytes), encoding) {
        (Ok(text), _) => Cell::Text(text),
        // A server sends such bytes if a table is damaged or was filled by an old version.
        (Err(_), SessionEncoding::Utf8) => Cell::Encoded(Encoding::Utf8Invalid, bytes),
        (Err(_), SessionEncoding::SqlAscii) => Cell::Encoded(Encoding::SqlAscii, bytes),
    }
}

/// Puts the data that the cell of a binary field needs into `scratch`: one piece per field, for the kinds that need it.
/// Fails if a number is malformed, or a "char" is not one byte.
pub(crate) fn prepare_binary(kind: ValueKind, field: &[u8], scratch: &mut RowScratch) -> Result<(), FieldError> {
    match kind {
        ValueKind::Numeric => {
            let number = numeric::from_binary(field, &mut scratch.bytes)?;
            scratch.pieces.push(RowPiece::Numeric(number));
        }
        ValueKind::Char => scratch.push_char(fixed::<1>(kind, field)?[0]),
        _ => {}
    }
    Ok(())
}

/// The cell of a binary field, after [`prepare_binary`].
/// Fails if the field has a wrong length, a bool is neither 0 nor 1, or a jsonb has an unknown version.
pub(crate) fn binary_cell<'a>(
    kind: ValueKind,
    encoding: SessionEncoding,
    field: &'a [u8],
    prepared: &mut PreparedRow<'a>,
) -> Result<Cell<'a>, FieldError> {
    Ok(match kind {
        ValueKind::Bool => binary_bool(field)?,
        ValueKind::Int2 => Cell::Integer(i16::from_be_bytes(fixed(kind, field)?).into()),
        ValueKind::Int4 => Cell::Integer(i32::from_be_bytes(fixed(kind, field)?).into()),
        ValueKind::Unsigned32 => Cell::Integer(u32::from_be_bytes(fixed(kind, field)?).into()),
        ValueKind::Int8 | ValueKind::Money => Cell::Integer(i64::from_be_bytes(fixed(kind, field)?)),
        ValueKind::Real32 => Cell::Real32(f32::from_be_bytes(fixed(kind, field)?)),
        ValueKind::Real => Cell::Real(f64::from_be_bytes(fixed(kind, field)?)),
        ValueKind::Numeric => prepared.numeric(),
        ValueKind::Text => text(encoding, field),
        ValueKind::Char => text(encoding, prepared.bytes()),
        ValueKind::Bytes => Cell::Bytes(field),
        ValueKind::Uuid => Cell::Uuid(fixed(kind, field)?),
        ValueKind::Date => Cell::Date(i32::from_be_bytes(fixed(kind, field)?)),
        ValueKind::Time => Cell::Time(i64::from_be_bytes(fixed(kind, field)?)),
        ValueKind::TimeZoned => binary_time_zoned(field)?,
        ValueKind::Timestamp | ValueKind::TimestampZoned => Cell::Timestamp(i64::from_be_bytes(fixed(kind, field)?)),
        ValueKind::Interval => binary_interval(field)?,
        ValueKind::Json | ValueKind::Output => Cell::Output(field),
        ValueKind::Jsonb => binary_jsonb(field)?,
    })
}

fn binary_bool(field: &[u8]) -> Result<Cell<'_>, FieldError> {
    match fixed(ValueKind::Bool, field)? {
        [0] => Ok(Cell::Bool(false)),
        [1] => Ok(Cell::Bool(true)),
        _ => Err(invalid(ValueKind::Bool, "neither 0 nor 1")),
    }
}

fn binary_time_zoned(field: &[u8]) -> Result<Cell<'_>, FieldError> {
    let bytes: [u8; 12] = fixed(ValueKind::TimeZoned, field)?;
    Ok(Cell::TimeZoned(big_endian(&bytes[..8]), big_endian(&bytes[8..]) as i32))
}

fn binary_interval(field: &[u8]) -> Result<Cell<'_>, FieldError> {
    let bytes: [u8; 16] = fixed(ValueKind::Interval, field)?;
    Ok(Cell::Interval {
        months: big_endian(&bytes[12..]) as i32,
        days: big_endian(&bytes[8..12]) as i32,
        microseconds: big_endian(&bytes[..8]),
    })
}

fn binary_jsonb(field: &[u8]) -> Result<Cell<'_>, FieldError> {
    match field.split_first() {
        Some((1, text)) => Ok(Cell::Output(text)),
        Some(_) => Err(invalid(ValueKind::Jsonb, "unknown version")),
        None => Err(FieldError::Length { kind: ValueKind::Jsonb, len: 0 }),
    }
}

fn fixed<const N: usize>(kind: ValueKind, field: &[u8]) -> Result<[u8; N], FieldError> {
    field.try_into().map_err(|_| FieldError::Length { kind, len: field.len() })
}

/// Up to eight bytes as a number. With fewer bytes the sign is lost until the result is cast to the original width.
fn big_endian(bytes: &[u8]) -> i64 {
    bytes.iter().fold(0, |value, byte| value << 8 | i64::from(*byte))
}

/// Puts the data that the cell of a text field needs into `scratch`: one piece per field, for the kinds that need it.
/// Fails if the field is not a number, a "char" or hexadecimal bytes as the output function writes them.
pub(crate) fn prepare_text(kind: ValueKind, field: &[u8], scratch: &mut RowScratch) -> Result<(), FieldError> {
    match kind {
        ValueKind::Numeric => {
            let number = numeric::from_text(ascii(kind, field)?, &mut scratch.bytes)?;
            scratch.pieces.push(RowPiece::Numeric(number));
        }
        ValueKind::Char => scratch.push_char(text_char(field)?),
        ValueKind::Bytes => scratch.push_hex(field).ok_or(invalid(kind, "not hexadecimal"))?,
        _ => {}
    }
    Ok(())
}

/// The byte of a "char", which is written as an empty text, one byte, or a backslash and three octal digits.
fn text_char(field: &[u8]) -> Result<u8, FieldError> {
    match *field {
        [] => Ok(0),
        [byte] => Ok(byte),
        [b'\\', ref digits @ ..] if is_octal(digits) => octal(digits),
        _ => Err(invalid(ValueKind::Char, "more than one byte")),
    }
}

fn is_octal(digits: &[u8]) -> bool {
    digits.len() == 3 && digits.iter().all(|digit| matches!(digit, b'0'..=b'7'))
}

fn octal(digits: &[u8]) -> Result<u8, FieldError> {
    let value = digits.iter().fold(0u16, |value, digit| value * 8 + u16::from(digit - b'0'));
    u8::try_from(value).map_err(|_| invalid(ValueKind::Char, "out of range"))
}

/// The cell of a text field, after [`prepare_text`].
/// Fails if the field is not as the type's output function writes it, or the value is out of range.
pub(crate) fn text_cell<'a>(
    kind: ValueKind,
    encoding: SessionEncoding,
    field: &'a [u8],
    prepared: &mut PreparedRow<'a>,
) -> Result<Cell<'a>, FieldError> {
    Ok(match kind {
        ValueKind::Bool => Cell::Bool(text_bool(field)?),
        ValueKind::Int2 => Cell::Integer(number::<i16>(kind, field)?.into()),
        ValueKind::Int4 => Cell::Integer(number::<i32>(kind, field)?.into()),
        ValueKind::Unsigned32 => Cell::Integer(number::<u32>(kind, field)?.into()),
        ValueKind::Int8 => Cell::Integer(number(kind, field)?),
        ValueKind::Money => Cell::Integer(parsed(kind, field, money)?),
        ValueKind::Real32 => Cell::Real32(number(kind, field)?),
        ValueKind::Real => Cell::Real(number(kind, field)?),
        ValueKind::Numeric => prepared.numeric(),
        ValueKind::Text => text(encoding, field),
        ValueKind::Char => text(encoding, prepared.bytes()),
        ValueKind::Bytes => Cell::Bytes(prepared.bytes()),
        ValueKind::Uuid => Cell::Uuid(parsed(kind, field, uuid)?),
        ValueKind::Date => Cell::Date(parsed(kind, field, calendar::date)?),
        ValueKind::Time => Cell::Time(parsed(kind, field, calendar::time)?),
        ValueKind::TimeZoned => {
            let (time, west) = parsed(kind, field, calendar::time_zoned)?;
            Cell::TimeZoned(time, west)
        }
        ValueKind::Timestamp | ValueKind::TimestampZoned => Cell::Timestamp(parsed(kind, field, calendar::timestamp)?),
        ValueKind::Interval => {
            let (months, days, microseconds) = parsed(kind, field, calendar::interval)?;
            Cell::Interval { months, days, microseconds }
        }
        ValueKind::Json | ValueKind::Jsonb | ValueKind::Output => Cell::Output(field),
    })
}

fn text_bool(field: &[u8]) -> Result<bool, FieldError> {
    match field {
        b"t" => Ok(true),
        b"f" => Ok(false),
        _ => Err(unlike_output(ValueKind::Bool)),
    }
}

fn invalid(kind: ValueKind, what: &'static str) -> FieldError {
    FieldError::Invalid { kind, what }
}

fn unlike_output(kind: ValueKind) -> FieldError {
    invalid(kind, "not in the form that its output function writes")
}

fn ascii(kind: ValueKind, field: &[u8]) -> Result<&str, FieldError> {
    std::str::from_utf8(field).ok().filter(|text| text.is_ascii()).ok_or(invalid(kind, "not ASCII"))
}

fn number<T: std::str::FromStr>(kind: ValueKind, field: &[u8]) -> Result<T, FieldError> {
    ascii(kind, field)?.parse().map_err(|_| invalid(kind, "not a number, or out of range"))
}

fn parsed<T>(kind: ValueKind, field: &[u8], parse: impl Fn(&str) -> Option<T>) -> Result<T, FieldError> {
    parse(ascii(kind, field)?).ok_or(unlike_output(kind))
}

/// Reads money as the C locale shows it (`-$1,234.56`). Returns minor units (cents).
fn money(text: &str) -> Option<i64> {
    match text.strip_prefix('-') {
        Some(unsigned) => signed_money(-1, unsigned),
        None => signed_money(1, text),
    }
}

fn signed_money(sign: i64, text: &str) -> Option<i64> {
    let (whole, cents) = text.strip_prefix('$')?.split_once('.')?;
    if cents.len() != 2 {
        return None;
    }
    let mut digits = whole.bytes().chain(cents.bytes()).filter(|byte| *byte != b',');
    // The sign is applied to each digit, because the smallest i64 has no positive counterpart.
    digits.try_fold(0i64, |sum, digit| sum.checked_mul(10)?.checked_add(sign * decimal_digit(digit)?))
}

fn decimal_digit(byte: u8) -> Option<i64> {
    byte.is_ascii_digit().then(|| i64::from(byte - b'0'))
}

fn uuid(text: &str) -> Option<[u8; 16]> {
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b'-').collect();
    let mut bytes = Vec::with_capacity(16);
    unhex(Some(&digits), &mut bytes)?;
    bytes.try_into().ok()
}

/// Appends the bytes that the hexadecimal digits encode.
fn unhex(digits: Option<&[u8]>, out: &mut Vec<u8>) -> Option<()> {
    let digits = digits?;
    let start = out.len();
    let len = data_encoding::HEXLOWER.decode_len(digits.len()).ok()?;
    out.resize(start + len, 0);
    data_encoding::HEXLOWER.decode_mut(digits, &mut out[start..]).ok().map(drop)
}

#[cfg(test)]
mod binary_tests {
    use proptest::prelude::*;

    use super::{FieldError, PreparedRow, RowScratch, binary_cell, prepare_binary};
    use crate::engine::postgres::connect::session_settings::SessionEncoding;
    use crate::engine::postgres::value::value_kind::ValueKind;
    use crate::format::cell::{Cell, Encoding, OwnedCell};

    fn decoded(kind: ValueKind, encoding: SessionEncoding, field: &[u8]) -> Result<OwnedCell, FieldError> {
        let mut scratch = RowScratch::default();
        prepare_binary(kind, field, &mut scratch)?;
        binary_cell(kind, encoding, field, &mut PreparedRow::of(&scratch)).map(|cell| OwnedCell::new(&cell))
    }

    fn is(kind: ValueKind, field: &[u8], expected: Cell<'_>) {
        assert_eq!(decoded(kind, SessionEncoding::Utf8, field), Ok(OwnedCell::new(&expected)), "{kind}");
    }

    #[test]
    fn numbers_keep_their_signs() {
        is(ValueKind::Int2, &[0xff, 0xfe], Cell::Integer(-2));
        is(ValueKind::Unsigned32, &[0xff; 4], Cell::Integer(4_294_967_295));
        is(ValueKind::Money, &[0xff; 8], Cell::Integer(-1));
        is(ValueKind::Real, &0x7ff8_0000_0000_0001u64.to_be_bytes(), Cell::Real(f64::from_bits(0x7ff8_0000_0000_0001)));
        is(ValueKind::Real32, &[0x80, 0, 0, 0], Cell::Real32(-0.0));
        let interval = [&(-3i64).to_be_bytes()[..], &(-2i32).to_be_bytes(), &i32::MIN.to_be_bytes()].concat();
        is(ValueKind::Interval, &interval, Cell::Interval { months: i32::MIN, days: -2, microseconds: -3 });
        let zoned = [&1i64.to_be_bytes()[..], &(-3600i32).to_be_bytes()].concat();
        is(ValueKind::TimeZoned, &zoned, Cell::TimeZoned(1, -3600));
    }

    #[test]
    fn texts_are_decoded_in_the_encoding_of_the_session() {
        is(ValueKind::Text, "é".as_bytes(), Cell::Text("é"));
        is(ValueKind::Text, b"\xe9", Cell::Encoded(Encoding::Utf8Invalid, b"\xe9"));
        let raw = decoded(ValueKind::Text, SessionEncoding::SqlAscii, b"\xe9");
        assert_eq!(raw, Ok(OwnedCell::new(&Cell::Encoded(Encoding::SqlAscii, b"\xe9"))));
        is(ValueKind::Char, b"\0", Cell::Text(""));
        is(ValueKind::Char, b"x", Cell::Text("x"));
        is(ValueKind::Char, b"\xfe", Cell::Text("\\376"));
        is(ValueKind::Jsonb, b"\x01{}", Cell::Output(b"{}"));
    }

    #[test]
    fn values_of_the_wrong_size_or_form_are_refused() {
        for kind in ValueKind::ALL {
            if !matches!(kind, ValueKind::Text | ValueKind::Bytes | ValueKind::Json | ValueKind::Output) {
                assert!(decoded(kind, SessionEncoding::Utf8, &[]).is_err(), "{kind}");
            }
            if !matches!(
                kind,
                ValueKind::Text | ValueKind::Bytes | ValueKind::Json | ValueKind::Output | ValueKind::Jsonb
            ) {
                assert!(decoded(kind, SessionEncoding::Utf8, &[1; 17]).is_err(), "{kind}");
            }
        }
        let error = decoded(ValueKind::Jsonb, SessionEncoding::Utf8, &[2]).expect_err("another version");
        assert_eq!(error.to_string(), "not a valid jsonb: unknown version");
    }

    proptest! {
        #![proptest_config(crate::base::property::config())]

        #[test]
        fn arbitrary_fields_do_not_panic(field: Vec<u8>, at in 0..ValueKind::ALL.len()) {
            let _ = decoded(ValueKind::ALL[at], SessionEncoding::Utf8, &field);
        }
    }
}

#[cfg(test)]
mod text_tests {
    use proptest::prelude::*;

    use super::{PreparedRow, RowScratch, prepare_text, text_cell};
    use crate::engine::postgres::connect::session_settings::SessionEncoding;
    use crate::engine::postgres::value::value_kind::{FieldError, ValueKind};
    use crate::format::cell::{Cell, OwnedCell};

    fn decoded(kind: ValueKind, field: &[u8]) -> Result<OwnedCell, FieldError> {
        let mut scratch = RowScratch::default();
        prepare_text(kind, field, &mut scratch)?;
        text_cell(kind, SessionEncoding::Utf8, field, &mut PreparedRow::of(&scratch)).map(|cell| OwnedCell::new(&cell))
    }

    fn is(kind: ValueKind, text: &str, expected: Cell<'_>) {
        assert_eq!(decoded(kind, text.as_bytes()), Ok(OwnedCell::new(&expected)), "{kind}: {text}");
    }

    #[test]
    fn texts_of_output_functions_are_decoded() {
        is(ValueKind::Bool, "t", Cell::Bool(true));
        is(ValueKind::Money, "-$92,233,720,368,547,758.08", Cell::Integer(i64::MIN));
        is(ValueKind::Money, "$0.05", Cell::Integer(5));
        is(ValueKind::Real, "-Infinity", Cell::Real(f64::NEG_INFINITY));
        is(ValueKind::Real, "NaN", Cell::Real(f64::NAN));
        is(ValueKind::Real, "-0", Cell::Real(-0.0));
        is(ValueKind::Real, "5e-324", Cell::Real(f64::from_bits(1)));
        is(ValueKind::Real32, "1e-45", Cell::Real32(f32::from_bits(1)));
        is(ValueKind::Bytes, "\\x00ff", Cell::Bytes(&[0, 255]));
        is(ValueKind::Bytes, "\\x", Cell::Bytes(&[]));
        is(ValueKind::Char, "\\376", Cell::Text("\\376"));
        is(ValueKind::Char, "\\", Cell::Text("\\"));
        is(ValueKind::Char, "", Cell::Text(""));
        is(ValueKind::Uuid, "01234567-89ab-cdef-0123-456789abcdef", {
            Cell::Uuid([1, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 1, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef])
        });
        assert_eq!(decoded(ValueKind::Char, b"\xfe"), Ok(OwnedCell::new(&Cell::Text("\\376"))));
    }

    #[test]
    fn texts_that_no_output_function_writes_are_refused() {
        for (kind, text) in [
            (ValueKind::Bool, "true"),
            (ValueKind::Int2, "32768"),
            (ValueKind::Money, "$1"),
            (ValueKind::Bytes, "ff"),
            (ValueKind::Bytes, "\\xf"),
            (ValueKind::Char, "\\777"),
            (ValueKind::Uuid, "00"),
            (ValueKind::Date, "2000-13-01"),
            (ValueKind::Interval, "1 fortnight"),
        ] {
            assert!(decoded(kind, text.as_bytes()).is_err(), "{kind}: {text}");
        }
    }

    proptest! {
        #![proptest_config(crate::base::property::config())]

        #[test]
        fn arbitrary_texts_do_not_panic(text in "[-+0-9:.$,\\\\xa-f ]{0,20}") {
            for kind in [ValueKind::Money, ValueKind::Bytes, ValueKind::Uuid, ValueKind::Char, ValueKind::Numeric, ValueKind::TimeZoned, ValueKind::Real] {
                let _ = decoded(kind, text.as_bytes());
            }
        }
    }
}
