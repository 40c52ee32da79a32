//! Loss of the session in the last transaction of a restore, after the COMMIT was sent.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sidekeep::engine::contract::EngineError;
use sidekeep::engine::postgres::connect::address::Address;
use sidekeep::engine::postgres::connect::host_environment::HostEnvironment;
use sidekeep::engine::postgres::restore::{PostgresTarget, Resume, TargetOptions};
use sidekeep::ops::error::OpError;
use tempfile::TempDir;

use crate::support::postgres::cluster::Cluster;
use crate::support::postgres::compare::assert_same;
use crate::support::postgres::stage::{DATABASE, Stage, refused};

/// Whether sessions can be opened after the loss.
#[derive(Clone, Copy, PartialEq, Eq)]
enum After {
    Open,
    Closed,
}

/// A proxy to a server that drops the answer to the last COMMIT.
struct DroppingProxy {
    dir: TempDir,
    port: u16,
    was_cut: Arc<AtomicBool>,
}

impl DroppingProxy {
    fn to(cluster: &Cluster, after: After) -> Self {
        let dir = TempDir::new().expect("a directory");
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).expect("a mode");
        let socket = format!(".s.PGSQL.{}", cluster.port());
        let listener = UnixListener::bind(dir.path().join(&socket)).expect("a socket");
        let server = cluster.socket_dir().join(&socket);
        let was_cut = Arc::new(AtomicBool::new(false));
        let shared = Arc::clone(&was_cut);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let Ok(client) = client else { return };
                if after == After::Closed && shared.load(Ordering::SeqCst) {
                    continue;
                }
                let server = UnixStream::connect(&server).expect("the server's socket");
                let asked = Arc::new(AtomicBool::new(false));
                let copy = |stream: &UnixStream| stream.try_clone().expect("a handle");
                let (near, far, told) = (copy(&client), copy(&server), Arc::clone(&asked));
                std::thread::spawn(move || to_server(near, far, &told));
                let was_cut = Arc::clone(&shared);
                std::thread::spawn(move || from_server(server, client, &asked, &was_cut));
            }
        });
        Self { dir, port: cluster.port(), was_cut }
    }

    fn target(&self, database: &str) -> PostgresTarget {
        let host = self.dir.path().display().to_string().replace('/', "%2F");
        let url = format!("postgres://postgres@{host}:{}/{database}", self.port);
        let address = Address::parse(&url, &HostEnvironment::new([])).expect("an address");
        PostgresTarget::new(address, TargetOptions::default())
    }
}

fn to_server(mut from: UnixStream, mut to: UnixStream, asked: &AtomicBool) {
    let (mut buffer, mut ends) = (vec![0; 64 << 10], false);
    while let Ok(len @ 1..) = from.read(&mut buffer) {
        let has = |words: &[u8]| buffer[..len].windows(words.len()).any(|window| window == words);
        ends |= has(b"DROP SCHEMA sidekeep_restore");
        asked.fetch_or(ends && has(b"COMMIT"), Ordering::SeqCst);
        if to.write_all(&buffer[..len]).is_err() {
            break;
        }
    }
    to.shutdown(Shutdown::Both).ok();
}

fn from_server(mut from: UnixStream, mut to: UnixStream, asked: &AtomicBool, was_cut: &AtomicBool) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(len @ 1..) = from.read(&mut buffer) {
        if asked.load(Ordering::SeqCst) {
            was_cut.store(true, Ordering::SeqCst);
            break;
        }
        if to.write_all(&buffer[..len]).is_err() {
            break;
        }
    }
    to.shutdown(Shutdown::Both).ok();
    from.shutdown(Shutdown::Both).ok();
}

#[test]
fn a_lost_answer_to_the_last_commit_is_resolved() {
    let Some(stage) = Stage::nasty() else { return };
    stage.cluster.create_database("copy", "TEMPLATE template0");
    let proxy = DroppingProxy::to(&stage.cluster, After::Open);
    let report = stage.restore(&mut proxy.target("copy"), &[]).expect("a restore");
    assert!(proxy.was_cut.load(Ordering::SeqCst));
    assert_eq!(refused(&report), [""; 0]);
    assert_same((&stage.cluster, DATABASE), (&stage.cluster, "copy"));
}

#[test]
fn resuming_a_complete_restore_reports_nothing_to_resume() {
    let Some(stage) = Stage::nasty() else { return };
    stage.cluster.create_database("copy", "TEMPLATE template0");
    let proxy = DroppingProxy::to(&stage.cluster, After::Closed);
    match stage.restore(&mut proxy.target("copy"), &[]) {
        Err(OpError::Engine(EngineError::Lost { reason, .. })) => {
            assert!(reason.contains("run again with --resume to find out whether it was done"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    assert_same((&stage.cluster, DATABASE), (&stage.cluster, "copy"));
    let options = TargetOptions { resume: Resume::Continue, ..TargetOptions::default() };
    let again = stage.restore(&mut stage.target(&stage.cluster, "copy", options), &[]);
    assert!(matches!(again, Err(OpError::Engine(EngineError::NothingToResume { .. }))), "{again:?}");
}
