//! Lasting faults at each kind of request that a command makes. Expects a documented exit code, and a message that
//! names the object and says what to do, without credentials. Nothing is left half done, and earlier snapshots stay
//! intact.

use std::path::PathBuf;
use std::time::Duration;

use crate::remote::{Bucket, assert_restores, copy, count};
use crate::support::sandbox::{Ran, SERVICE, Sandbox};
use crate::support::stores::proxy::{Proxy, Trouble};
use crate::support::stores::server::{self, Running};
use crate::support::stores::wire::Response;

/// A kind of request: method, part of its path or query, and how a message describes it.
type Point = (&'static str, &'static str, &'static str);

pub const FOR_EVER: u64 = u64::MAX;
const DESCRIPTOR: Point = ("GET", "/sidekeep.json", "reading sidekeep.json");
const LIST: Point = ("GET", "list-type=2", "listing roster");
const LEDGER: Point = ("GET", "/ledger/", "/ledger/0000000001");

/// SeaweedFS, a proxy in front of it, and a sandbox that works with it through the proxy.
pub struct Troubled {
    server: Running,
    pub proxy: Proxy,
    pub sandbox: Sandbox,
}

impl Troubled {
    /// Starts without a repository, but with a database `sync.db`.
    pub async fn start() -> Option<Self> {
        let server = server::seaweedfs().await?;
        let proxy = Proxy::start(server.address).await;
        let mut sandbox = Sandbox::new();
        let settings = server.settings_at(&proxy.url());
        Bucket { url: "s3://bucket", settings, family: "aws" }.configure(&mut sandbox);
        // A lasting fault is not worth a retry.
        sandbox.set("SIDEKEEP_RETRY_TIME", "0s");
        sandbox.sql("sync.db", SERVICE);
        let troubled = Self { server, proxy, sandbox };
        troubled.bucket().ready().await;
        Some(troubled)
    }

    /// Starts with a repository at `s3://bucket/repo`.
    pub async fn with_repository() -> Option<Self> {
        let troubled = Self::start().await?;
        troubled.sandbox.ok(&["init", "s3://bucket/repo", "--source", "sqlite:sync.db"]);
        Some(troubled)
    }

    /// The bucket without the proxy.
    pub fn bucket(&self) -> Bucket {
        Bucket { url: "s3://bucket", settings: self.server.settings.clone(), family: "aws" }
    }

    /// The number of ledger entries in the repository.
    pub async fn entries(&self) -> usize {
        count(&self.bucket().names("repo").await, "ledger")
    }

    /// Runs a command, then ends all trouble.
    pub fn run(&self, args: &[&str]) -> Ran {
        let ran = self.sandbox.run(args);
        self.proxy.calm();
        for secret in ["test-secret", "test-key", "Signature"] {
            assert!(!ran.err.contains(secret) && !ran.out.contains(secret), "{}", ran.err);
        }
        ran
    }

    /// Runs a command that must fail as `case` says.
    fn fails(&self, point: Point, case: &Case, args: &[&str]) {
        self.proxy.trouble_at(point.0, point.1, FOR_EVER, case.trouble.clone());
        let ran = self.run(args);
        let what = format!("{} at {point:?}: {} {}", case.name, ran.code, ran.err);
        assert_eq!((ran.code, ran.out.as_str()), (case.code, ""), "{what}");
        // A missing bucket is named instead of an object.
        let object = if case.code == 4 { "s3://bucket" } else { point.2 };
        assert!(case.words.iter().chain([&object]).all(|word| ran.err.contains(word)), "{what}");
        assert!(ran.err.starts_with("error: ") && ran.err.contains("\nhint: "), "{what}");
    }

    /// Names of the files in the sandbox.
    fn files(&self) -> Vec<PathBuf> {
        let entries = self.sandbox.dir.path().read_dir().expect("reads");
        let mut files: Vec<_> = entries.map(|entry| entry.expect("reads").path()).collect();
        files.sort();
        files
    }
}

/// A trouble, and what a command that meets it reports.
#[derive(Clone)]
struct Case {
    name: &'static str,
    trouble: Trouble,
    code: i32,
    words: &'static [&'static str],
}

pub fn answer(status: u16, code: &str) -> Trouble {
    Trouble::Answer(Response::error(status, code))
}

/// Faults of any request.
fn refusals() -> Vec<Case> {
    let case = |name, trouble, code, words| Case { name, trouble, code, words };
    vec![
        case("403", answer(403, "AccessDenied"), 7, &["refused", "403: AccessDenied", "credentials"]),
        case("404", answer(404, "NoSuchBucket"), 4, &["s3://bucket", "NoSuchBucket", "check the location"]),
        case("409", answer(409, "OperationAborted"), 7, &["409", "OperationAborted"]),
        case("412", answer(412, "PreconditionFailed"), 7, &["412", "PreconditionFailed"]),
        case("429", answer(429, "TooManyRequests"), 7, &["fewer requests", "429", "again"]),
        case("500", answer(500, "InternalError"), 7, &["status 500", "again"]),
        case("503", answer(503, "SlowDown"), 7, &["fewer requests", "503", "again"]),
        case("cut", Trouble::CutBefore, 7, &["connection closed", "again"]),
    ]
}

