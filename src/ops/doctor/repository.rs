//! The repository: its roster, the grants of the key, the ledgers, and the newest manifest of each source.

use crate::base::env::SharedEnv;
use crate::base::frame::FrameContext;
use crate::base::id::SourceId;
use crate::crypto::role::Identity;
use crate::ops::doctor::check::Checks;
use crate::repo::error::RepoError;
use crate::repo::io::Objects;
use crate::repo::ledger::Ledger;
use crate::repo::manifest::{self, Depth};
use crate::repo::open::{Repository, Unlocked};
use crate::store::StoreError;

/// A set-up without a snapshot is a new one, and no finding; that a snapshot is old is what `status` says.
const FIRST_BACKUP: &str = "take the first backup: `sidekeep backup`";

/// Checks what lies in the store, as far as the key goes.
pub(super) fn check(objects: Objects, env: &SharedEnv, identity: Option<Identity>, checks: &mut Checks) {
    let repository = match Repository::open(objects, SharedEnv::clone(env)) {
        Ok(repository) => repository,
        Err(error @ RepoError::NoRepository { .. }) => {
            return checks.fail("repository", &error, "make one with `sidekeep init`, or correct the address");
        }
        Err(error) => {
            return checks.fail(
                "repository",
                &error,
                remedy(&error, "put the damaged object back from a second copy of the store"),
            );
        }
    };
    checks.ok("repository", format!("{}, fingerprint {}", repository.id(), repository.roster().fingerprint()));
    if !repository.roster().voids.is_empty() {
        let detail = format!("{} entries count for nothing", repository.roster().voids.len());
        checks.warn("roster", detail, "find out who wrote them");
    }
    let Some(identity) = identity else { return checks.skip("key", "no key was named, or it does not open") };
    let unlocked = match repository.unlock(identity) {
        Ok(unlocked) => unlocked,
        Err(error) => {
            return checks.fail("key", &error, "use a key of this repository that was not revoked");
        }
    };
    check_key(&unlocked, checks);
    let sources: Vec<SourceId> = unlocked.repository().roster().sources.keys().copied().collect();
    if sources.is_empty() {
        checks.ok_so_far("sources", "the repository has none yet", FIRST_BACKUP);
    }
    for source in sources {
        check_source(&unlocked, source, checks);
    }
}

/// What to do about an object that is `damaged`; one that is not handed out may be whole.
fn remedy(error: &RepoError, damaged: &'static str) -> &'static str {
    match error {
        RepoError::Store(StoreError::Refused { .. }) => "let this host read the store: see credentials and permissions",
        RepoError::Store(StoreError::Unreachable { .. } | StoreError::Throttled { .. }) => {
            "see whether the store answers its own tools from here"
        }
        _ => damaged,
    }
}

fn check_key(unlocked: &Unlocked, checks: &mut Checks) {
    match unlocked.repository().roster().open_epoch() {
        Some((epoch, _)) => match unlocked.epoch(epoch) {
            Ok(_) => checks.ok("key", format!("its grant of epoch {epoch} opens; it is an {} key", unlocked.role())),
            Err(error) => checks.fail("key", &error, "use another key of this repository"),
        },
        None => {
            let remedy = "everything can still be restored; back up to a new repository made with `sidekeep init`";
            checks.fail_with("key", "no epoch is open for writing", remedy);
        }
    }
}

fn check_source(unlocked: &Unlocked, source: SourceId, checks: &mut Checks) {
    let name = format!("source {}", unlocked.source_name(source).unwrap_or_else(|| source.to_string()));
    let ledger = match Ledger::load(unlocked.repository(), source) {
        Ok(ledger) => ledger,
        Err(error) => {
            let damaged = "put the damaged ledger entry back from a second copy of the store";
            return checks.fail(&name, &error, remedy(&error, damaged));
        }
    };
    if ledger.voids.len() + ledger.ignored.len() > 0 {
        let detail = format!(
            "{} ledger entries count for nothing, {} lie beyond a gap",
            ledger.voids.len(),
            ledger.ignored.len()
        );
        checks.warn(&name, detail, "find out who wrote or removed them");
    }
    let Some(newest) = ledger.newest() else {
        return checks.ok_so_far(&name, "it has no snapshot yet", FIRST_BACKUP);
    };
    let context = FrameContext { repository: unlocked.repository().id(), source, epoch: newest.snapshot.epoch };
    match manifest::open(unlocked, context, newest.snapshot.manifest, Depth::Role) {
        Ok(manifest) => {
            let rows: u64 = manifest.summary.tables.iter().map(|table| table.rows).sum();
            let as_of = newest.snapshot.source_clock;
            checks.ok(&name, format!("the newest snapshot opens: as of {as_of}, {rows} rows"));
        }
        Err(error) => checks.fail(&name, &error, remedy(&error, "take a backup now, then verify the store")),
    }
}

#[cfg(test)]
mod tests {
    use super::remedy;
    use crate::repo::error::RepoError;
    use crate::store::{Doing, StoreError};

    #[test]
    fn what_is_not_handed_out_is_not_called_damaged() {
        let (name, reason) = ("sidekeep.json".to_owned(), "why".to_owned());
        let refused = StoreError::Refused { doing: Doing::Reading, name: name.clone(), reason: reason.clone() };
        assert!(remedy(&RepoError::Store(refused), "damaged").contains("permissions"));
        let silent = StoreError::Unreachable { doing: Doing::Reading, name: name.clone(), reason };
        assert!(remedy(&RepoError::Store(silent), "damaged").contains("answers"));
        assert_eq!(remedy(&RepoError::Store(StoreError::NotFound { name }), "damaged"), "damaged");
    }
}
