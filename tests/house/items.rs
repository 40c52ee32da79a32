//! Items of a file, found in its tokens: functions with their parameters, types, and public items.

use std::ops::Range;

use crate::lex::{Token, TokenKind};

/// A function with a body. Ranges are ranges of tokens.
pub struct Function<'a> {
    pub name: &'a str,
    /// From `fn` to the closing brace of the body.
    pub whole: Range<usize>,
    pub parameters: Vec<Range<usize>>,
}

/// An item or method that others may use.
pub struct Public<'a> {
    pub keyword: &'a str,
    pub name: &'a str,
    pub at: usize,
}

const TYPE_KEYWORDS: &[&str] = &["struct", "enum", "trait", "union"];
const ITEM_KEYWORDS: &[&str] = &["fn", "struct", "enum", "trait", "union", "type", "const", "static"];

/// The position of the token that closes the bracket at `open`, whatever its kind.
pub fn closing(tokens: &[Token<'_>], open: usize) -> usize {
    let mut depth = 0;
    for (i, token) in tokens.iter().enumerate().skip(open) {
        match token.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return i;
        }
    }
    tokens.len()
}

/// Every function with a body, including nested ones.
pub fn functions<'a>(tokens: &[Token<'a>]) -> Vec<Function<'a>> {
    let starts = (0..tokens.len().saturating_sub(1)).filter(|at| is_item(tokens, *at, "fn"));
    starts.filter_map(|at| function(tokens, at)).collect()
}

fn function<'a>(tokens: &[Token<'a>], at: usize) -> Option<Function<'a>> {
    let body = body(tokens, at)?;
    let signature = &tokens[..body.start];
    let open = at + 2 + generics_len(&signature[at + 2..]);
    let parameters = list(signature, open);
    Some(Function { name: tokens[at + 1].text, whole: at..body.end, parameters })
}

/// The body of the function that begins at `at`, with its braces, or `None` for a declaration.
fn body(tokens: &[Token<'_>], at: usize) -> Option<Range<usize>> {
    let mut i = at;
    while i < tokens.len() {
        match tokens[i].text {
            "(" | "[" => i = closing(tokens, i),
            ";" => return None,
            "{" => return Some(i..closing(tokens, i) + 1),
            _ => {}
        }
        i += 1;
    }
    None
}

/// The return type of the function that begins at `at`, with its arrow. Empty if there is none.
pub fn return_type(tokens: &[Token<'_>], at: usize) -> Range<usize> {
    let open = at + 2 + generics_len(&tokens[at + 2..]);
    let start = closing(tokens, open) + 1;
    let ends = |token: &Token<'_>| ["{", ";", "where"].contains(&token.text);
    let len = tokens[start..].iter().position(ends).unwrap_or_default();
    start..start + len
}

/// The number of tokens in a leading `<...>`, or 0.
fn generics_len(tokens: &[Token<'_>]) -> usize {
    let mut depth = 0;
    for (i, token) in tokens.iter().enumerate() {
        match token.text {
            "<" => depth += 1,
            ">" if i > 0 && tokens[i - 1].text == "-" => {}
            ">" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return if i == 0 { 0 } else { i + 1 };
        }
    }
    0
}

/// The parts of the list in parentheses that opens at `open`.
pub fn list(tokens: &[Token<'_>], open: usize) -> Vec<Range<usize>> {
    if tokens.get(open).is_none_or(|token| token.text != "(") {
        return Vec::new();
    }
    let end = closing(tokens, open);
    let mut parts = Vec::new();
    let mut start = open + 1;
    let mut angles = 0;
    let mut i = open + 1;
    while i < end {
        match tokens[i].text {
            "(" | "[" | "{" => i = closing(tokens, i),
            "<" => angles += 1,
            ">" if tokens[i - 1].text != "-" => angles -= 1,
            "," if angles <= 0 => {
                parts.push(start..i);
                start = i + 1;
            }
            _ => {}
        }
        i += 1;
    }
    if start < end {
        parts.push(start..end);
    }
    parts
}

/// Whether an item with this keyword begins at `at`: `fn name`, but not the type `fn(u8)`.
fn is_item(tokens: &[Token<'_>], at: usize, keyword: &str) -> bool {
    tokens[at].kind == TokenKind::Word && tokens[at].text == keyword && tokens[at + 1].kind == TokenKind::Word
}

/// The name tokens of structs, enums, traits and unions.
pub fn types<'a>(tokens: &[Token<'a>]) -> Vec<Token<'a>> {
    let is_type = |at: &usize| {
        let is_keyword = TYPE_KEYWORDS.iter().any(|keyword| is_item(tokens, *at, keyword));
        is_keyword && tokens[at + 1].text.starts_with(|c: char| c.is_uppercase())
    };
    (0..tokens.len().saturating_sub(1)).filter(is_type).map(|at| tokens[at + 1]).collect()
}

/// Items and methods with `pub`, `pub(crate)` and so on, but not modules, imports and fields.
pub fn public_items<'a>(tokens: &[Token<'a>]) -> Vec<Public<'a>> {
    let mut items = Vec::new();
    for (i, _) in tokens.iter().enumerate().filter(|(_, token)| token.text == "pub") {
        let mut at = i + 1;
        if tokens.get(at).is_some_and(|token| token.text == "(") {
            at = closing(tokens, at) + 1;
        }
        while tokens.get(at).is_some_and(|token| is_modifier(tokens, at, token)) {
            at += 1;
        }
        let [Some(keyword), Some(name)] = [tokens.get(at), tokens.get(at + 1)] else { continue };
        if ITEM_KEYWORDS.contains(&keyword.text) && name.kind == TokenKind::Word {
            items.push(Public { keyword: keyword.text, name: name.text, at });
        }
    }
    items
}

