//! The newest entries that a host remembers: a repository that went back is reported, and nothing is added to it.

use std::path::{Path, PathBuf};

use sidekeep::base::id::Digest;
use sidekeep::base::revocation::RevocationReason;
use sidekeep::base::time::Moment;
use sidekeep::format::entry::{Entry, EntryBody, Numbered, Revoke};
use sidekeep::format::roster::{RevokeKey, RosterStatement};

use crate::Sandbox;
use crate::bad_input::stored::{append, append_as, identity, last_entry, state};
use crate::support::sandbox::of_kind;

/// A repository with this many snapshots, all taken on this host.
fn with_snapshots(count: u32) -> Sandbox {
    let sandbox = Sandbox::with_service();
    for _ in 0..count {
        sandbox.ok(&["backup"]);
    }
    sandbox
}

/// A ledger entry of the only source of a repository.
fn entry(sandbox: &Sandbox, repo: &str, number: u32) -> PathBuf {
    let folders = sandbox.path(repo).read_dir().expect("reads");
    let mut ledgers = folders.map(|folder| folder.expect("reads").path().join("ledger")).filter(|path| path.is_dir());
    ledgers.next().expect("a ledger").join(format!("{number:010}"))
}

fn delete(path: &Path) -> Vec<u8> {
    let bytes = std::fs::read(path).expect("reads");
    std::fs::remove_file(path).expect("removes");
    bytes
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("creates");
    for found in from.read_dir().expect("reads") {
        let path = found.expect("reads").path();
        let name = to.join(path.file_name().expect("a name"));
        if path.is_dir() { copy(&path, &name) } else { std::fs::copy(&path, &name).map(drop).expect("copies") }
    }
}

const ADMIN: &str = "keys/admin.key";

/// The commands that read, each with a key that it may use.
const READING: [&[&str]; 9] = [
    &["snapshots"],
    &["status"],
    &["verify"],
    &["doctor"],
    &["owners"],
    &["show", "latest"],
    &["show", "latest", "--key-file", ADMIN],
    &["diff", "latest", "latest", "--key-file", ADMIN],
    &["restore", "latest", "--key-file", ADMIN, "--to"],
];

/// Runs a reading command, which must report that the repository went back.
fn reports(sandbox: &Sandbox, args: &[&str], target: &str) {
    let mut args = args.to_vec();
    if args.last() == Some(&"--to") {
        args.push(target);
    }
    args.push("--json");
    let ran = sandbox.run(&args);
    assert_eq!(ran.code, 3, "{args:?}: {} {}", ran.out, ran.err);
    let document = serde_json::from_str(&ran.out).expect("JSON");
    assert_eq!(of_kind(&document, "rolled-back").len(), 1, "{args:?}: {}", ran.out);
}

#[test]
fn every_command_reports_that_the_newest_entry_of_the_ledger_is_gone() {
    let sandbox = with_snapshots(3);
    let newest = entry(&sandbox, "repo", 3);
    let bytes = delete(&newest);
    for (at, args) in READING.iter().enumerate() {
        reports(&sandbox, args, &format!("restored-{at}.sqlite"));
    }
    let err = sandbox.fails(1, &["backup"]);
    assert!(err.contains("ledger/0000000003") && err.contains("undo that"), "{err}");
    assert!(sandbox.run(&["status"]).out.contains("if the older state is what you want, delete "));
    assert!(!newest.exists(), "a backup must not take the number");
    // Another entry at that number, written by a host that has not seen the lost one.
    sandbox.ok(&["backup", "--cache-dir", "other"]);
    reports(&sandbox, &["status"], "");
    sandbox.fails(1, &["backup"]);
    std::fs::write(&newest, bytes).expect("writes");
    sandbox.ok(&["status"]);
    sandbox.ok(&["backup"]);
}

#[test]
fn every_command_reports_that_the_newest_entry_of_the_roster_is_gone() {
    let sandbox = with_snapshots(1);
    sandbox.sql("photos.db", crate::support::sandbox::SERVICE);
    sandbox.ok(&["backup", "sqlite:photos.db"]);
    delete(&sandbox.path("repo/roster/0000000003"));
    for args in [&["snapshots"][..], &["status"], &["verify"], &["doctor"]] {
        reports(&sandbox, args, "");
    }
    sandbox.sql("calendar.db", crate::support::sandbox::SERVICE);
    for source in ["sqlite:calendar.db", "sqlite:sync.db"] {
        let err = sandbox.fails(1, &["backup", source]);
        assert!(err.contains("roster/0000000003"), "{err}");
    }
    assert!(!sandbox.path("repo/roster/0000000003").exists());
}

