//! `sidekeep owners`

use crate::Sandbox;

#[test]
fn placement_is_pinned_and_drift_is_reported_until_it_is_accepted() {
    let sandbox = Sandbox::with_service();
    let text = sandbox.run(&["owners"]).out;
    assert!(text.contains("users are the rows of users") && text.contains("not pinned yet"), "{text}");
    assert!(text.contains("contacts.user_id -> users.id") && text.contains("global"), "{text}");
    sandbox.ok(&["backup"]);
    let document = sandbox.json(&["owners"]);
    assert_eq!((&document["kind"], &document["owner_table"]), (&"owners".into(), &"users".into()));
    let config = std::fs::read_to_string(sandbox.path("sidekeep.toml")).expect("reads");
    sandbox.write(
        "sidekeep.toml",
        &config.replace("# [source.main.layout]\n# sync_log", "[source.main.layout]\ncontacts"),
    );
    let ran = sandbox.run(&["owners"]);
    assert!(ran.code == 3 && ran.out.contains("DRIFT") && ran.out.contains("--accept"), "{}", ran.out);
    assert_eq!(sandbox.run(&["backup"]).code, 3);
    sandbox.ok(&["owners", "--accept"]);
    assert!(sandbox.ok(&["owners"]).contains("feed"));
    sandbox.ok(&["backup"]);
}
