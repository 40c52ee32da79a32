//! Tags of snapshots, as written. A tag must not be taken for anything else that names a snapshot.

/// `text`, if it can be a tag.
pub(crate) fn parse(text: &str) -> Result<String, String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if text.is_empty() || text.len() > 64 || !text.bytes().all(fits) {
        return Err("a tag is of 1 to 64 letters, digits, '-', '_' and '.'".to_owned());
    }
    if text == "latest" || text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err("this would be taken for another name of a snapshot".to_owned());
    }
    Ok(text.to_owned())
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
