//! The documented role is sufficient, and whatever a lesser role may not see is named. The statements are taken from
//! the documentation, so the two cannot diverge.

use serde_json::Value;

use crate::support::postgres::service::{Live, ROWS};
use crate::support::sandbox::{gaps_of, of_kind};

const PAGE: &str = include_str!("../../docs/postgresql.md");

/// Objects that need privileges of their own.
const MORE: &str = "
    CREATE SCHEMA other; CREATE TABLE other.things (id serial PRIMARY KEY, note text);
    INSERT INTO other.things (note) VALUES ('a'), ('b');
    SELECT lo_from_bytea(4711, 'some bytes'); SELECT lo_from_bytea(4712, 'more');
    CREATE ROLE person LOGIN PASSWORD 'x'; CREATE TABLE closed (id int PRIMARY KEY);
    ALTER TABLE closed ENABLE ROW LEVEL SECURITY; CREATE POLICY mine ON closed USING (id = 1);
    INSERT INTO closed VALUES (1), (2);
";

/// The statements after the marker of this name.
fn statements(name: &str) -> String {
    let mark = format!("<!-- role {name} -->\n```sql\n");
    let (_, rest) = PAGE.split_once(&mark).expect("a marker");
    rest.split_once("```").expect("its end").0.to_owned()
}

/// Gaps of a new snapshot: exit code, objects and reasons.
fn gaps(live: &Live) -> (i32, Vec<(String, String)>) {
    let ran = live.sandbox.run(&["backup", "--json"]);
    assert!(ran.code == 0 || ran.code == 3, "{}", ran.err);
    let report: Value = serde_json::from_str(&ran.out).expect("JSON");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let gaps = gaps_of(&report);
    let gaps = gaps.iter();
    (ran.code, gaps.map(|gap| (text(&gap["object"]), text(&gap["detail"]))).collect())
}

fn live() -> Option<Live> {
    let live = Live::new()?;
    live.sql(MORE);
    live.configure(&live.dsn_as("sidekeep"), "");
    Some(live)
}

#[test]
fn the_documented_role_can_read_everything() {
    let Some(live) = live() else { return };
    if live.cluster.version() < 14 {
        return;
    }
    live.sql(&statements("from 14"));
    let (code, missing) = gaps(&live);
    assert_eq!((code, missing.len()), (3, 1), "{missing:?}");
    assert!(missing[0].0 == "public.closed" && missing[0].1.contains("row security"), "{missing:?}");
    live.sql(&statements("with row security"));
    assert_eq!(gaps(&live), (0, vec![]));
    let report = live.sandbox.json(&["backup"]);
    assert_eq!(report["rows"], ROWS + 2 + 2 + 2);
    assert!(live.sandbox.ok(&["owners"]).contains("public.labels"));
    let ran = live.sandbox.run(&["doctor"]);
    assert!(ran.code == 0 && ran.out.contains("sidekeep may read all 10 tables"), "{}", ran.out);
}

#[test]
fn the_documented_grants_for_version_13_are_sufficient() {
    let Some(live) = live() else { return };
    let grants = statements("in 13");
    live.sql(&grants);
    live.sql(&statements("with row security"));
    let (code, missing) = gaps(&live);
    let names: Vec<&str> = missing.iter().map(|(object, _)| object.as_str()).collect();
    assert_eq!(
        (code, names),
        (3, vec!["other.things", "other.things_id_seq"]),
        "the schema without grants: {missing:?}"
    );
    let rest: String =
        grants.lines().filter(|line| line.contains("public")).map(|line| line.replace("public", "other")).collect();
    live.sql(&rest);
    assert_eq!(gaps(&live), (0, vec![]));
    live.sql("CREATE TABLE later (id serial PRIMARY KEY); CREATE TABLE other.later (a int)");
    assert_eq!(gaps(&live), (0, vec![]), "default privileges cover later objects");
}

#[test]
fn a_role_without_rights_leaves_named_gaps() {
    let Some(live) = live() else { return };
    live.sql(
        "CREATE ROLE sidekeep LOGIN; GRANT SELECT ON settings TO sidekeep;
        CREATE SUBSCRIPTION idle CONNECTION 'host=nowhere password=hunter2' PUBLICATION p WITH (connect = false);
        CREATE EXTENSION postgres_fdw; CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw;
        CREATE USER MAPPING FOR person SERVER far OPTIONS (user 'u', password 'hunter2');
        CREATE FOREIGN TABLE far_away (a int) SERVER far",
    );
    let (code, missing) = gaps(&live);
    assert_eq!(code, 3);
    let reason = |object: &str| -> &str {
        let found = missing.iter().find(|(name, _)| name == object);
        found.map(|(_, reason)| reason.as_str()).unwrap_or_else(|| panic!("{object} in {missing:?}"))
    };
    for table in ["public.users", "public.contacts", "public.events", "other.things", "public.closed"] {
        assert!(reason(table).contains("may not read it"), "{}", reason(table));
    }
    assert!(reason("public.far_away").contains("server far"));
    let sequence = reason("public.users_id_seq");
    assert!(sequence.contains("GRANT SELECT ON SEQUENCE public.users_id_seq"), "{sequence}");
    assert!(reason("public.users").contains("GRANT SELECT ON public.users"), "{}", reason("public.users"));
    assert!(reason("subscription idle").contains("superuser"));
    assert!(reason("user mapping of person on far").contains("options"));
    assert!(reason("large objects").contains("2 large objects: GRANT SELECT ON pg_catalog.pg_largeobject"));
    assert!(reason("role passwords").contains("superuser"));
    assert!(missing.iter().all(|(_, reason)| !reason.contains("hunter2")));

    live.sql("SELECT lo_unlink(4712)");
    let (_, missing) = gaps(&live);
    assert!(missing.iter().any(|(_, reason)| reason.contains(" 1 large object: ")), "{missing:?}");
    let ran = live.sandbox.run(&["backup", "--json"]);
    let report: Value = serde_json::from_str(&ran.out).expect("JSON");
    for (kind, object) in [
        ("no-privilege", "public.users"),
        ("unreadable-sequence", "public.users_id_seq"),
        ("unreadable-definition", "subscription idle"),
        ("unreadable-large-objects", "large objects"),
        ("unreadable-roles", "role passwords"),
    ] {
        assert!(of_kind(&report, kind).iter().any(|gap| gap["object"] == object), "{kind} in {report}");
    }
    let far = of_kind(&report, "foreign-table");
    assert_eq!((far.len(), &far[0]["facts"]["server"]), (1, &"far".into()), "{report}");
    let text = live.sandbox.run(&["backup"]).out;
    assert!(text.contains("not captured: public.users: the role may not read it"), "{text}");
    let ran = live.sandbox.run(&["show", "latest", "--key-file", "keys/auditor.key", "--json"]);
    let shown: Value = serde_json::from_str(&ran.out).expect("JSON");
    assert_eq!((ran.code, of_kind(&shown, "not-captured").len()), (3, missing.len()), "{shown}");
    let ran = live.sandbox.run(&["doctor"]);
    assert!(ran.code == 3 && ran.out.contains("sidekeep may not read"), "{}", ran.out);
    assert!(ran.out.contains("docs/postgresql.md"), "{}", ran.out);
    assert!(ran.out.contains("public.contacts") && !ran.out.contains("\"public\""), "{}", ran.out);
}
