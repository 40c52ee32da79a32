//! What a database shares with other databases of its cluster: roles that others create at the same time, and
//! tablespaces that cannot be used.

use std::time::{Duration, Instant};

use sidekeep::engine::postgres::connect::address::Address;
use sidekeep::engine::postgres::connect::host_environment::HostEnvironment;
use sidekeep::engine::postgres::restore::{Globals, Owners, PostgresTarget, TargetOptions};

use crate::support::postgres::cluster::Cluster;
use crate::support::postgres::compare::assert_same;
use crate::support::postgres::stage::{Stage, refused};

const MANY_ROLES: &str = "DO $$ BEGIN FOR n IN 1..60 LOOP
        EXECUTE format('CREATE ROLE person_%s PASSWORD %L; ALTER ROLE person_%s SET lock_timeout = 7;
            CREATE TABLE of_%s (a int); ALTER TABLE of_%s OWNER TO person_%s', n, 'x', n, n, n, n);
        EXECUTE format('COMMENT ON ROLE person_%s IS %L', n, 'a person');
        IF n > 1 THEN EXECUTE format('GRANT person_%s TO person_%s', n - 1, n); END IF;
    END LOOP; END $$;
    GRANT SET ON PARAMETER log_statement TO person_7";

#[test]
fn parallel_restores_can_create_the_same_roles() {
    let Some(stage) = Stage::of("CREATE TABLE t (a int)") else { return };
    if stage.cluster.version() < 15 {
        return;
    }
    stage.cluster.sql("service", MANY_ROLES);
    stage.backup();
    let Some(other) = Cluster::start() else { return };
    let names = ["one", "two", "three"];
    names.iter().for_each(|name| other.create_database(name, "TEMPLATE template0"));
    std::thread::scope(|scope| {
        let restore = |name: &'static str| {
            let (stage, other) = (&stage, &other);
            scope.spawn(move || stage.restore(&mut stage.target(other, name, TargetOptions::default()), &[]))
        };
        for thread in names.map(restore) {
            assert_eq!(refused(&thread.join().expect("no panic").expect("a restore")), [""; 0]);
        }
    });
    names.iter().for_each(|name| assert_same((&stage.cluster, "service"), (&other, name)));
    let roles = "SELECT rolname, rolpassword, setconfig, shobj_description(a.oid, 'pg_authid') FROM pg_authid a
        LEFT JOIN pg_db_role_setting ON setrole = a.oid AND setdatabase = 0 WHERE rolname LIKE 'person%' ORDER BY 1";
    assert_eq!(stage.cluster.sql("postgres", roles), other.sql("postgres", roles));
    let members =
        "SELECT roleid::regrole::text, member::regrole::text FROM pg_auth_members WHERE roleid >= 16384 ORDER BY 1, 2";
    assert_eq!(stage.cluster.sql("postgres", members), other.sql("postgres", members));
}

#[test]
fn a_role_that_another_session_creates_meanwhile_is_not_changed() {
    let made = "CREATE ROLE ann PASSWORD 'x'; CREATE TABLE t (a int); ALTER TABLE t OWNER TO ann";
    let Some(stage) = Stage::of(made) else { return };
    let Some(other) = Cluster::start() else { return };
    other.create_database("copy", "TEMPLATE template0");
    let somebody = other.client("postgres");
    somebody.execute("creating a role", "BEGIN; CREATE ROLE ann").expect("a role");
    let mut target = stage.target(&other, "copy", TargetOptions::default());
    std::thread::scope(|scope| {
        let restoring = scope.spawn(|| stage.restore(&mut target, &[]));
        let begun = Instant::now();
        while other.sql("postgres", "SELECT 1 FROM pg_locks WHERE NOT granted").is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(20), "the restore does not wait for the role");
            std::thread::sleep(Duration::from_millis(10));
        }
        somebody.execute("creating a role", "COMMIT").expect("a role");
        assert_eq!(refused(&restoring.join().expect("no panic").expect("a restore")), [""; 0]);
    });
    assert!(target.notes().iter().any(|note| note.ends_with("left unchanged: ann")), "{:?}", target.notes());
    let password = other.sql("postgres", "SELECT rolpassword FROM pg_authid WHERE rolname = 'ann'");
    assert_eq!(password, [[None]]);
}

