//! Wrong words: usage, configuration, and names of snapshots, tables and sources.

use std::path::PathBuf;

use sidekeep::base::id::Digest;

use crate::bad_input::{BACKUP, Case, RESTORE, all_fail, alter, fails, files, healthy};
use crate::support::sandbox::Sandbox;

fn none(_: &mut Sandbox) {}

/// A usage error: the arguments, and what the message must contain.
fn usage(args: &'static [&'static str], words: &'static [&'static str]) -> Case {
    Case { name: args.last().copied().unwrap_or("nothing"), arrange: none, args, code: 2, words }
}

#[test]
fn wrong_usage_is_reported_with_the_right_usage() {
    all_fail(&[
        usage(&[], &["Usage: sidekeep", "Commands:"]),
        usage(&["bakcup"], &["unrecognized subcommand 'bakcup'", "'backup'"]),
        usage(&["backup", "--tga", "x"], &["unexpected argument '--tga'"]),
        usage(&["backup", "--tag"], &["a value is required for '--tag <TAG>'"]),
        usage(&["backup", "--tag", "latest"], &["'latest'", "must not look like an id"]),
        usage(&["backup", "--tag", "a b"], &["'a b'", "1 to 64 letters"]),
        usage(&["backup", "--workers", "many"], &["'many'", "--workers"]),
        usage(&["backup", "--retry-time", "soon"], &["\"soon\" is not a duration", "90 seconds"]),
        usage(&["backup", "--repo", ""], &["--repo <REPO>"]),
        usage(&["backup", "--repo", "ftp://host/x"], &["\"ftp\" is not a kind of store", "s3://"]),
        usage(&["backup", "--repo", "s3://key:hunter2@bucket"], &["the bucket in a s3:// location"]),
        usage(&["backup", "one", "two"], &["unexpected argument 'two'"]),
        usage(&["backup", "other"], &["\"other\" is neither an address nor a source", "the source main"]),
        usage(&["restore", "latest"], &["--to <TARGET>"]),
        usage(&["restore", "--to", "out.sqlite"], &["<SNAPSHOT>"]),
        usage(&["restore", "latest", "--to", "out"], &["what kind of target \"out\" is", "--format"]),
        usage(&["restore", "latest", "--at", "now", "--to", "out.sqlite"], &["--at", "cannot be used with"]),
        usage(&["restore", "--at", "tomorow", "--to", "out.sqlite"], &["\"tomorow\" is not a time"]),
        usage(&["restore", "latest", "--to", "mysql://a:hunter2@db/x"], &["mysql://a:***@db/x"]),
        usage(&["init"], &["<REPO>"]),
        usage(&["init", "other", "--keys-dir", "keys"], &["keys/operator.key already exists", "--keys-dir"]),
        usage(&["init", "other", "--keys-dir", "more", "--source", "sync.db"], &["the address", "sqlite:///"]),
    ]);
}

#[test]
fn an_error_in_the_configuration_is_named_with_its_line() {
    let config = |name, arrange: fn(&mut Sandbox), words| Case { name, arrange, args: BACKUP, code: 2, words };
    all_fail(&[
        config(
            "an unknown key",
            |sandbox| alter(sandbox, "sidekeep.toml", "key_file", "key_fiel"),
            &["sidekeep.toml, line 2", "unknown field `key_fiel`", "`key_file`"],
        ),
        config(
            "an unknown key of a source",
            |sandbox| alter(sandbox, "sidekeep.toml", "url", "address"),
            &["sidekeep.toml, line 4", "unknown field `address`", "`url`"],
        ),
        config(
            "a wrong type",
            |sandbox| alter(sandbox, "sidekeep.toml", "'repo'", "['repo']"),
            &["sidekeep.toml, line 1", "invalid type: sequence", "a string"],
        ),
        config(
            "a source that is not a table",
            |sandbox| drop(sandbox.write("sidekeep.toml", "source = 'postgres://ana:hunter2@db/x'")),
            &["sidekeep.toml, line 1", "invalid type"],
        ),
        config("no TOML", |sandbox| alter(sandbox, "sidekeep.toml", "repo =", "repo"), &["sidekeep.toml, line 1"]),
        config(
            "an invalid duration",
            |sandbox| alter(sandbox, "sidekeep.toml", "[source.main]", "[status]\nmax_age = 'soon'\n[source.main]"),
            &["sidekeep.toml, line 4", "\"soon\" is not a duration"],
        ),
        config(
            "a name of a source",
            |sandbox| alter(sandbox, "sidekeep.toml", "[source.main]", "[source.'a b']"),
            &["sidekeep.toml", "\"a b\"", "letters, digits"],
        ),
        config(
            "no source",
            |sandbox| alter(sandbox, "sidekeep.toml", "[source.main]\nurl = 'sqlite:sync.db'", ""),
            &["no source is named", "no source"],
        ),
        config(
            "an unsupported address",
            |sandbox| alter(sandbox, "sidekeep.toml", "sqlite:sync.db", "mysql://ana:hunter2@db/x"),
            &["mysql://ana:***@db/x", "sqlite:///"],
        ),
        Case {
            name: "a file that is not there",
            arrange: none,
            args: &["backup", "--config", "gone.toml"],
            code: 2,
            words: &["cannot read the configuration gone.toml", "No such file"],
        },
        Case {
            name: "a directory",
            arrange: none,
            args: &["backup", "--config", "keys"],
            code: 2,
            words: &["cannot read the configuration keys", "directory"],
        },
    ]);
}

