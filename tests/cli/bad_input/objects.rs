//! Every kind of object in the store, damaged in every way. A command must print a correct result, findings that name
//! the object, or an error that names the object and says what to do. `tests/damage/matrix.rs` checks which of them
//! it is. These tests check what a user sees, and that no command makes the damage worse.

use std::path::{Path, PathBuf};

use crate::bad_input::{copied, files, healthy};
use crate::support::sandbox::{Ran, Sandbox};
use crate::support::sqlite::assert_same_database;

/// A way to damage an object. The second path is another object of its kind.
type Damage = (&'static str, fn(&Path, Option<&Path>));

const DAMAGES: [Damage; 8] = [
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

/// `path` with another last digit.
fn renamed(path: &Path) -> PathBuf {
    let name = path.file_name().and_then(|name| name.to_str()).expect("UTF-8");
    let (head, last) = name.split_at(name.len() - 1);
    path.with_file_name(format!("{head}{}", if last == "9" { "8" } else { "9" }))
}

/// The paths of all objects in the repository, relative to it.
fn objects(sandbox: &Sandbox) -> Vec<PathBuf> {
    let repo = sandbox.path("repo");
    files(&repo).into_keys().map(|path| path.strip_prefix(&repo).expect("below it").to_owned()).collect()
}

/// The kind of an object, from its path.
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

/// A repository to copy for each case. It has three snapshots, the first with a tag, the last with a large value.
struct Matrix {
    healthy: Sandbox,
    objects: Vec<PathBuf>,
}

impl Matrix {
    fn new() -> Self {
        let healthy = healthy();
        // The database as it was in the first snapshot.
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

    /// Damages each object of this kind in each way, and runs the commands.
    fn each(&self, wanted: &str, expect: impl Fn(&Case<'_>, &Ran)) {
        let objects = self.of(wanted);
        assert!(!objects.is_empty(), "{wanted}");
        // All objects of these kinds are treated alike, so one is enough.
        let most = if ["index", "sessions"].contains(&wanted) { 1 } else { objects.len() };
        for (at, path) in objects.iter().enumerate().take(most) {
            let other = objects.get((at + 1) % objects.len()).copied().filter(|other| other != path);
            for (damage, apply) in DAMAGES {
                if damage == "swapped" && other.is_none() {
                    continue;
                }
                let sandbox = copied(&self.healthy);
                let repo = sandbox.path("repo");
                apply(&repo.join(path), other.map(|other| repo.join(other)).as_deref());
                self.run(&sandbox, &DamagedObject { path, other, damage }, &expect);
            }
        }
    }

    fn run(&self, sandbox: &Sandbox, damaged: &DamagedObject<'_>, expect: &impl Fn(&Case<'_>, &Ran)) {
        let before = files(&sandbox.path("repo"));
        for args in COMMANDS {
            let ran = sandbox.run(args);
            let what =
                format!("{} {}: {args:?}: {} {}{}", damaged.path.display(), damaged.damage, ran.code, ran.err, ran.out);
            let said = format!("{}{}", ran.err, ran.out);
            assert!([0, 1, 3, 4].contains(&ran.code), "{what}");
            let is_error = ![0, 3].contains(&ran.code);
            if is_error {
                assert!(ran.out.is_empty() && ran.err.starts_with("error: ") && ran.err.contains("\nhint: "), "{what}");
                assert!(!sandbox.path("out.sqlite").exists(), "{what}");
            }
            if ran.code == 0 && args[0] == "restore" && !damaged.is_hidden() {
                let original = if args[1] == "first" { "first.db" } else { "sync.db" };
                assert_same_database(&sandbox.path("out.sqlite"), &sandbox.path(original));
            }
            let names = damaged.names().iter().any(|name| said.contains(name.as_str()));
            expect(&Case { damaged, args, names, what: &what }, &ran);
            let _ = std::fs::remove_file(sandbox.path("out.sqlite"));
        }
        let after = files(&sandbox.path("repo"));
        for (path, content) in &before {
            assert!(after.get(path) == Some(content), "{}: {} was changed", damaged.damage, path.display());
        }
    }
}

/// A damaged object.
struct DamagedObject<'a> {
    path: &'a Path,
    other: Option<&'a Path>,
    damage: &'static str,
}

impl DamagedObject<'_> {
    /// Whether it was the last entry of a chain. Only a reader who saw it before can know that it is missing.
    fn is_hidden(&self) -> bool {
        self.damage == "missing"
            && ["roster/0000000002", "ledger/0000000003"].iter().any(|end| self.path.ends_with(end))
    }

    /// The names that a message may use for it.
    fn names(&self) -> Vec<String> {
        let other = self.other.filter(|_| self.damage == "swapped");
        let paths = [Some(self.path.to_owned()), other.map(Path::to_owned), Some(renamed(self.path))];
        paths.into_iter().flatten().map(|path| path.to_str().expect("UTF-8").to_owned()).collect()
    }
}

/// A command that ran with a damaged object.
struct Case<'a> {
    damaged: &'a DamagedObject<'a>,
    args: &'a [&'a str],
    /// Whether the output names the object.
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

/// No command works without these, and each says so.
#[test]
fn a_damaged_descriptor_or_roster_is_named_by_every_command() {
    let matrix = Matrix::new();
    matrix.each("sidekeep.json", |case, ran| {
        assert!(case.names && [1, 3].contains(&ran.code), "{}", case.what);
    });
    matrix.each("roster", |case, ran| {
        assert!((case.names && [1, 3].contains(&ran.code)) || case.damaged.is_hidden(), "{}", case.what);
        assert!(case.args[0] != "verify" || ran.code == 3, "its ledger is still there: {}", case.what);
    });
}

/// A key without its grant opens nothing. Other keys still work.
#[test]
fn a_damaged_grant_is_named() {
    let matrix = Matrix::new();
    matrix.each("keys", |case, ran| {
        assert!(ran.code == 0 || case.names, "{}", case.what);
        assert!(case.args[0] != "verify" || (ran.code == 3 && case.names) || ran.code == 1, "{}", case.what);
    });
}

/// Entries after a damaged entry are not used. A command that uses an older snapshot instead must say so.
#[test]
fn a_damaged_ledger_entry_is_named() {
    let matrix = Matrix::new();
    matrix.each("ledger", |case, ran| match case.args {
        // It does not take the number of an entry that is missing.
        ["backup"] => assert!(ran.code == 0 || (ran.code == 1 && case.names), "{}", case.what),
        _ if case.damaged.is_hidden() => {}
        ["verify" | "snapshots", ..] => assert!(ran.code == 3, "{}", case.what),
        _ => assert!(ran.code == 0 || case.names, "{}", case.what),
    });
}

#[test]
fn a_damaged_manifest_is_named() {
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
fn a_damaged_pack_is_a_finding() {
    let matrix = Matrix::new();
    matrix.each("packs", |case, ran| {
        assert!([0, 3].contains(&ran.code) && (ran.code == 0 || case.names), "{}", case.what);
        assert!(case.args[..3.min(case.args.len())] != ["verify", "--level", "read"] || ran.code == 3, "{}", case.what);
    });
}

/// These are caches. Damage costs only time.
#[test]
fn a_damaged_index_or_session_loses_nothing() {
    let matrix = Matrix::new();
    for kind in ["index", "sessions"] {
        matrix.each(kind, |case, ran| {
            assert!(ran.code == 0 || (case.args[0] == "verify" && ran.code == 3 && case.names), "{}", case.what);
        });
    }
}
