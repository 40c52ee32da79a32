//! Values as text, the same in CSV and JSON lines, including values that neither format has (`docs/export.md`).
//! The text is exact: the cell can be reconstructed from it bit for bit.

use data_encoding::BASE64;

use crate::engine::row_name::uuid_text;
use crate::format::cell::{Cell, Encoding, Numeric};

/// How a value is written.
pub(super) enum ValueText<'a> {
    Null,
    Absent,
    Bool(bool),
    /// A number in JSON's grammar. Integers have no fraction or exponent; reals have one of them.
    Number(String),
    Text(&'a str),
    /// A kind, the value's text, and a detail if the text is not enough.
    Marked {
        kind: &'static str,
        text: String,
        detail: Option<Detail>,
    },
}

/// What a marked value needs in addition to its text.
pub(super) enum Detail {
    /// Name of the text's encoding.
    Encoding(&'static str),
    /// Seconds west of UTC.
    West(i32),
}

/// Largest exponent of a number that is written out in digits.
const NUMERIC_ZEROS_MAX: i32 = 200_000;
const DAY_US: i64 = 86_400_000_000;

impl<'a> ValueText<'a> {
    /// The text of a cell. Fails for a stream, whose bytes are not in the cell.
    pub(super) fn of(cell: &Cell<'a>) -> Result<Self, &'static str> {
        Ok(match *cell {
            Cell::Null => Self::Null,
            Cell::Absent => Self::Absent,
            Cell::Bool(value) => Self::Bool(value),
            Cell::Integer(value) => Self::Number(value.to_string()),
            Cell::Real(value) => real_text(value),
            Cell::Real32(value) => real32_text(value),
            Cell::Text(text) => Self::Text(text),
            Cell::Bytes(bytes) => marked("bytes", BASE64.encode(bytes)),
            Cell::Encoded(encoding, bytes) => encoded_text(encoding, bytes),
            Cell::Numeric(numeric) => marked("numeric", numeric_text(&numeric)),
            Cell::Timestamp(value) => marked("timestamp", timestamp_text(value)),
            Cell::Date(value) => marked("date", date_text(value)),
            Cell::Time(value) => marked("time", time_text(value)),
            Cell::TimeZoned(value, west) => time_zoned_text(value, west),
            Cell::Interval { months, days, microseconds } => {
                marked("interval", format!("{months} {days} {microseconds}"))
            }
            Cell::Uuid(bytes) => marked("uuid", uuid_text(&bytes)),
            Cell::Output(bytes) => output_text(bytes),
            Cell::Lost => marked("lost", String::new()),
            Cell::Stream(..) => return Err("one of its values is still a reference to a stream"),
        })
    }
}

/// The text of a cell without its kind, for people to read. `None` for null or absent values and for streams.
#[must_use]
pub fn plain_text(cell: &Cell<'_>) -> Option<String> {
    match ValueText::of(cell).ok()? {
        ValueText::Null | ValueText::Absent => None,
        ValueText::Bool(value) => Some(value.to_string()),
        ValueText::Number(number) => Some(number),
        ValueText::Text(text) => Some(text.to_owned()),
        ValueText::Marked { text, .. } => Some(text),
    }
}

fn marked<'a>(kind: &'static str, text: String) -> ValueText<'a> {
    ValueText::Marked { kind, text, detail: None }
}

fn encoded_text<'a>(encoding: Encoding, bytes: &[u8]) -> ValueText<'a> {
    let detail = Detail::Encoding(encoding_name(encoding));
    ValueText::Marked { kind: "encoded", text: BASE64.encode(bytes), detail: Some(detail) }
}

fn time_zoned_text<'a>(value: i64, west: i32) -> ValueText<'a> {
    ValueText::Marked { kind: "timetz", text: time_text(value), detail: Some(Detail::West(west)) }
}

fn real_text<'a>(value: f64) -> ValueText<'a> {
    match value.is_finite() {
        true => ValueText::Number(format!("{value:?}")),
        false => marked("real", format!("{:016x}", value.to_bits())),
    }
}

fn real32_text<'a>(value: f32) -> ValueText<'a> {
    match value.is_finite() {
        true => marked("real32", format!("{value:?}")),
        false => marked("real32", format!("{:08x}", value.to_bits())),
    }
}

fn output_text<'a>(bytes: &[u8]) -> ValueText<'a> {
    match std::str::from_utf8(bytes) {
        Ok(text) => marked("output", text.to_owned()),
        Err(_) => marked("output64", BASE64.encode(bytes)),
    }
}

fn encoding_name(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Utf8Invalid => "utf-8",
        Encoding::Utf16Le => "utf-16le",
        Encoding::Utf16Be => "utf-16be",
        Encoding::Latin1 => "latin1",
        Encoding::SqlAscii => "sql_ascii",
        Encoding::Server(encoding) => encoding.name(),
    }
}

/// The number as PostgreSQL writes it. Numbers with a huge exponent, or with more digits than their scale shows, are
/// written as `<digits>e<exponent> <scale>`.
fn numeric_text(numeric: &Numeric<'_>) -> String {
    match *numeric {
        Numeric::NaN => "NaN".to_owned(),
        Numeric::Infinity => "Infinity".to_owned(),
        Numeric::NegativeInfinity => "-Infinity".to_owned(),
        Numeric::Finite { negative, scale, exponent, digits } => {
            let sign = if negative { "-" } else { "" };
            format!("{sign}{}", finite_text(&String::from_utf8_lossy(digits), exponent, scale))
        }
    }
}

