//! Runs each runbook of `docs/keys.md`, command by command.

use std::process::Command;

use super::support::{ADMIN, id, line, with_key};
use crate::Sandbox;

/// The commands of a runbook.
fn commands(name: &str) -> Vec<String> {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/keys.md")).expect("reads");
    let mark = format!("<!-- test: {name} -->\n```sh\n");
    let block = page.split(&mark).nth(1).and_then(|rest| rest.split("```").next());
    block.unwrap_or_else(|| panic!("no runbook {name}")).lines().map(str::to_owned).collect()
}

/// A repository with a snapshot and, if wanted, two recovery keys.
fn begun(recovery_keys: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.sql("sync.db", crate::support::sandbox::SERVICE);
    sandbox.ok(&["init", "repo", "--source", "sqlite:sync.db", "--recovery-keys", recovery_keys]);
    sandbox.ok(&["backup"]);
    sandbox
}

/// Follows a runbook. The names of keys in it are roles, which mean the oldest key of that role.
fn follow(sandbox: &Sandbox, name: &str) {
    let roles = ["operator", "admin", "recovery"].map(|role| (role.to_uppercase(), id(sandbox, role)));
    for command in commands(name) {
        let named = roles.iter().fold(command.clone(), |text, (role, id)| text.replace(&format!("'{role}'"), id));
        let program = format!("'{}' ", env!("CARGO_BIN_EXE_sidekeep"));
        let text = named.replacen("sidekeep ", &program, 1);
        let mut shell = Command::new("sh");
        shell.arg("-ec").arg(&text).current_dir(sandbox.dir.path()).env_clear();
        shell.env("PATH", "/usr/bin:/bin").env("HOME", sandbox.dir.path()).env("TZ", "UTC");
        let ran = Sandbox::ran(&mut shell);
        assert_eq!(ran.code, 0, "{command}: {}{}", ran.out, ran.err);
    }
}

#[test]
fn the_server_is_replaced() {
    let sandbox = begun("1");
    follow(&sandbox, "replaced");
    let listed = sandbox.json(&with_key(&["source", "list"], ADMIN));
    assert_eq!(listed["sources"].as_array().map(Vec::len), Some(1));
    sandbox.fails(5, &["backup"]);
    assert_eq!(line(&sandbox, "operator")["is_distrusted"], false);
}

#[test]
fn the_operator_key_is_stolen() {
    let sandbox = begun("1");
    follow(&sandbox, "stolen operator");
    sandbox.fails(5, &["backup"]);
    assert_eq!(line(&sandbox, "operator")["is_distrusted"], true);
    assert_eq!(line(&sandbox, "recovery")["epochs"], serde_json::json!([1, 2]));
}

#[test]
fn the_admin_leaves() {
    let sandbox = begun("1");
    follow(&sandbox, "admin leaves");
    // What it could open, it still opens.
    let ran = sandbox.run(&with_key(&["restore", "latest", "--to", "old.sqlite"], ADMIN));
    assert!(ran.code == 3 && ran.out.contains("it was revoked by roster entry"), "{}", ran.out);
    sandbox.fails(5, &with_key(&["key", "rotate", "--to", "own.key"], ADMIN));
    sandbox.ok(&with_key(&["restore", "latest", "--to", "x.sqlite"], "ben.key"));
    sandbox.ok(&["backup"]);
}

#[test]
fn the_admin_key_is_lost() {
    let sandbox = begun("1");
    follow(&sandbox, "admin lost");
    sandbox.ok(&["backup"]);
    assert_eq!(line(&sandbox, "admin")["revoked"]["reason"], "lost");
}

#[test]
fn a_recovery_key_is_lost() {
    let sandbox = begun("2");
    std::fs::remove_file(sandbox.path("keys/recovery.key")).expect("removes");
    follow(&sandbox, "recovery lost");
    sandbox.ok(&["backup"]);
    sandbox.ok(&with_key(&["restore", "latest", "--to", "x.sqlite"], "new-recovery.key"));
}

#[test]
fn a_recovery_key_is_stolen() {
    let sandbox = begun("1");
    follow(&sandbox, "recovery stolen");
    assert_eq!(
        sandbox.json(&["snapshots", "--config", "new.toml"])["sources"][0]["snapshots"].as_array().map(Vec::len),
        Some(1)
    );
}
