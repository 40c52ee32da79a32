//! What `docs/format.md` section 1 demands of JSON beyond RFC 8259, so that all readers agree on what was signed: no
//! object repeats a member name, all numbers are integers that a u64 or i64 can hold, and nesting is limited.

use std::collections::HashSet;
use std::fmt;

use serde::Serialize;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use serde_json::Value;

use crate::base::limit::JSON_DEPTH_MAX;

/// Checks the rules that hold for every JSON document.
/// Fails unless `bytes` are one JSON document in which no object repeats a member, numbers are integers of 64 bits, and
/// objects and lists are nested at most [`JSON_DEPTH_MAX`] deep.
pub fn check(bytes: &[u8]) -> Result<(), serde_json::Error> {
    let mut document = serde_json::Deserializer::from_slice(bytes);
    CheckedValue { levels_left: JSON_DEPTH_MAX }.deserialize(&mut document)?;
    document.end()
}

/// Reads a document.
/// Fails like [`check`] and [`decode`].
pub fn read<T: DeserializeOwned + Serialize>(bytes: &[u8]) -> Result<T, serde_json::Error> {
    check(bytes)?;
    decode(&serde_json::from_slice(bytes)?)
}

/// Reads a value of a document.
/// Fails if it does not have the members of `T`, in the form in which this program stores them. So a list in the place
/// of an object is refused, and so is every other form of a text, such as a time with an offset.
pub fn decode<T: DeserializeOwned + Serialize>(stored: &Value) -> Result<T, serde_json::Error> {
    let value = T::deserialize(stored)?;
    if says(stored, &serde_json::to_value(&value)?) {
        return Ok(value);
    }
    Err(serde_json::Error::custom("a member is not in the form in which it is stored"))
}

/// Whether `stored` says what `read` says, where `read` is what a decoder made of it, encoded again.
fn says(stored: &Value, read: &Value) -> bool {
    match (stored, read) {
        (_, Value::Null) => true,
        (Value::Object(stored), Value::Object(read)) => read.iter().all(|(name, member)| {
            let stored = stored.get(name);
            stored.map_or(member.is_null(), |stored| says(stored, member))
        }),
        (Value::Array(stored), Value::Array(read)) => {
            stored.len() == read.len() && stored.iter().zip(read).all(|(stored, read)| says(stored, read))
        }
        _ => stored == read,
    }
}

/// Any JSON value. Deserializing it checks everything inside.
#[derive(Clone, Copy)]
struct CheckedValue {
    /// How many objects and lists may be around what is inside.
    levels_left: usize,
}

impl CheckedValue {
    fn inside<E: Error>(self) -> Result<Self, E> {
        let levels_left = self.levels_left.checked_sub(1);
        levels_left.map(|levels_left| Self { levels_left }).ok_or_else(|| E::custom("it is nested too deeply"))
    }
}

impl<'de> DeserializeSeed<'de> for CheckedValue {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for CheckedValue {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    /// The parser's form of fractions, exponents, `-0` and integers of more than 64 bits.
    fn visit_f64<E: Error>(self, number: f64) -> Result<(), E> {
        Err(E::custom(format_args!("number {number} is not an integer of 64 bits")))
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let inside = self.inside()?;
        while items.next_element_seed(inside)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let inside = self.inside()?;
        let mut names: HashSet<String> = HashSet::new();
        while let Some(name) = members.next_key::<String>()? {
            members.next_value_seed(inside)?;
            if let Some(twice) = names.replace(name) {
                return Err(repeated_member(&twice));
            }
        }
        Ok(())
    }
}

fn repeated_member<E: serde::de::Error>(member: &str) -> E {
    E::custom(format_args!("member {member:?} is repeated"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{JSON_DEPTH_MAX, check, says};

    #[test]
    fn a_repeated_member_is_refused() {
        for sound in ["{}", "[1, -2, true, null, \"a\"]", r#"{"a": {"a": 1}, "b": [{"a": 1}, {"a": 2}]}"#] {
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

    #[test]
    fn numbers_are_integers_of_64_bits() {
        for sound in ["0", "-1", "18446744073709551615", "-9223372036854775808"] {
            assert!(check(format!("[{sound}]").as_bytes()).is_ok(), "{sound}");
        }
        let wrong = ["1.0", "1e3", "-0", "18446744073709551616", "-9223372036854775809", "NaN", "Infinity", "01", "+1"];
        for wrong in wrong {
            assert!(check(format!("[{wrong}]").as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_was_read_must_be_stored_in_that_form() {
        let stored = json!({"a": [{"b": 1, "more": 2}], "c": "text", "later": {}});
        for read in [json!({"a": [{"b": 1}]}), json!({"c": "text", "d": null}), json!({"later": null})] {
            assert!(says(&stored, &read), "{read}");
        }
        for read in [json!({"a": [[1]]}), json!({"a": []}), json!({"c": "Text"}), json!({"d": 1}), json!([1])] {
            assert!(!says(&stored, &read), "{read}");
        }
    }

    #[test]
    fn nesting_is_limited() {
        let nested = |depth| [vec![b'['; depth], vec![b']'; depth]].concat();
        assert!(check(&nested(JSON_DEPTH_MAX)).is_ok() && check(&nested(JSON_DEPTH_MAX + 1)).is_err());
    }
}
