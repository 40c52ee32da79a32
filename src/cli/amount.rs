//! Amounts of bytes as people write them: `50MB`, `512 KiB`, `1000000`. Nothing is no amount.

use std::num::NonZeroU64;

/// Units and their bytes.
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

/// The bytes that `text` says.
pub(crate) fn bytes(text: &str) -> Result<NonZeroU64, String> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim().to_ascii_lowercase();
    let scale = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, scale)| *scale);
    let amount = number.parse::<u64>().ok().zip(scale).and_then(|(number, scale)| number.checked_mul(scale));
    amount.and_then(NonZeroU64::new).ok_or_else(|| "write an amount of bytes as in 50MB or 512KiB".to_owned())
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn amounts_have_units() {
        for (text, amount) in [("7", 7), ("50MB", 50_000_000), ("512 KiB", 524_288), ("1gb", 1_000_000_000)] {
            assert_eq!(bytes(text).map(u64::from), Ok(amount), "{text}");
        }
        for text in ["", "0", "MB", "-1", "1.5MB", "7 parsecs", "99999999999999TB"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }
}
