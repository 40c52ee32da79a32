//! Consecutive backup runs of a live server: what they store and what commands report about them.

use std::process::Stdio;

use crate::support::postgres::cluster::Cluster;
use crate::support::postgres::service::{Live, ROWS};
use crate::support::sandbox::gaps_of;

#[test]
fn a_backup_stores_only_what_changed() {
    let Some(live) = Live::new() else { return };
    let sandbox = &live.sandbox;
    let first = sandbox.json(&["backup", "main", "--tag", "first"]);
    assert_eq!((&first["rows"], gaps_of(&first).len()), (&ROWS.into(), 0));
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
    let expected = serde_json::json!({ "added": 1, "changed": 40, "moved": 0, "removed": gone });
    assert_eq!(diff["rows"], expected);
    let users = diff["users"].as_array().expect("users");
    assert_eq!(users.len(), 2, "{diff}");
    assert_eq!((&users[0]["rows"]["removed"], &users[1]["rows"]["changed"]), (&211.into(), &40.into()), "{diff}");
}

/// The tables have chains of several foreign keys, a partitioned table, and a log.
#[test]
fn owners_are_found_through_chains_of_foreign_keys() {
    let Some(live) = Live::new() else { return };
    let report = live.sandbox.json(&["owners"]);
    assert_eq!(report["owner_table"], "public.users", "{report}");
    let table = |name: &str| {
        let tables = report["tables"].as_array().expect("tables");
        tables.iter().find(|table| table["table"] == name).unwrap_or_else(|| panic!("{name} in {report}"))
    };
    for (name, kind) in [
        ("public.contacts", "owned"),
        ("public.fields", "owned"),
        ("public.labels", "owned"),
        ("public.events", "owned"),
        ("public.sync_log", "feed"),
        ("public.settings", "global"),
        ("public.users", "owner"),
    ] {
        assert_eq!(table(name)["kind"], kind, "{}", table(name));
    }
    assert!(report["tables"].as_array().is_some_and(|tables| tables.len() == 7), "{report}");
    let text = live.sandbox.ok(&["owners"]);
    assert!(text.contains("users are the rows of public.users") && text.contains("-> public.fields."), "{text}");

    let backup = live.sandbox.json(&["backup"]);
    let orphans = |name: &str| {
        let found = backup["tables"].as_array().and_then(|tables| tables.iter().find(|table| table["name"] == name));
        found.map(|table| table["orphans"].clone())
    };
    assert_eq!(orphans("public.labels"), Some(0.into()), "every label has an owner through its contact");
    live.configure(&live.cluster.dsn("sync"), "owner_table = 'public.contacts'");
    let ran = live.sandbox.run(&["owners"]);
    assert!(ran.code == 3 && ran.out.contains("drift"), "{}{}", ran.out, ran.err);
}

/// The mapping accepts these names, so nothing is left to decide.
#[test]
fn configured_names_without_their_schema_are_no_questions() {
    let Some(live) = Live::new() else { return };
    let named = "owner_table = 'users'\n[source.main.layout]\nsync_log = 'key'\nsettings = 'key'";
    live.configure(&live.cluster.dsn("sync"), named);
    let text = live.sandbox.ok(&["owners"]);
    assert!(text.contains("users are the rows of public.users: named in the configuration"), "{text}");
    let settings = text.lines().find(|line| line.starts_with("public.settings")).expect("a line");
    assert!(settings.contains("feed") && settings.contains("named in the configuration"), "{settings}");
    let unknown = "owner_table = 'people'\n[source.main.layout]\n'other.sync_log' = 'key'";
    live.configure(&live.cluster.dsn("sync"), unknown);
    let ran = live.sandbox.run(&["owners"]);
    for question in ["names people, which does not exist", "to decide: other.sync_log: "] {
        assert!(ran.code == 3 && ran.out.contains(question), "{question} in {}", ran.out);
    }
}