#[test]
fn unknown_snapshots_tables_and_sources_are_named() {
    let restore = |name, args, code, words| Case { name, arrange: none, args, code, words };
    all_fail(&[
        restore("an unknown tag", NO_TAG, 1, &["no snapshot has the id or tag \"last-week\"", "sidekeep snapshots"]),
        restore("an unknown id", NO_ID, 1, &["no snapshot has the id or tag \"0123456789abcdef\"", "snapshots"]),
        restore("too far back", TOO_FAR, 1, &["2 clean snapshots", "latest~2", "sidekeep snapshots"]),
        restore("too long ago", TOO_OLD, 1, &["2001-01-01", "the first is as of", "sidekeep snapshots"]),
        restore("an unknown table", NO_TABLE, 1, &["the snapshot has no table \"contracts\"", "sidekeep show"]),
        restore("an unknown source", NO_SOURCE, 2, &["no source named \"other\"", "sidekeep snapshots"]),
    ]);
}

const NO_TAG: &[&str] = &["restore", "last-week", "--to", "out.sqlite", "--key-file", "keys/admin.key"];
const NO_ID: &[&str] = &["restore", "0123456789abcdef", "--to", "out.sqlite", "--key-file", "keys/admin.key"];
const TOO_FAR: &[&str] = &["restore", "latest~2", "--to", "out.sqlite", "--key-file", "keys/admin.key"];
const TOO_OLD: &[&str] = &["restore", "--at", "2001-01-01", "--to", "out.sqlite", "--key-file", "keys/admin.key"];
const NO_TABLE: &[&str] =
    &["restore", "latest", "--tables", "users,contracts", "--to", "out.sqlite", "--key-file", "keys/admin.key"];
const NO_SOURCE: &[&str] =
    &["restore", "latest", "--source", "other", "--to", "out.sqlite", "--key-file", "keys/admin.key"];

/// The id of a snapshot is the digest of its envelope. White space after the JSON changes the digest and nothing else.
#[test]
fn an_id_prefix_of_several_snapshots_is_ambiguous() {
    let sandbox = healthy();
    let is_entry = |path: &PathBuf| path.parent().is_some_and(|parent| parent.ends_with("ledger"));
    let entries: Vec<PathBuf> = files(&sandbox.path("repo")).into_keys().filter(is_entry).collect();
    let first = Digest::of(&std::fs::read(&entries[0]).expect("reads")).to_string();
    let mut second = std::fs::read(&entries[1]).expect("reads");
    let length = second.len();
    for number in 0u32.. {
        second.truncate(length);
        second.extend((0..32).map(|bit| if number >> bit & 1 == 1 { b' ' } else { b'\n' }));
        if Digest::of(&second).to_string()[..4] == first[..4] {
            break;
        }
    }
    std::fs::write(&entries[1], second).expect("writes");
    std::fs::remove_dir_all(sandbox.path(".cache")).expect("removes what was seen before");
    sandbox.ok(RESTORE);
    std::fs::remove_file(sandbox.path("out.sqlite")).expect("removes");
    let case = Case {
        name: "ambiguous",
        arrange: none,
        args: &[],
        code: 1,
        words: &["2 snapshots have ids that begin with", "sidekeep snapshots"],
    };
    let restore = ["restore", &first[..4], "--to", "out.sqlite", "--key-file", "keys/admin.key"];
    fails(&sandbox, &case, &mut sandbox.command(&restore));
    sandbox.ok(&["restore", &first, "--to", "out.sqlite", "--key-file", "keys/admin.key"]);
}
