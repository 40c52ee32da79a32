//! `sidekeep key revoke`

use super::support::{ADMIN, RECOVERY, id, line, sources, with_key};
use crate::Sandbox;

fn revoke<'a>(key: &'a str, reason: &'a str, by: &'a str) -> Vec<&'a str> {
    with_key(&["key", "revoke", key, "--reason", reason], by)
}

#[test]
fn a_revoked_key_writes_nothing_and_the_roster_and_every_ledger_say_so() {
    let sandbox = Sandbox::with_service();
    sandbox.ok(&["backup"]);
    let operator = id(&sandbox, "operator");
    let message = sandbox.fails(5, &revoke(&operator, "stolen", "keys/operator.key"));
    assert!(message.contains("an admin or the recovery key"), "{message}");
    let entries =
        |source: &str| std::fs::read_dir(sandbox.path("repo").join(source).join("ledger")).expect("reads").count();
    let source = sources(&sandbox).remove(0);
    let before = entries(&source);
    let text = sandbox.ok(&revoke(&operator[..8], "stolen", ADMIN));
    assert!(
        text.starts_with("note: ") && text.contains("uploads again") && text.contains("revoked in 1 ledger"),
        "{text}"
    );
    assert_eq!(entries(&source), before + 1);
    sandbox.fails(5, &["backup"]);
    // Once more writes nothing.
    let again = sandbox.json(&revoke(&operator, "stolen", ADMIN));
    assert!(again["is_new"] == false && again["ledgers"]["known"][0] == source.as_str(), "{again}");
    // An admin does not take distrust back. A recovery key does.
    sandbox.ok(&revoke(&operator, "retired", ADMIN));
    assert_eq!(line(&sandbox, "operator")["is_distrusted"], true);
    sandbox.ok(&revoke(&operator, "retired", RECOVERY));
    assert_eq!(line(&sandbox, "operator")["is_distrusted"], false);
    sandbox.ok(&with_key(&["verify", "--level", "read"], ADMIN));
}

/// The roster says it, but the command was interrupted before it wrote to the ledger.
#[test]
fn an_interrupted_revocation_is_completed() {
    let sandbox = Sandbox::with_service();
    sandbox.ok(&["backup"]);
    let operator = id(&sandbox, "operator");
    let source = sources(&sandbox).remove(0);
    let ledger = sandbox.path("repo").join(&source).join("ledger");
    // Nobody may write here for a moment.
    let hidden = sandbox.path("hidden");
    let args = revoke(&operator, "retired", ADMIN);
    let newest = |count: usize| ledger.join(format!("{count:010}"));
    let count = std::fs::read_dir(&ledger).expect("reads").count();
    sandbox.ok(&args);
    // As if the last step had not happened.
    std::fs::rename(newest(count + 1), &hidden).expect("moves");
    let done = sandbox.run(&[&args[..], &["--json", "--cache-dir", "other"]].concat());
    let done: serde_json::Value = serde_json::from_str(&done.out).expect("JSON");
    assert!(done["is_new"] == false && done["ledgers"]["written"][0] == source.as_str(), "{done}");
    assert!(newest(count + 1).exists());
}

#[test]
fn a_revocation_that_would_lock_somebody_out_is_refused() {
    let sandbox = Sandbox::with_service();
    let (admin, recovery) = (id(&sandbox, "admin"), id(&sandbox, "recovery"));
    for (key, by, words) in [
        (&admin, ADMIN, "does not revoke itself"),
        (&admin, RECOVERY, "the last admin key"),
        (&recovery, RECOVERY, "does not revoke itself"),
        (&"0000".to_owned(), ADMIN, "there is no key"),
    ] {
        let message = sandbox.fails(2, &revoke(key, "lost", by));
        assert!(message.contains(words), "{message}");
    }
    let message = sandbox.fails(5, &revoke(&recovery, "stolen", ADMIN));
    assert!(message.contains("a recovery key"), "{message}");
    assert!(
        sandbox.json(&["key", "list"])["keys"].as_array().expect("keys").iter().all(|line| line["revoked"].is_null())
    );
}
