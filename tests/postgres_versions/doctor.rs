//! What `sidekeep doctor` reports about a server.

use crate::support::postgres::service::Live;

#[test]
fn a_suitable_server_is_described() {
    let Some(live) = Live::new() else { return };
    let new = live.sandbox.ok(&["doctor"]);
    assert!(new.contains("it has no snapshot yet\n") && new.contains("first backup"), "{new}");
    live.sandbox.ok(&["backup"]);
    let text = live.sandbox.ok(&["doctor"]);
    println!("{text}");
    for expected in ["database main, server: PostgreSQL 1", "database main, pg_dump: ", "superuser", "primary", "locks"]
    {
        assert!(text.contains(expected), "{expected} in {text}");
    }
}
