//! Everything in a snapshot is restored, including every row.

use crate::support::world::findings::FindingsByKind;
use sidekeep::engine::postgres::restore::TargetOptions;

use crate::support::postgres::cluster::Cluster;
use crate::support::postgres::compare::assert_same;
use crate::support::postgres::stage::{DATABASE, Stage, refused};

#[test]
fn a_database_with_every_kind_of_object_is_restored() {
    let Some(stage) = Stage::nasty() else { return };
    let report = stage.restored("copy", TargetOptions::default());
    assert_eq!(refused(&report), [""; 0]);
    assert_eq!(report.damaged(), [""; 0]);
    report.tables.iter().for_each(|table| assert_eq!(table.restored, table.rows, "{}", table.name));
    assert_same((&stage.cluster, DATABASE), (&stage.cluster, "copy"));
    let left = stage.cluster.sql("copy", "SELECT 1 FROM pg_namespace WHERE nspname = 'sidekeep_restore'");
    assert!(left.is_empty());
    let unknown =
        "SELECT relname FROM pg_class WHERE relnamespace = 'app'::regnamespace AND relkind = 'r' AND reltuples < 0";
    assert!(stage.cluster.sql("copy", unknown).is_empty(), "statistics");
}

#[test]
fn roles_are_restored_on_another_server() {
    let Some(stage) = Stage::nasty() else { return };
    let Some(other) = Cluster::start() else { return };
    other.create_database(DATABASE, "TEMPLATE template0");
    let report = stage.restore(&mut stage.target(&other, DATABASE, TargetOptions::default()), &[]).expect("a restore");
    assert_eq!(refused(&report), [""; 0]);
    assert_same((&stage.cluster, DATABASE), (&other, DATABASE));
    let roles = "SELECT rolname, rolcanlogin, rolpassword, setconfig FROM pg_authid a LEFT JOIN pg_db_role_setting ON setrole = a.oid AND setdatabase = 0 WHERE rolname LIKE 'ps%' ORDER BY 1";
    assert_eq!(stage.cluster.sql("postgres", roles), other.sql("postgres", roles));
    let members = "SELECT roleid::regrole, member::regrole, admin_option FROM pg_auth_members WHERE roleid >= 16384 ORDER BY 1, 2";
    assert_eq!(stage.cluster.sql("postgres", members), other.sql("postgres", members));
}
