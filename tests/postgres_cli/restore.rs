//! Restores into an empty database with the program: options, an interrupt, and resuming.

use std::process::Stdio;

use crate::middle::{assert_sessions_end, end, live};
use crate::support::postgres::service::{Live, ROWS};
use crate::support::sandbox::{interrupt, of_kind};
use crate::wire::Wire;

/// Row counts and content hashes of tables, independent of the order of rows.
const SUMS: &str = "SELECT count(*), sum(hashtextextended(t::text, 0)) FROM contacts t
    UNION ALL SELECT count(*), sum(hashtextextended(t::text, 0)) FROM labels t
    UNION ALL SELECT count(*), sum(hashtextextended(t::text, 0)) FROM events t
    UNION ALL SELECT count(*), sum(hashtextextended(t::text, 0)) FROM sync_log t";

fn admin<'a>(args: &[&'a str]) -> Vec<&'a str> {
    [&["restore", "latest"], args, &["--key-file", "keys/admin.key"]].concat()
}

#[test]
fn a_database_is_restored_into_an_empty_one() {
    let Some(live) = Live::new() else { return };
    live.sql("CREATE ROLE app; ALTER TABLE contacts OWNER TO app; GRANT SELECT ON events TO app");
    live.sandbox.ok(&["backup"]);
    live.cluster.create_database("back", "TEMPLATE template0");
    let to = live.cluster.dsn("back");
    let report = live.sandbox.json(&admin(&["--to", &to, "--first", "public.users,public.contacts", "--workers", "2"]));
    assert_eq!((&report["rows"], of_kind(&report, "refused").len()), (&ROWS.into(), 0), "{report}");
    assert_eq!(live.cluster.sql("back", SUMS), live.sql(SUMS));
    let owner = "SELECT relowner::regrole FROM pg_class WHERE relname = 'contacts'";
    assert_eq!(live.cluster.sql("back", owner), live.sql(owner));

    let error = live.sandbox.fails(7, &admin(&["--to", &to]));
    assert!(error.contains("not empty") && error.contains("nothing is ever overwritten"), "{error}");

    live.cluster.create_database("plain", "TEMPLATE template0");
    live.sandbox.ok(&admin(&["--to", &live.cluster.dsn("plain"), "--no-owner", "--no-globals"]));
    assert_eq!(live.cluster.sql("plain", owner)[0][0].as_deref(), Some("postgres"));
    assert_eq!(live.cluster.sql("plain", SUMS), live.sql(SUMS));
    let error = live.sandbox.fails(7, &admin(&["--to", &live.cluster.dsn("nowhere")]));
    assert!(error.contains("name a database that exists"), "{error}");
}

#[test]
fn postgres_options_are_refused_for_other_targets() {
    let Some(live) = Live::new() else { return };
    live.sandbox.ok(&["backup"]);
    for option in [&["--resume"][..], &["--no-owner"], &["--no-globals"], &["--first", "a"], &["--workers", "2"]] {
        let args = [&["--to", "out.sqlite"], option].concat();
        assert!(live.sandbox.fails(2, &admin(&args)).contains("not a PostgreSQL database"));
    }
}

#[test]
fn an_interrupted_restore_resumes() {
    let Some(live) = live(&[]) else { return };
    live.sandbox.ok(&["backup"]);
    live.cluster.create_database("back", "TEMPLATE template0");
    // The server stops receiving rows.
    let wire = Wire::from(live.cluster.port(), 3_000_000);
    let to = format!("postgres://postgres@127.0.0.1:{}/back", wire.port());
    let mut command = live.sandbox.command(&admin(&["--to", &to]));
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs");
    wire.wait();
    interrupt(&child);
    std::thread::sleep(std::time::Duration::from_millis(500));
    wire.cut();
    let (code, out, err) = end(child);
    assert_eq!((code, out.as_str()), (130, ""), "{err}");
    assert!(err.contains("--resume"), "{err}");
    assert_sessions_end(&live.cluster);

    let back = live.cluster.dsn("back");
    let error = live.sandbox.fails(7, &admin(&["--to", &back]));
    assert!(error.contains("unfinished restore") && error.contains("--resume"), "{error}");
    // After another backup `latest` is a newer snapshot, but the restore resumes with its own.
    let sums = live.sql(SUMS);
    live.sql("DELETE FROM events; INSERT INTO sync_log (user_id, change) VALUES (1, 'later')");
    let later = live.sandbox.json(&["backup"])["snapshot"].as_str().expect("an id").to_owned();
    let named = ["restore", &later, "--to", &back, "--resume", "--key-file", "keys/admin.key"];
    let error = live.sandbox.fails(7, &named);
    assert!(error.contains("unfinished restore of snapshot"), "{error}");
    let ran = live.sandbox.run(&admin(&["--to", &back, "--resume"]));
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.err.contains("resuming the unfinished restore of snapshot "), "{}", ran.err);
    let note = format!("note: this resumed an earlier restore; a new restore would use {}", &later[..8]);
    assert!(ran.out.contains(&note), "{}", ran.out);
    assert_eq!(live.cluster.sql("back", SUMS), sums);
    let blobs = "SELECT count(*), sum(hashtextextended(data::text, 0)) FROM blobs";
    assert_eq!(live.cluster.sql("back", blobs), live.sql(blobs));
}

/// The user learns before anything is written that the target is not writable, and what to do.
#[test]
fn a_target_that_is_not_writable_is_refused() {
    let Some(live) = Live::new() else { return };
    live.sandbox.ok(&["backup"]);
    live.cluster.create_database("back", "TEMPLATE template0");
    live.sql("CREATE ROLE plain LOGIN");
    let standby = live.cluster.standby(&[]);
    for (to, said) in [
        (live.dsn_as("plain").replace("/sync", "/back"), "connect as a superuser or as the database's owner"),
        (standby.dsn("back"), "restore to a primary server"),
    ] {
        let err = live.sandbox.fails(7, &["restore", "latest", "--key-file", "keys/admin.key", "--to", &to]);
        assert!(err.contains("cannot open the database back on ") && err.contains(said), "{err}");
    }
    let to = live.cluster.dsn("back");
    live.sandbox.ok(&["restore", "latest", "--key-file", "keys/admin.key", "--to", &to]);
}
