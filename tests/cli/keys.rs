//! Where a key and its passphrase come from, and that nothing is asked without a terminal.

use std::os::unix::fs::PermissionsExt;

use crate::Sandbox;

fn without_config() -> Sandbox {
    let mut sandbox = Sandbox::with_service();
    std::fs::remove_file(sandbox.path("sidekeep.toml")).expect("removes");
    sandbox.set("SIDEKEEP_REPO", "repo");
    sandbox
}

const BACKUP: [&str; 2] = ["backup", "sqlite:sync.db"];

#[test]
fn a_key_comes_from_option_variable_or_command() {
    let mut sandbox = without_config();
    assert!(sandbox.fails(5, &BACKUP).contains("--key-file"));
    sandbox.ok(&[&BACKUP[..], &["--key-file", "keys/operator.key"]].concat());
    sandbox.ok(&[&BACKUP[..], &["--key-command", "cat keys/operator.key"]].concat());
    sandbox.set("SIDEKEEP_KEY_COMMAND", "cat keys/operator.key");
    sandbox.ok(&BACKUP);
    // An option overrides a variable, even if one names a file and the other a command.
    assert!(sandbox.fails(5, &[&BACKUP[..], &["--key-file", "missing.key"]].concat()).contains("missing.key"));
    sandbox.set("SIDEKEEP_KEY_FILE", "keys/operator.key");
    assert!(sandbox.fails(2, &BACKUP).contains("SIDEKEEP_KEY_COMMAND"));
}

#[test]
fn the_output_of_a_failing_key_command_is_not_shown() {
    let sandbox = without_config();
    let message = sandbox.fails(5, &[&BACKUP[..], &["--key-command", "cat keys/operator.key; exit 9"]].concat());
    let key = std::fs::read_to_string(sandbox.path("keys/operator.key")).expect("reads");
    assert!(message.contains("exit status: 9") && !key.lines().any(|line| message.contains(line)), "{message}");
}

#[test]
fn a_key_file_that_other_users_can_read_causes_a_warning() {
    let sandbox = without_config();
    let key = sandbox.path("keys/operator.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).expect("permissions");
    let args = [&BACKUP[..], &["--key-file", "keys/operator.key"]].concat();
    let ran = sandbox.run(&args);
    assert!(ran.code == 0 && ran.err.starts_with("warning: ") && ran.err.contains("chmod 600"), "{}", ran.err);
    assert_eq!(sandbox.ok(&[&args[..], &["--quiet"]].concat()).lines().count(), 3);
}

#[test]
fn a_passphrase_must_be_given_if_there_is_no_terminal() {
    let mut sandbox = Sandbox::new();
    sandbox.ok(&["init", "repo", "--passphrase-command", "echo open sesame"]);
    sandbox.sql("sync.db", "CREATE TABLE users (id INTEGER PRIMARY KEY);");
    let args = ["backup", "sqlite:sync.db", "--key-file", "keys/admin.key"];
    let message = sandbox.fails(5, &args);
    assert!(message.contains("passphrase") && message.contains("SIDEKEEP_PASSPHRASE"), "{message}");
    let wrong = sandbox.fails(5, &[&args[..], &["--passphrase-command", "echo open"]].concat());
    assert!(wrong.contains("wrong passphrase"), "{wrong}");
    // The key opens. Its role is checked after that.
    let opened = sandbox.fails(5, &[&args[..], &["--passphrase-command", "echo open sesame"]].concat());
    assert!(opened.contains("needs the key of an operator"), "{opened}");
    sandbox.set("SIDEKEEP_PASSPHRASE", "open sesame");
    assert!(sandbox.fails(5, &args).contains("needs the key of an operator"));
}
