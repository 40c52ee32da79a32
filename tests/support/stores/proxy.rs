//! A proxy before a real store that fails as networks and stores do. Each fault of the script is
//! used up by the first request that it fits; what no fault fits is passed on.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::wire::{Reply, Request, Response, Server, forward};

/// What happens to a request.
#[derive(Clone, Debug)]
pub enum Trouble {
    /// The store answers this, and has done nothing.
    Answer(Response),
    /// The connection is cut, and the store has not seen the request.
    CutBefore,
    /// The store does as asked, then the connection is cut.
    CutAfter,
    /// The store does as asked and its answer ends before its last `missing_bytes`.
    Short { missing_bytes: usize },
    /// The answer comes in pieces with pauses.
    Slow { piece_bytes: usize, pause: Duration },
    /// The whole answer comes late.
    Late(Duration),
    /// No answer, ever; the store has not seen the request.
    Stall,
}

/// A trouble and the requests that it hits: by method (`PUT`, `GET`, ...) and a part of path or query.
#[derive(Clone, Debug)]
struct Step {
    method: &'static str,
    part: &'static str,
    left: u64,
    trouble: Trouble,
}

/// The proxy, until it is dropped.
pub struct Proxy {
    server: Server,
    script: Arc<Mutex<VecDeque<Step>>>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    pub async fn start(upstream: SocketAddr) -> Self {
        let script: Arc<Mutex<VecDeque<Step>>> = Arc::default();
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let (steps, seen) = (Arc::clone(&script), Arc::clone(&requests));
        let server = Server::start(move |request| {
            seen.lock().expect("unpoisoned").push(format!("{} {}", request.method, request.target));
            let trouble = next(&mut steps.lock().expect("unpoisoned"), &request);
            Box::pin(answer(upstream, request, trouble))
        });
        Self { server: server.await, script, requests }
    }

    pub fn url(&self) -> String {
        self.server.url()
    }

    /// The next `times` requests of `method` meet `trouble`.
    pub fn trouble(&self, method: &'static str, times: u64, trouble: Trouble) {
        self.trouble_at(method, "", times, trouble);
    }

    /// The same for requests with `part` in their path or query.
    pub fn trouble_at(&self, method: &'static str, part: &'static str, times: u64, trouble: Trouble) {
        self.script.lock().expect("unpoisoned").push_back(Step { method, part, left: times, trouble });
    }

    /// Ends all trouble, and forgets the requests seen.
    pub fn calm(&self) {
        self.script.lock().expect("unpoisoned").clear();
        self.requests.lock().expect("unpoisoned").clear();
    }

    /// `METHOD target` of every request since the last calm.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().expect("unpoisoned").clone()
    }
}

fn next(steps: &mut VecDeque<Step>, request: &Request) -> Option<Trouble> {
    let hits = |step: &Step| step.method == request.method && request.target.contains(step.part);
    let at = steps.iter().position(hits)?;
    let step = &mut steps[at];
    step.left -= 1;
    let trouble = step.trouble.clone();
    if step.left == 0 {
        steps.remove(at);
    }
    Some(trouble)
}

async fn answer(upstream: SocketAddr, request: Request, trouble: Option<Trouble>) -> Reply {
    match &trouble {
        Some(Trouble::Answer(response)) => return response.clone().into(),
        Some(Trouble::CutBefore) => return Reply::Cut,
        Some(Trouble::Stall) => return Reply::Stall,
        _ => {}
    }
    let Ok(mut bytes) = forward(upstream, &request).await else { return Reply::Cut };
    match trouble {
        Some(Trouble::CutAfter) => Reply::Cut,
        Some(Trouble::Short { missing_bytes }) => {
            bytes.truncate(bytes.len() - missing_bytes);
            Reply::Raw(bytes)
        }
        Some(Trouble::Slow { piece_bytes, pause }) => Reply::Slow { bytes, piece_bytes, pause },
        Some(Trouble::Late(pause)) => Reply::Slow { piece_bytes: bytes.len(), bytes, pause },
        _ => Reply::Raw(bytes),
    }
}
