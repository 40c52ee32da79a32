//! Wrong words: usage, configuration, and names of snapshots, tables and sources.

use std::collections::HashMap;

use sidekeep::base::time::Moment;
use sidekeep::format::entry::{Entry, EntryBody};

use crate::bad_input::stored::{append, head_digest};
use crate::bad_input::{BACKUP, Case, all_fail, alter, fails, healthy};
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

/// The id of a snapshot is the digest of its envelope. A prefix has 16 bits at least, so some hundred snapshots share one.
#[test]
fn an_id_prefix_of_several_snapshots_is_ambiguous() {
    let sandbox = healthy();
    let (mut known, mut first) = (HashMap::new(), None);
    while first.is_none() {
        append(&sandbox, later_image, ("", ""));
        let id = head_digest(&sandbox).to_string();
        first = known.insert(id[..4].to_owned(), id);
    }
    let first = first.expect("a snapshot");
    let case = Case {
        name: "ambiguous",
        arrange: none,
        args: &[],
        code: 1,
        words: &["2 snapshots have ids that begin with", "sidekeep snapshots"],
    };
    let restore = ["restore", &first[..4], "--to", "out.sqlite", "--key-file", "keys/admin.key"];
    fails(&sandbox, &case, &mut sandbox.command(&restore));
    let listed = sandbox.run(&["show", &first, "--json"]);
    assert!(!listed.err.contains("begin with"), "{}", listed.err);
}

/// A copy of the last snapshot with a later image.
fn later_image(entry: &mut Entry) {
    let EntryBody::Snapshot(snapshot) = &mut entry.body else { panic!("not a snapshot") };
    snapshot.source_clock = Moment(snapshot.source_clock.0 + 1);
}
