//! The store: the race that all else rests on, and every kind of request on an object of its own, which
//! is deleted again.

use bytes::Bytes;
use data_encoding::HEXLOWER;

use crate::base::env::{SharedEnv, random};
use crate::ops::doctor::check::Checks;
use crate::repo::create::check_store;
use crate::repo::error::RepoError;
use crate::repo::io::Objects;
use crate::store::StoreError;

const PROBE_BYTES: usize = 4096;
/// Difference of clocks that is worth a word, in microseconds.
const SKEW_US_MAX: i64 = 60_000_000;

/// Checks a store that is open.
pub(super) fn check(objects: &Objects, env: &SharedEnv, checks: &mut Checks) {
    let race = "create only once";
    match check_store(objects, env) {
        Ok(None) => checks.ok(race, "of many writers of one object exactly one won"),
        Ok(Some(left)) => checks.warn(race, left, "nothing, if this host is not meant to delete anything"),
        Err(error @ RepoError::Unconditional { .. }) => {
            checks.fail(
                race,
                &error,
                "use a store with conditional writes: without them two backups overwrite each other",
            );
        }
        Err(RepoError::Store(error @ (StoreError::Refused { .. } | StoreError::ReadOnly { .. }))) => {
            let remedy = "nothing, if this host is only meant to read; else allow it to create objects";
            return checks.warn(race, error.to_string(), remedy);
        }
        Err(error) => return checks.fail(race, &error, "check the network and the store's health"),
    }
    probe(objects, env, checks);
}

fn probe(objects: &Objects, env: &SharedEnv, checks: &mut Checks) {
    let name = format!("probe/{}", HEXLOWER.encode(&random::<16>(&**env)));
    let body = Bytes::from(random::<PROBE_BYTES>(&**env).to_vec());
    let (store, runtime) = (objects.store(), objects.runtime());
    let before = env.now();
    if let Err(error) = runtime.block_on(store.create(&name, body.clone())) {
        return checks.fail("write", &error, "allow this host to create objects");
    }
    let after = env.now();
    checks.ok("write", format!("{PROBE_BYTES} bytes in {} ms", (after.0 - before.0) / 1000));
    match runtime.block_on(store.get(&name, PROBE_BYTES as u64)) {
        Ok(read) if read == body => checks.ok("read", "what was written came back"),
        Ok(_) => checks.fail_with("read", "other bytes came back than were written", "do not use this store"),
        Err(error) => checks.fail("read", &error, "allow this host to read objects"),
    }
    match runtime.block_on(store.get_range(&name, 1000..1010)) {
        Ok(read) if read == body.slice(1000..1010) => checks.ok("read a part", "exactly the bytes that were asked for"),
        Ok(_) => checks.fail_with("read a part", "other bytes came than were asked for", "do not use this store"),
        Err(error) => checks.fail("read a part", &error, "use a store that serves ranges of objects"),
    }
    match runtime.block_on(store.list_sorted("probe")) {
        Ok(listed) => match listed.iter().find(|listed| listed.name == name) {
            Some(found) if found.size_bytes == PROBE_BYTES as u64 => {
                checks.ok("list", "the new object is listed");
                let middle = before.0 + (after.0 - before.0) / 2;
                check_clock(found.modified.0.saturating_sub(middle), checks);
            }
            Some(found) => {
                let detail = format!("{} bytes are listed where {PROBE_BYTES} are", found.size_bytes);
                checks.fail_with("list", detail, "do not use this store");
            }
            None => checks.warn(
                "list",
                "the new object is not listed yet",
                "nothing: backups and restores do not count on listings being up to date",
            ),
        },
        Err(error) => checks.fail("list", &error, "allow this host to list objects"),
    }
    delete(objects, &name, checks);
}

fn check_clock(skew_us: i64, checks: &mut Checks) {
    let seconds = skew_us.abs() / 1_000_000;
    if skew_us.abs() <= SKEW_US_MAX {
        return checks.ok("clock", "this host and the store agree");
    }
    let direction = if skew_us > 0 { "behind" } else { "ahead of" };
    let detail = format!("this host is {seconds} seconds {direction} the store");
    checks.warn("clock", detail, "set both by a time server: ages are judged by this host's clock");
}

fn delete(objects: &Objects, name: &str, checks: &mut Checks) {
    let (store, runtime) = (objects.store(), objects.runtime());
    let harmless =
        "nothing, if this host is not meant to delete anything; objects below probe/ may be deleted by anybody";
    if let Err(error) = runtime.block_on(store.delete(name)) {
        return checks.warn("delete", error.to_string(), harmless);
    }
    match runtime.block_on(store.size(name)) {
        Err(StoreError::NotFound { .. }) => checks.ok("delete", "the object is gone"),
        Ok(_) => checks.warn("delete", "the object is still there after it was deleted", harmless),
        Err(error) => checks.warn("delete", error.to_string(), harmless),
    }
}
