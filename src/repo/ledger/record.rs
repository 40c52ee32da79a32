//! A snapshot's state in the ledger.

use crate::base::id::{Digest, KeyId};
use crate::base::time::Moment;
use crate::format::entry::{ObjectRef, ReplacedManifest, Snapshot, Tag, TagChange, Verdict};

/// A snapshot as recorded in the ledger.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SnapshotRecord {
    /// SHA-256 of the entry: the snapshot's id.
    pub id: Digest,
    pub number: u64,
    pub signer: KeyId,
    /// The signer's clock.
    pub written: Moment,
    pub snapshot: Snapshot,
    /// Packs that the same session added in entries before this one.
    pub in_advance: PacksInAdvance,
    pub tags: Vec<String>,
    pub accepted: bool,
    pub forgotten: bool,
}

/// Number of packs, and their bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PacksInAdvance {
    pub packs: usize,
    pub bytes: u64,
}

impl PacksInAdvance {
    /// Adds the number and sizes of these packs.
    pub(super) fn add(&mut self, packs: &[ObjectRef]) {
        self.packs += packs.len();
        self.bytes += packs.iter().map(|pack| pack.size).sum::<u64>();
    }
}

impl SnapshotRecord {
    /// Adds or removes a tag. A tag that is added again moves to the end.
    pub(super) fn change_tag(&mut self, change: &Tag) {
        self.tags.retain(|known| *known != change.tag);
        if change.change == TagChange::Put {
            self.tags.push(change.tag.clone());
        }
    }

    /// Another manifest replaces the snapshot's own.
    pub(super) fn replace_manifest(&mut self, replaced: &ReplacedManifest) {
        if self.snapshot.manifest.sha256 == replaced.old {
            self.snapshot.manifest = replaced.new;
        }
    }

    /// Whether it may be used as the latest state of its source.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.snapshot.verdict == Verdict::Clean || self.accepted
    }

    /// Bytes of packs that this snapshot's session added.
    #[must_use]
    pub fn new_bytes(&self) -> u64 {
        let packs = self.snapshot.packs.iter().chain(&self.snapshot.adopted);
        self.in_advance.bytes + packs.map(|pack| pack.size).sum::<u64>()
    }
}
