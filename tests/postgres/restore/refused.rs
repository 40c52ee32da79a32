//! What a server refuses is reported and skipped, and the rest is restored. Databases that must not be touched are
//! refused.

use sidekeep::base::finding::FindingKind;
use sidekeep::engine::contract::EngineError;
use sidekeep::engine::postgres::restore::{Globals, Owners, PostgresTarget, Resume, TargetOptions};
use sidekeep::ops::error::OpError;
use sidekeep::ops::select::Selector;

use crate::restore::cut::BreakingProxy;
use crate::support::postgres::cluster::Cluster;
use crate::support::postgres::stage::{Stage, refused};

const TROUBLE: &str = "
    CREATE FUNCTION public.most() RETURNS int LANGUAGE sql AS 'SELECT 2000';
    CREATE TABLE numbers (n int PRIMARY KEY, secret text, CHECK (n < public.most()));
    INSERT INTO numbers SELECT n, 'secret' || n FROM generate_series(0, 1999) AS n;
    CREATE OR REPLACE FUNCTION public.most() RETURNS int LANGUAGE sql AS 'SELECT 1970';
    CREATE TABLE texts (id uuid PRIMARY KEY, t tsvector, secret text, CHECK (length(secret) < public.most() / 197));
    ALTER TABLE texts DROP CONSTRAINT texts_secret_check;
    INSERT INTO texts VALUES ('00000000-0000-0000-0000-000000000001', 'a', '123456789'), ('00000000-0000-0000-0000-000000000002', 'b', '1234567890123');
    ALTER TABLE texts ADD CHECK (length(secret) < public.most() / 100);
    CREATE OR REPLACE FUNCTION public.most() RETURNS int LANGUAGE sql AS 'SELECT 1000';
    CREATE TABLE parents (id int PRIMARY KEY);
    INSERT INTO parents VALUES (1);
    CREATE TABLE children (id int PRIMARY KEY, parent int CONSTRAINT of_parent REFERENCES parents, mate int CONSTRAINT own REFERENCES children);
    SET session_replication_role = replica;
    INSERT INTO children VALUES (1, 1, 2), (2, 7, 1);
    RESET session_replication_role;
    CREATE FUNCTION public.folded(n int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN n; END';
    CREATE UNIQUE INDEX by_fold ON parents (public.folded(id));
    INSERT INTO parents VALUES (2);
    CREATE OR REPLACE FUNCTION public.folded(n int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN 5; END';
    CREATE FUNCTION public.looks(n int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN n; END';
    CREATE INDEX by_look ON children (public.looks(id));
    CREATE OR REPLACE FUNCTION public.looks(n int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN (SELECT count(*) + n FROM parents); END';
    CREATE VIEW both_of_them AS SELECT c.id FROM children c JOIN parents p ON p.id = c.parent;
";

#[test]
fn refused_objects_and_rows_are_reported_and_the_rest_is_restored() {
    let Some(stage) = Stage::of(TROUBLE) else { return };
    let report = stage.restored("copy", TargetOptions::default());
    let lines = refused(&report);
    // 1000 rows are refused: 20 are named by their keys, the others are only counted.
    let rows: Vec<&String> =
        lines.iter().filter(|line| line.starts_with("public.numbers: the row with n = ")).collect();
    assert_eq!(rows.len(), 20, "{lines:#?}");
    assert!(rows.iter().all(|line| line.ends_with("violates check constraint \"numbers_n_check\"")), "{rows:?}");
    assert!(lines.contains(&"public.numbers: 980 more rows were refused".to_owned()), "{lines:#?}");
    let expected = [
        "public.texts: the row with id = 00000000-0000-0000-0000-000000000002 was refused: new row for relation \"texts\" violates check constraint \"texts_secret_check\"",
        "index public.by_fold: could not create unique index \"by_fold\"; Key (public.folded(id))=(5) is duplicated.",
        "index public.by_look: relation \"parents\" does not exist",
        "fk constraint public.children of_parent, which was added but not validated: insert or update on table \"children\" violates foreign key constraint \"of_parent\"; Key (parent)=(7) is not present in table \"parents\".",
    ];
    for line in expected {
        assert!(lines.iter().any(|found| found == line), "{line} in {lines:#?}");
    }
    assert_eq!(lines.len(), 21 + expected.len(), "{lines:#?}");
    let count = |kind: FindingKind| report.findings.iter().filter(|found| found.kind == kind).count();
    assert_eq!((count(FindingKind::RefusedRows { rows: 1 }), count(FindingKind::RefusedRows { rows: 980 })), (21, 1));
    assert_eq!((count(FindingKind::Refused), count(FindingKind::RefusedConstraint)), (2, 1));
    assert!(!lines.iter().any(|line| line.contains("secret1") || line.contains("12345678")), "{lines:#?}");
    let rows = stage.cluster.sql("copy", "SELECT count(*), min(n), max(n) FROM numbers");
    assert_eq!(rows, [["1000", "0", "999"].map(|text| Some(text.to_owned()))]);
    assert_eq!(stage.cluster.sql("copy", "SELECT id FROM both_of_them").len(), 1);
    let valid = "SELECT conname FROM pg_constraint WHERE contype = 'f' AND convalidated";
    assert_eq!(stage.cluster.sql("copy", valid), [[Some("own".to_owned())]]);
    let numbers = report.tables.iter().find(|table| table.name == "public.numbers").expect("a table");
    assert_eq!((numbers.rows, numbers.restored), (2000, 1000));
}

/// A table whose statistics cannot be gathered, because of this error.
fn without_statistics(code: &str) -> String {
    format!(
        "CREATE FUNCTION public.picky(n int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
            IF current_query() LIKE 'ANALYZE%' THEN RAISE EXCEPTION 'not now' USING ERRCODE = '{code}'; END IF;
            RETURN n; END $$;
        CREATE TABLE t (n int); CREATE INDEX by_picky ON t (public.picky(n)); INSERT INTO t VALUES (1), (2)"
    )
}

#[test]
fn only_an_error_of_one_table_leaves_its_statistics_missing() {
    let Some(stage) = Stage::of(&without_statistics("P0001")) else { return };
    stage.cluster.create_database("copy", "TEMPLATE template0");
    let mut target = stage.target(&stage.cluster, "copy", TargetOptions::default());
    let report = stage.restore(&mut target, &[]).expect("a restore");
    assert_eq!(refused(&report), [""; 0]);
    let notes = target.notes();
    let note = "ANALYZE \"public\".\"t\" failed, so queries may be slow: not now";
    assert!(notes.iter().any(|found| found == note), "{notes:?}");

    stage.cluster.sql(
        "service",
        &format!("DROP TABLE t; {}", without_statistics("53100").replace("CREATE F", "CREATE OR REPLACE F")),
    );
    stage.backup();
    stage.cluster.create_database("full", "TEMPLATE template0");
    let failed = stage.restore(&mut stage.target(&stage.cluster, "full", TargetOptions::default()), &[]);
    assert!(matches!(&failed, Err(OpError::Engine(EngineError::Failed { reason, .. })) if reason.contains("--resume")));
}

#[test]
fn a_database_that_is_not_empty_is_refused() {
    let Some(stage) = Stage::of("CREATE TABLE t (a int); INSERT INTO t SELECT generate_series(1, 9)") else { return };
    for (at, sql) in [
        "CREATE TABLE x ()",
        "CREATE SCHEMA x",
        "CREATE FUNCTION x() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE TYPE x AS ENUM ()",
        "SELECT lo_create(0)",
        "CREATE PUBLICATION x",
    ]
    .iter()
    .enumerate()
    {
        let name = format!("full{at}");
        stage.cluster.create_database(&name, "TEMPLATE template0");
        stage.cluster.sql(&name, sql);
        for resume in [Resume::Refuse, Resume::Continue] {
            let options = TargetOptions { resume, ..TargetOptions::default() };
            let result = stage.restore(&mut stage.target(&stage.cluster, &name, options), &[]);
            match (result, resume) {
                (Err(OpError::Engine(EngineError::NotEmpty { what })), Resume::Refuse)
                | (Err(OpError::Engine(EngineError::NothingToResume { what, .. })), Resume::Continue) => {
                    assert!(what.contains(&name), "{what}");
                }
                (other, _) => panic!("{sql}: {other:?}"),
            }
        }
    }
    stage.cluster.create_database("extended", "TEMPLATE template0");
    stage.cluster.sql("extended", "CREATE EXTENSION hstore; CREATE EXTENSION citext");
    let mut target = stage.target(&stage.cluster, "extended", TargetOptions::default());
    assert_eq!(refused(&stage.restore(&mut target, &[]).expect("a restore")), [""; 0]);
}

#[test]
fn an_unfinished_restore_resumes_only_with_its_own_snapshot_and_tables() {
    let Some(stage) = Stage::of("CREATE TABLE t (a int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 9)")
    else {
        return;
    };
    stage.cluster.create_database("copy", "TEMPLATE template0");
    let with = |resume| TargetOptions { resume, ..TargetOptions::default() };
    let through = |database: &str, messages| {
        let proxy = BreakingProxy::after(&stage.cluster, messages);
        let mut target = PostgresTarget::new(proxy.address(database), with(Resume::Refuse));
        let result = stage.restore(&mut target, &[]);
        (messages - proxy.left(), result)
    };
    stage.cluster.create_database("whole", "TEMPLATE template0");
    let (all, whole) = through("whole", 1 << 40);
    assert!(whole.is_ok(), "{whole:?}");
    // The cut may come in a statement or while a session is being opened.
    let (_, first) = through("copy", all * 2 / 3);
    let is_cut = matches!(first, Err(OpError::Engine(EngineError::Lost { .. } | EngineError::Unreachable { .. })));
    assert!(is_cut, "{first:?}");
    let restore =
        |resume, tables: &[&str]| stage.restore(&mut stage.target(&stage.cluster, "copy", with(resume)), tables);
    let again = restore(Resume::Refuse, &[]);
    assert!(matches!(again, Err(OpError::Engine(EngineError::Unfinished { .. }))), "{again:?}");
    let fewer = restore(Resume::Continue, &["public.t"]);
    assert!(matches!(fewer, Err(OpError::Engine(EngineError::Failed { .. }))), "{fewer:?}");
    stage.cluster.sql("service", "INSERT INTO t VALUES (10)");
    let later = stage.backup().snapshot.expect("a snapshot");
    let named = |name: &str| {
        let mut target = stage.target(&stage.cluster, "copy", with(Resume::Continue));
        stage.restore_of(Selector::parse(name), &mut target, &[])
    };
    // An id names exactly one snapshot, so it must not resume a restore of another one.
    let other = named(&later.to_string());
    assert!(matches!(other, Err(OpError::Engine(EngineError::Unfinished { .. }))), "{other:?}");
    let id = stage.cluster.sql("copy", "SELECT content::json->>'snapshot' FROM sidekeep_restore.head");
    let id = id[0][0].clone().expect("an id");
    let rename = |from: &str, to: &str| {
        let sql = format!("UPDATE sidekeep_restore.head SET content = replace(content, '{from}', '{to}')");
        stage.cluster.sql("copy", &sql);
    };
    let strange = "ab".repeat(32);
    rename(&id, &strange);
    match named("latest") {
        Err(OpError::Engine(EngineError::Unfinished { snapshot, .. })) => {
            assert!(snapshot.starts_with(&strange) && snapshot.contains("not a snapshot of this source"), "{snapshot}");
        }
        other => panic!("{other:?}"),
    }
    rename(&strange, &id);
    let report = named("latest").expect("a restore");
    assert_eq!((report.snapshot.to_string(), report.named_now.map(|named| named.snapshot)), (id, Some(later)));
    assert_eq!(stage.cluster.sql("copy", "SELECT max(a) FROM t"), [[Some("9".to_owned())]]);
}

#[test]
fn owners_and_roles_can_be_skipped() {
    let Some(stage) = Stage::nasty() else { return };
    let Some(other) = Cluster::start() else { return };
    other.create_database("copy", "TEMPLATE template0");
    let options = TargetOptions { owners: Owners::LeaveOut, globals: Globals::LeaveOut, ..TargetOptions::default() };
    let report = stage.restore(&mut stage.target(&other, "copy", options), &[]).expect("a restore");
    let lines = refused(&report);
    // A policy and a user mapping name roles that do not exist here.
    assert!(lines.iter().all(|line| line.contains("role \"ps_app\" does not exist")), "{lines:#?}");
    assert_eq!(lines.len(), 2, "{lines:#?}");
    let count = |cluster: &Cluster, database: &str| cluster.sql(database, "SELECT count(*) FROM app.contacts");
    assert_eq!(count(&other, "copy"), count(&stage.cluster, crate::support::postgres::stage::DATABASE));
    assert!(other.sql("postgres", "SELECT 1 FROM pg_roles WHERE rolname LIKE 'ps%'").is_empty());
}

#[test]
fn a_restore_resumes_after_the_server_was_killed() {
    let Some(mut stage) = Stage::of(
        "CREATE TABLE t (a int PRIMARY KEY, b text);
         INSERT INTO t SELECT n, repeat(md5(n::text), 20) FROM generate_series(1, 60000) AS n;
         CREATE TABLE u (a int REFERENCES t); INSERT INTO u SELECT generate_series(1, 20000)",
    ) else {
        return;
    };
    stage.cluster.create_database("copy", "TEMPLATE template0");
    let options = |resume| TargetOptions { resume, ..TargetOptions::default() };
    let mut target = stage.target(&stage.cluster, "copy", options(Resume::Refuse));
    let expected = crate::support::postgres::compare::image(&stage.cluster, "service");
    let pid = std::fs::read_to_string(stage.cluster.data().join("postmaster.pid")).expect("a pid");
    let pid = pid.lines().next().expect("a line").to_owned();
    let killer = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(1500));
        std::process::Command::new("sh").arg("-c").arg(format!("kill -QUIT {pid}")).status().expect("sh");
    });
    let lost = stage.restore(&mut target, &[]);
    killer.join().expect("a thread");
    stage.cluster.stop();
    stage.cluster.start_server();
    if let Err(error) = lost {
        assert!(matches!(error, OpError::Engine(EngineError::Lost { .. })), "{error:?}");
        let mut target = stage.target(&stage.cluster, "copy", options(Resume::Continue));
        assert_eq!(refused(&stage.restore(&mut target, &[]).expect("a restore")), [""; 0]);
    }
    let found = crate::support::postgres::compare::image(&stage.cluster, "copy");
    assert_eq!(found.facts, expected.facts);
    assert_eq!(found.schema, expected.schema);
}
