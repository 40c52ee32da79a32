//! Locations without a repository, with something else, or with objects of a later version.

use std::path::PathBuf;

use sidekeep::base::env::{Env, System};
use sidekeep::base::id::{Digest, Epoch};
use sidekeep::base::revocation::RevocationReason;
use sidekeep::crypto::keyfile::KeyFile;
use sidekeep::crypto::role::{AdminKeys, Identity};
use sidekeep::format::dsse::{self, Envelope, Predicate};
use sidekeep::format::entry::{ChainPlace, Entry, EntryBody, Numbered};
use sidekeep::format::roster::{Feature, OpenEpoch, RevokeKey, RosterEntry, RosterStatement};

use crate::bad_input::{BACKUP, Case, RESTORE, all_fail, alter, files, healthy};
use crate::support::sandbox::Sandbox;

/// The key of `role` from its key file.
pub fn identity(sandbox: &Sandbox, role: &str) -> Identity {
    let text = std::fs::read_to_string(sandbox.path(&format!("keys/{role}.key"))).expect("reads");
    KeyFile::parse(&text).and_then(|file| file.open(None)).unwrap_or_else(|error| panic!("{error}"))
}

/// The objects of a kind (`roster`, `ledger`, ...) in the repository, sorted.
fn objects(sandbox: &Sandbox, kind: &str) -> Vec<PathBuf> {
    let all = files(&sandbox.path("repo")).into_keys();
    all.filter(|path| path.components().any(|part| part.as_os_str() == kind)).collect()
}

/// The last entry of a chain, its digest, and the path for the next entry.
fn head<P: Predicate>(sandbox: &Sandbox, kind: &str) -> (P, Digest, PathBuf) {
    let last = objects(sandbox, kind).pop().expect("a head");
    let bytes = std::fs::read(&last).expect("reads");
    let predicate = Envelope::decode(&bytes).and_then(|envelope| envelope.predicate()).expect("decodes");
    let number: u64 = last.file_name().and_then(|name| name.to_str()?.parse().ok()).expect("a number");
    (predicate, Digest::of(&bytes), last.with_file_name(format!("{:010}", number + 1)))
}

fn signed<P: Predicate>(sandbox: &Sandbox, role: &str, predicate: &P) -> Vec<u8> {
    let signer = identity(sandbox, role);
    dsse::encode(predicate, signer.key_id(), |message| signer.sign(message)).expect("encodes")
}

/// Like [`signed`], but replaces text in the predicate before signing it.
fn signed_otherwise<P: Predicate>(sandbox: &Sandbox, role: &str, predicate: &P, (from, to): (&str, &str)) -> Vec<u8> {
    let ours = signed(sandbox, role, predicate);
    let mut envelope: serde_json::Value = serde_json::from_slice(&ours).expect("JSON");
    let payload = envelope["payload"].as_str().expect("base64");
    let payload = data_encoding::BASE64.decode(payload.as_bytes()).expect("base64");
    let payload = String::from_utf8(payload).expect("UTF-8");
    assert!(payload.contains(from), "{payload}");
    let payload = payload.replace(from, to);
    let kind = envelope["payloadType"].as_str().expect("a type").to_owned();
    let message = format!("DSSEv1 {} {kind} {} {payload}", kind.len(), payload.len());
    let signature = identity(sandbox, role).sign(message.as_bytes());
    envelope["payload"] = data_encoding::BASE64.encode(payload.as_bytes()).into();
    envelope["signatures"][0]["sig"] = data_encoding::BASE64.encode(&signature).into();
    serde_json::to_vec(&envelope).expect("JSON")
}

fn next_roster(sandbox: &Sandbox, statements: Vec<RosterStatement>) -> (RosterEntry, PathBuf) {
    let (head, previous, next) = head::<RosterEntry>(sandbox, "roster");
    (RosterEntry { number: head.number + 1, previous, written: System.now(), statements, ..head }, next)
}

/// Appends an entry with these statements to the roster.
pub fn state(sandbox: &Sandbox, statements: Vec<RosterStatement>) {
    let (entry, next) = next_roster(sandbox, statements);
    std::fs::write(next, signed(sandbox, "admin", &entry)).expect("writes");
}

