//! One value as the text of its output function into a canonical cell: the same cell as from its binary form,
//! but that such a text knows one NaN only. The session has the settings of `transport`.

use crate::engine::postgres::value::binary::{FieldError, Piece, Prepared, Scratch, text};
use crate::engine::postgres::value::calendar;
use crate::engine::postgres::value::numeric;
use crate::engine::postgres::value::transport::{Kind, SessionEncoding};
use crate::format::cell::Cell;

/// Puts what the cell of this field will need into `scratch`: of one piece for each field of such a kind.
pub(crate) fn prepare(kind: Kind, field: &[u8], scratch: &mut Scratch) -> Result<(), FieldError> {
    match kind {
        Kind::Numeric => {
            let number = numeric::from_text(ascii(kind, field)?, &mut scratch.bytes)?;
            scratch.pieces.push(Piece::Numeric(number));
        }
        Kind::Char => match *field {
            [] => scratch.push_char(0),
            [byte] => scratch.push_char(byte),
            [b'\\', a, b, c] if [a, b, c].iter().all(|digit| (b'0'..=b'7').contains(digit)) => {
                let value = [a, b, c].iter().fold(0u16, |value, digit| value * 8 + u16::from(digit - b'0'));
                scratch.push_char(u8::try_from(value).map_err(|_| invalid(kind, "out of range"))?);
            }
            _ => return Err(invalid(kind, "more than one byte")),
        },
        Kind::Bytes => {
            let start = scratch.bytes.len();
            unhex(field.strip_prefix(b"\\x"), &mut scratch.bytes).ok_or(invalid(kind, "not hexadecimal"))?;
            scratch.pieces.push(Piece::Bytes(start..scratch.bytes.len()));
        }
        _ => {}
    }
    Ok(())
}

/// The cell of a field, after [`prepare`].
pub(crate) fn cell<'a>(
    kind: Kind,
    encoding: SessionEncoding,
    field: &'a [u8],
    prepared: &mut Prepared<'a>,
) -> Result<Cell<'a>, FieldError> {
    let not_one = invalid(kind, "not as its output function writes it");
    Ok(match kind {
        Kind::Bool => match field {
            b"t" => Cell::Bool(true),
            b"f" => Cell::Bool(false),
            _ => return Err(not_one),
        },
        Kind::Int2 => Cell::Integer(parsed::<i16>(kind, field)?.into()),
        Kind::Int4 => Cell::Integer(parsed::<i32>(kind, field)?.into()),
        Kind::Unsigned32 => Cell::Integer(parsed::<u32>(kind, field)?.into()),
        Kind::Int8 => Cell::Integer(parsed(kind, field)?),
        Kind::Money => Cell::Integer(money(ascii(kind, field)?).ok_or(not_one)?),
        Kind::Real32 => Cell::Real32(parsed(kind, field)?),
        Kind::Real => Cell::Real(parsed(kind, field)?),
        Kind::Numeric => prepared.numeric(),
        Kind::Text => text(encoding, field),
        Kind::Char => text(encoding, prepared.bytes()),
        Kind::Bytes => Cell::Bytes(prepared.bytes()),
        Kind::Uuid => Cell::Uuid(uuid(ascii(kind, field)?).ok_or(not_one)?),
        Kind::Date => Cell::Date(calendar::date(ascii(kind, field)?).ok_or(not_one)?),
        Kind::Time => Cell::Time(calendar::time(ascii(kind, field)?).ok_or(not_one)?),
        Kind::TimeZoned => {
            let (time, west) = calendar::time_zoned(ascii(kind, field)?).ok_or(not_one)?;
            Cell::TimeZoned(time, west)
        }
        Kind::Timestamp | Kind::TimestampZoned => {
            Cell::Timestamp(calendar::timestamp(ascii(kind, field)?).ok_or(not_one)?)
        }
        Kind::Interval => {
            let (months, days, microseconds) = calendar::interval(ascii(kind, field)?).ok_or(not_one)?;
            Cell::Interval { months, days, microseconds }
        }
        Kind::Json | Kind::Jsonb | Kind::Output => Cell::Output(field),
    })
}

fn invalid(kind: Kind, what: &'static str) -> FieldError {
    FieldError::Invalid { kind, what }
}

fn ascii(kind: Kind, field: &[u8]) -> Result<&str, FieldError> {
    std::str::from_utf8(field).ok().filter(|text| text.is_ascii()).ok_or(invalid(kind, "not ASCII"))
}

fn parsed<T: std::str::FromStr>(kind: Kind, field: &[u8]) -> Result<T, FieldError> {
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
    use crate::engine::postgres::value::binary::{FieldError, Prepared, Scratch};
    use crate::engine::postgres::value::transport::{Kind, SessionEncoding};
    use crate::format::cell::{Cell, OwnedCell};

    fn decoded(kind: Kind, field: &[u8]) -> Result<OwnedCell, FieldError> {
        let mut scratch = Scratch::default();
        prepare(kind, field, &mut scratch)?;
        cell(kind, SessionEncoding::Utf8, field, &mut Prepared::of(&scratch)).map(|cell| OwnedCell::new(&cell))
    }

    fn is(kind: Kind, text: &str, expected: Cell<'_>) {
        assert_eq!(decoded(kind, text.as_bytes()), Ok(OwnedCell::new(&expected)), "{kind}: {text}");
    }

    #[test]
    fn words_of_output_functions() {
        is(Kind::Bool, "t", Cell::Bool(true));
        is(Kind::Money, "-$92,233,720,368,547,758.08", Cell::Integer(i64::MIN));
        is(Kind::Money, "$0.05", Cell::Integer(5));
        is(Kind::Real, "-Infinity", Cell::Real(f64::NEG_INFINITY));
        is(Kind::Real, "NaN", Cell::Real(f64::NAN));
        is(Kind::Real, "-0", Cell::Real(-0.0));
        is(Kind::Real, "5e-324", Cell::Real(f64::from_bits(1)));
        is(Kind::Real32, "1e-45", Cell::Real32(f32::from_bits(1)));
        is(Kind::Bytes, "\\x00ff", Cell::Bytes(&[0, 255]));
        is(Kind::Bytes, "\\x", Cell::Bytes(&[]));
        is(Kind::Char, "\\376", Cell::Text("\\376"));
        is(Kind::Char, "\\", Cell::Text("\\"));
        is(Kind::Char, "", Cell::Text(""));
        is(Kind::Uuid, "01234567-89ab-cdef-0123-456789abcdef", {
            Cell::Uuid([1, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 1, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef])
        });
        assert_eq!(decoded(Kind::Char, b"\xfe"), Ok(OwnedCell::new(&Cell::Text("\\376"))));
    }

    #[test]
    fn what_no_output_function_writes_is_refused() {
        for (kind, text) in [
            (Kind::Bool, "true"),
            (Kind::Int2, "32768"),
            (Kind::Money, "$1"),
            (Kind::Bytes, "ff"),
            (Kind::Bytes, "\\xf"),
            (Kind::Char, "\\777"),
            (Kind::Uuid, "00"),
            (Kind::Date, "2000-13-01"),
            (Kind::Interval, "1 fortnight"),
        ] {
            assert!(decoded(kind, text.as_bytes()).is_err(), "{kind}: {text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[-+0-9:.$,\\\\xa-f ]{0,20}") {
            for kind in [Kind::Money, Kind::Bytes, Kind::Uuid, Kind::Char, Kind::Numeric, Kind::TimeZoned, Kind::Real] {
                let _ = decoded(kind, text.as_bytes());
            }
        }
    }
}
