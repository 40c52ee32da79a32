//! Wrong keys and passphrases.

use std::os::unix::fs::PermissionsExt;

use sidekeep::base::env::System;
use sidekeep::base::revocation::RevocationReason;
use sidekeep::crypto::keyfile::{KdfCost, KeyFile, Protection};
use sidekeep::format::roster::{RevokeKey, RosterStatement};

use crate::bad_input::stored::{identity, state};
use crate::bad_input::{BACKUP, Case, all_fail, alter, healthy};
use crate::support::sandbox::Sandbox;

fn none(_: &mut Sandbox) {}

const OTHER: &str = "keys/other.key";

/// Changes the line `name` of the configured operator key file to `value`.
fn with_line(sandbox: &Sandbox, name: &str, value: &str) {
    let text = std::fs::read_to_string(sandbox.path("keys/operator.key")).expect("reads");
    let line = text.lines().find(|line| line.starts_with(&format!("{name}: "))).expect("a line").to_owned();
    alter(sandbox, "keys/operator.key", &line, &format!("{name}: {value}"));
}

fn truncated(sandbox: &Sandbox, name: &str, bytes: usize) {
    let text = std::fs::read(sandbox.path(name)).expect("reads");
    std::fs::write(sandbox.path(name), &text[..bytes]).expect("writes");
}

/// Writes the admin's key, protected by a passphrase.
fn sealed(sandbox: &mut Sandbox) {
    let text = std::fs::read_to_string(sandbox.path("keys/admin.key")).expect("reads");
    let fingerprint = KeyFile::parse(&text).expect("a key file").header().fingerprint;
    let protection = Protection::Passphrase { passphrase: b"open sesame", cost: KdfCost::LEAST };
    let sealed = KeyFile::write(&System, &identity(sandbox, "admin"), "sealed", fingerprint, protection);
    let path = sandbox.write("keys/sealed.key", &sealed.expect("writes"));
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("permissions");
}

const SEALED: &[&str] = &["restore", "latest", "--to", "out.sqlite", "--key-file", "keys/sealed.key"];

#[test]
fn a_wrong_key_is_named() {
    all_fail(&[
        Case {
            name: "another repository's",
            arrange: |sandbox| {
                sandbox.ok(&["init", "other", "--keys-dir", "more"]);
            },
            args: &["backup", "--key-file", "more/operator.key"],
            code: 5,
            words: &["fingerprint", "check the location, and the key"],
        },
        Case {
            name: "another role's",
            arrange: none,
            args: &["backup", "--key-file", "keys/auditor.key"],
            code: 5,
            words: &["a backup needs the key of an operator", " is auditor", "--key-file"],
        },
        Case {
            name: "another role's, for a restore",
            arrange: none,
            args: &["restore", "latest", "--to", "out.sqlite"],
            code: 5,
            words: &["a restore needs the key of an admin", " is operator", "--key-file"],
        },
        Case {
            name: "a revoked one",
            arrange: |sandbox| {
                let key = identity(sandbox, "operator").key_id();
                state(sandbox, vec![RosterStatement::Revoke(RevokeKey { key, reason: RevocationReason::Stolen })]);
            },
            args: BACKUP,
            code: 5,
            words: &["is revoked in this repository", "give another key of this repository with --key-file"],
        },
        Case {
            name: "none",
            arrange: |sandbox| alter(sandbox, "sidekeep.toml", "key_file = 'keys/operator.key'", ""),
            args: BACKUP,
            code: 5,
            words: &["no key is given", "--key-file"],
        },
        Case {
            name: "a file that is not there",
            arrange: none,
            args: &["backup", "--key-file", OTHER],
            code: 5,
            words: &["cannot read the key file keys/other.key", "No such file", "--key-file"],
        },
        Case {
            name: "a directory",
            arrange: none,
            args: &["backup", "--key-file", "keys"],
            code: 5,
            words: &["cannot read the key file keys: Is a directory", "--key-file"],
        },
    ]);
}

#[test]
fn an_invalid_key_file_is_named() {
    let garbage = |sandbox: &mut Sandbox| drop(sandbox.write("keys/operator.key", "hunter2\nhunter2\n"));
    all_fail(&[
        Case {
            name: "garbage",
            arrange: garbage,
            args: BACKUP,
            code: 5,
            words: &["the key file", "keys/operator.key", "is not a Sidekeep key file", "--key-file"],
        },
        Case {
            name: "no text",
            arrange: |sandbox| std::fs::write(sandbox.path("keys/operator.key"), [0xff; 100]).expect("writes"),
            args: BACKUP,
            code: 5,
            words: &["keys/operator.key", "is not UTF-8 text", "--key-file"],
        },
        Case {
            name: "too long",
            arrange: |sandbox| drop(sandbox.write("keys/operator.key", &"sidekeep key 1\n".repeat(2000))),
            args: BACKUP,
            code: 5,
            words: &["keys/operator.key", "16 KiB", "--key-file"],
        },
        Case {
            name: "empty",
            arrange: |sandbox| drop(sandbox.write("keys/operator.key", "")),
            args: BACKUP,
            code: 5,
            words: &["keys/operator.key", "is not a Sidekeep key file", "--key-file"],
        },
        Case {
            name: "truncated in its head",
            arrange: |sandbox| truncated(sandbox, "keys/operator.key", 100),
            args: BACKUP,
            code: 5,
            words: &["keys/operator.key", "is damaged", "--key-file"],
        },
        Case {
            name: "truncated in its secret",
            arrange: |sandbox| {
                let bytes = sandbox.path("keys/operator.key").metadata().expect("is there").len() as usize;
                truncated(sandbox, "keys/operator.key", bytes - 10);
            },
            args: BACKUP,
            code: 5,
            words: &["keys/operator.key", "is damaged", "--key-file"],
        },
    ]);
}

