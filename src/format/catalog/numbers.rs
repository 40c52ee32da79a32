//! New numbers of tables.

use std::collections::HashMap;

/// Replaces a table number. False if it has no replacement.
pub(super) fn replace(number: &mut u32, numbers: &HashMap<u32, u32>) -> bool {
    let replacement = numbers.get(number).copied();
    *number = replacement.unwrap_or(*number);
    replacement.is_some()
}
