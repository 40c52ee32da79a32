//! The figures that `scripts/measure` prints for a tree: its size, its import cycles, and the lengths of its
//! functions.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use crate::cycles::cycles;
use crate::items::{functions, types};
use crate::modules::Modules;
use crate::source::{File, program_files, root, rust_files};

/// The median of tokens per function, at most.
const MEDIAN_TOKENS_MAX: f64 = 65.0;
/// Each test binary is linked with the whole program.
const TEST_BINARIES_MAX: usize = 11;

/// A function of the program, with its length in tokens.
struct Measured {
    tokens: usize,
    /// The folder of its file.
    module: String,
    name: String,
}

/// Not a test: prints the figures of the tree in `SIDEKEEP_MEASURE_DIR`, or writes them to the file in
/// `SIDEKEEP_MEASURE_TO`.
#[test]
#[ignore = "prints measures"]
fn measures() {
    let tree = std::env::var_os("SIDEKEEP_MEASURE_DIR").map_or_else(|| root().to_owned(), Into::into);
    let text = measured(&tree);
    match std::env::var_os("SIDEKEEP_MEASURE_TO") {
        Some(file) => std::fs::write(file, text).expect("the measures can be written"),
        None => println!("{text}"),
    }
}

fn measured(tree: &Path) -> String {
    let files = program_files(tree);
    let mut text = String::new();
    let mut line = |words: String| writeln!(text, "{words}").expect("writing to a string cannot fail");
    line(format!("files: {}", files.len()));
    line(format!("lines: {}", files.iter().map(|file| file.starts.len()).sum::<usize>()));
    line(format!("lines without tests: {}", files.iter().map(program_lines).sum::<usize>()));
    let cycles = cycles(&files, &Modules::new(&files));
    let in_cycles: usize = cycles.iter().map(|cycle| cycle.files.len()).sum();
    line(format!("import cycles: {}, with {in_cycles} files", cycles.len()));
    for cycle in &cycles {
        line(format!("  {}", cycle.files.join(" ")));
    }
    let repeated = repeated_types(&files);
    line(format!("type names defined twice or more: {}", repeated.len()));
    for (name, paths) in &repeated {
        line(format!("  {name}: {}", paths.join(" ")));
    }
    let functions = sorted_functions(&files);
    line(format!("functions: {}", functions.len()));
    line(format!(
        "tokens of a function: {}",
        spread(&functions.iter().map(|function| function.tokens).collect::<Vec<_>>())
    ));
    for (module, tokens) in by_module(&functions) {
        line(format!("  {module}: {} functions, {}", tokens.len(), spread(&tokens)));
    }
    line("longest functions:".to_owned());
    for function in functions.iter().rev().take(20) {
        line(format!("  {} {} in {}", function.tokens, function.name, function.module));
    }
    text
}

fn program_lines(file: &File) -> usize {
    file.starts.iter().filter(|start| !file.is_test(**start)).count()
}

/// The functions of the program, the shortest first.
fn sorted_functions(files: &[File]) -> Vec<Measured> {
    let mut functions: Vec<Measured> = files.iter().flat_map(measured_functions).collect();
    functions.sort_by_key(|function| function.tokens);
    functions
}

fn measured_functions(file: &File) -> Vec<Measured> {
    let tokens = file.program();
    let module = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    functions(&tokens)
        .into_iter()
        .map(|function| Measured {
            tokens: function.whole.len(),
            module: module.to_owned(),
            name: function.name.to_owned(),
        })
        .collect()
}

/// Lengths by module, each list in the order of `functions`.
fn by_module(functions: &[Measured]) -> BTreeMap<&str, Vec<usize>> {
    let mut modules: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for function in functions {
        modules.entry(&function.module).or_default().push(function.tokens);
    }
    modules
}

/// Median, mean and 90th percentile of sorted numbers.
fn spread(sorted: &[usize]) -> String {
    if sorted.is_empty() {
        return "none".to_owned();
    }
    let median = median(sorted);
    let mean = sorted.iter().sum::<usize>() as f64 / sorted.len() as f64;
    let p90 = sorted[sorted.len() * 9 / 10];
    format!("median {median}, mean {mean:.1}, 90th percentile {p90}")
}

/// The median of sorted numbers. There is at least one.
fn median(sorted: &[usize]) -> f64 {
    let middle = sorted.len() / 2;
    let below = if sorted.len().is_multiple_of(2) { middle - 1 } else { middle };
    (sorted[below] + sorted[middle]) as f64 / 2.0
}

/// Names of types with more than one definition, and the files of the definitions.
pub fn repeated_types(files: &[File]) -> BTreeMap<String, Vec<&str>> {
    let mut defined: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for file in files {
        for name in types(&file.program()) {
            defined.entry(name.text.to_owned()).or_default().push(&file.path);
        }
    }
    defined.retain(|_, paths| paths.len() > 1);
    defined
}

#[test]
fn the_median_function_is_short() {
    let functions = sorted_functions(&program_files(root()));
    let tokens: Vec<usize> = functions.iter().map(|function| function.tokens).collect();
    let median = median(&tokens);
    assert!(median <= MEDIAN_TOKENS_MAX, "the median function has {median} tokens, more than {MEDIAN_TOKENS_MAX}");
}

#[test]
fn test_binaries_are_few() {
    let files = rust_files("tests");
    let binaries: Vec<&str> = files.iter().map(|file| file.path.as_str()).filter(|path| is_test_binary(path)).collect();
    assert!(binaries.len() <= TEST_BINARIES_MAX, "put new tests into one of {binaries:?}");
}

/// Whether cargo builds a test binary from the file.
fn is_test_binary(path: &str) -> bool {
    match path.split('/').collect::<Vec<_>>()[..] {
        ["tests", _] => true,
        ["tests", _, file] => file == "main.rs",
        _ => false,
    }
}

#[test]
fn test_binaries_are_recognized() {
    assert!(is_test_binary("tests/one.rs") && is_test_binary("tests/cli/main.rs"));
    assert!(!is_test_binary("tests/cli/help.rs") && !is_test_binary("tests/cli/bad_input/main.rs"));
}

#[test]
fn a_spread_has_median_mean_and_percentile() {
    assert_eq!(spread(&[1, 2, 3, 4]), "median 2.5, mean 2.5, 90th percentile 4");
    assert_eq!(spread(&[1, 2, 9]), "median 2, mean 4.0, 90th percentile 9");
}

#[test]
fn repeated_names_are_found() {
    let files = [("src/a.rs", "struct A; enum B {}"), ("src/b.rs", "pub trait A {}")];
    let files: Vec<File> = files.iter().map(|(path, text)| File::new((*path).into(), (*text).into())).collect();
    let repeated: BTreeSet<String> = repeated_types(&files).into_keys().collect();
    assert_eq!(repeated, BTreeSet::from(["A".to_owned()]));
}
