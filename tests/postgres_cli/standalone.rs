//! A restore needs only the program, a key and the store: no PostgreSQL tools, no configuration, no original server.

use std::process::Command;

use crate::support::postgres::cluster::{Cluster, Identity, Settings};
use crate::support::postgres::compare::{assert_alike, image};
use crate::support::postgres::service::Live;
use crate::support::sandbox::Sandbox;

const MORE: &str = "
    CREATE ROLE app LOGIN PASSWORD 'x'; ALTER ROLE app SET lock_timeout = '7s'; CREATE ROLE people; GRANT people TO app;
    ALTER TABLE contacts OWNER TO app; GRANT SELECT ON events TO people; CREATE EXTENSION hstore;
    CREATE TABLE more (a hstore, b numeric[], c tstzrange, d jsonb); INSERT INTO more VALUES ('a=>1', '{1.50,NaN}', '[2020-01-01,)', '{}');
    SELECT lo_from_bytea(4711, 'some bytes'); GRANT SELECT ON LARGE OBJECT 4711 TO people;
    CREATE VIEW seen AS SELECT count(*) FROM contacts; ALTER DATABASE sync SET work_mem = '7MB'";
const ROLES: &str = "SELECT rolname, rolpassword, rolcanlogin, setconfig FROM pg_authid a
    LEFT JOIN pg_db_role_setting ON setrole = a.oid AND setdatabase = 0 WHERE a.oid >= 16384 ORDER BY 1";
const LARGE: &str = "SELECT loid, pageno, data FROM pg_largeobject ORDER BY 1, 2";

#[test]
fn a_restore_needs_only_the_program_a_key_and_the_store() {
    let Some(live) = Live::new() else { return };
    live.sql(MORE);
    live.sandbox.ok(&["backup"]);
    let (expected, roles) = (image(&live.cluster, "sync"), live.sql(ROLES));
    let large = live.sql(LARGE);

    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name);
    std::fs::copy(env!("CARGO_BIN_EXE_sidekeep"), path("sidekeep")).expect("copies");
    std::fs::copy(live.sandbox.path("keys/admin.key"), path("key")).expect("copies");
    for (name, bytes) in live.objects() {
        let to = path("store").join(name);
        std::fs::create_dir_all(to.parent().expect("a parent")).expect("a directory");
        std::fs::write(to, bytes).expect("writes");
    }
    std::fs::create_dir(path("nothing")).expect("a directory");
    // Removes the old server and everything on the old host.
    drop(live);

    let Some(other) = Cluster::start_with(&Settings { identity: Identity::Own, ..Settings::default() }) else { return };
    other.create_database("sync", "TEMPLATE template0");
    let mut command = Command::new(path("sidekeep"));
    command.args(["restore", "latest", "--repo", "store", "--key-file", "key", "--to", &other.dsn("sync")]);
    command.current_dir(dir.path()).env_clear().env("PATH", path("nothing")).env("HOME", path("nothing"));
    let ran = Sandbox::ran(&mut command);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{}", ran.out);
    assert_alike(&expected, &image(&other, "sync"));
    assert_eq!(other.sql("sync", ROLES), roles);
    assert_eq!(other.sql("sync", LARGE), large);
    // It leaves nothing but the heads of the chains that it saw.
    let left = |path: &str| -> Vec<_> {
        let entries = dir.path().join(path).read_dir().expect("a directory");
        entries.map(|entry| entry.expect("an entry").file_name()).collect()
    };
    assert_eq!(
        [left("nothing"), left("nothing/.cache"), left("nothing/.cache/sidekeep")],
        [[".cache"], ["sidekeep"], ["heads"]]
    );
}
