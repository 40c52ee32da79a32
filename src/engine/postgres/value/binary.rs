//! One field of a binary COPY into a canonical cell (`docs/format.md` section 4).
//!
//! Cells borrow from the field. What is not in it as such, the digits of a number, lies in a [`RowScratch`] that
//! is filled for a whole row before its cells are made. Nothing here panics on any bytes.

use std::ops::Range;

use crate::engine::postgres::connect::session::SessionEncoding;
use crate::engine::postgres::value::numeric::{self, Unpacked};
use crate::engine::postgres::value::value_kind::{FieldError, ValueKind};
use crate::format::cell::{Cell, Encoding};

/// Parts of one row's cells that are not in the row as the server sent it.
#[derive(Default, Debug)]
pub(crate) struct RowScratch {
    pub(crate) bytes: Vec<u8>,
    pub(crate) pieces: Vec<RowPiece>,
}

/// A value in a [`RowScratch`].
#[derive(Debug)]
pub(crate) enum RowPiece {
    Numeric(Unpacked),
    Bytes(Range<usize>),
}

impl RowScratch {
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.pieces.clear();
    }

    /// Keeps the text of a "char".
    pub(crate) fn push_char(&mut self, byte: u8) {
        let start = self.bytes.len();
        match byte {
            0 => {}
            1..0x80 => self.bytes.push(byte),
            // As servers write it since 16. Before, they write the byte, which is no text.
            _ => {
                let digit = |shift: u8| b'0' + (byte >> shift & 7);
                self.bytes.extend_from_slice(&[b'\\', digit(6), digit(3), digit(0)]);
            }
        }
        self.pieces.push(RowPiece::Bytes(start..self.bytes.len()));
    }
}

/// Puts what the cell of this field will need into `scratch`: of one piece for each field of such a kind.
pub(crate) fn prepare(kind: ValueKind, field: &[u8], scratch: &mut RowScratch) -> Result<(), FieldError> {
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

/// The cell of a field, after [`prepare`].
pub(crate) fn cell<'a>(
    kind: ValueKind,
    encoding: SessionEncoding,
    field: &'a [u8],
    prepared: &mut PreparedRow<'a>,
) -> Result<Cell<'a>, FieldError> {
    Ok(match kind {
        ValueKind::Bool => match fixed(kind, field)? {
            [0] => Cell::Bool(false),
            [1] => Cell::Bool(true),
            _ => return Err(FieldError::Invalid { kind, what: "neither 0 nor 1" }),
        },
        ValueKind::Int2 => Cell::Integer(i16::from_be_bytes(fixed(kind, field)?).into()),
        ValueKind::Int4 => Cell::Integer(i32::from_be_bytes(fixed(kind, field)?).into()),
        ValueKind::Unsigned32 => Cell::Integer(u32::from_be_bytes(fixed(kind, field)?).into()),
        ValueKind::Int8 | ValueKind::Money => Cell::Integer(i64::from_be_bytes(fixed(kind, field)?)),
        ValueKind::Real32 => Cell::Real32(f32::from_bits(u32::from_be_bytes(fixed(kind, field)?))),
        ValueKind::Real => Cell::Real(f64::from_bits(u64::from_be_bytes(fixed(kind, field)?))),
        ValueKind::Numeric => prepared.numeric(),
        ValueKind::Text => text(encoding, field),
        ValueKind::Char => text(encoding, prepared.bytes()),
        ValueKind::Bytes => Cell::Bytes(field),
        ValueKind::Uuid => Cell::Uuid(fixed(kind, field)?),
        ValueKind::Date => Cell::Date(i32::from_be_bytes(fixed(kind, field)?)),
        ValueKind::Time => Cell::Time(i64::from_be_bytes(fixed(kind, field)?)),
        ValueKind::TimeZoned => {
            let [time, zone] = split::<8, 4>(kind, field)?;
            Cell::TimeZoned(big_endian(time), big_endian(zone) as i32)
        }
        ValueKind::Timestamp | ValueKind::TimestampZoned => Cell::Timestamp(i64::from_be_bytes(fixed(kind, field)?)),
        ValueKind::Interval => {
            let [time, rest] = split::<8, 8>(kind, field)?;
            let [days, months] = split::<4, 4>(kind, rest)?;
            Cell::Interval {
                months: big_endian(months) as i32,
                days: big_endian(days) as i32,
                microseconds: big_endian(time),
            }
        }
        ValueKind::Json | ValueKind::Output => Cell::Output(field),
        ValueKind::Jsonb => match field.split_first() {
            Some((1, text)) => Cell::Output(text),
            Some(_) => return Err(FieldError::Invalid { kind, what: "unknown version" }),
            None => return Err(FieldError::Length { kind, len: 0 }),
        },
    })
}

