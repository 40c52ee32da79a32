//! Which folder may import which, and what `mod.rs` files may contain.

use crate::findings::Findings;
use crate::source::rust_files;

/// The layers from the bottom up. Imports go down, and folders of one layer do not import each other.
const LAYERS: &[&[&str]] =
    &[&["base"], &["crypto", "format"], &["store", "tree", "sort"], &["repo", "engine"], &["ops"], &["cli"]];

#[test]
fn imports_go_down() {
    let mut found = Findings::default();
    for file in rust_files("src") {
        for (at, _) in file.code.match_indices("crate::") {
            if file.code[..at].ends_with('$') {
                continue;
            }
            for name in first_segments(&file.code[at + "crate::".len()..]) {
                if !may_import(&file.folder(), &name) {
                    found.add(&file, at, &format!("{} may not import crate::{name}", file.folder()));
                }
            }
        }
        for (at, _) in file.code.match_indices("super::super::") {
            found.add(&file, at, "super::super: write the path from crate::");
        }
        if file.path.ends_with("/mod.rs") && file.path.matches('/').count() == 2 {
            for (at, _) in file.code.match_indices("super::") {
                found.add(&file, at, "super:: is the crate root here: write the path from crate::");
            }
        }
    }
    found.none();
}

#[test]
fn main_uses_only_the_cli() {
    let mut found = Findings::default();
    for file in rust_files("src").iter().filter(|file| file.path == "src/main.rs") {
        for (at, _) in file.code.match_indices("sidekeep::") {
            if !file.code[at..].starts_with("sidekeep::cli") {
                found.add(file, at, "main.rs may only use the cli");
            }
        }
    }
    found.none();
}

#[test]
fn imports_name_what_they_use() {
    let mut found = Findings::default();
    for file in rust_files("src") {
        for (at, _) in file.code.match_indices("::*") {
            let line = file.line_text(at);
            let in_test = file.is_test(at) && (line.contains("super::*") || line.contains("proptest::prelude::*"));
            if line.contains("use ") && !in_test {
                found.add(&file, at, "a glob import: name what is used");
            }
        }
    }
    found.none();
}

#[test]
fn mod_files_contain_no_code() {
    let mut found = Findings::default();
    for file in rust_files("src").iter().filter(|file| file.path.ends_with("mod.rs") || file.path == "src/lib.rs") {
        let mut at = 0;
        for statement in file.code.split_inclusive(';') {
            let start = at + statement.len() - statement.trim_start().len();
            at += statement.len();
            let words = without_attributes(statement);
            let item = words.strip_prefix("pub").map_or(words, |rest| rest.trim_start_matches("(crate)").trim_start());
            let is_mod = item.starts_with("mod ") && item.ends_with(';');
            let is_reexport = words.starts_with("pub") && item.starts_with("use ");
            if !words.is_empty() && !is_mod && !is_reexport {
                found.add(file, start, "only `mod` and `pub use` belong here: move code to another file of the folder");
                break;
            }
        }
    }
    found.none();
}

fn may_import(folder: &str, name: &str) -> bool {
    let layer = |folder: &str| LAYERS.iter().position(|layer| layer.contains(&folder));
    folder == name || matches!((layer(folder), layer(name)), (Some(own), Some(other)) if other < own)
}

/// First segments of the paths after `crate::`.
fn first_segments(rest: &str) -> Vec<String> {
    let name = |path: &str| path.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    if !rest.starts_with('{') {
        return vec![name(rest)];
    }
    let mut depth = 0;
    let mut paths = vec![String::new()];
    for c in rest.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => break,
            '}' => depth -= 1,
            ',' if depth == 1 => paths.push(String::new()),
            _ if depth == 1 => paths.last_mut().expect("it starts with one path").push(c),
            _ => {}
        }
    }
    paths.iter().map(|path| name(path)).filter(|name| !name.is_empty()).collect()
}

/// A statement without its leading attributes.
fn without_attributes(statement: &str) -> &str {
    let mut rest = statement.trim();
    while rest.starts_with("#[") || rest.starts_with("#!") {
        rest = rest.split_once(']').map_or("", |(_, rest)| rest.trim());
    }
    rest
}

#[test]
fn layers_and_paths_are_parsed() {
    assert_eq!(first_segments("{base::id, format::{a, b},\n  tree}"), ["base", "format", "tree"]);
    assert_eq!(first_segments("base::id::Id;"), ["base"]);
    assert!(may_import("repo", "sort") && may_import("repo", "repo"));
    assert!(!may_import("crypto", "format") && !may_import("store", "repo"));
}
