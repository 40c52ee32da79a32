//! Keys (`docs/format.md` section 4): the equality-normalised form of key columns. Encoded components sort bytewise
//! like the values of one kind and are self-delimiting, so keys can be concatenated and compared as bytes. The exact
//! value stays in the cell: nothing is decoded from a key.

use crate::base::limit::{KEY_BYTES_MAX, KEY_PREFIX_BYTES};
use crate::format::cell::{Cell, Encoding, Numeric};
use crate::format::wire::WireError;

/// How a text column compares text for equality.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fold {
    /// By its bytes.
    #[default]
    Exact,
    /// Ignoring the case of ASCII letters (SQLite NOCASE).
    AsciiCase,
    /// Ignoring trailing spaces (SQLite RTRIM).
    TrailingSpace,
}

const NULL: u8 = 0x02;
const FALSE: u8 = 0x08;
const TRUE: u8 = 0x09;
const INTEGER: u8 = 0x10;
const REAL: u8 = 0x14;
const TEMPORAL: u8 = 0x18;
const UUID: u8 = 0x20;
const TEXT: u8 = 0x28;
const BYTES: u8 = 0x30;
const OTHER: u8 = 0x40;

const KIND_TIMESTAMP: u8 = 11;
const KIND_DATE: u8 = 12;
const KIND_TIME: u8 = 13;

const NAN_BITS: u64 = 0x7ff8_0000_0000_0000;
const SIGN_BIT: u64 = 1 << 63;
/// Two to the power of 63, the first real above every i64.
const I64_END: f64 = 9_223_372_036_854_775_808.0;

/// Appends the component of `cell`.
pub fn push_component(out: &mut Vec<u8>, cell: &Cell<'_>) {
    match *cell {
        Cell::Null => out.push(NULL),
        Cell::Bool(value) => out.push(if value { TRUE } else { FALSE }),
        Cell::Integer(value) => push_integer(out, value),
        Cell::Real(value) => push_real(out, value),
        Cell::Real32(value) => push_real(out, f64::from(value)),
        Cell::Numeric(numeric) => push_numeric(out, &numeric),
        Cell::Timestamp(value) => push_temporal(out, KIND_TIMESTAMP, value),
        Cell::Date(value) => push_temporal(out, KIND_DATE, i64::from(value)),
        Cell::Time(value) => push_temporal(out, KIND_TIME, value),
        Cell::Uuid(bytes) => push_uuid(out, bytes),
        Cell::Text(text) => push_escaped(out, TEXT, text.as_bytes()),
        Cell::Encoded(_, bytes) => push_escaped(out, TEXT, bytes),
        Cell::Bytes(bytes) => push_escaped(out, BYTES, bytes),
        Cell::Absent
        | Cell::TimeZoned(..)
        | Cell::Interval { .. }
        | Cell::Output(_)
        | Cell::Lost
        | Cell::Stream(..) => push_other(out, cell),
    }
}

/// Appends the component of `cell` under the database's equality for `fold`, for joins with rows that refer to it.
/// Never stored.
pub fn push_folded(out: &mut Vec<u8>, cell: &Cell<'_>, fold: Fold) {
    let Some(text) = foldable_text(cell) else {
        return push_component(out, cell);
    };
    match fold {
        Fold::Exact => push_escaped(out, TEXT, text),
        Fold::AsciiCase => push_lowercase(out, text),
        Fold::TrailingSpace => push_escaped(out, TEXT, without_trailing(text, b' ')),
    }
}

/// Text in an encoding in which an ASCII byte always is that ASCII character.
pub(super) fn foldable_text<'a>(cell: &Cell<'a>) -> Option<&'a [u8]> {
    match *cell {
        Cell::Text(text) => Some(text.as_bytes()),
        Cell::Encoded(Encoding::Utf8Invalid | Encoding::Latin1 | Encoding::SqlAscii, bytes) => Some(bytes),
        _ => None,
    }
}

fn push_lowercase(out: &mut Vec<u8>, text: &[u8]) {
    let start = out.len();
    push_escaped(out, TEXT, text);
    out[start + 1..].make_ascii_lowercase();
}

pub(super) fn without_trailing(bytes: &[u8], trailing: u8) -> &[u8] {
    let len = bytes.iter().rposition(|&byte| byte != trailing).map_or(0, |last| last + 1);
    &bytes[..len]
}

