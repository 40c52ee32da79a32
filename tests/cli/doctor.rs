//! `sidekeep doctor`

use crate::Sandbox;

#[test]
fn all_is_well_with_what_init_made_for_every_role() {
    let sandbox = Sandbox::with_service();
    let text = sandbox.ok(&["doctor"]);
    for expected in
        ["configuration", "location", "operator key", "store", "repository", "source main", "3 tables", "disk"]
    {
        assert!(text.contains(expected), "{expected} in {text}");
    }
    assert!(text.lines().all(|line| line.starts_with("ok ")), "{text}");
    for role in ["maintainer", "admin", "auditor", "recovery"] {
        let text = sandbox.ok(&["doctor", "--key-file", &format!("keys/{role}.key")]);
        assert_eq!(text.contains("store:"), role != "auditor", "{text}");
    }
    assert!(sandbox.path("repo/probe").read_dir().map_or(0, Iterator::count) == 0, "nothing is left behind");
}

#[test]
fn everything_that_is_wrong_is_said_at_once_with_what_to_do() {
    let sandbox = Sandbox::with_service();
    std::fs::remove_file(sandbox.path("sync.db")).expect("removes");
    let ran = sandbox.run(&["doctor", "--repo", "nowhere", "--key-file", "missing.key"]);
    let wrong: Vec<&str> = ran.out.lines().filter(|line| line.starts_with("WRONG")).collect();
    assert!(ran.code == 3 && ran.err.is_empty() && wrong.len() == 3, "{}", ran.out);
    for expected in ["missing.key", "nowhere", "sync.db", "sidekeep init"] {
        assert!(ran.out.contains(expected), "{expected} in {}", ran.out);
    }
    let ran = sandbox.run(&["doctor", "--json"]);
    let document: serde_json::Value = serde_json::from_str(&ran.out).expect("JSON");
    let states: Vec<&str> =
        document["checks"].as_array().expect("a list").iter().filter_map(|c| c["state"].as_str()).collect();
    assert!(ran.code == 3 && states.contains(&"wrong") && states.contains(&"well"), "{states:?}");
}

#[test]
fn a_key_of_another_repository_and_a_broken_configuration_are_found() {
    let sandbox = Sandbox::with_service();
    sandbox.ok(&["init", "other", "--keys-dir", "more"]);
    let ran = sandbox.run(&["doctor", "--key-file", "more/operator.key"]);
    assert!(ran.code == 3 && ran.out.contains("WRONG  repository: the fingerprint"), "{}", ran.out);
    sandbox.write("sidekeep.toml", "nonsense");
    let ran = sandbox.run(&["doctor"]);
    assert!(ran.code == 3 && ran.out.lines().count() == 1 && ran.out.contains("line 1"), "{}", ran.out);
}

#[test]
fn what_cannot_be_captured_is_wrong() {
    let sandbox = Sandbox::with_service();
    sandbox.sql("sync.db", "CREATE TABLE words (rowid TEXT, _rowid_ TEXT, oid TEXT);");
    let ran = sandbox.run(&["doctor"]);
    assert!(ran.code == 3 && ran.out.contains("cannot capture words"), "{}", ran.out);
}
