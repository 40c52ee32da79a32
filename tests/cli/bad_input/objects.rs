//! Every kind of object of the store, damaged in every way, and what the commands that meet it say: a result without
//! fault, or findings that name the object, or an error that names it and what to do. Which of them it is in each case
//! is held by `tests/damage/matrix.rs`; here it is what a person sees, and that nothing is made worse.

use std::path::{Path, PathBuf};

use crate::bad_input::{copied, files, healthy};
use crate::support::sandbox::{Ran, Sandbox};
use crate::support::sqlite::assert_same_database;

/// A way to damage an object; the second is another of its kind.
type Harm = (&'static str, fn(&Path, Option<&Path>));

const HARMS: [Harm; 8] = [
    ("missing", |path, _| std::fs::remove_file(path).expect("removes")),
    ("empty", |path, _| std::fs::write(path, "").expect("writes")),
    ("truncated", |path, _| change(path, |bytes| bytes.truncate(bytes.len() / 2))),
    ("a bit in its middle", |path, _| {
        change(path, |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        });
    }),
    ("extended", |path, _| change(path, |bytes| bytes.extend_from_slice(b"more"))),
    ("something else", |path, _| std::fs::write(path, vec![b'x'; 5000]).expect("writes")),
    ("renamed", |path, _| std::fs::rename(path, renamed(path)).expect("renames")),
    ("swapped", |path, other| {
        let Some(other) = other else { return };
        let (one, two) = (std::fs::read(path).expect("reads"), std::fs::read(other).expect("reads"));
        std::fs::write(path, two).expect("writes");
        std::fs::write(other, one).expect("writes");
    }),
];

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).expect("reads");
    change(&mut bytes);
    std::fs::write(path, bytes).expect("writes");
}

/// The same name with another last digit.
fn renamed(path: &Path) -> PathBuf {
    let name = path.file_name().and_then(|name| name.to_str()).expect("UTF-8");
    let (head, last) = name.split_at(name.len() - 1);
    path.with_file_name(format!("{head}{}", if last == "9" { "8" } else { "9" }))
}

/// All objects of a repository, below it.
fn objects(sandbox: &Sandbox) -> Vec<PathBuf> {
    let repo = sandbox.path("repo");
    files(&repo).into_keys().map(|path| path.strip_prefix(&repo).expect("below it").to_owned()).collect()
}

/// What kind of object it is.
fn kind(path: &Path) -> &str {
    let parts: Vec<&str> = path.iter().map(|part| part.to_str().expect("UTF-8")).collect();
    match parts[..] {
        [one] => one,
        ["roster", _] => "roster",
        ["keys", ..] => "keys",
        [_, kind, ..] => kind,
        [] => unreachable!("a path has a part"),
    }
}

/// One repository for each case; three snapshots, the first with a tag, the last with a large value.
struct Matrix {
    healthy: Sandbox,
    objects: Vec<PathBuf>,
}

impl Matrix {
    fn new() -> Self {
        let healthy = healthy();
        // As the database was when the first snapshot was taken.
        std::fs::copy(healthy.path("sync.db"), healthy.path("first.db")).expect("copies");
        healthy.sql("first.db", "UPDATE users SET name = 'Ana' WHERE id = 1;");
        healthy.sql("sync.db", "CREATE TABLE photos (photo BLOB); INSERT INTO photos VALUES (randomblob(300000));");
        healthy.ok(&["backup"]);
        let objects = objects(&healthy);
        Self { healthy, objects }
    }

    fn of(&self, wanted: &str) -> Vec<&Path> {
        self.objects.iter().map(PathBuf::as_path).filter(|path| kind(path) == wanted).collect()
    }

    /// Damages each object of this kind in each way and runs the commands.
    fn each(&self, wanted: &str, expect: impl Fn(&Case<'_>, &Ran)) {
        let objects = self.of(wanted);
        assert!(!objects.is_empty(), "{wanted}");
        // Those of these kinds differ in nothing that matters.
        let most = if ["index", "sessions"].contains(&wanted) { 1 } else { objects.len() };
        for (at, path) in objects.iter().enumerate().take(most) {
            let other = objects.get((at + 1) % objects.len()).copied().filter(|other| other != path);
            for (harm, apply) in HARMS {
                if harm == "swapped" && other.is_none() {
                    continue;
                }
                let sandbox = copied(&self.healthy);
                let repo = sandbox.path("repo");
                apply(&repo.join(path), other.map(|other| repo.join(other)).as_deref());
                self.run(&sandbox, &Hurt { path, other, harm }, &expect);
            }
        }
    }

    fn run(&self, sandbox: &Sandbox, hurt: &Hurt<'_>, expect: &impl Fn(&Case<'_>, &Ran)) {
        let before = files(&sandbox.path("repo"));
        for args in COMMANDS {
            let ran = sandbox.run(args);
            let what = format!("{} {}: {args:?}: {} {}{}", hurt.path.display(), hurt.harm, ran.code, ran.err, ran.out);
            let said = format!("{}{}", ran.err, ran.out);
            assert!([0, 1, 3, 4].contains(&ran.code), "{what}");
            let is_error = ![0, 3].contains(&ran.code);
            if is_error {
                assert!(ran.out.is_empty() && ran.err.starts_with("error: ") && ran.err.contains("\nhint: "), "{what}");
                assert!(!sandbox.path("out.sqlite").exists(), "{what}");
            }
            if ran.code == 0 && args[0] == "restore" && !hurt.is_hidden() {
                let original = if args[1] == "first" { "first.db" } else { "sync.db" };
                assert_same_database(&sandbox.path("out.sqlite"), &sandbox.path(original));
            }
            let names = hurt.names().iter().any(|name| said.contains(name.as_str()));
            expect(&Case { hurt, args, names, what: &what }, &ran);
            let _ = std::fs::remove_file(sandbox.path("out.sqlite"));
        }
        let after = files(&sandbox.path("repo"));
        for (path, content) in &before {
            assert!(after.get(path) == Some(content), "{}: {} was changed", hurt.harm, path.display());
        }
    }
}