fn push_integer(out: &mut Vec<u8>, value: i64) {
    out.push(INTEGER);
    out.extend_from_slice(&(value as u64 ^ SIGN_BIT).to_be_bytes());
}

fn push_uuid(out: &mut Vec<u8>, bytes: [u8; 16]) {
    out.push(UUID);
    out.extend_from_slice(&bytes);
}

fn push_temporal(out: &mut Vec<u8>, kind: u8, value: i64) {
    out.extend_from_slice(&[TEMPORAL, kind]);
    out.extend_from_slice(&(value as u64 ^ SIGN_BIT).to_be_bytes());
}

fn push_real(out: &mut Vec<u8>, value: f64) {
    if value.trunc() == value && (-I64_END..I64_END).contains(&value) {
        return push_integer(out, value as i64);
    }
    out.push(REAL);
    out.extend_from_slice(&ordered_bits(value).to_be_bytes());
}

/// Bits that sort like the numbers. NaN sorts last.
fn ordered_bits(value: f64) -> u64 {
    let bits = if value.is_nan() { NAN_BITS } else { value.to_bits() };
    if bits & SIGN_BIT == 0 { bits | SIGN_BIT } else { !bits }
}

/// Equal numbers have the same form: display scale and trailing zeros are dropped.
fn push_numeric(out: &mut Vec<u8>, numeric: &Numeric<'_>) {
    let Numeric::Finite { negative, exponent, digits, .. } = *numeric else {
        return push_other(out, &Cell::Numeric(*numeric));
    };
    let kept = without_trailing(digits, b'0');
    let exponent = i64::from(exponent) + (digits.len() - kept.len()) as i64;
    match integer_of(negative, kept, exponent) {
        Some(value) => push_integer(out, value),
        None => push_decimal(out, negative, kept, exponent),
    }
}

fn push_decimal(out: &mut Vec<u8>, negative: bool, digits: &[u8], exponent: i64) {
    let exponent = i32::try_from(exponent).unwrap_or(i32::MAX);
    push_other(out, &Cell::Numeric(Numeric::Finite { negative, scale: 0, exponent, digits }));
}

/// `digits` times ten to the power of `exponent`, if that is an i64. `digits` must not end in a zero.
fn integer_of(negative: bool, digits: &[u8], exponent: i64) -> Option<i64> {
    if digits.is_empty() {
        return Some(0);
    }
    let value = magnitude(digits, u32::try_from(exponent).ok()?)?;
    i64::try_from(if negative { -value } else { value }).ok()
}

/// `digits` followed by this many zeros, if that is at most 19 digits, as an i64 has.
fn magnitude(digits: &[u8], zeros: u32) -> Option<i128> {
    if digits.len() + zeros as usize > 19 {
        return None;
    }
    Some(decimal(digits)? * 10i128.pow(zeros))
}

/// The value of at most 19 ASCII digits.
fn decimal(digits: &[u8]) -> Option<i128> {
    let mut value = 0;
    for &digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value * 10 + i128::from(digit - b'0');
    }
    Some(value)
}

fn push_other(out: &mut Vec<u8>, cell: &Cell<'_>) {
    let mut canonical = Vec::new();
    cell.write(&mut canonical);
    out.push(OTHER);
    push_escaped(out, canonical[0], &canonical[1..]);
}

/// Escapes a zero byte as `00 ff` and ends with `00 01`, so that a prefix sorts first.
fn push_escaped(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    let mut rest = bytes;
    while let Some(zero) = rest.iter().position(|&byte| byte == 0) {
        out.extend_from_slice(&rest[..=zero]);
        out.push(0xff);
        rest = &rest[zero + 1..];
    }
    out.extend_from_slice(rest);
    out.extend_from_slice(&[0, 1]);
}

/// Length of the first component of `key`. `None` if it does not begin with a complete one. A key that was shortened by
/// [`limit_key`] cannot be split into components.
#[must_use]
pub fn component_len(key: &[u8]) -> Option<usize> {
    let len = match *key.first()? {
        NULL | FALSE | TRUE => 1,
        INTEGER | REAL => 9,
        TEMPORAL => 10,
        UUID => 17,
        TEXT | BYTES => 1 + escaped_len(&key[1..])?,
        OTHER => 2 + escaped_len(key.get(2..)?)?,
        _ => return None,
    };
    (len <= key.len()).then_some(len)
}

fn escaped_len(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let zero = bytes.get(at..)?.iter().position(|&byte| byte == 0)?;
        at += zero + 2;
        match *bytes.get(at - 1)? {
            0x01 => return Some(at),
            0xff => {}
            _ => return None,
        }
    }
}

