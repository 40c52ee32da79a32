//! `sidekeep key check`

use super::support::{ADMIN, RECOVERY, id, with_key};
use crate::Sandbox;

fn check(sandbox: &Sandbox, file: &str) -> (i32, serde_json::Value) {
    let ran = sandbox.run(&with_key(&["key", "check", "--json"], file));
    (ran.code, serde_json::from_str(&ran.out).unwrap_or_default())
}

#[test]
fn a_key_opens_all_its_grants_and_the_newest_snapshot_of_every_epoch() {
    let sandbox = Sandbox::with_service();
    sandbox.ok(&["backup"]);
    let operator = id(&sandbox, "operator");
    sandbox.ok(&with_key(&["key", "rotate", &operator, "--reason", "stolen", "--to", "b.key"], ADMIN));
    sandbox.ok(&with_key(&["backup"], "b.key"));
    for (file, snapshots) in [(RECOVERY, 2), (ADMIN, 2), ("b.key", 0), ("keys/auditor.key", 0)] {
        let (code, report) = check(&sandbox, file);
        assert_eq!((code, &report["opened"]), (0, &serde_json::json!([1, 2])), "{report}");
        assert_eq!(report["snapshots"].as_array().map(Vec::len), Some(snapshots), "{report}");
        let record = std::fs::read_to_string(report["record"].as_str().expect("a record")).expect("reads");
        assert!(record.contains("\"findings\":0"), "{record}");
    }
    let (code, report) = check(&sandbox, "keys/operator.key");
    assert!(code == 3 && report["findings"][0]["kind"] == "revoked-key", "{report}");
}

#[test]
fn what_a_key_does_not_open_is_found() {
    let sandbox = Sandbox::with_service();
    sandbox.ok(&["backup"]);
    let dir = sandbox.path("repo/keys/000001").join(id(&sandbox, "recovery"));
    let grant = std::fs::read_dir(&dir).expect("reads").next().expect("a grant").expect("an entry").path();
    let bytes = std::fs::read(&grant).expect("reads");
    std::fs::write(&grant, b"bogus").expect("writes");
    let (code, report) = check(&sandbox, RECOVERY);
    assert!(
        code == 3 && report["findings"][0]["kind"] == "key-unfit" && report["opened"] == serde_json::json!([]),
        "{report}"
    );
    std::fs::write(&grant, bytes).expect("writes");
    assert_eq!(check(&sandbox, RECOVERY).0, 0);
}
