//! `sidekeep status`

use crate::Sandbox;

fn with_max_age(sandbox: &Sandbox, age: &str) {
    let config = std::fs::read_to_string(sandbox.path("sidekeep.toml")).expect("reads");
    sandbox.write("sidekeep.toml", &config.replace("max_age = \"26 hours\"", &format!("max_age = \"{age}\"")));
}

#[test]
fn a_source_is_empty_then_fresh_then_stale() {
    let sandbox = Sandbox::with_service();
    let ran = sandbox.run(&["status"]);
    assert!(ran.code == 3 && ran.out.contains("EMPTY"), "{}", ran.out);
    sandbox.ok(&["backup"]);
    let text = sandbox.ok(&["status", "--key-file", "keys/auditor.key"]);
    assert!(text.contains("main") && text.contains("fresh"), "{text}");
    assert_eq!(sandbox.json(&["status"])["sources"][0]["freshness"], "fresh");
    // Ages are whole seconds.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    with_max_age(&sandbox, "1 ms");
    let ran = sandbox.run(&["status"]);
    assert!(ran.code == 3 && ran.out.contains("STALE"), "{}", ran.out);
}

#[test]
fn a_repository_without_sources_is_a_finding() {
    let sandbox = Sandbox::with_repository();
    assert_eq!(sandbox.run(&["status"]).code, 3);
}

#[test]
fn an_invalid_duration_is_refused() {
    let sandbox = Sandbox::with_service();
    with_max_age(&sandbox, "soon");
    assert!(sandbox.fails(2, &["status"]).contains("26 hours"));
}

#[test]
fn a_source_can_have_its_own_limit_and_a_missing_source_is_reported() {
    let sandbox = Sandbox::with_service();
    sandbox.ok(&["backup"]);
    let config = std::fs::read_to_string(sandbox.path("sidekeep.toml")).expect("reads");
    let config = config.replace("[status]", "max_age = \"7 days\"\n[status]");
    let config = config.replace("# [source.main.layout]", "").replace("# sync_log = \"key\"", "");
    sandbox.write("sidekeep.toml", &config);
    assert_eq!(sandbox.json(&["status"])["sources"][0]["max_age_s"], 7 * 86_400);
    sandbox.write("sidekeep.toml", &(config + "[source.other]\nurl = 'sqlite:other.db'\n"));
    let ran = sandbox.run(&["status"]);
    assert!(
        ran.code == 3 && ran.out.contains("other: it is in the configuration but was never backed up"),
        "{}",
        ran.out
    );
}

#[test]
fn an_admin_proves_that_the_newest_snapshot_opens() {
    let sandbox = Sandbox::with_service();
    sandbox.ok(&["backup"]);
    let opening = |role: &str| {
        let key = format!("keys/{role}.key");
        sandbox.json(&["status", "--key-file", &key])["sources"][0]["opening"]["state"].clone()
    };
    assert_eq!((opening("admin"), opening("auditor")), ("proven".into(), "unproven".into()));
}
