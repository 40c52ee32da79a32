//! Nobody waits for a backup's locks longer than the limit.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sidekeep::engine::contract::EngineError;
use sidekeep::engine::postgres::backup::lock_watchdog::LockWatchdog;

use crate::support::postgres::cluster::Cluster;
use crate::support::postgres::image::{address, open};

#[test]
fn an_alter_that_waits_too_long_ends_the_image() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.sql("postgres", "CREATE TABLE contacts (n int); INSERT INTO contacts VALUES (1)");
    let mut image = open(&cluster, "postgres").expect("an image");
    image.lock_tables(&["public.contacts".to_owned()], Duration::from_secs(5)).expect("locked");
    let wait_limit = Duration::from_secs(2);
    let dsn = Arc::new(address(&cluster.dsn("postgres")));
    let watch = LockWatchdog::begin(&dsn, image.sessions(), wait_limit).expect("a watch");
    let worker = image.worker().expect("a worker");

    let begun = Instant::now();
    let waited = std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            let client = cluster.client("postgres");
            client.execute("altering", "ALTER TABLE contacts ADD COLUMN more int").expect("altered");
            begun.elapsed()
        });
        // Runs until its session is terminated.
        let error = worker.execute("reading", "SELECT pg_sleep(60) FROM public.contacts").expect_err("ended");
        let error = watch.explain(error);
        let message = error.to_string();
        for part in ["the database postgres on", "running ALTER TABLE since 20", "waited 2 s", "public.contacts"] {
            assert!(message.contains(part), "{part:?} is not in {message:?}");
        }
        assert!(matches!(EngineError::from(error), EngineError::Yielded { .. }));
        other.join().expect("no panic")
    });
    assert!(waited >= wait_limit && waited < Duration::from_secs(20), "{waited:?}");
    assert!(image.release().is_err(), "its sessions were terminated");
}

#[test]
fn short_waits_and_waits_for_others_do_not_end_the_image() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.sql("postgres", "CREATE TABLE a (); CREATE TABLE b ()");
    let image = open(&cluster, "postgres").expect("an image");
    image.lock_tables(&["public.a".to_owned()], Duration::from_secs(5)).expect("locked");
    let dsn = Arc::new(address(&cluster.dsn("postgres")));
    let wait_limit = Duration::from_secs(2);
    let watch = LockWatchdog::begin(&dsn, image.sessions(), wait_limit).expect("a watch");
    let holder = cluster.client("postgres");
    holder.execute("locking", "BEGIN; LOCK TABLE b").expect("locked");
    let wait = |table: &str, milliseconds: u32| {
        let waiting = format!("SET lock_timeout = {milliseconds}; LOCK TABLE {table}");
        cluster.client("postgres").execute("waiting", &format!("BEGIN; {waiting}")).expect_err("a timeout");
    };
    wait("b", 4500);
    wait("a", 1200);
    wait("a", 1200);
    assert!(watch.verdict().is_none(), "{:?}", watch.verdict());
    let begun = Instant::now();
    drop(watch);
    assert!(begun.elapsed() < Duration::from_millis(500), "a watch stops immediately");
    image.release().expect("released");
}

#[test]
fn a_watch_that_lost_its_session_reconnects() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.sql("postgres", "CREATE TABLE contacts (n int)");
    let image = open(&cluster, "postgres").expect("an image");
    image.lock_tables(&["public.contacts".to_owned()], Duration::from_secs(5)).expect("locked");
    let dsn = Arc::new(address(&cluster.dsn("postgres")));
    let watch = LockWatchdog::begin(&dsn, image.sessions(), Duration::from_secs(2)).expect("a watch");
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'WITH waiting%'";
    let begun = Instant::now();
    while cluster.sql("postgres", end).is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(20), "the watch did not query the locks");
        std::thread::sleep(Duration::from_millis(20));
    }
    let alter = "SET statement_timeout = '15s'; ALTER TABLE contacts ADD COLUMN more int";
    cluster.client("postgres").execute("altering", alter).expect("altered");
    assert!(watch.verdict().is_some());
}
