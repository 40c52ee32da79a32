//! `docs/findings.md` lists the kinds of findings with their facts, in the order of the code.

use std::fmt::Write as _;
use std::fs;

use crate::source::root;

/// A kind of finding and the names of its facts.
#[derive(PartialEq, Eq, Debug)]
struct Kind {
    name: String,
    facts: Vec<String>,
}

#[test]
fn the_documentation_lists_every_kind_of_finding() {
    let coded = coded_kinds(&read("src/base/finding/kind.rs"));
    let documented = documented_kinds(&read("docs/findings.md"));
    assert!(!coded.is_empty(), "no kind found");
    assert_eq!(coded, documented);
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).expect("the file can be read")
}

/// The variants of `FindingKind`, as rustfmt writes them: one per line.
fn coded_kinds(code: &str) -> Vec<Kind> {
    let (_, body) = code.split_once("pub enum FindingKind {").expect("the enum");
    let (body, _) = body.split_once("\n}").expect("the end of the enum");
    let variants = body.lines().map(str::trim).filter(|line| line.starts_with(char::is_uppercase));
    variants.map(coded_kind).collect()
}

fn coded_kind(variant: &str) -> Kind {
    let (name, fields) = variant.trim_end_matches(',').split_once(' ').unwrap_or((variant.trim_end_matches(','), ""));
    let fields = fields.trim_matches(['{', '}', ' ']).split(", ").filter(|field| !field.is_empty());
    let facts = fields.map(|field| field.split(':').next().unwrap_or_default().to_owned()).collect();
    Kind { name: kebab_case(name), facts }
}

fn kebab_case(name: &str) -> String {
    let mut kebab = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !kebab.is_empty() {
            kebab.push('-');
        }
        write!(kebab, "{}", letter.to_lowercase()).expect("writing to a string cannot fail");
    }
    kebab
}

/// The rows of the tables of kinds. The first table lists members of the JSON instead.
fn documented_kinds(document: &str) -> Vec<Kind> {
    let (_, tables) = document.split_once("| kind | meaning | facts |").expect("the tables");
    tables.lines().filter(|line| line.starts_with("| `")).map(documented_kind).collect()
}

fn documented_kind(row: &str) -> Kind {
    let columns: Vec<&str> = row.trim_matches(['|', ' ']).split(" | ").collect();
    let facts = quoted(columns.get(2).unwrap_or(&""));
    Kind { name: quoted(columns[0]).concat(), facts }
}

/// The words between backticks.
fn quoted(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}
