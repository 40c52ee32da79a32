//! A proxy to a server that breaks: a socket in front of the server's socket. It passes a given number of messages from
//! all clients together. Then it cuts every connection and accepts no more.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use sidekeep::engine::postgres::connect::address::Address;
use sidekeep::engine::postgres::connect::host_environment::HostEnvironment;
use tempfile::TempDir;

use crate::support::postgres::cluster::Cluster;

pub struct BreakingProxy {
    dir: TempDir,
    port: u16,
    state: Arc<State>,
}

struct State {
    server: PathBuf,
    left: AtomicI64,
    broken: AtomicBool,
    streams: Mutex<Vec<UnixStream>>,
}

impl State {
    fn pump(&self, mut from: UnixStream, mut to: UnixStream, counted: bool) {
        let mut buffer = vec![0; 16 << 10];
        while let Ok(len) = from.read(&mut buffer) {
            if len == 0 || counted && self.left.fetch_sub(1, Ordering::SeqCst) <= 0 {
                break;
            }
            if to.write_all(&buffer[..len]).is_err() {
                break;
            }
        }
        if counted && self.left.load(Ordering::SeqCst) <= 0 {
            self.broken.store(true, Ordering::SeqCst);
            self.streams.lock().expect("streams").iter().for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
        }
        from.shutdown(Shutdown::Both).ok();
        to.shutdown(Shutdown::Both).ok();
    }
}

impl BreakingProxy {
    /// A proxy that breaks after `messages` reads from clients.
    pub fn after(cluster: &Cluster, messages: i64) -> Self {
        let dir = TempDir::new().expect("a directory");
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).expect("a mode");
        let socket = format!(".s.PGSQL.{}", cluster.port());
        let listener = UnixListener::bind(dir.path().join(&socket)).expect("a socket");
        let state = Arc::new(State {
            server: cluster.socket_dir().join(&socket),
            left: AtomicI64::new(messages),
            broken: AtomicBool::new(false),
            streams: Mutex::default(),
        });
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let Ok(client) = client else { return };
                if shared.broken.load(Ordering::SeqCst) {
                    continue;
                }
                let server = UnixStream::connect(&shared.server).expect("the server's socket");
                for (from, to, counted) in [(&client, &server, true), (&server, &client, false)] {
                    let copy = |stream: &UnixStream| stream.try_clone().expect("a handle");
                    let (from, to, state) = (copy(from), copy(to), Arc::clone(&shared));
                    shared.streams.lock().expect("streams").push(copy(&from));
                    std::thread::spawn(move || state.pump(from, to, counted));
                }
            }
        });
        Self { dir, port: cluster.port(), state }
    }

    pub fn address(&self, database: &str) -> Address {
        let host = self.dir.path().display().to_string().replace('/', "%2F");
        let url = format!("postgres://postgres@{host}:{}/{database}", self.port);
        Address::parse(&url, &HostEnvironment::new([])).expect("an address")
    }

    /// Number of messages that can still pass.
    pub fn left(&self) -> i64 {
        self.state.left.load(Ordering::SeqCst)
    }
}
