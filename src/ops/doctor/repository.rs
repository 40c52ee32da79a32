//! Checks the repository: its roster, the grants of the key, the ledgers, and the newest manifest of each source.

use crate::base::env::SharedEnv;
use crate::base::finding::{Finding, FindingKind, Severity};
use crate::base::frame::FrameContext;
use crate::base::id::SourceId;
use crate::crypto::role::Identity;
use crate::ops::doctor::check::{Checks, Problem};
use crate::repo::error::RepoError;
use crate::repo::finding::{chain_hole, kind_of, void_entry};
use crate::repo::ledger::{Ledger, SnapshotRecord};
use crate::repo::manifest::{self, Depth};
use crate::repo::objects::Objects;
use crate::repo::open::{Repository, Unlocked};
use crate::store::StoreError;

/// A repository without snapshots is new, which is not a finding. `status` reports snapshots that are too old.
const FIRST_BACKUP: &str = "take the first backup: `sidekeep backup`";

/// Checks the repository, as far as the key can read it.
pub(super) fn check(objects: &Objects, env: &SharedEnv, identity: Option<Identity>, checks: &mut Checks) {
    check_objects(objects, env, identity, checks);
    for finding in objects.head_findings() {
        checks.found("history", finding);
    }
}

fn check_objects(objects: &Objects, env: &SharedEnv, identity: Option<Identity>, checks: &mut Checks) {
    let repository = match Repository::open(objects.clone(), SharedEnv::clone(env)) {
        Ok(repository) => repository,
        Err(error) => return report_unopened(&error, checks),
    };
    checks.ok("repository", format!("{}, fingerprint {}", repository.id(), repository.roster().fingerprint()));
    let voids = repository.roster().voids.len();
    if voids > 0 {
        let detail = format!("{voids} entries do not count");
        checks.found("roster", void_entry("roster", detail, "find out who wrote them"));
    }
    for finding in repository.roster().feature_findings() {
        checks.found("features", finding);
    }
    let Some(identity) = identity else { return checks.skip("key", "no key was given, or it cannot be opened") };
    match repository.unlock(identity) {
        Ok(unlocked) => check_unlocked(&unlocked, checks),
        Err(error) => {
            let remedy = "use a key of this repository that was not revoked";
            checks.fail("key", Problem::of(FindingKind::KeyUnfit, &error, remedy));
        }
    }
}

fn check_unlocked(unlocked: &Unlocked, checks: &mut Checks) {
    check_key(unlocked, checks);
    let sources = &unlocked.repository().roster().sources;
    for finding in unlocked.names().findings() {
        checks.found("names", finding);
    }
    if let Some(finding) = unlocked.revocation() {
        checks.found("revocation", finding);
    }
    if sources.is_empty() {
        checks.ok_so_far("sources", "the repository has none yet", FIRST_BACKUP);
    }
    for (source, _) in sources.iter().filter(|(_, state)| state.retired.is_none()) {
        check_source(unlocked, *source, checks);
    }
}

fn report_unopened(error: &RepoError, checks: &mut Checks) {
    let remedy = match error {
        RepoError::NoRepository { .. } => {
            "name another location with --repo or in sidekeep.toml, or create a repository with `sidekeep init`"
        }
        _ => remedy(error, "restore the damaged object from a second copy of the store"),
    };
    checks.fail("repository", Problem::of(kind(error), error, remedy));
}

/// The finding kind for an error. An error that does not concern the repository comes from the store.
fn kind(error: &RepoError) -> FindingKind {
    kind_of(error).unwrap_or(FindingKind::StoreUnfit)
}

