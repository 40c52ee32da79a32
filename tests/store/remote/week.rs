//! The backups of a service in each kind of store: first, unchanged, changed, two at once, interrupted.

use std::process::Stdio;
use std::time::Duration;

use crate::remote::{Bucket, added, assert_restores, copy, count};
use crate::support::sandbox::{SERVICE, Sandbox, interrupt};
use crate::support::stores::proxy::{Proxy, Trouble};
use crate::support::stores::{gcs, server};

/// A thousand rows, and some values that become streams.
const MORE: &str = "
    WITH RECURSIVE n (at) AS (SELECT 1 UNION ALL SELECT at + 1 FROM n LIMIT 1000)
        INSERT INTO contacts SELECT 100 + at, 1 + at % 2, 'contact ' || at FROM n;
    INSERT INTO settings VALUES ('photo', randomblob(300000)), ('thumb', randomblob(40000));
";

const CHURN: &str = "
    UPDATE contacts SET name = 'renamed' WHERE id % 100 = 7;
    DELETE FROM contacts WHERE id = 3;
    INSERT INTO users VALUES (3, 'Cy');
    INSERT INTO contacts VALUES (5000, 3, 'new');
";

async fn keeps_a_database(bucket: &Bucket) {
    bucket.ready().await;
    let mut sandbox = Sandbox::new();
    bucket.configure(&mut sandbox);
    sandbox.sql("sync.db", SERVICE);
    sandbox.sql("sync.db", MORE);
    let first = copy(&sandbox, "sync.db", "first.db");
    sandbox.ok(&["init", &format!("{}/week/main", bucket.url), "--source", "sqlite:sync.db"]);
    let empty = bucket.names("week/main").await;
    assert_eq!(sandbox.json(&["backup"])["number"], 1);
    let one = bucket.names("week/main").await;
    assert!(count(&added(&empty, &one), "packs") >= 1);

    let report = sandbox.json(&["backup"]);
    assert_eq!((&report["number"], &report["new_bytes"]), (&2.into(), &0.into()));
    let two = bucket.names("week/main").await;
    let new = added(&one, &two);
    assert_eq!((new.len(), count(&new, "manifests"), count(&new, "ledger")), (2, 1, 1), "{new:?}");

    sandbox.sql("sync.db", CHURN);
    assert_eq!(sandbox.json(&["backup", "--tag", "churned"])["number"], 3);
    assert_restores(&sandbox, "latest", &sandbox.path("sync.db"));
    assert_restores(&sandbox, "churned", &sandbox.path("sync.db"));
    assert_restores(&sandbox, "latest~1", &first);
    assert_eq!(
        bucket.names("week").await.len(),
        bucket.names("week/main").await.len(),
        "all objects are below the prefix"
    );

    two_at_once(&sandbox, bucket).await;
    let missing = sandbox.fails(4, &["backup", "--repo", &format!("{}/week/other", bucket.url)]);
    assert!(missing.contains("week/other") && missing.contains("init"), "{missing}");
}

