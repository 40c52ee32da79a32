//! How every kind of table appears in the catalog.

use std::time::{Duration, Instant};

use sidekeep::engine::contract::{ForeignKey, Strength};
use sidekeep::engine::postgres::schema::catalog::{self, PgCatalog};
use sidekeep::engine::postgres::schema::table::PgTable;

use crate::schema::stage::{DATABASE, full, reason_of, session};
use crate::support::postgres::cluster::Cluster;

fn read(cluster: &Cluster) -> PgCatalog {
    catalog::read_catalog(&cluster.client(DATABASE)).expect("a catalog")
}

fn table<'a>(catalog: &'a PgCatalog, name: &str) -> &'a PgTable {
    let found = catalog.tables.iter().find(|table| table.described.name == name);
    found.unwrap_or_else(|| panic!("no {name} among {:?}", names(catalog)))
}

fn names(catalog: &PgCatalog) -> Vec<&str> {
    catalog.tables.iter().map(|table| table.described.name.as_str()).collect()
}

fn columns(table: &PgTable) -> Vec<(&str, u32)> {
    table.described.columns.iter().map(|column| (column.name.as_str(), column.position)).collect()
}

fn key(table: &PgTable) -> Vec<&str> {
    table.described.key.iter().map(|&at| table.described.columns[at].name.as_str()).collect()
}

fn relations(table: &PgTable) -> Vec<&str> {
    table.relations.iter().map(|relation| relation.name.as_str()).collect()
}

#[test]
fn every_kind_of_table_is_listed() {
    let Some(cluster) = full() else { return };
    let catalog = read(&cluster);
    let expected = [
        "app.\"-- Name: x; Type: TABLE; Schema: y; Owner: z\"",
        "app.base",
        "app.child",
        "app.composite",
        "app.contacts",
        "app.derived",
        "app.events",
        "app.keyed_by_index",
        "app.\"line\nbreak\"",
        "app.log_lines",
        "app.no_columns",
        "app.no_key",
        "app.nobody",
        "app.reservations",
        "app.scratch",
        "app.users",
        "\"Ünï; code -- Name: x\".\"123456789_123456789_123456789_123456789_123456789_123456789_123\"",
        "pg_catalog.pg_largeobject",
    ];
    let mut found = names(&catalog);
    found.sort_unstable();
    let mut expected = expected.to_vec();
    expected.sort_unstable();
    assert_eq!(found, expected);
    assert_eq!(catalog.gaps.iter().map(|gap| gap.object.as_str()).collect::<Vec<_>>(), ["app.far"]);
    assert!(catalog.gaps[0].detail.contains("server remote") && catalog.unreadable.is_empty());
}

#[test]
fn columns_have_the_values_that_older_rows_lack() {
    let Some(cluster) = full() else { return };
    let catalog = read(&cluster);
    let contacts = table(&catalog, "app.contacts");
    let expected = [
        ("id", 1),
        ("user_id", 2),
        ("name", 4),
        ("boss", 6),
        ("friend", 7),
        ("later", 8),
        ("since_then", 9),
        ("years", 10),
    ];
    assert_eq!(columns(contacts), expected, "without dropped and generated columns");
    let missing: Vec<Option<&str>> = contacts.columns.iter().map(|column| column.missing.as_deref()).collect();
    assert_eq!(missing[6..], [Some("a \"quoted\", {thing}"), Some("{1,2}")]);
    assert_eq!(missing[..6], [None; 6]);
    assert_eq!((contacts.columns[0].type_oid, contacts.columns[0].type_name.as_str()), (20, "bigint"));
    assert_eq!(table(&catalog, "app.users").columns[9].type_name, "bit varying(9)");
    assert_eq!(columns(table(&catalog, "app.no_columns")), []);
    // In box output, a comma does not separate elements.
    cluster.sql(
        DATABASE,
        "INSERT INTO app.log_lines VALUES ('x'); ALTER TABLE app.log_lines ADD b box DEFAULT '(1,1),(0,0)'",
    );
    assert_eq!(table(&read(&cluster), "app.log_lines").columns[1].missing.as_deref(), Some("(1,1),(0,0)"));
}

#[test]
fn the_best_key_is_chosen() {
    let Some(cluster) = full() else { return };
    let catalog = read(&cluster);
    let key = |name: &str| key(table(&catalog, name));
    assert_eq!(key("app.contacts"), ["id"]);
    assert_eq!(key("app.composite"), ["b", "a"]);
    assert_eq!(key("app.keyed_by_index"), ["b", "a"]);
    assert_eq!(key("app.no_key"), [""; 0]);
    assert_eq!(key("app.child"), [""; 0], "its unique column may be NULL");
    assert_eq!(key("app.reservations"), [""; 0]);
    assert_eq!(key("app.events"), ["id", "at"]);
}

