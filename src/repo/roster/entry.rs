//! A roster entry that is being judged, and its signer.

use crate::base::id::KeyId;
use crate::base::role::Role;
use crate::crypto::sign::VerifyingKey;
use crate::format::dsse::{Envelope, StatementError};
use crate::format::name::Name;
use crate::format::roster::{RosterEntry, RosterStatement};
use crate::repo::error::RepoError;

/// The properties of a signer that are needed to check an entry.
pub(super) struct EntrySigner {
    pub(super) signing: VerifyingKey,
    pub(super) role: Role,
    /// Whether it is an operator of all sources.
    pub(super) is_for_all: bool,
}

impl EntrySigner {
    pub(super) fn may_make(&self, statement: &RosterStatement) -> bool {
        statement.may_be_signed_by(self.role, self.is_for_all)
    }
}

/// An entry that has not been checked yet.
pub(super) struct DecodedStatements {
    pub(super) envelope: Envelope,
    pub(super) entry: RosterEntry,
}

impl DecodedStatements {
    /// Decodes an entry. Does not verify its signature.
    /// Fails if the bytes are not an envelope with a roster entry.
    pub(super) fn decode(number: u64, bytes: &[u8]) -> Result<Self, RepoError> {
        let undecodable = |error: StatementError| damaged(number, &format!("it {error}"));
        let envelope = Envelope::decode(bytes).map_err(undecodable)?;
        let entry = envelope.predicate().map_err(undecodable)?;
        Ok(Self { envelope, entry })
    }

    pub(super) fn is_signed_by(&self, signer: &EntrySigner) -> bool {
        signer.signing.verify(&self.envelope.pae(), self.envelope.signature()).is_ok()
    }
}

/// The key that signs entry 1: an admin that the entry itself enrols.
pub(super) fn first_admin(entry: &RosterEntry, signer: KeyId) -> Option<VerifyingKey> {
    entry.statements.iter().find_map(|statement| match statement {
        RosterStatement::Enrol(enrol) if enrol.key == signer && enrol.role.is_admin() => {
            VerifyingKey::from_bytes(&enrol.signing).ok()
        }
        _ => None,
    })
}

/// The error for an entry that is not valid.
pub(super) fn damaged(number: u64, reason: &str) -> RepoError {
    RepoError::damaged(Name::Roster(number), reason)
}
