//! Disturbances on a server while it is read. The result must be an error with its reason, or a gap with the object's
//! name, but never a snapshot that silently lacks something.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use sidekeep::base::causes;
use sidekeep::engine::contract::{EngineError, RowSink, SinkError, Source};

use crate::support::postgres::cluster::{Cluster, SUPERUSER, Settings};
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

/// Backs up a new database, and runs `alter` on a table after the image began but before the backup can lock the table.
fn altered(live: &mut Live, database: &str, alter: &str) -> Result<(), String> {
    live.forget();
    make(live, database);
    let live = &*live;
    let other = live.cluster.client(database);
    other.execute("locking", "BEGIN; LOCK TABLE users IN ACCESS EXCLUSIVE MODE").expect("locked");
    std::thread::scope(|scope| {
        let snapshot =
            scope.spawn(|| live.try_backup_as(database, SUPERUSER).map(|report| assert_eq!(report.gaps(), [])));
        let begun = Instant::now();
        let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted";
        while live.cluster.sql(database, waits)[0][0].as_deref() == Some("0") {
            assert!(begun.elapsed() < Duration::from_secs(20), "the backup does not wait for the lock");
            std::thread::sleep(Duration::from_millis(20));
        }
        other.execute("altering", &format!("{alter}; COMMIT")).expect("altered");
        snapshot.join().expect("no panic")
    })
}

fn says<T: std::fmt::Debug>(result: Result<T, String>, parts: &[&str]) {
    let message = result.expect_err("refused");
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
}

#[test]
fn a_table_altered_while_the_backup_starts_is_captured_as_altered() {
    let Some(mut live) = Live::start() else { return };
    for (at, alter) in [
        "TRUNCATE users",
        "ALTER TABLE users ALTER n TYPE bigint",
        "ALTER TABLE users ALTER name TYPE text",
        "DROP TABLE users",
        "ALTER TABLE users RENAME TO people",
        "ALTER TABLE users ADD COLUMN late int DEFAULT 5",
        "ALTER TABLE users DROP COLUMN n",
        "ALTER TABLE users RENAME n TO m",
        "CREATE TABLE new AS SELECT * FROM users; DROP TABLE users; ALTER TABLE new RENAME TO users",
    ]
    .into_iter()
    .enumerate()
    {
        let database = format!("app {at}");
        altered(&mut live, &database, alter).unwrap_or_else(|error| panic!("{alter}: {error}"));
        let taken = live.restored();
        assert_comes_back(&live.cluster, &taken, &database);
    }
}

#[test]
fn a_change_of_rows_after_the_image_began_is_not_captured() {
    let Some(mut live) = Live::start() else { return };
    for (at, alter) in
        ["INSERT INTO users VALUES (1000, 'late', 1)", "DELETE FROM users", "CREATE TABLE late AS SELECT * FROM users"]
            .into_iter()
            .enumerate()
    {
        altered(&mut live, &format!("app {at}"), alter).unwrap_or_else(|error| panic!("{alter}: {error}"));
        let taken = live.restored();
        assert_eq!(taken.tables.len(), 2);
        assert_eq!(taken.table("public.users").columns, ["id", "name", "n"]);
        assert_eq!(taken.table("public.users").integers("n").iter().sum::<i64>(), 50 * 51 / 2);
    }
}

/// Runs something after the first row, and counts rows.
struct Midway<'a>(Option<Box<dyn FnOnce() + 'a>>, u64);

impl RowSink for Midway<'_> {
    fn row(&mut self, _: &[sidekeep::format::cell::Cell<'_>]) -> Result<(), SinkError> {
        self.1 += 1;
        if let Some(act) = self.0.take() {
            act();
        }
        Ok(())
    }
}

#[test]
fn a_terminated_session_and_a_stopped_server_are_errors() {
    let Some(mut live) = Live::start() else { return };
    live.cluster.create_database("app", "");
    live.cluster.sql("app", "CREATE TABLE t AS SELECT repeat(md5(n::text), 100) FROM generate_series(1, 30000) AS n");
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE pid <> pg_backend_pid() AND datname = current_database() AND query ~ '^COPY'";
    {
        let mut source = live.cluster.source("app", SUPERUSER);
        source.describe().expect("an image");
        let act: Box<dyn FnOnce()> = Box::new(|| drop(live.cluster.sql("app", end)));
        let mut midway = Midway(Some(act), 0);
        let error = source.read(0, &mut midway).expect_err("its session was terminated");
        let message = causes::describe(&error);
        let known = ["terminating connection", "connection closed"].iter().any(|words| message.contains(words));
        assert!(known && message.contains("public.t"), "{message}");
        assert!(midway.1 < 30000);
        assert!(source.read(0, &mut Midway(None, 0)).is_err(), "the image is gone");
    }
    let mut source = live.cluster.source("app", SUPERUSER);
    source.describe().expect("an image");
    live.cluster.stop();
    let error = source.read(0, &mut Midway(None, 0)).expect_err("the server is gone");
    assert!(matches!(&error, EngineError::Lost { .. }), "{error:?}");
    drop(source);
    live.cluster.start_server();
    assert_eq!(live.taken("app").tables[0].rows.len(), 30000);
}

