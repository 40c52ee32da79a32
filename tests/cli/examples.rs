//! Runs the examples in the help of every command as they are printed. Only names of servers and directories differ.

use std::process::Command;

use crate::Sandbox;
use crate::help::commands;
use crate::support::sandbox::SERVICE;

/// Names in the examples, and what the sandbox has instead.
const REPLACED: &[(&str, &str)] = &[
    ("backup sqlite:///srv/sync/sync.db", "backup main"),
    ("sqlite:///srv/sync/sync.db", "sqlite:sync.db"),
    ("--repo s3://sync-backups/main", "--repo store"),
    ("init s3://sync-backups/main", "init another-store --keys-dir other-keys --config other.toml"),
    ("/mnt/", "mnt/"),
    ("/etc/", ""),
    ("/var/lib/sidekeep/", ""),
    ("\"yesterday 03:00\"", "$(date -u +%Y-%m-%dT%H:%M:%S.%6NZ)"),
    ("latest~7", "latest~1"),
    ("--user 4711", "--user 2"),
    ("9f2c...", "$FINGERPRINT"),
    ("sidekeep ", "\"$SIDEKEEP\" "),
];

/// Examples that need a server, a terminal or a program that a test machine may lack.
const NOT_RUN: &[&str] = &["postgres://", "--ask-passphrase", "| man", "mail -s"];

/// A repository with two snapshots, and all files that the examples name.
struct Examples {
    sandbox: Sandbox,
    fingerprint: String,
}

impl Examples {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        sandbox.sql("sync.db", SERVICE);
        sandbox.sql("sync.db", "CREATE TABLE calendars (id INTEGER PRIMARY KEY, user_id INTEGER REFERENCES users)");
        let repository = sandbox.json(&["init", "store", "--source", "sqlite:sync.db"]);
        for role in ["operator", "admin", "auditor"] {
            let key = sandbox.path(&format!("keys/{role}.key"));
            std::fs::copy(key, sandbox.path(&format!("{role}.key"))).expect("copies");
        }
        let completions = sandbox.path(".local/share/bash-completion/completions");
        std::fs::create_dir_all(completions).expect("makes directories");
        sandbox.ok(&["backup", "--tag", "before-migration"]);
        sandbox.sql("sync.db", "INSERT INTO contacts VALUES (5, 2, 'Edsger')");
        sandbox.ok(&["backup"]);
        Self { sandbox, fingerprint: repository["fingerprint"].as_str().expect("a fingerprint").to_owned() }
    }

    /// Runs an example in a shell. Returns a message if it failed.
    fn failure(&self, example: &str) -> Option<String> {
        let line = REPLACED.iter().fold(example.to_owned(), |line, (named, there)| line.replace(named, there));
        let mut shell = Command::new("sh");
        shell.arg("-ec").arg(&line).current_dir(self.sandbox.dir.path()).env_clear();
        shell.env("PATH", "/usr/bin:/bin").env("HOME", self.sandbox.dir.path()).env("TZ", "UTC");
        shell.env("SIDEKEEP", env!("CARGO_BIN_EXE_sidekeep")).env("FINGERPRINT", &self.fingerprint);
        // If an example names no key, an admin's environment does.
        if example.contains("restore") || example.contains("diff") {
            shell.env("SIDEKEEP_KEY_FILE", "admin.key");
        }
        let ran = Sandbox::ran(&mut shell);
        (ran.code != 0).then(|| format!("{example}\n  ran as {line}\n  ended with {}: {}", ran.code, ran.err))
    }
}

/// The examples in a help text that can run here.
fn runnable(help: &str) -> Vec<&str> {
    let examples = help.lines().map(str::trim).filter(|line| line.starts_with("sidekeep "));
    examples.filter(|line| !NOT_RUN.iter().any(|word| line.contains(word))).collect()
}

#[test]
fn every_example_in_the_help_works() {
    let examples = Examples::new();
    let mut failures = Vec::new();
    for command in commands() {
        let help = examples.sandbox.ok(&[&command, "--help"]);
        let lines = runnable(&help);
        assert!(!lines.is_empty(), "{command} has no example that can be run:\n{help}");
        failures.extend(lines.into_iter().filter_map(|line| examples.failure(line)));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
