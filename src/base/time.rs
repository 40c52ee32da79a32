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

impl serde::Serialize for Moment {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Moment {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
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
}
