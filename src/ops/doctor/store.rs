//! Checks the store: a race to create one object, because all commits depend on its outcome, and every kind of request
//! on a probe object, which is deleted again.

use std::error::Error;

use bytes::Bytes;
use data_encoding::HEXLOWER;

use crate::base::env::{SharedEnv, random};
use crate::base::finding::FindingKind;
use crate::base::time::Moment;
use crate::ops::doctor::check::{Checks, Problem};
use crate::repo::create::check_store;
use crate::repo::error::RepoError;
use crate::repo::objects::Objects;
use crate::store::{StoreError, delete_probe};

const PROBE_BYTES: usize = 4096;
/// What to do about probes that could not be deleted.
const CLEAN_UP: &str = "to clean up, delete everything below probe/ with credentials that may delete; nothing uses it";
/// A larger difference between clocks is reported, in microseconds.
const SKEW_US_MAX: i64 = 60_000_000;

/// Checks a store that is open.
pub(super) fn check(objects: &Objects, env: &SharedEnv, checks: &mut Checks) {
    if check_race(objects, env, checks) {
        check_requests(objects, env, checks);
    }
}

fn unfit<'a>(detail: impl Into<String>, remedy: &'a str) -> Problem<'a> {
    Problem::new(FindingKind::StoreUnfit, detail, remedy)
}

fn failed<'a>(error: &(dyn Error + 'static), remedy: &'a str) -> Problem<'a> {
    Problem::of(FindingKind::StoreUnfit, error, remedy)
}

/// Lets many writers create one object. Returns whether anything can be written at all.
fn check_race(objects: &Objects, env: &SharedEnv, checks: &mut Checks) -> bool {
    let name = "create only once";
    match check_store(objects, env) {
        // A host that may not delete is reported once, by the check of deleting.
        Ok(None | Some(StoreError::Refused { .. })) => checks.ok(name, "exactly one of many writers of one object won"),
        Ok(Some(left)) => checks.warn(name, unfit(format!("a test object could not be deleted: {left}"), CLEAN_UP)),
        Err(error @ RepoError::Unconditional { .. }) => {
            let remedy = "use a store with conditional writes: without them two backups can overwrite each other";
            checks.fail(name, failed(&error, remedy));
        }
        Err(RepoError::Store(error @ (StoreError::Refused { .. } | StoreError::ReadOnly { .. }))) => {
            let remedy = "nothing, if this host is only meant to read; otherwise allow it to create objects";
            checks.warn(name, unfit(error.to_string(), remedy));
            return false;
        }
        Err(error) => {
            checks.fail(name, failed(&error, "check the network and the store's health"));
            return false;
        }
    }
    true
}

/// An object that is written only for the check.
struct StoreProbe<'a> {
    objects: &'a Objects,
    name: String,
    body: Bytes,
}

/// Tries every kind of request.
fn check_requests(objects: &Objects, env: &SharedEnv, checks: &mut Checks) {
    let name = format!("probe/{}", HEXLOWER.encode(&random::<16>(&**env)));
    let body = Bytes::from(random::<PROBE_BYTES>(&**env).to_vec());
    let probe = StoreProbe { objects, name, body };
    let before_us = env.now().0;
    if let Err(error) = probe.write() {
        return checks.fail("write", failed(&error, "allow this host to create objects"));
    }
    let elapsed_us = env.now().0 - before_us;
    checks.ok("write", format!("{PROBE_BYTES} bytes in {} ms", elapsed_us / 1000));
    probe.check_read(checks);
    probe.check_range(checks);
    if let Some(modified) = probe.check_list(checks) {
        let written_us = before_us + elapsed_us / 2;
        check_clock(modified.0.saturating_sub(written_us), checks);
    }
    probe.check_delete(checks);
}

impl StoreProbe<'_> {
    fn write(&self) -> Result<(), StoreError> {
        let create = self.objects.store().create(&self.name, self.body.clone());
        self.objects.runtime().block_on(create).map(drop)
    }

    fn check_read(&self, checks: &mut Checks) {
        let get = self.objects.store().get(&self.name, PROBE_BYTES as u64);
        match self.objects.runtime().block_on(get) {
            Ok(read) if read == self.body => checks.ok("read", "the object was read back as it was written"),
            Ok(_) => {
                checks.fail("read", unfit("the bytes read back differ from the bytes written", "do not use this store"))
            }
            Err(error) => checks.fail("read", failed(&error, "allow this host to read objects")),
        }
    }

    fn check_range(&self, checks: &mut Checks) {
        let name = "read a part";
        let get = self.objects.store().get_range(&self.name, 1000..1010);
        match self.objects.runtime().block_on(get) {
            Ok(read) if read == self.body.slice(1000..1010) => {
                checks.ok(name, "exactly the requested bytes");
            }
            Ok(_) => {
                checks.fail(name, unfit("other bytes than the requested ones were returned", "do not use this store"))
            }
            Err(error) => checks.fail(name, failed(&error, "use a store that serves ranges of objects")),
        }
    }

    /// Looks for the object in a listing. Returns when it was written, by the store's clock.
    fn check_list(&self, checks: &mut Checks) -> Option<Moment> {
        let list = self.objects.store().list_sorted("probe");
        let listed = match self.objects.runtime().block_on(list) {
            Ok(listed) => listed,
            Err(error) => {
                checks.fail("list", failed(&error, "allow this host to list objects"));
                return None;
            }
        };
        let Some(found) = listed.iter().find(|listed| listed.name == self.name) else {
            checks.warn("list", not_listed());
            return None;
        };
        if found.size_bytes != PROBE_BYTES as u64 {
            checks.fail("list", wrong_size(found.size_bytes));
            return None;
        }
        checks.ok("list", "the new object is listed");
        Some(found.modified)
    }

    fn check_delete(&self, checks: &mut Checks) {
        let store = self.objects.store();
        let runtime = self.objects.runtime();
        match runtime.block_on(delete_probe(store, &self.name)) {
            Ok(()) => {}
            Err(StoreError::Refused { .. }) => {
                let detail = "this host may not delete objects, which backups never need; its test objects stay";
                return checks.inform("delete", detail, CLEAN_UP);
            }
            Err(error) => return checks.warn("delete", unfit(error.to_string(), CLEAN_UP)),
        }
        match runtime.block_on(store.size(&self.name)) {
            Err(StoreError::NotFound { .. }) => checks.ok("delete", "the object is gone"),
            Ok(_) => checks.warn("delete", unfit("the object still exists after it was deleted", CLEAN_UP)),
            Err(error) => checks.warn("delete", unfit(error.to_string(), CLEAN_UP)),
        }
    }
}

fn check_clock(skew_us: i64, checks: &mut Checks) {
    if skew_us.abs() <= SKEW_US_MAX {
        return checks.ok("clock", "this host and the store agree");
    }
    let direction = if skew_us > 0 { "behind" } else { "ahead of" };
    let detail = format!("this host is {} seconds {direction} the store", skew_us.abs() / 1_000_000);
    let kind = FindingKind::ClockSkew { seconds: skew_us / 1_000_000 };
    let remedy = "synchronize both with a time server: ages are computed with this host's clock";
    checks.warn("clock", Problem::new(kind, detail, remedy));
}

fn not_listed() -> Problem<'static> {
    let remedy = "nothing: backups and restores do not rely on up-to-date listings";
    unfit("the new object is not listed yet", remedy)
}

fn wrong_size(listed_bytes: u64) -> Problem<'static> {
    unfit(format!("the listing shows {listed_bytes} bytes instead of {PROBE_BYTES}"), "do not use this store")
}
