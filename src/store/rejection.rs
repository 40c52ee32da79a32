//! Types for answers that mean failure, because the client library has none for them.

use std::error::Error as StdError;

use thiserror::Error;

use crate::base::causes::causes;

/// The store answered with a status that means failure.
#[derive(Debug, Error)]
#[error("status {status}{}{text}", if text.is_empty() { "" } else { ": " })]
pub(crate) struct Rejected {
    pub(crate) status: u16,
    /// Code and message of the error page.
    pub(crate) text: String,
}

impl Rejected {
    /// The rejection among the causes of `error`, if any.
    pub(crate) fn among_causes<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Self> {
        causes(error).find_map(|cause| cause.downcast_ref())
    }

    /// Whether the same request may succeed later.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(self.status, 408 | 429 | 500..=599) || self.text.starts_with("RequestTimeout")
    }
}

/// Neither the environment nor the machine provides credentials. Without its own type this would look like a store
/// that does not answer, and would be retried for minutes.
#[derive(Debug, Error)]
#[error("no credentials are set, and no cloud provides any to this machine: {reason}")]
pub(crate) struct NoCredentials {
    pub(crate) reason: String,
}
