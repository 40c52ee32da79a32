//! Restores from one major version to another, in both directions: between this test's server and each server after it
//! in `SIDEKEEP_TEST_PG_BINS`. A run with all servers so covers each pair once.

use std::path::PathBuf;

use sidekeep::engine::postgres::restore::TargetOptions;

use crate::support::postgres::cluster::{Cluster, Settings, programs};
use crate::support::postgres::compare::image;
use crate::support::postgres::stage::{DATABASE, Stage, refused};

/// The program directories of the servers after this test's own.
fn others() -> Vec<PathBuf> {
    let Some(own) = programs() else { return Vec::new() };
    let all = std::env::var_os("SIDEKEEP_TEST_PG_BINS").unwrap_or_default();
    let all: Vec<PathBuf> = std::env::split_paths(&all).filter(|bin| !bin.as_os_str().is_empty()).collect();
    let next = all.iter().position(|bin| *bin == own).map_or(0, |at| at + 1);
    let others = all[next..].to_vec();
    if others.is_empty() && next <= 1 {
        assert!(std::env::var_os("SIDEKEEP_TEST_ALL").is_none(), "no server of another version: scripts/test-deps");
        eprintln!("skipped: no server of another version (SIDEKEEP_TEST_PG_BINS)");
    }
    others
}

fn moved(from: &Settings, to: &Settings) {
    let (Some(cluster), Some(target)) = (Cluster::start_with(from), Cluster::start_with(to)) else { return };
    let version = cluster.version().min(target.version());
    let stage = Stage::nasty_on(cluster, version);
    target.create_database(DATABASE, "TEMPLATE template0");
    let report = stage.restore(&mut stage.target(&target, DATABASE, TargetOptions::default()), &[]).expect("a restore");
    // If an extension is missing on the other server, everything that depends on it is left out.
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
fn a_database_is_restored_to_another_version() {
    for bin in others() {
        moved(&Settings::default(), &Settings { bin: Some(bin), ..Settings::default() });
    }
}

#[test]
fn a_database_is_restored_from_another_version() {
    for bin in others() {
        moved(&Settings { bin: Some(bin), ..Settings::default() }, &Settings::default());
    }
}
