//! Checks that a key opens what it must: all its grants and, if it opens rows, the newest snapshot of every epoch.

use std::collections::BTreeMap;

use crate::base::finding::{Affected, Finding, FindingKind};
use crate::base::id::{Epoch, KeyId, RepositoryId, SourceId};
use crate::base::role::Role;
use crate::crypto::role::Identity;
use crate::ops::error::{OpError, unless_store_fails};
use crate::repo::error::RepoError;
use crate::repo::ledger::{Ledger, SnapshotRecord};
use crate::repo::open::{Repository, Unlocked};
use crate::repo::reader::SnapshotReader;

/// What a key opens.
#[derive(Clone, Debug, serde::Serialize)]
pub struct KeyCheckReport {
    pub repository: RepositoryId,
    pub key: KeyId,
    pub role: Role,
    /// The epochs whose keys it has.
    pub opened: Vec<Epoch>,
    /// The number of grants that the roster names for it.
    pub grants: u64,
    /// The newest snapshots of each source and epoch that were opened. None if the role cannot open rows.
    pub snapshots: Vec<OpenedSnapshot>,
    /// What does not open.
    pub findings: Vec<Finding>,
}

/// A snapshot that a key opened.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct OpenedSnapshot {
    pub source: SourceId,
    pub epoch: Epoch,
    /// Its number in the ledger.
    pub number: u64,
}

/// Opens what a key must open. Writes nothing.
/// Fails if the key is not enrolled, or if the store fails. What does not open is a finding, and so is that the key was
/// revoked.
pub fn check(repository: Repository, identity: Identity) -> Result<KeyCheckReport, OpError> {
    repository.check_enrolled(&identity)?;
    let mut report = KeyCheckReport {
        repository: repository.id(),
        key: identity.key_id(),
        role: identity.role(),
        opened: Vec::new(),
        grants: 0,
        snapshots: Vec::new(),
        findings: repository.roster().warnings().into_iter().chain(repository.revocation(identity.key_id())).collect(),
    };
    report.check_grants(&repository, &identity)?;
    if report.role.is_admin() && !report.opened.is_empty() {
        report.check_snapshots(&repository.unlock(identity)?)?;
    }
    Ok(report)
}

const NEW_GRANT: &str = "replace the key with `sidekeep key rotate`, with an admin or recovery key that opens the epoch; find \
                         out who signed the roster entry that names the grant";

impl KeyCheckReport {
    fn check_grants(&mut self, repository: &Repository, identity: &Identity) -> Result<(), OpError> {
        for epoch in repository.roster().epochs.keys() {
            let grants = repository.try_grants(identity, *epoch);
            if grants.is_empty() {
                self.add_not_granted(repository, *epoch);
            }
            let mut is_open = false;
            for grant in grants {
                self.grants += 1;
                match unless_store_fails(grant.opened)? {
                    Ok(()) => is_open = true,
                    Err(error) => self.add(grant.name, &error),
                }
            }
            self.opened.extend(is_open.then_some(*epoch));
        }
        Ok(())
    }

    /// A key that was enrolled by somebody who could not open an epoch has no grant of it.
    fn add_not_granted(&mut self, repository: &Repository, epoch: Epoch) {
        let is_open = repository.roster().epochs.get(&epoch).is_some_and(|state| !state.closed);
        let kind = if is_open || self.role.is_admin() { FindingKind::KeyUnfit } else { FindingKind::Note };
        let detail = format!("the roster names no grant of it for key {}", self.key);
        self.findings.push(Finding::new(kind, format!("epoch {epoch}"), detail).with_remedy(NEW_GRANT));
    }

    fn add(&mut self, object: impl ToString, error: &RepoError) {
        let detail = format!("key {} does not open it: {error}", self.key);
        self.findings.push(Finding::new(FindingKind::KeyUnfit, object, detail).with_remedy(NEW_GRANT));
    }

    fn check_snapshots(&mut self, unlocked: &Unlocked) -> Result<(), OpError> {
        for source in unlocked.repository().roster().sources.keys() {
            let ledger = Ledger::load(unlocked.repository(), *source)?;
            self.findings.extend(ledger.warnings());
            for (epoch, record) in newest_of_epochs(&ledger) {
                match unless_store_fails(open(unlocked, &ledger, record))? {
                    Ok(()) => self.snapshots.push(OpenedSnapshot { source: *source, epoch, number: record.number }),
                    Err(error) => self.findings.push(unreadable(*source, record, &error)),
                }
            }
        }
        Ok(())
    }
}

/// The newest snapshot of each epoch.
fn newest_of_epochs(ledger: &Ledger) -> BTreeMap<Epoch, &SnapshotRecord> {
    ledger.live().map(|record| (record.snapshot.epoch, record)).collect()
}

/// Opens the manifest of a snapshot and the text of its schema, which is sealed like rows.
fn open(unlocked: &Unlocked, ledger: &Ledger, record: &SnapshotRecord) -> Result<(), RepoError> {
    SnapshotReader::open(unlocked, ledger, record)?.schema().map(drop)
}

fn unreadable(source: SourceId, record: &SnapshotRecord, error: &RepoError) -> Finding {
    let object = format!("snapshot {} in the ledger", record.number);
    let detail = format!("the newest one of epoch {} cannot be opened: {error}", record.snapshot.epoch);
    let finding = Finding::new(FindingKind::Unreadable, object, detail).of_source(source);
    finding.affecting(Affected::snapshot(Some(record.id)))
}
