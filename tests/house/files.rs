//! Rules for every file: a meaningful name, a first line that describes it, a `mod` declaration, and a maximum length.

use std::fs;

use crate::findings::Findings;
use crate::items::functions;
use crate::source::{File, root, rust_files};

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;
/// Names that say nothing about the content.
const EMPTY_NAMES: &[&str] = &["util", "utils", "misc", "helper", "helpers", "common", "prelude", "shared", "types"];

#[test]
fn files_begin_with_a_description() {
    let mut found = Findings::default();
    for file in rust_files("src").iter().chain(&rust_files("tests")) {
        if !file.text.starts_with("//! ") {
            found.add(file, 0, "does not begin with `//!`");
        }
    }
    found.none();
}

#[test]
fn files_have_meaningful_names_and_are_declared() {
    let mut found = Findings::default();
    for file in &rust_files("src") {
        let path = file.path.trim_end_matches(".rs").trim_end_matches("/mod");
        if path.rsplit('/').next().is_some_and(|name| EMPTY_NAMES.contains(&name)) {
            found.add(file, 0, "a name that says nothing about the content");
        }
    }
    for file in rust_files("src").iter().chain(&rust_files("tests")) {
        if let Some((parent_file, name)) = parent_file(file) {
            let declared = fs::read_to_string(root().join(&parent_file)).is_ok_and(|text| text.contains(&name));
            if !declared {
                found.add(file, 0, &format!("{parent_file} has no `{name}`: this file is not compiled"));
            }
        }
    }
    found.none();
}

#[test]
fn files_are_short() {
    let mut found = Findings::default();
    for file in rust_files("src") {
        let lines = (0..file.starts.len()).filter(|line| !file.is_test(file.starts[*line])).count();
        if lines > FILE_LINES_MAX {
            found.add(&file, 0, &format!("{lines} lines without its tests, at most {FILE_LINES_MAX}"));
        }
    }
    found.none();
}

#[test]
fn functions_are_short() {
    let mut found = Findings::default();
    for file in rust_files("src").iter().chain(&rust_files("tests")) {
        let tokens = file.tokens();
        for function in functions(&tokens) {
            let start = tokens[function.whole.start].at;
            let lines = file.line(tokens[function.whole.end - 1].at) - file.line(start) + 1;
            if lines > FUNCTION_LINES_MAX {
                found.add(file, start, &format!("{lines} lines, at most {FUNCTION_LINES_MAX}"));
            }
        }
    }
    found.none();
}

/// The file that must declare this file as a module, and the declaration.
fn parent_file(file: &File) -> Option<(String, String)> {
    let (folder, name) = file.path.rsplit_once('/')?;
    let (folder, name) = match name.strip_suffix(".rs")? {
        "lib" | "main" => return None,
        "mod" => folder.rsplit_once('/')?,
        name => (folder, name),
    };
    let parent_file = match folder {
        "src" => "src/lib.rs".to_owned(),
        // Cargo finds these itself, and each `main.rs` declares `support`.
        "tests" => return None,
        _ => ["mod.rs", "main.rs"]
            .map(|parent_file| format!("{folder}/{parent_file}"))
            .into_iter()
            .find(|parent_file| root().join(parent_file).exists())?,
    };
    Some((parent_file, format!("mod {name};")))
}
