//! Moments as stored: microseconds since the Unix epoch, printed as RFC 3339 in UTC with six decimals. The command
//! line handles local time and words like "yesterday".

use std::fmt;

use thiserror::Error;

/// A moment, in microseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Moment(pub i64);

/// A string that is not an RFC 3339 time.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0:?} is not an RFC 3339 time")]
pub struct ParseMomentError(String);

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(time) => write!(f, "{time:.6}"),
            Err(_) => write!(f, "{} us", self.0),
        }
    }
}

impl std::str::FromStr for Moment {
    type Err = ParseMomentError;

    fn from_str(text: &str) -> Result<Self, ParseMomentError> {
        let time: jiff::Timestamp = text.parse().map_err(|_| ParseMomentError(text.to_owned()))?;
        Ok(Self(time.as_microsecond()))
    }
}

/// The years that a stored time can have, so that its text is always 27 characters, sorted like the times.
const STORED_YEARS: std::ops::RangeInclusive<i16> = 1..=9998;

impl Moment {
    /// The stored form. `None` if the year is outside [`STORED_YEARS`].
    fn stored(self) -> Option<String> {
        let time = jiff::Timestamp::from_microsecond(self.0).ok()?;
        let year = time.to_zoned(jiff::tz::TimeZone::UTC).year();
        STORED_YEARS.contains(&year).then(|| format!("{time:.6}"))
    }
}

impl serde::Serialize for Moment {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let stored = self.stored().ok_or_else(|| serde::ser::Error::custom("the time is out of range"))?;
        serializer.serialize_str(&stored)
    }
}

impl<'de> serde::Deserialize<'de> for Moment {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        let moment: Self = text.parse().map_err(serde::de::Error::custom)?;
        // Other forms of the same time are not allowed: other readers may not know them.
        if moment.stored().as_deref() == Some(&*text) {
            return Ok(moment);
        }
        Err(serde::de::Error::custom(format_args!("{text:?} is not in the stored form")))
    }
}

#[cfg(test)]
mod tests {
    use super::Moment;

    #[test]
    fn moments_print_in_utc_with_six_decimals() {
        let moment: Moment = "2026-11-22T04:00:00.5+01:00".parse().expect("a time");
        assert_eq!(moment.to_string(), "2026-11-22T03:00:00.500000Z");
        assert_eq!(moment.to_string().parse(), Ok(moment));
    }

    #[test]
    fn only_one_form_of_a_time_is_stored() {
        let read = |text: &str| serde_json::from_value::<Moment>(text.into());
        for sound in ["2026-11-22T03:00:00.000000Z", "0001-01-01T00:00:00.000000Z", "9998-12-31T23:59:59.999999Z"] {
            let moment = read(sound).expect("a time");
            assert_eq!(serde_json::to_value(moment).expect("a time"), sound);
        }
        let wrong = [
            "2026-11-22T03:00:00Z",
            "2026-11-22T03:00:00.0000000Z",
            "2026-11-22T04:00:00.000000+01:00",
            "2026-11-22T03:00:00.000000+00:00",
            "2026-11-22 03:00:00.000000Z",
            "2026-11-22t03:00:00.000000z",
            "2026-11-31T03:00:00.000000Z",
            "2026-11-22T24:00:00.000000Z",
            "2026-11-22T03:00:60.000000Z",
            "0000-01-01T00:00:00.000000Z",
            "9999-01-01T00:00:00.000000Z",
            "+010000-01-01T00:00:00.000000Z",
        ];
        for wrong in wrong {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert!(serde_json::to_value(Moment(i64::MAX)).is_err());
    }
}
