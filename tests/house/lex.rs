//! Splits Rust source text into tokens: enough to count them and to find items, without a parser.

use std::ops::Range;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TokenKind {
    Space,
    Comment,
    /// A string, byte string or character.
    Literal,
    Number,
    Lifetime,
    /// A name or keyword.
    Word,
    /// One character of punctuation.
    Mark,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Token<'a> {
    pub kind: TokenKind,
    pub text: &'a str,
    /// Byte offset of its start.
    pub at: usize,
}

/// All tokens of a text. Concatenated, they are the text.
pub fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let (kind, len) = first(&text[at..]);
        tokens.push(Token { kind, text: &text[at..at + len], at });
        at += len;
    }
    tokens
}

/// The text with comments and the contents of literals replaced by spaces. The length in bytes stays the same.
pub fn blank(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for token in tokens(text) {
        let blanked = blanked(token);
        out.push_str(&token.text[..blanked.start]);
        out.extend(token.text.as_bytes()[blanked.clone()].iter().map(|byte| if *byte == b'\n' { '\n' } else { ' ' }));
        out.push_str(&token.text[blanked.end..]);
    }
    out
}

/// The part of a token that is not code.
fn blanked(token: Token<'_>) -> Range<usize> {
    let len = token.text.len();
    match token.kind {
        TokenKind::Comment => 0..len,
        TokenKind::Literal => {
            let quote = if token.text.ends_with('\'') { '\'' } else { '"' };
            let open = token.text.find(quote).map_or(len, |at| at + 1);
            let close = token.text.rfind(quote).unwrap_or(len);
            open..close.max(open)
        }
        _ => 0..0,
    }
}

/// Kind and length of the first token of a text.
fn first(rest: &str) -> (TokenKind, usize) {
    let c = rest.chars().next().unwrap_or_default();
    if let Some(len) = raw_string_len(rest) {
        (TokenKind::Literal, len)
    } else if let Some(len) = quoted_len(rest) {
        (TokenKind::Literal, len)
    } else if rest.starts_with("//") {
        (TokenKind::Comment, rest.find('\n').unwrap_or(rest.len()))
    } else if rest.starts_with("/*") {
        (TokenKind::Comment, comment_len(rest))
    } else if c.is_whitespace() {
        (TokenKind::Space, run_len(rest, char::is_whitespace))
    } else if c.is_ascii_digit() {
        (TokenKind::Number, number_len(rest))
    } else if is_word_char(c) {
        (TokenKind::Word, run_len(rest, is_word_char))
    } else if c == '\'' {
        (TokenKind::Lifetime, 1 + run_len(&rest[1..], is_word_char))
    } else {
        (TokenKind::Mark, c.len_utf8())
    }
}

fn is_word_char(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The length in bytes of the leading characters that match.
fn run_len(rest: &str, is_part: impl Fn(char) -> bool) -> usize {
    rest.find(|c| !is_part(c)).unwrap_or(rest.len())
}

/// `1..2` and `pair.0.len()` end before the dot, `1.5` does not.
fn number_len(rest: &str) -> usize {
    let whole = run_len(rest, is_word_char);
    let fraction =
        rest[whole..].strip_prefix('.').filter(|fraction| fraction.starts_with(|c: char| c.is_ascii_digit()));
    fraction.map_or(whole, |fraction| whole + 1 + run_len(fraction, is_word_char))
}

fn raw_string_len(rest: &str) -> Option<usize> {
    let prefix = ["r", "br", "cr"].into_iter().find(|prefix| {
        let hashes = rest.strip_prefix(prefix).map(|raw| raw.trim_start_matches('#'));
        hashes.is_some_and(|text| text.starts_with('"'))
    })?;
    let raw = &rest[prefix.len()..];
    let hashes = run_len(raw, |c| c == '#');
    let open = prefix.len() + hashes + 1;
    let end = format!("\"{}", "#".repeat(hashes));
    Some(rest[open..].find(&end).map_or(rest.len(), |inside| open + inside + end.len()))
}

/// Length of a quoted literal with escapes.
fn quoted_len(rest: &str) -> Option<usize> {
    let prefix = run_len(rest, |c| c == 'b' || c == 'c');
    let quoted = &rest[prefix..];
    if prefix > 1 || !(quoted.starts_with('"') || is_char(quoted)) {
        return None;
    }
    let quote = quoted.as_bytes()[0];
    let mut escaped = false;
    for (i, byte) in quoted.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            byte if byte == quote => return Some(prefix + i + 1),
            _ => {}
        }
    }
    Some(rest.len())
}

/// Whether a character literal begins here, rather than a lifetime.
fn is_char(rest: &str) -> bool {
    let mut chars = rest.chars();
    match (chars.next(), chars.next(), chars.next()) {
        (Some('\''), Some('\\'), _) => true,
        (Some('\''), Some(_), last) => last == Some('\''),
        _ => false,
    }
}

/// Length of a block comment. Block comments nest.
fn comment_len(rest: &str) -> usize {
    let mut depth = 0;
    for (i, pair) in rest.as_bytes().windows(2).enumerate() {
        match pair {
            b"/*" => depth += 1,
            b"*/" if depth == 1 => return i + 2,
            b"*/" => depth -= 1,
            _ => {}
        }
    }
    rest.len()
}

#[test]
fn comments_and_literals_are_blanked() {
    let code = blank("let a = \"fn {\"; // fn {\nlet b = '{'; /* { /* } */ */ let c: &'static str = r#\"}\"#;");
    assert_eq!(code, "let a = \"    \";        \nlet b = ' ';                 let c: &'static str = r#\" \"#;");
}

#[test]
fn tokens_are_words_numbers_literals_and_marks() {
    let text = "let x: &'a str = b\"y\"; // no\n0..1.5 r#\"z\"# '\\''";
    let of =
        |kind| tokens(text).into_iter().filter(|token| token.kind == kind).map(|token| token.text).collect::<Vec<_>>();
    assert_eq!(of(TokenKind::Word), ["let", "x", "str"]);
    assert_eq!(of(TokenKind::Lifetime), ["'a"]);
    assert_eq!(of(TokenKind::Number), ["0", "1.5"]);
    assert_eq!(of(TokenKind::Literal), ["b\"y\"", "r#\"z\"#", "'\\''"]);
    assert_eq!(of(TokenKind::Mark), [":", "&", "=", ";", ".", "."]);
    assert_eq!(tokens(text).iter().map(|token| token.text).collect::<String>(), text);
}
