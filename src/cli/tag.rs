//! Tags of snapshots, as written. A tag must not be taken for anything else that names a snapshot.

/// Longest tag.
const BYTES_MAX: usize = 64;

/// `text`, if it can be a tag.
pub(crate) fn parse(text: &str) -> Result<String, String> {
    if !is_word(text) {
        return Err("a tag is of 1 to 64 letters, digits, '-', '_' and '.'".to_owned());
    }
    if names_something_else(text) {
        return Err("this would be taken for another name of a snapshot".to_owned());
    }
    Ok(text.to_owned())
}

fn is_word(text: &str) -> bool {
    let is_valid = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=BYTES_MAX).contains(&text.len()) && text.bytes().all(is_valid)
}

/// Whether `text` is taken for the newest snapshot or for the beginning of an id.
fn names_something_else(text: &str) -> bool {
    text == "latest" || text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn tags_are_words_that_name_nothing_else() {
        assert!(["before-migration", "v1.2", "keep_me"].iter().all(|tag| parse(tag).is_ok()));
        assert!(["", "latest", "latest~2", "abc", "1234", "a b", "ü"].iter().all(|tag| parse(tag).is_err()));
    }
}
