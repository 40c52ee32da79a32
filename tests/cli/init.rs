//! `sidekeep init`

use std::os::unix::fs::PermissionsExt;

use crate::Sandbox;

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
