//! A snapshot's state in the ledger.

use crate::base::id::{Digest, KeyId, SessionId};
use crate::base::time::Moment;
use crate::format::entry::{Hold, HoldEnd, ObjectRef, Snapshot, SnapshotReason, Tag, TagChange, is_tag};

/// The last word of an admin about a snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    Accepted,
    Rejected,
}

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
    /// The session that wrote the manifest: the session of the snapshot or of the last erasure.
    pub manifest_session: SessionId,
    /// The last word of an admin.
    pub decision: Option<Decision>,
    /// The reasons against it that still stand.
    pub reasons: Vec<SnapshotReason>,
    pub holds: Holds,
    pub forgotten: bool,
}

/// What protects a snapshot from being forgotten.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Holds {
    /// By an admin. No maintainer ends it.
    pub admin: Option<HoldEnd>,
    pub maintainer: Option<HoldEnd>,
}

impl Holds {
    pub(super) fn change(&mut self, hold: &Hold, is_admin: bool) {
        let new = Some(hold.end).filter(|end| *end != HoldEnd::Now);
        *self = if is_admin { Self { admin: new, maintainer: None } } else { Self { maintainer: new, ..*self } };
    }

    /// Whether one of them has not ended at this time.
    #[must_use]
    pub fn hold_at(&self, now: Moment) -> bool {
        [self.admin, self.maintainer].into_iter().flatten().any(|end| match end {
            HoldEnd::Never => true,
            HoldEnd::At(end) => now < end,
            HoldEnd::Now => false,
        })
    }
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
        self.bytes = self.bytes.saturating_add(sum_of_sizes(packs));
    }
}

impl SnapshotRecord {
    /// Adds or removes a tag. A tag that is added again moves to the end.
    pub(super) fn change_tag(&mut self, change: &Tag) {
        self.tags.retain(|known| *known != change.tag);
        if change.change == TagChange::Put && is_tag(&change.tag) {
            self.tags.push(change.tag.clone());
        }
    }

    /// Another manifest, which `session` wrote, replaces the snapshot's own.
    pub(super) fn replace_manifest(&mut self, new: ObjectRef, session: SessionId) {
        self.snapshot.manifest = new;
        self.manifest_session = session;
    }

    /// Whether it may be used as the latest state of its source.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.decision.map_or(self.reasons.is_empty(), |decision| decision == Decision::Accepted)
    }

    /// Bytes of packs that this snapshot's session added.
    #[must_use]
    pub fn new_bytes(&self) -> u64 {
        let packs = [&self.snapshot.packs, &self.snapshot.adopted].map(|packs| sum_of_sizes(packs));
        packs.into_iter().fold(self.in_advance.bytes, u64::saturating_add)
    }
}

/// Entries can name any sizes.
fn sum_of_sizes(packs: &[ObjectRef]) -> u64 {
    packs.iter().fold(0, |sum, pack| sum.saturating_add(pack.size))
}
