//! Decimal numbers: converts PostgreSQL's binary form and its text to and from the canonical cell, whose digits have no
//! leading or trailing zeros.

use std::ops::Range;

use crate::engine::postgres::value::value_kind::{FieldError, ValueKind};
use crate::format::cell::Numeric;

/// Most digits before and after the decimal point that a server can store.
const WHOLE_DIGITS_MAX: i64 = 131_072;
const SCALE_MAX: u16 = 16_383;
/// Decimal digits in one base-10000 digit of the server.
const GROUP: i64 = 4;
const HEADER_BYTES: usize = 8;

/// A number whose digits are in a separate buffer.
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

/// The fixed part of the binary form.
struct BinaryHeader {
    groups: u16,
    weight: i16,
    sign: u16,
    scale: u16,
}

const SIGN_POSITIVE: u16 = 0x0000;
const SIGN_NEGATIVE: u16 = 0x4000;
const SIGN_NAN: u16 = 0xc000;
const SIGN_INFINITY: u16 = 0xd000;
const SIGN_NEGATIVE_INFINITY: u16 = 0xf000;

impl BinaryHeader {
    fn read(bytes: &[u8]) -> Self {
        Self {
            groups: number_at(bytes, 0),
            weight: number_at(bytes, 2).cast_signed(),
            sign: number_at(bytes, 4),
            scale: number_at(bytes, 6),
        }
    }

    /// The decimal exponent of the last digit of the last group.
    fn exponent(&self) -> i64 {
        let groups_after_first = i64::from(self.groups) - 1;
        (i64::from(self.weight) - groups_after_first) * GROUP
    }

    fn push(&self, out: &mut Vec<u8>) {
        for number in [self.groups, self.weight.cast_unsigned(), self.sign, self.scale] {
            out.extend_from_slice(&number.to_be_bytes());
        }
    }
}

fn number_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// Reads the binary form, which `numeric_send` in PostgreSQL writes. Appends the digits to `buffer`.
/// Fails if the length does not match the header, the sign is unknown, or a base-10000 digit is above 9999.
pub(crate) fn from_binary(field: &[u8], buffer: &mut Vec<u8>) -> Result<Unpacked, FieldError> {
    let wrong_length = FieldError::Length { kind: ValueKind::Numeric, len: field.len() };
    let (header, groups) = field.split_at_checked(HEADER_BYTES).ok_or(wrong_length)?;
    let header = BinaryHeader::read(header);
    if groups.len() != 2 * usize::from(header.groups) {
        return Err(wrong_length);
    }
    match header.sign {
        SIGN_POSITIVE => from_groups(false, &header, groups, buffer),
        SIGN_NEGATIVE => from_groups(true, &header, groups, buffer),
        SIGN_NAN => Ok(Unpacked::NaN),
        SIGN_INFINITY => Ok(Unpacked::Infinity),
        SIGN_NEGATIVE_INFINITY => Ok(Unpacked::NegativeInfinity),
        _ => Err(invalid("unknown sign")),
    }
}

fn from_groups(
    negative: bool,
    header: &BinaryHeader,
    groups: &[u8],
    buffer: &mut Vec<u8>,
) -> Result<Unpacked, FieldError> {
    let start = buffer.len();
    for group in groups.chunks_exact(2) {
        push_group_digits(number_at(group, 0), buffer)?;
    }
    Ok(strip_zeros(negative, header.scale, header.exponent(), start, buffer))
}

fn push_group_digits(group: u16, buffer: &mut Vec<u8>) -> Result<(), FieldError> {
    if group > 9999 {
        return Err(invalid("a digit is out of range"));
    }
    let digit = |value: u16| b'0' + (value % 10) as u8;
    buffer.extend_from_slice(&[digit(group / 1000), digit(group / 100), digit(group / 10), digit(group)]);
    Ok(())
}

