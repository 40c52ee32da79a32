//! A source together with the keys that were granted for it.

use std::collections::BTreeMap;

use crate::base::finding::{Affected, Finding, Findings};
use crate::base::id::{Epoch, SourceId};
use crate::crypto::ids::StructureKeys;
use crate::ops::error::OpError;
use crate::ops::verify::listing::SourceObjects;
use crate::repo::error::RepoError;
use crate::repo::finding::finding_of;
use crate::repo::fragment::Signers;
use crate::repo::ledger::{Ledger, SnapshotRecord};
use crate::repo::open::Unlocked;
use crate::repo::reader::SnapshotReader;

/// The structure keys of a source, in every epoch that the key has a grant for.
pub type EpochKeys = BTreeMap<Epoch, StructureKeys>;

/// A source: its keys, its ledger, and what the store has of it.
pub struct KeyedSource<'a> {
    pub unlocked: &'a Unlocked,
    pub ledger: &'a Ledger,
    pub listed: &'a SourceObjects,
    pub keys: EpochKeys,
    pub signers: Signers,
}

impl<'a> KeyedSource<'a> {
    /// Collects the keys of the source for all epochs.
    #[must_use]
    pub fn new(unlocked: &'a Unlocked, ledger: &'a Ledger, listed: &'a SourceObjects) -> Self {
        let keys = epoch_keys(unlocked, ledger.source);
        Self { unlocked, ledger, listed, keys, signers: Signers::of(ledger) }
    }

    /// Opens a snapshot. Reports a snapshot that cannot be opened and returns `None` for it.
    /// Fails if the store fails.
    pub fn open(
        &self,
        record: &SnapshotRecord,
        findings: &mut Findings,
    ) -> Result<Option<SnapshotReader<'_>>, OpError> {
        match SnapshotReader::open(self.unlocked, self.ledger, record) {
            Ok(reader) => Ok(Some(reader)),
            Err(error) => {
                findings.add(self.unopened(record, error)?);
                Ok(None)
            }
        }
    }

    fn unopened(&self, record: &SnapshotRecord, error: RepoError) -> Result<Finding, OpError> {
        let finding = finding_of(Some(self.ledger.source), error)?;
        Ok(finding.affecting(Affected::snapshot(Some(record.id))))
    }
}

fn epoch_keys(unlocked: &Unlocked, source: SourceId) -> EpochKeys {
    let mut keys = EpochKeys::new();
    for epoch in unlocked.repository().roster().epochs.keys() {
        if let Ok(structure) = unlocked.structure(source, *epoch) {
            keys.insert(*epoch, structure);
        }
    }
    keys
}
