//! `sidekeep status`

use crate::Sandbox;

fn with_max_age(sandbox: &Sandbox, age: &str) {
    let config = std::fs::read_to_string(sandbox.path("sidekeep.toml")).expect("reads");
    sandbox.write("sidekeep.toml", &config.replace("max_age = \"26 hours\"", &format!("max_age = \"{age}\"")));
}

#[test]
fn a_source_is_missing_then_fresh_then_stale() {
    let sandbox = Sandbox::with_service();
    let ran = sandbox.run(&["status"]);
    assert!(ran.code == 3 && ran.out.contains("MISSING"), "{}", ran.out);
    sandbox.ok(&["backup"]);
    let text = sandbox.ok(&["status", "--key-file", "keys/auditor.key"]);
    assert!(text.contains("main") && text.contains("fresh"), "{text}");
    assert_eq!(sandbox.json(&["status"])["sources"][0]["state"], "fresh");
    with_max_age(&sandbox, "1 ms");
    let ran = sandbox.run(&["status"]);
    assert!(ran.code == 3 && ran.out.contains("STALE"), "{}", ran.out);
}

#[test]
fn a_repository_without_sources_is_not_well() {
    let sandbox = Sandbox::with_repository();
    assert_eq!(sandbox.run(&["status"]).code, 3);
}

#[test]
fn a_length_of_time_that_is_none_is_refused() {
    let sandbox = Sandbox::with_service();
    with_max_age(&sandbox, "soon");
    assert!(sandbox.fails(2, &["status"]).contains("26 hours"));
}
