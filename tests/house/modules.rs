//! Which file uses what from which other file: `use` declarations and paths, resolved through the re-exports of
//! `mod.rs` files.

use std::collections::{BTreeMap, BTreeSet};

use crate::lex::{Token, TokenKind};
use crate::source::File;

/// A path from the root of the crate.
type Path = Vec<String>;

/// A name that a `use` declaration imports into a file.
struct Import {
    path: Path,
    name: String,
    is_public: bool,
}

/// The modules of the crate by path.
pub struct Modules<'a> {
    files: BTreeMap<Path, &'a File>,
    imports: BTreeMap<Path, Vec<Import>>,
}

/// The names that a file uses, by the file that defines them.
pub type Uses<'a> = BTreeMap<&'a str, BTreeSet<String>>;

impl<'a> Modules<'a> {
    pub fn new(files: &'a [File]) -> Self {
        let mut modules =
            Self { files: files.iter().map(|file| (module_path(file), file)).collect(), imports: BTreeMap::new() };
        for (path, file) in modules.files.clone() {
            let imports = modules.imports_of(&path, &file.program());
            modules.imports.insert(path, imports);
        }
        modules
    }

    fn imports_of(&self, module: &Path, tokens: &[Token<'_>]) -> Vec<Import> {
        let mut imports = Vec::new();
        for at in use_declarations(tokens) {
            let is_public = at > 0 && ["pub", ")"].contains(&tokens[at - 1].text);
            let mut parser = UseParser { tokens, at: at + 1, leaves: Vec::new() };
            parser.tree(&mut Vec::new());
            for (path, name) in parser.leaves {
                if let Some(path) = self.absolute(module, &path) {
                    imports.push(Import { path, name, is_public });
                }
            }
        }
        imports
    }

    /// Turns a path written in a module into a path from the root of the crate. `None` for a path into another crate.
    fn absolute(&self, module: &Path, written: &[String]) -> Option<Path> {
        let (first, rest) = written.split_first()?;
        let base = match first.as_str() {
            "crate" | "sidekeep" => Vec::new(),
            "self" => module.clone(),
            "super" => module.split_last()?.1.to_vec(),
            child => {
                let child = [&module[..], &[child.to_owned()]].concat();
                if !self.files.contains_key(&child) {
                    return None;
                }
                child
            }
        };
        Some([&base[..], rest].concat())
    }

    /// The file that a path leads to, and the item in it. No item if the path is the module itself.
    fn resolve(&self, path: &[String], steps_left: usize) -> Option<(&'a File, Option<String>)> {
        let known = (0..=path.len()).rev().find(|len| self.files.contains_key(&path[..*len]))?;
        let (module, rest) = path.split_at(known);
        let file = self.files[module];
        let Some((item, inner)) = rest.split_first() else { return Some((file, None)) };
        let passed_on =
            self.imports.get(module).into_iter().flatten().find(|import| import.is_public && import.name == *item);
        match passed_on {
            Some(import) if steps_left > 0 => self.resolve(&[&import.path[..], inner].concat(), steps_left - 1),
            _ => Some((file, Some(item.clone()))),
        }
    }

    /// What a file uses from other files, except `mod.rs` files.
    pub fn uses(&self, file: &File) -> Uses<'a> {
        let module = module_path(file);
        let tokens = file.program();
        let imports = self.imports.get(&module).map_or(&[][..], Vec::as_slice);
        let mut paths: Vec<Path> = imports.iter().map(|import| import.path.clone()).collect();
        paths.extend(written_paths(&tokens).iter().filter_map(|path| self.path_in(&module, imports, path)));
        let mut uses = Uses::new();
        for path in paths {
            if let Some((used, item)) = self.resolve(&path, 10)
                && used.path != file.path
                && !used.is_mod_file()
            {
                uses.entry(used.path.as_str()).or_default().insert(item.unwrap_or_else(|| "the module".to_owned()));
            }
        }
        uses
    }

    /// Resolves a path outside `use`, which may begin with an imported name.
    fn path_in(&self, module: &Path, imports: &[Import], written: &[String]) -> Option<Path> {
        let (first, rest) = written.split_first()?;
        match imports.iter().find(|import| import.name == *first) {
            Some(import) => Some([&import.path[..], rest].concat()),
            None => self.absolute(module, written),
        }
    }
}

/// The path of a file's module.
fn module_path(file: &File) -> Path {
    let path = file.path.trim_start_matches("src/").trim_end_matches(".rs");
    let mut parts: Path = path.split('/').map(str::to_owned).collect();
    if parts.last().is_some_and(|last| last == "mod" || last == "lib") {
        parts.pop();
    }
    parts
}

