//! Tokens of PostgreSQL's SQL, as far as needed to find where a statement ends: quoted text, comments, words. Every
//! byte belongs to exactly one token, so nothing is lost.
//!
//! Works on bytes in any encoding whose non-ASCII characters contain no ASCII bytes (UTF-8, ISO 8859, unknown). Accepts
//! all input: an unclosed quote or comment extends to the end.

/// The kind of a token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TokenKind {
    Space,
    /// `--` up to the line break, or `/* ... */`, which may be nested.
    Comment,
    /// A keyword or an unquoted identifier.
    Word,
    /// `"..."`
    QuotedName,
    /// Any form of `'...'`, or `$tag$ ... $tag$`.
    Text,
    /// Any other byte. Also a run of digits, by its first digit.
    Sign(u8),
}

/// How a backslash in a plain `'...'` is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Backslashes {
    /// `standard_conforming_strings = on`
    Literal,
    Escape,
}

/// The token at the start of `text`, which must not be empty, and its length in bytes.
pub(crate) fn token(text: &[u8], backslashes: Backslashes) -> (TokenKind, usize) {
    if let Some(found) = space_or_comment(text) {
        return found;
    }
    if let Some(found) = quoted_token(text, backslashes) {
        return found;
    }
    word_or_sign(text)
}

fn word_or_sign(text: &[u8]) -> (TokenKind, usize) {
    match text[0] {
        // Only the digits. Letters after them begin the next token.
        digit if digit.is_ascii_digit() => (TokenKind::Sign(digit), run(text, |byte| byte.is_ascii_digit())),
        first if is_word_start(first) => (TokenKind::Word, run(text, is_word_part)),
        sign => (TokenKind::Sign(sign), 1),
    }
}

fn space_or_comment(text: &[u8]) -> Option<(TokenKind, usize)> {
    match text {
        [first, ..] if is_space(*first) => Some((TokenKind::Space, run(text, is_space))),
        [b'-', b'-', ..] => Some((TokenKind::Comment, run(text, |byte| byte != b'\n' && byte != b'\r'))),
        [b'/', b'*', ..] => Some((TokenKind::Comment, nested_comment(text))),
        _ => None,
    }
}

fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b
}

/// Strings and quoted names, including the prefix that determines how backslashes are read.
fn quoted_token(text: &[u8], backslashes: Backslashes) -> Option<(TokenKind, usize)> {
    match text {
        [b'\'', ..] => Some((TokenKind::Text, quoted(text, 0, backslashes))),
        [b'"', ..] => Some((TokenKind::QuotedName, quoted(text, 0, Backslashes::Literal))),
        [b'$', ..] => dollar_quoted(text).map(|len| (TokenKind::Text, len)),
        [b'e' | b'E', b'\'', ..] => Some((TokenKind::Text, quoted(text, 1, Backslashes::Escape))),
        [b'b' | b'B' | b'x' | b'X', b'\'', ..] => Some((TokenKind::Text, quoted(text, 1, Backslashes::Literal))),
        [b'n' | b'N', b'\'', ..] => Some((TokenKind::Text, quoted(text, 1, backslashes))),
        [b'u' | b'U', b'&', b'\'', ..] => Some((TokenKind::Text, quoted(text, 2, Backslashes::Literal))),
        [b'u' | b'U', b'&', b'"', ..] => Some((TokenKind::QuotedName, quoted(text, 2, Backslashes::Literal))),
        _ => None,
    }
}

fn is_word_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

fn is_word_part(byte: u8) -> bool {
    is_word_start(byte) || byte.is_ascii_digit() || byte == b'$'
}

fn run(text: &[u8], part: impl Fn(u8) -> bool) -> usize {
    text.iter().position(|&byte| !part(byte)).unwrap_or(text.len())
}

fn nested_comment(text: &[u8]) -> usize {
    let mut at = 2;
    let mut depth = 1_usize;
    while depth > 0 && at < text.len() {
        match &text[at..] {
            [b'*', b'/', ..] => {
                depth -= 1;
                at += 2;
            }
            [b'/', b'*', ..] => {
                depth += 1;
                at += 2;
            }
            _ => at += 1,
        }
    }
    at
}

