//! Parses and formats moments. Accepts RFC 3339, `2026-11-22 03:00`, a day, `yesterday 03:00` and `3 days ago`, in local
//! time unless the text has a time zone. A local time that does not exist or happens twice when the clocks change is
//! refused, because a restore must not guess. Pure: the caller passes the current time and the time zone.

use std::time::Duration;

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};
use jiff::{Span, SpanRelativeTo, Timestamp, Zoned};
use thiserror::Error;

use crate::base::time::Moment;

/// The text is not a moment or a duration, or it is ambiguous.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub(crate) enum TimeError {
    #[error("{text:?} is not a time: use a form such as \"2026-11-22 03:00\", \"yesterday 03:00\" or \"3 days ago\"")]
    Unknown { text: String },
    #[error("{text:?} is out of the supported range of times")]
    OutOfRange { text: String },
    #[error("{text:?} is in the future")]
    Future { text: String },
    #[error("{text:?} is not a duration: use a form such as \"90 seconds\", \"26 hours\" or \"7 days\"")]
    NotADuration { text: String },
    /// The clocks went forward over it.
    #[error("{local} does not exist: the clocks went forward from offset {before} to {after}")]
    Skipped { local: DateTime, before: Offset, after: Offset },
    /// The clocks went back over it.
    #[error("{local} is ambiguous because the clocks went back: use {local}{} or {local}{}", zone(*.before), zone(*.after))]
    Twice { local: DateTime, before: Offset, after: Offset },
}

/// Parses a moment, relative to `now`.
/// Fails if the text is not a moment, is out of range, or is a local time that does not exist or happens twice.
pub(crate) fn parse(text: &str, now: &Zoned) -> Result<Moment, TimeError> {
    let words = text.trim().to_ascii_lowercase();
    if words == "now" {
        return Ok(moment(now.timestamp()));
    }
    match words.strip_suffix(" ago") {
        Some(span) => before(span, text, now),
        None => day_and_clock(&words, text, now),
    }
}

/// Parses a day with an optional time of day. `words` is `text` in lower case.
fn day_and_clock(words: &str, text: &str, now: &Zoned) -> Result<Moment, TimeError> {
    let (day, clock) = words.split_once(' ').unwrap_or((words, ""));
    match named_day(day, now) {
        Some(day) => on_day(day, clock.trim(), text, now.time_zone()),
        None => written(text.trim(), now.time_zone()).ok_or_else(|| unknown(text))?,
    }
}

fn unknown(text: &str) -> TimeError {
    TimeError::Unknown { text: text.to_owned() }
}

/// The moment that is `span` before `now`. `text` is the complete input, for errors.
fn before(span: &str, text: &str, now: &Zoned) -> Result<Moment, TimeError> {
    let span: Span = span.parse().map_err(|_| unknown(text))?;
    if span.is_negative() {
        return Err(unknown(text));
    }
    let then = now.checked_sub(span).map_err(|_| out_of_range(text))?;
    Ok(moment(then.timestamp()))
}

fn out_of_range(text: &str) -> TimeError {
    TimeError::OutOfRange { text: text.to_owned() }
}

/// The day that `word` names.
fn named_day(word: &str, now: &Zoned) -> Option<Date> {
    match word {
        "today" => Some(now.date()),
        "yesterday" => now.date().yesterday().ok(),
        _ => None,
    }
}

/// The time of day `clock` on `day`, or the start of the day. `text` is the complete input, for errors.
fn on_day(day: Date, clock: &str, text: &str, zone: &TimeZone) -> Result<Moment, TimeError> {
    if clock.is_empty() {
        return start_of(day, zone).ok_or_else(|| unknown(text));
    }
    let time: Time = clock.parse().map_err(|_| unknown(text))?;
    local(day.to_datetime(time), zone)
}

/// Parses a duration such as `26 hours`. A day has 24 hours.
/// Fails if the text is not a duration, is negative, or has units without a fixed length.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, TimeError> {
    let wrong = || TimeError::NotADuration { text: text.to_owned() };
    let span: Span = text.parse().map_err(|_| wrong())?;
    let length = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
    Duration::try_from(length).map_err(|_| wrong())
}

/// Like [`parse`], but refuses a moment in the future.
/// Fails as [`parse`] does, or if the moment is in the future.
pub(crate) fn parse_past(text: &str, now: &Zoned) -> Result<Moment, TimeError> {
    let then = parse(text, now)?;
    if then > moment(now.timestamp()) {
        return Err(TimeError::Future { text: text.to_owned() });
    }
    Ok(then)
}

/// Parses a date and time, with or without a time zone.
fn written(text: &str, zone: &TimeZone) -> Option<Result<Moment, TimeError>> {
    let joined = with_offset_joined(text);
    if let Some(time) = with_offset(&joined) {
        return Some(Ok(moment(time)));
    }
    // A date without a time would parse as midnight, which does not exist on every day in every zone.
    if joined.len() == "2026-11-22".len() {
        return start_of(joined.parse().ok()?, zone).map(Ok);
    }
    Some(local(joined.parse().ok()?, zone))
}

/// Parses a time with a time zone or an offset from UTC.
fn with_offset(text: &str) -> Option<Timestamp> {
    let zoned = text.parse::<Zoned>().map(|time| time.timestamp());
    zoned.or_else(|_| text.parse()).ok()
}

/// `text` without the space before its offset. [`display`] prints that space, and users copy printed times.
fn with_offset_joined(text: &str) -> String {
    match text.rsplit_once(' ') {
        Some((time, offset)) if is_offset(offset) => time.to_owned() + offset,
        _ => text.to_owned(),
    }
}

