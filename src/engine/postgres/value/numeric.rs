//! Decimal numbers: PostgreSQL's binary form and its text to and from the canonical cell, whose digits
//! neither begin nor end with a zero.

use std::ops::Range;

use crate::engine::postgres::value::value_kind::FieldError;
use crate::engine::postgres::value::value_kind::ValueKind;
use crate::format::cell::Numeric;

/// Digits before the point, and after it, of the largest numbers that a server can hold.
const WHOLE_DIGITS_MAX: i64 = 131_072;
const SCALE_MAX: u16 = 16_383;
/// Decimal digits in one of the server's.
const GROUP: usize = 4;
const HEADER_BYTES: usize = 8;

/// A number whose digits lie in a buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unpacked {
    Finite { negative: bool, scale: u16, exponent: i32, digits: Range<usize> },
    NaN,
    Infinity,
    NegativeInfinity,
}

impl Unpacked {
    /// The number, with its digits in `buffer`.
    pub(crate) fn get<'a>(&self, buffer: &'a [u8]) -> Numeric<'a> {
        match self {
            Self::Finite { negative, scale, exponent, digits } => Numeric::Finite {
                negative: *negative,
                scale: *scale,
                exponent: *exponent,
                digits: &buffer[digits.clone()],
            },
            Self::NaN => Numeric::NaN,
            Self::Infinity => Numeric::Infinity,
            Self::NegativeInfinity => Numeric::NegativeInfinity,
        }
    }
}

fn invalid(what: &'static str) -> FieldError {
    FieldError::Invalid { kind: ValueKind::Numeric, what }
}

/// Reads the binary form; digits are appended to `buffer`.
pub(crate) fn from_binary(field: &[u8], buffer: &mut Vec<u8>) -> Result<Unpacked, FieldError> {
    let wrong_length = FieldError::Length { kind: ValueKind::Numeric, len: field.len() };
    let (header, groups) = field.split_at_checked(HEADER_BYTES).ok_or(wrong_length)?;
    let half = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let (count, weight, scale) = (usize::from(half(0)), i32::from(half(2).cast_signed()), half(6));
    if groups.len() != 2 * count {
        return Err(wrong_length);
    }
    let negative = match half(4) {
        0x0000 => false,
        0x4000 => true,
        0xc000 => return Ok(Unpacked::NaN),
        0xd000 => return Ok(Unpacked::Infinity),
        0xf000 => return Ok(Unpacked::NegativeInfinity),
        _ => return Err(invalid("unknown sign")),
    };
    let start = buffer.len();
    for group in groups.chunks_exact(2) {
        let value = u16::from_be_bytes([group[0], group[1]]);
        if value > 9999 {
            return Err(invalid("a digit is out of range"));
        }
        let digit = |value: u16| b'0' + (value % 10) as u8;
        buffer.extend_from_slice(&[digit(value / 1000), digit(value / 100), digit(value / 10), digit(value)]);
    }
    let groups_after_first = i32::try_from(count).map_err(|_| wrong_length)? - 1;
    let exponent = i64::from(weight - groups_after_first) * GROUP as i64;
    Ok(finish(negative, scale, exponent, start, buffer))
}

/// Reads what the output function writes; digits are appended to `buffer`.
pub(crate) fn from_text(text: &str, buffer: &mut Vec<u8>) -> Result<Unpacked, FieldError> {
    match text {
        "NaN" => return Ok(Unpacked::NaN),
        "Infinity" => return Ok(Unpacked::Infinity),
        "-Infinity" => return Ok(Unpacked::NegativeInfinity),
        _ => {}
    }
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if whole.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit()) {
        return Err(invalid("no decimal number"));
    }
    let scale = u16::try_from(fraction.len()).map_err(|_| invalid("too many decimals"))?;
    let start = buffer.len();
    buffer.extend_from_slice(whole.as_bytes());
    buffer.extend_from_slice(fraction.as_bytes());
    Ok(finish(negative, scale, -i64::from(scale), start, buffer))
}

/// Takes the zeros from both ends of what lies in `buffer` from `start`; `exponent` is of the last digit.
fn finish(negative: bool, scale: u16, exponent: i64, start: usize, buffer: &[u8]) -> Unpacked {
    let digits = &buffer[start..];
    let Some(first) = digits.iter().position(|&digit| digit != b'0') else {
        return Unpacked::Finite { negative: false, scale, exponent: 0, digits: start..start };
    };
    let end = digits.iter().rposition(|&digit| digit != b'0').map_or(0, |last| last + 1);
    let exponent = exponent + (digits.len() - end) as i64;
    let exponent = i32::try_from(exponent).expect("a number of a few hundred thousand digits");
    Unpacked::Finite { negative, scale, exponent, digits: start + first..start + end }
}

