//! Faults that last, for each command and each kind of request that it makes.

use std::path::PathBuf;
use std::time::Duration;

use crate::common::proxy::{Proxy, Trouble};
use crate::common::server::{self, Running};
use crate::common::wire::Response;
use crate::sandbox::{Ran, SERVICE, Sandbox};
use crate::{Bucket, assert_restores, copy};

/// A kind of request: method and a part of its path or query.
type Point = (&'static str, &'static str);

const LIST: Point = ("GET", "list-type=2");
const FOR_EVER: u64 = u64::MAX;

/// SeaweedFS, a proxy before it, and who works with it.
struct Troubled {
    server: Running,
    proxy: Proxy,
    sandbox: Sandbox,
}

impl Troubled {
    async fn start() -> Option<Self> {
        let server = server::seaweedfs().await?;
        let proxy = Proxy::start(server.address).await;
        let mut sandbox = Sandbox::new();
        let direct = Bucket { url: "s3://bucket", settings: server.settings.clone(), family: "aws" };
        direct.ready().await;
        let settings = server.settings_at(&proxy.url());
        Bucket { url: "s3://bucket", settings, family: "aws" }.configure(&mut sandbox);
        sandbox.set("SIDEKEEP_RETRY_TIME", "0s");
        Some(Self { server, proxy, sandbox })
    }

    /// Runs a command while every request to `point` meets `trouble`.
    fn run(&self, (method, part): Point, trouble: Trouble, args: &[&str]) -> Ran {
        self.proxy.calm();
        self.proxy.trouble_at(method, part, FOR_EVER, trouble);
        let ran = self.sandbox.run(args);
        self.proxy.calm();
        for secret in ["test-secret", "test-key", "Signature"] {
            assert!(!ran.err.contains(secret) && !ran.out.contains(secret), "{}", ran.err);
        }
        ran
    }
}

fn answer(status: u16, code: &str) -> Trouble {
    Trouble::Answer(Response::error(status, code))
}

fn troubles() -> Vec<(&'static str, Trouble)> {
    vec![
        ("403", answer(403, "AccessDenied")),
        ("404 bucket", answer(404, "NoSuchBucket")),
        ("404 key", answer(404, "NoSuchKey")),
        ("409", answer(409, "OperationAborted")),
        ("412", answer(412, "PreconditionFailed")),
        ("429", answer(429, "TooManyRequests")),
        ("500", answer(500, "InternalError")),
        ("503", answer(503, "ServiceUnavailable")),
        ("slow down", answer(503, "SlowDown")),
        ("page", Trouble::Answer(Response::new(200, "<html>log in to the guest network</html>"))),
        ("cut before", Trouble::CutBefore),
        ("cut after", Trouble::CutAfter),
        ("stall", Trouble::Stall),
        ("short", Trouble::Short { missing_bytes: 1 }),
        ("slow", Trouble::Slow { piece_bytes: 64, pause: Duration::from_millis(500) }),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn explore() {
    let Some(troubled) = Troubled::start().await else { return };
    let t = &troubled;
    t.sandbox.sql("sync.db", SERVICE);
    let points = [
        ("HEAD", "sidekeep.json"),
        ("PUT", "probe"),
        ("PUT", "keys"),
        ("PUT", "sidekeep.json"),
        ("GET", "sidekeep.json"),
    ];
    for point in points {
        for (n, (name, trouble)) in troubles().into_iter().enumerate() {
            let repo = format!("s3://bucket/i{n}{}{}", point.0, point.1.len());
            let ran =
                t.run(point, trouble, &["init", &repo, "--keys-dir", &format!("k{n}{}{}", point.0, point.1.len())]);
            eprintln!("init {point:?} {name}: {} {}", ran.code, ran.err);
        }
    }
    t.sandbox.ok(&["init", "s3://bucket/r", "--source", "sqlite:sync.db", "--keys-dir", "keys"]);
    let _ = std::fs::remove_file(t.sandbox.path("sidekeep.toml"));
    t.sandbox.ok(&["init", "s3://bucket/r2", "--source", "sqlite:sync.db", "--keys-dir", "keys2"]);
    t.sandbox.ok(&["backup"]);
    let points = [
        ("GET", "sidekeep.json"),
        ("GET", "/roster/"),
        LIST,
        ("PUT", "/packs/"),
        ("PUT", "/sessions/"),
        ("PUT", "/index/"),
        ("PUT", "/manifests/"),
        ("PUT", "/ledger/"),
    ];
    for point in points {
        for (n, (name, trouble)) in troubles().into_iter().enumerate() {
            t.sandbox.sql("sync.db", &format!("UPDATE users SET name = 'x{n}{}' WHERE id = 1", point.1));
            let began = std::time::Instant::now();
            let ran = t.run(point, trouble, &["backup"]);
            eprintln!("backup {point:?} {name}: {} {:?} {}", ran.code, began.elapsed(), ran.err);
        }
    }
    t.sandbox.ok(&["backup"]);
    for point in [
        ("GET", "sidekeep.json"),
        ("GET", "/keys/"),
        LIST,
        ("GET", "/ledger/00"),
        ("GET", "/manifests/"),
        ("GET", "/packs/"),
    ] {
        for (n, (name, trouble)) in troubles().into_iter().enumerate() {
            let began = std::time::Instant::now();
            let ran = t.run(
                point,
                trouble,
                &["restore", "latest", "--to", &format!("{n}.sqlite"), "--key-file", "keys2/admin.key"],
            );
            let _ = std::fs::remove_file(t.sandbox.path(&format!("{n}.sqlite")));
            eprintln!("restore {point:?} {name}: {} {:?} {} {}", ran.code, began.elapsed(), ran.err, ran.out);
        }
    }
}
