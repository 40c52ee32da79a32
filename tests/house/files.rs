//! What every file has: a name, a first line that says what it is, a place in the tree, and a limited length.

use std::fs;

use crate::findings::Findings;
use crate::items::functions;
use crate::source::{File, root, rust_files};

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;
/// Names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] = &["util", "utils", "misc", "helper", "helpers", "common", "prelude", "shared", "types"];

#[test]
fn files_say_what_they_are() {
    let mut found = Findings::default();
    for file in rust_files("src").iter().chain(&rust_files("tests")) {
        if !file.text.starts_with("//! ") {
            found.add(file, 0, "opens without `//!`");
        }
    }
    found.none();
}

#[test]
fn files_have_names_and_are_used() {
    let mut found = Findings::default();
    for file in &rust_files("src") {
        let path = file.path.trim_end_matches(".rs").trim_end_matches("/mod");
        if path.rsplit('/').next().is_some_and(|name| EMPTY_NAMES.contains(&name)) {
            found.add(file, 0, "a name that says nothing");
        }
    }
    for file in rust_files("src").iter().chain(&rust_files("tests")) {
        if let Some((door, name)) = door(file) {
            let declared = fs::read_to_string(root().join(&door)).is_ok_and(|text| text.contains(&name));
            if !declared {
                found.add(file, 0, &format!("{door} has no `{name}`: nothing compiles this file"));
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

/// The file that must declare this one, and how.
fn door(file: &File) -> Option<(String, String)> {
    let (folder, name) = file.path.rsplit_once('/')?;
    let (folder, name) = match name.strip_suffix(".rs")? {
        "lib" | "main" => return None,
        "mod" => folder.rsplit_once('/')?,
        name => (folder, name),
    };
    let door = match folder {
        "src" => "src/lib.rs".to_owned(),
        // Cargo finds these itself, and each `main.rs` names `support`.
        "tests" => return None,
        _ => ["mod.rs", "main.rs"]
            .map(|door| format!("{folder}/{door}"))
            .into_iter()
            .find(|door| root().join(door).exists())?,
    };
    Some((door, format!("mod {name};")))
}
