//! Repositories of every released format, committed as written: today's program must read each of them
//! (`docs/format.md` section 14). `SIDEKEEP_BLESS=repository` writes the repository of the current format again, which
//! is allowed only for a format that has not been released. Their keys open nothing else.

mod next_backup;
mod places;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use sidekeep::base::id::Digest;
use sidekeep::base::role::Role;
use sidekeep::format::entry::{EntryBody, Forget, Hold, HoldEnd, Tag, TagChange};

use crate::golden::places::PLACES;
use crate::support::sandbox::Sandbox;
use crate::support::world::data::{add_photo, create_service};
use crate::support::world::{SOURCE, World};

fn golden(version: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(version)
}

/// Writes three snapshots of the service of which the first is forgotten, values of one piece and of many, a tree of
/// more than one level, a second source, and a third one with every kind of entry. Returns the fingerprint of the restored snapshots.
fn write(to: &Path) -> String {
    let world = World::new();
    let path = world.path("live");
    let db = create_service(&path, 9);
    add_photo(&db, 3, 33_000);
    db.execute_batch(
        "CREATE TABLE pages (id INTEGER PRIMARY KEY, body TEXT);
         WITH RECURSIVE n (v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM n LIMIT 600)
         INSERT INTO pages SELECT v, printf('%d %.*c', v, 9000, 'x') FROM n;
         CREATE TABLE odd (a, b, PRIMARY KEY (a, b)) WITHOUT ROWID;
         INSERT INTO odd VALUES (-0.0, 9e999), (x'00ff', CAST(x'80' AS TEXT)), (9223372036854775807, 'a' || char(0));
         UPDATE users SET note = printf('%.*c', 300000, 'y') WHERE id = 5;",
    )
    .expect("more tables");
    let first = world.backup(&path).snapshot.expect("a snapshot");
    db.execute_batch("DELETE FROM users WHERE id = 2; UPDATE contacts SET name = name || '!' WHERE id % 5 = 0")
        .expect("a day");
    let second = world.backup(&path).snapshot.expect("a snapshot");
    db.execute_batch("ALTER TABLE users ADD COLUMN born; UPDATE users SET born = 1990 WHERE id = 4").expect("a day");
    world.backup(&path);
    let reason = || "a test".to_owned();
    world.append(Role::Maintainer, SOURCE, EntryBody::Forget(Forget { snapshots: vec![first], reason: reason() }));
    let tag = Tag { snapshot: second, tag: "kept".to_owned(), change: TagChange::Put };
    world.append(Role::Maintainer, SOURCE, EntryBody::Tag(tag));
    world.append(
        Role::Maintainer,
        SOURCE,
        EntryBody::Hold(Hold { snapshot: second, end: HoldEnd::Never, reason: reason() }),
    );
    world.add_source("other");
    let other = world.path("other");
    create_service(&other, 3);
    world.try_backup_as(world.key(Role::Operator), "other", &other).expect("a snapshot");
    let extended = places::add(&world);

    let _ = std::fs::remove_dir_all(to);
    copy_tree(&world.path("store"), &to.join("store"));
    std::fs::create_dir_all(to.join("keys")).expect("makes");
    for (role, text) in &world.keys {
        std::fs::write(to.join("keys").join(format!("{role}.key")), text).expect("a key");
    }
    std::fs::write(to.join("keys/extended.key"), extended).expect("a key");
    fingerprint(&path)
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("makes");
    for entry in std::fs::read_dir(from).expect("reads") {
        let entry = entry.expect("an entry");
        let to = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy_tree(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).expect("copies");
        }
    }
}

/// For every table of a database: its name, its number of rows, and a digest of all cells in order, as SQLite quotes
/// them.
fn fingerprint(database: &Path) -> String {
    let db = Connection::open(database).expect("opens");
    let mut names = db.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name").expect("prepares");
    let names: BTreeSet<String> =
        names.query_map([], |row| row.get(0)).expect("runs").map(|n| n.expect("a name")).collect();
    let mut text = String::new();
    for name in names {
        let columns = db.prepare(&format!("SELECT * FROM {name}")).expect("prepares");
        let columns: Vec<&str> = columns.column_names().collect();
        let quoted: Vec<String> = columns.iter().map(|column| format!("quote({column})")).collect();
        let columns = columns.join(", ");
        // As bytes, because some text is not valid UTF-8.
        let row = format!("CAST({} AS BLOB)", quoted.join(" || ',' || "));
        let mut rows = db.prepare(&format!("SELECT {row} FROM {name} ORDER BY {columns}")).expect("prepares");
        let rows: Vec<Vec<u8>> =
            rows.query_map([], |row| row.get(0)).expect("runs").map(|row| row.expect("a row")).collect();
        let digest = Digest::of(&rows.join(&b'\n'));
        writeln!(text, "{name} ({columns}): {} rows, {digest}", rows.len()).expect("writes");
    }
    text
}

/// A key of a golden repository with the permissions of a key file, because a checkout makes all files readable.
fn key(sandbox: &Sandbox, repository: &Path, role: &str) -> String {
    let text = std::fs::read_to_string(repository.join(format!("keys/{role}.key"))).expect("a key");
    let path = sandbox.write(&format!("{role}.key"), &text);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("a mode");
    path.to_str().expect("UTF-8").to_owned()
}

/// The fingerprints of all restored snapshots of a golden repository.
fn restored(sandbox: &Sandbox, repository: &Path) -> String {
    let (store, key) = (repository.join("store"), key(sandbox, repository, "admin"));
    let reach = ["--repo", store.to_str().expect("UTF-8"), "--key-file", &key];
    let mut text = String::new();
    let snapshots = [
        (SOURCE, "latest~1"),
        (SOURCE, "kept"),
        (SOURCE, "latest"),
        ("other", "latest"),
        (PLACES, "first"),
        (PLACES, "latest"),
    ];
    for (source, snapshot) in snapshots {
        let to = format!("{source}-{snapshot}.sqlite");
        let mut args = vec!["restore", snapshot, "--source", source, "--to", &to];
        args.extend(reach);
        sandbox.ok(&args);
        writeln!(text, "# {source} {snapshot}\n{}", fingerprint(&sandbox.path(&to))).expect("writes");
    }
    text
}

fn reads(version: &str) {
    let (repository, sandbox) = (golden(version), Sandbox::new());
    let expected = std::fs::read_to_string(repository.join("expected.txt")).expect("is committed");
    assert_eq!(restored(&sandbox, &repository), expected);
    let store = repository.join("store");
    let store = store.to_str().expect("UTF-8");
    for (level, role) in
        [("read", None), ("structure", Some("auditor")), ("deep", Some("admin")), ("deep", Some("recovery"))]
    {
        let key = role.map(|role| key(&sandbox, &repository, role));
        let mut args = vec!["verify", "--repo", store, "--level", level];
        if let Some(key) = &key {
            args.extend(["--key-file", key]);
        }
        sandbox.ok(&args);
    }
}

#[test]
fn version_1_is_read() {
    let repository = golden("v1");
    if std::env::var_os("SIDEKEEP_BLESS").is_some_and(|what| what == "repository") {
        let source = write(&repository);
        let expected = restored(&Sandbox::new(), &repository);
        assert!(expected.contains(&source), "{expected}");
        std::fs::write(repository.join("expected.txt"), expected).expect("writes");
    }
    reads("v1");
}
