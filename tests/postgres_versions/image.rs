//! One image for several sessions: what they see, their settings, and what an unprivileged role cannot determine.

use sidekeep::engine::postgres::backup::image::{PgImage, ServerRole};

use crate::support::postgres::cluster::Cluster;
use crate::support::postgres::image::{PATIENCE, address, open, tables, value};

#[test]
fn all_sessions_see_the_same_moment() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.sql("postgres", "CREATE TABLE t (n int); INSERT INTO t VALUES (1)");
    let before = value(&cluster.client("postgres"), "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::int8");
    let mut image = open(&cluster, "postgres").expect("an image");
    cluster.sql("postgres", "INSERT INTO t VALUES (2)");
    let worker = image.worker().expect("a worker");
    cluster.sql("postgres", "INSERT INTO t VALUES (3)");
    let late = image.worker().expect("a worker");
    for session in [image.leader(), &worker, &late] {
        assert_eq!(value(session, "SELECT count(*) FROM public.t"), "1");
        assert!(session.execute("writing", "SAVEPOINT s; INSERT INTO public.t VALUES (4)").is_err());
    }
    assert_eq!(image.sessions().pids().len(), 3);

    let facts = image.facts();
    assert!(facts.clock.0 >= before.parse().expect("a number"), "{}", facts.clock);
    assert_eq!((facts.server_encoding.as_str(), facts.client_encoding.as_str()), ("UTF8", "UTF8"));
    assert_eq!(facts.role, ServerRole::Primary);
    assert_eq!(facts.version / 10_000, cluster.version() as i32);
    for name in ["system_identifier", "timeline", "database_oid", "database", "server_version"] {
        assert!(facts.identity.contains_key(name), "{name} is not in {:?}", facts.identity);
    }
    assert!(facts.notes.is_empty(), "{:?}", facts.notes);

    image.release().expect("released");
    assert_eq!(value(&late, "SELECT count(*) FROM public.t"), "3");
}

#[test]
fn session_settings_override_the_role_settings() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.sql(
        "postgres",
        "ALTER ROLE postgres SET TimeZone = 'Asia/Tokyo'; ALTER ROLE postgres SET DateStyle = 'German'; \
         ALTER ROLE postgres SET bytea_output = 'escape'; ALTER ROLE postgres SET extra_float_digits = -5; \
         ALTER ROLE postgres SET search_path = 'public'; ALTER ROLE postgres SET statement_timeout = 20000; \
         ALTER ROLE postgres SET IntervalStyle = 'iso_8601'; ALTER ROLE postgres SET row_security = on",
    );
    let mut image = open(&cluster, "postgres").expect("an image");
    let worker = image.worker().expect("a worker");
    let shown = "SELECT concat_ws('|', '2026-01-02 03:04:05+00'::timestamptz, '\\x01'::bytea, 0.1::float8 + 0.2, \
         '1 day 2 hours'::interval, current_setting('search_path'), current_setting('statement_timeout'), \
         current_setting('row_security'), current_setting('client_encoding'))";
    for session in [image.leader(), &worker] {
        let wanted = "2026-01-02 03:04:05+00|\\x01|0.30000000000000004|1 day 02:00:00||0|off|UTF8";
        assert_eq!(value(session, shown), wanted);
    }
}

#[test]
fn missing_privileges_for_the_identity_are_noted() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.sql("postgres", "CREATE ROLE plain LOGIN; REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC");
    let dsn = cluster.dsn("postgres").replace("postgres@", "plain@");
    let image = PgImage::open(address(&dsn)).expect("an image");
    assert!(!image.facts().identity.contains_key("system_identifier"));
    assert!(image.facts().notes[0].contains("pg_control_system()"), "{:?}", image.facts().notes);
    let denied = image.lock_tables(&tables(&["pg_catalog.pg_authid"]), PATIENCE).expect_err("denied").to_string();
    assert!(denied.contains("permission denied for table pg_authid"), "{denied}");
}
