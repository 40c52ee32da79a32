//! Whose entries and packs are trusted.

use crate::base::id::KeyId;
use crate::base::revocation::RevocationReason;
use crate::repo::ledger::fold::Ledger;
use crate::repo::ledger::inventory::InventoryPack;

impl Ledger {
    /// Whether a key is enrolled and revoked neither here nor in the roster.
    #[must_use]
    pub fn may_write(&self, key: &KeyId) -> bool {
        let is_enrolled = self.roster().keys.get(key).is_some_and(|state| state.revoked.is_none());
        is_enrolled && !self.keys.contains(key)
    }

    /// Why this ledger revokes a key, if it does.
    #[must_use]
    pub fn revocation(&self, key: &KeyId) -> Option<RevocationReason> {
        self.keys.reason(key)
    }

    /// Whether what this key wrote is trusted: it is enrolled, and was not lost or stolen.
    #[must_use]
    pub fn trusts(&self, key: &KeyId) -> bool {
        self.roster().trusts(key) && !self.keys.distrust(key)
    }

    /// Whether a pack may be deduplicated against: its signer and all keys that moved its frames are trusted, and no
    /// prune or repack removed it, because that run may still be about to delete it.
    #[must_use]
    pub fn trusts_pack(&self, pack: &InventoryPack) -> bool {
        let mut movers = self.movers.get(&pack.digest).into_iter().flatten();
        self.trusts(&pack.signer) && movers.all(|mover| self.trusts(mover)) && !self.was_removed(&pack.digest)
    }
}
