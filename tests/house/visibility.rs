//! What is public is used by another file, and a type's name says which type it is.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::findings::Findings;
use crate::items::{public_faces, public_items};
use crate::lex::{Token, TokenKind};
use crate::measures::repeated_types;
use crate::source::{File, program_files, root, rust_files};

const TYPES: &[&str] = &["struct", "enum", "trait", "union", "type"];

#[test]
fn what_is_public_is_used_elsewhere() {
    let src = rust_files("src");
    let others = rust_files("tests");
    let words = FileWords::of(src.iter().chain(&others));
    let mut found = Findings::default();
    for file in program_files(root()).iter().filter(|file| !file.is_door()) {
        let tokens = file.program();
        let faces = public_faces(&tokens);
        for item in public_items(&tokens) {
            let is_shown = TYPES.contains(&item.keyword) && is_in(&tokens, &faces, item.name);
            if !is_shown && !words.are_elsewhere(item.name, &file.path) {
                let what = format!("`{} {}` is public, and no other file uses it", item.keyword, item.name);
                found.add(file, tokens[item.at].at, &what);
            }
        }
    }
    found.none();
}

#[test]
fn no_two_types_have_one_name() {
    let repeated: Vec<String> = repeated_types(&program_files(root()))
        .into_iter()
        .map(|(name, paths)| format!("{name}: {}", paths.join(" ")))
        .collect();
    assert!(repeated.is_empty(), "types that are defined twice:\n{}", repeated.join("\n"));
}

/// Whether a public signature or type of the same file names it: then it has to be public too.
fn is_in(tokens: &[Token<'_>], faces: &[Range<usize>], name: &str) -> bool {
    faces.iter().flat_map(|face| &tokens[face.clone()]).any(|token| token.text == name)
}

/// In which files each word is.
struct FileWords<'a>(BTreeMap<&'a str, BTreeSet<&'a str>>);

impl<'a> FileWords<'a> {
    /// Doors only pass on what others may use.
    fn of(files: impl Iterator<Item = &'a File>) -> Self {
        let mut words: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for file in files.filter(|file| !(file.path.starts_with("src/") && file.is_door())) {
            for token in file.tokens().into_iter().filter(|token| token.kind == TokenKind::Word) {
                words.entry(token.text).or_default().insert(&file.path);
            }
        }
        Self(words)
    }

    fn are_elsewhere(&self, word: &str, file: &str) -> bool {
        self.0.get(word).is_some_and(|files| files.iter().any(|path| *path != file))
    }
}

#[test]
fn a_type_that_is_shown_has_to_be_public() {
    let file = File::new("src/a.rs".to_owned(), "pub struct A; pub struct B; pub fn c() -> A {}".to_owned());
    let other = File::new("src/b.rs".to_owned(), "fn d() { c() }".to_owned());
    let tokens = file.tokens();
    let faces = public_faces(&tokens);
    assert!(is_in(&tokens, &faces, "A") && !is_in(&tokens, &faces, "B"));
    let words = FileWords::of([&file, &other].into_iter());
    assert!(words.are_elsewhere("c", "src/a.rs") && !words.are_elsewhere("B", "src/a.rs"));
}