/// Length of the text that opens with the quote at `start`, prefix included. A doubled quote does not close it.
fn quoted(text: &[u8], start: usize, backslashes: Backslashes) -> usize {
    let quote = text[start];
    let mut at = start + 1;
    while at < text.len() {
        match text[at] {
            b'\\' if backslashes == Backslashes::Escape => at += 2,
            byte if byte == quote && text.get(at + 1) == Some(&quote) => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

/// Length of `$tag$ ... $tag$`. None if it is something else, such as `$1`.
fn dollar_quoted(text: &[u8]) -> Option<usize> {
    let tag = dollar_tag(text)?;
    let mut at = tag.len();
    while let Some(next) = text[at..].iter().position(|&byte| byte == b'$') {
        at += next;
        if text[at..].starts_with(tag) {
            return Some(at + tag.len());
        }
        at += 1;
    }
    Some(text.len())
}

/// The opening `$tag$`.
fn dollar_tag(text: &[u8]) -> Option<&[u8]> {
    let tag_len = run(&text[1..], |byte| byte != b'$' && is_word_part(byte));
    let starts_well = tag_len == 0 || is_word_start(text[1]);
    let is_closed = text.get(1 + tag_len) == Some(&b'$');
    (starts_well && is_closed).then(|| &text[..tag_len + 2])
}

/// The tokens of a statement, without space and comments.
pub(crate) struct Tokens<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Tokens<'a> {
    /// The tokens of `text`.
    pub(crate) fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }
}

impl<'a> Iterator for Tokens<'a> {
    /// The offset, the kind and the bytes.
    type Item = (usize, TokenKind, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        while self.at < self.text.len() {
            let start = self.at;
            let (kind, len) = token(&self.text[start..], Backslashes::Literal);
            self.at += len;
            if !matches!(kind, TokenKind::Space | TokenKind::Comment) {
                return Some((start, kind, &self.text[start..self.at]));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kinds(text: &str) -> Vec<(TokenKind, &str)> {
        Tokens::new(text.as_bytes()).map(|(_, kind, bytes)| (kind, std::str::from_utf8(bytes).unwrap())).collect()
    }

    #[test]
    fn every_kind_of_quote_is_recognized() {
        assert_eq!(kinds("a$b$ c"), [(TokenKind::Word, "a$b$"), (TokenKind::Word, "c")]);
        assert_eq!(
            kinds("$1;$$;$$;"),
            [
                (TokenKind::Sign(b'$'), "$"),
                (TokenKind::Sign(b'1'), "1"),
                (TokenKind::Sign(b';'), ";"),
                (TokenKind::Text, "$$;$$"),
                (TokenKind::Sign(b';'), ";"),
            ]
        );
        assert_eq!(kinds("$_$ $$ $_ $_$x"), [(TokenKind::Text, "$_$ $$ $_ $_$"), (TokenKind::Word, "x")]);
        assert_eq!(kinds("$я$;$я$"), [(TokenKind::Text, "$я$;$я$")]);
        assert_eq!(
            kinds(r"E'\';''' '\'x"),
            [(TokenKind::Text, r"E'\';'''"), (TokenKind::Text, r"'\'"), (TokenKind::Word, "x")]
        );
        assert_eq!(kinds("\"a\"\";\"b"), [(TokenKind::QuotedName, "\"a\"\";\""), (TokenKind::Word, "b")]);
        assert_eq!(
            kinds("U&\"a;\" U&';' n';' x';'").iter().filter(|(kind, _)| *kind == TokenKind::Sign(b';')).count(),
            0
        );
        assert_eq!(kinds("/* /* ; */ ; */b--;\nc"), [(TokenKind::Word, "b"), (TokenKind::Word, "c")]);
        assert_eq!(kinds("name'x'"), [(TokenKind::Word, "name"), (TokenKind::Text, "'x'")]);
        assert_eq!(token(br"'\';'", Backslashes::Escape), (TokenKind::Text, 5));
        assert_eq!(kinds("'open;"), [(TokenKind::Text, "'open;")]);
    }

    proptest! {
        #![proptest_config(crate::base::property::config())]

        #[test]
        fn every_byte_is_in_a_token(text in proptest::collection::vec(prop_oneof![proptest::sample::select(&b"'\"$-/*\\;aE \n\xc3"[..]), any::<u8>()], 0..60)) {
            let mut at = 0;
            while at < text.len() {
                let (_, len) = token(&text[at..], Backslashes::Escape);
                prop_assert!(len > 0 && at + len <= text.len());
                at += len;
            }
        }
    }
}
