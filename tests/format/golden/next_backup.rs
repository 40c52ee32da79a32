//! Today's writer continues a golden repository. It computes the same ids as the original writer: a backup of the
//! unchanged database stores nothing, and a backup of a changed one restores.

use std::os::unix::fs::PermissionsExt;

use crate::golden::{copy_tree, golden};
use crate::support::sandbox::{Sandbox, gaps_of};
use crate::support::sqlite::assert_same_database;
use crate::support::world::SOURCE;

#[test]
fn the_next_backup_of_a_golden_repository_stores_nothing_twice() {
    let sandbox = Sandbox::new();
    copy_tree(&golden("v1"), sandbox.dir.path());
    for key in sandbox.path("keys").read_dir().expect("reads") {
        let path = key.expect("a key").path();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("a mode");
    }
    sandbox.write(
        "sidekeep.toml",
        &format!("repo = 'store'\nkey_file = 'keys/operator.key'\n[source.{SOURCE}]\nurl = 'sqlite:live.sqlite'\n"),
    );
    let restore = |to: &str| {
        sandbox.ok(&["restore", "latest", "--source", SOURCE, "--to", to, "--key-file", "keys/admin.key"]);
    };
    restore("live.sqlite");
    let report = sandbox.json(&["backup", SOURCE]);
    assert_eq!((&report["new_bytes"], gaps_of(&report).len()), (&0.into(), 0), "{report}");
    sandbox.sql("live.sqlite", "DELETE FROM contacts WHERE id % 3 = 0; UPDATE users SET note = id;");
    sandbox.ok(&["backup", SOURCE]);
    restore("back.sqlite");
    assert_same_database(&sandbox.path("back.sqlite"), &sandbox.path("live.sqlite"));
}