/// Replaces a key of more than [`KEY_BYTES_MAX`] bytes by its first bytes and a hash of the whole key.
pub fn limit_key(key: &mut Vec<u8>, row_hash: impl FnOnce(&[u8]) -> [u8; 32]) {
    limit_key_after(key, 0, row_hash);
}

/// The same for the key that follows the first `start` bytes.
pub fn limit_key_after(bytes: &mut Vec<u8>, start: usize, row_hash: impl FnOnce(&[u8]) -> [u8; 32]) {
    if bytes.len() > start + KEY_BYTES_MAX {
        let hash = row_hash(&bytes[start..]);
        bytes.truncate(start + KEY_PREFIX_BYTES);
        bytes.extend_from_slice(&hash);
    }
}

/// Whether a row has an owner. First byte of every placement key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Class {
    /// The owner part is the kind of the owner and the key of its row.
    Owned = 0x10,
    /// No path leads to an owner. The owner part is empty.
    None = 0x20,
    /// A path leads to a row that does not exist. The owner part is a kind and the value that refers to that row.
    Orphan = 0x30,
}

impl Class {
    /// The class with this byte.
    /// Fails if this version does not know the byte.
    pub fn from_byte(byte: u8) -> Result<Self, WireError> {
        match byte {
            0x10 => Ok(Self::Owned),
            0x20 => Ok(Self::None),
            0x30 => Ok(Self::Orphan),
            other => Err(WireError::unsupported("placement class", other)),
        }
    }
}

/// The kind of an orphan's owner if nobody can tell what kind of owner the missing row has.
pub const KIND_UNKNOWN: u8 = 0;

/// The parts of a placement key. Except in class `None`, the owner begins with its kind.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct PlacementKey<'a> {
    pub class: Class,
    pub owner: &'a [u8],
    pub key: &'a [u8],
}

