//! `sidekeep verify`

use std::path::PathBuf;

use crate::Sandbox;
use crate::support::sandbox::of_kind;

fn with_snapshots() -> Sandbox {
    let sandbox = Sandbox::with_service();
    sandbox.ok(&["backup"]);
    sandbox.sql("sync.db", "INSERT INTO contacts VALUES (9, 1, 'New');");
    sandbox.ok(&["backup"]);
    sandbox
}

/// The first object in a folder of the only source.
fn object(sandbox: &Sandbox, folder: &str) -> PathBuf {
    let mut found = Vec::new();
    walk(&sandbox.path("repo"), &mut found);
    found.retain(|path| path.to_str().is_some_and(|path| path.contains(&format!("/{folder}/"))));
    found.sort();
    found.first().expect("an object").clone()
}

fn walk(dir: &std::path::Path, found: &mut Vec<PathBuf>) {
    for entry in dir.read_dir().expect("reads") {
        let path = entry.expect("reads").path();
        if path.is_dir() { walk(&path, found) } else { found.push(path) }
    }
}

fn flip_a_bit(path: &std::path::Path) {
    let mut bytes = std::fs::read(path).expect("reads");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).expect("writes");
}

#[test]
fn a_sound_repository_passes_every_level_with_the_key_that_it_needs() {
    let sandbox = with_snapshots();
    std::fs::remove_file(sandbox.path("sidekeep.toml")).expect("removes");
    let verify =
        |level: &'static str, rest: &[&'static str]| [&["verify", "--repo", "repo", "--level", level], rest].concat();
    for level in ["quick", "read"] {
        assert!(sandbox.ok(&verify(level, &[])).contains("nothing is wrong"));
    }
    assert!(sandbox.fails(5, &verify("structure", &[])).contains("key"));
    let text = sandbox.ok(&verify("structure", &["--key-file", "keys/auditor.key"]));
    assert!(text.contains("source main") && text.matches("intact").count() == 2, "{text}");
    assert!(sandbox.fails(5, &verify("deep", &["--key-file", "keys/auditor.key"])).contains("admin"));
    sandbox.ok(&verify("deep", &["--key-file", "keys/admin.key"]));
    let document = sandbox.json(&verify("deep", &["--key-file", "keys/recovery.key", "latest"]));
    assert_eq!(document["sources"][0]["snapshots"].as_array().map(Vec::len), Some(1));
    assert!(sandbox.fails(2, &verify("read", &["latest"])).contains("--level"));
}

#[test]
fn damage_is_named_with_exit_code_3() {
    let sandbox = with_snapshots();
    let pack = object(&sandbox, "packs");
    flip_a_bit(&pack);
    let name = pack.file_name().and_then(|name| name.to_str()).expect("UTF-8");
    sandbox.ok(&["verify"]);
    let ran = sandbox.run(&["verify", "--level", "read"]);
    assert!(ran.code == 3 && ran.out.contains("DAMAGE") && ran.out.contains(name), "{}", ran.out);
    std::fs::remove_file(&pack).expect("removes");
    let ran = sandbox.run(&["verify"]);
    assert!(ran.code == 3 && ran.out.contains(name), "{}", ran.out);
}

#[test]
fn a_repository_that_does_not_open_is_a_finding_and_a_missing_one_is_an_error() {
    let sandbox = with_snapshots();
    flip_a_bit(&sandbox.path("repo/roster/0000000001"));
    let ran = sandbox.run(&["verify"]);
    assert!(ran.code == 3 && ran.out.contains("roster/0000000001"), "{}", ran.out);
    sandbox.fails(4, &["verify", "--repo", "nowhere"]);
}

#[test]
fn the_fingerprint_must_match_the_option_or_the_key() {
    let sandbox = with_snapshots();
    let other = sandbox.json(&["init", "other", "--keys-dir", "more"]);
    let fingerprint = other["fingerprint"].as_str().expect("a fingerprint");
    assert!(sandbox.fails(5, &["verify", "--repo", "other"]).contains(fingerprint));
    sandbox.ok(&["verify", "--repo", "other", "--fingerprint", fingerprint]);
    sandbox.fails(5, &["verify", "--fingerprint", fingerprint]);
    sandbox.fails(2, &["verify", "--fingerprint", "9f"]);
}

#[test]
fn an_entry_that_disappeared_since_the_previous_run_is_reported() {
    let sandbox = with_snapshots();
    sandbox.ok(&["verify", "--state", "seen.json"]);
    let seen = std::fs::read(sandbox.path("seen.json")).expect("reads");
    let ledger = object(&sandbox, "ledger").with_file_name("0000000002");
    std::fs::remove_file(ledger).expect("removes");
    for cache in [".cache/sidekeep", "empty"] {
        let ran = sandbox.run(&["verify", "--state", "seen.json", "--cache-dir", cache]);
        assert!(ran.code == 3 && ran.out.matches("DAMAGE").count() == 1, "{}", ran.out);
    }
    assert_eq!(std::fs::read(sandbox.path("seen.json")).expect("reads"), seen, "the recorded state stays");
    sandbox.write("nonsense.json", "{");
    assert!(sandbox.fails(2, &["verify", "--state", "nonsense.json"]).contains("nonsense.json"));
}

#[test]
fn a_state_file_that_cannot_be_written_is_refused_before_the_check() {
    let sandbox = with_snapshots();
    flip_a_bit(&object(&sandbox, "packs"));
    let err = sandbox.fails(2, &["verify", "--level", "read", "--state", "gone/seen.json"]);
    assert_eq!(err, "error: cannot write gone/seen.json: No such file or directory (os error 2)\n");
    sandbox.fails(2, &["verify", "--repo", "nowhere", "--state", "gone/seen.json"]);
    assert!(!sandbox.path("gone").exists());
}

/// Without what earlier runs saw, only the manifest shows that there was a snapshot.
#[test]
fn a_manifest_that_no_ledger_entry_names_is_information() {
    let sandbox = with_snapshots();
    std::fs::remove_file(object(&sandbox, "ledger").with_file_name("0000000002")).expect("removes");
    let text = sandbox.ok(&["verify", "--level", "read", "--cache-dir", "empty"]);
    assert!(text.contains("/manifests/") && text.contains("no ledger entry names it"), "{text}");
    let document = sandbox.json(&["verify", "--level", "read", "--cache-dir", "empty"]);
    let orphans = of_kind(&document, "orphan");
    let unnamed: Vec<_> = orphans.iter().filter(|found| found["detail"].to_string().contains("was deleted")).collect();
    assert!(unnamed.len() == 1 && unnamed[0]["severity"] == "information", "{orphans:?}");
}
