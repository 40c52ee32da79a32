//! A session that is lost in the last transaction, after the server was told to commit it.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sidekeep::engine::contract::SourceError;
use sidekeep::engine::postgres::connect::address::Address;
use sidekeep::engine::postgres::connect::host_environment::HostEnvironment;
use sidekeep::engine::postgres::restore::{PostgresTarget, Resume, TargetOptions};
use sidekeep::ops::error::OpError;
use tempfile::TempDir;

use crate::support::postgres::cluster::Cluster;
use crate::support::postgres::compare::assert_same;
use crate::support::postgres::stage::{DATABASE, Stage, refused};

/// What becomes of sessions that are opened after the loss.
#[derive(Clone, Copy, PartialEq, Eq)]
enum After {
    Open,
    Closed,
}

/// A way to a server on which the answer to the last COMMIT never comes.
struct Way {
    dir: TempDir,
    port: u16,
    was_cut: Arc<AtomicBool>,
}

impl Way {
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
fn it_is_found_out_whether_the_last_step_was_done() {
    let Some(stage) = Stage::nasty() else { return };
    stage.cluster.create_database("copy", "TEMPLATE template0");
    let way = Way::to(&stage.cluster, After::Open);
    let report = stage.restore(&mut way.target("copy"), &[]).expect("a restore");
    assert!(way.was_cut.load(Ordering::SeqCst));
    assert_eq!(refused(&report), [""; 0]);
    assert_same((&stage.cluster, DATABASE), (&stage.cluster, "copy"));
}

#[test]
fn who_goes_on_with_what_is_whole_is_told_so() {
    let Some(stage) = Stage::nasty() else { return };
    stage.cluster.create_database("copy", "TEMPLATE template0");
    let way = Way::to(&stage.cluster, After::Closed);
    match stage.restore(&mut way.target("copy"), &[]) {
        Err(OpError::Source(SourceError::Lost { reason, .. })) => {
            assert!(reason.contains("--resume says whether it was done"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    assert_same((&stage.cluster, DATABASE), (&stage.cluster, "copy"));
    let options = TargetOptions { resume: Resume::GoOn, ..TargetOptions::default() };
    let again = stage.restore(&mut stage.target(&stage.cluster, "copy", options), &[]);
    assert!(matches!(again, Err(OpError::Source(SourceError::NothingToResume { .. }))), "{again:?}");
}
