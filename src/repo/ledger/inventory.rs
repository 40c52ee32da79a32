//! The packs of the inventory, in the order in which ledger entries added them.

use std::collections::BTreeMap;

use crate::base::id::{Digest, Epoch, KeyId};

/// A pack of the inventory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InventoryPack {
    pub digest: Digest,
    /// Size of the object in bytes.
    pub size: u64,
    pub epoch: Epoch,
    /// The key that sealed its frames.
    pub signer: KeyId,
    /// The entry that added it.
    pub entry: u64,
}

/// All packs, oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Inventory {
    packs: BTreeMap<u64, InventoryPack>,
    positions: BTreeMap<Digest, u64>,
    next_position: u64,
}

impl Inventory {
    /// All packs, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &InventoryPack> {
        self.packs.values()
    }

    /// Whether the inventory has this pack.
    pub(super) fn contains(&self, digest: &Digest) -> bool {
        self.positions.contains_key(digest)
    }

    /// Adds a pack unless it is already there.
    pub(super) fn add(&mut self, pack: InventoryPack) {
        if self.contains(&pack.digest) {
            return;
        }
        self.positions.insert(pack.digest, self.next_position);
        self.packs.insert(self.next_position, pack);
        self.next_position += 1;
    }

    /// Removes a pack, if it is there.
    pub(super) fn remove(&mut self, digest: &Digest) -> Option<InventoryPack> {
        self.packs.remove(&self.positions.remove(digest)?)
    }
}