#[test]
fn a_copy_in_another_place_has_heads_of_its_own() {
    let sandbox = with_snapshots(1);
    copy(&sandbox.path("repo"), &sandbox.path("copy"));
    sandbox.ok(&["backup"]);
    sandbox.ok(&["status", "--repo", "copy"]);
    sandbox.ok(&["status"]);
    delete(&entry(&sandbox, "copy", 1));
    let ran = sandbox.run(&["status", "--repo", "copy"]);
    assert!(ran.code == 3 && ran.out.contains("ledger/0000000001"), "{}", ran.out);
    // The same place, written in another way.
    delete(&entry(&sandbox, "repo", 2));
    let whole = format!("file://{}", sandbox.path("repo").display());
    let ran = sandbox.run(&["status", "--repo", &whole]);
    assert!(ran.code == 3 && ran.out.contains("ledger/0000000002"), "{}", ran.out);
}

#[test]
fn a_repository_that_was_created_again_has_no_heads_yet() {
    let sandbox = with_snapshots(2);
    for old in ["repo", "keys"] {
        std::fs::remove_dir_all(sandbox.path(old)).expect("removes");
    }
    std::fs::remove_file(sandbox.path("sidekeep.toml")).expect("removes");
    sandbox.ok(&["init", "repo", "--source", "sqlite:sync.db"]);
    sandbox.ok(&["backup"]);
    sandbox.ok(&["verify"]);
}

/// The files in which the heads are kept.
fn remembered(sandbox: &Sandbox) -> Vec<PathBuf> {
    let files = sandbox.path(".cache/sidekeep/heads").read_dir().expect("reads");
    let files = files.map(|file| file.expect("reads").path());
    files.filter(|path| path.extension().is_some_and(|kind| kind == "json")).collect()
}

#[test]
fn a_cache_that_is_lost_damaged_or_unusable_stops_no_command() {
    let sandbox = with_snapshots(2);
    let file = remembered(&sandbox).pop().expect("a file");
    for damaged in ["", "{", "[]", "{\"roster\": 7}"] {
        std::fs::write(&file, damaged).expect("writes");
        let text = sandbox.ok(&["snapshots"]);
        assert!(text.contains("cannot be read") && text.contains("heads/"), "{text}");
        assert!(!sandbox.ok(&["snapshots"]).contains("cannot be read"), "it was written again");
    }
    std::fs::remove_dir_all(sandbox.path(".cache")).expect("removes");
    sandbox.ok(&["status"]);
    sandbox.write("a-file", "");
    for unusable in ["a-file", "a-file/below", "/proc/none"] {
        for command in ["snapshots", "status", "backup", "verify"] {
            sandbox.ok(&[command, "--cache-dir", unusable]);
        }
    }
    sandbox.ok(&["status"]);
    delete(&entry(&sandbox, "repo", 5));
    reports(&sandbox, &["status"], "");
}

#[test]
fn two_backups_at_once_remember_the_newer_entry() {
    let sandbox = with_snapshots(1);
    for source in ["photos", "calendar", "mail"] {
        sandbox.sql(&format!("{source}.db"), crate::support::sandbox::SERVICE);
    }
    let sources = ["sqlite:photos.db", "sqlite:calendar.db", "sqlite:mail.db"];
    let running = sources.map(|source| sandbox.command(&["backup", source, "--json"]).spawn().expect("starts"));
    for child in running {
        let ended = child.wait_with_output().expect("ends");
        assert!(ended.status.success());
    }
    let text = std::fs::read_to_string(remembered(&sandbox).pop().expect("a file")).expect("reads");
    let heads: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(
        (&heads["roster"]["number"], heads["ledgers"].as_object().map(serde_json::Map::len)),
        (&5.into(), Some(4))
    );
}

/// A host without a memory. Everything that it knows is in the store.
const STRANGER: &str = "nothing-seen-yet";

#[test]
fn a_backup_does_not_take_the_number_of_a_lost_entry() {
    let sandbox = with_snapshots(9);
    let lost = entry(&sandbox, "repo", 4);
    let bytes = delete(&lost);
    for host in [STRANGER, ".cache/sidekeep"] {
        let err = sandbox.fails(1, &["backup", "--cache-dir", host]);
        assert!(err.contains("ledger/0000000004 is missing") && err.contains("second copy"), "{err}");
        assert!(!lost.exists());
    }
    assert_eq!(sandbox.run(&["status", "--cache-dir", STRANGER]).code, 3);
    std::fs::write(&lost, bytes).expect("writes");
    sandbox.ok(&["backup", "--cache-dir", STRANGER]);
    assert!(entry(&sandbox, "repo", 10).exists());
}