fn is_offset(text: &str) -> bool {
    text.starts_with(['+', '-']) || text.eq_ignore_ascii_case("z")
}

fn local(time: DateTime, zone: &TimeZone) -> Result<Moment, TimeError> {
    match zone.to_ambiguous_timestamp(time).offset() {
        AmbiguousOffset::Gap { before, after } => Err(TimeError::Skipped { local: time, before, after }),
        AmbiguousOffset::Fold { before, after } => Err(TimeError::Twice { local: time, before, after }),
        AmbiguousOffset::Unambiguous { offset } => at_offset(time, offset),
    }
}

fn at_offset(time: DateTime, offset: Offset) -> Result<Moment, TimeError> {
    let at = offset.to_timestamp(time).map_err(|_| out_of_range(&time.to_string()))?;
    Ok(moment(at))
}

fn start_of(day: Date, zone: &TimeZone) -> Option<Moment> {
    day.to_zoned(zone.clone()).ok().map(|time| moment(time.timestamp()))
}

fn moment(time: Timestamp) -> Moment {
    Moment(time.as_microsecond())
}

fn zone(offset: Offset) -> String {
    let seconds = offset.seconds();
    let minutes = seconds.unsigned_abs() / 60;
    format!("{}{:02}:{:02}", if seconds < 0 { '-' } else { '+' }, minutes / 60, minutes % 60)
}

/// `now` in the system's time zone.
pub(crate) fn in_system_zone(now: Moment) -> Zoned {
    at(now, &TimeZone::system())
}

/// `moment` in `zone`. A moment out of range becomes the latest possible time.
pub(crate) fn at(moment: Moment, zone: &TimeZone) -> Zoned {
    let time = Timestamp::from_microsecond(moment.0).unwrap_or(Timestamp::MAX);
    time.to_zoned(zone.clone())
}

/// A moment for people: local time, to the second, with its offset.
pub(crate) fn display(moment: Moment, zone: &TimeZone) -> String {
    at(moment, zone).strftime("%Y-%m-%d %H:%M:%S %:z").to_string()
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::{TimeError, at, display, parse, parse_past};
    use crate::base::time::Moment;

    fn berlin() -> TimeZone {
        TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").expect("a rule")
    }

    fn parsed(text: &str) -> Result<String, TimeError> {
        let now: Moment = "2026-11-23T12:30:15.5Z".parse().expect("a time");
        parse(text, &at(now, &berlin())).map(|moment| moment.to_string())
    }

    #[test]
    fn every_documented_form_is_parsed() {
        for (text, expected) in [
            ("2026-11-22T03:00:00Z", "2026-11-22T03:00:00.000000Z"),
            ("2026-11-22T03:00:00.123456-05:00", "2026-11-22T08:00:00.123456Z"),
            ("2026-11-22 03:00", "2026-11-22T02:00:00.000000Z"),
            ("2026-07-22 03:00:01", "2026-07-22T01:00:01.000000Z"),
            ("2026-11-22 03:00Z", "2026-11-22T03:00:00.000000Z"),
            ("2026-11-22 03:00 +02:00", "2026-11-22T01:00:00.000000Z"),
            ("2026-11-22", "2026-11-21T23:00:00.000000Z"),
            ("yesterday 03:00", "2026-11-22T02:00:00.000000Z"),
            ("Yesterday", "2026-11-21T23:00:00.000000Z"),
            ("today 03:00", "2026-11-23T02:00:00.000000Z"),
            (" now ", "2026-11-23T12:30:15.500000Z"),
            ("3 days ago", "2026-11-20T12:30:15.500000Z"),
            ("90 minutes ago", "2026-11-23T11:00:15.500000Z"),
            // Across the end of summer time, the time of day stays the same.
            ("1 month ago", "2026-10-23T11:30:15.500000Z"),
        ] {
            assert_eq!(parsed(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn local_times_that_the_clocks_skip_or_repeat_are_refused() {
        assert!(matches!(parsed("2026-03-29 02:30"), Err(TimeError::Skipped { .. })));
        let twice = parsed("2026-10-25 02:30").expect_err("an ambiguous time").to_string();
        assert!(twice.contains("2026-10-25T02:30:00+02:00 or 2026-10-25T02:30:00+01:00"), "{twice}");
        assert_eq!(parsed("2026-10-25T02:30:00+01:00").as_deref(), Ok("2026-10-25T01:30:00.000000Z"));
        assert!(parsed("2026-03-29 03:00").is_ok() && parsed("2026-10-25 03:00").is_ok());
    }

    #[test]
    fn a_moment_in_the_future_is_refused() {
        let now = at("2026-11-23T12:30:15Z".parse().expect("a time"), &berlin());
        assert!(parse_past("now", &now).is_ok() && parse_past("today 13:30", &now).is_ok());
        assert!(matches!(parse_past("today 13:31", &now), Err(TimeError::Future { .. })));
    }

    #[test]
    fn texts_that_are_not_times_are_refused() {
        for text in
            ["", "03:00", "tomorrow", "in 3 days", "-3 days ago", "ago", "22.11.2026", "2026-11-22 25:00", "2026-13-01"]
        {
            assert!(matches!(parsed(text), Err(TimeError::Unknown { .. })), "{text}");
        }
        assert!(matches!(parsed("30000 years ago"), Err(TimeError::Unknown { .. } | TimeError::OutOfRange { .. })));
    }

    #[test]
    fn a_displayed_moment_can_be_parsed() {
        let moment: Moment = "2026-10-25T01:30:00Z".parse().expect("a time");
        let shown = display(moment, &berlin());
        assert_eq!(shown, "2026-10-25 02:30:00 +01:00");
        assert_eq!(parsed(&shown), Ok(moment.to_string()));
    }
}
