//! What a role may not see, and what a server cannot tell, is named.

use sidekeep::engine::postgres::schema::catalog;
use sidekeep::engine::postgres::schema::document_reader;
use sidekeep::engine::postgres::schema::dump::DumpEncoding;

use crate::schema::stage::{DATABASE, full, reason_of, session, take_as};

#[test]
fn what_the_role_may_not_read_is_a_gap() {
    let Some(cluster) = full() else { return };
    // pg_dump takes names for patterns. As a pattern, this name would also match `users`.
    cluster.sql(DATABASE, "CREATE TABLE app.\"*|od?d$ \"\"q\"\" .(\" (a int); CREATE SEQUENCE app.\"*.?\"");
    let taken = take_as(&cluster, DATABASE, "ps_reader", DumpEncoding::Utf8);
    let (all, gaps) = (&taken.catalog.gaps, &taken.gaps);
    assert!(reason_of(all, "app.no_key").contains("may not read"));
    assert!(reason_of(all, "app.events_old").contains("may not read"));
    assert!(reason_of(all, "subscription idle").contains("superuser"));
    assert!(reason_of(all, "user mapping of ps_app on remote").contains("options"));
    assert!(reason_of(all, "large objects").contains("GRANT SELECT ON pg_catalog.pg_largeobject"));
    assert!(reason_of(gaps, "role passwords").contains("superuser"));
    assert!(reason_of(gaps, DATABASE).contains("pg_dump warns: subscriptions not dumped"));
    assert_eq!(gaps.len(), 2, "{gaps:?}");
    assert!(taken.document.globals.iter().all(|statement| !statement.sql.lossy().contains("SCRAM")));
    let names: Vec<&str> = taken.catalog.tables.iter().map(|table| table.described.name.as_str()).collect();
    assert_eq!(names, ["app.users"]);
    let tables = taken.document.pre_data.iter().filter(|s| s.sql.lossy().starts_with("CREATE TABLE"));
    assert_eq!(tables.map(|s| s.name.lossy()).collect::<Vec<_>>(), ["users"]);
    let (sequences, gaps) =
        document_reader::read_sequences(&session(&cluster, DATABASE, "ps_reader")).expect("sequences");
    assert_eq!((sequences, gaps.len()), (vec![], 4));
    assert!(reason_of(&gaps, "app.counter").contains("may not read"));
}

#[test]
fn tables_with_row_security_are_gaps() {
    let Some(cluster) = full() else { return };
    let read_all = if cluster.version() < 14 {
        "GRANT SELECT ON ALL TABLES IN SCHEMA app, \"Ünï; code -- Name: x\" TO ps_reader; \
         GRANT SELECT ON ALL SEQUENCES IN SCHEMA app TO ps_reader; GRANT SELECT ON pg_largeobject TO ps_reader"
    } else {
        "GRANT pg_read_all_data TO ps_reader"
    };
    let schemas = "GRANT USAGE ON SCHEMA \"Ünï; code -- Name: x\", \"sch;ema\" TO ps_reader";
    cluster.sql(DATABASE, &format!("{schemas}; {read_all}"));
    let taken = take_as(&cluster, DATABASE, "ps_reader", DumpEncoding::Utf8);
    for name in ["app.contacts", "app.composite"] {
        assert!(reason_of(&taken.catalog.gaps, name).contains("row security"));
        assert!(taken.catalog.tables.iter().all(|table| table.described.name != name));
        let short = name.trim_start_matches("app.");
        assert!(
            taken.document.pre_data.iter().any(|statement| statement.name.lossy() == short),
            "its definition is captured"
        );
    }
    assert!(taken.catalog.unreadable.is_empty());
    let everything = catalog::read_catalog(&cluster.client(DATABASE)).expect("a catalog");
    assert_eq!(taken.catalog.tables.len() + 2, everything.tables.len());
}

#[test]
fn tables_in_system_schemas_are_gaps() {
    let Some(cluster) = full() else { return };
    cluster.sql(DATABASE, "CREATE TABLE information_schema.mine (a int)");
    let catalog = catalog::read_catalog(&cluster.client(DATABASE)).expect("a catalog");
    assert!(reason_of(&catalog.gaps, "information_schema.mine").contains("system schemas"));
}

#[test]
fn unlogged_tables_on_a_standby_are_gaps() {
    let Some(cluster) = full() else { return };
    let standby = cluster.standby(&[]);
    let catalog = catalog::read_catalog(&standby.client(DATABASE)).expect("a catalog");
    assert!(reason_of(&catalog.gaps, "app.scratch").contains("standby"));
    assert!(catalog.tables.iter().all(|table| table.described.name != "app.scratch"));
}

#[test]
fn foreign_and_unreadable_partitions_are_gaps() {
    let Some(cluster) = full() else { return };
    cluster.sql(
        DATABASE,
        "SET search_path = app; CREATE FOREIGN TABLE nobody_far PARTITION OF nobody FOR VALUES IN (1) SERVER remote;
        CREATE TABLE nobody_near PARTITION OF nobody FOR VALUES IN (2); GRANT SELECT ON nobody TO ps_reader",
    );
    let relations = |role: &str| {
        let catalog = catalog::read_catalog(&session(&cluster, DATABASE, role)).expect("a catalog");
        assert!(reason_of(&catalog.gaps, "app.nobody_far").contains("server remote"));
        let table = catalog.tables.iter().find(|table| table.described.name == "app.nobody").expect("its root");
        let names: Vec<String> = table.relations.iter().map(|relation| relation.name.clone()).collect();
        (names, catalog.gaps)
    };
    assert_eq!(relations("postgres").0, ["app.nobody_near"]);
    let (names, gaps) = relations("ps_reader");
    assert_eq!(names, [""; 0]);
    assert!(reason_of(&gaps, "app.nobody_near").contains("may not read"));
}
