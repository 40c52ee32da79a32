//! Somebody on the server ends one of our sessions, or what it does just then.

use std::process::Stdio;

use crate::killed::{self, ROWS, goes_on, is_at, restore, until};
use crate::middle::{all_is_well, begin_with, end, gone_soon, live, wire};
use crate::support::postgres::service::Live;
use crate::wire::Wire;

const TERMINATE: &str = "pg_terminate_backend";
const CANCEL: &str = "pg_cancel_backend";

/// Ends the one session of ours that meets the condition, or its statement.
fn end_session(live: &Live, how: &str, condition: &str) {
    let sql = format!("SELECT {how}(pid) FROM pg_stat_activity WHERE application_name = 'sidekeep' AND {condition}");
    assert_eq!(live.cluster.sql("postgres", &sql), [[Some("t".to_owned())]], "{how} {condition}");
}

#[test]
fn a_backup_ends_and_the_next_one_is_taken() {
    let Some(live) = live(&[]) else { return };
    live.sandbox.ok(&["backup"]);
    for (snapshots, (how, condition, said)) in (1..).zip([
        // A server that waits for us to take its rows has no way to say more.
        (TERMINATE, "state = 'active' AND query LIKE 'COPY%'", &["lost the server while reading public.blobs: "][..]),
        (
            CANCEL,
            "state = 'active' AND query LIKE 'COPY%'",
            &["reading public.blobs: canceling statement due to user request"],
        ),
        // What it said is lost when our next statement reaches a socket that is closed already.
        (
            TERMINATE,
            "state = 'idle in transaction'",
            &["terminating connection due to administrator command", "connection closed"],
        ),
    ]) {
        let wire = wire(&live);
        let child = begin_with(&live, &wire, &["backup", "--workers", "2"]);
        until(|| !live.sql("SELECT 1 FROM pg_stat_activity WHERE state = 'idle in transaction'").is_empty());
        end_session(&live, how, condition);
        wire.go_on();
        let (code, out, err) = end(child);
        assert_eq!((code, out.as_str()), (7, ""), "{err}");
        let names_it = said.iter().any(|said| err.contains(said));
        assert!(err.contains("error: lost the server while ") && names_it, "{err}");
        assert!(err.contains("in its log who ended the session") && err.contains("a backup is run again"), "{err}");
        gone_soon(&live.cluster);
        all_is_well(&live, snapshots);
    }
}

#[test]
fn a_backup_goes_on_without_those_who_do_nothing() {
    let Some(live) = live(&[]) else { return };
    for (how, condition) in [(TERMINATE, "query LIKE 'WITH waiting%'"), (CANCEL, "state = 'idle in transaction'")] {
        let wire = wire(&live);
        let child = begin_with(&live, &wire, &["backup", "--workers", "2"]);
        let met = format!("SELECT 1 FROM pg_stat_activity WHERE application_name = 'sidekeep' AND {condition}");
        until(|| !live.sql(&met).is_empty());
        end_session(&live, how, condition);
        wire.go_on();
        let (code, out, err) = end(child);
        assert_eq!((code, err.as_str()), (0, ""), "{out}");
    }
}

#[test]
fn a_restore_goes_on_with_resume() {
    let Some(live) = killed::live() else { return };
    for (database, how) in [("terminated", TERMINATE), ("cancelled", CANCEL)] {
        live.cluster.create_database(database, "TEMPLATE template0");
        let begin = |to: &str| {
            let args = restore(to, &["--workers", "1"]);
            live.sandbox.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs")
        };
        let ended = |child| {
            let (code, out, err) = end(child);
            assert_eq!((code, out.as_str()), (7, ""), "{err}");
            assert!(err.contains("a restore goes on by --resume"), "{err}");
            gone_soon(&live.cluster);
        };
        let wire = Wire::from(live.cluster.port(), ROWS);
        let child = begin(&format!("postgres://postgres@127.0.0.1:{}/{database}", wire.port()));
        wire.wait();
        end_session(&live, how, &format!("datname = '{database}' AND state = 'active' AND query LIKE 'COPY%'"));
        wire.go_on();
        ended(child);

        let builds = is_at(database, "CREATE INDEX slow ON");
        let to = live.cluster.dsn(database);
        let args = restore(&to, &["--resume", "--workers", "1"]);
        let child = live.sandbox.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs");
        until(|| builds(&live));
        end_session(&live, how, &format!("datname = '{database}' AND state = 'active' AND query LIKE '%INDEX slow%'"));
        ended(child);
        goes_on(&live, database);
    }
}
