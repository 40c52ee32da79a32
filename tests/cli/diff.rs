//! `sidekeep diff`

use crate::Sandbox;

fn diff<'a>(args: &[&'a str]) -> Vec<&'a str> {
    [&["diff", "first", "latest", "--key-file", "keys/admin.key"], args].concat()
}

fn with_two_snapshots() -> Sandbox {
    let sandbox = Sandbox::with_service();
    sandbox.ok(&["backup", "--tag", "first"]);
    sandbox.sql(
        "sync.db",
        "DELETE FROM contacts WHERE id = 1; UPDATE contacts SET name = 'Allan' WHERE id = 2;
         INSERT INTO contacts VALUES (5, 2, 'Edsger'), (6, 2, 'Tony');",
    );
    sandbox.ok(&["backup"]);
    sandbox
}

#[test]
fn changes_are_counted_by_table_and_user() {
    let sandbox = with_two_snapshots();
    let document = sandbox.json(&diff(&[]));
    assert_eq!((&document["rows"]["added"], &document["rows"]["changed"]), (&2.into(), &1.into()));
    assert_eq!((&document["rows"]["removed"], &document["users_differing"]), (&1.into(), &2.into()));
    let text = sandbox.ok(&diff(&[]));
    assert!(text.contains("contacts") && !text.contains("settings") && !text.contains("Allan"), "{text}");
    assert!(text.contains("user"), "{text}");
}

#[test]
fn rows_are_shown_when_a_table_or_user_is_named() {
    let sandbox = with_two_snapshots();
    let text = sandbox.ok(&diff(&["--table", "contacts"]));
    assert!(text.contains(r#"~ 2 of 1: name "Alan" -> "Allan""#) && text.contains("Edsger"), "{text}");
    let text = sandbox.ok(&diff(&["--user", "2"]));
    assert!(text.contains("Tony") && !text.contains("Allan"), "{text}");
    assert!(!sandbox.ok(&diff(&["--user", "2", "--rows", "0"])).contains("Tony"));
    assert!(sandbox.fails(1, &diff(&["--table", "nope"])).contains("nope"));
}

#[test]
fn equal_snapshots_do_not_differ() {
    let sandbox = Sandbox::with_service();
    sandbox.ok(&["backup", "--tag", "first"]);
    sandbox.ok(&["backup"]);
    assert!(sandbox.ok(&diff(&[])).contains("no difference"));
}

#[test]
fn only_keys_that_open_rows_can_compare() {
    let sandbox = with_two_snapshots();
    for role in ["operator", "auditor", "maintainer"] {
        let key = format!("keys/{role}.key");
        assert!(sandbox.fails(5, &["diff", "first", "latest", "--key-file", &key]).contains("admin"));
    }
}
