//! From one major version to another, both ways: `SIDEKEEP_TEST_PG_OTHER_BIN` says where the other's programs are.

use std::path::PathBuf;

use sidekeep::source::postgres::target::TargetOptions;

use crate::common_postgres::{Cluster, Settings};
use crate::compare::image;
use crate::stage::{DATABASE, Stage, refused};

fn other() -> Option<PathBuf> {
    let found = std::env::var_os("SIDEKEEP_TEST_PG_OTHER_BIN").map(PathBuf::from);
    if found.is_none() {
        eprintln!("skipped: no server of another version (SIDEKEEP_TEST_PG_OTHER_BIN)");
    }
    found
}

fn moved(from: &Settings, to: &Settings) {
    let Some(stage) = Stage::nasty_on(from) else { return };
    let Some(target) = Cluster::start_with(to) else { return };
    target.create_database(DATABASE, "TEMPLATE template0");
    let report = stage.restore(&mut stage.target(&target, DATABASE, TargetOptions::default()), &[]).expect("a restore");
    // Extensions that the other server was built without take what depends on them along.
    assert_eq!(refused(&report), [""; 0]);
    assert_eq!(image(&stage.cluster, DATABASE).facts, image(&target, DATABASE).facts);
    let roles = "SELECT roleid::regrole, member::regrole, admin_option FROM pg_auth_members WHERE roleid >= 16384 ORDER BY 1, 2";
    assert_eq!(stage.cluster.sql("postgres", roles), target.sql("postgres", roles));
    let not_null = "SELECT attrelid::regclass, attname FROM pg_attribute WHERE attnotnull AND attnum > 0 AND attrelid >= 16384 ORDER BY 1, 2";
    let texts = |cluster: &Cluster| {
        let mut rows: Vec<String> =
            cluster.sql(DATABASE, not_null).iter().map(|row| format!("{row:?}").replace("app.", "")).collect();
        rows.sort();
        rows
    };
    assert_eq!(texts(&stage.cluster), texts(&target));
}

#[test]
fn to_another_version() {
    let Some(bin) = other() else { return };
    moved(&Settings::default(), &Settings { bin: Some(bin), ..Settings::default() });
}

#[test]
fn from_another_version() {
    let Some(bin) = other() else { return };
    moved(&Settings { bin: Some(bin), ..Settings::default() }, &Settings::default());
}
