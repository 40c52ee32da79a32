//! Events in the middle of a backup: a killed server, a cut connection, an altered table, an interrupt.

use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};

use crate::support::postgres::cluster::{Cluster, Network, Settings};
use crate::support::postgres::service::Live;
use crate::support::sandbox::{gaps_of, interrupt};
use crate::wire::Wire;

/// Number of received bytes after which a session is among the rows.
const BEFORE_ROWS: u64 = 2_000_000;
const MANY: &str = "CREATE TABLE blobs (id int PRIMARY KEY, data bytea);
    INSERT INTO blobs SELECT n, decode(repeat(md5(n::text), 1000), 'hex') FROM generate_series(1, 1000) AS n";

pub fn live(conf: &[&str]) -> Option<Live> {
    let hba = vec!["host all all 127.0.0.1/32 trust".to_owned()];
    let conf = conf.iter().map(|line| (*line).to_owned()).collect();
    let live = Live::with(&Settings { network: Network::Loopback, hba, conf, ..Settings::default() })?;
    live.sql(MANY);
    Some(live)
}

/// A wire on which the next backup stops among the rows.
pub fn wire(live: &Live) -> Wire {
    let wire = Wire::to(live.cluster.port(), BEFORE_ROWS);
    live.configure(&format!("postgres://postgres@127.0.0.1:{}/sync", wire.port()), "");
    wire
}

fn begin(live: &Live, wire: &Wire) -> Child {
    begin_with(live, wire, &["backup"])
}

pub fn begin_with(live: &Live, wire: &Wire, args: &[&str]) -> Child {
    let mut command = live.sandbox.command(args);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs");
    wire.wait();
    child
}

pub fn end(child: Child) -> (i32, String, String) {
    let Output { status, stdout, stderr } = child.wait_with_output().expect("ends");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (status.code().unwrap_or(-1), text(stdout), text(stderr))
}

/// Sessions of the program that still exist.
fn sessions(cluster: &Cluster) -> Vec<Vec<Option<String>>> {
    cluster.sql("postgres", "SELECT pid, query FROM pg_stat_activity WHERE application_name = 'sidekeep'")
}

