//! Encodes rows of canonical cells for a COPY: the inverse of `copy_decoder.rs`.
//!
//! Rows are sent as tuples of a binary COPY if the types of all columns are on the allow-list, and otherwise as lines
//! of a text COPY, which every version reads in the same way. A few values have no usable text: bytes whose hexadecimal
//! text is too long for a line, and those that `field_encoder.rs` lists. A row with such a value is sent as the
//! parameters of an INSERT (`parameter.rs`). The session has the settings of `connect::session_settings`.

use crate::engine::postgres::value::field_encoder::{
    CopyFit, EncodeError, EncodeTarget, is_binary_only, push_binary_value, push_scalar_text, text_of,
};
use crate::engine::postgres::value::value_kind::ValueKind;
use crate::format::cell::Cell;

/// The longest line for a COPY. A server fails at 2^30 bytes, and its encoding conversion may enlarge the line.
const LINE_BYTES_MAX: usize = 1 << 28;
/// The longest message that a server accepts, and the overhead of a row and of each value in it.
const MESSAGE_BYTES_MAX: usize = (1 << 30) - 2;
const MESSAGE_BYTES_OF_ROW: usize = 32;
const MESSAGE_BYTES_OF_VALUE: usize = 6;
const TEXT_NULL: &[u8] = b"\\N";

/// Signature, flags, and an empty header extension.
pub(crate) const BINARY_HEADER: &[u8; 19] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// The end of the data, after the last tuple.
pub(crate) const BINARY_TRAILER: &[u8; 2] = &[0xff, 0xff];
/// Longest tuple. A server reads a field of at most 2^30 bytes.
const TUPLE_BYTES_MAX: usize = 1 << 29;
const BINARY_NULL: [u8; 4] = (-1_i32).to_be_bytes();
const LENGTH_BYTES: usize = 4;

