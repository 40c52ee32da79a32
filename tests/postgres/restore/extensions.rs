//! Tables that belong to an extension: rows that users added are restored, and the extension creates its own rows.

use std::os::unix::fs::PermissionsExt;

use sidekeep::engine::postgres::restore::TargetOptions;

use crate::support::postgres::cluster::{Cluster, Settings};
use crate::support::postgres::compare::assert_same;
use crate::support::postgres::stage::{Stage, refused};

const SCRIPT: &str = "CREATE TABLE sk_settings (name text PRIMARY KEY, value text);
    INSERT INTO sk_settings VALUES ('own', 'as it was delivered');
    CREATE SEQUENCE sk_numbers; CREATE TABLE sk_hidden (a int); INSERT INTO sk_hidden VALUES (1);
    SELECT pg_extension_config_dump('sk_settings', 'WHERE name <> ''own''');
    SELECT pg_extension_config_dump('sk_numbers', '');";

/// Runs only with version 18: older servers look for extensions only among their own files, which a test must not
/// change. How an extension names its rows, and how `pg_dump` and Sidekeep read them, is the same in all versions.
#[test]
fn user_rows_in_extension_tables_are_restored() {
    let Some(bin) = std::env::var_os("SIDEKEEP_TEST_PG_18_BIN") else {
        assert!(std::env::var_os("SIDEKEEP_TEST_ALL").is_none(), "no PostgreSQL 18: scripts/test-deps");
        eprintln!("skipped: no PostgreSQL 18 (SIDEKEEP_TEST_PG_18_BIN)");
        return;
    };
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).expect("a mode");
    let files = dir.path().join("extension");
    std::fs::create_dir(&files).expect("a directory");
    std::fs::write(files.join("sk_config.control"), "default_version = '1.0'\n").expect("a file");
    std::fs::write(files.join("sk_config--1.0.sql"), SCRIPT).expect("a file");
    let conf = vec![format!("extension_control_path = '{}:$system'", dir.path().display())];
    let settings = Settings { bin: Some(bin.into()), conf, ..Settings::default() };
    let Some(cluster) = Cluster::start_with(&settings) else { return };
    cluster.create_database("service", "TEMPLATE template0");
    cluster.sql(
        "service",
        "CREATE EXTENSION sk_config; INSERT INTO sk_settings VALUES ('theirs', 'kept'); INSERT INTO sk_hidden VALUES (2);
         SELECT nextval('sk_numbers'); SELECT nextval('sk_numbers')",
    );
    let stage = Stage::over(cluster, "service");
    assert_eq!(refused(&stage.restored("copy", TargetOptions::default())), [""; 0]);
    let rows = "SELECT name, value FROM sk_settings UNION ALL SELECT 'number', last_value::text FROM sk_numbers
        UNION ALL SELECT 'hidden', count(*)::text FROM sk_hidden";
    let rows = stage.cluster.sql("copy", rows).into_iter().flatten().flatten();
    let expected = ["own", "as it was delivered", "theirs", "kept", "number", "2", "hidden", "1"];
    assert_eq!(rows.collect::<Vec<_>>(), expected);
    stage.cluster.sql("service", "DELETE FROM sk_hidden WHERE a = 2");
    assert_same((&stage.cluster, "service"), (&stage.cluster, "copy"));
}
