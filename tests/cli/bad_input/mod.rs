//! Wrong input for the built program, with a repository in a directory. Each case exits with the documented code, names
//! what is wrong, says what to do, and leaves earlier snapshots unchanged.

mod damaged;
mod keys;
mod later;
mod objects;
mod places;
mod room;
mod stopped;
pub mod stored;
mod words;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::sandbox::{SERVICE, Sandbox};

const CONFIG: &str = "\
repo = 'repo'
key_file = 'keys/operator.key'
[source.main]
url = 'sqlite:sync.db'
";

const BACKUP: &[&str] = &["backup"];
const RESTORE: &[&str] = &["restore", "latest", "--to", "out.sqlite", "--key-file", "keys/admin.key"];

/// A case of wrong input.
struct Case {
    name: &'static str,
    /// Changes a healthy repository with two snapshots.
    arrange: fn(&mut Sandbox),
    args: &'static [&'static str],
    code: i32,
    /// Parts of the message: the object, and what to do.
    words: &'static [&'static str],
}

/// A repository with two snapshots of the small service. It contains only relative paths.
fn healthy() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.sql("sync.db", SERVICE);
    sandbox.write("sidekeep.toml", CONFIG);
    sandbox.ok(&["init", "repo", "--source", "sqlite:sync.db"]);
    sandbox.ok(&["backup", "--tag", "first"]);
    sandbox.sql("sync.db", "UPDATE users SET name = 'Anna' WHERE id = 1;");
    sandbox.ok(&["backup"]);
    sandbox
}

/// A copy of a sandbox.
fn copied(from: &Sandbox) -> Sandbox {
    let to = Sandbox::new();
    copy_tree(from.dir.path(), to.dir.path());
    to
}

fn copy_tree(from: &Path, to: &Path) {
    for entry in from.read_dir().expect("reads") {
        let entry = entry.expect("reads");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            std::fs::create_dir_all(&target).expect("makes");
            copy_tree(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copies");
        }
    }
}

/// The content of every file below `dir`, by path.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in dir.read_dir().expect("reads") {
        let path = entry.expect("reads").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            let content = std::fs::read(&path).expect("reads");
            found.insert(path, content);
        }
    }
    found
}

/// Runs all cases, each in its own copy of a healthy repository.
fn all_fail(cases: &[Case]) {
    let healthy = healthy();
    for case in cases {
        let mut sandbox = copied(&healthy);
        (case.arrange)(&mut sandbox);
        fails(&sandbox, case, &mut sandbox.command(case.args));
    }
}

/// Runs the command of a case and checks the result. `SHOW` only prints it.
fn fails(sandbox: &Sandbox, case: &Case, command: &mut Command) {
    let (before, outside) = (files(&sandbox.path("repo")), names(sandbox));
    let ran = Sandbox::ran(command);
    let what = format!("{}: {} {}", case.name, ran.code, ran.err);
    if std::env::var_os("SHOW").is_some() {
        eprintln!("{what}");
        return;
    }
    assert_eq!((ran.code, ran.out.as_str()), (case.code, ""), "{what}");
    assert!(case.words.iter().all(|word| ran.err.contains(word)), "{what}");
    assert!(case.code == 2 || ran.err.contains("\nhint: "), "{what}");
    let after = files(&sandbox.path("repo"));
    for (path, content) in &before {
        assert!(after.get(path) == Some(content), "{}: {} has changed", case.name, path.display());
    }
    let is_entry =
        |path: &&PathBuf| ["ledger", "roster"].iter().any(|part| path.components().any(|p| p.as_os_str() == *part));
    let entries = after.keys().filter(|path| !before.contains_key(*path)).find(is_entry);
    assert_eq!(entries, None, "{}", case.name);
    assert_eq!(names(sandbox), outside, "{}", case.name);
}

/// The entries in the directory of `sandbox`.
fn names(sandbox: &Sandbox) -> Vec<PathBuf> {
    let mut names: Vec<_> =
        sandbox.dir.path().read_dir().expect("reads").map(|entry| entry.expect("reads").path()).collect();
    names.sort();
    names
}

/// Replaces the first `from` in a text file.
fn alter(sandbox: &Sandbox, name: &str, from: &str, to: &str) {
    let text = std::fs::read_to_string(sandbox.path(name)).expect("reads");
    assert!(text.contains(from), "{text}");
    std::fs::write(sandbox.path(name), text.replacen(from, to, 1)).expect("writes");
}
