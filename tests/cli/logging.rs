//! The log: its contents, where it goes, and that it does not change results.

use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::Sandbox;

fn events(sandbox: &Sandbox, file: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(sandbox.path(file)).expect("a log");
    text.lines().map(|line| serde_json::from_str(line).expect("a JSON object per line")).collect()
}

fn with_message<'a>(events: &'a [Value], message: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["message"] == message).collect()
}

#[test]
fn a_json_log_records_command_phases_and_requests_but_no_secrets() {
    let sandbox = Sandbox::with_service();
    let args = ["--log-file", "log.jsonl", "--log-format", "json", "-vv"];
    let out = sandbox.ok(&[&["backup", "--tag", "secret-tag", "--json"][..], &args].concat());
    assert!(serde_json::from_str::<Value>(&out).is_ok(), "{out}");
    let events = events(&sandbox, "log.jsonl");
    let begins = with_message(&events, "command begins");
    assert_eq!((begins.len(), &begins[0]["command"]), (1, &"backup".into()));
    assert_eq!(begins[0]["version"], env!("CARGO_PKG_VERSION"));
    let options = begins[0]["options"].as_str().expect("options");
    assert!(["tags", "json", "log_file"].iter().all(|name| options.contains(name)), "{options}");
    let phases = with_message(&events, "phase ends");
    let rows: u64 = phases.iter().map(|phase| phase["rows"].as_u64().expect("a count")).sum();
    assert!(phases.len() > 2 && rows == 8, "{phases:?}");
    assert!(phases.iter().all(|phase| phase["duration_ms"].is_u64() && phase["spans"][0]["phase"].is_string()));
    let requests = with_message(&events, "request ends");
    let stored = |request: &&&Value| request["spans"][0]["doing"] == "creating";
    assert!(requests.iter().filter(stored).all(|request| request["spans"][0]["bytes"].is_u64()), "{requests:?}");
    assert!(requests.iter().any(|request| stored(&request)), "{requests:?}");
    assert_eq!(events.last().expect("events")["exit_code"], 0);
    let text = std::fs::read_to_string(sandbox.path("log.jsonl")).expect("a log");
    assert!(!["secret-tag", "Ada", "Grace"].iter().any(|word| text.contains(word)), "{text}");
    assert_eq!(sandbox.path("log.jsonl").metadata().expect("a file").permissions().mode() & 0o777, 0o600);
}

#[test]
fn the_log_of_a_failed_run_ends_with_its_error_and_exit_code() {
    let mut sandbox = Sandbox::with_service();
    sandbox.set("SIDEKEEP_LOG_FILE", "log.jsonl");
    let err = sandbox.fails(1, &["show", "latest~7", "--log-format", "json", "--key-file", "keys/admin.key"]);
    assert!(!err.contains("INFO") && !err.contains("ERROR"), "{err}");
    let events = events(&sandbox, "log.jsonl");
    let last = events.last().expect("events");
    assert_eq!((&last["level"], &last["exit_code"]), (&"ERROR".into(), &1.into()));
    assert!(err.contains(last["error"].as_str().expect("an error")), "{err}");
}

#[test]
fn logging_to_standard_error_does_not_change_results() {
    let mut sandbox = Sandbox::with_service();
    sandbox.ok(&["backup"]);
    let plain = sandbox.ok(&["snapshots"]);
    let logged = sandbox.run(&["snapshots", "-v"]);
    assert_eq!((logged.code, &logged.out), (0, &plain));
    assert!(logged.err.contains("INFO") && !logged.err.contains("DEBUG"), "{}", logged.err);
    assert!(sandbox.run(&["snapshots", "-vv"]).err.contains("DEBUG"));
    assert!(sandbox.fails(2, &["snapshots", "-v", "--quiet"]).contains("--quiet"));
    sandbox.set("SIDEKEEP_LOG", "warn,sidekeep::store=debug");
    let filtered = sandbox.run(&["snapshots"]);
    assert!(filtered.out == plain && filtered.err.contains("request"), "{}", filtered.err);
    assert!(filtered.err.lines().all(|line| line.contains("sidekeep::store")), "{}", filtered.err);
}

#[test]
fn a_filter_that_selects_no_events_of_sidekeep_is_refused() {
    let mut sandbox = Sandbox::with_service();
    sandbox.set("SIDEKEEP_LOG", "hyper=trace");
    let err = sandbox.fails(2, &["snapshots"]);
    assert!(
        err.contains("SIDEKEEP_LOG") && err.contains("hyper=trace") && err.contains("sidekeep::store=debug"),
        "{err}"
    );
}

#[test]
fn a_log_file_that_cannot_be_opened_is_an_unusable_setting() {
    let sandbox = Sandbox::with_service();
    let unusable =
        [("gone/log", "No such file or directory"), (".", "Is a directory"), ("sync.db/log", "Not a directory")];
    for (file, reason) in unusable {
        let err = sandbox.fails(2, &["backup", "--log-file", file]);
        assert!(err.starts_with(&format!("error: cannot open the log file {file}: {reason}")), "{err}");
        assert!(!err.contains("hint"), "{err}");
    }
    assert!(sandbox.ok(&["snapshots"]).contains("no snapshots"), "nothing is done without a log");
}
