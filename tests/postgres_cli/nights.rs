//! Nights of a live server: what is stored, and what is said of it.

use crate::service::{Live, ROWS};

#[test]
fn a_night_costs_what_changed() {
    let Some(live) = Live::new() else { return };
    let sandbox = &live.sandbox;
    let first = sandbox.json(&["backup", "main", "--tag", "first"]);
    assert_eq!((&first["rows"], &first["gaps"]), (&ROWS.into(), &serde_json::json!([])));
    assert!(first["image_held_ms"].as_u64() > Some(0));

    let before = live.objects();
    let unchanged = sandbox.json(&["backup"]);
    assert_eq!((&unchanged["rows"], &unchanged["new_bytes"]), (&ROWS.into(), &0.into()));
    let mut new: Vec<String> = live.objects().into_iter().map(|(name, _)| name).collect();
    new.retain(|name| before.iter().all(|(old, _)| old != name));
    assert_eq!(new.len(), 2, "{new:?}");
    assert!(new[0].contains("/ledger/") && new[1].contains("/manifests/"), "{new:?}");

    live.sql(
        "DELETE FROM users WHERE id = 7; UPDATE contacts SET name = name || '!' WHERE user_id = 8;
        INSERT INTO settings VALUES ('new', '1')",
    );
    let third = sandbox.json(&["backup", "--gentle", "--max-read-rate", "500MB", "--workers", "1"]);
    let gone = 1 + 40 + 80 + 40 + 50 + 40;
    assert_eq!(third["rows"], ROWS - gone + 1);

    let listed = sandbox.json(&["snapshots"]);
    assert_eq!(listed["sources"][0]["snapshots"].as_array().map(Vec::len), Some(3), "{listed}");
    let shown = sandbox.json(&["show", "first"]);
    assert_eq!((&shown["engine"], &shown["rows"]), (&"postgres".into(), &ROWS.into()));
    let text = sandbox.ok(&["show", "latest"]);
    assert!(text.contains("public.events") && !text.contains("events_2025"), "{text}");
    let text = sandbox.ok(&["diff", "first", "latest", "--key-file", "keys/admin.key"]);
    assert!(text.contains("public.contacts") && text.contains("public.users"), "{text}");
    let diff = sandbox.json(&["diff", "first", "latest", "--key-file", "keys/admin.key"]);
    println!("{}", serde_json::to_string_pretty(&diff).expect("JSON"));
    println!("{text}");
}
