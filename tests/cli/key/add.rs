//! `sidekeep key add`

use std::os::unix::fs::PermissionsExt;

use super::support::{ADMIN, RECOVERY, line, sources, with_key};
use crate::Sandbox;

fn add<'a>(role: &'a str, label: &'a str, to: &'a str, by: &'a str) -> Vec<&'a str> {
    with_key(&["key", "add", "--role", role, "--label", label, "--to", to], by)
}

#[test]
fn a_second_operator_finds_the_source_and_shares_what_is_stored() {
    let sandbox = Sandbox::with_service();
    sandbox.ok(&["backup"]);
    sandbox.ok(&add("operator", "host b", "new/b.key", ADMIN));
    let mode = sandbox.path("new/b.key").metadata().expect("is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    sandbox.ok(&with_key(&["backup"], "new/b.key"));
    assert_eq!(sources(&sandbox).len(), 1);
    let snapshots = sandbox.json(&["snapshots"]);
    assert_eq!(snapshots["sources"][0]["snapshots"].as_array().map(Vec::len), Some(2), "{snapshots}");
    sandbox.ok(&with_key(&["verify", "--level", "deep"], ADMIN));
    // Existing files and labels are not taken.
    assert!(sandbox.fails(2, &add("operator", "host c", "new/b.key", ADMIN)).contains("never overwritten"));
    assert!(sandbox.fails(2, &add("auditor", "host b", "c.key", ADMIN)).contains("has the label"));
    assert!(!sandbox.path("c.key").exists());
}

#[test]
fn every_role_is_enrolled_by_those_who_may() {
    let sandbox = Sandbox::with_service();
    sandbox.ok(&["backup"]);
    assert!(sandbox.fails(5, &add("operator", "x", "x.key", "keys/operator.key")).contains("an admin"));
    assert!(sandbox.fails(5, &add("recovery", "x", "x.key", ADMIN)).contains("a recovery key"));
    assert!(!sandbox.path("x.key").exists());
    for role in ["maintainer", "auditor", "admin"] {
        sandbox.ok(&add(role, &format!("second {role}"), &format!("{role}.key"), ADMIN));
    }
    sandbox.ok(&add("recovery", "second recovery", "recovery.key", RECOVERY));
    sandbox.ok(&with_key(&["verify", "--level", "structure"], "auditor.key"));
    for (at, file) in ["admin.key", "recovery.key"].into_iter().enumerate() {
        sandbox.ok(&with_key(&["restore", "latest", "--to", &format!("out{at}.sqlite")], file));
    }
    assert!(
        sandbox
            .fails(2, &[&add("auditor", "y", "y.key", ADMIN)[..], &["--source", "main"]].concat())
            .contains("only operators")
    );
}

#[test]
fn an_operator_gets_a_source_and_later_a_further_one() {
    let sandbox = Sandbox::with_service();
    sandbox.ok(&["backup"]);
    sandbox.sql("other.db", "CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1);");
    sandbox.ok(&["backup", "sqlite:other.db"]);
    let other = sources(&sandbox).remove(1);
    sandbox.ok(&[&add("operator", "host c", "c.key", ADMIN)[..], &["--source", "main"]].concat());
    sandbox.ok(&with_key(&["backup"], "c.key"));
    let refused = sandbox.run(&with_key(&["backup", "sqlite:other.db"], "c.key"));
    assert_eq!(refused.code, 5, "{}", refused.err);
    assert_eq!(sources(&sandbox).len(), 2);
    sandbox.ok(&with_key(&["key", "add", "host c", "--source", &other], ADMIN));
    sandbox.ok(&with_key(&["backup", "sqlite:other.db"], "c.key"));
    let named = line(&sandbox, "host c")["sources"]["named"].as_array().map(Vec::len);
    assert_eq!((named, sources(&sandbox).len()), (Some(2), 2));
    // Only an operator who is limited to sources gets more of them.
    for (key, words) in [("host d", "there is no key"), (&super::support::id(&sandbox, "auditor"), "only operators")] {
        let message = sandbox.fails(2, &with_key(&["key", "add", key, "--source", "main"], ADMIN));
        assert!(message.contains(words), "{message}");
    }
}