#[test]
fn what_the_role_may_not_read_is_a_gap() {
    let Some(live) = Live::start() else { return };
    make(&live, "app");
    live.cluster.sql(
        "app",
        "CREATE ROLE reader LOGIN; CREATE ROLE owner; GRANT SELECT ON users TO reader; CREATE SCHEMA hidden;
        CREATE TABLE hidden.t (a int); INSERT INTO hidden.t VALUES (1); GRANT SELECT ON hidden.t TO reader;
        CREATE TABLE secured (a int); INSERT INTO secured VALUES (1), (2); GRANT SELECT ON secured TO reader;
        ALTER TABLE secured ENABLE ROW LEVEL SECURITY; CREATE POLICY few ON secured USING (a = 1);
        CREATE TABLE columns (a int, b int); INSERT INTO columns VALUES (1, 2); GRANT SELECT (a) ON columns TO reader;
        CREATE SEQUENCE closed; CREATE SEQUENCE open; GRANT SELECT ON SEQUENCE open TO reader;
        CREATE TABLE parts (a int) PARTITION BY LIST (a); CREATE TABLE part_1 PARTITION OF parts FOR VALUES IN (1);
        CREATE TABLE part_2 PARTITION OF parts FOR VALUES IN (2); INSERT INTO parts VALUES (1), (2);
        GRANT SELECT ON parts, part_1 TO reader",
    );
    let report = live.try_backup_as("app", "reader").expect("a snapshot");
    for table in ["public.other", "hidden.t", "public.columns", "public.part_2"] {
        assert!(reason_of(&report.gaps(), table).contains("may not read"), "{table}");
    }
    assert!(reason_of(&report.gaps(), "public.secured").contains("row security"));
    assert!(reason_of(&report.gaps(), "public.closed").contains("may not read"));
    let taken = live.restored();
    let names: Vec<&str> = taken.tables.iter().map(|table| table.name.as_str()).collect();
    assert_eq!(names, ["public.parts", "public.users"]);
    assert_eq!((taken.tables[0].rows.len(), taken.tables[1].rows.len()), (1, 50));
    let sequences: Vec<&str> = taken.document.sequences.iter().map(|sequence| sequence.name.as_str()).collect();
    assert_eq!(sequences, ["open"]);
}

#[test]
fn too_few_locks_are_an_error() {
    let Some(live) = Live::start_with(&["max_locks_per_transaction = 10", "max_connections = 8"]) else { return };
    live.cluster.create_database("app", "");
    for schema in 0..20 {
        let tables =
            "DO $$ BEGIN FOR n IN 1..50 LOOP EXECUTE format('CREATE TABLE t@_%s (a int)', n); COMMIT; END LOOP; END $$";
        live.cluster.sql("app", &tables.replace('@', &schema.to_string()));
    }
    says(live.try_backup_as("app", SUPERUSER), &["max_locks_per_transaction"]);
}

/// A small file system that is unmounted when dropped.
struct Disk(PathBuf);

impl Disk {
    /// None if it cannot be mounted, after printing why.
    fn mount(at: &Path) -> Option<Self> {
        std::fs::create_dir_all(at).expect("a directory");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=48m,mode=0777", "tmpfs"]).arg(at).output();
        if mounted.as_ref().is_ok_and(|output| output.status.success()) {
            return Some(Self(at.to_owned()));
        }
        eprintln!("skipped: only root can mount a small file system");
        None
    }

    fn fill(&self) {
        let zeros = vec![0; 64 << 20];
        assert!(std::fs::write(self.0.join("filler"), zeros).is_err(), "the disk is full");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        Command::new("umount").arg("--lazy").arg(&self.0).status().ok();
    }
}

#[test]
fn a_full_disk_on_the_server_never_loses_rows() {
    let room = tempfile::TempDir::new().expect("a directory");
    let Some(disk) = Disk::mount(&room.path().join("disk")) else { return };
    let settings = Settings { place: Some(disk.0.clone()), ..Settings::default() };
    let Some(cluster) = Cluster::start_with(&settings) else { return };
    let live = Live::of(cluster);
    make(&live, "app");
    let mut source = live.cluster.source("app", SUPERUSER);
    let users = source.describe().expect("an image").tables.iter().position(|table| table.name == "public.users");
    disk.fill();
    // Reading needs no disk space.
    let mut rows = Midway(None, 0);
    source.read(users.expect("a table"), &mut rows).expect("reads");
    assert_eq!(rows.1, 50);
    source.release().expect("released");
    drop(source);
    // Starting an image needs some. It either succeeds or fails with the reason.
    match live.try_backup_as("app", SUPERUSER) {
        Ok(_) => assert_eq!(live.restored().table("public.users").rows.len(), 50),
        Err(message) => assert!(message.contains("No space left on device"), "{message}"),
    }
    std::fs::remove_file(disk.0.join("filler")).expect("space again");
    assert_eq!(live.taken("app").table("public.users").rows.len(), 50);
    drop(live);
}
