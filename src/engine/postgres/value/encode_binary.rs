//! Canonical cells as tuples of COPY in binary format: the inverse of `binary`.
//!
//! Only for tables all of whose columns have types of the allow-list. A cell that is of another kind than its column
//! makes its row odd: then nothing is written, and the row goes as text.

use crate::engine::postgres::value::encode::{EncodeError, EncodeTarget, fits_message, text_of};
use crate::engine::postgres::value::numeric;
use crate::engine::postgres::value::value_kind::ValueKind;
use crate::format::cell::{Cell, Numeric};

/// Signature, flags, no extension.
pub(crate) const HEADER: &[u8; 19] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// After the last tuple.
pub(crate) const TRAILER: &[u8; 2] = &[0xff, 0xff];
/// Longest tuple: a server reads a field of at most 2^30 bytes.
const TUPLE_BYTES_MAX: usize = 1 << 29;
const NULL: [u8; 4] = (-1_i32).to_be_bytes();

/// Whether a row can go this way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub(crate) enum BinaryFit {
    Fits,
    /// Nothing was written.
    Odd,
}

/// Appends a row. Cells stand beside the kinds of their columns.
pub(crate) fn push_tuple(
    out: &mut Vec<u8>,
    cells: &[Cell<'_>],
    kinds: &[ValueKind],
    place: EncodeTarget,
) -> Result<BinaryFit, EncodeError> {
    fits_message(cells)?;
    let start = out.len();
    out.extend_from_slice(&(cells.len() as i16).to_be_bytes());
    for (cell, kind) in cells.iter().zip(kinds) {
        let fit = push_field(out, cell, *kind, place);
        if !matches!(fit, Ok(BinaryFit::Fits)) || out.len() - start > TUPLE_BYTES_MAX {
            out.truncate(start);
            return fit.map(|_| BinaryFit::Odd);
        }
    }
    Ok(BinaryFit::Fits)
}

fn push_field(
    out: &mut Vec<u8>,
    cell: &Cell<'_>,
    kind: ValueKind,
    place: EncodeTarget,
) -> Result<BinaryFit, EncodeError> {
    if matches!(cell, Cell::Null) {
        out.extend_from_slice(&NULL);
        return Ok(BinaryFit::Fits);
    }
    // The length is known afterwards.
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    if push_value(out, cell, kind, place)? == BinaryFit::Odd {
        return Ok(BinaryFit::Odd);
    }
    let Ok(len) = i32::try_from(out.len() - at - 4) else { return Ok(BinaryFit::Odd) };
    out[at..at + 4].copy_from_slice(&len.to_be_bytes());
    Ok(BinaryFit::Fits)
}

fn push_value(
    out: &mut Vec<u8>,
    cell: &Cell<'_>,
    kind: ValueKind,
    place: EncodeTarget,
) -> Result<BinaryFit, EncodeError> {
    match (kind, *cell) {
        (ValueKind::Bool, Cell::Bool(value)) => out.push(u8::from(value)),
        (_, Cell::Integer(value)) => return Ok(push_integer(out, value, kind)),
        (ValueKind::Real, Cell::Real(value)) => out.extend_from_slice(&value.to_bits().to_be_bytes()),
        (ValueKind::Real32, Cell::Real32(value)) => out.extend_from_slice(&value.to_bits().to_be_bytes()),
        (ValueKind::Numeric, Cell::Numeric(number)) => return Ok(push_numeric(out, &number)),
        (ValueKind::Bytes, Cell::Bytes(bytes)) => out.extend_from_slice(bytes),
        (ValueKind::Uuid, Cell::Uuid(bytes)) => out.extend_from_slice(&bytes),
        (ValueKind::Date, Cell::Date(value)) => out.extend_from_slice(&value.to_be_bytes()),
        (ValueKind::Time, Cell::Time(value)) => out.extend_from_slice(&value.to_be_bytes()),
        (ValueKind::Timestamp | ValueKind::TimestampZoned, Cell::Timestamp(value)) => {
            out.extend_from_slice(&value.to_be_bytes())
        }
        (ValueKind::TimeZoned, Cell::TimeZoned(value, west)) => {
            out.extend_from_slice(&value.to_be_bytes());
            out.extend_from_slice(&west.to_be_bytes());
        }
        (ValueKind::Interval, Cell::Interval { months, days, microseconds }) => {
            out.extend_from_slice(&microseconds.to_be_bytes());
            out.extend_from_slice(&days.to_be_bytes());
            out.extend_from_slice(&months.to_be_bytes());
        }
        (ValueKind::Text, Cell::Text(_) | Cell::Encoded(..)) | (ValueKind::Json, Cell::Output(_)) => {
            return push_text(out, cell, place);
        }
        (ValueKind::Jsonb, Cell::Output(_)) => {
            out.push(1);
            return push_text(out, cell, place);
        }
        (ValueKind::Char, Cell::Text(text)) => match char_byte(text) {
            Some(byte) => out.push(byte),
            None => return Ok(BinaryFit::Odd),
        },
        _ => return Ok(BinaryFit::Odd),
    }
    Ok(BinaryFit::Fits)
}

fn push_text(out: &mut Vec<u8>, cell: &Cell<'_>, place: EncodeTarget) -> Result<BinaryFit, EncodeError> {
    let Some(text) = text_of(cell, place.encoding)? else { return Ok(BinaryFit::Odd) };
    out.extend_from_slice(&text);
    Ok(BinaryFit::Fits)
}

/// A "char" as servers write it: nothing, a byte, or a backslash and three octal digits.
fn char_byte(text: &str) -> Option<u8> {
    match *text.as_bytes() {
        [] => Some(0),
        [byte] => Some(byte),
        [b'\\', a, b, c] => u8::from_str_radix(std::str::from_utf8(&[a, b, c]).ok()?, 8).ok(),
        _ => None,
    }
}

fn push_integer(out: &mut Vec<u8>, value: i64, kind: ValueKind) -> BinaryFit {
    fn push<const N: usize, E>(out: &mut Vec<u8>, bytes: Result<[u8; N], E>) -> BinaryFit {
        match bytes {
            Ok(bytes) => {
                out.extend_from_slice(&bytes);
                BinaryFit::Fits
            }
            Err(_) => BinaryFit::Odd,
        }
    }
    match kind {
        ValueKind::Int2 => push(out, i16::try_from(value).map(i16::to_be_bytes)),
        ValueKind::Int4 => push(out, i32::try_from(value).map(i32::to_be_bytes)),
        ValueKind::Unsigned32 => push(out, u32::try_from(value).map(u32::to_be_bytes)),
        ValueKind::Int8 | ValueKind::Money => push(out, Ok::<_, ()>(value.to_be_bytes())),
        _ => BinaryFit::Odd,
    }
}

/// Groups of four digits from the point, as the server keeps them.
fn push_numeric(out: &mut Vec<u8>, number: &Numeric<'_>) -> BinaryFit {
    let special = |sign: u16| [0, 0, sign, 0].map(u16::to_be_bytes).concat();
    let (negative, scale, exponent, digits) = match *number {
        Numeric::NaN => return extend(out, &special(0xc000)),
        Numeric::Infinity => return extend(out, &special(0xd000)),
        Numeric::NegativeInfinity => return extend(out, &special(0xf000)),
        Numeric::Finite { negative, scale, exponent, digits } => (negative, scale, i64::from(exponent), digits),
    };
    // The text that it has may show more decimals, or say that no server holds it.
    if i64::from(scale) < -exponent && !digits.is_empty() || numeric::holds(number) == numeric::NumericFit::TooLarge {
        return BinaryFit::Odd;
    }
    let (after, whole) = if digits.is_empty() { (0, 0) } else { (-exponent, digits.len() as i64 + exponent) };
    // Zeros that fill up the last group, and the first.
    let low = after.rem_euclid(4);
    let pad_low = (4 - low) % 4;
    let pad_high = (4 - whole.rem_euclid(4)) % 4;
    let count = (digits.len() as i64 + pad_low + pad_high) / 4;
    let (Ok(count16), Ok(weight)) = (i16::try_from(count), i16::try_from((whole + pad_high) / 4 - 1)) else {
        return BinaryFit::Odd;
    };
    let sign: u16 = if negative && !digits.is_empty() { 0x4000 } else { 0 };
    let weight = if digits.is_empty() { 0 } else { weight };
    out.extend_from_slice(&count16.to_be_bytes());
    out.extend_from_slice(&weight.to_be_bytes());
    out.extend_from_slice(&sign.to_be_bytes());
    out.extend_from_slice(&scale.to_be_bytes());
    for group in 0..count {
        let digit = |at: i64| {
            let at = group * 4 + at - pad_high;
            usize::try_from(at).ok().and_then(|at| digits.get(at)).map_or(0, |digit| u16::from(digit - b'0'))
        };
        let value = (0..4).fold(0, |value, at| value * 10 + digit(at));
        out.extend_from_slice(&value.to_be_bytes());
    }
    BinaryFit::Fits
}

fn extend(out: &mut Vec<u8>, bytes: &[u8]) -> BinaryFit {
    out.extend_from_slice(bytes);
    BinaryFit::Fits
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{BinaryFit, push_numeric, push_tuple};
    use crate::engine::postgres::connect::session::SessionEncoding;
    use crate::engine::postgres::value::encode::EncodeTarget;
    use crate::engine::postgres::value::numeric::{from_binary, from_text};
    use crate::engine::postgres::value::value_kind::ValueKind;
    use crate::format::cell::Cell;

    const PLACE: EncodeTarget = EncodeTarget { version: 15, encoding: SessionEncoding::Utf8 };

    #[test]
    fn what_does_not_fit_its_column_is_odd_and_leaves_no_trace() {
        for (cell, kind) in [
            (Cell::Integer(40_000), ValueKind::Int2),
            (Cell::Integer(-1), ValueKind::Unsigned32),
            (Cell::Integer(1), ValueKind::Text),
            (Cell::Text("abc"), ValueKind::Char),
            (Cell::Output(b"1"), ValueKind::Int4),
        ] {
            let mut out = b"before".to_vec();
            assert_eq!(
                push_tuple(&mut out, &[Cell::Null, cell], &[ValueKind::Int4, kind], PLACE),
                Ok(BinaryFit::Odd),
                "{cell:?}"
            );
            assert_eq!(out, b"before");
        }
        let mut out = Vec::new();
        let row = [Cell::Null, Cell::Integer(-2), Cell::Output(b"{}"), Cell::Text("\\376")];
        let kinds = [ValueKind::Bool, ValueKind::Int2, ValueKind::Jsonb, ValueKind::Char];
        assert_eq!(push_tuple(&mut out, &row, &kinds, PLACE), Ok(BinaryFit::Fits));
        assert_eq!(out, b"\0\x04\xff\xff\xff\xff\0\0\0\x02\xff\xfe\0\0\0\x03\x01{}\0\0\0\x01\xfe");
        assert!(push_tuple(&mut out, &[Cell::Text("a\0")], &[ValueKind::Text], PLACE).is_err());
    }

    proptest! {
        #![proptest_config(crate::base::property::config())]

        #[test]
        fn numbers_are_read_back(text in "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,30})?|-?[1-9]0{0,40}|-?0\\.0{0,30}[1-9]") {
            let (mut digits, mut bytes, mut again) = (Vec::new(), Vec::new(), Vec::new());
            let number = from_text(&text, &mut digits).expect("a number");
            prop_assert_eq!(push_numeric(&mut bytes, &number.get(&digits)), BinaryFit::Fits);
            let read = from_binary(&bytes, &mut again).expect("its own bytes");
            prop_assert_eq!(read.get(&again), number.get(&digits));
        }
    }
}