/// What to do about an error. `damaged` is the remedy for a damaged object; an object that the store does not return
/// may be intact.
fn remedy(error: &RepoError, damaged: &'static str) -> &'static str {
    match error {
        RepoError::Store(StoreError::Refused { .. }) => {
            "allow this host to read the store: check its credentials and permissions"
        }
        RepoError::Store(StoreError::Unreachable { .. } | StoreError::Throttled { .. }) => {
            "check whether the store answers its own tools from this host"
        }
        _ => damaged,
    }
}

fn check_key(unlocked: &Unlocked, checks: &mut Checks) {
    let Some((epoch, _)) = unlocked.repository().roster().open_epoch() else {
        return checks.fail("key", no_open_epoch());
    };
    match unlocked.epoch(epoch) {
        Ok(_) => checks.ok("key", format!("it opens its grant of epoch {epoch}; its role is {}", unlocked.role())),
        Err(error) => {
            checks.fail("key", Problem::of(FindingKind::KeyUnfit, &error, "use another key of this repository"));
        }
    }
}

fn no_open_epoch() -> Problem<'static> {
    let remedy = "everything can still be restored; back up to a new repository made with `sidekeep init`";
    Problem::new(FindingKind::KeyUnfit, "no epoch is open for writing", remedy)
}

fn check_source(unlocked: &Unlocked, source: SourceId, checks: &mut Checks) {
    let name = format!("source {}", unlocked.source_name(source).unwrap_or_else(|| source.to_string()));
    let ledger = match Ledger::load(unlocked.repository(), source) {
        Ok(ledger) => ledger,
        Err(error) => {
            let remedy = remedy(&error, "restore the damaged ledger entry from a second copy of the store");
            return checks.fail(&name, Problem::of(kind(&error), &error, remedy));
        }
    };
    check_ledger(&name, &ledger, checks);
    for finding in ledger.roster_findings() {
        checks.found(&name, finding);
    }
    match ledger.newest() {
        Some(newest) => check_newest(&name, unlocked, source, newest, checks),
        None => checks.ok_so_far(&name, "it has no snapshot yet", FIRST_BACKUP),
    }
}

fn check_ledger(name: &str, ledger: &Ledger, checks: &mut Checks) {
    let voids = ledger.voids.len();
    let ignored = ledger.ignored.len();
    if voids + ignored == 0 {
        return;
    }
    let detail = format!("{voids} ledger entries do not count, {ignored} come after a missing one");
    checks.found(name, uncounted(name, ledger, &detail));
}

/// The entries that are there can still be restored from, so this is a warning.
fn uncounted(name: &str, ledger: &Ledger, detail: &str) -> Finding {
    let remedy = "find out who wrote or removed them";
    chain_hole(name, &ledger.ignored, detail, remedy)
        .unwrap_or_else(|| void_entry(name, detail, remedy))
        .with_severity(Severity::Warning)
}

fn check_newest(name: &str, unlocked: &Unlocked, source: SourceId, newest: &SnapshotRecord, checks: &mut Checks) {
    let context = FrameContext { repository: unlocked.repository().id(), source, epoch: newest.snapshot.epoch };
    match manifest::open(unlocked, context, newest.snapshot.manifest, Depth::Role) {
        Ok(manifest) => {
            let rows = manifest.summary.tables.iter().fold(0u64, |sum, table| sum.saturating_add(table.rows));
            let as_of = newest.snapshot.source_clock;
            checks.ok(name, format!("the newest snapshot opens: as of {as_of}, {rows} rows"));
        }
        Err(error) => {
            let remedy = remedy(&error, "take a backup now, then verify the store");
            checks.fail(name, Problem::of(kind(&error), &error, remedy));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::remedy;
    use crate::repo::error::RepoError;
    use crate::store::{Doing, StoreError};

    #[test]
    fn an_object_that_the_store_does_not_return_is_not_called_damaged() {
        let name = "sidekeep.json".to_owned();
        let reason = "why".to_owned();
        let refused = StoreError::Refused { doing: Doing::Reading, name: name.clone(), reason: reason.clone() };
        assert!(remedy(&RepoError::Store(refused), "damaged").contains("permissions"));
        let silent = StoreError::Unreachable { doing: Doing::Reading, name: name.clone(), reason };
        assert!(remedy(&RepoError::Store(silent), "damaged").contains("answers"));
        assert_eq!(remedy(&RepoError::Store(StoreError::NotFound { name }), "damaged"), "damaged");
    }
}
