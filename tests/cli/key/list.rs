//! `sidekeep key list`

use super::support::{ADMIN, id, line, with_key};
use crate::Sandbox;

#[test]
fn keys_are_listed_with_and_without_a_key() {
    let sandbox = Sandbox::with_service();
    let listed = sandbox.json(&["key", "list"]);
    let keys = listed["keys"].as_array().expect("keys");
    assert_eq!(keys.len(), 5);
    assert_eq!(listed["epochs"], serde_json::json!([{"epoch": 1, "closed": false}]));
    let own: Vec<_> = keys.iter().filter(|line| line["is_own"] == true).collect();
    assert!(own.len() == 1 && own[0]["role"] == "operator" && own[0]["sources"] == "all", "{listed}");
    assert_eq!((&own[0]["enrolled"], &own[0]["epochs"]), (&1.into(), &serde_json::json!([1])));

    std::fs::remove_file(sandbox.path("sidekeep.toml")).expect("removes");
    let public = sandbox.json(&["key", "list", "--repo", "repo"]);
    assert!(public["keys"].as_array().expect("keys").iter().all(|line| line["is_own"] == false));
    let text = sandbox.ok(&["key", "list", "--repo", "repo"]);
    assert!(text.contains("recovery") && text.contains("all"), "{text}");
}

#[test]
fn a_revoked_key_lists_keys_and_sees_why_it_is_refused() {
    let sandbox = Sandbox::with_service();
    let operator = id(&sandbox, "operator");
    sandbox.ok(&with_key(&["key", "revoke", &operator, "--reason", "stolen"], ADMIN));
    let operator = line(&sandbox, "operator");
    assert_eq!(operator["revoked"]["reason"], "stolen");
    assert!(operator["is_own"] == true && operator["is_distrusted"] == true, "{operator}");
    assert!(sandbox.ok(&["key", "list"]).contains("stolen, distrusted"));
}
