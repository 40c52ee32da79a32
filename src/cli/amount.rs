//! Amounts of bytes as users write them: `50MB`, `512 KiB`, `1000000`. Zero is refused.

use std::num::NonZeroU64;

/// Units, and their size in bytes.
const UNITS: [(&str, u64); 9] = [
    ("", 1),
    ("b", 1),
    ("kb", 1000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tb", 1_000_000_000_000),
];

/// A lower rate means that the unit was forgotten. A backup at such a rate would never finish.
const RATE_MIN: u64 = 1 << 10;

/// Parses a rate in bytes per second.
/// Fails if the text is not an amount of bytes, or the rate is below 1 KiB per second.
pub(crate) fn rate(text: &str) -> Result<NonZeroU64, String> {
    let rate = bytes(text)?;
    if rate.get() < RATE_MIN {
        return Err("the rate is less than 1 KiB; add a unit, such as 50MB".to_owned());
    }
    Ok(rate)
}

/// Parses an amount of bytes.
/// Fails if the text is not a number with a known unit, or the amount is zero or does not fit 64 bits.
pub(crate) fn bytes(text: &str) -> Result<NonZeroU64, String> {
    parsed(text.trim()).ok_or_else(|| "write an amount of bytes, such as 50MB or 512KiB".to_owned())
}

fn parsed(text: &str) -> Option<NonZeroU64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    NonZeroU64::new(number.checked_mul(unit_bytes(unit)?)?)
}

fn unit_bytes(unit: &str) -> Option<u64> {
    let unit = unit.trim().to_ascii_lowercase();
    UNITS.iter().find(|(name, _)| *name == unit).map(|(_, bytes)| *bytes)
}

#[cfg(test)]
mod tests {
    use super::{bytes, rate};

    #[test]
    fn amounts_have_units() {
        for (text, amount) in [("7", 7), ("50MB", 50_000_000), ("512 KiB", 524_288), ("1gb", 1_000_000_000)] {
            assert_eq!(bytes(text).map(u64::from), Ok(amount), "{text}");
        }
        for text in ["", "0", "MB", "-1", "1.5MB", "7 parsecs", "99999999999999TB"] {
            assert!(bytes(text).is_err(), "{text}");
        }
        assert!(rate("50").is_err_and(|why| why.contains("50MB")) && rate("1KiB").is_ok());
    }
}
