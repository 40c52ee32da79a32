//! `scripts/check` writes `target/checked` if, and only if, it checked the committed tree.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::source::root;

/// A repository with `scripts/check`, and stubs for the programs that it runs.
struct Checkout {
    dir: TempDir,
}

impl Checkout {
    fn new() -> Self {
        let checkout = Self { dir: tempfile::tempdir().expect("a directory") };
        let check = fs::read_to_string(root().join("scripts/check")).expect("the script");
        checkout.script("scripts/check", &check);
        checkout.script("scripts/licences", "#!/bin/sh\n");
        checkout.script("scripts/test", "#!/bin/sh\nexec sh -c \"$SIDEKEEP_STUB_TEST\"\n");
        checkout.script("stubs/cargo", "#!/bin/sh\n");
        checkout.script("stubs/cargo-deny", "#!/bin/sh\n");
        checkout.script("stubs/shellcheck", "#!/bin/sh\n");
        fs::write(checkout.path(".gitignore"), "/target\n").expect("writes");
        checkout.git(&["init", "--quiet"]);
        checkout.git(&["add", "--all"]);
        checkout.commit();
        checkout
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn script(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("makes");
        fs::write(&path, text).expect("writes");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a mode");
    }

    fn git(&self, args: &[&str]) -> String {
        let output = prepared("git", self.dir.path()).args(args).output().expect("git runs");
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    }

    fn commit(&self) {
        self.git(&["commit", "--quiet", "--allow-empty", "--message", "a commit"]);
    }

    /// Runs `scripts/check` with `test` as its `scripts/test`, and returns the tree that it reports as checked.
    fn checked(&self, test: &str, args: &[&str]) -> Option<String> {
        let path = format!("{}:{}", self.path("stubs").display(), std::env::var("PATH").expect("a path"));
        let mut check = prepared(self.path("scripts/check"), self.dir.path());
        check.args(args).env("PATH", path).env("SIDEKEEP_STUB_TEST", test);
        check.env("CARGO_TARGET_DIR", self.path("stubs"));
        check.output().expect("the script runs");
        fs::read_to_string(self.path("target/checked")).ok()
    }
}

/// A command without the git settings of the environment and the user.
fn prepared(program: impl AsRef<std::ffi::OsStr>, dir: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(dir);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("GIT_")) {
        command.env_remove(name);
    }
    for name in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{name}_NAME"), "a test").env(format!("GIT_{name}_EMAIL"), "test@example.org");
    }
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    command
}

#[test]
fn a_tree_that_passes_is_reported() {
    let checkout = Checkout::new();
    let tree = checkout.git(&["rev-parse", "HEAD^{tree}"]);
    assert_eq!(checkout.checked("true", &[]), Some(format!("{tree}\n")));
}

#[test]
fn no_tree_is_reported_after_a_failure_or_a_change() {
    let changed = Checkout::new();
    fs::write(changed.path("scripts/licences"), "#!/bin/sh\n\n").expect("writes");
    assert_eq!(changed.checked("true", &[]), None, "there are uncommitted changes");
    for (test, args, what) in [
        ("false", &[][..], "a test failed"),
        ("true", &["-E", "all()"], "only some tests ran"),
        ("touch new", &[], "a file was created meanwhile"),
        ("git commit --quiet --allow-empty --message another", &[], "HEAD has moved"),
    ] {
        assert_eq!(Checkout::new().checked(test, args), None, "{what}");
    }
}
