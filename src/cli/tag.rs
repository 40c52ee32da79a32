//! Checks the tags of snapshots. A tag must not look like another way to name a snapshot.

use crate::format::entry::is_tag;

/// Maximum length of a tag in bytes.
const BYTES_MAX: usize = 64;

/// Returns `text` if it is a valid tag.
/// Fails if the text is not 1 to 64 letters, digits, `-`, `_` or `.`, or looks like an id or like `latest`.
pub(crate) fn parse(text: &str) -> Result<String, String> {
    if !is_word(text) {
        return Err("a tag has 1 to 64 letters, digits, '-', '_' or '.'".to_owned());
    }
    if !is_tag(text) {
        return Err("a tag must not look like an id or like latest".to_owned());
    }
    Ok(text.to_owned())
}

fn is_word(text: &str) -> bool {
    let is_valid = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=BYTES_MAX).contains(&text.len()) && text.bytes().all(is_valid)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_tag_that_looks_like_an_id_or_latest_is_refused() {
        assert!(["before-migration", "v1.2", "keep_me"].iter().all(|tag| parse(tag).is_ok()));
        assert!(["", "latest", "latest~2", "abc", "1234", "a b", "ü"].iter().all(|tag| parse(tag).is_err()));
    }
}
