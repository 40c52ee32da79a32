//! Dates, times and intervals: converts the texts of PostgreSQL's output functions (ISO, UTC, style `postgres`) to and
//! from the numbers of canonical cells. The calendar is the proleptic Gregorian calendar, with years BC.

use std::io::Write;

/// Durations in microseconds.
const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
/// Days from 0000-03-01 to 2000-01-01.
const DAYS_TO_2000: i64 = 730_425;
const DAYS_OF_400_YEARS: i64 = 146_097;
const INFINITY: &str = "infinity";
const MINUS_INFINITY: &str = "-infinity";

/// A day of the calendar. The year 0 is 1 BC.
struct CivilDate {
    year: i64,
    month: i64,
    day: i64,
}

impl CivilDate {
    /// Days since 2000-01-01.
    fn days(&self) -> i64 {
        // Years start in March here, so that the leap day is the last day of a year.
        let year = if self.month <= 2 { self.year - 1 } else { self.year };
        let era = year.div_euclid(400);
        let of_era = year.rem_euclid(400);
        let of_year = (153 * ((self.month + 9) % 12) + 2) / 5 + self.day - 1;
        era * DAYS_OF_400_YEARS + of_era * 365 + of_era / 4 - of_era / 100 + of_year - DAYS_TO_2000
    }

    /// The date that is `days` days after 2000-01-01.
    fn of_days(days: i64) -> Self {
        let days = days + DAYS_TO_2000;
        let era = days.div_euclid(DAYS_OF_400_YEARS);
        let of_era = days.rem_euclid(DAYS_OF_400_YEARS);
        let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        // Counted from March.
        let month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * month + 2) / 5 + 1;
        Self { year: year + era * 400 + i64::from(month >= 10), month: (month + 2) % 12 + 1, day }
    }
}

/// Appends formatted text to a vector.
macro_rules! put {
    ($out:expr, $($format:tt)*) => {
        write!($out, $($format)*).expect("writing to a vector cannot fail")
    };
}

