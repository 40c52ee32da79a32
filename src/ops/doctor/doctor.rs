//! The verb: configuration, store, repository, key, snapshots, live sources, disk, in this order. A check
//! that fails never keeps those from running that do not need what it needs.

use crate::base::progress::CountUnit;
use crate::crypto::role::Identity;
use crate::ops::doctor::check::{Check, CheckState, Checks};
use crate::ops::doctor::options::{DoctorOptions, Opener};
use crate::ops::doctor::{host, repository, store};
use crate::repo::io::Objects;

/// What was found.
#[derive(Clone, Debug, serde::Serialize)]
pub struct DoctorReport {
    pub checks: Vec<Check>,
    /// The worst of them.
    pub state: CheckState,
}

/// Checks everything.
pub fn run(options: DoctorOptions<'_>) -> DoctorReport {
    let mut checks = Checks::default();
    let phase = |name: &str| options.progress.phase(name, CountUnit::Objects, None);
    for fact in &options.config {
        match &fact.detail {
            Ok(detail) => checks.ok(&fact.name, detail),
            Err(problem) => checks.fail_with(&fact.name, problem, "correct the configuration"),
        }
    }
    phase("checking the store");
    let objects = options.store.and_then(|open| open_store(open, &mut checks));
    if let Some(objects) = &objects {
        store::check(objects, &options.env, &mut checks);
    }
    phase("checking the repository");
    let identity = options.key.and_then(|open| open_key(open, &mut checks));
    match objects {
        Some(objects) => repository::check(objects, &options.env, identity, &mut checks),
        None => checks.skip("repository", "the store is not open"),
    }
    for source in options.sources {
        phase(&format!("checking source {}", source.name));
        host::check_source(source, &mut checks);
    }
    host::check_spill(&options.spill_dir, options.spill_bytes_min, &mut checks);
    let checks = checks.finish();
    let state = checks.iter().map(|check| check.state).max().unwrap_or(CheckState::Ok);
    DoctorReport { checks, state }
}

fn open_store(open: Opener<'_, Objects>, checks: &mut Checks) -> Option<Objects> {
    match open() {
        Ok(objects) => {
            checks.ok("store", format!("open at {}", objects.store().place()));
            Some(objects)
        }
        Err(error) => {
            checks.fail("store", &*error, "check the address, the network and the store's credentials");
            None
        }
    }
}

fn open_key(open: Opener<'_, Identity>, checks: &mut Checks) -> Option<Identity> {
    match open() {
        Ok(identity) => {
            checks.ok("key file", format!("{} key {}", identity.role(), identity.key_id()));
            Some(identity)
        }
        Err(error) => {
            checks.fail("key file", &*error, "name a key file that can be read, and its passphrase if it has one");
            None
        }
    }
}
