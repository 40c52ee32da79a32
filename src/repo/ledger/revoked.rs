//! Keys that a ledger revokes.

use std::collections::HashMap;

use crate::base::id::KeyId;
use crate::base::revocation::RevocationReason;
use crate::format::entry::Revoke;

/// Keys that were revoked in the ledger itself.
#[derive(Clone, Debug, Default)]
pub(super) struct RevokedKeys(HashMap<KeyId, RevocationReason>);

impl RevokedKeys {
    /// The worst reason counts. Only a recovery key lowers it.
    pub(super) fn revoke(&mut self, revoke: &Revoke, by_recovery: bool) {
        let reason = self.0.entry(revoke.key).or_insert(revoke.reason);
        *reason = reason.followed_by(revoke.reason, by_recovery);
    }

    /// Whether a key has lost its rights in this ledger.
    pub(super) fn contains(&self, key: &KeyId) -> bool {
        self.0.contains_key(key)
    }

    /// Why it was revoked in this ledger.
    pub(super) fn reason(&self, key: &KeyId) -> Option<RevocationReason> {
        self.0.get(key).copied()
    }

    pub(super) fn distrust(&self, key: &KeyId) -> bool {
        self.0.get(key).is_some_and(|reason| reason.is_distrust())
    }
}
