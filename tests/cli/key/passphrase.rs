//! `sidekeep key passphrase`

use std::os::unix::fs::PermissionsExt;

use super::support::with_key;
use crate::Sandbox;

const FILE: &str = "keys/auditor.key";

#[test]
fn the_passphrase_of_a_key_file_is_set_changed_and_removed() {
    let sandbox = Sandbox::with_service();
    sandbox.ok(&["backup"]);
    let change = |options: &[&str]| sandbox.run(&[&with_key(&["key", "passphrase"], FILE)[..], options].concat());
    let verify = |options: &[&str]| {
        let args = with_key(&["verify", "--level", "structure"], FILE);
        sandbox.run(&[&args[..], options].concat()).code
    };
    let none = change(&[]);
    assert!(none.code == 2 && none.err.contains("--ask-passphrase"), "{}", none.err);
    let set = change(&["--new-passphrase-command", "echo one"]);
    assert_eq!((set.code, verify(&[]), verify(&["--passphrase-command", "echo one"])), (0, 5, 0), "{}", set.err);
    let mode = sandbox.path(FILE).metadata().expect("is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let text = || std::fs::read_to_string(sandbox.path(FILE)).expect("reads");
    let before = text();
    // Nothing is lost if the old or the new passphrase cannot be had.
    let options = ["--passphrase-command", "echo wrong", "--new-passphrase-command", "echo two"];
    assert_eq!(change(&options).code, 5);
    assert_eq!(change(&["--passphrase-command", "echo one", "--new-passphrase-command", "false"]).code, 5);
    assert_ne!(change(&["--passphrase-command", "echo one", "--new-passphrase-command", "true"]).code, 0);
    assert_eq!(text(), before);
    assert_eq!(change(&["--passphrase-command", "echo one", "--new-passphrase-command", "echo two"]).code, 0);
    assert_eq!((verify(&["--passphrase-command", "echo one"]), verify(&["--passphrase-command", "echo two"])), (5, 0));
    assert_eq!(change(&["--passphrase-command", "echo two", "--remove"]).code, 0);
    assert_eq!(verify(&[]), 0);
    assert_eq!(std::fs::read_dir(sandbox.path("keys")).expect("reads").count(), 5);
}
