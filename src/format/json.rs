//! A restriction of signed JSON beyond RFC 8259: no object may repeat a member name, at any depth. Otherwise readers
//! that take the first and readers that take the last would not agree on what was signed.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Checks that no object repeats a member.
/// Fails unless `bytes` are one JSON document in which no object repeats a member.
pub(super) fn check(bytes: &[u8]) -> Result<(), serde_json::Error> {
    serde_json::from_slice::<UniqueMembers>(bytes).map(drop)
}

/// Any JSON value. Deserializing it checks all objects inside.
struct UniqueMembers;

impl<'de> Deserialize<'de> for UniqueMembers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for UniqueMembers {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E: Error>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self, A::Error> {
        while items.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self, A::Error> {
        let mut names: HashSet<String> = HashSet::new();
        while let Some(name) = members.next_key::<String>()? {
            members.next_value::<Self>()?;
            if let Some(twice) = names.replace(name) {
                return Err(repeated_member(&twice));
            }
        }
        Ok(self)
    }
}

fn repeated_member<E: serde::de::Error>(member: &str) -> E {
    E::custom(format_args!("member {member:?} is repeated"))
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn a_repeated_member_is_refused() {
        for sound in ["{}", "[1, -2, 3.5, true, null, \"a\"]", r#"{"a": {"a": 1}, "b": [{"a": 1}, {"a": 2}]}"#] {
            assert!(check(sound.as_bytes()).is_ok(), "{sound}");
        }
        let twice = [r#"{"a": 1, "a": 1}"#, r#"[{"b": {"a": 1, "a": 2}}]"#, r#"{"x": 1, "\u0078": 2}"#];
        for twice in twice {
            assert!(check(twice.as_bytes()).is_err_and(|error| error.to_string().contains("repeated")), "{twice}");
        }
        for broken in ["", "{", "{} {}", "nul"] {
            assert!(check(broken.as_bytes()).is_err(), "{broken}");
        }
        assert!(check("[".repeat(100_000).as_bytes()).is_err());
    }
}
