//! Where snapshots are in the list of a ledger, by what entries name. So the cost of a fold follows the entries, not their
//! product.

use std::collections::{BTreeSet, HashMap};

use crate::base::id::Digest;
use crate::base::time::Moment;
use crate::format::entry::ReplacedManifest;
use crate::repo::ledger::record::SnapshotRecord;

/// Positions of snapshots.
#[derive(Clone, Debug, Default)]
pub(super) struct SnapshotPositions {
    by_id: HashMap<Digest, usize>,
    /// Only snapshots that are not forgotten.
    by_manifest: HashMap<Digest, BTreeSet<usize>>,
    /// When their images were taken. Only snapshots that were never forgotten.
    images: BTreeSet<(Moment, usize)>,
}

impl SnapshotPositions {
    /// Adds the snapshot that is about to be put at this position.
    pub(super) fn add(&mut self, position: usize, record: &SnapshotRecord) {
        self.by_id.insert(record.id, position);
        self.by_manifest.entry(record.snapshot.manifest.sha256).or_default().insert(position);
        self.images.insert((record.snapshot.source_clock, position));
    }

    /// The position of the snapshot with this id.
    pub(super) fn of(&self, id: &Digest) -> Option<usize> {
        self.by_id.get(id).copied()
    }

    /// The newest time at which the image of a snapshot was taken that is not forgotten.
    pub(super) fn newest_image(&self) -> Option<Moment> {
        self.images.last().map(|(clock, _)| *clock)
    }

    /// Removes a snapshot that is forgotten. Returns whether no other one has its manifest.
    pub(super) fn forget(&mut self, position: usize, record: &SnapshotRecord) -> bool {
        self.images.remove(&(record.snapshot.source_clock, position));
        let manifest = &record.snapshot.manifest.sha256;
        let others = self.by_manifest.get_mut(manifest).is_some_and(|positions| {
            positions.remove(&position);
            !positions.is_empty()
        });
        if !others {
            self.by_manifest.remove(manifest);
        }
        !others
    }

    /// Adds a snapshot again that was forgotten. Its image does not count for later ones.
    pub(super) fn readmit(&mut self, position: usize, manifest: &Digest) {
        self.by_manifest.entry(*manifest).or_default().insert(position);
    }

    /// Whether a snapshot that is not forgotten has this manifest.
    pub(super) fn has_manifest(&self, manifest: &Digest) -> bool {
        self.by_manifest.contains_key(manifest)
    }

    /// Moves the snapshots of the old manifest to the new one. Returns their positions.
    pub(super) fn replace(&mut self, replaced: &ReplacedManifest) -> BTreeSet<usize> {
        let moved = self.by_manifest.remove(&replaced.old).unwrap_or_default();
        if !moved.is_empty() {
            self.by_manifest.entry(replaced.new.sha256).or_default().extend(&moved);
        }
        moved
    }
}
