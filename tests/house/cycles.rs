//! Finds import cycles between files.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::findings::Findings;
use crate::modules::{Modules, Uses};
use crate::source::{File, program_files, root};

#[test]
fn files_do_not_import_each_other_in_a_cycle() {
    let files = program_files(root());
    let mut found = Findings::default();
    for cycle in cycles(&files, &Modules::new(&files)) {
        let file = files.iter().find(|file| file.path == cycle.files[0]).expect("a file of the tree");
        found.add(file, 0, &format!("a cycle of {} files:\n{}", cycle.files.len(), cycle.ties));
    }
    found.none();
}

/// The import cycles, which are the strongly connected components of the graph of imports.
pub fn cycles<'a>(files: &'a [File], modules: &Modules<'a>) -> Vec<Cycle<'a>> {
    let graph: Graph<'a> =
        files.iter().filter(|file| !file.is_mod_file()).map(|file| (file.path.as_str(), modules.uses(file))).collect();
    let mut search = Search { graph: &graph, order: BTreeMap::new(), stack: Vec::new(), found: Vec::new() };
    for file in graph.keys() {
        if !search.order.contains_key(file) {
            search.visit(file);
        }
    }
    let found = search.found;
    found.into_iter().map(|files| Cycle::new(&graph, files)).collect()
}

type Graph<'a> = BTreeMap<&'a str, Uses<'a>>;

pub struct Cycle<'a> {
    pub files: Vec<&'a str>,
    /// Which file uses what from which file, one line each.
    pub ties: String,
}

impl<'a> Cycle<'a> {
    fn new(graph: &Graph<'a>, mut files: Vec<&'a str>) -> Self {
        files.sort_unstable();
        let mut ties = String::new();
        for file in &files {
            for (used, names) in graph[file].iter().filter(|(used, _)| files.contains(used)) {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                writeln!(ties, "  {file} uses {used}: {}", names.join(", ")).expect("writing to a string cannot fail");
            }
        }
        Self { files, ties }
    }
}

/// Tarjan's algorithm for strongly connected components.
struct Search<'g, 'a> {
    graph: &'g Graph<'a>,
    /// The number of each visited file, or `None` once its component is complete.
    order: BTreeMap<&'a str, Option<usize>>,
    stack: Vec<&'a str>,
    found: Vec<Vec<&'a str>>,
}

impl<'a> Search<'_, 'a> {
    /// Returns the lowest number that is reachable from `file`.
    fn visit(&mut self, file: &'a str) -> usize {
        let number = self.order.len();
        let depth = self.stack.len();
        self.order.insert(file, Some(number));
        self.stack.push(file);
        let mut lowest = number;
        for used in self.graph.get(file).into_iter().flat_map(Uses::keys) {
            let reached = match self.order.get(used) {
                None => Some(self.visit(used)),
                Some(order) => *order,
            };
            lowest = lowest.min(reached.unwrap_or(lowest));
        }
        if lowest == number {
            let part = self.stack.split_off(depth);
            for file in &part {
                self.order.insert(file, None);
            }
            if part.len() > 1 {
                self.found.push(part);
            }
        }
        lowest
    }
}

#[test]
fn cycles_are_found() {
    let files = [
        ("src/a.rs", "use crate::b::B;"),
        ("src/b.rs", "use crate::c::C; use crate::e::E;"),
        ("src/c.rs", "use crate::a::A;"),
        ("src/d.rs", "use crate::a::A;"),
        ("src/e.rs", "pub struct E;"),
    ];
    let files: Vec<File> = files.iter().map(|(path, text)| File::new((*path).into(), (*text).into())).collect();
    let found = cycles(&files, &Modules::new(&files));
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].files, ["src/a.rs", "src/b.rs", "src/c.rs"]);
    assert_eq!(found[0].ties.lines().count(), 3);
}
