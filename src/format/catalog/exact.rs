//! Lists that have no room for more items than they contain. With 100,000 tables, unused room would take most of the
//! memory.

use serde::{Deserialize, Deserializer};

/// Reads a list.
/// Fails if it is not a list, or if an item cannot be read.
pub(super) fn list<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    let mut list = Vec::deserialize(deserializer)?;
    list.shrink_to_fit();
    Ok(list)
}
