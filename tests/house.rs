//! The rules of the house, read from its files: who may import whom, how long things may be, what
//! stands in no file. A rule that is not checked here or by clippy is a wish.
//!
//! It reads text, not syntax: comments and literals are blanked first, braces are counted. That is
//! enough for code that rustfmt has laid out, and it needs no parser.

use std::fmt::Write as _;
use std::fs;
use std::ops::Range;
use std::path::Path;

/// The floors from the ground up. Imports go down; folders of one floor do not know each other.
const FLOORS: &[&[&str]] =
    &[&["base"], &["crypto", "format"], &["store", "tree", "sort"], &["repo", "engine"], &["ops"], &["cli"]];
const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;
/// Names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] = &["util", "utils", "misc", "helper", "helpers", "common", "prelude", "shared", "types"];

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
                found.add(&file, at, "super:: here is the whole crate");
            }
        }
    }
    found.none();
}

#[test]
fn the_program_is_a_door_to_the_cli() {
    let mut found = Findings::default();
    for file in rust_files("src").iter().filter(|file| file.path == "src/main.rs") {
        for (at, _) in file.code.match_indices("sidekeep::") {
            if !file.code[at..].starts_with("sidekeep::cli") {
                found.add(file, at, "main.rs may use the cli alone");
            }
        }
    }
    found.none();
}

#[test]
fn import_lists_are_honest() {
    let mut found = Findings::default();
    for file in rust_files("src") {
        for (at, _) in file.code.match_indices("::*") {
            let line = file.line_text(at);
            let in_test = file.is_test(at) && (line.contains("super::*") || line.contains("proptest::prelude::*"));
            if line.contains("use ") && !in_test {
                found.add(&file, at, "imports everything");
            }
        }
    }
    found.none();
}

#[test]
fn doors_hold_no_code() {
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
                found.add(file, start, "only `mod` and `pub use` belong here; move code to a file beside it");
                break;
            }
        }
    }
    found.none();
}

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
        if let Some((door, name)) = file.door() {
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
        for (at, _) in file.code.match_indices("fn ") {
            if file.code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_') {
                continue;
            }
            let Some(body) = body(&file.code, at) else { continue };
            let lines = file.line(body.end) - file.line(at) + 1;
            if lines > FUNCTION_LINES_MAX {
                found.add(file, at, &format!("{lines} lines, at most {FUNCTION_LINES_MAX}"));
            }
        }
    }
    found.none();
}

#[test]
fn only_the_cli_speaks_and_asks() {
    const SPEAKING: &[&str] = &["print!(", "println!(", "eprint!(", "eprintln!(", "io::stdout(", "io::stderr("];
    const ASKING: &[&str] = &["process::exit(", "std::env", "env::var", "env::args", "env::temp_dir", "io::stdin("];
    let mut found = Findings::default();
    for file in rust_files("src").iter().filter(|file| file.folder() != "cli" && file.folder() != "main.rs") {
        for word in SPEAKING.iter().chain(ASKING) {
            for (at, _) in file.code.match_indices(word) {
                let is_word = !file.code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_');
                if is_word && !file.is_test(at) {
                    found.add(file, at, &format!("`{word}` outside cli"));
                }
            }
        }
    }
    found.none();
}

#[test]
fn nothing_is_left_for_later() {
    let mut found = Findings::default();
    for file in rust_files("src") {
        for word in [".unwrap()", "todo!(", "unimplemented!(", "dbg!("] {
            for (at, _) in file.code.match_indices(word).filter(|(at, _)| !file.is_test(*at)) {
                found.add(&file, at, &format!("`{word}`"));
            }
        }
        for word in ["TODO", "FIXME", "XXX"] {
            for (at, _) in file.text.match_indices(word) {
                found.add(&file, at, word);
            }
        }
    }
    found.none();
}