pub fn assert_sessions_end(cluster: &Cluster) {
    let begun = Instant::now();
    while !sessions(cluster).is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", sessions(cluster));
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Checks that earlier snapshots are intact and that the next backup succeeds.
pub fn assert_healthy(live: &Live, snapshots: u64) {
    live.configure(&live.cluster.dsn("sync"), "");
    live.sandbox.ok(&["verify", "--level", "deep", "--key-file", "keys/admin.key"]);
    assert_eq!(live.sandbox.json(&["backup"])["number"], snapshots + 1);
}

/// Of several hosts, the dump tools use the one that the sessions are connected to.
#[test]
fn an_unreachable_first_host_is_skipped() {
    let Some(live) = live(&[]) else { return };
    live.configure(&format!("postgres://postgres@127.0.0.1:1,127.0.0.1:{}/sync", live.cluster.port()), "");
    let report = live.sandbox.json(&["backup", "--workers", "2"]);
    assert!(gaps_of(&report).is_empty(), "{report}");
}

#[test]
fn a_backup_fails_cleanly_if_the_server_is_killed() {
    let Some(mut live) = live(&[]) else { return };
    live.sandbox.ok(&["backup"]);
    let wire = wire(&live);
    let child = begin(&live, &wire);
    live.cluster.stop();
    wire.open();
    let (code, out, err) = end(child);
    assert!((code == 7 || code == 1) && out.is_empty(), "{code} {err}");
    assert!(err.starts_with("error: "), "{err}");
    let error = live.sandbox.fails(7, &["backup"]);
    assert!(error.contains("check that the server runs"), "{error}");
    live.cluster.start_server();
    assert_healthy(&live, 1);
}

#[test]
fn a_backup_fails_cleanly_if_its_connections_are_cut() {
    let Some(live) = live(&[]) else { return };
    live.sandbox.ok(&["backup"]);
    let wire = wire(&live);
    let child = begin(&live, &wire);
    wire.cut();
    let (code, out, err) = end(child);
    assert!((code == 7 || code == 1) && out.is_empty(), "{code} {err}");
    assert_sessions_end(&live.cluster);
    assert_healthy(&live, 1);
}

#[test]
fn an_interrupt_during_the_rows_ends_the_backup() {
    let Some(live) = live(&[]) else { return };
    live.sandbox.ok(&["backup"]);
    let wire = wire(&live);
    let child = begin(&live, &wire);
    assert!(!sessions(&live.cluster).is_empty());
    let begun = Instant::now();
    interrupt(&child);
    let (code, out, err) = end(child);
    assert_eq!((code, out.as_str()), (130, ""), "{err}");
    assert!(err.contains("interrupted") && begun.elapsed() < Duration::from_secs(5), "{err}");
    wire.cut();
    assert_sessions_end(&live.cluster);
    assert_healthy(&live, 1);
}

#[test]
fn an_interrupt_during_the_dump_tools_ends_the_backup() {
    let Some(live) = live(&[]) else { return };
    use std::os::unix::fs::PermissionsExt;
    let bin = live.cluster.client_bin();
    let script = format!(
        "#!/bin/sh\ncase $* in *--version*) exec {}/pg_dump --version;; esac\necho begun > begun\nexec sleep 1000\n",
        bin.display()
    );
    let path = live.sandbox.write("pg_dump", &script);
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    live.configure(&live.cluster.dsn("sync"), "pg_bin = '.'");
    let mut command = live.sandbox.command(&["backup"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs");
    let begun = Instant::now();
    while !live.sandbox.path("begun").exists() {
        assert!(begun.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(20));
    }
    interrupt(&child);
    let (code, _, err) = end(child);
    assert_eq!(code, 130, "{err}");
    assert_sessions_end(&live.cluster);
}

#[test]
fn a_session_that_alters_a_table_waits_and_the_backup_succeeds() {
    let Some(live) = live(&[]) else { return };
    let wire = wire(&live);
    // With a second worker, the backup would yield at once to the session that waits for its next table.
    let child = begin_with(&live, &wire, &["backup", "--workers", "1"]);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| live.sql("ALTER TABLE settings ADD COLUMN more text; DROP TABLE labels"));
        std::thread::sleep(Duration::from_secs(2));
        wire.open();
        let (code, out, err) = end(child);
        assert_eq!(code, 0, "{out}{err}");
        assert!(out.contains("the image of the database was open for"), "{out}");
        other.join().expect("altered")
    });
    assert!(live.sandbox.ok(&["show", "latest"]).contains("public.labels"));
    assert_healthy(&live, 1);
    assert!(!live.sandbox.ok(&["show", "latest"]).contains("public.labels"));
}

#[test]
fn a_session_that_alters_a_table_waits_at_most_half_a_minute() {
    let Some(live) = live(&[]) else { return };
    live.sandbox.ok(&["backup"]);
    let wire = wire(&live);
    let child = begin(&live, &wire);
    live.sql("SET statement_timeout = '50s'; ALTER TABLE settings ADD COLUMN more text DEFAULT 'their data'");
    wire.open();
    let (code, _, err) = end(child);
    assert_eq!(code, 7, "{err}");
    assert!(err.contains("running ALTER TABLE") && err.contains("for public.settings behind our locks"), "{err}");
    assert!(!err.contains("ADD COLUMN") && !err.contains("their data"), "{err}");
    assert_healthy(&live, 1);
}

