//! Properties of the target database that a restore cannot change, such as its locale, are named.

use sidekeep::engine::postgres::restore::TargetOptions;

use crate::support::postgres::cluster::Cluster;
use crate::support::postgres::stage::{Stage, refused};

#[test]
fn a_different_locale_or_tablespace_is_named() {
    let Some(cluster) = Cluster::start() else { return };
    if cluster.version() < 15 {
        return;
    }
    cluster.sql("postgres", &format!("CREATE TABLESPACE fast LOCATION '{}'", cluster.tablespace_dir().display()));
    let icu = "TEMPLATE template0 ENCODING 'UTF8' LOCALE_PROVIDER icu ICU_LOCALE 'de-AT'";
    let make = format!("CREATE DATABASE service {icu} TABLESPACE fast");
    if cluster.client("postgres").execute("making a database", &make).is_err() {
        eprintln!("skipped: this server was built without ICU");
        return;
    }
    cluster.sql("service", "CREATE TABLE t (a text); INSERT INTO t VALUES ('a')");
    let stage = Stage::over(cluster, "service");
    let libc = "TEMPLATE template0 ENCODING 'UTF8'";
    let cases = [
        (icu.to_owned(), None),
        (icu.replace("de-AT", "en-US"), Some("its locale is en-US, but de-AT in the snapshot")),
        (libc.to_owned(), Some("its locale provider is libc, but ICU (de-AT) in the snapshot")),
    ];
    for (at, (options, finding)) in cases.into_iter().enumerate() {
        let name = format!("copy{at}");
        stage.cluster.create_database(&name, &options);
        let mut target = stage.target(&stage.cluster, &name, TargetOptions::default());
        let lines = refused(&stage.restore(&mut target, &[]).expect("a restore"));
        let expected: Vec<String> = finding.iter().map(|finding| format!("database {name}: {finding}")).collect();
        assert_eq!(lines, expected);
        let note = format!("the tablespace of database {name} is pg_default, but fast in the snapshot");
        assert!(target.notes().contains(&note), "{:?}", target.notes());
    }
}