#[test]
fn the_tree_knows_no_machine() {
    // Written in two parts, or this file would be its own finding.
    let paths = [concat!("/wo", "rk/"), concat!("/fa", "rm/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];
    let registries =
        [concat!("index-", "url"), concat!("extra-", "index"), concat!("replace-", "with"), concat!("_auth", "Token")];
    let mut found = Findings::default();
    for (path, text) in text_files() {
        let file = File::new(path, text);
        for word in paths {
            let is_root = |at: usize| {
                !file.text[..at].ends_with(|before: char| before.is_alphanumeric() || "._-}".contains(before))
            };
            for (at, _) in file.text.match_indices(word).filter(|(at, _)| is_root(*at)) {
                found.add(&file, at, &format!("a path of one machine: {word}"));
            }
        }
        for word in registries {
            for (at, _) in file.text.match_indices(word) {
                found.add(&file, at, &format!("a registry's address: {word}"));
            }
        }
        if file.path == "Cargo.lock" {
            for (at, _) in file.text.match_indices("source = ") {
                if !file.line_text(at).contains("\"registry+") {
                    found.add(&file, at, "a dependency that is not from a registry");
                }
            }
        }
    }
    found.none();
}

#[test]
fn the_reader_reads() {
    let code = blank("let a = \"fn {\"; // fn {\nlet b = '{'; /* { /* } */ */ let c: &'static str = r#\"}\"#;");
    assert_eq!(code, "let a = \"    \";        \nlet b = ' ';                 let c: &'static str = r#\" \"#;");
    assert_eq!(first_segments("{base::id, format::{a, b},\n  tree}"), ["base", "format", "tree"]);
    assert_eq!(first_segments("base::id::Id;"), ["base"]);
    let code = "fn long(a: [u8; 3]) -> u8\n{ { } }\nfn none();";
    assert_eq!(body(code, 0).map(|body| &code[body]), Some("{ { } }"));
    assert_eq!(body(code, code.len() - 10), None);
    let file =
        File::new("src/a.rs".into(), "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\nfn c() {}\n".into());
    assert_eq!(
        file.starts.iter().map(|at| file.is_test(*at)).collect::<Vec<_>>(),
        [false, true, true, true, true, false]
    );
    assert!(may_import("repo", "sort") && may_import("repo", "repo"));
    assert!(!may_import("crypto", "format") && !may_import("store", "repo"));
}

/// A file, its code with comments and literals blanked, and where its tests are.
struct File {
    path: String,
    text: String,
    code: String,
    /// Where each line starts.
    starts: Vec<usize>,
    tests: Vec<Range<usize>>,
}

impl File {
    fn new(path: String, text: String) -> Self {
        let code = if path.ends_with(".rs") { blank(&text) } else { String::new() };
        let mut starts = vec![0];
        starts.extend(text.match_indices('\n').map(|(at, _)| at + 1).filter(|at| *at < text.len()));
        let tests = code.match_indices("#[cfg(test)]").map(|(at, _)| at..item_end(&code, at)).collect();
        Self { path, text, code, starts, tests }
    }

    /// The folder below `src`, or the file's own name.
    fn folder(&self) -> String {
        self.path.split('/').nth(1).unwrap_or_default().to_owned()
    }

    /// The file that must declare this one, and how.
    fn door(&self) -> Option<(String, String)> {
        let (folder, name) = self.path.rsplit_once('/')?;
        let (folder, name) = match name.strip_suffix(".rs")? {
            "lib" | "main" => return None,
            "mod" => folder.rsplit_once('/')?,
            name => (folder, name),
        };
        let door = match folder {
            "src" => "src/lib.rs".to_owned(),
            // Cargo finds these itself, and shared folders are named by whoever needs them.
            "tests" => return None,
            _ => ["mod.rs", "main.rs"]
                .map(|door| format!("{folder}/{door}"))
                .into_iter()
                .find(|door| root().join(door).exists())?,
        };
        Some((door, format!("mod {name};")))
    }

    fn line(&self, at: usize) -> usize {
        self.starts.partition_point(|start| *start <= at)
    }

    fn line_text(&self, at: usize) -> &str {
        self.text[self.starts[self.line(at) - 1]..].lines().next().unwrap_or_default()
    }

    fn is_test(&self, at: usize) -> bool {
        self.tests.iter().any(|test| test.contains(&at))
    }
}

/// What stands against the rules, shown all at once.
#[derive(Default)]
struct Findings(String);

impl Findings {
    fn add(&mut self, file: &File, at: usize, what: &str) {
        writeln!(self.0, "{}:{}: {what}", file.path, file.line(at)).expect("a string takes every line");
    }

    fn none(&self) {
        assert!(self.0.is_empty(), "against the rules of the house:\n{}", self.0);
    }
}

fn may_import(folder: &str, name: &str) -> bool {
    let floor = |folder: &str| FLOORS.iter().position(|floor| floor.contains(&folder));
    folder == name || matches!((floor(folder), floor(name)), (Some(own), Some(other)) if other < own)
}

/// First names of the paths in what follows `crate::`.
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
            _ if depth == 1 => paths.last_mut().expect("it begins with one").push(c),
            _ => {}
        }
    }
    paths.iter().map(|path| name(path)).filter(|name| !name.is_empty()).collect()
}

/// A statement behind its attributes.
fn without_attributes(statement: &str) -> &str {
    let mut rest = statement.trim();
    while rest.starts_with("#[") || rest.starts_with("#!") {
        rest = rest.split_once(']').map_or("", |(_, rest)| rest.trim());
    }
    rest
}

