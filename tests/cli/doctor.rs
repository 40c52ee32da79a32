//! `sidekeep doctor`

use std::os::unix::fs::PermissionsExt;

use crate::Sandbox;

#[test]
fn a_sound_setup_passes_before_the_first_snapshot_and_then_with_every_role() {
    let sandbox = Sandbox::with_service();
    let text = sandbox.ok(&["doctor"]);
    assert!(text.contains("take the first backup: `sidekeep backup`"), "{text}");
    assert!(text.lines().all(|line| line.starts_with("ok ") || line.starts_with("    ")), "{text}");
    sandbox.ok(&["backup"]);
    let text = sandbox.ok(&["doctor"]);
    for expected in
        ["configuration", "store", "operator key", "repository", "database main: 3 tables", "temporary files"]
    {
        assert!(text.contains(expected), "{expected} in {text}");
    }
    assert!(text.lines().all(|line| line.starts_with("ok ")), "{text}");
    for role in ["maintainer", "admin", "auditor", "recovery"] {
        let text = sandbox.ok(&["doctor", "--key-file", &format!("keys/{role}.key")]);
        assert!(text.contains("source main") && !text.contains("database main"), "{text}");
    }
    assert!(!sandbox.path("repo/probe").exists(), "nothing is left behind");
    sandbox.ok(&["init", "other", "--keys-dir", "more"]);
    assert!(!sandbox.path("other/probe").exists(), "init leaves nothing either");
    std::fs::create_dir(sandbox.path("repo/probe")).expect("makes");
    std::fs::write(sandbox.path("repo/probe/another"), "of another run").expect("writes");
    sandbox.ok(&["doctor"]);
    assert_eq!(sandbox.path("repo/probe").read_dir().expect("reads").count(), 1, "objects of other runs stay");
}

#[test]
fn all_problems_are_reported_in_one_run_with_what_to_do() {
    let sandbox = Sandbox::with_service();
    std::fs::remove_file(sandbox.path("sync.db")).expect("removes");
    let ran = sandbox.run(&["doctor", "--repo", "nowhere", "--key-file", "missing.key"]);
    let failed = ran.out.lines().filter(|line| line.starts_with("FAILED")).count();
    assert!(ran.code == 3 && ran.err.is_empty() && failed == 3, "{}", ran.out);
    for expected in ["missing.key", "nowhere", "sync.db", "check its address"] {
        assert!(ran.out.contains(expected), "{expected} in {}", ran.out);
    }
    let ran = sandbox.run(&["doctor", "--json"]);
    let document: serde_json::Value = serde_json::from_str(&ran.out).expect("JSON");
    assert_eq!((ran.code, &document["kind"], &document["state"]), (3, &"doctor".into(), &"failed".into()));
}

#[test]
fn a_location_without_a_repository_has_a_remedy_of_its_own() {
    let sandbox = Sandbox::with_service();
    std::fs::create_dir(sandbox.path("empty")).expect("makes");
    for (args, line) in [
        (&["doctor", "--repo", "nowhere"][..], "FAILED   store: "),
        (&["doctor", "--repo", "empty"], "FAILED   repository: "),
        (&["doctor", "--config", "none.toml"], "FAILED   store: "),
    ] {
        sandbox.write("none.toml", "");
        let ran = sandbox.run(args);
        let mut lines = ran.out.lines().skip_while(|found| !found.starts_with(line)).skip(1);
        let remedy = lines.next().expect("a remedy");
        assert!(ran.code == 3 && remedy.contains("--repo") && remedy.contains("`sidekeep init`"), "{}", ran.out);
        assert!(!ran.out.contains("network") && !ran.out.contains("credentials"), "{}", ran.out);
    }
}

#[test]
fn a_key_of_another_repository_and_a_broken_configuration_are_reported() {
    let sandbox = Sandbox::with_service();
    sandbox.ok(&["init", "other", "--keys-dir", "more"]);
    let ran = sandbox.run(&["doctor", "--key-file", "more/operator.key"]);
    assert!(ran.code == 3 && ran.out.contains("belongs to another repository"), "{}", ran.out);
    let key = std::fs::read_to_string(sandbox.path("keys/operator.key")).expect("reads");
    let fingerprint = key.lines().find(|line| line.starts_with("fingerprint: ")).expect("a line").to_owned();
    let forged = sandbox.write("forged.key", &key.replace(&fingerprint, &format!("fingerprint: {}", "0".repeat(64))));
    std::fs::set_permissions(forged, std::fs::Permissions::from_mode(0o600)).expect("permissions");
    let ran = sandbox.run(&["doctor", "--key-file", "forged.key"]);
    assert!(ran.code == 3 && ran.out.contains("FAILED   fingerprint"), "{}", ran.out);
    sandbox.write("sidekeep.toml", "nonsense");
    let ran = sandbox.run(&["doctor"]);
    assert!(ran.code == 3 && ran.out.lines().count() == 2 && ran.out.contains("line 1"), "{}", ran.out);
}

#[test]
fn a_table_that_cannot_be_captured_is_a_warning() {
    let sandbox = Sandbox::with_service();
    sandbox.sql("sync.db", "CREATE TABLE words (rowid TEXT, _rowid_ TEXT, oid TEXT);");
    let ran = sandbox.run(&["doctor"]);
    assert!(ran.code == 3 && ran.out.contains("WARNING  database main") && ran.out.contains("words"), "{}", ran.out);
}