/// Starts a backup whose `pg_dump` waits until the file `on` exists.
fn begin_before_the_tools(live: &Live) -> Child {
    use std::os::unix::fs::PermissionsExt;
    let bin = live.cluster.client_bin();
    let bin = bin.display();
    let script = format!(
        "#!/bin/sh\ncase $* in *--version*) ;; *) touch begun; while [ ! -e on ]; do sleep 0.1; done;; esac\n\
        exec {bin}/pg_dump \"$@\"\n"
    );
    let path = live.sandbox.write("pg_dump", &script);
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    std::os::unix::fs::symlink(live.cluster.client_bin().join("pg_dumpall"), live.sandbox.path("pg_dumpall")).ok();
    live.configure(&live.cluster.dsn("sync"), "pg_bin = '.'");
    let mut command = live.sandbox.command(&["backup", "--json"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs");
    until(&|| live.sandbox.path("begun").exists());
    child
}

fn until(what: &dyn Fn() -> bool) {
    let begun = Instant::now();
    while !what() {
        assert!(begun.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// `pg_dump` locks the tables again. It would wait forever behind the session, which waits for the backup's lock.
#[test]
fn a_session_that_waits_to_alter_a_table_goes_before_pg_dump() {
    let Some(live) = live(&[]) else { return };
    let child = begin_before_the_tools(&live);
    std::thread::scope(|scope| {
        let begun = Instant::now();
        let alter = "SET statement_timeout = '15s'; ALTER TABLE settings ADD COLUMN more text";
        let other = scope.spawn(|| live.sql(alter));
        until(&|| !live.sql("SELECT 1 FROM pg_locks WHERE NOT granted").is_empty());
        live.sandbox.write("on", "");
        other.join().expect("altered");
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        let (code, out, err) = end(child);
        assert_eq!(code, 0, "{out}{err}");
    });
    live.sandbox.ok(&["restore", "latest", "--to", "rows", "--format", "jsonl", "--key-file", "keys/admin.key"]);
    let settings = std::fs::read_to_string(live.sandbox.path("rows/public.settings.jsonl")).expect("a table");
    assert!(settings.contains("\"more\":null"), "{settings}");
}

#[test]
fn a_backup_fails_if_pg_dump_never_gets_a_lock() {
    let Some(live) = live(&[]) else { return };
    use std::os::unix::fs::PermissionsExt;
    let script = format!(
        "#!/bin/sh\ncase $* in *--version*) exec {}/pg_dump --version;; *pre-data*) echo >> tries;; esac\n\
        echo 'pg_dump: error: query failed: ERROR:  canceling statement due to lock timeout' >&2\n\
        echo 'pg_dump: error: query was: LOCK TABLE public.settings IN ACCESS SHARE MODE' >&2; exit 1\n",
        live.cluster.client_bin().display()
    );
    let path = live.sandbox.write("pg_dump", &script);
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    live.configure(&live.cluster.dsn("sync"), "pg_bin = '.'");
    let error = live.sandbox.fails(7, &["backup"]);
    assert!(error.contains("public.settings") && error.contains("5 times"), "{error}");
    assert!(error.contains("when nobody alters the tables"), "{error}");
    assert_eq!(std::fs::read(live.sandbox.path("tries")).expect("a file").len(), 5);
}

const MOODS: &str = "CREATE TYPE mood AS ENUM ('sad', 'fine'); CREATE TYPE pair AS (a int, b mood);
    CREATE TYPE other AS ENUM ('x'); CREATE TYPE span AS RANGE (subtype = mood); CREATE DOMAIN moods AS mood[];
    CREATE TABLE spans (s span[]); INSERT INTO spans VALUES (ARRAY[span 'empty', span '[sad,fine]']);
    CREATE TABLE domains (d moods); INSERT INTO domains VALUES ('{sad}'); CREATE TABLE people (id int PRIMARY KEY, moods mood[]);
    CREATE TABLE pairs (at timestamp, p pair); INSERT INTO people VALUES (1, '{sad,fine}'); INSERT INTO pairs VALUES
    (now(), '(1,sad)')";

/// Types cannot be locked, so rows may have a new label while the schema has the old one.
#[test]
fn a_type_altered_while_rows_are_read_is_reported() {
    let Some(live) = live(&[]) else { return };
    live.sql(MOODS);
    for (change, gaps) in [
        ("ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'", vec!["type public.mood"]),
        ("ALTER TYPE pair ADD ATTRIBUTE c int", vec!["type public.pair"]),
        (
            "ALTER TYPE mood RENAME VALUE 'blue' TO 'x'; ALTER TYPE mood RENAME VALUE 'x' TO 'blue'",
            vec!["type public.mood"],
        ),
        // These do not change existing values.
        ("ALTER TYPE mood ADD VALUE 'better'", vec![]),
        ("ALTER TYPE pair RENAME TO two; ALTER TYPE other RENAME VALUE 'x' TO 'y'", vec![]),
    ] {
        let wire = wire(&live);
        let child = begin_with(&live, &wire, &["backup", "--json"]);
        live.sql(change);
        wire.open();
        let (code, out, err) = end(child);
        assert_eq!(code, if gaps.is_empty() { 0 } else { 3 }, "{change}: {out}{err}");
        let report: serde_json::Value = serde_json::from_str(&out).expect("JSON");
        let found = gaps_of(&report);
        assert_eq!(found.iter().map(|gap| gap["object"].as_str().expect("a name")).collect::<Vec<_>>(), gaps);
        if let [gap] = &found[..] {
            assert_eq!(gap["kind"], "altered-type");
            let reason = gap["detail"].as_str().expect("a reason");
            let tables = match gaps[0] {
                "type public.pair" => "rows of public.pairs may",
                _ => "rows of public.domains, public.pairs, public.people, public.spans may",
            };
            assert!(reason.contains(tables) && reason.contains("while rows were read"), "{reason}");
            let shown = live.sandbox.run(&["show", "latest"]);
            assert!(shown.out.contains(gaps[0]), "{}", shown.out);
        }
    }
    // Values of a domain over the type are selected with the type's name.
    let wire = wire(&live);
    let child = begin(&live, &wire);
    live.sql("ALTER TYPE mood RENAME TO feeling");
    wire.open();
    let (code, _, err) = end(child);
    assert_eq!(code, 7, "{err}");
    assert!(err.contains("type public.mood was altered") && err.contains("when nobody alters"), "{err}");
    assert_healthy(&live, 5);
}

#[test]
fn a_type_altered_before_pg_dump_runs_restores_correctly() {
    let Some(live) = live(&[]) else { return };
    live.sql(MOODS);
    let child = begin_before_the_tools(&live);
    live.sql("ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'; ALTER TYPE pair RENAME ATTRIBUTE a TO n");
    live.sandbox.write("on", "");
    let (code, out, err) = end(child);
    assert_eq!(code, 0, "{out}{err}");
    live.cluster.create_database("back", "TEMPLATE template0");
    let to = live.cluster.dsn("back");
    live.sandbox.ok(&["restore", "latest", "--to", &to, "--key-file", "keys/admin.key"]);
    let rows = live.cluster.sql("back", "SELECT moods::text FROM people UNION ALL SELECT (p).n::text FROM pairs");
    assert_eq!(rows, [[Some("{blue,fine}".to_owned())], [Some("1".to_owned())]]);
}

/// A table that is rewritten between the start of the image and its locks would look empty in the image.
#[test]
fn tables_altered_while_a_backup_starts_are_backed_up_completely() {
    let Some(live) = live(&[]) else { return };
    live.sql("CREATE TABLE swapped AS SELECT n FROM generate_series(1, 10) AS n");
    for (change, rows) in [
        ("ALTER TABLE blobs ALTER COLUMN id TYPE bigint", 1000),
        ("DELETE FROM blobs WHERE id > 900; ALTER TABLE blobs RENAME COLUMN data TO bytes", 900),
        ("DROP TABLE swapped", 900),
        ("CREATE TABLE new AS SELECT * FROM blobs; DROP TABLE blobs; ALTER TABLE new RENAME TO blobs", 900),
    ] {
        let client = live.cluster.client("sync");
        client.execute("altering", &format!("BEGIN; {change}")).expect("altered");
        let mut command = live.sandbox.command(&["backup", "--json"]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs");
        let begun = Instant::now();
        while live.sql("SELECT 1 FROM pg_locks WHERE NOT granted").is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(20), "the backup does not wait for the table");
            std::thread::sleep(Duration::from_millis(10));
        }
        client.execute("committing", "COMMIT").expect("committed");
        let (code, out, err) = end(child);
        assert_eq!(code, 0, "{change}: {out}{err}");
        let report: serde_json::Value = serde_json::from_str(&out).expect("JSON");
        let tables = report["tables"].as_array().expect("tables");
        let blobs = tables.iter().find(|table| table["name"] == "public.blobs").expect("blobs");
        assert_eq!(blobs["rows"], rows, "{change}");
    }
}

#[test]
fn too_few_locks_are_reported() {
    let Some(live) = live(&["max_locks_per_transaction = 10", "max_connections = 10"]) else { return };
    let many: String = (0..40).map(|n| format!("CREATE TABLE many_{n} (a int);")).collect();
    (0..25).for_each(|round| drop(live.sql(&many.replace("many_", &format!("many_{round}_")))));
    let error = live.sandbox.fails(7, &["backup"]);
    assert!(error.contains("max_locks_per_transaction"), "{error}");
    let ran = live.sandbox.run(&["doctor"]);
    assert!(ran.code == 3 && ran.out.contains("WARNING  database main, locks"), "{}", ran.out);
}