/// Appends an entry to the ledger, signed with the key of `role`. It claims to have seen this roster entry.
pub fn append_as(sandbox: &Sandbox, role: &str, body: EntryBody, seen: Numbered) {
    let (last, previous, next) = head::<Entry>(sandbox, "ledger");
    let place = ChainPlace { number: last.place.number + 1, previous, roster: seen, ..last.place };
    let entry = Entry { place, written: System.now(), body };
    std::fs::write(next, signed(sandbox, role, &entry)).expect("writes");
}

/// The digest of the last ledger entry.
pub fn head_digest(sandbox: &Sandbox) -> Digest {
    head::<Entry>(sandbox, "ledger").1
}

/// The last ledger entry.
pub fn last_entry(sandbox: &Sandbox) -> Entry {
    head(sandbox, "ledger").0
}

/// Appends a copy of the last ledger entry, changed by `change` and then by the replacement of text.
pub fn append(sandbox: &Sandbox, change: impl FnOnce(&mut Entry), replace: (&str, &str)) {
    let (mut entry, previous, next) = head::<Entry>(sandbox, "ledger");
    entry.place.number += 1;
    entry.place.previous = previous;
    change(&mut entry);
    std::fs::write(next, signed_otherwise(sandbox, "operator", &entry, replace)).expect("writes");
}

/// Sets the version in the header of a binary object to 2.
fn set_version(bytes: &mut [u8]) {
    assert_eq!(&bytes[..8], b"SIDEKEEP");
    bytes[9] = 2;
}

fn none(_: &mut Sandbox) {}

fn remove(sandbox: &Sandbox, name: &str) {
    std::fs::remove_file(sandbox.path(name)).expect("removes");
}

#[test]
fn a_location_without_a_repository_is_named() {
    all_fail(&[
        Case {
            name: "nothing",
            arrange: none,
            args: &["backup", "--repo", "nowhere"],
            code: 4,
            words: &["no repository at nowhere", "check the location", "sidekeep init"],
        },
        Case {
            name: "an empty directory",
            arrange: |sandbox| std::fs::create_dir(sandbox.path("empty")).expect("makes"),
            args: &["backup", "--repo", "empty"],
            code: 4,
            words: &["no repository at empty", "check the location", "sidekeep init"],
        },
        Case {
            name: "foreign files",
            arrange: |sandbox| {
                std::fs::create_dir_all(sandbox.path("photos/2026/packs")).expect("makes");
                sandbox.write("photos/2026/packs/a.jpg", "a photo");
                sandbox.write("photos/readme", "not yours");
            },
            args: &["backup", "--repo", "photos"],
            code: 4,
            words: &["no repository at photos", "check the location"],
        },
        Case {
            name: "a file",
            arrange: |sandbox| drop(sandbox.write("file", "")),
            args: &["backup", "--repo", "file"],
            code: 4,
            words: &["no repository at file", "check the location"],
        },
        Case {
            name: "no name",
            arrange: |sandbox| alter(sandbox, "sidekeep.toml", "repo = 'repo'", ""),
            args: BACKUP,
            code: 2,
            words: &["no repository is named", "--repo"],
        },
    ]);
}

