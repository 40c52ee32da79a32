//! Cells in JSON, as base64.

use data_encoding::BASE64;
use serde::{Deserialize, Deserializer, Serializer, de::Error};

use crate::format::cell::OwnedCell;

/// Writes a cell.
/// Fails only if the serializer does.
pub(super) fn serialize<S: Serializer>(cell: &OwnedCell, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&BASE64.encode(cell.as_bytes()))
}

/// Fails if the text is not base64 of one cell.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<OwnedCell, D::Error> {
    let text = String::deserialize(deserializer)?;
    let bytes = BASE64.decode(text.as_bytes()).map_err(Error::custom)?;
    OwnedCell::from_bytes(&bytes).map_err(Error::custom)
}
