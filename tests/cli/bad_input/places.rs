//! Sources that cannot be read, and targets that cannot be restored to.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;

use rusqlite::Connection;

use crate::bad_input::{BACKUP, Case, RESTORE, all_fail, copied, fails, healthy};
use crate::support::sandbox::Sandbox;
use crate::support::sqlite::assert_same_database;

fn none(_: &mut Sandbox) {}

/// Pseudorandom bytes.
fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

fn overwrite(sandbox: &Sandbox, bytes: &[u8]) {
    std::fs::write(sandbox.path("sync.db"), bytes).expect("writes");
}

#[test]
fn an_unreadable_source_is_named() {
    all_fail(&[
        Case {
            name: "not there",
            arrange: none,
            args: &["backup", "sqlite:gone/sync.db"],
            code: 7,
            words: &["cannot open gone/sync.db: there is no such file", "check the address"],
        },
        Case {
            name: "a directory",
            arrange: none,
            args: &["backup", "sqlite:keys"],
            code: 7,
            words: &["cannot open ", "/keys: it is a directory", "check the address"],
        },
        Case {
            name: "a pipe",
            arrange: |sandbox| {
                let made = std::process::Command::new("mkfifo").arg(sandbox.path("pipe")).status();
                assert!(made.expect("runs").success());
            },
            args: &["backup", "sqlite:pipe"],
            code: 7,
            words: &["/pipe: it is not a file", "check the address"],
        },
        Case {
            name: "a text",
            arrange: |sandbox| overwrite(sandbox, b"name,email\nAna,ana@example.org\n"),
            args: BACKUP,
            code: 7,
            words: &["sync.db: it is not an SQLite database, or it is encrypted", "check the address"],
        },
        Case {
            name: "encrypted",
            arrange: |sandbox| overwrite(sandbox, &noise(3 * 4096)),
            args: BACKUP,
            code: 7,
            words: &["sync.db: it is not an SQLite database, or it is encrypted", "check the address"],
        },
        Case {
            name: "garbage after the header",
            arrange: |sandbox| overwrite(sandbox, &[&b"SQLite format 3\0"[..], &noise(3 * 4096)].concat()),
            args: BACKUP,
            code: 7,
            words: &["sync.db: it is not an SQLite database, or it is encrypted", "check the address"],
        },
        Case {
            name: "a server that is not there, and no source is added to the roster",
            arrange: none,
            args: &["backup", "postgres://ana:hunter2@127.0.0.1:1/sync"],
            code: 7,
            words: &["127.0.0.1:1", "sidekeep doctor"],
        },
        Case {
            name: "an unknown kind of database",
            arrange: none,
            args: &["backup", "mysql://ana:hunter2@db/sync"],
            code: 2,
            words: &["mysql://ana:***@db/sync", "sqlite:///srv/sync.db"],
        },
    ]);
}

#[test]
fn a_backup_of_a_locked_source_fails_and_names_it() {
    let sandbox = healthy();
    let holder = Connection::open(sandbox.path("sync.db")).expect("opens");
    holder.execute_batch("BEGIN EXCLUSIVE; DELETE FROM users WHERE id = 2;").expect("locks");
    let locked = Case {
        name: "locked",
        arrange: none,
        args: BACKUP,
        code: 7,
        words: &["sync.db: another process keeps it locked", "own tools"],
    };
    // The journal of the process that holds the lock exists only as long as the lock.
    fails(&sandbox, &locked, &mut sandbox.command(BACKUP));
    drop(holder);
    assert_eq!(sandbox.json(BACKUP)["number"], 3);
}

/// The readable part of a damaged database may be all that is left of it.
#[test]
fn a_damaged_source_is_backed_up_as_far_as_possible_and_earlier_snapshots_stay() {
    let sandbox = healthy();
    let whole = std::fs::read(sandbox.path("sync.db")).expect("reads");
    std::fs::write(sandbox.path("whole.db"), &whole).expect("writes");
    overwrite(&sandbox, &whole[..whole.len() - 4096 - 100]);
    let ran = sandbox.run(BACKUP);
    assert_eq!((ran.code, ran.err.as_str()), (3, ""));
    assert!(ran.out.contains("not captured: "), "{}", ran.out);
    sandbox.ok(&["restore", "latest~1", "--to", "out.sqlite", "--key-file", "keys/admin.key"]);
    assert_same_database(&sandbox.path("out.sqlite"), &sandbox.path("whole.db"));
}