#[test]
fn a_source_is_not_added_at_the_number_of_a_lost_roster_entry() {
    let sandbox = with_snapshots(1);
    for source in ["photos", "calendar"] {
        sandbox.sql(&format!("{source}.db"), crate::support::sandbox::SERVICE);
    }
    sandbox.ok(&["backup", "sqlite:photos.db"]);
    let lost = sandbox.path("repo/roster/0000000002");
    delete(&lost);
    for source in ["sqlite:calendar.db", "sqlite:sync.db"] {
        let err = sandbox.fails(1, &["backup", source, "--cache-dir", STRANGER]);
        assert!(err.contains("roster/0000000002 is missing"), "{err}");
        assert!(!lost.exists());
    }
}

/// Anyone with an operator key can name a roster entry that never existed.
#[test]
fn an_entry_that_names_an_unknown_roster_entry_stops_writers_and_no_reader() {
    let sandbox = with_snapshots(2);
    let never = Numbered { number: 1_000_000, sha256: Digest::new([7; 32]) };
    let claim = |entry: &mut Entry| {
        entry.place.roster = never;
        let EntryBody::Snapshot(snapshot) = &mut entry.body else { panic!("not a snapshot") };
        snapshot.source_clock = Moment(snapshot.source_clock.0 + 1);
    };
    append(&sandbox, claim, ("", ""));
    for (at, args) in READING.iter().enumerate() {
        reports(&sandbox, args, &format!("restored-{at}.sqlite"));
    }
    let err = sandbox.fails(1, &["backup"]);
    assert!(err.contains("roster/0001000000: ") && err.contains("roster entries seem to be missing"), "{err}");
    let thief = identity(&sandbox, "operator").key_id();
    state(&sandbox, vec![RosterStatement::Revoke(RevokeKey { key: thief, reason: RevocationReason::Stolen })]);
    let text = sandbox.run(&["verify"]).out;
    assert!(!text.contains("roster entries seem to be missing") && text.contains("ledger/0000000003"), "{text}");
}

/// A key that the roster revokes can name an older roster entry, until every ledger revokes it too.
#[test]
fn what_a_revoked_key_writes_after_the_revoke_of_the_ledger_is_reported() {
    let sandbox = with_snapshots(2);
    let thief = identity(&sandbox, "operator").key_id();
    let last = last_entry(&sandbox);
    let EntryBody::Snapshot(mut snapshot) = last.body else { panic!("not a snapshot") };
    state(&sandbox, vec![RosterStatement::Revoke(RevokeKey { key: thief, reason: RevocationReason::Stolen })]);
    let old = last.place.roster;
    snapshot.source_clock = Moment(snapshot.source_clock.0 + 1);
    append_as(&sandbox, "operator", EntryBody::Snapshot(snapshot.clone()), old);
    // Nothing shows yet when the entry was written.
    assert_eq!(
        sandbox.json(&["snapshots", "--key-file", "keys/auditor.key"])["sources"][0]["snapshots"][2]["number"],
        3
    );
    let revoke = Revoke { key: thief, reason: RevocationReason::Stolen };
    append_as(&sandbox, "admin", EntryBody::Revoke(revoke), old);
    sandbox.ok(&["verify"]);
    snapshot.source_clock = Moment(snapshot.source_clock.0 + 1);
    append_as(&sandbox, "operator", EntryBody::Snapshot(snapshot), old);
    for command in [&["verify"][..], &["status", "--key-file", "keys/auditor.key"]] {
        let ran = sandbox.run(command);
        assert!(ran.code == 3 && ran.out.contains("ledger/0000000005"), "{command:?}: {}", ran.out);
        assert!(ran.out.contains("its signer was revoked earlier in this ledger"), "{command:?}: {}", ran.out);
    }
}

#[test]
fn a_revoked_key_still_restores_with_a_finding_and_writes_nothing() {
    let sandbox = with_snapshots(1);
    for role in ["operator", "admin"] {
        let key = identity(&sandbox, role).key_id();
        state(&sandbox, vec![RosterStatement::Revoke(RevokeKey { key, reason: RevocationReason::Lost })]);
    }
    let ran = sandbox.run(&["restore", "latest", "--to", "back.sqlite", "--key-file", "keys/admin.key"]);
    assert!(ran.code == 3 && ran.out.contains("it was revoked by roster entry 4"), "{}{}", ran.out, ran.err);
    sandbox.ok(&["restore", "latest", "--to", "other.sqlite", "--key-file", "keys/recovery.key"]);
    let last = last_entry(&sandbox).place.number;
    let refused = sandbox.run(&["backup"]);
    assert!(refused.code == 5 && refused.err.contains("revoked"), "{}", refused.err);
    let args = ["source", "rename", "main", "other", "--key-file", "keys/admin.key"];
    let refused = sandbox.run(&args);
    assert!(refused.code == 5 && refused.err.contains("revoked"), "{}", refused.err);
    assert_eq!(last_entry(&sandbox).place.number, last);
    assert!(!sandbox.path("repo/roster/0000000005").exists());
}
