//! Tables that belong to an extension or are on another server: the user's rows are restored, and what is left out is
//! named.

use std::time::{Duration, Instant};

use crate::support::postgres::live::{Live, reason_of};
use crate::support::postgres::restored::assert_comes_back;
use crate::support::world::findings::FindingsByKind;

/// Creates a database with some tables.
fn make(live: &Live, database: &str) {
    live.cluster.create_database(database, "TEMPLATE template0");
    live.cluster.sql(
        database,
        "CREATE TABLE users (id int PRIMARY KEY, name varchar(20), n int);
        INSERT INTO users SELECT n, 'user ' || n, n FROM generate_series(1, 50) AS n;
        CREATE TABLE other (id int); INSERT INTO other VALUES (1)",
    );
}

#[test]
fn a_foreign_table_is_a_gap() {
    let Some(live) = Live::start() else { return };
    make(&live, "app");
    live.cluster.sql(
        "app",
        "CREATE EXTENSION postgres_fdw; CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host 'nowhere');
        CREATE FOREIGN TABLE far_away (a int) SERVER far",
    );
    let report = live.backup("app");
    assert_eq!(report.gaps().len(), 1);
    assert!(reason_of(&report.gaps(), "public.far_away").contains("server far"));
    assert_comes_back(&live.cluster, &live.restored(), "app");
}

/// Servers find extensions in a custom directory since version 18.
#[test]
fn rows_of_the_user_in_extension_tables_are_restored() {
    let Some(live) = Live::start() else { return };
    if live.cluster.version() < 18 {
        eprintln!("skipped: only PostgreSQL 18 and later look for extensions in a custom directory");
        return;
    }
    let dir = live.cluster.socket_dir().join("share/extension");
    std::fs::create_dir_all(&dir).expect("a directory");
    let script = "CREATE TABLE settings (name text PRIMARY KEY, value text, standard boolean NOT NULL DEFAULT false);
        INSERT INTO settings VALUES ('built in', '1', true); CREATE TABLE lists (a int); CREATE TABLE own (b int);
        SELECT pg_catalog.pg_extension_config_dump('settings', 'WHERE NOT standard');
        SELECT pg_catalog.pg_extension_config_dump('lists', '');";
    std::fs::write(dir.join("tiny.control"), "default_version = '1'\nrelocatable = true\n").expect("a file");
    std::fs::write(dir.join("tiny--1.sql"), script).expect("a file");
    let path = live.cluster.socket_dir().join("share").display().to_string();
    live.cluster.sql("postgres", &format!("ALTER SYSTEM SET extension_control_path = '{path}:$system'"));
    live.cluster.sql("postgres", "SELECT pg_reload_conf()");
    let begun = Instant::now();
    while live.cluster.sql("postgres", "SHOW extension_control_path")[0][0].as_deref() == Some("$system") {
        assert!(begun.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(20));
    }
    make(&live, "app");
    live.cluster.sql(
        "app",
        "CREATE EXTENSION tiny; INSERT INTO settings VALUES ('mine', '2'); INSERT INTO lists VALUES (1), (1);
        INSERT INTO own VALUES (3)",
    );
    let report = live.backup("app");
    assert_eq!(report.gaps().len(), 1);
    assert!(reason_of(&report.gaps(), "public.own").contains("extension tiny"));
    let taken = live.restored();
    let rows = |name: &str| taken.table(name).rows.len();
    assert_eq!((rows("public.settings"), rows("public.lists")), (1, 2));
    assert_comes_back(&live.cluster, &taken, "app");
    let sql = "SELECT name FROM settings ORDER BY name";
    assert_eq!(live.cluster.sql("app back", sql), live.cluster.sql("app", sql));
}