#[test]
fn a_target_is_never_overwritten_and_always_named() {
    all_fail(&[
        Case {
            name: "a file with content",
            arrange: |sandbox| drop(sandbox.write("out.sqlite", "mine")),
            args: RESTORE,
            code: 7,
            words: &["out.sqlite is not empty", "nothing is ever overwritten"],
        },
        Case {
            name: "the live database itself",
            arrange: none,
            args: &["restore", "latest", "--to", "sqlite:sync.db", "--key-file", "keys/admin.key"],
            code: 7,
            words: &["sync.db is not empty", "nothing is ever overwritten"],
        },
        Case {
            name: "a directory with content",
            arrange: none,
            args: &["restore", "latest", "--to", "keys", "--format", "csv", "--key-file", "keys/admin.key"],
            code: 7,
            words: &["keys is not empty", "nothing is ever overwritten"],
        },
        Case {
            name: "a directory where a file should be",
            arrange: |sandbox| std::fs::create_dir(sandbox.path("out.sqlite")).expect("makes"),
            args: RESTORE,
            code: 7,
            words: &["out.sqlite exists already, and is not a file", "nothing is ever overwritten"],
        },
        Case {
            name: "a device",
            arrange: none,
            args: &["restore", "latest", "--to", "sqlite:/dev/null", "--key-file", "keys/admin.key"],
            code: 7,
            words: &["/dev/null exists already, and is not a file", "nothing is ever overwritten"],
        },
        Case {
            name: "a directory that is not there",
            arrange: none,
            args: &["restore", "latest", "--to", "gone/out.sqlite", "--key-file", "keys/admin.key"],
            code: 7,
            words: &["gone/out.sqlite", "No such file or directory", "check the address"],
        },
        Case {
            name: "below a directory that is not there",
            arrange: none,
            args: &["restore", "latest", "--to", "gone/out", "--format", "jsonl", "--key-file", "keys/admin.key"],
            code: 7,
            words: &["gone/out", "No such file or directory", "check the address"],
        },
        Case {
            name: "below a file",
            arrange: |sandbox| drop(sandbox.write("file", "")),
            args: &["restore", "latest", "--to", "file/out.sqlite", "--key-file", "keys/admin.key"],
            code: 7,
            words: &["file/out.sqlite", "Not a directory", "check the address"],
        },
    ]);
}

/// A user without privileges, if this process runs as the superuser, for whom permissions do not apply.
fn nobody() -> Option<u32> {
    (std::fs::metadata("/proc/self").expect("a process").uid() == 0).then_some(65534)
}

fn give(path: &Path, user: u32) {
    std::os::unix::fs::chown(path, Some(user), Some(user)).expect("gives");
    if path.is_dir() {
        for entry in path.read_dir().expect("reads") {
            give(&entry.expect("reads").path(), user);
        }
    }
}

/// Removes all permissions except `kept` from `path` and everything below it.
fn forbid(path: &Path, kept: u32) {
    if path.is_dir() {
        for entry in path.read_dir().expect("reads") {
            forbid(&entry.expect("reads").path(), kept);
        }
    }
    let mode = path.metadata().expect("is there").permissions().mode();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode & kept)).expect("permissions");
}

#[test]
fn a_missing_permission_is_named() {
    let healthy = healthy();
    let read_only = 0o555;
    let case = |name, args, code, words| Case { name, arrange: none, args, code, words };
    for (path, kept, case) in [
        ("repo", read_only, case("a read-only store", BACKUP, 7, &["creating ", "was refused", "permissions"][..])),
        ("repo", 0, case("an unreadable store", BACKUP, 7, &["reading sidekeep.json was refused", "permissions"])),
        (
            "repo/roster",
            0,
            case("an unreadable directory of the store", RESTORE, 7, &["listing roster was refused", "permissions"]),
        ),
        ("sync.db", 0, case("an unreadable database", BACKUP, 7, &["sync.db: Permission denied", "check the address"])),
        (
            "keys/admin.key",
            0,
            case("an unreadable key", RESTORE, 5, &["keys/admin.key: Permission denied", "--key-file"]),
        ),
        ("sidekeep.toml", 0, case("an unreadable configuration", BACKUP, 2, &["sidekeep.toml: Permission denied"])),
        ("target", read_only, case("a read-only target", INTO_TARGET, 7, &["target/out.sqlite: Permission denied"])),
        ("target", read_only, case("a read-only target for files", INTO_FILES, 7, &["target/out: Permission denied"])),
        (
            "target",
            read_only,
            case(
                "a read-only spill directory",
                SPILL_INTO,
                2,
                &["a private copy in target: Permission denied", "--spill-dir"],
            ),
        ),
        (
            "target",
            read_only,
            case(
                "a read-only location for a repository",
                INIT_IN,
                7,
                &["opening target/repo was refused", "permissions"],
            ),
        ),
    ] {
        let sandbox = copied(&healthy);
        std::fs::create_dir_all(sandbox.path("target/more")).expect("makes");
        let mut command = sandbox.command(case.args);
        if let Some(nobody) = nobody() {
            // The built program may be in a directory that only the superuser can enter.
            let program = sandbox.path("sidekeep");
            std::fs::copy(env!("CARGO_BIN_EXE_sidekeep"), &program).expect("copies");
            give(sandbox.dir.path(), nobody);
            command = sandbox.command_of(&program, case.args);
            command.uid(nobody).gid(nobody);
        }
        forbid(&sandbox.path(path), kept);
        if nobody().is_none() && path.starts_with("repo") && kept == 0 {
            // The test itself could not read the repository either.
            continue;
        }
        fails(&sandbox, &case, &mut command);
        let again = std::process::Command::new("chmod").args(["-R", "u+rwX"]).arg(sandbox.dir.path()).status();
        assert!(again.expect("runs").success());
    }
}

const INTO_TARGET: &[&str] = &["restore", "latest", "--to", "target/out.sqlite", "--key-file", "keys/admin.key"];
const INTO_FILES: &[&str] =
    &["restore", "latest", "--to", "target/out", "--format", "csv", "--key-file", "keys/admin.key"];
const SPILL_INTO: &[&str] = &["backup", "--spill-dir", "target"];
const INIT_IN: &[&str] = &["init", "target/repo", "--keys-dir", "keys/more"];
