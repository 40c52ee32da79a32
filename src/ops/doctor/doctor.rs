//! Runs all checks, in this order: configuration, store, repository, key, snapshots, live sources, disk. If a check
//! fails, all checks that do not depend on it still run.

use std::error::Error;

use crate::base::causes::causes;
use crate::base::finding::{Finding, FindingKind};
use crate::base::progress::CountUnit;
use crate::crypto::role::Identity;
use crate::ops::doctor::check::{Check, CheckState, Checks, Problem};
use crate::ops::doctor::options::{ConfigFact, DoctorOptions, Opener};
use crate::ops::doctor::{host, repository, store};
use crate::repo::error::RepoError;
use crate::repo::objects::Objects;
use crate::store::StoreError;

/// What was found.
#[derive(Clone, Debug, serde::Serialize)]
pub struct DoctorReport {
    pub checks: Vec<Check>,
    /// The problems that all checks found.
    pub findings: Vec<Finding>,
    /// The worst state of all checks.
    pub state: CheckState,
}

impl DoctorReport {
    /// Makes a report of finished checks.
    #[must_use]
    pub fn new(checks: Checks) -> Self {
        let state = checks.checks.iter().map(|check| check.state).max().unwrap_or(CheckState::Ok);
        Self { checks: checks.checks, findings: checks.findings, state }
    }
}

/// Checks everything.
pub fn run(options: DoctorOptions<'_>) -> DoctorReport {
    let mut checks = Checks::default();
    let phase = |name: &str| options.progress.phase(name, CountUnit::Objects, None);
    for fact in &options.config {
        check_config(fact, &mut checks);
    }
    phase("checking the store");
    let objects = options.store.and_then(|open| open_store(open, &mut checks));
    if let Some(objects) = &objects {
        store::check(objects, &options.env, &mut checks);
    }
    phase("checking the repository");
    let identity = options.key.and_then(|open| open_key(open, &mut checks));
    match objects {
        Some(objects) => repository::check(&objects, &options.env, identity, &mut checks),
        None => checks.skip("repository", "the store is not open"),
    }
    for source in options.sources {
        phase(&format!("checking source {}", source.name));
        host::check_source(source, &mut checks);
    }
    host::check_spill(&options.spill_dir, options.spill_bytes_min, &mut checks);
    DoctorReport::new(checks)
}

impl DoctorReport {
    /// Adds a failed check: the store contains another repository than the one for which the key was made.
    pub fn add_other_repository(&mut self, error: &RepoError) {
        let mut checks =
            Checks { checks: std::mem::take(&mut self.checks), findings: std::mem::take(&mut self.findings) };
        let remedy = "check the location: this is not the repository that the key was made for";
        checks.fail("fingerprint", Problem::new(FindingKind::KeyUnfit, error.to_string(), remedy));
        *self = Self::new(checks);
    }
}

/// The report if the configuration cannot be read. Nothing else can be checked without it.
#[must_use]
pub fn without_config(detail: &str, remedy: &str) -> DoctorReport {
    let mut checks = Checks::default();
    checks.fail("configuration", Problem::new(FindingKind::Configuration, detail, remedy));
    DoctorReport::new(checks)
}

fn check_config(fact: &ConfigFact, checks: &mut Checks) {
    match &fact.detail {
        Ok(detail) => checks.ok(&fact.name, detail),
        Err(problem) => {
            let problem = Problem::new(FindingKind::Configuration, problem, "correct the configuration");
            checks.fail(&fact.name, problem);
        }
    }
}

fn open_store(open: Opener<'_, Objects>, checks: &mut Checks) -> Option<Objects> {
    match open() {
        Ok(objects) => {
            checks.ok("store", format!("open at {}", objects.store().place()));
            Some(objects)
        }
        Err(error) => {
            checks.fail("store", Problem::of(FindingKind::StoreUnfit, &*error, store_remedy(&*error)));
            None
        }
    }
}

/// What to do about a store that cannot be opened.
fn store_remedy(error: &(dyn Error + 'static)) -> &'static str {
    match causes(error).find_map(|cause| cause.downcast_ref()) {
        Some(StoreError::NoPlace { .. }) | None => {
            "name the repository's location with --repo or in sidekeep.toml, or create a repository with `sidekeep init`"
        }
        Some(StoreError::Setting { .. }) => "correct this setting in the environment",
        Some(_) => "check the location, the network and the store's credentials",
    }
}

fn open_key(open: Opener<'_, Identity>, checks: &mut Checks) -> Option<Identity> {
    match open() {
        Ok(identity) => {
            checks.ok("key file", format!("{} key {}", identity.role(), identity.key_id()));
            Some(identity)
        }
        Err(error) => {
            let remedy = "name a key file that can be read, and its passphrase if it has one";
            checks.fail("key file", Problem::of(FindingKind::KeyUnfit, &*error, remedy));
            None
        }
    }
}
