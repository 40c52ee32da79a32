//! Which reasons against a snapshot still stand, after what admins have decided about snapshots.

use std::collections::BTreeMap;

use crate::base::id::Digest;
use crate::format::entry::SnapshotReason;
use crate::repo::ledger::record::{Decision, SnapshotRecord};

/// Drops the reasons whose baseline an accepted snapshot supersedes: one between the baseline and the snapshot.
pub(super) fn drop_superseded_reasons(snapshots: &mut [SnapshotRecord]) {
    let numbers: BTreeMap<Digest, u64> = snapshots.iter().map(|record| (record.id, record.number)).collect();
    let is_accepted = |record: &&SnapshotRecord| record.decision == Some(Decision::Accepted);
    let accepted: Vec<u64> = snapshots.iter().filter(is_accepted).map(|record| record.number).collect();
    for record in snapshots.iter_mut().filter(|record| record.snapshot.is_suspect()) {
        let newest = accepted.iter().rev().find(|number| **number < record.number);
        let stands = |reason: &&SnapshotReason| !is_superseded(reason, &numbers, newest.copied());
        record.reasons = record.snapshot.reasons.iter().filter(stands).cloned().collect();
    }
}

/// `newest_accepted` is the number of the newest accepted snapshot before the suspect one.
fn is_superseded(reason: &SnapshotReason, numbers: &BTreeMap<Digest, u64>, newest_accepted: Option<u64>) -> bool {
    let baseline = reason.baseline.and_then(|id| numbers.get(&id));
    baseline.is_some_and(|baseline| newest_accepted.is_some_and(|accepted| *baseline < accepted))
}