/// Two servers in one store are separate sources and do not wait for each other.
#[test]
fn two_servers_are_backed_up_into_one_store_in_parallel() {
    let (Some(one), Some(two)) = (Live::new(), Cluster::start()) else { return };
    two.create_database("photos", "");
    two.sql("photos", "CREATE TABLE users (id int PRIMARY KEY); INSERT INTO users SELECT generate_series(1, 700)");
    one.configure(&one.cluster.dsn("sync"), &format!("[source.photos]\nurl = '{}'", two.dsn("photos")));
    assert!(one.sandbox.fails(2, &["backup"]).contains("main, photos"));
    // The first run of each adds a source. Then both run in parallel, three times.
    one.sandbox.ok(&["backup", "main"]);
    one.sandbox.ok(&["backup", "photos"]);
    for _ in 0..3 {
        one.sql("UPDATE contacts SET name = name || '.' WHERE user_id < 20");
        two.sql("photos", "DELETE FROM users WHERE id = (SELECT max(id) FROM users)");
        let begin = |name: &str| {
            let mut command = one.sandbox.command(&["backup", name]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs")
        };
        for child in [begin("main"), begin("photos")] {
            let output = child.wait_with_output().expect("ends");
            let err = String::from_utf8_lossy(&output.stderr);
            assert_eq!((output.status.code(), err.as_ref()), (Some(0), ""));
        }
    }
    let listed = one.sandbox.json(&["snapshots"]);
    let counts: Vec<Option<usize>> = listed["sources"]
        .as_array()
        .expect("sources")
        .iter()
        .map(|source| source["snapshots"].as_array().map(Vec::len))
        .collect();
    assert_eq!(counts, [Some(4), Some(4)]);
    let shown = |name: &str| one.sandbox.json(&["show", "latest", "--source", name])["rows"].clone();
    assert_eq!((shown("main"), shown("photos")), (ROWS.into(), 697.into()));
    one.sandbox.ok(&["verify", "--level", "deep", "--key-file", "keys/admin.key"]);
    one.sandbox.ok(&["status"]);
}

/// Texts that the server considers equal keep their exact bytes and are different rows in a diff.
#[test]
fn keys_that_only_the_server_can_compare_keep_their_bytes() {
    let Some(live) = Live::new() else { return };
    let icu = live.sql("SELECT 1 FROM pg_collation WHERE collprovider = 'i' LIMIT 1");
    if icu.is_empty() {
        return;
    }
    live.sql(
        "CREATE COLLATION folded (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
        CREATE TABLE names (name text COLLATE folded PRIMARY KEY, user_id bigint REFERENCES users);
        CREATE TABLE notes (id int PRIMARY KEY, name text COLLATE folded REFERENCES names, body text);
        CREATE TABLE padded (code char(8) COLLATE folded PRIMARY KEY);
        INSERT INTO names SELECT 'Name ' || n, n FROM generate_series(1, 40) AS n;
        INSERT INTO notes SELECT n, 'Name ' || n, 'same' FROM generate_series(1, 40) AS n;
        UPDATE notes SET name = upper(name) WHERE id = 7; INSERT INTO padded VALUES ('a'), ('B')",
    );
    live.sandbox.ok(&["backup"]);
    live.sandbox.ok(&["restore", "latest", "--to", "rows", "--format", "jsonl", "--key-file", "keys/admin.key"]);
    let text = |table: &str| {
        let path = live.sandbox.path("rows").join(format!("public.{table}.jsonl"));
        let mut lines: Vec<String> =
            std::fs::read_to_string(path).expect("a file").lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!((text("names").len(), text("notes").len(), text("padded").len()), (40, 40, 2));
    assert!(text("notes").iter().any(|line| line.contains("NAME 7")), "{:?}", text("notes"));
    live.sql("UPDATE names SET name = lower(name) WHERE name = 'name 9'");
    let diff = {
        live.sandbox.ok(&["backup"]);
        live.sandbox.json(&["diff", "latest~1", "latest", "--key-file", "keys/admin.key", "--table", "public.names"])
    };
    assert_eq!((&diff["rows"]["added"], &diff["rows"]["removed"]), (&1.into(), &1.into()), "{diff}");
}
