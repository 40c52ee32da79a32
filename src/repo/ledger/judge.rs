//! Whether an entry that stands in its place counts (rules L2 to L4).

use std::collections::HashSet;

use crate::base::id::{KeyId, SourceId};
use crate::base::time::Moment;
use crate::format::dsse::{Envelope, StatementError};
use crate::format::entry::{Entry, EntryBody};
use crate::format::name::Name;
use crate::repo::error::RepoError;
use crate::repo::roster::{EnrolledKey, Roster};

/// Whether an entry counts; `Err` says why it is void.
pub(super) type Judgement = Result<(), &'static str>;

/// An entry that stands in its place, not yet judged.
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

    /// The roster entry that the signer had seen.
    pub(super) fn roster_seen(&self) -> u64 {
        self.entry.place.roster.number
    }

    fn is_signed_by(&self, key: &EnrolledKey) -> bool {
        key.signing.verify(&self.envelope.pae(), self.envelope.signature()).is_ok()
    }
}

/// What the entries before the one to be judged have told.
pub(super) struct Judge<'a> {
    pub(super) source: SourceId,
    pub(super) roster: &'a Roster,
    /// Keys that the ledger itself revokes.
    pub(super) revoked: &'a HashSet<KeyId>,
    /// The newest roster entry that any of them had seen.
    pub(super) roster_seen: u64,
    pub(super) newest_image: &'a dyn Fn() -> Option<Moment>,
}

impl Judge<'_> {
    /// Keys that are not entitled must not be able to do more than leave a void entry: errors, which stop all
    /// readers, come last.
    pub(super) fn judge(&self, decoded: &DecodedEntry) -> Result<Judgement, RepoError> {
        if let Err(reason) = self.judge_signer(decoded) {
            return Ok(Err(reason));
        }
        if let Err(reason) = self.judge_roster_seen(decoded)? {
            return Ok(Err(reason));
        }
        self.judge_body(&decoded.entry.body)
    }

    fn judge_signer(&self, decoded: &DecodedEntry) -> Judgement {
        let signer = decoded.envelope.key();
        let state = self.roster.keys.get(&signer).ok_or("its signer was never enrolled")?;
        if !decoded.is_signed_by(state) {
            return Err("its signature does not hold");
        }
        if !self.is_entitled(signer, state, decoded) {
            return Err("its signer was not entitled to it at this position");
        }
        if decoded.roster_seen() < self.roster_seen {
            return Err("its signer had seen an older roster than the entry before");
        }
        Ok(())
    }

    fn is_entitled(&self, signer: KeyId, state: &EnrolledKey, decoded: &DecodedEntry) -> bool {
        self.is_enrolled_at(signer, decoded.roster_seen())
            && state.scope.as_ref().is_none_or(|scope| scope.contains(self.source))
            && decoded.entry.body.may_be_signed_by(state.role)
    }

    fn is_enrolled_at(&self, signer: KeyId, seen: u64) -> bool {
        self.roster.key_at(signer, seen).is_some() && !self.revoked.contains(&signer)
    }

    fn judge_roster_seen(&self, decoded: &DecodedEntry) -> Result<Judgement, RepoError> {
        let seen = decoded.entry.place.roster;
        if self.roster.digest_of(seen.number) == Some(seen.sha256) {
            return Ok(Ok(()));
        }
        // A thief may name a roster that never was; revoking the key must void the entry.
        if self.was_revoked(decoded.envelope.key()) {
            return Ok(Err("it names a roster that never was, and its signer was revoked"));
        }
        Err(self.saw_another_roster(decoded))
    }

    fn was_revoked(&self, signer: KeyId) -> bool {
        self.roster.keys.get(&signer).is_some_and(|state| state.revoked.is_some())
    }

    fn saw_another_roster(&self, decoded: &DecodedEntry) -> RepoError {
        let object = Name::Ledger(self.source, decoded.entry.place.number).to_string();
        let seen = decoded.roster_seen();
        let reason = format!("it saw roster entry {seen} with another content than the store has");
        RepoError::RolledBack { object, reason }
    }

    fn judge_body(&self, body: &EntryBody) -> Result<Judgement, RepoError> {
        match body {
            EntryBody::Unsupported(what) => Err(RepoError::LaterLedger { source_id: self.source, what: what.clone() }),
            // Written before entries that were lost and whose numbers others took since: no writer
            // commits such an image.
            EntryBody::Snapshot(snapshot) if !self.is_newer_image(snapshot.source_clock) => {
                Ok(Err("its image is not newer than that of a snapshot before it"))
            }
            _ => Ok(Ok(())),
        }
    }

    fn is_newer_image(&self, clock: Moment) -> bool {
        (self.newest_image)().is_none_or(|newest| newest < clock)
    }
}
