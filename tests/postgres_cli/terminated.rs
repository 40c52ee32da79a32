//! Somebody on the server terminates one of the program's sessions, or cancels its current statement.

use std::process::Stdio;

use crate::killed::{self, ROWS, assert_resumes, is_at, restore, until};
use crate::middle::{assert_healthy, assert_sessions_end, begin_with, end, live, wire};
use crate::support::postgres::service::Live;
use crate::wire::Wire;

const TERMINATE: &str = "pg_terminate_backend";
const CANCEL: &str = "pg_cancel_backend";

/// Terminates the program's only session that meets the condition, or cancels its statement.
fn end_session(live: &Live, how: &str, condition: &str) {
    let sql = format!("SELECT {how}(pid) FROM pg_stat_activity WHERE application_name = 'sidekeep' AND {condition}");
    assert_eq!(live.cluster.sql("postgres", &sql), [[Some("t".to_owned())]], "{how} {condition}");
}

#[test]
fn a_backup_fails_if_a_session_is_ended_and_the_next_one_succeeds() {
    let Some(live) = live(&[]) else { return };
    live.sandbox.ok(&["backup"]);
    for (snapshots, (how, condition, said)) in (1..).zip([
        // The server cannot send a message while it waits for the client to receive rows.
        (TERMINATE, "state = 'active' AND query LIKE 'COPY%'", &["lost the server while reading public.blobs: "][..]),
        (
            CANCEL,
            "state = 'active' AND query LIKE 'COPY%'",
            &["reading public.blobs: canceling statement due to user request"],
        ),
        // The server's message is lost if the next statement finds the socket closed.
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
        wire.open();
        let (code, out, err) = end(child);
        assert_eq!((code, out.as_str()), (7, ""), "{err}");
        let names_it = said.iter().any(|said| err.contains(said));
        assert!(err.contains("error: lost the server while ") && names_it, "{err}");
        assert!(err.contains("in its log what ended the session") && err.contains("run a backup again"), "{err}");
        assert_sessions_end(&live.cluster);
        assert_healthy(&live, snapshots);
    }
}

#[test]
fn a_backup_continues_if_an_idle_session_is_ended() {
    let Some(live) = live(&[]) else { return };
    for (how, condition) in [(TERMINATE, "query LIKE 'WITH waiting%'"), (CANCEL, "state = 'idle in transaction'")] {
        let wire = wire(&live);
        let child = begin_with(&live, &wire, &["backup", "--workers", "2"]);
        let met = format!("SELECT 1 FROM pg_stat_activity WHERE application_name = 'sidekeep' AND {condition}");
        until(|| !live.sql(&met).is_empty());
        end_session(&live, how, condition);
        wire.open();
        let (code, out, err) = end(child);
        assert_eq!((code, err.as_str()), (0, ""), "{out}");
    }
}

#[test]
fn a_restore_resumes_after_a_session_was_ended() {
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
            assert!(err.contains("resume a restore with --resume"), "{err}");
            assert_sessions_end(&live.cluster);
        };
        let wire = Wire::from(live.cluster.port(), ROWS);
        let child = begin(&format!("postgres://postgres@127.0.0.1:{}/{database}", wire.port()));
        wire.wait();
        end_session(&live, how, &format!("datname = '{database}' AND state = 'active' AND query LIKE 'COPY%'"));
        wire.open();
        ended(child);

        let builds = is_at(database, "CREATE INDEX slow ON");
        let to = live.cluster.dsn(database);
        let args = restore(&to, &["--resume", "--workers", "1"]);
        let child = live.sandbox.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs");
        until(|| builds(&live));
        end_session(&live, how, &format!("datname = '{database}' AND state = 'active' AND query LIKE '%INDEX slow%'"));
        ended(child);
        assert_resumes(&live, database);
    }
}
