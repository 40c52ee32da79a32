//! A ledger entry, decoded and not yet judged.

use crate::format::dsse::{Envelope, StatementError};
use crate::format::entry::Entry;

pub(super) struct DecodedEntry {
    pub(super) entry: Box<Entry>,
    pub(super) envelope: Envelope,
}

impl DecodedEntry {
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, StatementError> {
        let envelope = Envelope::decode(bytes)?;
        let entry = Box::new(envelope.predicate()?);
        Ok(Self { entry, envelope })
    }
}
