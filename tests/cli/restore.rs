//! `sidekeep restore`

use rusqlite::Connection;

use crate::Sandbox;

fn with_snapshot() -> Sandbox {
    let sandbox = Sandbox::with_service();
    sandbox.ok(&["backup", "--tag", "first"]);
    sandbox
}

fn restore<'a>(args: &[&'a str]) -> Vec<&'a str> {
    [&["restore", "--key-file", "keys/admin.key"], args].concat()
}

fn names(sandbox: &Sandbox, file: &str) -> Vec<String> {
    let database = Connection::open(sandbox.path(file)).expect("opens");
    let mut statement = database.prepare("SELECT name FROM contacts ORDER BY id").expect("prepares");
    statement.query_map([], |row| row.get(0)).expect("runs").collect::<Result<_, _>>().expect("reads")
}

#[test]
fn a_restored_database_equals_the_snapshot() {
    let sandbox = with_snapshot();
    sandbox.sql("sync.db", "DELETE FROM contacts WHERE user_id = 1;");
    sandbox.ok(&["backup"]);
    let text = sandbox.ok(&restore(&["latest~1", "--to", "then.sqlite"]));
    assert!(text.contains("8 rows in 3 tables to then.sqlite"), "{text}");
    assert_eq!(names(&sandbox, "then.sqlite"), ["Ada", "Alan", "Grace", "Nobody's"]);
    let document = sandbox.json(&restore(&["latest", "--to", "sqlite:now"]));
    assert_eq!((&document["kind"], &document["rows"]), (&"restore".into(), &6.into()));
    assert_eq!(names(&sandbox, "now"), ["Grace", "Nobody's"]);
}

#[test]
fn a_snapshot_can_be_named_by_id_tag_or_time() {
    let sandbox = with_snapshot();
    let id = sandbox.json(&["backup"])["snapshot"].as_str().expect("an id").to_owned();
    for (at, args) in
        [vec![id.as_str()], vec![&id[..12]], vec!["first"], vec!["--at", "now"], vec!["latest", "--source", "main"]]
            .iter()
            .enumerate()
    {
        sandbox.ok(&restore(&[args.as_slice(), &["--to", &format!("{at}.sqlite")]].concat()));
    }
    for (code, args) in [
        (1, vec!["no-such-tag"]),
        (1, vec!["latest~2"]),
        (1, vec!["--at", "yesterday 03:00"]),
        (2, vec!["--at", "tomorrow"]),
        (2, vec!["--at", "2126-11-22"]),
        (2, vec!["latest", "--at", "now"]),
        (2, vec!["latest", "--source", "other"]),
        (2, vec![]),
    ] {
        sandbox.fails(code, &restore(&[args.as_slice(), &["--to", "no.sqlite"]].concat()));
        assert!(!sandbox.path("no.sqlite").exists());
    }
}

#[test]
fn tables_can_be_restored_to_files() {
    let sandbox = with_snapshot();
    sandbox.ok(&restore(&["latest", "--to", "csv", "--format", "csv"]));
    let contacts = std::fs::read_to_string(sandbox.path("csv/contacts.csv")).expect("reads");
    assert!(contacts.contains("Grace") && sandbox.path("csv/users.csv").exists(), "{contacts}");
    sandbox.ok(&restore(&["latest", "--to", "jsonl", "--format", "jsonl", "--tables", "users,settings"]));
    assert!(sandbox.path("jsonl/users.jsonl").exists() && !sandbox.path("jsonl/contacts.jsonl").exists());
    assert!(
        sandbox.fails(1, &restore(&["latest", "--to", "x", "--format", "csv", "--tables", "nope"])).contains("nope")
    );
    assert!(sandbox.fails(2, &restore(&["latest", "--to", "x"])).contains("--format"));
    assert!(!sandbox.path("x").exists());
}

#[test]
fn an_existing_file_is_not_overwritten() {
    let sandbox = with_snapshot();
    sandbox.write("taken.sqlite", "something");
    assert!(sandbox.fails(7, &restore(&["latest", "--to", "taken.sqlite"])).contains("not empty"));
    assert_eq!(std::fs::read_to_string(sandbox.path("taken.sqlite")).expect("reads"), "something");
}

#[test]
fn only_keys_that_open_rows_can_restore() {
    let sandbox = with_snapshot();
    for role in ["operator", "auditor", "maintainer"] {
        let key = format!("keys/{role}.key");
        let message = sandbox.fails(5, &["restore", "latest", "--to", "no.sqlite", "--key-file", &key]);
        assert!(message.contains("admin") && message.contains(role), "{message}");
        assert!(!sandbox.path("no.sqlite").exists());
    }
    sandbox.ok(&["restore", "latest", "--to", "yes.sqlite", "--key-file", "keys/recovery.key"]);
}

#[test]
fn a_snapshot_of_sqlite_is_not_restored_to_postgresql() {
    let sandbox = Sandbox::with_service();
    sandbox.ok(&["backup"]);
    let to = "postgres://nobody@127.0.0.1:1/nothing";
    let err = sandbox.fails(2, &["restore", "latest", "--to", to, "--key-file", "keys/admin.key"]);
    let error = "error: cannot restore a snapshot of an SQLite database to ";
    assert!(err.starts_with(error) && err.contains("\nhint: restore it to a .sqlite file"), "{err}");
    assert!(!err.contains("disk"), "{err}");
}
