//! The program as a process: signals and closed pipes.

use std::process::Stdio;

use crate::Sandbox;
use crate::support::sandbox::{interrupt, wait_until_listening};

/// Enough rows for a backup to take a while.
const MANY: &str = "
    CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT);
    INSERT INTO users SELECT value, hex(randomblob(40)) FROM (
        WITH RECURSIVE n (value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n LIMIT 100000) SELECT value FROM n);
";

#[test]
fn an_interrupted_backup_exits_with_130_and_leaves_no_snapshot() {
    let sandbox = Sandbox::new();
    sandbox.sql("sync.db", MANY);
    sandbox.ok(&["init", "repo", "--source", "sqlite:sync.db"]);
    let child = sandbox.command(&["backup"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs");
    wait_until_listening(&child);
    interrupt(&child);
    let output = child.wait_with_output().expect("ends");
    let err = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!((output.status.code(), output.stdout.len()), (Some(130), 0), "{err}");
    assert!(err.contains("interrupted") && err.contains("reused"), "{err}");
    assert_eq!(sandbox.json(&["backup"])["number"], 1);
}

#[test]
fn a_closed_output_pipe_is_not_an_error() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.command(&["completions", "zsh"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("ends");
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &[][..]));
}

#[test]
fn a_result_that_cannot_be_written_is_an_error() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("opens");
    let sandbox = Sandbox::new();
    let output = sandbox.command(&["man"]).stdout(full).output().expect("runs");
    let err = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(output.status.code() == Some(1) && err.contains("cannot write the result"), "{err}");
}
