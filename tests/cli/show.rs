//! `sidekeep show`

use crate::Sandbox;

#[test]
fn an_auditor_sees_row_counts_but_no_rows() {
    let sandbox = Sandbox::with_service();
    let id = sandbox.json(&["backup", "--tag", "first"])["snapshot"].as_str().expect("an id").to_owned();
    let text = sandbox.ok(&["show", "first", "--key-file", "keys/auditor.key"]);
    for expected in [id.as_str(), "contacts", "settings", "8 rows", "first", "clean"] {
        assert!(text.contains(expected), "{expected} in {text}");
    }
    assert!(!text.contains("Grace"));
    let document = sandbox.json(&["show", &id[..8]]);
    assert_eq!((&document["rows"], &document["source_name"]), (&8.into(), &"main".into()));
    assert_eq!(document["tables"].as_array().map(Vec::len), Some(3));
    sandbox.fails(1, &["show", "latest~1"]);
}

#[test]
fn a_table_that_was_not_captured_is_a_finding() {
    let sandbox = Sandbox::with_service();
    sandbox.sql("sync.db", "CREATE TABLE words (rowid TEXT, _rowid_ TEXT, oid TEXT);");
    assert_eq!(sandbox.run(&["backup"]).code, 3);
    let ran = sandbox.run(&["show", "latest"]);
    assert!(ran.code == 3 && ran.out.contains("not captured: words"), "{}", ran.out);
}
