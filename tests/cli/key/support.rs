//! What the tests of `sidekeep key` share.

use serde_json::Value;

use crate::Sandbox;

/// Runs a command with a key from `keys/`.
pub fn with_key<'a>(args: &[&'a str], file: &'a str) -> Vec<&'a str> {
    [args, &["--key-file", file]].concat()
}

pub const ADMIN: &str = "keys/admin.key";
pub const RECOVERY: &str = "keys/recovery.key";

/// The line of `key list` for the key with this role or label.
pub fn line(sandbox: &Sandbox, what: &str) -> Value {
    let listed = sandbox.json(&["key", "list"]);
    let lines = listed["keys"].as_array().expect("keys");
    let found = lines.iter().find(|line| line["role"] == what || line["label"] == what);
    found.unwrap_or_else(|| panic!("no key {what} in {listed}")).clone()
}

/// The id of the key with this role or label.
pub fn id(sandbox: &Sandbox, what: &str) -> String {
    line(sandbox, what)["key"].as_str().expect("an id").to_owned()
}

/// The bytes that a backup with the key in `file` uploads.
pub fn uploaded(sandbox: &Sandbox, file: &str) -> u64 {
    let report = sandbox.json(&with_key(&["backup"], file));
    report["new_bytes"].as_u64().unwrap_or_else(|| panic!("no bytes in {report}"))
}

/// The ids of the sources, in the order in which they were added.
pub fn sources(sandbox: &Sandbox) -> Vec<String> {
    let listed = sandbox.json(&["source", "list"]);
    let lines = listed["sources"].as_array().expect("sources");
    lines.iter().map(|line| line["source"].as_str().expect("an id").to_owned()).collect()
}