/// The pieces of a row in order.
pub(crate) struct PreparedRow<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) pieces: std::slice::Iter<'a, RowPiece>,
}

impl<'a> PreparedRow<'a> {
    pub(crate) fn of(scratch: &'a RowScratch) -> Self {
        Self { bytes: &scratch.bytes, pieces: scratch.pieces.iter() }
    }

    pub(crate) fn numeric(&mut self) -> Cell<'a> {
        match self.pieces.next() {
            Some(RowPiece::Numeric(number)) => Cell::Numeric(number.get(self.bytes)),
            _ => unreachable!("every number was prepared"),
        }
    }

    pub(crate) fn bytes(&mut self) -> &'a [u8] {
        match self.pieces.next() {
            Some(RowPiece::Bytes(range)) => &self.bytes[range.clone()],
            _ => unreachable!("every value of this kind was prepared"),
        }
    }
}

/// The cell of a text. Bytes that are no UTF-8 say what they may be.
pub(crate) fn text(encoding: SessionEncoding, bytes: &[u8]) -> Cell<'_> {
    match (std::str::from_utf8(bytes), encoding) {
        (Ok(text), _) => Cell::Text(text),
        // A server lets such bytes out of a damaged table, or of one that an old version filled.
        (Err(_), SessionEncoding::Utf8) => Cell::Encoded(Encoding::Utf8Invalid, bytes),
        (Err(_), SessionEncoding::SqlAscii) => Cell::Encoded(Encoding::SqlAscii, bytes),
    }
}

fn fixed<const N: usize>(kind: ValueKind, field: &[u8]) -> Result<[u8; N], FieldError> {
    field.try_into().map_err(|_| FieldError::Length { kind, len: field.len() })
}

/// Two parts of fixed length.
fn split<const A: usize, const B: usize>(kind: ValueKind, field: &[u8]) -> Result<[&[u8]; 2], FieldError> {
    match field.split_at_checked(A) {
        Some((a, b)) if b.len() == B => Ok([a, b]),
        _ => Err(FieldError::Length { kind, len: field.len() }),
    }
}

/// Up to eight bytes as a number; of fewer the sign is lost, and comes back with the width.
fn big_endian(bytes: &[u8]) -> i64 {
    bytes.iter().fold(0, |value, byte| value << 8 | i64::from(*byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{FieldError, PreparedRow, RowScratch, cell, prepare};
    use crate::engine::postgres::connect::session::SessionEncoding;
    use crate::engine::postgres::value::value_kind::ValueKind;
    use crate::format::cell::{Cell, Encoding, OwnedCell};

    const KINDS: [ValueKind; 22] = [
        ValueKind::Bool,
        ValueKind::Int2,
        ValueKind::Int4,
        ValueKind::Int8,
        ValueKind::Unsigned32,
        ValueKind::Money,
        ValueKind::Real32,
        ValueKind::Real,
        ValueKind::Numeric,
        ValueKind::Text,
        ValueKind::Char,
        ValueKind::Bytes,
        ValueKind::Uuid,
        ValueKind::Date,
        ValueKind::Time,
        ValueKind::TimeZoned,
        ValueKind::Timestamp,
        ValueKind::TimestampZoned,
        ValueKind::Interval,
        ValueKind::Json,
        ValueKind::Jsonb,
        ValueKind::Output,
    ];

    fn decoded(kind: ValueKind, encoding: SessionEncoding, field: &[u8]) -> Result<OwnedCell, FieldError> {
        let mut scratch = RowScratch::default();
        prepare(kind, field, &mut scratch)?;
        cell(kind, encoding, field, &mut PreparedRow::of(&scratch)).map(|cell| OwnedCell::new(&cell))
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
    fn texts_of_each_encoding() {
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
        for kind in KINDS {
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
        assert_eq!(error.to_string(), "no jsonb: unknown version");
    }

    proptest! {
        #![proptest_config(crate::base::property::config())]

        #[test]
        fn no_field_panics(field: Vec<u8>, at in 0..KINDS.len()) {
            let _ = decoded(KINDS[at], SessionEncoding::Utf8, &field);
        }
    }
}
