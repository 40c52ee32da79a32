//! The docstring of a public function that returns a `Result` says when it fails.

use std::ops::Range;

use crate::findings::Findings;
use crate::items::{item_range, public_items, return_type};
use crate::lex::Token;
use crate::source::{File, program_files, root};

/// A docstring must contain one of these.
const WORDS: &[&str] = &["Fails", "fails"];

#[test]
fn public_functions_say_when_they_fail() {
    let mut found = Findings::default();
    for file in &program_files(root()) {
        let tokens = file.program();
        for at in silent_functions(file, &tokens) {
            let what = format!("`{}` returns a `Result`: add \"Fails if ...\" to its docstring", tokens[at + 1].text);
            found.add(file, tokens[at].at, &what);
        }
    }
    found.none();
}

/// The positions of public functions that return a `Result`, and whose docstring does not say when they fail.
fn silent_functions(file: &File, tokens: &[Token<'_>]) -> Vec<usize> {
    let fallible = public_functions(tokens).into_iter().filter(|at| is_fallible(tokens, *at));
    fallible.filter(|at| !says_when_it_fails(&docstring(file, tokens[*at].at))).collect()
}

/// The positions of all functions and methods that other files may call.
fn public_functions(tokens: &[Token<'_>]) -> Vec<usize> {
    let mut functions = Vec::new();
    for item in public_items(tokens) {
        match item.keyword {
            "fn" => functions.push(item.at),
            "trait" => functions.extend(methods(tokens, item_range(tokens, item.at))),
            _ => {}
        }
    }
    functions
}

fn methods<'t>(tokens: &'t [Token<'_>], of_trait: Range<usize>) -> impl Iterator<Item = usize> + 't {
    of_trait.filter(|at| tokens[*at].text == "fn")
}

fn is_fallible(tokens: &[Token<'_>], at: usize) -> bool {
    tokens[return_type(tokens, at)].iter().any(|token| token.text == "Result")
}

fn says_when_it_fails(docstring: &str) -> bool {
    WORDS.iter().any(|word| docstring.contains(word))
}

/// The lines of the docstring before the item on the line of `at`.
fn docstring(file: &File, at: usize) -> String {
    let before: Vec<&str> = file.text.lines().take(file.line(at) - 1).map(str::trim).collect();
    let above = before.into_iter().rev().take_while(|line| !ends_item(line));
    above.filter(|line| line.starts_with("///")).collect()
}

/// Whether a line is before the docstring and the attributes of the next item.
fn ends_item(line: &str) -> bool {
    line.is_empty() || !line.starts_with("///") && line.ends_with(['{', '}', ';'])
}

#[test]
fn silent_functions_are_found() {
    let silent = |text: &str| -> Vec<String> {
        let file = File::new("src/a.rs".to_owned(), text.to_owned());
        let tokens = file.tokens();
        silent_functions(&file, &tokens).into_iter().map(|at| tokens[at + 1].text.to_owned()).collect()
    };
    let said = "/// A.\n/// Fails if b.\n#[expect(\n    c,\n    reason = \"d;\"\n)]\npub fn e() -> Result<F, G> {}\n";
    assert!(silent(said).is_empty());
    assert_eq!(silent(&said.replace("Fails", "Returns")), ["e"]);
    assert_eq!(silent(&format!("{said}pub(super) async fn h<I>(i: I) -> io::Result<()> where I: J {{}}\n")), ["h"]);
    assert_eq!(silent("pub trait A {\n/// B.\nfn c(&self) -> Result<D, E>;\n}\n"), ["c"]);
    assert!(
        silent(
            "trait A {\nfn c() -> Result<D, E>;\n}\npub fn f(g: fn() -> Result<H, I>) {}\nfn j() -> Result<K, L> {}\n"
        )
        .is_empty()
    );
}
