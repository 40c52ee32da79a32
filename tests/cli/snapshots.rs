//! `sidekeep snapshots`

use crate::Sandbox;

#[test]
fn every_key_can_list_snapshots() {
    let sandbox = Sandbox::with_service();
    assert!(sandbox.ok(&["snapshots"]).contains("no snapshots"));
    sandbox.ok(&["backup", "--tag", "first"]);
    sandbox.ok(&["backup"]);
    for role in ["operator", "maintainer", "admin", "auditor", "recovery"] {
        let text = sandbox.ok(&["snapshots", "--key-file", &format!("keys/{role}.key")]);
        assert!(text.starts_with("source main\n") && text.contains("first") && text.contains("clean"), "{text}");
    }
    let document = sandbox.json(&["snapshots", "--source", "main"]);
    let snapshots = document["sources"][0]["snapshots"].as_array().expect("a list");
    assert_eq!(snapshots.len(), 2);
    assert_eq!((&snapshots[0]["rows"], &snapshots[0]["tags"][0]), (&8.into(), &"first".into()));
    assert!(sandbox.fails(2, &["snapshots", "--source", "other"]).contains("other"));
}

#[test]
fn only_public_data_is_listed_without_a_key() {
    let sandbox = Sandbox::with_service();
    let id = sandbox.json(&["backup"])["snapshot"].as_str().expect("an id").to_owned();
    std::fs::remove_file(sandbox.path("sidekeep.toml")).expect("removes");
    let text = sandbox.ok(&["snapshots", "--repo", "repo"]);
    assert!(text.contains(&id[..12]) && !text.contains("main"), "{text}");
    let document = sandbox.json(&["snapshots", "--repo", "repo"]);
    assert!(document["sources"][0]["name"].is_null() && document["sources"][0]["snapshots"][0]["rows"].is_null());
    let source = document["sources"][0]["source"].as_str().expect("an id").to_owned();
    sandbox.ok(&["snapshots", "--repo", "repo", "--source", &source]);
    sandbox.fails(2, &["snapshots", "--repo", "repo", "--source", "main"]);
}
