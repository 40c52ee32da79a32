//! Passwords are never printed or stored. They are read from the same places as by PostgreSQL's own tools.

use crate::support::postgres::cluster::{Network, Settings};
use crate::support::postgres::service::Live;
use crate::support::sandbox::{Ran, Sandbox};

/// The password in a URL, with special characters escaped.
const ESCAPED: &str = "hunter2%40%2F%3Ax";
const PASSWORD: &str = "hunter2@/:x";
/// The part of the password that must not appear anywhere.
const PART: &str = "hunter2";

fn with_passwords() -> Option<Live> {
    let hba = vec!["host all keeper 127.0.0.1/32 scram-sha-256".to_owned()];
    let live = Live::with(&Settings { network: Network::Loopback, hba, ..Settings::default() })?;
    live.sql(&format!("CREATE ROLE keeper LOGIN SUPERUSER PASSWORD '{PASSWORD}'"));
    Some(live)
}

fn check(ran: &Ran, code: i32) {
    assert_eq!(ran.code, code, "{}{}", ran.out, ran.err);
    assert!(!ran.out.contains(PART) && !ran.err.contains(PART), "{}{}", ran.out, ran.err);
}

#[test]
fn no_password_is_printed_or_stored() {
    let Some(live) = with_passwords() else { return };
    let (port, sandbox) = (live.cluster.port(), &live.sandbox);
    let url = format!("postgres://keeper:{ESCAPED}@127.0.0.1:{port}/sync");
    live.configure(&url, "");
    for args in [
        &["backup"][..],
        &["backup", &url, "--json"],
        &["backup", "--json"],
        &["backup", "--progress", "lines"],
        &["owners"],
        &["owners", &url, "--json"],
        &["doctor"],
        &["doctor", "--json"],
        &["snapshots", "--json", "--source", &url],
        &["show", "latest", "--json", "--source", &url],
        &["status"],
    ] {
        let code = if args[0] == "status" { 0 } else { sandbox.run(args).code };
        check(&sandbox.run(args), code);
    }
    // Addresses that are wrong in different ways.
    let wrong = url.replace("hunter2", "hunter2wrong");
    let nobody = url.replace("127.0.0.1", "127.0.0.1:1,127.0.0.1").replace(&format!(":{port}/"), ":2/");
    for (url, code) in [
        (wrong.clone(), 7),
        (nobody, 7),
        (url.replace("/sync", "/nothing"), 7),
        (format!("{url}?sslmode=verify-full"), 2),
        (format!("{url}?what=ever"), 2),
        (url.replace("%40", "%zz"), 2),
        (url.replace("postgres:", "mysql:"), 2),
        (format!("postgres://127.0.0.1:{port}/sync?user=keeper&password={PART}wrong"), 7),
    ] {
        live.configure(&url, "");
        check(&sandbox.run(&["backup", &url]), code);
        check(&sandbox.run(&["backup", &url, "--json"]), code);
        check(&sandbox.run(&["backup", "main", "--json"]), code);
        check(&sandbox.run(&["doctor"]), 3);
        let restore = ["restore", "latest", "--source", "main", "--to", &url, "--key-file", "keys/admin.key"];
        check(&sandbox.run(&restore), code);
    }
    let log = live.sandbox.path("log.jsonl");
    live.configure(&url, "");
    for address in [url.as_str(), &wrong] {
        let args = ["backup", address, "-vvv", "--log-file", "log.jsonl", "--log-format", "json"];
        let code = if address == wrong { 7 } else { live.sandbox.run(&args).code };
        check(&sandbox.run(&args), code);
    }
    let log = std::fs::read_to_string(log).expect("a log");
    assert!(log.contains("statement ends") && log.contains("session opens") && log.contains("no session"), "{log}");
    assert!(!log.contains(PART) && !log.contains("SCRAM"), "{log}");
    let objects = live.objects();
    assert!(objects.len() > 10);
    for (name, bytes) in objects {
        assert!(!bytes.windows(PART.len()).any(|window| window == PART.as_bytes()), "{name}");
    }
}