/// Appends the text that the server reads as this number, scale and all; false if no server can hold it.
#[must_use]
pub(crate) fn push_text(out: &mut Vec<u8>, numeric: &Numeric<'_>) -> NumericFit {
    let (negative, scale, exponent, digits) = match *numeric {
        Numeric::NaN => return push(out, b"NaN"),
        Numeric::Infinity => return push(out, b"Infinity"),
        Numeric::NegativeInfinity => return push(out, b"-Infinity"),
        Numeric::Finite { negative, scale, exponent, digits } => (negative, scale, i64::from(exponent), digits),
    };
    let exponent = if digits.is_empty() { 0 } else { exponent };
    let decimals = i64::from(scale).max(-exponent);
    // Digits before the point, if the first stands there.
    let whole = digits.len() as i64 + exponent;
    if decimals > i64::from(SCALE_MAX) || whole > WHOLE_DIGITS_MAX {
        return NumericFit::TooLarge;
    }
    if negative && !digits.is_empty() {
        out.push(b'-');
    }
    let zeros = |out: &mut Vec<u8>, count: i64| out.resize(out.len() + usize::try_from(count).unwrap_or(0), b'0');
    let split = usize::try_from(whole).unwrap_or(0).min(digits.len());
    let (before, after) = digits.split_at(split);
    out.extend_from_slice(before);
    if whole <= 0 {
        out.push(b'0');
    } else {
        zeros(out, whole - before.len() as i64);
    }
    if decimals > 0 {
        out.push(b'.');
        let leading = if digits.is_empty() { 0 } else { (-whole).max(0) };
        zeros(out, leading);
        out.extend_from_slice(after);
        zeros(out, decimals - leading - after.len() as i64);
    }
    NumericFit::Yes
}

/// Whether a server can hold this number, and show it with its decimals.
pub(crate) fn holds(numeric: &Numeric<'_>) -> NumericFit {
    let Numeric::Finite { scale, exponent, digits, .. } = *numeric else { return NumericFit::Yes };
    let whole = digits.len() as i64 + i64::from(exponent);
    let is_held = scale <= SCALE_MAX && (digits.is_empty() || whole <= WHOLE_DIGITS_MAX);
    if is_held { NumericFit::Yes } else { NumericFit::TooLarge }
}

/// Whether a server can hold a number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NumericFit {
    Yes,
    TooLarge,
}

fn push(out: &mut Vec<u8>, word: &[u8]) -> NumericFit {
    out.extend_from_slice(word);
    NumericFit::Yes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{NumericFit, from_binary, from_text, push_text};
    use crate::format::cell::Numeric;

    fn binary(header: [i16; 4], groups: &[i16]) -> Vec<u8> {
        header.iter().chain(groups).flat_map(|half| half.to_be_bytes()).collect()
    }

    fn shown(numeric: &Numeric<'_>) -> String {
        let mut out = Vec::new();
        assert_eq!(push_text(&mut out, numeric), NumericFit::Yes);
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn the_binary_form_is_the_text() {
        for (header, groups, text) in [
            ([0, 0, 0, 0], &[][..], "0"),
            ([0, 0, 0, 3], &[], "0.000"),
            ([1, 0, 0x4000, 2], &[10], "-10.00"),
            ([2, 0, 0, 2], &[10, 5000], "10.50"),
            ([1, -1, 0, 3], &[70], "0.007"),
            ([1, 1, 0, 0], &[12], "120000"),
            ([3, 1, 0, 4], &[1, 2, 3], "10002.0003"),
            ([1, -2, 0, 8], &[1], "0.00000001"),
        ] {
            let (mut a, mut b) = (Vec::new(), b"97".to_vec());
            let from_binary = from_binary(&binary(header, groups), &mut a).expect(text);
            let from_text = from_text(text, &mut b).expect(text);
            assert_eq!(from_binary.get(&a), from_text.get(&b), "{text}");
            assert_eq!(shown(&from_binary.get(&a)), text);
        }
        for (sign, text) in [(0xc000u16, "NaN"), (0xd000, "Infinity"), (0xf000, "-Infinity")] {
            let field = binary([0, 0, sign.cast_signed(), 0], &[]);
            let number = from_binary(&field, &mut Vec::new()).expect(text);
            assert_eq!(number, from_text(text, &mut Vec::new()).expect(text));
            assert_eq!(shown(&number.get(&[])), text);
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for field in [
            vec![],
            vec![0; 7],
            binary([1, 0, 0, 0], &[]),
            binary([0, 0, 0, 0], &[1]),
            binary([1, 0, 0, 0], &[10000]),
            binary([1, 0, 0, 0], &[-1]),
            binary([0, 0, 1, 0], &[]),
        ] {
            assert!(from_binary(&field, &mut Vec::new()).is_err(), "{field:?}");
        }
        for text in ["", "-", ".", "1e5", "+1", "1.2.3", " 1", "nan"] {
            assert!(from_text(text, &mut Vec::new()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn what_no_server_holds_is_not_written_out() {
        let number = |scale, exponent| Numeric::Finite { negative: false, scale, exponent, digits: b"12" };
        for number in [number(0, i32::MAX), number(0, i32::MIN), number(16_384, 0), number(0, 131_071)] {
            assert_eq!(push_text(&mut Vec::new(), &number), NumericFit::TooLarge);
        }
        assert_eq!(shown(&number(0, 131_070)).len(), 131_072);
    }

    proptest! {
        #![proptest_config(crate::base::property::config())]

        #[test]
        fn text_is_read_back_as_written(text in "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,30})?") {
            let mut digits = Vec::new();
            let number = from_text(&text, &mut digits).expect("a number");
            let is_zero = !text.bytes().any(|byte| (b'1'..=b'9').contains(&byte));
            let expected = if is_zero { text.trim_start_matches('-') } else { &text };
            prop_assert_eq!(shown(&number.get(&digits)), expected);
        }

        #[test]
        fn no_field_panics(field: Vec<u8>) {
            let mut digits = Vec::new();
            if let Ok(number) = from_binary(&field, &mut digits) {
                let _ = push_text(&mut Vec::new(), &number.get(&digits));
            }
        }
    }
}