#[test]
fn foreign_keys_have_their_parents_and_strength() {
    let Some(cluster) = full() else { return };
    let catalog = read(&cluster);
    let contacts = &table(&catalog, "app.contacts").described.foreign_keys;
    let to = |columns: &[usize], parent: &str, parent_columns: &[&str], strength| ForeignKey {
        columns: columns.to_vec(),
        parent: parent.to_owned(),
        parent_columns: parent_columns.iter().map(|&name| name.to_owned()).collect(),
        strength,
        parent_values: Vec::new(),
    };
    assert_eq!(
        contacts[..],
        [
            to(&[3], "app.contacts", &["id"], Strength::Owning),
            to(&[4], "app.users", &["id"], Strength::Weak),
            to(&[1], "app.users", &["id"], Strength::Owning),
        ]
    );
    assert_eq!(
        table(&catalog, "app.child").described.foreign_keys[..],
        [
            to(&[0, 1], "app.composite", &["a", "b"], Strength::Weak),
            to(&[2, 1], "app.composite", &["a", "b"], Strength::Weak),
            to(&[2, 0], "app.composite", &["a", "b"], Strength::Owning),
        ]
    );
    // A partition's rows belong to its root.
    cluster.sql(
        DATABASE,
        "CREATE TABLE app.guests (event int, at date, FOREIGN KEY (event, at) REFERENCES app.events_old);
        CREATE TABLE app.visits (event int, at date, FOREIGN KEY (event, at) REFERENCES app.events)",
    );
    let catalog = read(&cluster);
    for name in ["app.guests", "app.visits"] {
        let keys = &table(&catalog, name).described.foreign_keys;
        assert_eq!(keys[..], [to(&[0, 1], "app.events", &["id", "at"], Strength::Owning)]);
    }
}

#[test]
fn tables_have_the_right_parts() {
    let Some(cluster) = full() else { return };
    let catalog = read(&cluster);
    let events = table(&catalog, "app.events");
    assert_eq!(relations(events), ["app.events_new_0", "app.events_new_1", "app.events_old"]);
    assert_eq!(
        (events.sql_name.as_str(), events.relations[0].sql_name.as_str()),
        ("\"app\".\"events\"", "\"app\".\"events_new_0\"")
    );
    assert_eq!(
        (relations(table(&catalog, "app.nobody")), table(&catalog, "app.nobody").described.rows_estimate),
        (vec![], Some(0))
    );
    assert_eq!(relations(table(&catalog, "app.base")), ["app.base"], "a table that inherits from it is separate");
    assert_eq!(table(&catalog, "app.users").relations[0].access_method, "heap");
    assert_eq!(events.described.rows_estimate, None, "never analyzed");
    cluster.sql(DATABASE, "ANALYZE");
    let catalog = read(&cluster);
    let estimate = |name: &str| table(&catalog, name).described.rows_estimate;
    assert_eq!((estimate("app.events"), estimate("app.base"), estimate("app.derived")), (Some(9), Some(1), Some(1)));
}

#[test]
fn leaves_of_an_uncaptured_root_are_separate_tables() {
    let Some(cluster) = full() else { return };
    cluster.sql(
        DATABASE,
        "SET search_path = app;
        CREATE TABLE extroot (a int) PARTITION BY RANGE (a); ALTER EXTENSION plpgsql ADD TABLE extroot;
        CREATE TABLE extleaf PARTITION OF extroot FOR VALUES FROM (0) TO (10);
        CREATE TABLE extsub PARTITION OF extroot FOR VALUES FROM (10) TO (20) PARTITION BY RANGE (a);
        CREATE TABLE extdeep PARTITION OF extsub FOR VALUES FROM (10) TO (15);
        CREATE TABLE root (a int) PARTITION BY RANGE (a);
        CREATE TABLE leaf PARTITION OF root FOR VALUES FROM (0) TO (10); GRANT SELECT ON leaf TO ps_reader",
    );
    let catalog = read(&cluster);
    let names: Vec<&str> = catalog.tables.iter().map(|table| table.described.name.as_str()).collect();
    for (name, is_table) in
        [("extleaf", true), ("extdeep", true), ("extsub", false), ("extroot", false), ("root", true), ("leaf", false)]
    {
        assert_eq!(names.contains(&format!("app.{name}").as_str()), is_table, "{name}");
    }
    assert_eq!(relations(table(&catalog, "app.extleaf")), ["app.extleaf"]);
    let limited = catalog::read_catalog(&session(&cluster, DATABASE, "ps_reader")).expect("a catalog");
    assert_eq!(relations(table(&limited, "app.leaf")), ["app.leaf"]);
    assert!(reason_of(&limited.gaps, "app.root").contains("may not read"));
}