/// Faults of an answer that is read.
fn bad_answers() -> Vec<Case> {
    let slow = Trouble::Slow { piece_bytes: 64, pause: Duration::from_millis(700) };
    let case = |name, trouble, words| Case { name, trouble, code: 7, words };
    vec![
        case("lost", Trouble::CutAfter, &["connection closed", "--retry-time"]),
        case("short", Trouble::Short { missing_bytes: 1 }, &["does not answer", "end of file", "--retry-time"]),
        case("slow", slow, &["does not answer", "timed out", "--retry-time"]),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_init_that_fails_leaves_no_key_and_no_repository() {
    let Some(troubled) = Troubled::start().await else { return };
    // Answers to HEAD have no error page.
    troubled.fails(("HEAD", "", "the size of sidekeep.json"), &refusals()[7], &["init", "s3://bucket/repo"]);
    for point in [
        ("PUT", "/probe/", "creating probe/"),
        ("PUT", "/keys/", "creating keys/000001/"),
        ("PUT", "/roster/", "creating roster/0000000001"),
        ("PUT", "/sidekeep.json", "creating sidekeep.json"),
    ] {
        for (at, case) in refusals().iter().enumerate() {
            let prefix = format!("{at}{}", point.1.replace('/', "-"));
            troubled.fails(point, case, &["init", &format!("s3://bucket/{prefix}")]);
            assert!(!troubled.bucket().names(&prefix).await.contains(&"sidekeep.json".to_owned()));
        }
    }
    assert!(!troubled.sandbox.path("keys").exists());
    assert!(!troubled.sandbox.path("sidekeep.toml").exists());
    let stalled = Case { name: "stall", trouble: Trouble::Stall, code: 7, words: &["no answer within"] };
    troubled.fails(("PUT", "/probe/", "probe/"), &stalled, &["init", "s3://bucket/repo"]);
    troubled.sandbox.ok(&["init", "s3://bucket/repo"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_fails_commits_nothing() {
    let Some(troubled) = Troubled::with_repository().await else { return };
    troubled.sandbox.ok(&["backup"]);
    let whole = copy(&troubled.sandbox, "sync.db", "whole.db");
    let mut changes = 0;
    let mut fails = |point: Point, case: &Case| {
        changes += 1;
        troubled.sandbox.sql("sync.db", &format!("UPDATE users SET name = 'Ana {changes}' WHERE id = 1"));
        troubled.fails(point, case, &["backup"]);
    };
    for point in [DESCRIPTOR, LIST, ("GET", "/roster/", "reading roster/0000000001"), LEDGER] {
        refusals().iter().chain(&bad_answers()).for_each(|case| fails(point, case));
    }
    let puts = [
        ("PUT", "/packs/", "/packs/"),
        ("PUT", "/sessions/", "/sessions/"),
        ("PUT", "/index/", "/index/"),
        ("PUT", "/manifests/", "/manifests/"),
        ("PUT", "/ledger/", "/ledger/0000000002"),
    ];
    for point in puts {
        refusals().iter().for_each(|case| fails(point, case));
    }
    for point in [puts[0], puts[4]] {
        fails(point, &Case { name: "stall", trouble: Trouble::Stall, code: 7, words: &["no answer within"] });
    }
    assert_eq!(troubled.entries().await, 1);
    assert_restores(&troubled.sandbox, "latest", &whole);
    // Objects uploaded by failed backups are reused.
    let report = troubled.sandbox.json(&["backup"]);
    assert_eq!(report["number"], 2);
    assert!(report["adopted"].as_u64() > Some(0), "{report}");
    assert_restores(&troubled.sandbox, "latest", &troubled.sandbox.path("sync.db"));
    assert_restores(&troubled.sandbox, "latest~1", &whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_fails_leaves_nothing_behind() {
    let Some(troubled) = Troubled::with_repository().await else { return };
    troubled.sandbox.sql("sync.db", "INSERT INTO settings VALUES ('photo', randomblob(300000));");
    troubled.sandbox.ok(&["backup"]);
    let restore = ["restore", "latest", "--to", "out.sqlite", "--key-file", "keys/admin.key"];
    let before = troubled.files();
    let objects = [
        ("GET", "/keys/", "keys/000001/"),
        LEDGER,
        ("GET", "/manifests/", "/manifests/"),
        ("GET", "/packs/", "/packs/"),
    ];
    for point in objects.into_iter().chain([DESCRIPTOR, LIST]) {
        for case in refusals().iter().chain(&bad_answers()) {
            troubled.fails(point, case, &restore);
            assert_eq!(troubled.files(), before, "{} at {point:?}", case.name);
        }
    }
    // If a pack is missing, only its rows are lost: `tests/damage/matrix.rs` tests that.
    for point in &objects[..3] {
        let gone = Case { name: "gone", trouble: answer(404, "NoSuchKey"), code: 1, words: &["missing", "verify"] };
        troubled.fails(*point, &gone, &restore);
        assert_eq!(troubled.files(), before);
    }
    assert_restores(&troubled.sandbox, "latest", &troubled.sandbox.path("sync.db"));
}

/// A captive portal or a proxy may answer in place of the store.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_from_another_server_is_neither_a_repository_nor_a_success() {
    let Some(troubled) = Troubled::with_repository().await else { return };
    let page = || Trouble::Answer(Response::new(200, "<html>Welcome to our guest network</html>"));
    let wrong = |code, words| Case { name: "page", trouble: page(), code, words };
    let anything = ("GET", "", "sidekeep.json");
    troubled.fails(anything, &wrong(1, &["is not a Sidekeep object", "check the location"]), &["backup"]);
    for part in ["/packs/", "/manifests/", "/ledger/"] {
        troubled.fails(("PUT", part, "creating "), &wrong(7, &["store's own tools"]), &["backup"]);
    }
    assert_eq!(troubled.entries().await, 0);
    assert_eq!(troubled.sandbox.json(&["backup"])["number"], 1);
}
