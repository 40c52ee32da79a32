//! `sidekeep init`

use std::os::unix::fs::PermissionsExt;

use crate::Sandbox;
use crate::support::sandbox::SERVICE;

const ROLES: [&str; 5] = ["operator", "maintainer", "admin", "auditor", "recovery"];

#[test]
fn init_creates_a_repository_its_keys_and_a_configuration() {
    let sandbox = Sandbox::new();
    let document = sandbox.json(&["init", "repo", "--source", "sqlite:sync.db"]);
    assert!(sandbox.path("repo/sidekeep.json").exists());
    let fingerprint = document["fingerprint"].as_str().expect("a fingerprint");
    assert_eq!(fingerprint.len(), 64);
    for role in ROLES {
        let path = sandbox.path(&format!("keys/{role}.key"));
        assert_eq!(path.metadata().expect("is there").permissions().mode() & 0o777, 0o600);
        let text = std::fs::read_to_string(path).expect("reads");
        assert!(text.contains(&format!("role: {role}\n")) && text.contains(fingerprint));
    }
    let config = std::fs::read_to_string(sandbox.path("sidekeep.toml")).expect("reads");
    for expected in ["operator.key", "sync.db", sandbox.path("repo").to_str().expect("UTF-8")] {
        assert!(config.contains(expected), "{expected} in {config}");
    }
}

#[test]
fn no_secret_is_printed() {
    let sandbox = Sandbox::new();
    let out = sandbox.ok(&["init", "repo"]);
    for role in ROLES {
        let text = std::fs::read_to_string(sandbox.path(&format!("keys/{role}.key"))).expect("reads");
        let secret = text.lines().find_map(|line| line.strip_prefix("secret: ")).expect("a plain key");
        assert!(!out.contains(secret));
    }
    assert!(out.contains("recovery.key") && out.contains("fingerprint"));
}

#[test]
fn nothing_is_ever_overwritten() {
    let sandbox = Sandbox::with_repository();
    let before = std::fs::read(sandbox.path("keys/admin.key")).expect("reads");
    assert!(sandbox.fails(2, &["init", "other"]).contains("operator.key"));
    assert!(!sandbox.path("other").exists());
    assert!(sandbox.fails(6, &["init", "repo", "--keys-dir", "more"]).contains("already"));
    assert!(!sandbox.path("more").exists());
    let config = std::fs::read(sandbox.path("sidekeep.toml")).expect("reads");
    let document = sandbox.json(&["init", "other", "--keys-dir", "more"]);
    assert_eq!(document["config"]["state"], "kept");
    assert_eq!(std::fs::read(sandbox.path("sidekeep.toml")).expect("reads"), config);
    assert_eq!(std::fs::read(sandbox.path("keys/admin.key")).expect("reads"), before);
}

#[test]
fn a_key_directory_that_cannot_be_created_is_an_unusable_setting() {
    let sandbox = Sandbox::new();
    sandbox.write("file", "");
    for (dir, reason) in [("file", "File exists"), ("file/keys", "Not a directory")] {
        let err = sandbox.fails(2, &["init", "repo", "--keys-dir", dir]);
        assert!(err.starts_with(&format!("error: cannot create the directory {dir}: {reason}")), "{err}");
        assert!(!err.contains("hint"), "{err}");
    }
    assert!(!sandbox.path("repo").exists());
}

#[test]
fn a_configuration_file_that_is_a_directory_is_refused_before_anything_is_created() {
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.path("dir")).expect("makes");
    let err = sandbox.fails(2, &["init", "repo", "--config", "dir"]);
    assert_eq!(err, "error: cannot write the configuration dir: it is a directory\nhint: name a file with --config\n");
    assert!(!sandbox.path("repo").exists() && !sandbox.path("keys").exists());
    std::fs::create_dir(sandbox.path("sidekeep.toml")).expect("makes");
    assert!(sandbox.fails(2, &["init", "repo"]).contains("sidekeep.toml: it is a directory"));
}

#[test]
fn a_configuration_that_cannot_be_written_is_refused_before_anything_is_created() {
    let sandbox = Sandbox::new();
    let err = sandbox.fails(2, &["init", "repo", "--config", "gone/x.toml"]);
    assert_eq!(err, "error: cannot write gone/x.toml: No such file or directory (os error 2)\n");
    assert!(!sandbox.path("repo").exists() && !sandbox.path("keys").exists());
    sandbox.ok(&["init", "repo", "--config", "keys/x.toml"]);
}

#[test]
fn a_source_that_is_not_configured_or_does_not_exist_is_noted() {
    let sandbox = Sandbox::new();
    let out = sandbox.ok(&["init", "repo", "--source", "sqlite:sync.db"]);
    assert!(out.contains("sync.db does not exist on this machine") && !out.contains("--source"), "{out}");
    sandbox.write("sync.db", "");
    let init = ["init", "other", "--keys-dir", "more", "--source", "sqlite:sync.db"];
    let out = sandbox.ok(&init);
    assert!(out.contains("note: sidekeep.toml was not changed, so --source is not in it"), "{out}");
    assert!(!out.contains("does not exist"), "{out}");
    let server = ["--source", "postgres://me@db.invalid/sync"];
    let init = [&["init", "third", "--keys-dir", "third-keys", "--config", "third.toml"], &server[..]].concat();
    assert!(!sandbox.ok(&init).contains("note: "), "no server is asked");
}

#[test]
fn a_passphrase_protects_the_keys_that_open_rows() {
    let sandbox = Sandbox::new();
    sandbox.ok(&["init", "repo", "--passphrase-command", "echo open sesame"]);
    for role in ROLES {
        let text = std::fs::read_to_string(sandbox.path(&format!("keys/{role}.key"))).expect("reads");
        assert_eq!(text.contains("sealed: "), ["admin", "recovery"].contains(&role), "{role}");
    }
}

#[test]
fn init_does_not_ask_for_a_passphrase_without_a_terminal() {
    let sandbox = Sandbox::new();
    let message = sandbox.fails(5, &["init", "repo", "--ask-passphrase"]);
    assert!(message.contains("terminal") && message.contains("--passphrase-command"), "{message}");
    assert!(!sandbox.path("keys").exists());
}

#[test]
fn a_failed_init_leaves_no_keys() {
    let sandbox = Sandbox::new();
    sandbox.write("file", "");
    let ran = sandbox.run(&["init", "file/repo"]);
    assert!([4, 7].contains(&ran.code), "{} {}", ran.code, ran.err);
    assert!(!sandbox.path("keys").exists());
}

#[test]
fn two_recovery_keys_are_two_files_and_each_restores() {
    let sandbox = Sandbox::new();
    sandbox.sql("sync.db", SERVICE);
    sandbox.ok(&["init", "repo", "--source", "sqlite:sync.db", "--recovery-keys", "2"]);
    sandbox.ok(&["backup"]);
    for (key, to) in [("keys/recovery.key", "one.sqlite"), ("keys/recovery-2.key", "two.sqlite")] {
        sandbox.ok(&["restore", "latest", "--to", to, "--key-file", key]);
    }
    sandbox.fails(2, &["init", "other", "--recovery-keys", "0"]);
}