fn push_day(out: &mut Vec<u8>, days: i64) -> Era {
    let CivilDate { year, month, day } = CivilDate::of_days(days);
    let era = if year > 0 { Era::Common } else { Era::Before };
    put!(out, "{:04}-{month:02}-{day:02}", era.year(year));
    era
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Era {
    Common,
    Before,
}

impl Era {
    /// Converts a year in which 0 is 1 BC to this era's count. The inverse is the same function.
    fn year(self, year: i64) -> i64 {
        match self {
            Self::Common => year,
            Self::Before => 1 - year,
        }
    }
}

fn push_era(out: &mut Vec<u8>, era: Era) {
    if era == Era::Before {
        out.extend_from_slice(b" BC");
    }
}

fn push_str(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

/// Appends a date.
pub(crate) fn push_date(out: &mut Vec<u8>, days: i32) {
    match days {
        i32::MAX => push_str(out, INFINITY),
        i32::MIN => push_str(out, MINUS_INFINITY),
        _ => push_finite_date(out, days),
    }
}

fn push_finite_date(out: &mut Vec<u8>, days: i32) {
    let era = push_day(out, i64::from(days));
    push_era(out, era);
}

/// Whether a timestamp is shown with its zone, which is always UTC.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Zone {
    Shown,
    Hidden,
}

/// Appends a timestamp.
pub(crate) fn push_timestamp(out: &mut Vec<u8>, value: i64, zone: Zone) {
    match value {
        i64::MAX => push_str(out, INFINITY),
        i64::MIN => push_str(out, MINUS_INFINITY),
        _ => push_finite_timestamp(out, value, zone),
    }
}

fn push_finite_timestamp(out: &mut Vec<u8>, value: i64, zone: Zone) {
    let era = push_day(out, value.div_euclid(DAY));
    out.push(b' ');
    push_time(out, value.rem_euclid(DAY));
    if zone == Zone::Shown {
        out.extend_from_slice(b"+00");
    }
    push_era(out, era);
}

/// Appends a time of day, or the time of an interval.
pub(crate) fn push_time(out: &mut Vec<u8>, value: i64) {
    if value < 0 {
        out.push(b'-');
    }
    let microseconds = value.unsigned_abs();
    let seconds = microseconds / SECOND.unsigned_abs();
    push_clock(out, seconds);
    push_fraction(out, microseconds % SECOND.unsigned_abs());
}

fn push_fraction(out: &mut Vec<u8>, microseconds: u64) {
    if microseconds > 0 {
        put!(out, ".{microseconds:06}");
    }
}

fn push_clock(out: &mut Vec<u8>, seconds: u64) {
    put!(out, "{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
}

/// Appends a time of day with its zone.
pub(crate) fn push_time_zoned(out: &mut Vec<u8>, value: i64, west: i32) {
    push_time(out, value);
    out.push(if west > 0 { b'-' } else { b'+' });
    push_clock(out, west.unsigned_abs().into());
}

/// Appends an interval. Each part has its own sign, so that no reader applies one part's sign to the next.
pub(crate) fn push_interval(out: &mut Vec<u8>, months: i32, days: i32, microseconds: i64) {
    put!(out, "{months} mons {days} days ");
    push_time(out, microseconds);
}

/// Reads a number that consists only of digits.
fn number(text: &str) -> Option<i64> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// Reads three numbers with a separator between them.
fn three_numbers(text: &str, separator: char) -> Option<[i64; 3]> {
    let mut parts = text.splitn(3, separator);
    let first = number(parts.next()?)?;
    let second = number(parts.next()?)?;
    let third = number(parts.next()?)?;
    Some([first, second, third])
}

/// Reads `year-month-day`.
fn day(text: &str, era: Era) -> Option<i64> {
    let [year, month, day] = three_numbers(text, '-')?;
    // The limit is above the range of every type, and low enough for the arithmetic below.
    if !(1..=10_000_000).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    Some(CivilDate { year: era.year(year), month, day }.days())
}

fn without_era(text: &str) -> (&str, Era) {
    text.strip_suffix(" BC").map_or((text, Era::Common), |text| (text, Era::Before))
}

/// Reads a date.
pub(crate) fn date(text: &str) -> Option<i32> {
    match text {
        INFINITY => Some(i32::MAX),
        MINUS_INFINITY => Some(i32::MIN),
        _ => finite_date(text),
    }
}

fn finite_date(text: &str) -> Option<i32> {
    let (text, era) = without_era(text);
    i32::try_from(day(text, era)?).ok()
}

/// Reads a timestamp. If it has a zone, the zone must be UTC.
pub(crate) fn timestamp(text: &str) -> Option<i64> {
    match text {
        INFINITY => Some(i64::MAX),
        MINUS_INFINITY => Some(i64::MIN),
        _ => finite_timestamp(text),
    }
}

fn finite_timestamp(text: &str) -> Option<i64> {
    let (text, era) = without_era(text);
    let text = text.strip_suffix("+00").unwrap_or(text);
    let (date, clock) = text.split_once(' ')?;
    day(date, era)?.checked_mul(DAY)?.checked_add(time(clock)?)
}

/// Reads a time of day, or the time of an interval.
pub(crate) fn time(text: &str) -> Option<i64> {
    match text.strip_prefix('-') {
        Some(unsigned) => signed_time(-1, unsigned),
        None => signed_time(1, text.strip_prefix('+').unwrap_or(text)),
    }
}

fn signed_time(sign: i64, unsigned: &str) -> Option<i64> {
    let (clock, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let fraction = fraction_microseconds(fraction)?;
    let [hours, minutes, seconds] = three_numbers(clock, ':')?;
    if minutes > 59 || seconds > 60 {
        return None;
    }
    // The sign is applied early, because the smallest i64 has no positive counterpart.
    let hours = hours.checked_mul(sign * HOUR)?;
    hours.checked_add(sign * (minutes * MINUTE + seconds * SECOND + fraction))
}

fn fraction_microseconds(digits: &str) -> Option<i64> {
    if digits.len() > 6 {
        return None;
    }
    number(&format!("{digits:0<6}"))
}

/// Reads a time of day with its zone. Returns microseconds, and seconds west of UTC.
pub(crate) fn time_zoned(text: &str) -> Option<(i64, i32)> {
    let (clock, zone) = text.split_at(text.rfind(['+', '-'])?);
    let seconds = zone_seconds(&zone[1..])?;
    let west = if zone.starts_with('-') { seconds } else { -seconds };
    Some((time(clock)?, west))
}

/// Reads `hours`, `hours:minutes` or `hours:minutes:seconds`.
fn zone_seconds(text: &str) -> Option<i32> {
    let mut seconds = 0;
    for (unit, part) in [3600, 60, 1].into_iter().zip(text.split(':')) {
        seconds += unit * number(part).filter(|part| *part < 100)?;
    }
    i32::try_from(seconds).ok()
}

/// Reads an interval. Returns months, days and microseconds.
pub(crate) fn interval(text: &str) -> Option<(i32, i32, i64)> {
    match text {
        INFINITY => Some((i32::MAX, i32::MAX, i64::MAX)),
        MINUS_INFINITY => Some((i32::MIN, i32::MIN, i64::MIN)),
        _ => finite_interval(text),
    }
}

fn finite_interval(text: &str) -> Option<(i32, i32, i64)> {
    let mut sum = IntervalSum::default();
    let mut words = text.split(' ');
    while let Some(word) = words.next() {
        if word.contains(':') {
            sum.microseconds = time(word)?;
        } else {
            sum.add(word, words.next()?)?;
        }
    }
    Some((i32::try_from(sum.months).ok()?, i32::try_from(sum.days).ok()?, sum.microseconds))
}

#[derive(Default)]
struct IntervalSum {
    months: i64,
    days: i64,
    microseconds: i64,
}

impl IntervalSum {
    fn add(&mut self, count: &str, unit: &str) -> Option<()> {
        let count: i64 = count.parse::<i32>().ok()?.into();
        match unit.trim_end_matches('s') {
            "year" => self.months += 12 * count,
            "mon" => self.months += count,
            "day" => self.days += count,
            _ => return None,
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        CivilDate, Zone, date, interval, push_date, push_interval, push_time, push_time_zoned, push_timestamp, time,
        time_zoned, timestamp,
    };

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn known_dates_are_written_and_read() {
        for (shown, days) in [
            ("2000-01-01", 0),
            ("1999-12-31", -1),
            ("2000-02-29", 59),
            ("1970-01-01", -10_957),
            ("0001-01-01", -730_119),
            ("0001-12-31 BC", -730_120),
            ("4713-01-01 BC", -2_451_507),
            ("5874897-12-31", 2_145_031_948),
            ("infinity", i32::MAX),
            ("-infinity", i32::MIN),
        ] {
            assert_eq!(date(shown), Some(days), "{shown}");
            assert_eq!(text(|out| push_date(out, days)), shown);
        }
    }

    #[test]
    fn timestamps_at_the_limits_are_written_and_read() {
        for (shown, value) in [
            ("2000-01-01 00:00:00+00", 0),
            ("1999-12-31 23:59:59.999999+00", -1),
            ("294276-12-31 23:59:59.999999+00", 9_223_371_331_199_999_999),
            ("4714-11-24 00:00:00+00 BC", -211_813_488_000_000_000),
            ("infinity", i64::MAX),
            ("-infinity", i64::MIN),
        ] {
            assert_eq!(timestamp(shown), Some(value), "{shown}");
            assert_eq!(text(|out| push_timestamp(out, value, Zone::Shown)), shown);
            assert_eq!(timestamp(&shown.replace("+00", "")), Some(value));
        }
    }

    #[test]
    fn times_and_intervals_from_a_server_are_read() {
        assert_eq!(time("24:00:00"), Some(86_400_000_000));
        assert_eq!(time("00:00:00.5"), Some(500_000));
        assert_eq!(time_zoned("23:59:60.1+15:59:59"), Some((86_400_100_000, -57_599)));
        assert_eq!(time_zoned("01:02:03-08"), Some((3_723_000_000, 28_800)));
        assert_eq!(interval("1 year -2 mons +3 days -04:05:06.7"), Some((10, 3, -14_706_700_000)));
        assert_eq!(interval("-178956970 years -8 mons"), Some((i32::MIN, 0, 0)));
        assert_eq!(interval("-2562047788:00:54.775808"), Some((0, 0, i64::MIN)));
        assert_eq!(interval("2562047788:00:54.775808"), None);
        assert_eq!(interval("00:00:00"), Some((0, 0, 0)));
        assert_eq!(interval("infinity"), Some((i32::MAX, i32::MAX, i64::MAX)));
    }

    proptest! {
        #![proptest_config(crate::base::property::config())]

        #[test]
        fn conversions_of_days_and_dates_are_inverse(days in -800_000_000i64..2_200_000_000) {
            prop_assert_eq!(CivilDate::of_days(days).days(), days);
        }

        #[test]
        fn written_dates_and_times_are_read_back(days: i32, value: i64, of_day in 0i64..=86_400_000_000, west in -57_599i32..57_600, months: i32) {
            prop_assume!(days > -730_000_000);
            prop_assert_eq!(date(&text(|out| push_date(out, days))), Some(days));
            let moment = value.clamp(-211_813_488_000_000_000, 9_223_371_331_199_999_999);
            prop_assert_eq!(timestamp(&text(|out| push_timestamp(out, moment, Zone::Hidden))), Some(moment));
            prop_assert_eq!(time(&text(|out| push_time(out, of_day))), Some(of_day));
            prop_assert_eq!(time_zoned(&text(|out| push_time_zoned(out, of_day, west))), Some((of_day, west)));
            let shown = text(|out| push_interval(out, months, days, value));
            prop_assert_eq!(interval(&shown), Some((months, days, value)));
        }

        #[test]
        fn no_text_panics(text in "[-+0-9: .a-z]{0,30}") {
            let _ = (date(&text), timestamp(&text), time(&text), time_zoned(&text), interval(&text));
        }
    }
}