/// Reads the text of the output function. Appends the digits to `buffer`.
/// Fails if the text is not a decimal number, NaN or infinity, or has more than 65535 decimals.
pub(crate) fn from_text(text: &str, buffer: &mut Vec<u8>) -> Result<Unpacked, FieldError> {
    match text {
        "NaN" => Ok(Unpacked::NaN),
        "Infinity" => Ok(Unpacked::Infinity),
        "-Infinity" => Ok(Unpacked::NegativeInfinity),
        _ => from_finite_text(text, buffer),
    }
}

fn from_finite_text(text: &str, buffer: &mut Vec<u8>) -> Result<Unpacked, FieldError> {
    match text.strip_prefix('-') {
        Some(unsigned) => from_decimal_text(true, unsigned, buffer),
        None => from_decimal_text(false, text, buffer),
    }
}

fn from_decimal_text(negative: bool, unsigned: &str, buffer: &mut Vec<u8>) -> Result<Unpacked, FieldError> {
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    if whole.is_empty() || !is_digits(whole) || !is_digits(fraction) {
        return Err(invalid("not a decimal number"));
    }
    let scale = scale_of(fraction)?;
    let start = buffer.len();
    buffer.extend_from_slice(whole.as_bytes());
    buffer.extend_from_slice(fraction.as_bytes());
    Ok(strip_zeros(negative, scale, -i64::from(scale), start, buffer))
}

fn scale_of(fraction: &str) -> Result<u16, FieldError> {
    u16::try_from(fraction.len()).map_err(|_| invalid("too many decimals"))
}

fn is_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Drops the zeros at both ends of the digits in `buffer` from `start` on. `exponent` belongs to the last digit.
fn strip_zeros(negative: bool, scale: u16, exponent: i64, start: usize, buffer: &[u8]) -> Unpacked {
    let digits = &buffer[start..];
    let Some(significant) = significant_digits(digits) else {
        return Unpacked::Finite { negative: false, scale, exponent: 0, digits: start..start };
    };
    let exponent = exponent + (digits.len() - significant.end) as i64;
    let exponent = i32::try_from(exponent).expect("a number has at most a few hundred thousand digits");
    Unpacked::Finite { negative, scale, exponent, digits: start + significant.start..start + significant.end }
}

/// The range from the first to the last digit that is not zero. `None` if all are zero.
fn significant_digits(digits: &[u8]) -> Option<Range<usize>> {
    let is_significant = |digit: &u8| *digit != b'0';
    let first = digits.iter().position(is_significant)?;
    let last = digits.iter().rposition(is_significant)?;
    Some(first..last + 1)
}

/// Whether a number can be written for a server in the requested form.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NumericFit {
    Fits,
    TooLarge,
}

/// A finite number.
struct Decimal<'a> {
    negative: bool,
    scale: u16,
    /// Exponent of the last digit. 0 if there are no digits.
    exponent: i64,
    digits: &'a [u8],
}

impl<'a> Decimal<'a> {
    /// Returns `None` if the number is not finite.
    fn of(numeric: &Numeric<'a>) -> Option<Self> {
        let Numeric::Finite { negative, scale, exponent, digits } = *numeric else { return None };
        let negative = negative && !digits.is_empty();
        let exponent = if digits.is_empty() { 0 } else { i64::from(exponent) };
        Some(Self { negative, scale, exponent, digits })
    }

    /// Number of digits before the decimal point if the first digit is there, otherwise 0 or negative.
    fn whole_digits(&self) -> i64 {
        self.digits.len() as i64 + self.exponent
    }

    /// Number of digits after the decimal point.
    fn decimals(&self) -> i64 {
        i64::from(self.scale).max(-self.exponent)
    }

    fn fits_text(&self) -> bool {
        self.decimals() <= i64::from(SCALE_MAX) && self.whole_digits() <= WHOLE_DIGITS_MAX
    }

    /// A text may have more decimals than the scale, the binary form must not.
    fn fits_binary(&self) -> bool {
        self.fits_text() && self.decimals() == i64::from(self.scale)
    }

