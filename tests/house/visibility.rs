//! Public items are used by another file, and no two types have the same name.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::findings::Findings;
use crate::items::{public_faces, public_items};
use crate::lex::{Token, TokenKind};
use crate::measures::repeated_types;
use crate::source::{File, program_files, root, rust_files};

const TYPES: &[&str] = &["struct", "enum", "trait", "union", "type"];

#[test]
fn public_items_are_used_by_another_file() {
    let src = rust_files("src");
    let others = rust_files("tests");
    let words = FileWords::of(src.iter().chain(&others));
    let mut found = Findings::default();
    for file in program_files(root()).iter().filter(|file| !file.is_mod_file()) {
        let tokens = file.program();
        let faces = public_faces(&tokens);
        for item in public_items(&tokens) {
            let is_shown = TYPES.contains(&item.keyword) && is_in(&tokens, &faces, item.name);
            if !is_shown && !words.are_elsewhere(item.name, &file.path) {
                let what = format!("`{} {}` is public, but no other file uses it", item.keyword, item.name);
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
    assert!(repeated.is_empty(), "types with more than one definition:\n{}", repeated.join("\n"));
}

/// Whether a public signature or type of the same file names it. If so, it must be public too.
fn is_in(tokens: &[Token<'_>], faces: &[Range<usize>], name: &str) -> bool {
    faces.iter().flat_map(|face| &tokens[face.clone()]).any(|token| token.text == name)
}

/// The files that contain each word.
struct FileWords<'a>(BTreeMap<&'a str, BTreeSet<&'a str>>);

impl<'a> FileWords<'a> {
    /// Skips `mod.rs` files, which only re-export.
    fn of(files: impl Iterator<Item = &'a File>) -> Self {
        let mut words: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for file in files.filter(|file| !(file.path.starts_with("src/") && file.is_mod_file())) {
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
fn a_type_in_a_public_signature_may_be_public() {
    let file = File::new("src/a.rs".to_owned(), "pub struct A; pub struct B; pub fn c() -> A {}".to_owned());
    let other = File::new("src/b.rs".to_owned(), "fn d() { c() }".to_owned());
    let tokens = file.tokens();
    let faces = public_faces(&tokens);
    assert!(is_in(&tokens, &faces, "A") && !is_in(&tokens, &faces, "B"));
    let words = FileWords::of([&file, &other].into_iter());
    assert!(words.are_elsewhere("c", "src/a.rs") && !words.are_elsewhere("B", "src/a.rs"));
}
