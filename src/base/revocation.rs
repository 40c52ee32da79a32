//! Why a key was revoked, and what that means for what it wrote.

use serde::{Deserialize, Serialize};

/// Why a key was revoked, from harmless to bad.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RevocationReason {
    /// It is not needed any more. What it wrote stays trusted.
    Retired,
    Lost,
    Stolen,
}

impl RevocationReason {
    /// Whether what the key wrote is not trusted any more.
    #[must_use]
    pub const fn is_distrust(self) -> bool {
        !matches!(self, Self::Retired)
    }

    /// The reason that counts after a later statement gives `next`. The worse one counts, but what a recovery key says
    /// replaces what was said before.
    #[must_use]
    pub fn followed_by(self, next: Self, is_by_recovery: bool) -> Self {
        if is_by_recovery { next } else { self.max(next) }
    }
}

#[cfg(test)]
mod tests {
    use super::RevocationReason::{Lost, Retired, Stolen};

    #[test]
    fn the_worst_reason_counts_and_only_a_recovery_key_lowers_it() {
        assert!(!Retired.is_distrust() && Lost.is_distrust() && Stolen.is_distrust());
        assert_eq!([Retired.followed_by(Stolen, false), Stolen.followed_by(Retired, false)], [Stolen, Stolen]);
        assert_eq!([Stolen.followed_by(Retired, true), Retired.followed_by(Lost, true)], [Retired, Lost]);
    }
}