    /// The digits before and after the decimal point.
    fn split_at_point(&self) -> (&'a [u8], &'a [u8]) {
        let before = usize::try_from(self.whole_digits()).unwrap_or(0);
        self.digits.split_at(before.min(self.digits.len()))
    }

    fn push_text(&self, out: &mut Vec<u8>) {
        if self.negative {
            out.push(b'-');
        }
        self.push_whole(out);
        if self.decimals() > 0 {
            out.push(b'.');
            self.push_fraction(out);
        }
    }

    fn push_whole(&self, out: &mut Vec<u8>) {
        let (before, _) = self.split_at_point();
        out.extend_from_slice(before);
        if self.whole_digits() <= 0 {
            out.push(b'0');
        } else {
            push_zeros(out, self.whole_digits() - before.len() as i64);
        }
    }

    /// Number of zeros between the decimal point and the first digit.
    fn leading_zeros(&self) -> i64 {
        if self.digits.is_empty() { 0 } else { (-self.whole_digits()).max(0) }
    }

    fn push_fraction(&self, out: &mut Vec<u8>) {
        let (_, after) = self.split_at_point();
        let leading_zeros = self.leading_zeros();
        push_zeros(out, leading_zeros);
        out.extend_from_slice(after);
        push_zeros(out, self.decimals() - leading_zeros - after.len() as i64);
    }
}

fn push_zeros(out: &mut Vec<u8>, count: i64) {
    out.resize(out.len() + usize::try_from(count).unwrap_or(0), b'0');
}

/// Appends the text that a server reads as this number with this scale, if a server can store it.
#[must_use]
pub(crate) fn push_text(out: &mut Vec<u8>, numeric: &Numeric<'_>) -> NumericFit {
    match Decimal::of(numeric) {
        None => out.extend_from_slice(special_text(numeric).as_bytes()),
        Some(decimal) if decimal.fits_text() => decimal.push_text(out),
        Some(_) => return NumericFit::TooLarge,
    }
    NumericFit::Fits
}

fn special_text(numeric: &Numeric<'_>) -> &'static str {
    match numeric {
        Numeric::NaN => "NaN",
        Numeric::Infinity => "Infinity",
        Numeric::NegativeInfinity => "-Infinity",
        Numeric::Finite { .. } => unreachable!("a finite number has digits"),
    }
}

/// Appends the binary form, if it can represent all digits of the number.
#[must_use]
pub(crate) fn push_binary(out: &mut Vec<u8>, numeric: &Numeric<'_>) -> NumericFit {
    let Some(decimal) = Decimal::of(numeric) else {
        BinaryHeader { groups: 0, weight: 0, sign: special_sign(numeric), scale: 0 }.push(out);
        return NumericFit::Fits;
    };
    match DigitGroups::of(&decimal).filter(|_| decimal.fits_binary()) {
        Some(groups) => groups.push(&decimal, out),
        None => return NumericFit::TooLarge,
    }
    NumericFit::Fits
}

fn special_sign(numeric: &Numeric<'_>) -> u16 {
    match numeric {
        Numeric::NaN => SIGN_NAN,
        Numeric::Infinity => SIGN_INFINITY,
        Numeric::NegativeInfinity => SIGN_NEGATIVE_INFINITY,
        Numeric::Finite { .. } => unreachable!("a finite number has digits"),
    }
}

/// The digits of a number in groups of four, counted from the decimal point, as the server stores them.
struct DigitGroups<'a> {
    digits: &'a [u8],
    count: i16,
    /// Weight of the first group.
    weight: i16,
    /// Number of zeros that fill up the first group.
    leading_zeros: i64,
}

