//! Why a key was revoked.

use serde::{Deserialize, Serialize};

/// Why a key was revoked, from the mildest reason to the worst.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RevocationReason {
    /// It is no longer needed. What it wrote is trusted.
    Retired,
    /// Nobody knows where it is.
    Lost,
    /// Somebody else has it.
    Stolen,
}

impl RevocationReason {
    /// Whether what the key wrote is no longer trusted.
    #[must_use]
    pub fn is_distrust(self) -> bool {
        self != Self::Retired
    }
}