#[test]
fn a_location_with_a_broken_or_existing_repository_is_named() {
    all_fail(&[
        Case {
            name: "somebody else's sidekeep.json",
            arrange: |sandbox| drop(sandbox.write("repo/sidekeep.json", r#"{"sidekeep": "settings"}"#)),
            args: BACKUP,
            code: 1,
            words: &["sidekeep.json is not a Sidekeep object", "check the location"],
        },
        Case {
            name: "an empty sidekeep.json",
            arrange: |sandbox| drop(sandbox.write("repo/sidekeep.json", "")),
            args: RESTORE,
            code: 1,
            words: &["sidekeep.json is not a Sidekeep object", "check the location"],
        },
        Case {
            name: "no roster",
            arrange: |sandbox| remove(sandbox, "repo/roster/0000000001"),
            args: BACKUP,
            code: 1,
            words: &["roster/0000000001 is missing", "sidekeep verify"],
        },
        Case {
            name: "another roster",
            arrange: |sandbox| drop(sandbox.write("repo/roster/0000000001", "{}")),
            args: RESTORE,
            code: 1,
            words: &["roster/0000000001 is damaged: it has an unreadable envelope", "sidekeep verify"],
        },
        Case {
            name: "no grants",
            arrange: |sandbox| std::fs::remove_dir_all(sandbox.path("repo/keys")).expect("removes"),
            args: RESTORE,
            code: 1,
            words: &["keys/000001/", "is missing", "sidekeep verify"],
        },
        Case {
            name: "an init that was killed",
            arrange: |sandbox| {
                remove(sandbox, "repo/sidekeep.json");
                std::fs::create_dir(sandbox.path("more")).expect("makes");
            },
            args: &["init", "repo", "--keys-dir", "more"],
            code: 6,
            words: &["there are objects at repo from an init", "choose another location"],
        },
        Case {
            name: "a location with a repository",
            arrange: |sandbox| std::fs::create_dir(sandbox.path("more")).expect("makes"),
            args: &["init", "repo", "--keys-dir", "more"],
            code: 6,
            words: &["there is already a repository at repo", "nothing was changed"],
        },
    ]);
}

/// The message about an object that a later version wrote.
const LATER: &[&str] = &["does not support", "a newer version of sidekeep"];

fn later(name: &'static str, arrange: fn(&mut Sandbox), args: &'static [&'static str]) -> Case {
    Case { name, arrange, args, code: 1, words: LATER }
}

#[test]
fn an_object_of_a_later_version_is_unsupported_and_stays_unchanged() {
    let descriptor = |sandbox: &mut Sandbox| alter(sandbox, "repo/sidekeep.json", "\"format\":1", "\"format\":2");
    let feature = |sandbox: &mut Sandbox| {
        state(sandbox, vec![RosterStatement::Feature(Feature { name: "unheard-of".to_owned() })]);
    };
    let manifest = |sandbox: &mut Sandbox| {
        let path = objects(sandbox, "manifests").pop().expect("a manifest");
        let mut bytes = std::fs::read(&path).expect("reads");
        set_version(&mut bytes);
        let digest = Digest::of(&bytes);
        std::fs::write(path.with_file_name(digest.to_string()), &bytes).expect("writes");
        let change = |entry: &mut Entry| {
            if let sidekeep::format::entry::EntryBody::Snapshot(snapshot) = &mut entry.body {
                snapshot.manifest.sha256 = digest;
                snapshot.source_clock = System.now();
            }
        };
        append(sandbox, change, ("\"kind\"", "\"kind\""));
    };
    let pack = |sandbox: &mut Sandbox| {
        for path in objects(sandbox, "index") {
            std::fs::remove_file(path).expect("removes");
        }
        let path = objects(sandbox, "packs").remove(0);
        let mut bytes = std::fs::read(&path).expect("reads");
        set_version(&mut bytes);
        std::fs::write(path, bytes).expect("writes");
    };
    all_fail(&[
        later("descriptor", descriptor, BACKUP),
        later("descriptor, for a restore", descriptor, RESTORE),
        Case {
            words: &["the feature \"unheard-of\"", "a newer version of sidekeep"],
            ..later("feature", feature, BACKUP)
        },
        later("manifest", manifest, BACKUP),
        later("manifest, for a restore", manifest, RESTORE),
        later("pack without an index", pack, BACKUP),
    ]);
}

/// Appends an entry with these statements to the roster, signed by the key of `role` after a replacement of text.
fn state_otherwise(sandbox: &Sandbox, role: &str, replace: (&str, &str)) {
    let (entry, next) = next_roster(sandbox, vec![RosterStatement::Feature(Feature { name: "x".to_owned() })]);
    std::fs::write(next, signed_otherwise(sandbox, role, &entry, replace)).expect("writes");
}

/// Before, one signature of a stolen key stopped every command for ever, and revoking the key did not help.
#[test]
fn what_no_admin_announced_stops_no_command() {
    let sign: [fn(&Sandbox); 6] = [
        |sandbox| append(sandbox, |_| {}, ("\"kind\":\"snapshot\"", "\"kind\":\"unheard-of\"")),
        |sandbox| append(sandbox, |_| {}, ("\"kind\":\"snapshot\"", "\"kind\":\"unheard:of\"")),
        |sandbox| append(sandbox, |_| {}, ("\"format\":1", "\"format\":2")),
        |sandbox| append(sandbox, |_| {}, ("urn:sidekeep:ledger:1", "urn:sidekeep:ledger:2")),
        |sandbox| state_otherwise(sandbox, "maintainer", ("\"statement\":\"feature\"", "\"statement\":\"unheard-of\"")),
        |sandbox| state_otherwise(sandbox, "operator", ("\"format\":1", "\"format\":2")),
    ];
    for (at, sign) in sign.into_iter().enumerate() {
        let sandbox = healthy();
        sign(&sandbox);
        sandbox.ok(BACKUP);
        sandbox.ok(RESTORE);
        let is_skipped = at == 4;
        let verified = sandbox.run(&["verify", "--level", "structure"]);
        assert_eq!(verified.code, if is_skipped { 0 } else { 3 }, "{at}: {}", verified.out);
    }
}

#[test]
fn a_feature_that_this_version_does_not_know_stops_writers_until_it_is_withdrawn() {
    let sandbox = healthy();
    let feature = || Feature { name: "unheard-of".to_owned() };
    state(&sandbox, vec![RosterStatement::Feature(feature())]);
    // The thief also signs an entry of that feature.
    let roster = head::<RosterEntry>(&sandbox, "roster");
    let seen = Numbered { number: roster.0.number, sha256: roster.1 };
    let thing = ("\"kind\":\"snapshot\"", "\"kind\":\"unheard-of:thing\"");
    append(&sandbox, |entry| entry.place.roster = seen, thing);
    let admin = ["--key-file", "keys/admin.key"];
    let readers: [&[&str]; 6] = [
        RESTORE,
        &["snapshots"],
        &["show", "latest"],
        &["status"],
        &["verify"],
        &["diff", "latest~1", "latest", "--key-file", "keys/admin.key"],
    ];
    for args in readers {
        let ran = sandbox.run(args);
        assert_eq!(ran.code, 3, "{args:?}: {}{}", ran.out, ran.err);
        assert!(ran.out.contains("feature unheard-of"), "{args:?}: {}", ran.out);
    }
    assert!(sandbox.run(&[&["doctor"][..], &admin].concat()).out.contains("an admin announced it"));
    for args in [BACKUP, &["owners", "main", "--accept"]] {
        let ran = sandbox.run(args);
        assert!(ran.code == 1 && ran.err.contains("\"unheard-of\""), "{args:?}: {}", ran.err);
    }
    let (entry, next) = next_roster(&sandbox, vec![RosterStatement::Withdraw(feature())]);
    std::fs::write(next, signed(&sandbox, "recovery", &entry)).expect("writes");
    sandbox.ok(BACKUP);
    std::fs::remove_file(sandbox.path("out.sqlite")).expect("removes");
    sandbox.ok(RESTORE);
}

/// Before, restores with the recovery key then ended with exit code 5.
#[test]
fn a_stolen_admin_key_does_not_lock_the_recovery_key_out() {
    let sandbox = healthy();
    let recovery = identity(&sandbox, "recovery");
    let revoke = RevokeKey { key: recovery.key_id(), reason: RevocationReason::Stolen };
    state(&sandbox, vec![RosterStatement::Revoke(revoke)]);
    let epoch = Epoch(2);
    let sealing = AdminKeys::create_epoch(&System, recovery.repository(), epoch).restore_public().to_bytes();
    state(&sandbox, vec![RosterStatement::Epoch(OpenEpoch { epoch, sealing, grants: [].into() })]);
    let backup = sandbox.ok(BACKUP);
    let missing =
        format!("epoch 2 does not count: it was opened without a grant for recovery key {}", recovery.key_id());
    assert!(backup.contains(&missing), "{backup}");
    sandbox.ok(&["restore", "latest", "--to", "out.sqlite", "--key-file", "keys/recovery.key"]);
}
