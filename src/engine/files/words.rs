//! Values that neither CSV nor JSON has, as words: the same in both (`docs/export.md`). From the words the
//! cell can be made again, bit for bit.

use data_encoding::{BASE64, HEXLOWER};

use crate::format::cell::{Cell, Encoding, Numeric};

/// How a value is written.
pub(super) enum ValueText<'a> {
    Null,
    Absent,
    Bool(bool),
    /// A number of JSON's grammar, without fraction or exponent for integers and with one for reals.
    Number(String),
    Text(&'a str),
    /// A kind, the value's words, and what else must be known.
    Marked {
        kind: &'static str,
        words: String,
        detail: Option<Detail>,
    },
}

/// What a marked value needs besides its words.
pub(super) enum Detail {
    /// Of text.
    Encoding(&'static str),
    /// Seconds west of UTC.
    West(i32),
}

/// Largest scale or exponent of a number that is written out in digits.
const NUMERIC_ZEROS_MAX: i32 = 200_000;
const DAY_US: i64 = 86_400_000_000;

/// The words of a cell; an error if it stands for bytes that are elsewhere.
pub(super) fn words<'a>(cell: &Cell<'a>) -> Result<ValueText<'a>, &'static str> {
    Ok(match *cell {
        Cell::Null => ValueText::Null,
        Cell::Absent => ValueText::Absent,
        Cell::Bool(value) => ValueText::Bool(value),
        Cell::Integer(value) => ValueText::Number(value.to_string()),
        Cell::Real(value) if value.is_finite() => ValueText::Number(format!("{value:?}")),
        Cell::Real(value) => marked("real", format!("{:016x}", value.to_bits())),
        Cell::Real32(value) if value.is_finite() => marked("real32", format!("{value:?}")),
        Cell::Real32(value) => marked("real32", format!("{:08x}", value.to_bits())),
        Cell::Text(text) => ValueText::Text(text),
        Cell::Bytes(bytes) => marked("bytes", BASE64.encode(bytes)),
        Cell::Encoded(encoding, bytes) => ValueText::Marked {
            kind: "encoded",
            words: BASE64.encode(bytes),
            detail: Some(Detail::Encoding(encoding_name(encoding))),
        },
        Cell::Numeric(numeric) => marked("numeric", numeric_words(&numeric)),
        Cell::Timestamp(value) => marked("timestamp", timestamp_words(value)),
        Cell::Date(value) => marked("date", date_words(value)),
        Cell::Time(value) => marked("time", time_words(value)),
        Cell::TimeZoned(value, west) => {
            ValueText::Marked { kind: "timetz", words: time_words(value), detail: Some(Detail::West(west)) }
        }
        Cell::Interval { months, days, microseconds } => marked("interval", format!("{months} {days} {microseconds}")),
        Cell::Uuid(bytes) => marked("uuid", uuid_words(&bytes)),
        Cell::Output(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => marked("output", text.to_owned()),
            Err(_) => marked("output64", BASE64.encode(bytes)),
        },
        Cell::Stream(..) => return Err("a value was not put back into its row"),
    })
}

/// The words of a cell without what tells its kind, for a person; none for null, and for what stands for
/// bytes that are elsewhere.
#[must_use]
pub fn plain(cell: &Cell<'_>) -> Option<String> {
    match words(cell).ok()? {
        ValueText::Null | ValueText::Absent => None,
        ValueText::Bool(value) => Some(value.to_string()),
        ValueText::Number(number) => Some(number),
        ValueText::Text(text) => Some(text.to_owned()),
        ValueText::Marked { words, .. } => Some(words),
    }
}

fn marked<'a>(kind: &'static str, words: String) -> ValueText<'a> {
    ValueText::Marked { kind, words, detail: None }
}

fn encoding_name(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Utf8Invalid => "utf-8",
        Encoding::Utf16Le => "utf-16le",
        Encoding::Utf16Be => "utf-16be",
        Encoding::Latin1 => "latin1",
        Encoding::SqlAscii => "sql_ascii",
    }
}

/// As PostgreSQL writes it; numbers of monstrous size, or with more digits than their scale shows, as
/// `digits e exponent scale`.
fn numeric_words(numeric: &Numeric<'_>) -> String {
    let (negative, scale, exponent, digits) = match *numeric {
        Numeric::NaN => return "NaN".to_owned(),
        Numeric::Infinity => return "Infinity".to_owned(),
        Numeric::NegativeInfinity => return "-Infinity".to_owned(),
        Numeric::Finite { negative, scale, exponent, digits } => (negative, i32::from(scale), exponent, digits),
    };
    let sign = if negative { "-" } else { "" };
    let digits = String::from_utf8_lossy(digits);
    if exponent > NUMERIC_ZEROS_MAX || exponent < -scale {
        return format!("{sign}{digits}e{exponent} {scale}");
    }
    let zeros = usize::try_from(exponent.saturating_add(scale)).unwrap_or(0);
    let scale = usize::try_from(scale).unwrap_or(0);
    let all = format!("{digits}{}", "0".repeat(if digits.is_empty() { 0 } else { zeros }));
    let all = format!("{all:0>width$}", width = scale + 1);
    let (whole, fraction) = all.split_at(all.len() - scale);
    let point = if scale > 0 { "." } else { "" };
    format!("{sign}{whole}{point}{fraction}")
}

fn timestamp_words(value: i64) -> String {
    match value {
        i64::MAX => return "infinity".to_owned(),
        i64::MIN => return "-infinity".to_owned(),
        _ => {}
    }
    match day_words(value.div_euclid(DAY_US)) {
        Some(day) => format!("{day}T{}", time_words(value.rem_euclid(DAY_US))),
        None => format!("{value} us"),
    }
}

/// The day so many days after 2000-01-01, if it is in the years 1 to 9999.
fn day_words(days: i64) -> Option<String> {
    let span = jiff::Span::new().try_days(days).ok()?;
    let day = jiff::civil::date(2000, 1, 1).checked_add(span).ok()?;
    (day.year() > 0).then(|| day.to_string())
}

fn date_words(value: i32) -> String {
    match value {
        i32::MAX => return "infinity".to_owned(),
        i32::MIN => return "-infinity".to_owned(),
        _ => {}
    }
    day_words(i64::from(value)).unwrap_or_else(|| format!("{value} days"))
}

fn time_words(value: i64) -> String {
    if !(0..=DAY_US).contains(&value) {
        return format!("{value} us");
    }
    let (seconds, fraction) = (value / 1_000_000, value % 1_000_000);
    format!("{:02}:{:02}:{:02}.{fraction:06}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

fn uuid_words(bytes: &[u8; 16]) -> String {
    let hex = HEXLOWER.encode(bytes);
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use super::{ValueText, words};
    use crate::format::cell::{Cell, Numeric};

    fn of(cell: Cell<'_>) -> String {
        match words(&cell).expect("a value") {
            ValueText::Marked { kind, words, .. } => format!("{kind}:{words}"),
            ValueText::Number(number) => number,
            _ => panic!("no words"),
        }
    }

    fn finite(negative: bool, scale: u16, exponent: i32, digits: &str) -> String {
        of(Cell::Numeric(Numeric::Finite { negative, scale, exponent, digits: digits.as_bytes() }))
    }

    #[test]
    fn numbers() {
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
    fn times() {
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
