//! What commands report about a ledger.

use crate::base::finding::{Finding, FindingKind};
use crate::format::entry::Numbered;
use crate::format::name::Name;
use crate::repo::finding::{hole_warning, void_warning};
use crate::repo::ledger::fold::Ledger;

const FIND_ROSTER: &str = "put the missing roster entries back from a second copy of the store; if they never existed, the \
                           signer's key was stolen: revoke it";

impl Ledger {
    /// Findings about entries after the last one that counts. Newer snapshots may be missing because of them.
    #[must_use]
    pub fn warnings_at_head(&self) -> Vec<Finding> {
        let voids = self.voids_at_head().iter().rev();
        let own = voids.map(|(at, reason)| self.void_finding(at, reason)).chain(self.hole_finding());
        own.chain(self.roster().feature_findings()).collect()
    }

    /// Findings about all entries that do not count, in chain order. A snapshot that is not found may be one of them.
    #[must_use]
    pub fn warnings(&self) -> Vec<Finding> {
        let voids = self.voids.iter();
        voids.map(|(at, reason)| self.void_finding(at, reason)).chain(self.hole_finding()).collect()
    }

    /// Findings about the roster: it does not have entries that entries of this ledger name.
    #[must_use]
    pub fn roster_findings(&self) -> Vec<Finding> {
        let missing = |(at, seen): &(Numbered, Numbered)| {
            let entry = Name::Ledger(self.source, at.number);
            let detail = format!("{entry} names it with SHA-256 {}: roster entries seem to be missing", seen.sha256);
            Finding::new(FindingKind::RolledBack, Name::Roster(seen.number), detail).with_remedy(FIND_ROSTER)
        };
        self.unseen.iter().map(missing).collect()
    }

    /// The void entries after which no entry counts.
    fn voids_at_head(&self) -> &[(Numbered, String)] {
        let mut first = self.voids.len();
        let mut number = self.digests.len() as u64;
        while first > 0 && self.voids[first - 1].0.number == number {
            first -= 1;
            number -= 1;
        }
        &self.voids[first..]
    }

    fn void_finding(&self, at: &Numbered, reason: &str) -> Finding {
        void_warning(Name::Ledger(self.source, at.number), reason).of_source(self.source)
    }

    fn hole_finding(&self) -> Option<Finding> {
        let missing = Name::Ledger(self.source, self.next_number());
        Some(hole_warning(missing, &self.ignored)?.of_source(self.source))
    }
}
