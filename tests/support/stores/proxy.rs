//! A proxy in front of a real store that fails as networks and stores do. Each fault of the script is used up by the
//! requests that it matches. Other requests are forwarded.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::wire::{Reply, Request, Response, Server, forward};

/// What happens to a request.
#[derive(Clone, Debug)]
pub enum Trouble {
    /// The proxy sends this answer. The store does not see the request.
    Answer(Response),
    /// The connection is cut before the store sees the request.
    CutBefore,
    /// The store processes the request, then the connection is cut.
    CutAfter,
    /// The store processes the request, and the answer lacks its last `missing_bytes`.
    Short { missing_bytes: usize },
    /// The answer arrives in pieces, with pauses.
    Slow { piece_bytes: usize, pause: Duration },
    /// The whole answer arrives late.
    Late(Duration),
    /// There is never an answer, and the store does not see the request.
    Stall,
}

/// A trouble and the requests that it affects: by method (`PUT`, `GET`, ...) and a part of path or query.
#[derive(Clone, Debug)]
struct Step {
    method: &'static str,
    part: &'static str,
    left: u64,
    trouble: Trouble,
}

/// A proxy that runs until it is dropped.
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
            seen.lock().expect("not poisoned").push(format!("{} {}", request.method, request.target));
            let trouble = next(&mut steps.lock().expect("not poisoned"), &request);
            Box::pin(answer(upstream, request, trouble))
        });
        Self { server: server.await, script, requests }
    }

    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Affects the next `times` requests with `method`.
    pub fn trouble(&self, method: &'static str, times: u64, trouble: Trouble) {
        self.trouble_at(method, "", times, trouble);
    }

    /// Affects only requests with `part` in their path or query.
    pub fn trouble_at(&self, method: &'static str, part: &'static str, times: u64, trouble: Trouble) {
        self.script.lock().expect("not poisoned").push_back(Step { method, part, left: times, trouble });
    }

    /// Ends all trouble and forgets the recorded requests.
    pub fn calm(&self) {
        self.script.lock().expect("not poisoned").clear();
        self.requests.lock().expect("not poisoned").clear();
    }

    /// `METHOD target` of every request since the last call of [`Self::calm`].
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().expect("not poisoned").clone()
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
