//! `--until-entry`: reading chains only in part.

use crate::Sandbox;

#[test]
fn readers_read_a_chain_up_to_an_entry_and_writers_refuse() {
    let sandbox = Sandbox::with_service();
    for tag in ["first", "second", "third"] {
        sandbox.ok(&["backup", "--tag", tag]);
    }
    let listed = sandbox.ok(&["snapshots", "--until-entry", "2"]);
    assert!(listed.contains("second") && !listed.contains("third"), "{listed}");
    assert!(sandbox.ok(&["snapshots"]).contains("third"));
    let shown = sandbox.ok(&["show", "latest", "--json", "--until-entry", "1"]);
    assert!(shown.contains("first"), "{shown}");
    sandbox.ok(&["status", "--until-entry", "2"]);
    for args in [
        &["backup"][..],
        &["backup", "--dry-run"],
        &["owners", "--accept"],
        &["doctor"],
        &["verify", "--state", "state.json"],
        &["init", "other"],
    ] {
        let message = sandbox.fails(2, &[args, &["--until-entry", "2"]].concat());
        assert!(message.contains("--until-entry"), "{message}");
    }
    assert!(sandbox.ok(&["owners", "--until-entry", "roster:2"]).contains("users are"));
    // Roster entry 2 added the source.
    let message = sandbox.fails(2, &["snapshots", "--source", "main", "--until-entry", "roster:1"]);
    assert!(message.contains("source"), "{message}");
    let message = sandbox.fails(2, &["snapshots", "--until-entry", "roster"]);
    assert!(message.contains("roster:12"), "{message}");
}
