//! How a value is converted before it is compared with a value of a typed column, as SQLite's type affinities do
//! (<https://www.sqlite.org/datatype3.html>). Conversions decide what a path leads to (`docs/format.md` section 9).

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::format::cell::Cell;
use crate::format::key::{Fold, foldable_text, push_folded};

/// The conversion of a value that is compared with the value of a typed column.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Affinity {
    /// The value is compared as it is.
    #[default]
    None,
    /// Text that is a number becomes that number. INTEGER, NUMERIC and REAL columns convert alike.
    Numeric,
    /// A number becomes text.
    Text,
}

impl Affinity {
    /// Appends the component of the converted value.
    pub(super) fn push(self, out: &mut Vec<u8>, cell: &Cell<'_>, fold: Fold) {
        match self {
            Self::None => push_folded(out, cell, fold),
            Self::Numeric => push_folded(out, &number_of(cell).unwrap_or(*cell), fold),
            Self::Text => match text_of(cell) {
                Some(text) => push_folded(out, &Cell::Text(&text), fold),
                None => push_folded(out, cell, fold),
            },
        }
    }
}

/// The number in a text: an integer if it is written as one and fits, otherwise the nearest real.
fn number_of(cell: &Cell<'_>) -> Option<Cell<'static>> {
    let text = std::str::from_utf8(before_nul(foldable_text(cell)?)).ok()?;
    let number = numeric_text(text)?;
    if let Ok(value) = number.parse() {
        return Some(Cell::Integer(value));
    }
    number.parse().ok().map(Cell::Real)
}

fn before_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// A number as text.
fn text_of(cell: &Cell<'_>) -> Option<String> {
    match *cell {
        Cell::Integer(value) => Some(value.to_string()),
        Cell::Real(value) => real_text(value),
        Cell::Real32(value) => real_text(f64::from(value)),
        _ => None,
    }
}

/// A real in the form that SQLite writes. None for NaN.
fn real_text(value: f64) -> Option<String> {
    if value.is_nan() {
        return None;
    }
    if value.is_infinite() {
        return Some(if value > 0.0 { "Inf" } else { "-Inf" }.to_owned());
    }
    if value == 0.0 {
        return Some("0.0".to_owned());
    }
    let sign = if value < 0.0 { "-" } else { "" };
    let scientific = real_digits(value.abs());
    let (mantissa, exponent) = scientific.split_once('e')?;
    let digits = mantissa.replace('.', "");
    Some(format!("{sign}{}", plain_or_scientific(digits.trim_end_matches('0'), exponent.parse().ok()?)))
}

/// The digits that SQLite shows of a positive real, in scientific form. It shows 17. Only if they look rounded (000 or 99
/// at the end), it shows the fewest that read back as the same number (`sqlite3FpDecode`).
fn real_digits(value: f64) -> String {
    let longest = format!("{value:.17e}");
    let looks_rounded = longest.get(14..17).is_some_and(|end| end == "000") || longest.get(15..17) == Some("99");
    if looks_rounded { format!("{value:e}") } else { format!("{value:.16e}") }
}

/// Decimal digits with the point after the first one, times ten to the power of `exponent`.
fn plain_or_scientific(digits: &str, exponent: i32) -> String {
    match exponent {
        0..=16 => with_point(digits, exponent as usize + 1),
        -4..0 => format!("0.{}{digits}", "0".repeat((-exponent - 1) as usize)),
        _ => {
            let mut text = with_point(digits, 1);
            let sign = if exponent < 0 { '-' } else { '+' };
            let _ = write!(text, "e{sign}{:02}", exponent.abs());
            text
        }
    }
}

/// `digits` with a point after the first `whole` of them, and at least one digit after it.
fn with_point(digits: &str, whole: usize) -> String {
    let (before, after) = digits.split_at(whole.min(digits.len()));
    let zeros = "0".repeat(whole - before.len());
    format!("{before}{zeros}.{}", if after.is_empty() { "0" } else { after })
}

/// The decimal number that a text is, without the blanks around it.
#[must_use]
pub fn numeric_text(text: &str) -> Option<&str> {
    let number = text.trim_matches(is_blank);
    let unsigned = without_sign(number);
    let is_number = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => is_mantissa(mantissa) && is_exponent(exponent),
        None => is_mantissa(unsigned),
    };
    is_number.then_some(number)
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\u{b}' | '\u{c}' | '\r')
}