#[test]
fn only_feeds_are_recognized_as_feeds() {
    let Some(cluster) = full() else { return };
    cluster.sql(
        DATABASE,
        "SET search_path = app;
        CREATE TABLE feed (id bigserial PRIMARY KEY, x int); CREATE TABLE kept (id bigserial PRIMARY KEY, x int);
        CREATE TABLE \"Mixed\" (\"Id\" bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY);
        CREATE TABLE drawn (id bigint PRIMARY KEY); CREATE TABLE parent (id bigserial PRIMARY KEY, x int);
        CREATE TABLE of_parent (id bigint REFERENCES parent); CREATE TABLE edited (id bigserial PRIMARY KEY, x int)",
    );
    for name in ["feed", "kept", "parent", "edited"] {
        cluster.sql(DATABASE, &format!("INSERT INTO app.{name} (x) SELECT 1 FROM generate_series(1, 3000)"));
    }
    cluster.sql(
        DATABASE,
        "INSERT INTO app.drawn SELECT i + 1000000 FROM generate_series(1, 3000) i;
        INSERT INTO app.\"Mixed\" SELECT FROM generate_series(1, 3000); DELETE FROM app.\"Mixed\" WHERE \"Id\" < 1000",
    );
    cluster.sql(
        DATABASE,
        "DELETE FROM app.feed WHERE id < 1000; DELETE FROM app.parent WHERE id < 1000;
        DELETE FROM app.edited WHERE id < 1000",
    );
    cluster.sql(DATABASE, "UPDATE app.edited SET x = 2");
    cluster.sql(DATABASE, "VACUUM ANALYZE app.edited");
    cluster.sql(DATABASE, "ANALYZE");
    // Before version 15, statistics are reported with a delay.
    let (begun, counted) = (Instant::now(), "SELECT pg_stat_get_tuples_updated('app.edited'::regclass) >= 2000");
    while cluster.sql(DATABASE, counted)[0][0].as_deref() != Some("t") {
        assert!(begun.elapsed() < Duration::from_secs(20), "no statistics were reported");
        std::thread::sleep(Duration::from_millis(50));
    }
    let catalog = read(&cluster);
    let hinted: Vec<&str> = catalog
        .tables
        .iter()
        .filter(|table| table.described.feed_hint.is_some())
        .map(|table| table.described.name.as_str())
        .collect();
    assert_eq!(hinted, ["app.\"Mixed\"", "app.feed", "pg_catalog.pg_largeobject"]);
    assert!(table(&catalog, "app.feed").described.feed_hint.as_ref().expect("a hint").contains("order of id"));
}

#[test]
fn tables_of_extensions_are_captured_only_with_the_users_rows() {
    let Some(cluster) = full() else { return };
    cluster.sql(DATABASE, "SET search_path = app; CREATE TABLE settings (a int); CREATE TABLE words (b text); CREATE TABLE own (c int);
        INSERT INTO own VALUES (1); CREATE TABLE empty_own (c int);
        ALTER EXTENSION hstore ADD TABLE settings; ALTER EXTENSION hstore ADD TABLE words; ALTER EXTENSION hstore ADD TABLE own;
        ALTER EXTENSION hstore ADD TABLE empty_own;
        UPDATE pg_extension SET extconfig = ARRAY['settings'::regclass::oid, 'words'::regclass::oid], extcondition = ARRAY['WHERE a > 1', '']
        WHERE extname = 'hstore'");
    let catalog = read(&cluster);
    assert_eq!(table(&catalog, "app.settings").condition.as_deref(), Some("a > 1"));
    assert_eq!(table(&catalog, "app.words").condition, None);
    assert!(!names(&catalog).contains(&"app.own") && !names(&catalog).contains(&"app.empty_own"));
    let gaps: Vec<&str> = catalog.gaps.iter().map(|gap| gap.object.as_str()).collect();
    assert_eq!(gaps, ["app.far", "app.own"]);
}
