//! Grants and wrap pages that a later version wrote or that are damaged.

use std::os::unix::fs::PermissionsExt;

use sidekeep::base::env::System;
use sidekeep::base::id::{Digest, Epoch};
use sidekeep::base::role::{Role, SourceScope};
use sidekeep::crypto::keyfile::{KeyFile, Protection};
use sidekeep::crypto::role::Identity;
use sidekeep::format::roster::{AddGrant, Enrol, RosterStatement};

use crate::bad_input::stored::{identity, state};
use crate::bad_input::{Case, all_fail, files};
use crate::support::sandbox::Sandbox;
use crate::support::sqlite::assert_same_database;

/// Enrols a new key in `keys/new.key`. Its grant is a copy of the grant of its role's first key, changed by `change`.
fn enrol(sandbox: &Sandbox, role: Role, change: impl FnOnce(&mut Vec<u8>)) {
    let first = identity(sandbox, &role.to_string());
    let new = Identity::generate(&System, role, first.repository());
    let place = sandbox.path("repo/keys/000001");
    let mut grants = std::fs::read_dir(place.join(first.key_id().to_string())).expect("a folder");
    let mut grant = std::fs::read(grants.next().expect("a grant").expect("an entry").path()).expect("a grant");
    change(&mut grant);
    std::fs::create_dir_all(place.join(new.key_id().to_string())).expect("creates");
    let sha256 = Digest::of(&grant);
    std::fs::write(place.join(new.key_id().to_string()).join(sha256.to_string()), &grant).expect("writes");
    let (key, public) = (new.key_id(), new.public());
    let enrol = Enrol {
        key,
        role,
        signing: *public.signing.as_bytes(),
        sealing: public.sealing.to_bytes(),
        label: "new".to_owned(),
        sources: (role == Role::Operator).then_some(SourceScope::All),
    };
    let grant = AddGrant { epoch: Epoch(1), key, sha256 };
    state(sandbox, vec![RosterStatement::Enrol(enrol), RosterStatement::Grant(grant)]);
    let file = std::fs::read_to_string(sandbox.path("keys/operator.key")).expect("reads");
    let fingerprint = KeyFile::parse(&file).expect("a key file").header().fingerprint;
    let text = KeyFile::write(&System, &new, "new", fingerprint, Protection::None).expect("writes");
    let path = sandbox.write("keys/new.key", &text);
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("permissions");
}

/// Offset of the version in the header of a binary object.
const VERSION: usize = 9;
const NEW_BACKUP: &[&str] = &["backup", "--key-file", "keys/new.key"];
const NEW_RESTORE: &[&str] = &["restore", "latest", "--to", "out.sqlite", "--key-file", "keys/new.key"];

#[test]
fn an_unusable_grant_is_named() {
    let later = &["keys/000001/", "does not support", "a newer version of sidekeep"];
    let grant = |name, arrange, args, code, words| Case { name, arrange, args, code, words };
    all_fail(&[
        grant("later", |sandbox| enrol(sandbox, Role::Operator, |grant| grant[VERSION] = 2), NEW_BACKUP, 1, later),
        grant(
            "later, for a restore",
            |sandbox| enrol(sandbox, Role::Admin, |grant| grant[VERSION] = 2),
            NEW_RESTORE,
            1,
            later,
        ),
        grant(
            "with bytes that are reserved",
            |sandbox| enrol(sandbox, Role::Operator, |grant| grant[10] = 1),
            NEW_BACKUP,
            1,
            later,
        ),
        grant(
            "something else",
            |sandbox| enrol(sandbox, Role::Operator, |grant| grant[..8].copy_from_slice(b"NOTSIDEK")),
            NEW_BACKUP,
            1,
            &["keys/000001/", "is not a Sidekeep object", "check the location"],
        ),
        grant(
            "another key's",
            |sandbox| enrol(sandbox, Role::Operator, |_| {}),
            NEW_BACKUP,
            1,
            &["keys/000001/", "it belongs to another repository, epoch or key", "sidekeep verify"],
        ),
    ]);
}

/// Packs also contain wraps, so nothing is lost if a page cannot be read. But it is reported.
#[test]
fn an_unreadable_wrap_page_is_named_and_nothing_is_lost() {
    let sandbox = Sandbox::new();
    sandbox.sql("sync.db", "CREATE TABLE t (id INTEGER PRIMARY KEY, night INT);");
    sandbox.write("sidekeep.toml", crate::bad_input::CONFIG);
    sandbox.ok(&["init", "repo", "--source", "sqlite:sync.db"]);
    for night in 0..66 {
        sandbox.sql("sync.db", &format!("INSERT INTO t (night) VALUES ({night});"));
        sandbox.ok(&["backup"]);
    }
    let is_page = |path: &std::path::PathBuf| path.parent().is_some_and(|parent| parent.ends_with("wraps"));
    let page = files(&sandbox.path("repo")).into_keys().find(is_page).expect("a page");
    let name = page.file_name().and_then(|name| name.to_str()).expect("UTF-8").to_owned();
    let whole = std::fs::read(&page).expect("reads");
    let mut later = whole.clone();
    later[VERSION] = 2;
    // Flip a bit in each wrap. The page still decodes, but no wrap opens.
    let mut corrupted = whole.clone();
    (0..64).for_each(|wrap| corrupted[44 + wrap * 1184 + 100] ^= 1);
    for bytes in [later, whole[..5000].to_vec(), vec![b'x'; whole.len()], corrupted] {
        std::fs::write(&page, bytes).expect("writes");
        for (snapshot, nights) in [("latest", 66), ("latest~60", 6)] {
            sandbox.ok(&["restore", snapshot, "--to", "out.sqlite", "--key-file", "keys/admin.key"]);
            sandbox.sql("then.db", "CREATE TABLE t (id INTEGER PRIMARY KEY, night INT);");
            (0..nights).for_each(|night| {
                sandbox.sql("then.db", &format!("INSERT INTO t (night) VALUES ({night});"));
            });
            assert_same_database(&sandbox.path("out.sqlite"), &sandbox.path("then.db"));
            for file in ["out.sqlite", "then.db"] {
                std::fs::remove_file(sandbox.path(file)).expect("removes");
            }
        }
        let ran = sandbox.run(&["verify", "--level", "read"]);
        assert!(ran.code == 3 && ran.out.contains(&name), "{} {}", ran.code, ran.out);
    }
    // A writer leaves objects alone that it does not understand.
    let left = std::fs::read(&page).expect("reads");
    sandbox.ok(&["backup"]);
    assert!(std::fs::read(&page).expect("reads") == left);
}