/// Body of the function that begins at `at`, braces included; none if it has none.
fn body(code: &str, at: usize) -> Option<Range<usize>> {
    let mut depth = 0_i32;
    for (i, c) in code[at..].char_indices() {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            ';' if depth == 0 => return None,
            '{' if depth == 0 => return Some(at + i..closing(code, at + i)),
            // `fn (` of a function pointer: what it stands in ended.
            _ if depth < 0 => return None,
            _ => {}
        }
    }
    None
}

/// End of the item that begins at `at`: its `;`, or the brace that closes it.
fn item_end(code: &str, at: usize) -> usize {
    match code[at..].find(['{', ';']).map(|i| at + i) {
        Some(open) if code[open..].starts_with('{') => closing(code, open),
        Some(end) => end + 1,
        None => code.len(),
    }
}

/// Where the block that opens at `open` ends.
fn closing(code: &str, open: usize) -> usize {
    let mut depth = 0;
    for (i, c) in code[open..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return open + i + 1;
        }
    }
    code.len()
}

/// The text with comments and the insides of literals blanked, byte for byte as long.
fn blank(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let is_word = out.ends_with(|before: char| before.is_alphanumeric() || before == '_');
        let token = token(rest, is_word);
        let inside = token.open..token.len - token.close;
        out.push_str(&rest[..inside.start]);
        out.extend(rest.as_bytes()[inside.clone()].iter().map(|byte| if *byte == b'\n' { '\n' } else { ' ' }));
        out.push_str(&rest[inside.end..token.len]);
        rest = &rest[token.len..];
    }
    out
}

/// A piece of source text: so many bytes, of which those between `open` and `close` are not code.
struct Token {
    len: usize,
    open: usize,
    close: usize,
}

fn token(rest: &str, after_word: bool) -> Token {
    let first = rest.chars().next().map_or(0, char::len_utf8);
    let prefix = usize::from(rest.starts_with("br"));
    let hashes = rest[prefix..].strip_prefix('r').map(|raw| raw.len() - raw.trim_start_matches('#').len());
    match hashes {
        Some(hashes) if !after_word && rest[prefix + 1 + hashes..].starts_with('"') => {
            let (open, end) = (prefix + 2 + hashes, format!("\"{}", "#".repeat(hashes)));
            let inside = rest[open..].find(&end).unwrap_or(rest.len() - open - end.len());
            Token { len: open + inside + end.len(), open, close: end.len() }
        }
        _ if rest.starts_with("//") => Token { len: rest.find('\n').unwrap_or(rest.len()), open: 0, close: 0 },
        _ if rest.starts_with("/*") => Token { len: comment_len(rest), open: 0, close: 0 },
        _ if rest.starts_with('"') => Token { len: quoted_len(rest, b'"'), open: 1, close: 1 },
        _ if is_char(rest) => Token { len: quoted_len(rest, b'\''), open: 1, close: 1 },
        _ => Token { len: first, open: first, close: 0 },
    }
}

/// Length of a block comment; they nest.
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

fn quoted_len(rest: &str, quote: u8) -> usize {
    let mut escaped = false;
    for (i, byte) in rest.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            byte if byte == quote => return i + 1,
            _ => {}
        }
    }
    rest.len()
}

/// Whether a character literal begins here, not a lifetime.
fn is_char(rest: &str) -> bool {
    let mut chars = rest.chars();
    match (chars.next(), chars.next(), chars.next()) {
        (Some('\''), Some('\\'), _) => true,
        (Some('\''), Some(_), last) => last == Some('\''),
        _ => false,
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &str) -> Vec<File> {
    let mut files: Vec<_> = text_files()
        .into_iter()
        .filter(|(path, _)| path.starts_with(&format!("{folder}/")) && path.ends_with(".rs"))
        .map(|(path, text)| File::new(path, text))
        .collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(!files.is_empty(), "no file in {folder}");
    files
}

/// Every text of the tree by its path, without what git or a build made.
fn text_files() -> Vec<(String, String)> {
    const NOT_OURS: &[&str] = &[".git", "target", "node_modules", "__pycache__"];
    let mut texts = Vec::new();
    let mut folders = vec![root().to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the tree can be listed") {
            let path = entry.expect("a folder of the tree can be listed").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if NOT_OURS.contains(&name.as_str()) || path.is_symlink() {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(text) = fs::read_to_string(&path) {
                let path = path.strip_prefix(root()).expect("it was found below the root");
                texts.push((path.to_string_lossy().into_owned(), text));
            }
        }
    }
    texts
}
