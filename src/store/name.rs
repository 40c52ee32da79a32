//! Names of objects, relative to the repository: parts of ASCII letters, digits, `.`, `-` and `_` between single
//! slashes. Every store and file system accepts these and returns them unchanged. This layer does not know what the
//! names mean.

use object_store::path::Path;

use super::error::StoreError;
use super::location::is_part;

/// Longest name. With a prefix it must fit into the 1,024 bytes that stores allow.
const NAME_BYTES_MAX: usize = 512;

/// The path of the object `name`.
/// Fails if the name is longer than 512 bytes, or if a part of it is empty, `.` or `..` or has characters other than
/// the allowed ones.
pub(crate) fn object_path(name: &str) -> Result<Path, StoreError> {
    if !is_name(name) {
        return Err(no_name(name));
    }
    Path::parse(name).map_err(|_| no_name(name))
}

fn is_name(text: &str) -> bool {
    text.len() <= NAME_BYTES_MAX && text.split('/').all(is_part)
}

fn no_name(text: &str) -> StoreError {
    StoreError::Name { name: text.escape_default().take(NAME_BYTES_MAX).collect() }
}

/// The path of the prefix `prefix`. The empty prefix is the whole repository.
/// Fails if any other prefix is not a valid object name.
pub(crate) fn prefix_path(prefix: &str) -> Result<Path, StoreError> {
    if prefix.is_empty() { Ok(Path::ROOT) } else { object_path(prefix) }
}

#[cfg(test)]
mod tests {
    use super::{object_path, prefix_path};

    #[test]
    fn only_plain_names_are_valid() {
        for name in ["sidekeep.json", "roster/0000000001", "a/b/c_d-e.f"] {
            assert_eq!(object_path(name).expect(name).as_ref(), name);
        }
        let long = "x".repeat(513);
        for name in ["", "/", "/a", "a/", "a//b", ".", "a/../b", "a#1", "a b", "a%2f", "ä", "a\0", &long] {
            assert!(object_path(name).is_err(), "{name:?}");
        }
        assert!(prefix_path("").expect("the root").is_root());
        assert!(prefix_path("a/").is_err());
    }
}