/// Checks that all rows exist, and that this many tables and indexes are in a tablespace other than the default.
fn assert_there(cluster: &Cluster, database: &str, in_space: &str) {
    let rows = "SELECT (SELECT count(*) FROM t), (SELECT count(*) FROM parts), (SELECT count(*) FROM pg_indexes),
        (SELECT count(*) FROM pg_class WHERE reltablespace <> 0 AND relnamespace = 'public'::regnamespace)";
    let rows = rows.replace("pg_indexes", "pg_indexes WHERE schemaname = 'public'");
    assert_eq!(cluster.sql(database, &rows), [["9", "1", "2", in_space].map(|text| Some(text.to_owned()))]);
}

#[test]
fn rows_are_restored_even_if_tablespaces_are_unusable() {
    let Some(cluster) = Cluster::start() else { return };
    let make = format!("CREATE TABLESPACE \"Fast\" LOCATION '{}'", cluster.tablespace_dir().display());
    cluster.sql("postgres", &make);
    cluster.create_database("service", "TEMPLATE template0");
    cluster.sql(
        "service",
        "CREATE TABLE t (a int) TABLESPACE \"Fast\"; INSERT INTO t SELECT generate_series(1, 9);
         CREATE INDEX i ON t (a) TABLESPACE \"Fast\"; CREATE TABLE u (a int PRIMARY KEY);
         CREATE TABLE parts (a int) PARTITION BY LIST (a) TABLESPACE \"Fast\";
         CREATE TABLE part PARTITION OF parts DEFAULT TABLESPACE \"Fast\"; INSERT INTO parts VALUES (7);
         CREATE ROLE plain LOGIN",
    );
    let stage = Stage::over(cluster, "service");
    assert_eq!(refused(&stage.restored("same", TargetOptions::default())), [""; 0]);
    assert_there(&stage.cluster, "same", "4");
    let without = TargetOptions { globals: Globals::LeaveOut, ..TargetOptions::default() };
    assert_eq!(refused(&stage.restored("without", without)), [""; 0]);
    assert_there(&stage.cluster, "without", "0");

    let unusable = "tablespace Fast: it does not exist here or this role may not use it: 4 objects are in the database's default tablespace instead";
    stage.cluster.create_database("plain", "TEMPLATE template0 OWNER plain");
    stage.cluster.sql("plain", "ALTER SCHEMA public OWNER TO plain");
    let dsn = stage.cluster.dsn("plain").replace("postgres://postgres@", "postgres://plain@");
    let address = Address::parse(&dsn, &HostEnvironment::new([])).expect("an address");
    let options = TargetOptions { owners: Owners::LeaveOut, ..TargetOptions::default() };
    let report = stage.restore(&mut PostgresTarget::new(address, options), &[]).expect("a restore");
    assert!(refused(&report).contains(&unusable.to_owned()), "{:#?}", refused(&report));
    assert_there(&stage.cluster, "plain", "0");

    let Some(other) = Cluster::start() else { return };
    other.create_database("copy", "TEMPLATE template0");
    let mut target = stage.target(&other, "copy", TargetOptions::default());
    let lines = refused(&stage.restore(&mut target, &[]).expect("a restore"));
    assert!(lines.len() == 2 && lines[0].starts_with("CREATE TABLESPACE \"Fast\": "), "{lines:#?}");
    assert_eq!(lines[1], unusable);
    assert_there(&other, "copy", "0");
}

#[test]
fn missing_roles_are_reported_with_the_options_to_skip_them() {
    let made = "CREATE ROLE ann; CREATE ROLE bob; CREATE TABLE t (a int); ALTER TABLE t OWNER TO ann; \
                GRANT SELECT ON t TO bob";
    let Some(stage) = Stage::of(made) else { return };
    let Some(other) = Cluster::start() else { return };
    let restored = |name: &str, globals, owners| {
        other.create_database(name, "TEMPLATE template0");
        let mut target = stage.target(&other, name, TargetOptions { globals, owners, ..TargetOptions::default() });
        let report = stage.restore(&mut target, &[]).expect("a restore");
        (refused(&report), target.notes().to_vec())
    };
    let (lines, notes) = restored("without", Globals::LeaveOut, Owners::Restore);
    assert!(!lines.is_empty() && lines.iter().all(|line| line.contains("does not exist")), "{lines:?}");
    let hint = "these roles own objects or have privileges but do not exist here: ann, bob; to skip the statements";
    assert!(notes.iter().any(|note| note.starts_with(hint)), "{notes:?}");
    for (name, globals, owners) in
        [("nobody", Globals::LeaveOut, Owners::LeaveOut), ("with", Globals::Restore, Owners::Restore)]
    {
        let (lines, notes) = restored(name, globals, owners);
        assert!(lines.is_empty() && notes.is_empty(), "{lines:?} {notes:?}");
    }
}
