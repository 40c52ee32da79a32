//! A program that is interrupted or killed: earlier snapshots stay, and the next run reuses what it uploaded.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::bad_input::{BACKUP, RESTORE, files, healthy};
use crate::support::sandbox::{Sandbox, interrupt, wait_until_listening};
use crate::support::sqlite::assert_same_database;

/// Enough rows for more than two packs.
const LARGE: &str = "
    CREATE TABLE photos (id INTEGER PRIMARY KEY, photo BLOB);
    WITH RECURSIVE n (at) AS (SELECT 1 UNION ALL SELECT at + 1 FROM n LIMIT 250)
        INSERT INTO photos SELECT at, randomblob(200000) FROM n;
";

fn start(sandbox: &Sandbox, args: &[&str]) -> Child {
    sandbox.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs")
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The objects of a kind.
fn objects(sandbox: &Sandbox, kind: &str) -> Vec<PathBuf> {
    let is_object = |path: &PathBuf| {
        path.components().any(|part| part.as_os_str() == kind) && !path.to_string_lossy().contains('#')
    };
    names(&sandbox.path("repo")).into_iter().filter(is_object).collect()
}

/// All files below `dir`. Files may appear and disappear at the same time.
fn names(dir: &std::path::Path) -> Vec<PathBuf> {
    let Ok(entries) = dir.read_dir() else { return Vec::new() };
    let paths = entries.flatten().map(|entry| entry.path());
    paths.flat_map(|path| if path.is_dir() { names(&path) } else { vec![path] }).collect()
}

/// A sandbox whose latest snapshot equals `whole.db`, and whose database has become large since then.
fn large() -> Sandbox {
    let sandbox = healthy();
    std::fs::copy(sandbox.path("sync.db"), sandbox.path("whole.db")).expect("copies");
    sandbox.sql("sync.db", LARGE);
    sandbox
}

fn assert_earlier_snapshot(sandbox: &Sandbox) {
    sandbox.ok(RESTORE);
    assert_same_database(&sandbox.path("out.sqlite"), &sandbox.path("whole.db"));
    std::fs::remove_file(sandbox.path("out.sqlite")).expect("removes");
}

#[test]
fn a_killed_backup_leaves_no_snapshot_and_its_uploads_are_reused() {
    let sandbox = large();
    let before = objects(&sandbox, "sessions").len();
    let mut child = start(&sandbox, BACKUP);
    wait_until("a pack is announced", || objects(&sandbox, "sessions").len() > before);
    child.kill().expect("is killed");
    let status = child.wait().expect("ends");
    assert_eq!(status.signal(), Some(9), "it ended before it was killed");
    assert_earlier_snapshot(&sandbox);
    let report = sandbox.json(BACKUP);
    assert_eq!(report["number"], 3);
    assert!(report["adopted"].as_u64() > Some(0), "{report}");
    sandbox.ok(RESTORE);
    assert_same_database(&sandbox.path("out.sqlite"), &sandbox.path("sync.db"));
}

#[test]
fn a_backup_that_gets_a_signal_stops_and_says_what_is_kept() {
    let sandbox = large();
    for signal in ["INT", "TERM", "HUP"] {
        let child = start(&sandbox, BACKUP);
        wait_until_listening(&child);
        let sent = std::process::Command::new("sh").arg("-c").arg(format!("kill -{signal} {}", child.id())).status();
        assert!(sent.expect("runs").success());
        let output = child.wait_with_output().expect("ends");
        let err = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!((output.status.code(), output.stdout.len()), (Some(130), 0), "{signal}: {err}");
        assert!(err.contains("interrupted\nhint: ") && err.contains("uploaded is reused"), "{err}");
    }
    assert_earlier_snapshot(&sandbox);
    assert_eq!(sandbox.json(BACKUP)["number"], 3);
}

#[test]
fn a_stopped_restore_leaves_no_target() {
    let sandbox = large();
    sandbox.ok(BACKUP);
    let is_partial = |path: &PathBuf| path.to_string_lossy().contains("out.sqlite.partial-");
    let partial = || sandbox.dir.path().read_dir().expect("reads").flatten().map(|entry| entry.path()).find(is_partial);
    let mut child = start(&sandbox, RESTORE);
    wait_until("the target is begun", || partial().is_some());
    child.kill().expect("is killed");
    assert_eq!(child.wait().expect("ends").signal(), Some(9), "it ended before it was killed");
    assert!(!sandbox.path("out.sqlite").exists());
    std::fs::remove_file(partial().expect("a file that may be deleted")).expect("removes");

    // On a busy machine, the restore may finish before it handles the signal. Then try again.
    let mut output = interrupted_restore(&sandbox, &partial);
    for _ in 0..5 {
        if output.status.code() != Some(0) {
            break;
        }
        std::fs::remove_file(sandbox.path("out.sqlite")).expect("removes");
        output = interrupted_restore(&sandbox, &partial);
    }
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(partial().is_none() && !sandbox.path("out.sqlite").exists());
    sandbox.ok(RESTORE);
    assert_same_database(&sandbox.path("out.sqlite"), &sandbox.path("sync.db"));
    assert!(files(&sandbox.path("repo")).len() > 10);
}

fn interrupted_restore(sandbox: &Sandbox, partial: &dyn Fn() -> Option<PathBuf>) -> std::process::Output {
    let child = start(sandbox, RESTORE);
    wait_until("the target is begun", || partial().is_some());
    interrupt(&child);
    child.wait_with_output().expect("ends")
}
