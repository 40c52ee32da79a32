//! `sidekeep backup`

use crate::Sandbox;

#[test]
fn a_snapshot_is_taken_and_the_next_one_is_cheap() {
    let sandbox = Sandbox::with_service();
    let first = sandbox.json(&["backup", "--tag", "first"]);
    assert_eq!((&first["kind"], &first["rows"], &first["number"]), (&"backup".into(), &8.into(), &1.into()));
    assert!(first["snapshot"].is_string() && first["new_bytes"].as_u64() > Some(0));
    let second = sandbox.json(&["backup", "main"]);
    assert_eq!((&second["number"], &second["new_bytes"]), (&2.into(), &0.into()));
    let text = sandbox.ok(&["backup"]);
    assert!(text.contains("8 rows in 3 tables") && text.contains("0 B stored"), "{text}");
}

#[test]
fn an_address_needs_no_configuration() {
    let sandbox = Sandbox::with_service();
    sandbox.ok(&["backup"]);
    std::fs::remove_file(sandbox.path("sidekeep.toml")).expect("removes");
    let url = format!("sqlite://{}", sandbox.path("sync.db").display());
    let args = ["backup", &url, "--repo", "repo", "--key-file", "keys/operator.key"];
    assert_eq!(sandbox.json(&args)["number"], 1, "a source of its own");
    assert!(sandbox.fails(2, &["backup", &url, "--key-file", "keys/operator.key"]).contains("--repo"));
    assert!(sandbox.fails(2, &["backup", "main"]).contains("main"));
}

#[test]
fn a_dry_run_stores_nothing() {
    let sandbox = Sandbox::with_service();
    let names = || {
        let mut names = Vec::new();
        walk(&sandbox.path("repo"), &mut names);
        names
    };
    let before = names();
    let report = sandbox.json(&["backup", "--dry-run"]);
    assert_eq!((report["snapshot"].is_null(), &report["rows"]), (true, &8.into()));
    assert_eq!(names(), before);
    sandbox.ok(&["backup"]);
    let before = names();
    assert!(sandbox.ok(&["backup", "--dry-run"]).contains("nothing was stored"));
    assert_eq!(names(), before);
}

/// What a migration would cost is known before the night in which it does.
#[test]
fn a_dry_run_tells_what_the_night_will_store() {
    let sandbox = Sandbox::with_service();
    sandbox.ok(&["backup"]);
    for day in [
        "UPDATE contacts SET name = 'New' WHERE id = 3;",
        "ALTER TABLE contacts ADD COLUMN nick TEXT;",
        "ALTER TABLE contacts DROP COLUMN name;",
        "INSERT INTO settings VALUES ('photo', randomblob(100000));",
    ] {
        sandbox.sql("sync.db", day);
        let (dry, night) = (sandbox.json(&["backup", "--dry-run"]), sandbox.json(&["backup"]));
        assert_eq!(dry["tables"], night["tables"], "{day}");
        let bytes = |report: &serde_json::Value| report["new_bytes"].as_i64().expect("a number");
        // Compressed numbers of sessions differ by a few bytes, and padding may round them up.
        assert!((bytes(&dry) - bytes(&night)).abs() <= bytes(&night) / 16, "{day}: {dry} {night}");
    }
}

fn walk(dir: &std::path::Path, names: &mut Vec<std::path::PathBuf>) {
    let mut entries: Vec<_> = dir.read_dir().expect("reads").map(|entry| entry.expect("reads").path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() { walk(&path, names) } else { names.push(path) }
    }
}

#[test]
fn what_cannot_be_captured_is_said_and_ends_with_3() {
    let sandbox = Sandbox::with_service();
    sandbox.sql("sync.db", "CREATE TABLE words (rowid TEXT, _rowid_ TEXT, oid TEXT);");
    let ran = sandbox.run(&["backup"]);
    assert_eq!((ran.code, ran.err.as_str()), (3, ""));
    assert!(ran.out.contains("not captured: words"), "{}", ran.out);
}

#[test]
fn other_roles_and_other_repositories_are_refused_with_5() {
    let sandbox = Sandbox::with_service();
    for role in ["admin", "auditor", "maintainer", "recovery"] {
        let message = sandbox.fails(5, &["backup", "--key-file", &format!("keys/{role}.key")]);
        assert!(message.contains("operator") && message.contains(role), "{message}");
    }
    sandbox.ok(&["init", "other", "--keys-dir", "more"]);
    assert!(sandbox.fails(5, &["backup", "--key-file", "more/operator.key"]).contains("fingerprint"));
}

#[test]
fn places_that_are_not_there_have_codes_of_their_own() {
    let sandbox = Sandbox::with_service();
    assert!(sandbox.fails(4, &["backup", "--repo", "nowhere"]).contains("nowhere"));
    std::fs::create_dir(sandbox.path("empty")).expect("makes");
    assert!(sandbox.fails(4, &["backup", "--repo", "empty"]).contains("init"));
    assert!(sandbox.fails(7, &["backup", "sqlite:missing.db"]).contains("missing.db"));
    sandbox.write("text.db", "this is no database, it is a text of some length");
    assert!(sandbox.fails(7, &["backup", "sqlite:text.db"]).contains("text.db"));
    assert!(sandbox.fails(2, &["backup", "--tag", "latest"]).contains("taken for"));
    assert!(sandbox.fails(2, &["backup", "--workers", "0"]).contains("1..=64"));
}

#[test]
fn an_error_is_one_json_object_too() {
    let sandbox = Sandbox::with_service();
    let message = sandbox.fails(4, &["backup", "--repo", "nowhere", "--json"]);
    let error: serde_json::Value = serde_json::from_str(&message).expect("JSON");
    assert_eq!((&error["kind"], &error["exit_code"]), (&"error".into(), &4.into()));
    assert!(error["hint"].is_string());
}

/// A store that lost its newest roster entry looks like one that never had the source: whoever starts anew is told.
#[test]
fn a_source_that_the_roster_lost_is_not_begun_anew_in_silence() {
    let sandbox = Sandbox::with_service();
    let before = sandbox.json(&["backup"]);
    std::fs::remove_file(sandbox.path("repo/roster/0000000002")).expect("removes");
    let ran = sandbox.run(&["backup", "--json"]);
    let source = before["source"].as_str().expect("an id");
    assert_eq!(ran.code, 3, "{}", ran.err);
    let report: serde_json::Value = serde_json::from_str(&ran.out).expect("JSON");
    let findings = report["findings"].as_array().expect("findings");
    let is_named = |finding: &serde_json::Value| finding["kind"] == "unknown-source" && finding["source"] == source;
    assert!(findings.iter().any(is_named), "{}", ran.out);
    assert_eq!(sandbox.run(&["backup"]).code, 0, "it is said once, and then verify says it");
    assert_eq!(sandbox.run(&["verify"]).code, 3);
}
