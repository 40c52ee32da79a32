//! Which reasons against a snapshot still stand, after what admins have decided about snapshots.

use std::collections::BTreeMap;

use crate::base::id::Digest;
use crate::format::entry::SnapshotReason;
use crate::repo::ledger::record::{Decision, SnapshotRecord};

/// Drops the reasons whose baseline an accepted snapshot supersedes: one between the baseline and the snapshot.
pub(super) fn drop_superseded_reasons(snapshots: &mut [SnapshotRecord]) {
    let numbers = SnapshotNumbers::of(snapshots);
    for record in snapshots.iter_mut().filter(|record| record.snapshot.is_suspect()) {
        let newest_accepted = numbers.newest_accepted_before(record.number);
        let stands = |reason: &&SnapshotReason| !numbers.is_superseded(reason, newest_accepted);
        record.reasons = record.snapshot.reasons.iter().filter(stands).cloned().collect();
    }
}

/// The numbers of snapshots in their ledger.
struct SnapshotNumbers {
    by_id: BTreeMap<Digest, u64>,
    /// The numbers of accepted snapshots, ascending.
    accepted: Vec<u64>,
}

impl SnapshotNumbers {
    fn of(snapshots: &[SnapshotRecord]) -> Self {
        let by_id = snapshots.iter().map(|record| (record.id, record.number)).collect();
        Self { by_id, accepted: accepted_numbers(snapshots) }
    }

    fn newest_accepted_before(&self, number: u64) -> Option<u64> {
        let before = self.accepted.partition_point(|accepted| *accepted < number);
        self.accepted[..before].last().copied()
    }

    /// `newest_accepted` is the number of the newest accepted snapshot before the suspect one.
    fn is_superseded(&self, reason: &SnapshotReason, newest_accepted: Option<u64>) -> bool {
        let baseline = reason.baseline.and_then(|id| self.by_id.get(&id));
        baseline.is_some_and(|baseline| newest_accepted.is_some_and(|accepted| *baseline < accepted))
    }
}

fn accepted_numbers(snapshots: &[SnapshotRecord]) -> Vec<u64> {
    let accepted = snapshots.iter().filter(|record| record.decision == Some(Decision::Accepted));
    accepted.map(|record| record.number).collect()
}
