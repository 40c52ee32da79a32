//! How statements and signatures are written: one value per `let`, one value per parameter.

use crate::findings::Findings;
use crate::items::{closing, functions, list};
use crate::lex::Token;
use crate::source::{File, program_files, root};

#[test]
fn a_let_has_one_value() {
    let mut found = Findings::default();
    for file in program_files(root()) {
        for at in paired_lets(&file.program()) {
            found.add(&file, at, "`let (a, b) = (x, y)`: write two `let` statements");
        }
    }
    found.none();
}

#[test]
fn no_parameter_is_a_tuple() {
    let mut found = Findings::default();
    for file in program_files(root()) {
        for at in tuple_parameters(&file.program()) {
            found.add(&file, at, "a tuple as a parameter: pass its parts, or a struct with named fields");
        }
    }
    found.none();
}

/// The positions of `let (a, b) = (x, y)`.
fn paired_lets(tokens: &[Token<'_>]) -> Vec<usize> {
    let is_let = |at: &usize| tokens[*at].text == "let" && is_paired(tokens, at + 1);
    (0..tokens.len()).filter(is_let).map(|at| tokens[at].at).collect()
}

/// Whether a tuple follows, then perhaps its type, then another tuple and the end of the statement.
fn is_paired(tokens: &[Token<'_>], pattern: usize) -> bool {
    if list(tokens, pattern).len() < 2 {
        return false;
    }
    let mut at = closing(tokens, pattern) + 1;
    if tokens.get(at).is_some_and(|token| token.text == ":") {
        at = closing(tokens, at + 1) + 1;
    }
    let is_assigned = tokens.get(at).is_some_and(|token| token.text == "=");
    let ends = tokens.get(closing(tokens, at + 1) + 1).is_some_and(|token| [";", "else"].contains(&token.text));
    is_assigned && list(tokens, at + 1).len() > 1 && ends
}

/// The positions of parameters that are tuples, by pattern or by type.
fn tuple_parameters(tokens: &[Token<'_>]) -> Vec<usize> {
    let parameters = functions(tokens).into_iter().flat_map(|function| function.parameters);
    parameters
        .filter(|parameter| is_tuple(&tokens[parameter.clone()]))
        .map(|parameter| tokens[parameter.start].at)
        .collect()
}

fn is_tuple(parameter: &[Token<'_>]) -> bool {
    let colon = parameter.iter().position(|token| token.text == ":").map_or(parameter.len(), |at| at + 1);
    begins_with_tuple(parameter) || begins_with_tuple(&parameter[colon..])
}

/// `(a, b)`, possibly after a reference.
fn begins_with_tuple(tokens: &[Token<'_>]) -> bool {
    let is_prefix = |token: &&Token<'_>| token.text == "&" || token.text == "mut" || token.text.starts_with('\'');
    let open = tokens.iter().take_while(is_prefix).count();
    let parts = list(tokens, open).len();
    // `&(dyn A + B)` is not a tuple.
    parts > 1 || parts == 1 && tokens[closing(tokens, open) - 1].text == ","
}

#[test]
fn calls_and_groups_are_not_tuples() {
    let of = |text: &str| {
        let file = File::new("src/a.rs".to_owned(), text.to_owned());
        let tokens = file.tokens();
        (paired_lets(&tokens).len(), tuple_parameters(&tokens).len())
    };
    assert_eq!(
        of("fn a() { let (a, b) = (x, y); let (c, d): (u8, u8) = (1, f(2, 3)); let (Some(e), _) = (f, g) else {}; }"),
        (3, 0)
    );
    assert_eq!(
        of("fn a() { let (a, b) = f(x, y); let c = (x, y); let (d, e) = (x, y).into(); if let (f, g) = (h, i) {} }"),
        (0, 0)
    );
    assert_eq!(of("fn a((b, c): (u8, u8), d: &(u8, u8), e: &'a mut (u8,)) {}"), (0, 3));
    assert_eq!(
        of("fn a<F: Fn((u8, u8))>(f: F, g: &[(u8, u8)], h: (), j: &(dyn K + L), i: fn(u8) -> (u8, u8)) { |(a, b)| a }"),
        (0, 0)
    );
}
