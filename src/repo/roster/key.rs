//! Enrolled keys.

use crate::base::id::SourceId;
use crate::base::revocation::RevocationReason;
use crate::base::role::{Role, SourceScope};
use crate::crypto::sign::VerifyingKey;

/// An enrolled key.
#[derive(Clone, Debug)]
pub struct EnrolledKey {
    pub role: Role,
    pub label: String,
    pub signing: VerifyingKey,
    pub sealing: [u8; 1216],
    /// The sources that an operator may write to, each with the entry that added them.
    pub(super) scopes: Vec<(u64, SourceScope)>,
    /// The entry that enrolled it.
    pub enrolled: u64,
    /// The entry that revoked it first.
    pub revoked: Option<u64>,
    /// Why it was revoked.
    pub reason: Option<RevocationReason>,
}

impl EnrolledKey {
    /// Whether what it wrote is not trusted any more.
    #[must_use]
    pub fn is_distrusted(&self) -> bool {
        self.reason.is_some_and(RevocationReason::is_distrust)
    }

    pub(super) fn revoke(&mut self, position: u64, reason: RevocationReason, is_by_recovery: bool) {
        self.revoked.get_or_insert(position);
        self.reason = Some(self.reason.map_or(reason, |known| known.followed_by(reason, is_by_recovery)));
    }

    /// Whether it was enrolled and not revoked as of this roster entry.
    pub(super) fn is_enrolled_at(&self, position: u64) -> bool {
        self.enrolled <= position && self.revoked.is_none_or(|revoked| revoked > position)
    }

    /// Whether it may write to this source as of this roster entry. Only operators are limited to sources.
    pub(in crate::repo) fn serves(&self, source: SourceId, position: u64) -> bool {
        self.role != Role::Operator || self.scopes_at(position).any(|scope| scope.contains(source))
    }

    /// Whether it is an operator of all sources as of this roster entry.
    pub(in crate::repo) fn serves_all(&self, position: u64) -> bool {
        self.scopes_at(position).any(|scope| *scope == SourceScope::All)
    }

    /// The sources that an operator may write to now. `None` for other roles.
    #[must_use]
    pub fn scope(&self) -> Option<SourceScope> {
        if self.role != Role::Operator {
            return None;
        }
        let mut named = Vec::new();
        for (_, scope) in &self.scopes {
            match scope {
                SourceScope::All => return Some(SourceScope::All),
                SourceScope::Named(sources) => named.extend(sources),
            }
        }
        named.sort_unstable();
        named.dedup();
        Some(SourceScope::Named(named))
    }

    fn scopes_at(&self, position: u64) -> impl Iterator<Item = &SourceScope> {
        self.scopes.iter().filter(move |(added, _)| *added <= position).map(|(_, scope)| scope)
    }
}