/// The positions of `use` declarations. `impl Trait + use<'a>` is not one.
fn use_declarations(tokens: &[Token<'_>]) -> Vec<usize> {
    let is_use = |at: &usize| tokens[*at].text == "use" && tokens.get(at + 1).is_some_and(|next| next.text != "<");
    (0..tokens.len()).filter(is_use).collect()
}

/// Parses the tree of a `use` declaration.
struct UseParser<'t, 'a> {
    tokens: &'t [Token<'a>],
    at: usize,
    /// Each path, and the name under which it is imported.
    leaves: Vec<(Path, String)>,
}

impl UseParser<'_, '_> {
    fn text(&self) -> &str {
        self.tokens.get(self.at).map_or(";", |token| token.text)
    }

    /// Parses one tree with a prefix, up to the following `,`, `}` or `;`.
    fn tree(&mut self, prefix: &mut Path) {
        let depth = prefix.len();
        loop {
            match self.text() {
                ":" => self.at += 1,
                "{" => {
                    self.group(prefix);
                    break;
                }
                "," | "}" | ";" | "as" => {
                    self.leaf(prefix);
                    break;
                }
                segment => {
                    prefix.push(segment.to_owned());
                    self.at += 1;
                }
            }
        }
        prefix.truncate(depth);
    }

    fn group(&mut self, prefix: &mut Path) {
        while self.text() != "}" && self.text() != ";" {
            self.at += 1;
            if self.text() != "}" {
                self.tree(prefix);
            }
        }
        self.at += 1;
    }

    fn leaf(&mut self, path: &[String]) {
        let mut path = path.to_vec();
        if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
            path.pop();
        }
        let mut name = path.last().cloned().unwrap_or_default();
        if self.text() == "as" {
            self.at += 1;
            name = self.text().to_owned();
            self.at += 1;
        }
        self.leaves.push((path, name));
    }
}

/// Paths of two or more segments outside `use` declarations.
fn written_paths(tokens: &[Token<'_>]) -> Vec<Path> {
    let mut paths = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at].text == "use" {
            while at < tokens.len() && tokens[at].text != ";" {
                at += 1;
            }
        }
        let mut path = Vec::new();
        while tokens.get(at).is_some_and(|token| token.kind == TokenKind::Word) {
            path.push(tokens[at].text.to_owned());
            at += 1;
            let is_separator = tokens[at..].starts_with_marks(":", ":");
            if !is_separator {
                break;
            }
            at += 2;
        }
        if path.len() > 1 {
            paths.push(path);
        } else {
            at += usize::from(path.is_empty());
        }
    }
    paths
}

trait Marks {
    fn starts_with_marks(&self, first: &str, second: &str) -> bool;
}

impl Marks for [Token<'_>] {
    fn starts_with_marks(&self, first: &str, second: &str) -> bool {
        self.len() > 1 && self[0].text == first && self[1].text == second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used_by(files: &[(&str, &str)], user: &str) -> Vec<String> {
        let files: Vec<File> = files.iter().map(|(path, text)| File::new((*path).into(), (*text).into())).collect();
        let modules = Modules::new(&files);
        let user = files.iter().find(|file| file.path == user).expect("a file");
        let uses = modules.uses(user);
        uses.into_iter()
            .map(|(file, names)| format!("{file}: {}", names.into_iter().collect::<Vec<_>>().join(" ")))
            .collect()
    }

    const TREE: &[(&str, &str)] = &[
        ("src/lib.rs", "pub mod a;"),
        ("src/a/mod.rs", "mod b; mod c; pub use b::B; pub use self::c::{C as D, run};"),
        ("src/a/b.rs", "pub struct B; use super::c::{self, C}; fn f() { c::run() }"),
        ("src/a/c.rs", "pub struct C; pub fn run() {} #[cfg(test)] mod tests { use super::super::b::B; }"),
        ("src/d.rs", "use crate::{a, a::{B, D}}; fn f() { a::run(); std::fs::read(); }"),
    ];

    #[test]
    fn uses_are_found_through_reexports() {
        assert_eq!(used_by(TREE, "src/d.rs"), ["src/a/b.rs: B", "src/a/c.rs: C run"]);
    }

    #[test]
    fn uses_of_siblings_count_and_uses_in_tests_do_not() {
        assert_eq!(used_by(TREE, "src/a/b.rs"), ["src/a/c.rs: C run the module"]);
        assert_eq!(used_by(TREE, "src/a/c.rs"), [""; 0]);
    }
}
