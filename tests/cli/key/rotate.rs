//! `sidekeep key rotate`

use super::support::{ADMIN, RECOVERY, id, line, uploaded, with_key};
use crate::Sandbox;

/// A repository with a snapshot of 3 MB that does not compress.
fn begun() -> Sandbox {
    let sandbox = Sandbox::with_service();
    sandbox.sql(
        "sync.db",
        "CREATE TABLE blobs (id INTEGER PRIMARY KEY, data BLOB);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
         INSERT INTO blobs SELECT i, randomblob(1000) FROM n;",
    );
    assert!(uploaded(&sandbox, "keys/operator.key") > 2_000_000);
    sandbox
}

#[test]
fn a_replaced_host_uploads_nothing_again() {
    let sandbox = begun();
    let operator = id(&sandbox, "operator");
    let text = sandbox.ok(&with_key(&["key", "rotate", &operator, "--to", "b.key"], ADMIN));
    assert!(text.contains("stays trusted") && !text.contains("opened epoch"), "{text}");
    sandbox.fails(5, &["backup"]);
    assert!(uploaded(&sandbox, "b.key") < 100_000);
    sandbox.ok(&with_key(&["verify", "--level", "deep"], ADMIN));
    let old = line(&sandbox, "operator");
    assert_eq!((&old["revoked"]["reason"], &old["is_distrusted"]), (&"retired".into(), &false.into()));
    let new = line(&sandbox, &format!("{} 2", old["label"].as_str().expect("a label")));
    assert_eq!(new["epochs"], old["epochs"]);
}

#[test]
fn a_stolen_key_opens_a_new_epoch_for_all_others() {
    let sandbox = begun();
    let operator = id(&sandbox, "operator");
    let message = sandbox.fails(5, &with_key(&["key", "rotate", &operator, "--to", "x.key"], "keys/operator.key"));
    assert!(message.contains("an admin") && !sandbox.path("x.key").exists(), "{message}");
    let args = ["key", "rotate", &operator, "--reason", "stolen", "--to", "b.key"];
    let text = sandbox.ok(&with_key(&args, ADMIN));
    assert!(text.find("full upload") < text.find("opened epoch    2"), "{text}");
    sandbox.fails(5, &["backup"]);
    assert!(uploaded(&sandbox, "b.key") > 2_000_000);
    assert!(uploaded(&sandbox, "b.key") < 100_000);
    for key in ["keys/auditor.key", "keys/admin.key", "keys/recovery.key"] {
        let level = if key == "keys/auditor.key" { "structure" } else { "deep" };
        sandbox.ok(&with_key(&["verify", "--level", level], key));
    }
    sandbox.ok(&with_key(&["restore", "latest~2", "--to", "old.sqlite"], RECOVERY));
    assert_eq!(line(&sandbox, "auditor")["epochs"], serde_json::json!([1, 2]));
    assert_eq!(line(&sandbox, "operator")["epochs"], serde_json::json!([1]));
}

#[test]
fn an_admin_and_a_recovery_key_replace_themselves() {
    let sandbox = begun();
    sandbox.ok(&with_key(&["key", "rotate", "--to", "admin-2.key"], ADMIN));
    sandbox.fails(5, &with_key(&["key", "rotate", "--to", "admin-3.key"], ADMIN));
    assert!(
        sandbox
            .fails(5, &with_key(&["key", "rotate", &id(&sandbox, "recovery"), "--to", "r.key"], "admin-2.key"))
            .contains("a recovery key")
    );
    sandbox.ok(&with_key(&["key", "rotate", "--to", "recovery-2.key"], RECOVERY));
    for (at, file) in ["admin-2.key", "recovery-2.key"].into_iter().enumerate() {
        sandbox.ok(&with_key(&["restore", "latest", "--to", &format!("out{at}.sqlite")], file));
    }
    sandbox.ok(&["backup"]);
    sandbox.ok(&with_key(&["verify", "--level", "deep"], "recovery-2.key"));
}
