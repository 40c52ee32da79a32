//! Lost answers: completed requests count, nothing is done twice, and an unknown outcome is reported as unknown.

use std::time::Duration;

use crate::remote::faults::{FOR_EVER, Troubled, answer};
use crate::remote::{assert_restores, copy, count};
use crate::support::stores::proxy::Trouble;

#[tokio::test(flavor = "multi_thread")]
async fn commands_resolve_a_lost_answer_by_reading_back() {
    let Some(troubled) = Troubled::start().await else { return };
    // Even if all answers of a race are lost, there is still one winner.
    troubled.proxy.trouble("PUT", FOR_EVER, Trouble::CutAfter);
    let ran = troubled.run(&["init", "s3://bucket/repo", "--source", "sqlite:sync.db"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    for number in 1..=3 {
        troubled.sandbox.sql("sync.db", &format!("INSERT INTO settings VALUES ('at {number}', randomblob(50000))"));
        troubled.proxy.trouble("PUT", FOR_EVER, Trouble::CutAfter);
        let ran = troubled.run(&["backup", "--json"]);
        let report: serde_json::Value = serde_json::from_str(&ran.out).expect(&ran.err);
        assert_eq!((ran.code, &report["number"], &report["races_lost"]), (0, &number.into(), &0.into()));
        assert_eq!(troubled.entries().await, number);
    }
    // A source is added only once.
    troubled.sandbox.sql("other.db", crate::support::sandbox::SERVICE);
    troubled.proxy.trouble_at("PUT", "/roster/", FOR_EVER, Trouble::CutAfter);
    assert_eq!(troubled.run(&["backup", "sqlite:other.db"]).code, 0);
    let names = troubled.bucket().names("repo").await;
    assert_eq!((count(&names, "roster"), count(&names, "ledger")), (3, 4));
    let main = ["restore", "latest", "--source", "main", "--to", "main.sqlite", "--key-file", "keys/recovery.key"];
    troubled.sandbox.ok(&main);
    let (restored, live) = (troubled.sandbox.path("main.sqlite"), troubled.sandbox.path("sync.db"));
    crate::support::sqlite::assert_same_database(&restored, &live);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_uncertain_commit_is_reported_as_unknown() {
    let Some(troubled) = Troubled::with_repository().await else { return };
    let mut number = 0;
    for (put, is_applied) in
        [(Trouble::CutAfter, true), (Trouble::CutBefore, false), (answer(500, "InternalError"), false)]
    {
        for read_back in [Trouble::CutBefore, answer(403, "AccessDenied"), answer(429, "TooManyRequests")] {
            let entry: &'static str =
                ["/ledger/0000000001", "/ledger/0000000002", "/ledger/0000000003", "/ledger/0000000004"][number];
            troubled.sandbox.sql("sync.db", "UPDATE users SET name = hex(randomblob(9)) WHERE id = 2");
            let whole = copy(&troubled.sandbox, "sync.db", "whole.db");
            troubled.proxy.trouble_at("PUT", entry, FOR_EVER, put.clone());
            // The entry is read once before it is created, and again afterwards.
            troubled.proxy.trouble_at("GET", entry, 1, Trouble::Late(Duration::ZERO));
            troubled.proxy.trouble_at("GET", entry, FOR_EVER, read_back);
            let ran = troubled.run(&["backup"]);
            assert_eq!((ran.code, ran.out.as_str()), (7, ""), "{}", ran.err);
            for words in ["cannot determine whether", &entry[1..], "sidekeep snapshots"] {
                assert!(ran.err.contains(words), "{}", ran.err);
            }
            number += usize::from(is_applied);
            assert_eq!(troubled.entries().await, number);
            if is_applied {
                assert_restores(&troubled.sandbox, "latest", &whole);
            }
        }
    }
    assert_eq!(troubled.sandbox.json(&["backup"])["number"], number + 1);
    assert_restores(&troubled.sandbox, "latest", &troubled.sandbox.path("sync.db"));
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_within_the_retry_time_are_not_reported() {
    let Some(troubled) = Troubled::with_repository().await else { return };
    let patient = |args: &[&str]| {
        let ran = troubled.run(&[args, &["--retry-time", "20 seconds"]].concat());
        assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    };
    for trouble in [answer(503, "SlowDown"), answer(500, "InternalError"), Trouble::CutBefore, Trouble::CutAfter] {
        for method in ["GET", "PUT"] {
            troubled.proxy.trouble(method, 2, trouble.clone());
        }
        patient(&["backup"]);
    }
    troubled.proxy.trouble_at("GET", "/packs/", 1, Trouble::Short { missing_bytes: 10 });
    troubled.proxy.trouble_at("GET", "/manifests/", 1, Trouble::Short { missing_bytes: 10 });
    patient(&["restore", "latest", "--to", "out.sqlite", "--key-file", "keys/admin.key"]);
    assert_eq!(troubled.entries().await, 4);
}
