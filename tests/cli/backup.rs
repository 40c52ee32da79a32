//! `sidekeep backup`

use crate::Sandbox;
use crate::support::sandbox::of_kind;

#[test]
fn a_second_backup_of_an_unchanged_database_stores_nothing() {
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
    assert_eq!(sandbox.json(&args)["number"], 1, "it is a new source");
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

/// An operator can find out what a migration will cost before the backup that pays for it.
#[test]
fn a_dry_run_predicts_what_a_backup_will_store() {
    let sandbox = Sandbox::with_service();
    sandbox.ok(&["backup"]);
    for change in [
        "UPDATE contacts SET name = 'New' WHERE id = 3;",
        "ALTER TABLE contacts ADD COLUMN nick TEXT;",
        "ALTER TABLE contacts DROP COLUMN name;",
        "INSERT INTO settings VALUES ('photo', randomblob(100000));",
    ] {
        sandbox.sql("sync.db", change);
        let (dry, real) = (sandbox.json(&["backup", "--dry-run"]), sandbox.json(&["backup"]));
        assert_eq!(dry["tables"], real["tables"], "{change}");
        let bytes = |report: &serde_json::Value| report["new_bytes"].as_i64().expect("a number");
        // Session numbers differ, so compressed sizes differ by a few bytes, and padding may round them up.
        assert!((bytes(&dry) - bytes(&real)).abs() <= bytes(&real) / 16, "{change}: {dry} {real}");
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
fn a_table_that_cannot_be_captured_is_reported_with_exit_code_3() {
    let sandbox = Sandbox::with_service();
    sandbox.sql("sync.db", "CREATE TABLE words (rowid TEXT, _rowid_ TEXT, oid TEXT);");
    let ran = sandbox.run(&["backup"]);
    assert_eq!((ran.code, ran.err.as_str()), (3, ""));
    assert!(ran.out.contains("not captured: words"), "{}", ran.out);
}

#[test]
fn keys_of_other_roles_and_repositories_are_refused_with_exit_code_5() {
    let sandbox = Sandbox::with_service();
    for role in ["admin", "auditor", "maintainer", "recovery"] {
        let message = sandbox.fails(5, &["backup", "--key-file", &format!("keys/{role}.key")]);
        assert!(message.contains("operator") && message.contains(role), "{message}");
    }
    sandbox.ok(&["init", "other", "--keys-dir", "more"]);
    assert!(sandbox.fails(5, &["backup", "--key-file", "more/operator.key"]).contains("fingerprint"));
}

#[test]
fn missing_repositories_sources_and_wrong_usage_have_different_exit_codes() {
    let sandbox = Sandbox::with_service();
    assert!(sandbox.fails(4, &["backup", "--repo", "nowhere"]).contains("nowhere"));
    std::fs::create_dir(sandbox.path("empty")).expect("makes");
    assert!(sandbox.fails(4, &["backup", "--repo", "empty"]).contains("init"));
    assert!(sandbox.fails(7, &["backup", "sqlite:missing.db"]).contains("missing.db"));
    sandbox.write("text.db", "this text is long enough to be read as a header");
    assert!(sandbox.fails(7, &["backup", "sqlite:text.db"]).contains("text.db"));
    assert!(sandbox.fails(2, &["backup", "--tag", "latest"]).contains("must not look like"));
    assert!(sandbox.fails(2, &["backup", "--workers", "0"]).contains("1..=64"));
}

#[test]
fn an_error_is_also_one_json_document() {
    let sandbox = Sandbox::with_service();
    let message = sandbox.fails(4, &["backup", "--repo", "nowhere", "--json"]);
    let error: serde_json::Value = serde_json::from_str(&message).expect("JSON");
    assert_eq!((&error["kind"], &error["exit_code"]), (&"error".into(), &4.into()));
    assert!(error["hint"].is_string());
}

/// To a host that has seen nothing, a store that lost its newest roster entry looks as if it never had the source.
#[test]
fn a_source_that_the_roster_lost_is_reported_when_it_is_added_again() {
    let sandbox = Sandbox::with_service();
    let before = sandbox.json(&["backup"]);
    std::fs::remove_file(sandbox.path("repo/roster/0000000002")).expect("removes");
    let ran = sandbox.run(&["backup", "--json", "--cache-dir", "new"]);
    let source = before["source"].as_str().expect("an id");
    assert_eq!(ran.code, 3, "{}", ran.err);
    let report: serde_json::Value = serde_json::from_str(&ran.out).expect("JSON");
    let findings = report["findings"].as_array().expect("findings");
    let is_named = |finding: &serde_json::Value| finding["kind"] == "unknown-source" && finding["source"] == source;
    assert!(findings.iter().any(is_named), "{}", ran.out);
    assert_eq!(
        sandbox.run(&["backup", "--cache-dir", "new"]).code,
        0,
        "backup reports it once, and verify reports it after that"
    );
    assert_eq!(sandbox.run(&["verify", "--cache-dir", "new"]).code, 3);
}

#[test]
fn a_table_whose_name_is_not_text_is_a_gap() {
    let sandbox = Sandbox::with_service();
    let text = |sql: &str| format!("CAST(replace('{sql}', 'odd', 'o' || CAST(x'e4' AS TEXT)) AS TEXT)");
    let [name, table] = ["odd", "CREATE TABLE odd(a)"].map(text);
    let strict = text("CREATE TABLE odd2(a ANY) STRICT");
    let child = text("CREATE TABLE child(a REFERENCES odd(a))");
    sandbox.sql(
        "sync.db",
        &format!(
            "PRAGMA foreign_keys=OFF; CREATE TABLE odd(a); CREATE TABLE odd2(a ANY) STRICT; CREATE TABLE child(a REFERENCES odd(a));
             INSERT INTO odd VALUES(1); INSERT INTO child VALUES(1); CREATE INDEX i ON odd(a); ANALYZE; DROP INDEX i;
             UPDATE sqlite_stat1 SET tbl = {name} WHERE tbl = 'odd'; PRAGMA writable_schema=ON;
             UPDATE sqlite_schema SET name = {name}, tbl_name = {name}, sql = {table} WHERE name = 'odd';
             UPDATE sqlite_schema SET name = {name} || '2', tbl_name = {name} || '2', sql = {strict} WHERE name = 'odd2';
             UPDATE sqlite_schema SET sql = {child} WHERE name = 'child'"
        ),
    );
    let ran = sandbox.run(&["backup", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{}", ran.err));
    let gaps = of_kind(&report, "unreadable-name");
    let names: Vec<_> = gaps.iter().map(|gap| gap["object"].as_str().unwrap_or_default()).collect();
    assert_eq!(names, ["o\u{fffd}", "o\u{fffd}2"], "{report}");
    sandbox.run(&["restore", "latest", "--to", "sqlite:back.db", "--key-file", "keys/admin.key"]);
    let back = rusqlite::Connection::open(sandbox.path("back.db")).expect("opens");
    let rows: i64 = back.query_row("SELECT count(*) FROM child", [], |row| row.get(0)).expect("counts");
    assert_eq!(rows, 1);
}