impl<'a> PlacementKey<'a> {
    /// Appends class, owner and key.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.reserve(1 + self.owner.len() + self.key.len());
        out.push(self.class as u8);
        out.extend_from_slice(self.owner);
        out.extend_from_slice(self.key);
    }

    /// Splits `bytes`. The caller passes the length of the owner, because a placement key does not store it.
    /// Fails if there are too few bytes, or if the class is unknown.
    pub fn split(bytes: &'a [u8], owner_bytes: usize) -> Result<Self, WireError> {
        const TRUNCATED: WireError = WireError::Truncated { what: "placement key" };
        let (&class, rest) = bytes.split_first().ok_or(TRUNCATED)?;
        let (owner, key) = rest.split_at_checked(owner_bytes).ok_or(TRUNCATED)?;
        Ok(Self { class: Class::from_byte(class)?, owner, key })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Class, Fold, PlacementKey, component_len, limit_key, push_component, push_folded};
    use crate::base::id::ChunkId;
    use crate::format::cell::{Cell, Encoding, Numeric, StreamForm, StreamKind, StreamRef};

    fn key(cell: &Cell<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        push_component(&mut out, cell);
        out
    }

    fn folded(cell: &Cell<'_>, fold: Fold) -> Vec<u8> {
        let mut out = Vec::new();
        push_folded(&mut out, cell, fold);
        out
    }

    fn numeric(negative: bool, exponent: i32, digits: &[u8]) -> Vec<u8> {
        key(&Cell::Numeric(Numeric::Finite { negative, scale: 7, exponent, digits }))
    }

    /// Bytes with many zeros and repeats, so that escapes and prefixes occur.
    fn tricky_bytes() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop_oneof![Just(0u8), Just(1), Just(0xfe), Just(0xff), any::<u8>()], 0..8)
    }

    proptest! {
        #![proptest_config(crate::base::property::config())]

        #[test]
        fn integers_keep_their_order(a: i64, b: i64) {
            prop_assert_eq!(key(&Cell::Integer(a)).cmp(&key(&Cell::Integer(b))), a.cmp(&b));
            prop_assert_eq!(key(&Cell::Timestamp(a)).cmp(&key(&Cell::Timestamp(b))), a.cmp(&b));
        }

        #[test]
        fn fractions_keep_their_order(a in -1e15f64..1e15, b in -1.0f64..1.0) {
            let a = a.trunc() + 0.25;
            let b = b.trunc() + b.fract().abs().clamp(0.001, 0.999);
            let order = a.partial_cmp(&b).expect("no NaN");
            prop_assert_eq!(key(&Cell::Real(a)).cmp(&key(&Cell::Real(b))), order);
        }

        #[test]
        fn bytes_text_and_uuid_keep_their_order(a in tricky_bytes(), b in tricky_bytes(), c: [u8; 16], d: [u8; 16], s: String, t: String) {
            prop_assert_eq!(key(&Cell::Bytes(&a)).cmp(&key(&Cell::Bytes(&b))), a.cmp(&b));
            prop_assert_eq!(key(&Cell::Text(&s)).cmp(&key(&Cell::Text(&t))), s.cmp(&t));
            prop_assert_eq!(key(&Cell::Uuid(c)).cmp(&key(&Cell::Uuid(d))), c.cmp(&d));
        }

        #[test]
        fn composite_keys_keep_their_order(a in tricky_bytes(), b in tricky_bytes(), m: i8, n: i8) {
            let join = |bytes: &[u8], n: i8| [key(&Cell::Bytes(bytes)), key(&Cell::Integer(n.into()))].concat();
            prop_assert_eq!(join(&a, m).cmp(&join(&b, n)), (&a, m).cmp(&(&b, n)));
        }

        #[test]
        fn component_len_finds_the_end_of_a_component(bytes in tricky_bytes(), n: i64, real: f64, rest: Vec<u8>) {
            for cell in [Cell::Bytes(&bytes), Cell::Output(&bytes), Cell::Integer(n), Cell::Real(real), Cell::Date(7)] {
                let component = key(&cell);
                let joined = [&component[..], &rest].concat();
                prop_assert_eq!(component_len(&joined), Some(component.len()));
            }
        }

        #[test]
        fn component_len_of_arbitrary_bytes_does_not_panic(bytes: Vec<u8>) {
            let _ = component_len(&bytes);
        }

        #[test]
        fn equal_integers_of_all_numeric_kinds_have_the_same_key(n: i64, zeros in 0usize..5) {
            let whole = (n >> 11) as f64;
            prop_assert_eq!(key(&Cell::Real(whole)), key(&Cell::Integer(n >> 11)));
            let digits = format!("{}{}", n.unsigned_abs(), "0".repeat(zeros));
            let digits = digits.trim_start_matches('0').as_bytes();
            prop_assert_eq!(numeric(n < 0, -(zeros as i32), digits), key(&Cell::Integer(n)));
        }
    }

    #[test]
    fn numbers_are_keyed_as_integers_only_if_they_fit_an_i64() {
        assert_eq!(key(&Cell::Real(-0.0)), key(&Cell::Integer(0)));
        assert_eq!(key(&Cell::Real32(3.0)), key(&Cell::Integer(3)));
        assert_eq!(key(&Cell::Real32(0.5)), key(&Cell::Real(0.5)));
        assert_eq!(key(&Cell::Real(-9_223_372_036_854_775_808.0)), key(&Cell::Integer(i64::MIN)));
        assert_eq!(key(&Cell::Real(9_223_372_036_854_775_808.0))[0], super::REAL);
        assert_eq!(numeric(false, 0, b"9223372036854775807"), key(&Cell::Integer(i64::MAX)));
        assert_eq!(numeric(true, 0, b"9223372036854775808"), key(&Cell::Integer(i64::MIN)));
        assert_eq!(numeric(false, 0, b"9223372036854775808")[0], super::OTHER);
        assert_eq!(numeric(true, i32::MIN, b""), key(&Cell::Integer(0)));
        assert_eq!(numeric(false, i32::MAX, b"10")[0], super::OTHER);
    }

    #[test]
    fn reals_keep_their_order_and_nans_are_equal() {
        let order = [f64::NEG_INFINITY, -1e300, -1.5, -f64::MIN_POSITIVE, 1e-300, 0.5, 1e300, f64::INFINITY, f64::NAN];
        assert!(order.map(|real| key(&Cell::Real(real))).is_sorted());
        assert_eq!(key(&Cell::Real(f64::from_bits(0xfff8_0000_0000_0001))), key(&Cell::Real(f64::NAN)));
        assert_eq!(key(&Cell::Real32(f32::NAN)), key(&Cell::Real(f64::NAN)));
    }

    #[test]
    fn equal_numerics_have_the_same_key() {
        assert_eq!(numeric(false, -2, b"150"), numeric(false, -1, b"15"));
        assert_ne!(numeric(false, -1, b"15"), numeric(true, -1, b"15"));
        assert_eq!(numeric(false, 0, b"100000000000000000000"), numeric(false, 20, b"1"));
    }

    #[test]
    fn different_kinds_have_different_keys() {
        let stream = StreamRef { form: StreamForm::Piece, id: ChunkId::new([0; 20]), len: 1 << 20 };
        let cells = [
            Cell::Null,
            Cell::Absent,
            Cell::Lost,
            Cell::Bool(false),
            Cell::Bool(true),
            Cell::Integer(1),
            Cell::Real(1.5),
            Cell::Timestamp(1),
            Cell::Date(1),
            Cell::Time(1),
            Cell::TimeZoned(1, 0),
            Cell::Interval { months: 0, days: 0, microseconds: 1 },
            Cell::Uuid([0; 16]),
            Cell::Text("1"),
            Cell::Bytes(b"1"),
            Cell::Output(b"1"),
            Cell::Numeric(Numeric::NaN),
            Cell::Stream(StreamKind::Text, stream),
        ];
        let mut keys: Vec<Vec<u8>> = cells.iter().map(key).collect();
        assert!(keys.iter().all(|key| component_len(key) == Some(key.len())));
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), cells.len());
    }

    #[test]
    fn the_encoding_is_pinned() {
        assert_eq!(key(&Cell::Integer(-2)), [0x10, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe]);
        assert_eq!(key(&Cell::Real(-0.5)), [0x14, 0x40, 0x1f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(key(&Cell::Text("a\0b")), [0x28, b'a', 0, 0xff, b'b', 0, 1]);
        assert_eq!(key(&Cell::Date(1)), [0x18, 12, 0x80, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(key(&Cell::Output(b"x")), [0x40, 17, 1, b'x', 0, 1]);
        assert_eq!(numeric(true, -2, b"1050"), [0x40, 10, 1, 0, 0xff, 1, 3, b'1', b'0', b'5', 0, 1]);
        for (cell, kind) in [(Cell::Timestamp(0), 11), (Cell::Date(0), 12), (Cell::Time(0), 13)] {
            let mut canonical = Vec::new();
            cell.write(&mut canonical);
            assert_eq!((canonical[0], key(&cell)[1]), (kind, kind));
        }
    }

    #[test]
    fn folds_apply_only_to_text() {
        let lower = folded(&Cell::Text("straße x"), Fold::Exact);
        assert_eq!(folded(&Cell::Text("StRaße X"), Fold::AsciiCase), lower);
        assert_eq!(folded(&Cell::Text("straße x  "), Fold::TrailingSpace), lower);
        assert_eq!(folded(&Cell::Text("  "), Fold::TrailingSpace), key(&Cell::Text("")));
        assert_eq!(folded(&Cell::Encoded(Encoding::SqlAscii, b"A"), Fold::AsciiCase), key(&Cell::Text("a")));
        let wide = Cell::Encoded(Encoding::Utf16Le, &[0x00, 0x41]);
        assert_eq!(folded(&wide, Fold::AsciiCase), key(&wide));
        assert_eq!(folded(&Cell::Bytes(b"A "), Fold::AsciiCase), key(&Cell::Bytes(b"A ")));
    }

    #[test]
    fn long_keys_keep_a_prefix_and_a_hash() {
        let mut at_limit = vec![7; 256];
        limit_key(&mut at_limit, |_| [1; 32]);
        assert_eq!(at_limit, [7; 256]);
        let mut long = vec![7; 257];
        limit_key(&mut long, |whole| [u8::try_from(whole.len() - 250).expect("small"); 32]);
        assert_eq!(long, [vec![7; 200], vec![7; 32]].concat());
        let mut other = vec![7; 258];
        limit_key(&mut other, |whole| *blake3::hash(whole).as_bytes());
        assert_eq!(other.len(), 232);
    }

    #[test]
    fn placement_keys_round_trip() {
        let parts = PlacementKey { class: Class::Orphan, owner: b"owner", key: b"key" };
        let mut bytes = Vec::new();
        parts.write(&mut bytes);
        assert_eq!(bytes, b"\x30ownerkey");
        assert_eq!(PlacementKey::split(&bytes, 5), Ok(parts));
        assert!(PlacementKey::split(&bytes, 9).is_err());
        assert!(PlacementKey::split(b"\x11", 0).is_err());
        assert!(PlacementKey::split(b"", 0).is_err());
    }
}
