//! Where a key and its passphrase come from, and that nothing is asked without a terminal.

use std::os::unix::fs::PermissionsExt;

use sidekeep::base::role::{Role, SourceScope};

use crate::Sandbox;
use crate::support::world::data::create_service;
use crate::support::world::{SOURCE, World};

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

/// A stolen key of one host.
#[test]
fn an_operator_of_one_source_opens_nothing_of_another() {
    let world = World::new();
    let path = world.path("live");
    drop(create_service(&path, 5));
    let theirs = world.source(SOURCE).to_string();
    world.backup(&path);
    let own = world.add_source("own");
    let file = world.enrol(Role::Operator, Some(SourceScope::Named(vec![own])));
    let mut sandbox = Sandbox::new();
    sandbox.write("own.key", &file);
    sandbox.set("SIDEKEEP_REPO", world.path("store"));
    let key = ["--key-file", "own.key", "--quiet"];
    let commands: [&[&str]; 3] = [&["show", "latest"], &["snapshots"], &["verify", "--level", "structure"]];
    for command in commands {
        let by_id = sandbox.fails(5, &[command, &["--source", &theirs], &key].concat());
        assert!(by_id.contains("not enrolled for this source"), "{command:?}: {by_id}");
        let by_name = sandbox.fails(5, &[command, &["--source", SOURCE], &key].concat());
        assert!(by_name.contains("cannot name 1 of the sources"), "{command:?}: {by_name}");
    }
    // The store is in order, so nothing is said to be damaged.
    let status = sandbox.run(&[&["status"], &key[..2]].concat());
    assert!(status.out.contains(&theirs) && !status.out.contains("cannot be opened"), "{}", status.out);
    // The list has what is public, and says what is missing.
    let list = sandbox.run(&[&["snapshots"], &key[..2]].concat());
    assert_eq!(list.code, 0, "{}", list.err);
    assert!(list.out.contains(&format!("source {theirs}")) && list.out.contains("source own"), "{}", list.out);
    assert!(!list.out.contains(SOURCE) && list.out.contains("not enrolled for 1 of the sources"), "{}", list.out);
}
