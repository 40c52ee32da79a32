//! Large objects are backed up and restored page by page, and holes stay holes.

use std::fs::File;
use std::io::{BufRead, BufReader};

use serde_json::Value;

use crate::support::postgres::service::Live;
use crate::support::sandbox::gaps_of;

/// An object with two holes, one without holes, an empty one, and a longer one whose OID exceeds 31 bits.
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
fn large_object_pages_are_restored_exactly() {
    let Some(live) = Live::new() else { return };
    live.sql(OBJECTS);
    let first = live.sandbox.json(&["backup"]);
    assert!(gaps_of(&first).is_empty(), "{first}");
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

    // All large objects may disappear and new ones appear.
    live.sql("SELECT lo_unlink(oid) FROM pg_largeobject_metadata");
    live.sandbox.ok(&["backup"]);
    live.sql("SELECT lo_from_bytea(5001, 'again')");
    live.sandbox.ok(&["backup"]);
    assert_eq!(restored(&live, "three"), stored(&live));
}

/// A server can send such a row column by column but accepts it in no form. The row is reported and skipped, and all
/// others are restored.
#[test]
#[ignore = "needs several gigabytes of memory and of disk"]
fn a_row_too_large_for_a_server_is_reported() {
    let Some(live) = Live::new() else { return };
    live.sql(
        "CREATE TABLE t (n int PRIMARY KEY, a bytea, b bytea, c text); ALTER TABLE t ALTER a SET STORAGE EXTERNAL;
         INSERT INTO t (n, c) SELECT n, 'short ' || n FROM generate_series(1, 100) AS n;
         UPDATE t SET a = decode(repeat('01', 500000000), 'hex') WHERE n IN (20, 50, 70);
         UPDATE t SET b = a, a = a || decode(repeat('02', 100000000), 'hex') WHERE n IN (20, 50)",
    );
    live.sandbox.ok(&["backup"]);
    live.cluster.create_database("back", "TEMPLATE template0");
    let to = live.cluster.dsn("back");
    let ran = live.sandbox.run(&["restore", "latest", "--key-file", "keys/admin.key", "--to", &to]);
    assert_eq!((ran.code, ran.err.as_str()), (3, ""), "{}", ran.out);
    assert!(ran.out.contains("missing: 2 rows of public.t\n"), "{}", ran.out);
    for n in [20, 50] {
        let named = format!("refused: public.t: the row with n = {n} was refused: the row is larger than 1 GiB");
        assert!(ran.out.contains(&named), "{}", ran.out);
    }
    let rows = "SELECT n, length(a), md5(a), b, c FROM t WHERE n NOT IN (20, 50) ORDER BY n";
    assert_eq!(live.sql(rows), live.cluster.sql("back", rows));
    let counted = "SELECT (SELECT count(*) FROM t), (SELECT count(*) FROM fields)";
    assert_eq!(live.cluster.sql("back", counted), [["98", "4000"].map(|count| Some(count.to_owned()))]);
    let ran = live.sandbox.run(&["restore", "latest", "--key-file", "keys/admin.key", "--to", "back.sqlite"]);
    assert_eq!((ran.code, ran.err.as_str()), (3, ""), "{}", ran.out);
    for n in [20, 50] {
        let named = format!("refused: t: the row with n = {n} was refused: string or blob too big");
        assert!(ran.out.contains(&named), "{}", ran.out);
    }
    let back = rusqlite::Connection::open(live.sandbox.path("back.sqlite")).expect("opens");
    let counts = back.query_row("SELECT count(*), max(length(a)) FROM t", [], |row| Ok((row.get(0)?, row.get(1)?)));
    assert_eq!(counts, Ok((98, 500_000_000)));
    live.sandbox.ok(&["restore", "latest", "--key-file", "keys/admin.key", "--to", "csv", "--format", "csv"]);
    let lines = BufReader::new(File::open(live.sandbox.path("csv/public.t.csv")).expect("a file")).split(b'\n');
    assert_eq!(lines.map(|line| line.expect("a line").len()).filter(|length| *length > 1_000_000_000).count(), 2);
}
