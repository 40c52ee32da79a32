//! Files of a tree: their text, their code without comments and literals, and the ranges of their tests.

use std::fs;
use std::ops::Range;
use std::path::Path;

use crate::lex::{Token, TokenKind, blank, tokens};

/// A file of the tree.
pub struct File {
    /// Relative to the root of the tree.
    pub path: String,
    pub text: String,
    /// The text with comments and the contents of literals blanked. Empty for other files than Rust.
    pub code: String,
    /// The start of each line, in bytes.
    pub starts: Vec<usize>,
    tests: Vec<Range<usize>>,
}

impl File {
    pub fn new(path: String, text: String) -> Self {
        let code = if path.ends_with(".rs") { blank(&text) } else { String::new() };
        let mut starts = vec![0];
        starts.extend(text.match_indices('\n').map(|(at, _)| at + 1).filter(|at| *at < text.len()));
        let tests = code.match_indices("#[cfg(test)]").map(|(at, _)| at..item_end(&code, at)).collect();
        Self { path, text, code, starts, tests }
    }

    /// The folder below `src`, or the file's own name.
    pub fn folder(&self) -> String {
        self.path.split('/').nth(1).unwrap_or_default().to_owned()
    }

    /// Whether the file only declares modules and re-exports items.
    pub fn is_mod_file(&self) -> bool {
        self.path.ends_with("/mod.rs") || self.path == "src/lib.rs"
    }

    pub fn line(&self, at: usize) -> usize {
        self.starts.partition_point(|start| *start <= at)
    }

    pub fn line_text(&self, at: usize) -> &str {
        self.text[self.starts[self.line(at) - 1]..].lines().next().unwrap_or_default()
    }

    pub fn is_test(&self, at: usize) -> bool {
        self.tests.iter().any(|test| test.contains(&at))
    }

    /// All tokens of code, including tests.
    pub fn tokens(&self) -> Vec<Token<'_>> {
        let is_code = |token: &Token<'_>| !matches!(token.kind, TokenKind::Space | TokenKind::Comment);
        tokens(&self.text).into_iter().filter(is_code).collect()
    }

    /// The tokens of code outside tests.
    pub fn program(&self) -> Vec<Token<'_>> {
        self.tokens().into_iter().filter(|token| !self.is_test(token.at)).collect()
    }

    /// Modules that are declared only for tests.
    fn test_modules(&self) -> Vec<&str> {
        let declared = |test: &Range<usize>| self.code[test.clone()].rsplit_once("mod ")?.1.strip_suffix(';');
        self.tests.iter().filter_map(declared).collect()
    }
}

/// The end of the item that begins at `at`: after its `;` or its closing brace.
fn item_end(code: &str, at: usize) -> usize {
    match code[at..].find(['{', ';']).map(|i| at + i) {
        Some(open) if code[open..].starts_with('{') => closing(code, open),
        Some(end) => end + 1,
        None => code.len(),
    }
}

/// The end of the block that opens at `open`.
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

/// The root of this tree.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The Rust files of this tree below a folder, by path.
pub fn rust_files(folder: &str) -> Vec<File> {
    rust_files_of(root(), folder)
}

/// The Rust files of another tree.
pub fn rust_files_of(root: &Path, folder: &str) -> Vec<File> {
    let below = format!("{folder}/");
    let mut files: Vec<File> = text_files(root)
        .into_iter()
        .filter(|(path, _)| path.starts_with(&below) && path.ends_with(".rs"))
        .map(|(path, text)| File::new(path, text))
        .collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(!files.is_empty(), "no file in {folder}");
    files
}

/// The files of the program: `src`, without modules that are only for tests.
pub fn program_files(root: &Path) -> Vec<File> {
    let files = rust_files_of(root, "src");
    let mut tests = Vec::new();
    for file in files.iter().filter(|file| file.is_mod_file()) {
        let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        for module in file.test_modules() {
            tests.push(format!("{folder}/{module}.rs"));
            tests.push(format!("{folder}/{module}/"));
        }
    }
    files.into_iter().filter(|file| !tests.iter().any(|test| file.path.starts_with(test))).collect()
}

/// All text files of a tree with their paths, except the files of git and of builds.
pub fn text_files(root: &Path) -> Vec<(String, String)> {
    const NOT_OURS: &[&str] = &[".git", "node_modules", "__pycache__"];
    let mut texts = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the tree can be listed") {
            let path = entry.expect("a folder of the tree can be listed").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let is_build = name == "target" && (folder == root || folder.ends_with("tests/fuzz"));
            if is_build || NOT_OURS.contains(&name.as_str()) || path.is_symlink() {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(text) = fs::read_to_string(&path) {
                let path = path.strip_prefix(root).expect("it was found below the root");
                texts.push((path.to_string_lossy().into_owned(), text));
            }
        }
    }
    texts
}

#[test]
fn tests_are_not_part_of_the_program() {
    let file =
        File::new("src/a.rs".into(), "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\nfn c() {}\n".into());
    let lines: Vec<bool> = file.starts.iter().map(|at| file.is_test(*at)).collect();
    assert_eq!(lines, [false, true, true, true, true, false]);
    let mod_file = File::new("src/a/mod.rs".into(), "mod b;\n#[cfg(test)]\nmod c;\n".into());
    assert_eq!(mod_file.test_modules(), ["c"]);
}
