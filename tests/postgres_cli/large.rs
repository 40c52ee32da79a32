//! Large objects: what they hold goes through a repository page by page, and holes stay holes.

use serde_json::Value;

use crate::service::Live;

/// One with two holes, one whose end is a hole of its own making, an empty one, and one of several pages.
const OBJECTS: &str = "
    SELECT lo_from_bytea(5001, 'begin');
    SELECT lo_put(5001, 100000, 'middle'); SELECT lo_put(5001, 5000000, 'end');
    SELECT lo_from_bytea(5002, decode(repeat('00ff', 3000), 'hex'));
    SELECT lo_create(5003);
    SELECT lo_from_bytea(3000000000, decode(repeat(md5('a'), 4000), 'hex'));
    COMMENT ON LARGE OBJECT 5003 IS 'nothing in it';
";

fn restored(live: &Live, to: &str) -> Vec<Vec<Option<String>>> {
    live.sandbox.ok(&["restore", "latest", "--to", to, "--format", "jsonl", "--key-file", "keys/admin.key"]);
    let file = live.sandbox.path(to).join("pg_catalog.pg_largeobject.jsonl");
    let text = std::fs::read_to_string(file).expect("a file");
    let rows = text.lines().map(|line| {
        let row: Value = serde_json::from_str(line).expect("JSON");
        let data = row["data"]["$bytes"].as_str().map(str::to_owned);
        vec![Some(row["loid"].to_string()), Some(row["pageno"].to_string()), data]
    });
    rows.collect()
}

fn stored(live: &Live) -> Vec<Vec<Option<String>>> {
    live.sql("SELECT loid, pageno, translate(encode(data, 'base64'), E'\\n', '') FROM pg_largeobject ORDER BY 1, 2")
}

#[test]
fn pages_come_back_as_they_were() {
    let Some(live) = Live::new() else { return };
    live.sql(OBJECTS);
    let first = live.sandbox.json(&["backup"]);
    assert_eq!(first["gaps"], serde_json::json!([]));
    let pages = stored(&live);
    assert!(pages.len() > 30, "{}", pages.len());
    assert_eq!(restored(&live, "one"), pages);

    let unchanged = live.sandbox.json(&["backup"]);
    assert_eq!(unchanged["new_bytes"], 0);

    live.sql("SELECT lo_put(5001, 100000, 'MIDDLE'); SELECT lo_unlink(5002)");
    let third = live.sandbox.json(&["backup"]);
    assert_ne!(third["new_bytes"], 0);
    assert_eq!(restored(&live, "two"), stored(&live));
    let diff = live.sandbox.json(&["diff", "latest~2", "latest", "--key-file", "keys/admin.key"]);
    let table = diff["tables"]
        .as_array()
        .and_then(|tables| tables.iter().find(|table| table["name"] == "pg_catalog.pg_largeobject"));
    let table = table.expect("a difference");
    assert_eq!((&table["rows"]["changed"], &table["rows"]["removed"]), (&1.into(), &3.into()), "{table}");
    let text = live.sandbox.ok(&["owners"]);
    assert!(text.contains("pg_catalog.pg_largeobject") && text.contains("feed"), "{text}");
    assert!(live.sandbox.ok(&["show", "latest"]).contains("pg_catalog.pg_largeobject"));

    // They may go, and come again.
    live.sql("SELECT lo_unlink(oid) FROM pg_largeobject_metadata");
    live.sandbox.ok(&["backup"]);
    live.sql("SELECT lo_from_bytea(5001, 'again')");
    live.sandbox.ok(&["backup"]);
    assert_eq!(restored(&live, "three"), stored(&live));
}
