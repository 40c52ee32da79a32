//! Keys and cells as text for people. This text is never parsed, and values in it may be cut short.

use data_encoding::HEXLOWER;
use serde_json::Value;

use crate::engine::files::plain_text;
use crate::format::cell::{Cell, Numeric};
use crate::format::key::component_len;
use crate::format::wire::Take;

/// The most characters that are shown of one value.
const CHARS_MAX: usize = 200;

/// A key or owner: its components, separated by commas. A key that was cut because it was too long shows what is left
/// of it and the beginning of its hash.
#[must_use]
pub fn key_text(key: &[u8]) -> String {
    let mut words = Vec::new();
    let mut rest = key;
    while let Some(len) = component_len(rest) {
        let (component, after) = rest.split_at(len);
        words.push(component_text(component));
        rest = after;
    }
    if !rest.is_empty() {
        words.push(cut_text(rest));
    }
    words.join(", ")
}

/// What is left of a component that was cut, followed by the beginning of the hash.
fn cut_text(rest: &[u8]) -> String {
    let (head, hash) = rest.split_at(rest.len().saturating_sub(32));
    let head = String::from_utf8_lossy(head.get(1..).unwrap_or_default());
    format!("{head}…{}", HEXLOWER.encode(&hash[..hash.len().min(4)]))
}

/// A whole component, by its tag (`docs/format.md` section 4).
fn component_text(component: &[u8]) -> String {
    let payload = &component[1..];
    match component[0] {
        0x02 => "null".to_owned(),
        0x08 => "false".to_owned(),
        0x09 => "true".to_owned(),
        0x10 => sortable(payload).to_string(),
        0x14 => words(&Cell::Real(sortable_real(payload))),
        0x18 => time_text(payload[0], sortable(&payload[1..])),
        0x20 => payload.first_chunk().map_or_else(String::new, |bytes| words(&Cell::Uuid(*bytes))),
        0x28 => String::from_utf8_lossy(&unescaped(payload)).into_owned(),
        0x30 => format!("x'{}'", HEXLOWER.encode(&unescaped(payload))),
        _ => canonical_text(&unescaped(payload)),
    }
}

fn words(cell: &Cell<'_>) -> String {
    plain_text(cell).unwrap_or_default()
}

/// The integer in bytes that sort like it.
fn sortable(bytes: &[u8]) -> i64 {
    let bytes = bytes.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    (bytes ^ 1 << 63) as i64
}

fn sortable_real(payload: &[u8]) -> f64 {
    let bits = sortable(payload) as u64;
    let is_positive = bits >> 63 == 0;
    f64::from_bits(if is_positive { bits } else { !bits ^ 1 << 63 })
}

fn time_text(kind: u8, value: i64) -> String {
    match kind {
        11 => words(&Cell::Timestamp(value)),
        12 => i32::try_from(value).map_or_else(|_| value.to_string(), |days| words(&Cell::Date(days))),
        _ => words(&Cell::Time(value)),
    }
}

fn canonical_text(canonical: &[u8]) -> String {
    match Cell::read(&mut Take::new(canonical)) {
        // Keys do not contain the scale. This one shows all digits.
        Ok(Cell::Numeric(Numeric::Finite { negative, exponent, digits, .. })) => {
            let scale = u16::try_from(-exponent.min(0)).unwrap_or(0);
            words(&Cell::Numeric(Numeric::Finite { negative, scale, exponent, digits }))
        }
        Ok(cell) => words(&cell),
        Err(_) => format!("x'{}'", HEXLOWER.encode(canonical)),
    }
}

/// The bytes of an escaped payload, without its end mark.
fn unescaped(payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(payload.len());
    let mut rest = payload.iter();
    while let Some(&byte) = rest.next() {
        if byte == 0 && rest.next() != Some(&0xff) {
            break;
        }
        bytes.push(byte);
    }
    bytes
}

/// A value for a report: numbers and booleans as they are, everything else as text.
#[must_use]
pub fn cell_value(cell: &Cell<'_>) -> Value {
    match *cell {
        Cell::Null | Cell::Absent => Value::Null,
        Cell::Lost => Value::from("(lost)"),
        Cell::Bool(value) => Value::Bool(value),
        Cell::Integer(value) => Value::from(value),
        Cell::Bytes(bytes) => Value::String(bytes_text(bytes)),
        Cell::Stream(_, stream) => Value::String(format!("{} bytes", stream.len)),
        _ => Value::String(shortened(words(cell))),
    }
}

fn bytes_text(bytes: &[u8]) -> String {
    match bytes.len() {
        0..=32 => format!("x'{}'", HEXLOWER.encode(bytes)),
        len => format!("{len} bytes"),
    }
}

fn shortened(text: String) -> String {
    match text.char_indices().nth(CHARS_MAX) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{cell_value, key_text};
    use crate::format::cell::{Cell, Numeric};
    use crate::format::key::{limit_key, push_component};

    fn text(cells: &[Cell<'_>]) -> String {
        let mut key = Vec::new();
        cells.iter().for_each(|cell| push_component(&mut key, cell));
        key_text(&key)
    }

    #[test]
    fn keys_are_shown_as_their_cells() {
        assert_eq!(text(&[Cell::Integer(-42), Cell::Text("a\0b,ü"), Cell::Null]), "-42, a\0b,ü, null");
        assert_eq!(text(&[Cell::Real(-1.5), Cell::Real(2.25), Cell::Bool(true)]), "-1.5, 2.25, true");
        assert_eq!(text(&[Cell::Bytes(&[0, 255])]), "x'00ff'");
        assert_eq!(text(&[Cell::Date(0), Cell::Timestamp(1)]), "2000-01-01, 2000-01-01T00:00:00.000001");
        assert_eq!(text(&[Cell::Uuid([0xab; 16])]), "abababab-abab-abab-abab-abababababab");
        assert_eq!(
            text(&[Cell::Numeric(Numeric::Finite { negative: false, scale: 2, exponent: -2, digits: b"150" })]),
            "1.5"
        );
        let mut long = Vec::new();
        push_component(&mut long, &Cell::Integer(7));
        push_component(&mut long, &Cell::Text(&"x".repeat(300)));
        limit_key(&mut long, |_| [0xcd; 32]);
        assert!(key_text(&long).starts_with("7, xxx") && key_text(&long).ends_with("x…cdcdcdcd"));
    }

    #[test]
    fn values_are_cut_short() {
        assert_eq!(cell_value(&Cell::Integer(3)), serde_json::json!(3));
        assert_eq!(cell_value(&Cell::Bytes(&[0; 40])), serde_json::json!("40 bytes"));
        assert_eq!(cell_value(&Cell::Text(&"ü".repeat(201))).as_str().map(|text| text.chars().count()), Some(201));
    }

    proptest! {
        #![proptest_config(crate::base::property::config())]

        #[test]
        fn no_key_panics(key: Vec<u8>, n: i64, real: f64) {
            let _ = key_text(&key);
            prop_assert_eq!(text(&[Cell::Integer(n)]), n.to_string());
            if real.is_finite() && real.fract() != 0.0 {
                prop_assert_eq!(text(&[Cell::Real(real)]), format!("{real:?}"));
            }
        }
    }
}
