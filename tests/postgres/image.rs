//! One image for several sessions: what it shows, which servers it refuses, how it reports locks.

use std::process::Command;
use std::time::{Duration, Instant};

use sidekeep::engine::postgres::backup::image::{PgImage, ServerRole, TableLock};

use crate::support::postgres::cluster::{Cluster, Settings};
use crate::support::postgres::image::{PATIENCE, address, open, tables, value};

#[test]
fn a_database_without_an_encoding_is_read_as_bytes() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.create_database("ascii", "ENCODING 'SQL_ASCII' TEMPLATE template0");
    cluster.create_database("latin", "ENCODING 'LATIN1' TEMPLATE template0");
    let image = open(&cluster, "ascii").expect("an image");
    assert_eq!(image.facts().client_encoding, "SQL_ASCII");
    let image = open(&cluster, "latin").expect("an image");
    assert_eq!(value(image.leader(), "SELECT chr(228)"), "\u{e4}");
}

#[test]
fn table_locks_are_held_and_a_table_that_cannot_be_locked_is_named() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.sql("postgres", "CREATE SCHEMA \"S s\"; CREATE TABLE \"S s\".\"T\" (); CREATE TABLE u ()");
    let mut image = open(&cluster, "postgres").expect("an image");
    image.lock_tables(&tables(&["\"S s\".\"T\"", "public.u"]), PATIENCE).expect("locked");
    let worker = image.worker().expect("a worker");
    image.try_lock(&worker, "\"S s\".\"T\"").expect("locked");
    let other = cluster.client("postgres");
    let nowait = "BEGIN; LOCK TABLE u IN ACCESS EXCLUSIVE MODE NOWAIT";
    assert_eq!(other.execute("locking", nowait).expect_err("held").state(), Some("55P03"));
    image.release().expect("released");
    other.execute("locking", &format!("ROLLBACK; {nowait}")).expect("free");

    let mut image = open(&cluster, "postgres").expect("an image");
    let begun = Instant::now();
    let held = image.lock_tables(&tables(&["\"S s\".\"T\"", "public.u"]), Duration::from_millis(200));
    let held = held.expect_err("held").to_string();
    assert!(begun.elapsed() < PATIENCE);
    assert!(held.contains("public.u by process") && !held.contains("\"S s\""), "{held}");
    let worker = image.worker().expect("a worker");
    assert_eq!(image.try_lock(&worker, "public.u").expect("asked"), TableLock::Contended);
    assert_eq!(
        image.try_lock(&worker, "\"S s\".\"T\"").expect("asked"),
        TableLock::Acquired,
        "the worker is still usable"
    );
}

#[test]
fn too_few_locks_are_reported() {
    let conf = vec!["max_locks_per_transaction = 10".to_owned(), "max_connections = 5".to_owned()];
    let Some(cluster) = Cluster::start_with(&Settings { conf, ..Settings::default() }) else { return };
    for schema in 0..12 {
        let make = format!(
            "DO $$ BEGIN FOR n IN 1..100 LOOP EXECUTE format('CREATE TABLE t{schema}_%s ()', n); COMMIT; END LOOP; END $$"
        );
        cluster.sql("postgres", &make);
    }
    let image = open(&cluster, "postgres").expect("an image");
    let all = image.leader().texts("asking", "SELECT oid::regclass::text FROM pg_class WHERE relname ~ '^t[0-9]+_'");
    let all: Vec<String> = all.expect("names").into_iter().filter_map(|row| row[0].clone()).collect();
    let error = image.lock_tables(&all, PATIENCE).expect_err("too many").to_string();
    assert!(error.contains("the locks of 1200 tables") && error.contains("max_locks_per_transaction"), "{error}");
}

#[test]
fn a_transaction_pooler_is_refused() {
    let program = std::env::var("SIDEKEEP_TEST_PGBOUNCER").unwrap_or_else(|_| "/usr/sbin/pgbouncer".to_owned());
    if Command::new(&program).arg("--version").output().is_err() {
        assert!(std::env::var_os("SIDEKEEP_TEST_ALL").is_none(), "no pgbouncer: eval \"$(scripts/test-deps)\"");
        eprintln!("skipped: pgbouncer is not installed");
        return;
    }
    let Some(cluster) = Cluster::start() else { return };
    let dir = cluster.socket_dir().display();
    let users = cluster.write_private("users", "\"postgres\" \"\"\n");
    let settings = format!(
        "[databases]\n* = host={dir} port={}\n[pgbouncer]\nlisten_port=6543\nunix_socket_dir={dir}\n\
         auth_type=trust\nauth_file={}\npool_mode=transaction\n",
        cluster.port(),
        users.display(),
    );
    let settings = cluster.write_private("pgbouncer.ini", &settings);
    let mut pooler = cluster.command(&program).arg("-q").arg(settings).spawn().expect("a pooler");
    let dsn = cluster.dsn("postgres").replace(&format!(":{}/", cluster.port()), ":6543/");
    let begun = Instant::now();
    let refused = loop {
        let refused = PgImage::open(address(&dsn)).map(|_| ()).map_err(|error| error.to_string());
        let not_yet = matches!(&refused, Err(message) if message.starts_with("cannot connect"));
        if !not_yet || begun.elapsed() > PATIENCE {
            break refused;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    pooler.kill().expect("stopped");
    pooler.wait().expect("stopped");
    let refused = refused.expect_err("refused");
    assert!(refused.contains("through a pooler") && refused.contains("connect directly to the server"), "{refused}");
}

#[test]
fn a_standby_that_would_cancel_the_backup_is_refused() {
    let Some(cluster) = Cluster::start() else { return };
    let hasty = cluster.standby(&["max_standby_streaming_delay = 5s"]);
    let refused = open(&hasty, "postgres").map(|_| ()).expect_err("refused");
    assert!(
        refused.contains("max_standby_streaming_delay = 5s") && refused.contains("hot_standby_feedback"),
        "{refused}"
    );
    drop(hasty);
    for conf in ["max_standby_streaming_delay = -1", "hot_standby_feedback = on"] {
        let standby = cluster.standby(&[conf]);
        let mut image = open(&standby, "postgres").expect("an image");
        assert_eq!(image.facts().role, ServerRole::Standby);
        assert_eq!(value(&image.worker().expect("a worker"), "SELECT 1"), "1");
        image.lock_tables(&tables(&["pg_catalog.pg_class"]), PATIENCE).expect("locked");
    }
}
