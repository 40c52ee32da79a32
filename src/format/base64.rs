//! Bytes as base64 text in JSON (`docs/format.md` section 1), for `#[serde(with)]`.

use data_encoding::BASE64;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serializer};

/// Writes `bytes` as base64 text with padding.
/// Fails only if the serializer fails.
pub(super) fn serialize<S: Serializer>(bytes: &impl AsRef<[u8]>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&BASE64.encode(bytes.as_ref()))
}

/// Reads base64 text with padding.
/// Fails if there is no text, if it is not base64, or if `T` cannot have this many bytes.
pub(super) fn deserialize<'de, D: Deserializer<'de>, T: TryFrom<Vec<u8>>>(deserializer: D) -> Result<T, D::Error> {
    let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
    let bytes = BASE64.decode(text.as_bytes()).map_err(D::Error::custom)?;
    let len = bytes.len();
    T::try_from(bytes).map_err(|_| wrong_len(len))
}

fn wrong_len<E: serde::de::Error>(len: usize) -> E {
    E::custom(format!("{len} bytes is the wrong length"))
}
