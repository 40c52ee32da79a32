//! A proxy to a server that stops after a given number of bytes, until it is opened or cut. A test uses it to act at a
//! known moment in the middle of a backup or restore.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const FROM_SERVER: u8 = 0;
const TO_SERVER: u8 = 1;

const LIMITED: u8 = 0;
const OPEN: u8 = 1;
const CUT: u8 = 2;

/// The proxy. It runs until the process ends.
pub struct Wire {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: AtomicU8,
    /// Number of bytes that may pass in each connection, in the counted direction.
    limit: AtomicU64,
    counted: AtomicU8,
    /// Number of connections that have reached the limit and wait.
    starved: AtomicU64,
    streams: Mutex<Vec<TcpStream>>,
}

impl Wire {
    /// A proxy to the server on this port that passes `bytes` from the server in each connection.
    pub fn to(server: u16, bytes: u64) -> Self {
        Self::limited(server, bytes, FROM_SERVER)
    }

    /// A proxy to the server on this port that passes `bytes` to the server in each connection.
    pub fn from(server: u16, bytes: u64) -> Self {
        Self::limited(server, bytes, TO_SERVER)
    }

    fn limited(server: u16, bytes: u64, counted: u8) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::new(Shared::default());
        shared.limit.store(bytes, Ordering::SeqCst);
        shared.counted.store(counted, Ordering::SeqCst);
        let of_all = Arc::clone(&shared);
        std::thread::spawn(move || {
            for near in listener.incoming() {
                let (Ok(near), Ok(far)) = (near, TcpStream::connect(("127.0.0.1", server))) else { continue };
                of_all.add(&near, &far);
            }
        });
        Self { port, shared }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Waits until a connection has reached the limit and has more bytes to pass.
    pub fn wait(&self) {
        let begun = Instant::now();
        while self.shared.starved.load(Ordering::SeqCst) == 0 {
            assert!(begun.elapsed() < Duration::from_secs(60), "no connection reached the limit");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Lets everything pass from now on.
    pub fn open(&self) {
        self.shared.state.store(OPEN, Ordering::SeqCst);
    }

    /// Cuts every connection.
    pub fn cut(&self) {
        self.shared.state.store(CUT, Ordering::SeqCst);
        for stream in self.shared.streams.lock().expect("unpoisoned").drain(..) {
            stream.shutdown(Shutdown::Both).ok();
        }
    }
}

impl Shared {
    fn add(self: &Arc<Self>, near: &TcpStream, far: &TcpStream) {
        let clone = |stream: &TcpStream| stream.try_clone().expect("a stream");
        self.streams.lock().expect("unpoisoned").extend([clone(near), clone(far)]);
        for (way, mut from, mut to) in [(TO_SERVER, clone(near), clone(far)), (FROM_SERVER, clone(far), clone(near))] {
            let shared = Arc::clone(self);
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                let mut passed = 0;
                while let Ok(read @ 1..) = from.read(&mut buffer) {
                    if shared.counted.load(Ordering::SeqCst) == way {
                        passed += read as u64;
                    }
                    if !shared.may_pass(passed) || to.write_all(&buffer[..read]).is_err() {
                        break;
                    }
                }
                to.shutdown(Shutdown::Both).ok();
            });
        }
    }

    fn may_pass(&self, bytes: u64) -> bool {
        let mut waits = false;
        loop {
            match self.state.load(Ordering::SeqCst) {
                LIMITED if bytes > self.limit.load(Ordering::SeqCst) => {}
                CUT => return false,
                _ => return true,
            }
            if !std::mem::replace(&mut waits, true) {
                self.starved.fetch_add(1, Ordering::SeqCst);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}