impl<'a> DigitGroups<'a> {
    /// Returns `None` if there are more digits than a server can store.
    fn of(decimal: &Decimal<'a>) -> Option<Self> {
        let trailing_zeros = decimal.exponent.rem_euclid(GROUP);
        let leading_zeros = (-decimal.whole_digits()).rem_euclid(GROUP);
        let count = (decimal.digits.len() as i64 + trailing_zeros + leading_zeros) / GROUP;
        let weight = if count == 0 { 0 } else { (decimal.whole_digits() + leading_zeros) / GROUP - 1 };
        Some(Self {
            digits: decimal.digits,
            count: i16::try_from(count).ok()?,
            weight: i16::try_from(weight).ok()?,
            leading_zeros,
        })
    }

    fn push(&self, decimal: &Decimal<'_>, out: &mut Vec<u8>) {
        let sign = if decimal.negative { SIGN_NEGATIVE } else { SIGN_POSITIVE };
        let groups = self.count.cast_unsigned();
        BinaryHeader { groups, weight: self.weight, sign, scale: decimal.scale }.push(out);
        for group in 0..self.count {
            out.extend_from_slice(&self.value(group).to_be_bytes());
        }
    }

    fn value(&self, group: i16) -> u16 {
        let first = i64::from(group) * GROUP - self.leading_zeros;
        (first..first + GROUP).fold(0, |value, at| value * 10 + self.digit(at))
    }

    /// The digit at this position. Positions before the first and after the last digit are 0.
    fn digit(&self, at: i64) -> u16 {
        let Ok(at) = usize::try_from(at) else { return 0 };
        self.digits.get(at).map_or(0, |digit| u16::from(digit - b'0'))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{NumericFit, from_binary, from_text, push_binary, push_text};
    use crate::format::cell::Numeric;

    fn binary(header: [i16; 4], groups: &[i16]) -> Vec<u8> {
        header.iter().chain(groups).flat_map(|half| half.to_be_bytes()).collect()
    }

    fn shown(numeric: &Numeric<'_>) -> String {
        let mut out = Vec::new();
        assert_eq!(push_text(&mut out, numeric), NumericFit::Fits);
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn the_binary_form_and_the_text_give_the_same_number() {
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
            let mut a = Vec::new();
            let mut b = b"97".to_vec();
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
    fn invalid_numbers_are_refused() {
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
    fn numbers_that_no_server_can_store_are_refused() {
        let number = |scale, exponent| Numeric::Finite { negative: false, scale, exponent, digits: b"12" };
        for number in [number(0, i32::MAX), number(0, i32::MIN), number(16_384, 0), number(0, 131_071)] {
            assert_eq!(push_text(&mut Vec::new(), &number), NumericFit::TooLarge);
        }
        assert_eq!(shown(&number(0, 131_070)).len(), 131_072);
    }

    proptest! {
        #![proptest_config(crate::base::property::config())]

        #[test]
        fn a_number_from_text_is_written_as_the_same_text(text in "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,30})?") {
            let mut digits = Vec::new();
            let number = from_text(&text, &mut digits).expect("a number");
            let is_zero = !text.bytes().any(|byte| (b'1'..=b'9').contains(&byte));
            let expected = if is_zero { text.trim_start_matches('-') } else { &text };
            prop_assert_eq!(shown(&number.get(&digits)), expected);
        }

        #[test]
        fn the_binary_form_is_read_back(text in "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,30})?|-?[1-9]0{0,40}|-?0\\.0{0,30}[1-9]") {
            let mut digits = Vec::new();
            let mut bytes = Vec::new();
            let mut again = Vec::new();
            let number = from_text(&text, &mut digits).expect("a number");
            prop_assert_eq!(push_binary(&mut bytes, &number.get(&digits)), NumericFit::Fits);
            let read = from_binary(&bytes, &mut again).expect("its own bytes");
            prop_assert_eq!(read.get(&again), number.get(&digits));
        }

        #[test]
        fn arbitrary_fields_do_not_panic(field: Vec<u8>) {
            let mut digits = Vec::new();
            if let Ok(number) = from_binary(&field, &mut digits) {
                let _ = push_text(&mut Vec::new(), &number.get(&digits));
            }
        }
    }
}