/// Appends a row as a line of a text COPY, unless it must be sent as parameters. `kinds` are the kinds of the columns.
/// Follows "Text Format" on PostgreSQL's page about COPY.
/// Fails if no server accepts the row: a text has a zero byte or is UTF-16, a number is too large, a cell is absent or
/// a stream, or the row needs more than 1 GiB in a message. Nothing is appended then.
pub fn push_line(
    out: &mut Vec<u8>,
    cells: &[Cell<'_>],
    kinds: &[ValueKind],
    target: EncodeTarget,
) -> Result<CopyFit, EncodeError> {
    fits_message(cells)?;
    let start = out.len();
    let pushed = push_text_fields(out, cells, kinds, target);
    match pushed {
        Ok(CopyFit::Fits) => out.push(b'\n'),
        Ok(CopyFit::Unfit) | Err(_) => out.truncate(start),
    }
    pushed
}

fn push_text_fields(
    out: &mut Vec<u8>,
    cells: &[Cell<'_>],
    kinds: &[ValueKind],
    target: EncodeTarget,
) -> Result<CopyFit, EncodeError> {
    let start = out.len();
    for (at, (cell, kind)) in cells.iter().zip(kinds).enumerate() {
        if at > 0 {
            out.push(b'\t');
        }
        if !has_text(cell, *kind, target) || out.len() - start > LINE_BYTES_MAX {
            return Ok(CopyFit::Unfit);
        }
        push_text_field(out, cell, *kind, target)?;
    }
    Ok(CopyFit::Fits)
}

fn has_text(cell: &Cell<'_>, kind: ValueKind, target: EncodeTarget) -> bool {
    !is_too_long(cell) && !is_binary_only(cell, kind, target)
}

/// Whether the value may be too long for a line: a byte takes two digits, and an escaped character two bytes.
fn is_too_long(cell: &Cell<'_>) -> bool {
    cell.stream_candidate().is_some_and(|(_, bytes)| bytes.len() > LINE_BYTES_MAX / 2)
}

/// Checks that the row can at least be sent as parameters. A server ends the session if a message is too long.
fn fits_message(cells: &[Cell<'_>]) -> Result<(), EncodeError> {
    if message_bytes(cells) > MESSAGE_BYTES_MAX { Err(EncodeError::RowTooLong) } else { Ok(()) }
}

fn message_bytes(cells: &[Cell<'_>]) -> usize {
    let values = cells.iter().filter_map(Cell::stream_candidate);
    let value_bytes: usize = values.map(|(_, value)| value.len()).sum();
    MESSAGE_BYTES_OF_ROW + MESSAGE_BYTES_OF_VALUE * cells.len() + value_bytes
}

fn push_text_field(
    out: &mut Vec<u8>,
    cell: &Cell<'_>,
    kind: ValueKind,
    target: EncodeTarget,
) -> Result<(), EncodeError> {
    match *cell {
        Cell::Null | Cell::Lost => out.extend_from_slice(TEXT_NULL),
        Cell::Bytes(bytes) => push_hex(out, bytes),
        _ => match text_of(cell, target.encoding)? {
            Some(text) => push_escaped(out, &text),
            None => push_scalar_text(out, cell, kind, target)?,
        },
    }
    Ok(())
}

/// Escapes backslashes and the characters that end a field or a line.
fn push_escaped(out: &mut Vec<u8>, text: &[u8]) {
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'\\' | b'\t' | b'\n' | b'\r')) {
        out.extend_from_slice(&rest[..at]);
        out.push(b'\\');
        out.push(escape_letter(rest[at]));
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

/// Appends what the input function of bytea reads, with its backslash escaped.
fn push_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(b"\\\\x");
    let start = out.len();
    out.resize(start + 2 * bytes.len(), 0);
    data_encoding::HEXLOWER.encode_mut(bytes, &mut out[start..]);
}

fn escape_letter(byte: u8) -> u8 {
    match byte {
        b'\t' => b't',
        b'\n' => b'n',
        b'\r' => b'r',
        other => other,
    }
}

/// Appends a row as a tuple of a binary COPY. `kinds` are the kinds of the columns, whose types must be on the
/// allow-list.
/// Follows "Binary Format" on PostgreSQL's page about COPY.
/// Fails if a text has a zero byte or is UTF-16, or if the row needs more than 1 GiB in a message. Nothing is appended
/// then.
pub(crate) fn push_tuple(
    out: &mut Vec<u8>,
    cells: &[Cell<'_>],
    kinds: &[ValueKind],
    target: EncodeTarget,
) -> Result<CopyFit, EncodeError> {
    fits_message(cells)?;
    let start = out.len();
    out.extend_from_slice(&(cells.len() as i16).to_be_bytes());
    for (cell, kind) in cells.iter().zip(kinds) {
        let fit = push_binary_field(out, cell, *kind, target);
        if !matches!(fit, Ok(CopyFit::Fits)) || out.len() - start > TUPLE_BYTES_MAX {
            out.truncate(start);
            return fit.map(|_| CopyFit::Unfit);
        }
    }
    Ok(CopyFit::Fits)
}

fn push_binary_field(
    out: &mut Vec<u8>,
    cell: &Cell<'_>,
    kind: ValueKind,
    target: EncodeTarget,
) -> Result<CopyFit, EncodeError> {
    if matches!(cell, Cell::Null | Cell::Lost) {
        out.extend_from_slice(&BINARY_NULL);
        return Ok(CopyFit::Fits);
    }
    // A placeholder: the length is known only after the value is written.
    let at = out.len();
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    match push_binary_value(out, cell, kind, target)? {
        CopyFit::Fits => Ok(set_length(out, at)),
        CopyFit::Unfit => Ok(CopyFit::Unfit),
    }
}

/// Fills in the length at `at` of the value after it.
fn set_length(out: &mut [u8], at: usize) -> CopyFit {
    let start = at + LENGTH_BYTES;
    let Ok(len) = i32::try_from(out.len() - start) else { return CopyFit::Unfit };
    out[at..start].copy_from_slice(&len.to_be_bytes());
    CopyFit::Fits
}

#[cfg(test)]
mod tests {
    use super::{push_line, push_tuple};
    use crate::engine::postgres::connect::session_settings::SessionEncoding;
    use crate::engine::postgres::value::field_encoder::{CopyFit, EncodeError, EncodeTarget};
    use crate::engine::postgres::value::value_kind::ValueKind;
    use crate::format::cell::{Cell, Encoding, Numeric};

    const OLD: EncodeTarget = EncodeTarget { version: 13, encoding: SessionEncoding::Utf8 };
    const NEW: EncodeTarget = EncodeTarget { version: 18, encoding: SessionEncoding::Utf8 };

    fn line(cells: &[Cell<'_>], kind: ValueKind, target: EncodeTarget) -> Result<String, EncodeError> {
        let mut out = Vec::new();
        let way = push_line(&mut out, cells, &vec![kind; cells.len()], target)?;
        assert_eq!(way == CopyFit::Unfit, out.is_empty());
        Ok(String::from_utf8(out).expect("text"))
    }

    #[test]
    fn cells_are_written_in_the_form_that_a_server_reads() {
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
    fn values_that_a_version_cannot_read_from_text_are_sent_as_parameters() {
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
    }

    #[test]
    fn a_row_longer_than_a_message_is_refused() {
        let half = vec![0; 1 << 29];
        let row = |rest: usize| line(&[Cell::Bytes(&half), Cell::Bytes(&half[rest..])], ValueKind::Bytes, NEW);
        assert_eq!((row(100).as_deref(), row(40).as_deref()), (Ok(""), Err(&EncodeError::RowTooLong)));
    }

    #[test]
    fn a_row_with_an_invalid_value_writes_nothing() {
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

    const TARGET: EncodeTarget = EncodeTarget { version: 15, encoding: SessionEncoding::Utf8 };

    #[test]
    fn a_tuple_with_a_value_that_does_not_fit_its_column_writes_nothing() {
        for (cell, kind) in [
            (Cell::Integer(40_000), ValueKind::Int2),
            (Cell::Integer(-1), ValueKind::Unsigned32),
            (Cell::Integer(1), ValueKind::Text),
            (Cell::Text("abc"), ValueKind::Char),
            (Cell::Output(b"1"), ValueKind::Int4),
        ] {
            let mut out = b"before".to_vec();
            assert_eq!(
                push_tuple(&mut out, &[Cell::Null, cell], &[ValueKind::Int4, kind], TARGET),
                Ok(CopyFit::Unfit),
                "{cell:?}"
            );
            assert_eq!(out, b"before");
        }
        let mut out = Vec::new();
        let row = [Cell::Null, Cell::Integer(-2), Cell::Output(b"{}"), Cell::Text("\\376")];
        let kinds = [ValueKind::Bool, ValueKind::Int2, ValueKind::Jsonb, ValueKind::Char];
        assert_eq!(push_tuple(&mut out, &row, &kinds, TARGET), Ok(CopyFit::Fits));
        assert_eq!(out, b"\0\x04\xff\xff\xff\xff\0\0\0\x02\xff\xfe\0\0\0\x03\x01{}\0\0\0\x01\xfe");
        assert!(push_tuple(&mut out, &[Cell::Text("a\0")], &[ValueKind::Text], TARGET).is_err());
    }
}