/// Backups of two sources never disturb each other. Of two backups of one source at least one commits, and one that
/// reports a failure adds no entry.
async fn two_at_once(sandbox: &Sandbox, bucket: &Bucket) {
    sandbox.sql("other.db", SERVICE);
    let start = |args: &[&str]| {
        let mut command = sandbox.command(args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs")
    };
    let ends = |child: std::process::Child| {
        let output = child.wait_with_output().expect("ends");
        (output.status.code().unwrap_or(-1), String::from_utf8(output.stderr).expect("UTF-8"))
    };
    let before = count(&bucket.names("week/main").await, "ledger");
    let running = [start(&["backup", "main"]), start(&["backup", "sqlite:other.db"])];
    for (code, err) in running.map(ends) {
        assert_eq!((code, err.as_str()), (0, ""));
    }
    let ended = [start(&["backup", "main"]), start(&["backup", "main"])].map(ends);
    let done = ended.iter().filter(|(code, _)| *code == 0).count();
    assert!(done >= 1, "{ended:?}");
    for (code, err) in &ended {
        assert!([0, 6].contains(code) && (*code == 0) == err.is_empty(), "{ended:?}");
    }
    let after = bucket.names("week/main").await;
    assert_eq!(count(&after, "ledger"), before + 2 + done);
    let to = ["--to", "main.sqlite", "--key-file", "keys/admin.key"];
    assert!(sandbox.fails(2, &[&["restore", "latest"], &to[..]].concat()).contains("--source"));
    sandbox.ok(&[&["restore", "latest", "--source", "main"], &to[..]].concat());
    crate::support::sqlite::assert_same_database(&sandbox.path("main.sqlite"), &sandbox.path("sync.db"));
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_keeps_a_database() {
    let Some(server) = server::seaweedfs().await else { return };
    keeps_a_database(&Bucket { url: "s3://bucket", settings: server.settings.clone(), family: "aws" }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn azure_keeps_a_database() {
    let Some(server) = server::azurite().await else { return };
    keeps_a_database(&Bucket { url: "az://bucket", settings: server.settings.clone(), family: "azure" }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn google_keeps_a_database() {
    let server = gcs::start().await;
    keeps_a_database(&Bucket { url: "gs://bucket", settings: gcs::settings(&server.url()), family: "google" }).await;
}

/// Five packs of random bytes, more than what may wait for upload.
const LARGE: &str = "
    CREATE TABLE photos (id INTEGER PRIMARY KEY, photo BLOB);
    WITH RECURSIVE n (at) AS (SELECT 1 UNION ALL SELECT at + 1 FROM n LIMIT 400)
        INSERT INTO photos SELECT at, randomblob(200000) FROM n;
";

#[tokio::test(flavor = "multi_thread")]
async fn uploads_of_an_interrupted_backup_are_reused() {
    let server = gcs::start().await;
    let proxy = Proxy::start(server.address).await;
    let bucket = Bucket { url: "gs://bucket", settings: gcs::settings(&proxy.url()), family: "google" };
    let mut sandbox = Sandbox::new();
    bucket.configure(&mut sandbox);
    sandbox.sql("sync.db", LARGE);
    sandbox.ok(&["init", "gs://bucket/large", "--source", "sqlite:sync.db"]);
    // Two packs are uploaded at a time. The rest cannot be read before one of them has arrived.
    proxy.trouble_at("PUT", "%2Fpacks%2F", 100, Trouble::Late(Duration::from_secs(1)));
    let mut command = sandbox.command(&["backup"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs");
    while count(&bucket.names("large").await, "sessions") == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    interrupt(&child);
    let output = child.wait_with_output().expect("ends");
    let err = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!((output.status.code(), output.stdout.len()), (Some(130), 0), "{err}");
    assert!(err.contains("interrupted") && err.contains("reused"), "{err}");
    let listed = bucket.store("large").list_sorted("").await.expect("lists");
    let names: Vec<&str> = listed.iter().map(|object| object.name.as_str()).collect();
    let uploaded: Vec<u64> = listed.iter().filter(|o| o.name.contains("/packs/")).map(|o| o.size_bytes).collect();
    assert_eq!((count(&names, "ledger"), count(&names, "manifests")), (0, 0), "{names:?}");

    proxy.calm();
    let report = sandbox.json(&["backup"]);
    assert_eq!((&report["number"], report["adopted"].as_u64()), (&1.into(), Some(uploaded.len() as u64)));
    // Padding is included, and no pack is stored twice.
    let stored = report["new_bytes"].as_u64().expect("a number") + uploaded.iter().sum::<u64>();
    assert!((80_000_000..84_000_000).contains(&stored), "nothing is stored twice: {uploaded:?} {report}");
    assert_restores(&sandbox, "latest", &sandbox.path("sync.db"));
}

/// Each machine reads an index fragment once, so the cost of a backup run depends on its changes and not on the number
/// of earlier runs. Altered or lost copies do no harm.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_reads_an_index_fragment_once() {
    let server = gcs::start().await;
    let proxy = Proxy::start(server.address).await;
    let bucket = Bucket { url: "gs://bucket", settings: gcs::settings(&proxy.url()), family: "google" };
    let mut sandbox = Sandbox::new();
    bucket.configure(&mut sandbox);
    sandbox.sql("sync.db", SERVICE);
    sandbox.ok(&["init", "gs://bucket/cached", "--source", "sqlite:sync.db"]);
    let mut seen = 0;
    let mut read = || {
        let requests = proxy.requests();
        let new = requests[seen..].iter().filter(|line| line.starts_with("GET") && line.contains("%2Findex%2F"));
        let count = new.filter(|line| !line.contains("prefix=")).count();
        seen = requests.len();
        count
    };
    for run in 1..=6 {
        sandbox.sql("sync.db", &format!("INSERT INTO users VALUES (100 + {run}, 'one more')"));
        assert_eq!(sandbox.json(&["backup"])["number"], run);
        assert_eq!(read(), usize::from(run > 1), "run {run}");
    }
    let mut copies = files(&sandbox.path(".cache/sidekeep"));
    copies.retain(|path| path.parent().is_some_and(|folder| folder.ends_with("index")));
    assert_eq!(copies.len(), 5, "{copies:?}");
    std::fs::write(&copies[0], "altered").expect("writes");
    std::fs::remove_file(&copies[1]).expect("removes");
    sandbox.ok(&["backup"]);
    assert_eq!(read(), 3);
    sandbox.ok(&["backup", "--cache-dir", "elsewhere"]);
    assert_eq!(read(), 6);
    assert_restores(&sandbox, "latest", &sandbox.path("sync.db"));
}

/// All files below a directory, sorted.
fn files(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("reads") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}
