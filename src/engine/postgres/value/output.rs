//! One value as the text of its output function into a canonical cell: the same cell as from its binary form,
//! but that such a text knows one NaN only. The session has the settings of `transport`.

use crate::engine::postgres::connect::session::SessionEncoding;
use crate::engine::postgres::value::binary::{PreparedRow, RowPiece, RowScratch, text};
use crate::engine::postgres::value::calendar;
use crate::engine::postgres::value::numeric;
use crate::engine::postgres::value::value_kind::FieldError;
use crate::engine::postgres::value::value_kind::ValueKind;
use crate::format::cell::Cell;

/// Puts what the cell of this field will need into `scratch`: of one piece for each field of such a kind.
pub(crate) fn prepare(kind: ValueKind, field: &[u8], scratch: &mut RowScratch) -> Result<(), FieldError> {
    match kind {
        ValueKind::Numeric => {
            let number = numeric::from_text(ascii(kind, field)?, &mut scratch.bytes)?;
            scratch.pieces.push(RowPiece::Numeric(number));
        }
        ValueKind::Char => match *field {
            [] => scratch.push_char(0),
            [byte] => scratch.push_char(byte),
            [b'\\', a, b, c] if [a, b, c].iter().all(|digit| (b'0'..=b'7').contains(digit)) => {
                let value = [a, b, c].iter().fold(0u16, |value, digit| value * 8 + u16::from(digit - b'0'));
                scratch.push_char(u8::try_from(value).map_err(|_| invalid(kind, "out of range"))?);
            }
            _ => return Err(invalid(kind, "more than one byte")),
        },
        ValueKind::Bytes => {
            let start = scratch.bytes.len();
            unhex(field.strip_prefix(b"\\x"), &mut scratch.bytes).ok_or(invalid(kind, "not hexadecimal"))?;
            scratch.pieces.push(RowPiece::Bytes(start..scratch.bytes.len()));
        }
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
    let not_one = invalid(kind, "not as its output function writes it");
    Ok(match kind {
        ValueKind::Bool => match field {
            b"t" => Cell::Bool(true),
            b"f" => Cell::Bool(false),
            _ => return Err(not_one),
        },
        ValueKind::Int2 => Cell::Integer(parsed::<i16>(kind, field)?.into()),
        ValueKind::Int4 => Cell::Integer(parsed::<i32>(kind, field)?.into()),
        ValueKind::Unsigned32 => Cell::Integer(parsed::<u32>(kind, field)?.into()),
        ValueKind::Int8 => Cell::Integer(parsed(kind, field)?),
        ValueKind::Money => Cell::Integer(money(ascii(kind, field)?).ok_or(not_one)?),
        ValueKind::Real32 => Cell::Real32(parsed(kind, field)?),
        ValueKind::Real => Cell::Real(parsed(kind, field)?),
        ValueKind::Numeric => prepared.numeric(),
        ValueKind::Text => text(encoding, field),
        ValueKind::Char => text(encoding, prepared.bytes()),
        ValueKind::Bytes => Cell::Bytes(prepared.bytes()),
        ValueKind::Uuid => Cell::Uuid(uuid(ascii(kind, field)?).ok_or(not_one)?),
        ValueKind::Date => Cell::Date(calendar::date(ascii(kind, field)?).ok_or(not_one)?),
        ValueKind::Time => Cell::Time(calendar::time(ascii(kind, field)?).ok_or(not_one)?),
        ValueKind::TimeZoned => {
            let (time, west) = calendar::time_zoned(ascii(kind, field)?).ok_or(not_one)?;
            Cell::TimeZoned(time, west)
        }
        ValueKind::Timestamp | ValueKind::TimestampZoned => {
            Cell::Timestamp(calendar::timestamp(ascii(kind, field)?).ok_or(not_one)?)
        }
        ValueKind::Interval => {
            let (months, days, microseconds) = calendar::interval(ascii(kind, field)?).ok_or(not_one)?;
            Cell::Interval { months, days, microseconds }
        }
        ValueKind::Json | ValueKind::Jsonb | ValueKind::Output => Cell::Output(field),
    })
}

fn invalid(kind: ValueKind, what: &'static str) -> FieldError {
    FieldError::Invalid { kind, what }
}

fn ascii(kind: ValueKind, field: &[u8]) -> Result<&str, FieldError> {
    std::str::from_utf8(field).ok().filter(|text| text.is_ascii()).ok_or(invalid(kind, "not ASCII"))
}

fn parsed<T: std::str::FromStr>(kind: ValueKind, field: &[u8]) -> Result<T, FieldError> {
    ascii(kind, field)?.parse().map_err(|_| invalid(kind, "no number, or out of range"))
}

/// Minor units of what the C locale shows as `-$1,234.56`.
fn money(text: &str) -> Option<i64> {
    let (sign, text) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let (whole, cents) = text.strip_prefix('$')?.split_once('.')?;
    if cents.len() != 2 {
        return None;
    }
    // The largest negative sum has no positive counterpart.
    whole.bytes().chain(cents.bytes()).filter(|byte| *byte != b',').try_fold(0i64, |sum, byte| {
        let digit = byte.is_ascii_digit().then(|| i64::from(byte - b'0'))?;
        sum.checked_mul(10)?.checked_add(sign * digit)
    })
}

fn uuid(text: &str) -> Option<[u8; 16]> {
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b'-').collect();
    let mut bytes = Vec::with_capacity(16);
    unhex(Some(&digits), &mut bytes)?;
    bytes.try_into().ok()
}

/// Appends what hexadecimal digits stand for.
fn unhex(digits: Option<&[u8]>, out: &mut Vec<u8>) -> Option<()> {
    let digits = digits?;
    let start = out.len();
    let len = data_encoding::HEXLOWER.decode_len(digits.len()).ok()?;
    out.resize(start + len, 0);
    data_encoding::HEXLOWER.decode_mut(digits, &mut out[start..]).ok().map(drop)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{cell, prepare};
    use crate::engine::postgres::connect::session::SessionEncoding;
    use crate::engine::postgres::value::binary::{PreparedRow, RowScratch};
    use crate::engine::postgres::value::value_kind::FieldError;
    use crate::engine::postgres::value::value_kind::ValueKind;
    use crate::format::cell::{Cell, OwnedCell};

    fn decoded(kind: ValueKind, field: &[u8]) -> Result<OwnedCell, FieldError> {
        let mut scratch = RowScratch::default();
        prepare(kind, field, &mut scratch)?;
        cell(kind, SessionEncoding::Utf8, field, &mut PreparedRow::of(&scratch)).map(|cell| OwnedCell::new(&cell))
    }

    fn is(kind: ValueKind, text: &str, expected: Cell<'_>) {
        assert_eq!(decoded(kind, text.as_bytes()), Ok(OwnedCell::new(&expected)), "{kind}: {text}");
    }

    #[test]
    fn words_of_output_functions() {
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
    fn what_no_output_function_writes_is_refused() {
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
        fn no_text_panics(text in "[-+0-9:.$,\\\\xa-f ]{0,20}") {
            for kind in [ValueKind::Money, ValueKind::Bytes, ValueKind::Uuid, ValueKind::Char, ValueKind::Numeric, ValueKind::TimeZoned, ValueKind::Real] {
                let _ = decoded(kind, text.as_bytes());
            }
        }
    }
}
