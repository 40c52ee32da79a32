//! Grants and wrap pages that a later version wrote or that are damaged.

use std::os::unix::fs::PermissionsExt;

use sidekeep::base::env::System;
use sidekeep::base::id::{Digest, Epoch};
use sidekeep::base::role::{Role, SourceScope};
use sidekeep::crypto::keyfile::{KeyFile, Protection};
use sidekeep::crypto::role::Identity;
use sidekeep::format::roster::{AddGrant, Enrol, RosterStatement};

use crate::bad_input::stored::{identity, state};
use crate::bad_input::{Case, all_fail};
use crate::support::sandbox::Sandbox;

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
