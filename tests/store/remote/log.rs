//! The log of a store that fails: each retry with its reason and wait, and the cause of the final failure.

use serde_json::Value;

use crate::remote::faults::{FOR_EVER, Troubled, answer};

const LOG: [&str; 5] = ["--log-file", "log.jsonl", "--log-format", "json", "-vv"];

impl Troubled {
    /// Takes the events of the log, checks that they contain no secrets, and deletes the log.
    fn take_log(&self) -> Vec<Value> {
        let path = self.sandbox.path("log.jsonl");
        let text = std::fs::read_to_string(&path).expect("a log");
        for secret in ["test-secret", "test-key", "Signature", "X-Amz", "authorization"] {
            assert!(!text.contains(secret), "{text}");
        }
        std::fs::remove_file(path).expect("removes");
        text.lines().map(|line| serde_json::from_str(line).expect("a JSON object per line")).collect()
    }
}

fn retries(events: &[Value]) -> Vec<&Value> {
    events.iter().filter(|event| event["message"] == "trying again").collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_and_the_cause_of_a_failure_are_logged() {
    let Some(mut troubled) = Troubled::with_repository().await else { return };
    troubled.sandbox.set("SIDEKEEP_RETRY_TIME", "2 seconds");
    // A store that recovers.
    troubled.proxy.trouble_at("GET", "/sidekeep.json", 2, answer(503, "SlowDown"));
    assert_eq!(troubled.run(&[&["backup"][..], &LOG].concat()).code, 0);
    let events = troubled.take_log();
    let again = retries(&events);
    assert_eq!(again.len(), 2, "{again:?}");
    for (at, retry) in again.iter().enumerate() {
        assert!(retry["waited_ms"].is_u64() && retry["level"] == "WARN", "{retry}");
        assert!(retry["reason"].as_str().is_some_and(|reason| reason.contains("503: SlowDown")), "{retry}");
        assert_eq!(retry["spans"][0]["object"], "sidekeep.json");
        assert_eq!(retry["spans"][1]["number"], at as u64 + 2);
    }
    // A store that does not recover.
    troubled.proxy.trouble_at("PUT", "/ledger/", FOR_EVER, answer(500, "InternalError"));
    let ran = troubled.run(&[&["backup"][..], &LOG].concat());
    assert_eq!(ran.code, 7, "{}", ran.err);
    let events = troubled.take_log();
    assert!(retries(&events).len() > 2, "{events:?}");
    let last = events.last().expect("events");
    assert_eq!(last["exit_code"], 7);
    assert!(last["error"].as_str().is_some_and(|error| error.contains("status 500: InternalError")), "{last}");
    assert!(events.iter().any(|event| event["message"] == "phase ends" && event["rows"] == 8), "{events:?}");
}