#[test]
fn init_writes_no_password() {
    let sandbox = Sandbox::new();
    let url = format!("postgres://keeper:{ESCAPED}@db.example.org/sync?sslmode=require");
    let ran = sandbox.run(&["init", "repo", "--source", &url]);
    check(&ran, 0);
    let text = std::fs::read_to_string(sandbox.path("sidekeep.toml")).expect("reads");
    assert!(text.contains("url = \"postgres://keeper@db.example.org/sync?sslmode=require\""), "{text}");
}

#[test]
fn passwords_come_from_the_environment_and_from_files() {
    let Some(mut live) = with_passwords() else { return };
    let port = live.cluster.port();
    live.configure(&format!("postgres://keeper@127.0.0.1:{port}/sync"), "");
    let message = live.sandbox.fails(7, &["backup"]);
    assert!(message.contains("PGPASSWORD"), "{message}");

    let private = |live: &Live, name: &str, text: &str| {
        use std::os::unix::fs::PermissionsExt;
        let path = live.sandbox.write(name, text);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("a mode");
        path
    };
    let escaped = PASSWORD.replace(':', "\\:");
    private(&live, ".pgpass", &format!("127.0.0.1:{port}:*:keeper:{escaped}\n"));
    live.sandbox.ok(&["backup"]);
    std::fs::rename(live.sandbox.path(".pgpass"), live.sandbox.path("other")).expect("renames");
    live.sandbox.fails(7, &["backup"]);
    let other = live.sandbox.path("other");
    live.sandbox.set("PGPASSFILE", other);
    live.sandbox.ok(&["backup"]);

    let services = private(
        &live,
        "services",
        &format!("[night]\nhost=127.0.0.1\nport={port}\nuser=keeper\ndbname=sync\npassword={PASSWORD}\n"),
    );
    live.sandbox.set("PGPASSFILE", "/nowhere");
    live.sandbox.set("PGSERVICEFILE", services);
    assert_eq!(
        live.sandbox.json(&["backup", "service=night"])["number"],
        3,
        "the configured source under another name"
    );
    live.configure("postgres://keeper@db.example/other", "");
    assert_eq!(live.sandbox.json(&["backup", "service=night"])["number"], 1, "a separate source");
    let url = format!("postgres://postgres@127.0.0.1:{port}/sync");
    assert_eq!(live.sandbox.json(&["snapshots", "--source", &url])["sources"].as_array().map(Vec::len), Some(1));
    live.configure("service=night", "");
    assert_eq!(live.sandbox.json(&["backup"])["number"], 4);

    live.configure(&format!("postgres://keeper@127.0.0.1:{port}/sync"), "");
    live.sandbox.set("PGPASSWORD", PASSWORD);
    live.sandbox.ok(&["backup"]);
}

/// This test needs no server.
#[test]
fn each_of_several_hosts_is_named_with_its_reason() {
    let sandbox = Sandbox::with_repository();
    let by = |hosts: &str| {
        let url = format!("postgres://keeper:{ESCAPED}@{hosts}/sync");
        let ran = sandbox.run(&["backup", &url, "--key-file", "keys/operator.key"]);
        check(&ran, 7);
        ran.err
    };
    let err = by("127.0.0.1:1,localhost:2");
    for part in [
        "the database sync on 127.0.0.1:1,localhost:2 as keeper: on 127.0.0.1:1: ",
        "; on localhost:2: ",
        "Connection refused",
        "check that the server runs and listens there",
    ] {
        assert!(err.contains(part), "{part} in {err}");
    }
    assert_eq!(err.matches("Connection refused").count(), 2, "{err}");
    let err = by("one.invalid,two.invalid:9");
    assert!(err.contains("; on two.invalid:9: ") && err.contains(": on one.invalid:5432: "), "{err}");
    let err = by("127.0.0.1:1");
    assert!(err.contains("the database sync on 127.0.0.1:1 as keeper: ") && !err.contains(": on "), "{err}");
}