#[test]
fn an_altered_key_file_is_detected() {
    all_fail(&[
        Case {
            name: "altered role",
            arrange: |sandbox| with_line(sandbox, "role", "admin"),
            args: RESTORE_WITH_OPERATOR,
            code: 5,
            words: &["is enrolled for another role", "give another key of this repository with --key-file"],
        },
        Case {
            name: "altered repository",
            arrange: |sandbox| with_line(sandbox, "repository", &"0".repeat(32)),
            args: BACKUP,
            code: 5,
            words: &["belongs to another repository", "--key-file"],
        },
        Case {
            name: "altered key",
            arrange: |sandbox| with_line(sandbox, "key", &"0".repeat(32)),
            args: BACKUP,
            code: 5,
            words: &["keys/operator.key", "its secret does not match its key id", "--key-file"],
        },
        Case {
            name: "altered fingerprint",
            arrange: |sandbox| with_line(sandbox, "fingerprint", &"0".repeat(64)),
            args: BACKUP,
            code: 5,
            words: &["fingerprint", "check the location"],
        },
        Case {
            name: "altered secret",
            arrange: |sandbox| with_line(sandbox, "secret", &format!("{}==", "A".repeat(86))),
            args: BACKUP,
            code: 5,
            words: &["keys/operator.key", "its secret does not match its key id", "--key-file"],
        },
        Case {
            name: "of a later version",
            arrange: |sandbox| alter(sandbox, "keys/operator.key", "sidekeep key 1", "sidekeep key 2"),
            args: BACKUP,
            code: 1,
            words: &["keys/operator.key", "version 2", "does not support", "a newer version of sidekeep"],
        },
    ]);
}

const RESTORE_WITH_OPERATOR: &[&str] = &["restore", "latest", "--to", "out.sqlite", "--key-file", "keys/operator.key"];

#[test]
fn each_passphrase_failure_has_its_own_message() {
    all_fail(&[
        Case {
            name: "no passphrase and no terminal",
            arrange: sealed,
            args: SEALED,
            code: 5,
            words: &["keys/sealed.key", "passphrase", "not a terminal", "SIDEKEEP_PASSPHRASE"],
        },
        Case {
            name: "a wrong passphrase",
            arrange: |sandbox| {
                sealed(sandbox);
                sandbox.set("SIDEKEEP_PASSPHRASE", "open sesamee");
            },
            args: SEALED,
            code: 5,
            words: &["keys/sealed.key", "wrong passphrase", "SIDEKEEP_PASSPHRASE"],
        },
        Case {
            name: "a passphrase command that fails",
            arrange: |sandbox| {
                sealed(sandbox);
                drop(sandbox.write("ask", "echo hunter2; exit 3"));
            },
            args: &[
                "restore",
                "latest",
                "--to",
                "out.sqlite",
                "--key-file",
                "keys/sealed.key",
                "--passphrase-command",
                "sh ask",
            ],
            code: 5,
            words: &["the passphrase command failed", "exit status: 3", "--passphrase-command"],
        },
    ]);
    // The right passphrase works.
    let mut sandbox = healthy();
    sealed(&mut sandbox);
    sandbox.set("SIDEKEEP_PASSPHRASE", "open sesame");
    sandbox.ok(SEALED);
}

#[test]
fn a_key_command_that_prints_no_key_is_named() {
    all_fail(&[
        Case {
            name: "a key command that fails",
            arrange: none,
            args: &["backup", "--key-command", "cat keys/operator.key; exit 9"],
            code: 5,
            words: &["the key command failed", "exit status: 9", "--key-command"],
        },
        Case {
            name: "a key command that does not exist",
            arrange: none,
            args: &["backup", "--key-command", "no-such-program 2>/dev/null"],
            code: 5,
            words: &["the key command failed", "exit status: 127", "--key-command"],
        },
        Case {
            name: "a key command that prints nothing",
            arrange: none,
            args: &["backup", "--key-command", "true"],
            code: 5,
            words: &["the key command printed", "is not a Sidekeep key file", "--key-command"],
        },
        Case {
            name: "both a file and a command",
            arrange: none,
            args: &["backup", "--key-command", "true", "--key-file", "keys/operator.key"],
            code: 2,
            words: &["--key-command", "--key-file"],
        },
    ]);
}