fn finite_text(digits: &str, exponent: i32, scale: u16) -> String {
    if exponent > NUMERIC_ZEROS_MAX || exponent < -i32::from(scale) {
        return format!("{digits}e{exponent} {scale}");
    }
    decimal(digits, exponent, scale)
}

/// `digits` times ten to the power of `exponent`, with `scale` digits after the decimal point.
fn decimal(digits: &str, exponent: i32, scale: u16) -> String {
    let zeros = if digits.is_empty() { 0 } else { zeros_behind(exponent, scale) };
    let scale = usize::from(scale);
    let all = format!("{digits}{}", "0".repeat(zeros));
    let all = format!("{all:0>width$}", width = scale + 1);
    let (whole, fraction) = all.split_at(all.len() - scale);
    let point = if scale > 0 { "." } else { "" };
    format!("{whole}{point}{fraction}")
}

fn zeros_behind(exponent: i32, scale: u16) -> usize {
    let zeros = exponent.saturating_add(i32::from(scale));
    usize::try_from(zeros).unwrap_or(0)
}

fn timestamp_text(value: i64) -> String {
    match value {
        i64::MAX => "infinity".to_owned(),
        i64::MIN => "-infinity".to_owned(),
        _ => finite_timestamp_text(value),
    }
}

fn finite_timestamp_text(value: i64) -> String {
    match day_text(value.div_euclid(DAY_US)) {
        Some(day) => format!("{day}T{}", time_text(value.rem_euclid(DAY_US))),
        None => format!("{value} us"),
    }
}

/// The date that is `days` days after 2000-01-01, if it is in the years 1 to 9999.
fn day_text(days: i64) -> Option<String> {
    let span = jiff::Span::new().try_days(days).ok()?;
    let day = jiff::civil::date(2000, 1, 1).checked_add(span).ok()?;
    (day.year() > 0).then(|| day.to_string())
}

fn date_text(value: i32) -> String {
    match value {
        i32::MAX => "infinity".to_owned(),
        i32::MIN => "-infinity".to_owned(),
        _ => day_text(i64::from(value)).unwrap_or_else(|| format!("{value} days")),
    }
}

fn time_text(value: i64) -> String {
    if !(0..=DAY_US).contains(&value) {
        return format!("{value} us");
    }
    let seconds = value / 1_000_000;
    let fraction = value % 1_000_000;
    format!("{:02}:{:02}:{:02}.{fraction:06}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::ValueText;
    use crate::format::cell::{Cell, Numeric};

    fn of(cell: Cell<'_>) -> String {
        match ValueText::of(&cell).expect("a value") {
            ValueText::Marked { kind, text, .. } => format!("{kind}:{text}"),
            ValueText::Number(number) => number,
            _ => panic!("the cell has no number or marked text"),
        }
    }

    fn finite(negative: bool, scale: u16, exponent: i32, digits: &str) -> String {
        of(Cell::Numeric(Numeric::Finite { negative, scale, exponent, digits: digits.as_bytes() }))
    }

    #[test]
    fn numbers_are_written_exactly() {
        assert_eq!(of(Cell::Real(5.0)), "5.0");
        assert_eq!(of(Cell::Real(-0.0)), "-0.0");
        assert_eq!(of(Cell::Real(1e300)), "1e300");
        assert_eq!(of(Cell::Real(f64::INFINITY)), "real:7ff0000000000000");
        assert_eq!(of(Cell::Real32(0.1)), "real32:0.1");
        assert_eq!(finite(true, 2, -2, "1050"), "numeric:-10.50");
        assert_eq!(finite(false, 2, -1, "105"), "numeric:10.50");
        assert_eq!(finite(false, 3, -3, "7"), "numeric:0.007");
        assert_eq!(finite(false, 0, 3, "12"), "numeric:12000");
        assert_eq!(finite(false, 2, 0, ""), "numeric:0.00");
        assert_eq!(finite(false, 0, 0, ""), "numeric:0");
        assert_eq!(finite(false, 1, -3, "1234"), "numeric:1234e-3 1");
        assert_eq!(finite(false, 0, i32::MAX, "1"), "numeric:1e2147483647 0");
    }

    #[test]
    fn dates_and_times_are_written_exactly() {
        assert_eq!(of(Cell::Timestamp(0)), "timestamp:2000-01-01T00:00:00.000000");
        assert_eq!(of(Cell::Timestamp(-1)), "timestamp:1999-12-31T23:59:59.999999");
        assert_eq!(of(Cell::Timestamp(i64::MIN)), "timestamp:-infinity");
        assert_eq!(of(Cell::Timestamp(i64::MAX - 1)), "timestamp:9223372036854775806 us");
        let last_day = 2_921_939;
        assert_eq!(of(Cell::Timestamp((last_day + 1) * 86_400_000_000 - 1)), "timestamp:9999-12-31T23:59:59.999999");
        assert_eq!(of(Cell::Timestamp((last_day + 1) * 86_400_000_000)), "timestamp:252455616000000000 us");
        assert_eq!(of(Cell::Date(-730_119)), "date:0001-01-01");
        assert_eq!(of(Cell::Date(-730_120)), "date:-730120 days");
        assert_eq!(of(Cell::Date(-1)), "date:1999-12-31");
        assert_eq!(of(Cell::Date(i32::MAX - 1)), "date:2147483646 days");
        assert_eq!(of(Cell::Time(86_400_000_000)), "time:24:00:00.000000");
        assert_eq!(of(Cell::Uuid([0xab; 16])), "uuid:abababab-abab-abab-abab-abababababab");
    }
}
