//! The packs that an index should cover, in the order in which they are preferred.

use std::collections::HashMap;

use crate::base::id::{Digest, KeyId};
use crate::repo::ledger::InventoryPack;

/// A pack that an index should cover.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WantedPack {
    pub(super) digest: Digest,
    /// Size of the object in bytes.
    pub(super) size: u64,
    /// The key whose fragments are believed about it.
    pub(super) signer: KeyId,
}

impl From<&InventoryPack> for WantedPack {
    fn from(pack: &InventoryPack) -> Self {
        Self { digest: pack.digest, size: pack.size, signer: pack.signer }
    }
}

/// Packs, the preferred ones first.
#[derive(Debug, Default)]
pub(super) struct WantedPacks {
    packs: Vec<WantedPack>,
    ranks: HashMap<Digest, usize>,
}

impl FromIterator<WantedPack> for WantedPacks {
    fn from_iter<I: IntoIterator<Item = WantedPack>>(packs: I) -> Self {
        let packs: Vec<WantedPack> = packs.into_iter().collect();
        let ranks = packs.iter().enumerate().map(|(rank, pack)| (pack.digest, rank)).collect();
        Self { packs, ranks }
    }
}

impl WantedPacks {
    pub(super) fn all(&self) -> &[WantedPack] {
        &self.packs
    }

    pub(super) fn get(&self, digest: &Digest) -> Option<&WantedPack> {
        self.ranks.get(digest).map(|rank| &self.packs[*rank])
    }

    /// The position of a pack about which a fragment of this signer is believed: one that the same key added. Otherwise
    /// a stolen key could hide the packs of others.
    pub(super) fn rank(&self, digest: &Digest, signer: &KeyId) -> Option<usize> {
        let &rank = self.ranks.get(digest)?;
        (self.packs[rank].signer == *signer).then_some(rank)
    }
}
