//! The program is killed with SIGKILL in the middle of a restore, and another run resumes it.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::support::postgres::cluster::{Network, Settings};
use crate::support::postgres::compare::assert_same;
use crate::support::postgres::service::Live;
use crate::wire::Wire;

/// Many statements before the rows, rows, and an index that is slow to build.
const MORE: &str = "
    DO $$ BEGIN FOR n IN 1..60 LOOP
        EXECUTE format('CREATE TABLE wide_%s (a int PRIMARY KEY); COMMENT ON TABLE wide_%s IS %L', n, n, repeat('word ', 200));
    END LOOP; END $$;
    CREATE FUNCTION slowly(n int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN PERFORM pg_sleep(0.002); RETURN n; END';
    CREATE TABLE blobs (id int PRIMARY KEY, data bytea);
    INSERT INTO blobs SELECT n, decode(repeat(md5(n::text), 1000), 'hex') FROM generate_series(1, 1000) AS n;
    CREATE INDEX slow ON blobs (slowly(id)); CREATE ROLE app; ALTER TABLE contacts OWNER TO app; GRANT SELECT ON blobs TO app;
    CREATE MATERIALIZED VIEW newest AS SELECT max(id) FROM blobs;
    CREATE FUNCTION noted() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
    CREATE EVENT TRIGGER noted ON ddl_command_end EXECUTE FUNCTION noted()";
/// Number of bytes that a session sends until it is among the statements before the rows.
const STATEMENTS: u64 = 40_000;
/// Number of bytes that a session sends until it is among the rows.
pub const ROWS: u64 = 12_000_000;

pub fn live() -> Option<Live> {
    let hba = vec!["host all all 127.0.0.1/32 trust".to_owned()];
    let live = Live::with(&Settings { network: Network::Loopback, hba, ..Settings::default() })?;
    live.sql(MORE);
    live.sandbox.ok(&["backup"]);
    Some(live)
}

pub fn restore<'a>(to: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["restore", "latest", "--key-file", "keys/admin.key", "--to", to], more].concat()
}

fn begin(live: &Live, args: &[&str]) -> Child {
    live.sandbox.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("runs")
}

fn kill(mut child: Child) {
    assert!(child.try_wait().expect("a status").is_none(), "the restore finished before it was killed");
    child.kill().expect("killed");
    child.wait().expect("dead");
}

pub fn until(what: impl Fn() -> bool) {
    let begun = Instant::now();
    while !what() {
        assert!(begun.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Returns a check for whether a session of this database is executing a statement with these words.
pub fn is_at(database: &str, words: &str) -> impl Fn(&Live) -> bool + use<> {
    let sql = format!(
        "SELECT 1 FROM pg_stat_activity WHERE datname = '{database}' AND state = 'active' AND query LIKE '%{words}%'
            AND pid <> pg_backend_pid()"
    );
    move |live: &Live| !live.cluster.sql("postgres", &sql).is_empty()
}

/// Returns the number of marked steps of this part, and the number of marked batches.
fn marked(live: &Live, database: &str, part: &str) -> (u64, u64) {
    let sql = format!(
        "SELECT (SELECT count(*) FROM sidekeep_restore.done WHERE part = '{part}'), count(*) FROM sidekeep_restore.batches"
    );
    let row = live.cluster.sql(database, &sql).remove(0);
    let number = |at: usize| row[at].as_ref().expect("a count").parse().expect("a number");
    (number(0), number(1))
}

pub fn assert_resumes(live: &Live, database: &str) {
    live.sandbox.ok(&restore(&live.cluster.dsn(database), &["--resume"]));
    assert_same((&live.cluster, "sync"), (&live.cluster, database));
}

#[test]
fn a_restore_killed_before_or_during_the_rows_resumes() {
    let Some(live) = live() else { return };
    for (database, bytes) in [("early", STATEMENTS), ("late", ROWS)] {
        live.cluster.create_database(database, "TEMPLATE template0");
        let wire = Wire::from(live.cluster.port(), bytes);
        let to = format!("postgres://postgres@127.0.0.1:{}/{database}", wire.port());
        let child = begin(&live, &restore(&to, &["--workers", "1"]));
        wire.wait();
        kill(child);
        wire.cut();
        match (database, marked(&live, database, "pre-data"), marked(&live, database, "post-data").0) {
            ("early", (1.., 0), 0) | ("late", (1.., 1..), 0) => {}
            other => panic!("killed at an unexpected moment: {other:?}"),
        }
        assert_resumes(&live, database);
    }
}

/// The server still builds an index when the restore is killed. The run that resumes it is killed as well.
#[test]
fn a_restore_killed_during_indexes_and_during_resume_resumes() {
    let Some(live) = live() else { return };
    live.cluster.create_database("back", "TEMPLATE template0");
    let to = live.cluster.dsn("back");
    let builds = is_at("back", "CREATE INDEX slow ON");
    let child = begin(&live, &restore(&to, &["--workers", "1"]));
    until(|| builds(&live));
    kill(child);
    let (_, batches) = marked(&live, "back", "post-data");
    assert!(batches > 0);
    // The resumed run waits for the index that the server is still building, and is killed while it waits.
    let waits = is_at("back", "pg_advisory_lock");
    let child = begin(&live, &restore(&to, &["--resume"]));
    until(|| waits(&live));
    kill(child);
    assert_resumes(&live, "back");
    assert!(live.sandbox.fails(7, &restore(&to, &["--resume"])).contains("that restore is complete"));
}