/// `const fn`, `async fn`, `unsafe trait`.
fn is_modifier(tokens: &[Token<'_>], at: usize, token: &Token<'_>) -> bool {
    let before_fn = tokens.get(at + 1).is_some_and(|next| ["fn", "async", "unsafe"].contains(&next.text));
    ["async", "unsafe"].contains(&token.text) || token.text == "const" && before_fn
}

/// The tokens that show others what the public items of a file consist of: signatures of functions, complete types,
/// traits and constants, and associated types.
pub fn public_faces(tokens: &[Token<'_>]) -> Vec<Range<usize>> {
    let face = |item: Public<'_>| {
        let whole = item_range(tokens, item.at);
        match (item.keyword, body(tokens, item.at)) {
            ("fn", Some(body)) => item.at + 2..body.start,
            _ => item.at + 2..whole.end,
        }
    };
    let associated = (0..tokens.len().saturating_sub(1)).filter(|at| is_item(tokens, *at, "type"));
    let associated = associated.map(|at| at + 2..item_range(tokens, at).end);
    public_items(tokens).into_iter().map(face).chain(associated).collect()
}

/// From the keyword of an item to its end.
pub fn item_range(tokens: &[Token<'_>], at: usize) -> Range<usize> {
    let mut i = at;
    while i < tokens.len() {
        match tokens[i].text {
            "(" | "[" => i = closing(tokens, i),
            ";" => return at..i + 1,
            "{" => return at..closing(tokens, i) + 1,
            _ => {}
        }
        i += 1;
    }
    at..tokens.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::File;

    fn file(text: &str) -> File {
        File::new("src/a.rs".to_owned(), text.to_owned())
    }

    #[test]
    fn functions_are_found_with_parameters_and_length() {
        let file =
            file("fn a<F: Fn(u8) -> u8>(f: F, (b, c): (u8, Vec<(u8, u8)>)) -> [u8; 3] { f() }\nfn none(); x: fn(u8)");
        let tokens = file.tokens();
        let [function] = &functions(&tokens)[..] else { panic!("one function") };
        assert_eq!((function.name, function.parameters.len()), ("a", 2));
        assert_eq!(tokens[function.parameters[1].start].text, "(");
        assert_eq!(function.whole.end, tokens.len() - 11);
    }

    #[test]
    fn public_items_are_found() {
        let file = file(
            "pub struct A { pub b: u8 } pub(crate) const fn c(d: D) {} pub const E: u8 = 1; pub use f::g; pub mod h;
             enum I {} impl A { pub(super) async fn j() {} }",
        );
        let tokens = file.tokens();
        let names: Vec<&str> = public_items(&tokens).iter().map(|item| item.name).collect();
        assert_eq!(names, ["A", "c", "E", "j"]);
        let shown: Vec<&str> = public_faces(&tokens).into_iter().flatten().map(|at| tokens[at].text).collect();
        assert!(shown.contains(&"D") && !shown.contains(&"I"), "{shown:?}");
        assert_eq!(types(&tokens).iter().map(|name| name.text).collect::<Vec<_>>(), ["A", "I"]);
    }
}
