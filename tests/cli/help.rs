//! Help, version, and wrong command lines.

use crate::Sandbox;

/// All commands, in the order of `sidekeep --help`.
pub fn commands() -> Vec<String> {
    let help = Sandbox::new().ok(&["--help"]);
    let list = help.split("Commands:\n").nth(1).and_then(|rest| rest.split("Options:\n").next()).expect("a list");
    let names = list.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

#[test]
fn common_commands_come_first_and_global_options_are_in_one_place() {
    let sandbox = Sandbox::new();
    assert_eq!(commands()[..5], ["backup", "snapshots", "restore", "verify", "status"]);
    let root = sandbox.ok(&["--help"]);
    assert!(root.contains("--json") && root.contains("SIDEKEEP_REPO"), "{root}");
    assert!(root.lines().all(|line| line.chars().count() <= 100), "{root}");
    for command in commands() {
        let help = sandbox.ok(&[&command, "--help"]);
        assert!(!help.contains("SIDEKEEP_REPO") && help.contains("`sidekeep --help`"), "{help}");
    }
}

#[test]
fn the_help_of_every_command_has_an_example() {
    let sandbox = Sandbox::new();
    let commands = commands();
    assert!(commands.iter().any(|command| command == "init"), "{commands:?}");
    for command in &commands {
        let help = sandbox.ok(&[command, "--help"]);
        assert!(help.contains(&format!("    sidekeep {command}")), "no example in:\n{help}");
        assert!(help.lines().all(|line| line.chars().count() <= 100), "{help}");
    }
    assert!(sandbox.ok(&["--version"]).starts_with("sidekeep 0."));
}

#[test]
fn wrong_usage_is_reported_with_exit_code_2() {
    let sandbox = Sandbox::new();
    for (args, expected) in [
        (&["--no-such-option"][..], "--no-such-option"),
        (&["resotre"], "resotre"),
        (&["init"], "<REPO>"),
        (&["init", ""], "REPO"),
        (&["init", "ftp://x/y"], "ftp"),
        (&["init", "s3://key:hunter2@bucket"], "bucket"),
        (&["init", "repo", "--source", "mysql://ana:hunter2@db/x"], "mysql://ana:***@db/x"),
        (&["init", "repo", "--source", "postgres://ana:hunter2@db/x?what=y"], "\"what\" is not supported"),
        (&["--key-file", "a", "--key-command", "b", "man"], "--key-command"),
        (&[], "Usage"),
    ] {
        let message = sandbox.fails(2, args);
        assert!(message.contains(expected) && !message.contains("hunter2"), "{args:?}: {message}");
    }
}

#[test]
fn help_does_not_show_values_of_the_environment() {
    let mut sandbox = Sandbox::new();
    for name in ["SIDEKEEP_REPO", "SIDEKEEP_CONFIG", "SIDEKEEP_KEY_FILE", "SIDEKEEP_KEY_COMMAND"] {
        sandbox.set(name, "hunter2");
    }
    assert!(!sandbox.ok(&["--help"]).contains("hunter2"));
}
