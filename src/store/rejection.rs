//! Answers that mean failure, with types of their own: the client library has none for them.

use std::error::Error as StdError;

use thiserror::Error;

use crate::base::chain::causes;

/// The store answered with a status that means failure.
#[derive(Debug, Error)]
#[error("status {status}{}{text}", if text.is_empty() { "" } else { ": " })]
pub(crate) struct Rejected {
    pub(crate) status: u16,
    /// Code and message of the error page.
    pub(crate) text: String,
}

impl Rejected {
    /// The refusal that caused `error`, if one did.
    pub(crate) fn among_causes<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Self> {
        causes(error).find_map(|cause| cause.downcast_ref())
    }

    /// Whether the same request may well succeed later.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(self.status, 408 | 429 | 500..=599) || self.text.starts_with("RequestTimeout")
    }
}

/// Neither the environment nor the machine has credentials. Without a type of its own this would
/// look like a store that does not answer, and be tried for minutes.
#[derive(Debug, Error)]
#[error("no credentials are set, and this machine has none of a cloud's: {reason}")]
pub(crate) struct NoCredentials {
    pub(crate) reason: String,
}