/// What was done to what.
struct Hurt<'a> {
    path: &'a Path,
    other: Option<&'a Path>,
    harm: &'static str,
}

impl Hurt<'_> {
    /// It was the end of a chain, and nothing tells that there was one more but for who saw it.
    fn is_hidden(&self) -> bool {
        self.harm == "missing" && ["roster/0000000002", "ledger/0000000003"].iter().any(|end| self.path.ends_with(end))
    }

    /// Names by which a message may name it.
    fn names(&self) -> Vec<String> {
        let other = self.other.filter(|_| self.harm == "swapped");
        let paths = [Some(self.path.to_owned()), other.map(Path::to_owned), Some(renamed(self.path))];
        paths.into_iter().flatten().map(|path| path.to_str().expect("UTF-8").to_owned()).collect()
    }
}

/// A command that met it.
struct Case<'a> {
    hurt: &'a Hurt<'a>,
    args: &'a [&'a str],
    /// Whether what was said names the object.
    names: bool,
    what: &'a str,
}

const COMMANDS: [&[&str]; 7] = [
    &["restore", "latest", "--to", "out.sqlite", "--key-file", "keys/admin.key"],
    &["restore", "first", "--to", "out.sqlite", "--key-file", "keys/admin.key"],
    &["show", "latest"],
    &["snapshots"],
    &["verify", "--level", "read"],
    &["verify", "--level", "deep", "--key-file", "keys/admin.key"],
    &["backup"],
];

/// Nobody can do anything without it, and everybody says so.
#[test]
fn descriptor_and_roster() {
    let matrix = Matrix::new();
    matrix.each("sidekeep.json", |case, ran| {
        assert!(case.names && [1, 3].contains(&ran.code), "{}", case.what);
    });
    matrix.each("roster", |case, ran| {
        assert!((case.names && [1, 3].contains(&ran.code)) || case.hurt.is_hidden(), "{}", case.what);
        assert!(case.args[0] != "verify" || ran.code == 3, "its ledger is still there: {}", case.what);
    });
}

/// A key without its grant opens nothing; the others do.
#[test]
fn grants() {
    let matrix = Matrix::new();
    matrix.each("keys", |case, ran| {
        assert!(ran.code == 0 || case.names, "{}", case.what);
        assert!(case.args[0] != "verify" || (ran.code == 3 && case.names) || ran.code == 1, "{}", case.what);
    });
}

/// What follows an entry that does not count may be gone; whoever is given something older is told.
#[test]
fn ledger_entries() {
    let matrix = Matrix::new();
    matrix.each("ledger", |case, ran| match case.args {
        ["backup"] => assert_eq!(ran.code, 0, "{}", case.what),
        _ if case.hurt.is_hidden() => {}
        ["verify" | "snapshots", ..] => assert!(ran.code == 3, "{}", case.what),
        _ => assert!(ran.code == 0 || case.names, "{}", case.what),
    });
}

#[test]
fn manifests() {
    let matrix = Matrix::new();
    matrix.each("manifests", |case, ran| {
        assert!(ran.code == 0 || case.names, "{}", case.what);
        match case.args[0] {
            "verify" | "snapshots" => assert_eq!(ran.code, 3, "{}", case.what),
            "backup" => assert_eq!(ran.code, 0, "{}", case.what),
            _ => assert!([0, 1].contains(&ran.code), "{}", case.what),
        }
    });
}

#[test]
fn packs() {
    let matrix = Matrix::new();
    matrix.each("packs", |case, ran| {
        assert!([0, 3].contains(&ran.code) && (ran.code == 0 || case.names), "{}", case.what);
        assert!(case.args[..3.min(case.args.len())] != ["verify", "--level", "read"] || ran.code == 3, "{}", case.what);
    });
}

/// Nothing but time is lost.
#[test]
fn index_and_sessions() {
    let matrix = Matrix::new();
    for kind in ["index", "sessions"] {
        matrix.each(kind, |case, ran| {
            assert!(ran.code == 0 || (case.args[0] == "verify" && ran.code == 3 && case.names), "{}", case.what);
        });
    }
}