fn without_sign(text: &str) -> &str {
    text.strip_prefix(['+', '-']).unwrap_or(text)
}

fn is_mantissa(text: &str) -> bool {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    is_digits(whole) && is_digits(fraction) && whole.len() + fraction.len() > 0
}

fn is_exponent(text: &str) -> bool {
    let digits = without_sign(text);
    !digits.is_empty() && is_digits(digits)
}

fn is_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rusqlite::Connection;
    use rusqlite::types::{ToSqlOutput, ValueRef};

    use super::Affinity;
    use crate::format::cell::{Cell, Encoding};
    use crate::format::key::{Fold, push_component};

    fn converted(affinity: Affinity, cell: &Cell<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        affinity.push(&mut out, cell, Fold::Exact);
        out
    }

    fn component(cell: &Cell<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        push_component(&mut out, cell);
        out
    }

    #[test]
    fn numeric_text_becomes_a_number() {
        let is = |text: &str, cell: Cell<'_>| {
            assert_eq!(converted(Affinity::Numeric, &Cell::Text(text)), component(&cell), "{text:?}");
        };
        for seven in ["7", "07", " 7 ", "+7", "7.0", "70e-1", "7\0x"] {
            is(seven, Cell::Integer(7));
        }
        is("-0", Cell::Integer(0));
        is("7.5", Cell::Real(7.5));
        is("9007199254740993", Cell::Integer(9_007_199_254_740_993));
        is("9007199254740993.0", Cell::Integer(9_007_199_254_740_992));
        is("9223372036854775807", Cell::Integer(i64::MAX));
        is("9223372036854775808", Cell::Real(9_223_372_036_854_775_808.0));
        for text in ["", " ", "7x", "0x7", "1e", ".", "--7", "Inf", "\u{a0}7"] {
            is(text, Cell::Text(text));
        }
        let bytes = Cell::Encoded(Encoding::Utf8Invalid, b"7\xff");
        assert_eq!(converted(Affinity::Numeric, &bytes), component(&bytes));
        assert_eq!(converted(Affinity::Numeric, &Cell::Encoded(Encoding::Latin1, b"07")), component(&Cell::Integer(7)));
        for cell in [Cell::Bytes(b"7"), Cell::Null, Cell::Encoded(Encoding::Utf16Le, b"7\0"), Cell::Integer(7)] {
            assert_eq!(converted(Affinity::Numeric, &cell), component(&cell));
        }
    }

    #[test]
    fn numbers_become_text() {
        let is =
            |cell: Cell<'_>, text: &str| assert_eq!(converted(Affinity::Text, &cell), component(&Cell::Text(text)));
        is(Cell::Integer(7), "7");
        is(Cell::Integer(i64::MIN), "-9223372036854775808");
        is(Cell::Real(7.0), "7.0");
        is(Cell::Real(-0.000_01), "-1.0e-05");
        is(Cell::Real(0.000_1), "0.0001");
        is(Cell::Real(1.5e300), "1.5e+300");
        is(Cell::Real32(0.5), "0.5");
        is(Cell::Text("07"), "07");
        assert_eq!(converted(Affinity::Text, &Cell::Bytes(b"7")), component(&Cell::Bytes(b"7")));
        assert_eq!(converted(Affinity::None, &Cell::Text("7")), component(&Cell::Text("7")));
    }

    /// A database whose only foreign key compares any value with a column of this type.
    fn keyed(parent_type: &str) -> Connection {
        let conn = Connection::open_in_memory().expect("a database");
        let sql = format!("CREATE TABLE p(x {parent_type} UNIQUE); CREATE TABLE c(x REFERENCES p(x))");
        conn.execute_batch(&sql).expect("tables");
        conn
    }

    /// Whether the foreign key holds for a child and the value that SQLite stores for a parent.
    fn agrees(conn: &Connection, affinity: Affinity, child: &Cell<'_>, parent: &Cell<'_>) {
        conn.execute_batch("PRAGMA foreign_keys = OFF; DELETE FROM c; DELETE FROM p").expect("empties");
        insert(conn, "c", child);
        let stored = insert(conn, "p", parent);
        let broken: i64 =
            conn.query_row("SELECT count(*) FROM pragma_foreign_key_check", [], |row| row.get(0)).expect("a check");
        let is_equal = converted(affinity, child) == stored;
        assert_eq!(is_equal, broken == 0, "{affinity:?}: {child:?} refers to {parent:?}");
    }

    fn insert(conn: &Connection, table: &str, cell: &Cell<'_>) -> Vec<u8> {
        let value = match *cell {
            Cell::Integer(value) => ValueRef::Integer(value),
            Cell::Real(value) => ValueRef::Real(value),
            Cell::Text(text) => ValueRef::Text(text.as_bytes()),
            Cell::Encoded(_, bytes) => ValueRef::Text(bytes),
            Cell::Bytes(bytes) => ValueRef::Blob(bytes),
            _ => ValueRef::Null,
        };
        let sql = format!("INSERT INTO {table} VALUES (?1) RETURNING x");
        let mut statement = conn.prepare_cached(&sql).expect("an insert");
        statement.raw_bind_parameter(1, ToSqlOutput::Borrowed(value)).expect("binds");
        let mut rows = statement.raw_query();
        let row = rows.next().expect("a row").expect("a row");
        component(&match row.get_ref(0).expect("a value") {
            ValueRef::Null => Cell::Null,
            ValueRef::Integer(value) => Cell::Integer(value),
            ValueRef::Real(value) => Cell::Real(value),
            ValueRef::Text(bytes) => {
                std::str::from_utf8(bytes).map_or(Cell::Encoded(Encoding::Utf8Invalid, bytes), Cell::Text)
            }
            ValueRef::Blob(bytes) => Cell::Bytes(bytes),
        })
    }

    const TYPES: [(&str, Affinity); 5] = [
        ("INTEGER", Affinity::Numeric),
        ("NUMERIC", Affinity::Numeric),
        ("REAL", Affinity::Numeric),
        ("TEXT", Affinity::Text),
        ("BLOB", Affinity::None),
    ];

    #[test]
    fn odd_values_are_equal_exactly_where_a_foreign_key_of_sqlite_holds() {
        let big = 9_007_199_254_740_993;
        let values = [
            Cell::Integer(7),
            Cell::Real(7.0),
            Cell::Real(7.5),
            Cell::Text("7"),
            Cell::Text("07"),
            Cell::Text("7.0"),
            Cell::Text(" 7 "),
            Cell::Text("7x"),
            Cell::Text(""),
            Cell::Bytes(b"7"),
            Cell::Bytes(b""),
            Cell::Encoded(Encoding::Utf8Invalid, b"7\xff"),
            Cell::Integer(big),
            Cell::Integer(big - 1),
            Cell::Real(9_007_199_254_740_992.0),
            Cell::Text("9007199254740993"),
            Cell::Text("9007199254740993.0"),
            Cell::Real(1e15),
            Cell::Real(1e16),
            Cell::Real(1e17),
            Cell::Text("1.0e+17"),
            Cell::Text("10000000000000000.0"),
            Cell::Text("1e17"),
            Cell::Integer(1_000_000_000_000_000),
            Cell::Real(-1.5e-7),
            Cell::Text("-1.5e-07"),
            Cell::Real(0.000_125),
            Cell::Real(-0.0),
            Cell::Real(f64::INFINITY),
            Cell::Text("Inf"),
            Cell::Integer(i64::MAX),
            Cell::Integer(i64::MIN),
            Cell::Text("9223372036854775808"),
            // Its shortest text has 16 digits, of which SQLite makes 17. It must be the last.
            Cell::Real(9_223_372_036_854_775_808.0),
        ];
        for (parent_type, affinity) in TYPES {
            let conn = keyed(parent_type);
            let compared = if affinity == Affinity::Text { &values[..values.len() - 1] } else { &values[..] };
            for child in compared {
                compared.iter().for_each(|parent| agrees(&conn, affinity, child, parent));
            }
        }
    }

    proptest! {
        #![proptest_config(crate::base::property::config())]

        #[test]
        fn values_are_equal_exactly_where_a_foreign_key_of_sqlite_holds(
            text in "[ 0-9.eE+-]{0,6}",
            quarters in -100_000_i32..100_000,
            exponent in -20_i32..20,
        ) {
            // Digits and exponent as text, because a product has more digits than SQLite and we write alike.
            let real: f64 = format!("{quarters}e{exponent}").parse().expect("a real");
            let values = [Cell::Text(&text), Cell::Real(real), Cell::Integer(i64::from(quarters))];
            for (parent_type, affinity) in TYPES {
                let conn = keyed(parent_type);
                for child in &values {
                    values.iter().for_each(|parent| agrees(&conn, affinity, child, parent));
                }
            }
        }
    }
}
