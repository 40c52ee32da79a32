//! Messages, help and README name only commands and options that exist.

use std::collections::BTreeMap;
use std::path::Path;

use crate::Sandbox;
use crate::help::commands;

/// The options of every command. The empty name has the global options.
fn options() -> BTreeMap<String, Vec<String>> {
    let sandbox = Sandbox::new();
    let of = |args: &[&str]| long_options(&sandbox.ok(args)).map(str::to_owned).collect();
    let mut options = BTreeMap::from([(String::new(), of(&["--help"]))]);
    for command in commands() {
        let mut found: Vec<String> = of(&[&command, "--help"]);
        for action in actions(&sandbox.ok(&[&command, "--help"])) {
            found.extend(of(&[&command, action, "--help"]));
        }
        options.insert(command, found);
    }
    options
}

/// The commands below a command, from its help.
fn actions(help: &str) -> impl Iterator<Item = &str> {
    let listed = help.split("\nCommands:\n").nth(1).unwrap_or_default();
    let names = listed.lines().take_while(|line| !line.is_empty()).filter(|line| !line.starts_with("   "));
    names.filter_map(|line| line.split_whitespace().next())
}

/// Everything in `text` that looks like `--some-option`.
fn long_options(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices("--").filter_map(|(at, _)| {
        let rest = &text[at + 2..];
        let name = &rest[..rest.find(|c: char| !c.is_ascii_lowercase() && c != '-').unwrap_or(rest.len())];
        let is_start = !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '-');
        (is_start && name.starts_with(|c: char| c.is_ascii_lowercase())).then(|| &text[at..at + 2 + name.len()])
    })
}

/// Command lines in `text`, without `sidekeep`: in backticks, after a prompt, or on an example's own line.
fn command_lines(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices("sidekeep ").filter_map(|(at, name)| {
        let line_start = text[..at].rfind('\n').map_or(0, |end| end + 1);
        let before = &text[line_start..at];
        let is_command = before.ends_with(['`', '$']) || before.ends_with("$ ") || before.trim().is_empty();
        let rest = &text[at + name.len()..];
        let end = rest.find(['`', '"', '\n']).unwrap_or(rest.len());
        is_command.then_some(&rest[..end])
    })
}

/// The sources and the README, each with its path.
fn texts() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut texts = vec![("README.md".to_owned(), read(&root.join("README.md")))];
    let mut folders = vec![root.join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder can be listed") {
            let path = entry.expect("a folder can be listed").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                texts.push((path.display().to_string(), read(&path)));
            }
        }
    }
    texts
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).expect("a text")
}

#[test]
fn every_named_command_and_option_exists() {
    let options = options();
    let all: Vec<&String> = options.values().flatten().collect();
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for (path, text) in texts() {
        for line in command_lines(&text) {
            let verb = line.split_whitespace().next().unwrap_or_default();
            let placeholder = verb.starts_with(|c: char| c.is_ascii_uppercase());
            let known = options.get(if verb.starts_with("--") || placeholder { "" } else { verb });
            seen += 1;
            match known {
                None => wrong.push(format!("{path}: sidekeep {line}: no such command")),
                Some(known) => wrong.extend(
                    long_options(line)
                        .filter(|option| !known.iter().any(|known| known == option))
                        .map(|option| format!("{path}: sidekeep {line}: it has no {option}")),
                ),
            }
        }
        // `dump.rs` names options of PostgreSQL's tools.
        let is_ours = path.ends_with(".rs") && !path.ends_with("engine/postgres/schema/dump.rs");
        let own = long_options(&text).filter(|_| is_ours);
        wrong.extend(
            own.filter(|option| !all.iter().any(|known| known == option)).map(|option| format!("{path}: {option}")),
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 40, "only {seen} command lines were found");
}

#[test]
fn command_lines_and_options_are_found() {
    let text = "run `sidekeep verify --level read`, or\n    sidekeep no-such --x\nthe sidekeep of old -- a--b --c-d";
    assert_eq!(command_lines(text).collect::<Vec<_>>(), ["verify --level read", "no-such --x"]);
    assert_eq!(long_options(text).collect::<Vec<_>>(), ["--level", "--x", "--c-d"]);
    let help = "Of sources\n\nCommands:\n  list    All of them\n          (long)\n  rename  One\n\nOptions:\n  -h\n";
    assert_eq!(actions(help).collect::<Vec<_>>(), ["list", "rename"]);
}
