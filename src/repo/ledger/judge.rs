//! Decides whether an entry in its place counts (rules L2 to L4).

use std::collections::HashSet;

use crate::base::id::{KeyId, SourceId};
use crate::base::time::Moment;
use crate::format::dsse::{Envelope, StatementError};
use crate::format::entry::{Entry, EntryBody, Numbered};
use crate::format::name::Name;
use crate::repo::error::RepoError;
use crate::repo::roster::{EnrolledKey, Roster};

/// Whether an entry counts. `Err` is the reason why it is void.
pub(super) type Judgement = Result<(), &'static str>;

/// An entry in its place, not yet judged.
pub(super) struct DecodedEntry {
    pub(super) entry: Box<Entry>,
    pub(super) envelope: Envelope,
}

impl DecodedEntry {
    /// Decodes an entry. Does not verify its signature.
    /// Fails if the bytes are not an envelope with a ledger entry. A later version's entry is not an error.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, StatementError> {
        let envelope = Envelope::decode(bytes)?;
        let entry = Box::new(envelope.predicate()?);
        Ok(Self { entry, envelope })
    }

    /// The roster entry that the signer had seen.
    pub(super) fn roster_seen(&self) -> Numbered {
        self.entry.place.roster
    }

    fn is_signed_by(&self, key: &EnrolledKey) -> bool {
        key.signing.verify(&self.envelope.pae(), self.envelope.signature()).is_ok()
    }
}

/// The state, as of the entries before it, by which an entry is judged.
pub(super) struct Judge<'a> {
    pub(super) source: SourceId,
    pub(super) roster: &'a Roster,
    /// Keys that were revoked in the ledger itself.
    pub(super) revoked: &'a HashSet<KeyId>,
    /// The newest roster entry that any of those entries had seen.
    pub(super) roster_seen: u64,
    pub(super) newest_image: Option<Moment>,
}

impl Judge<'_> {
    /// Judges an entry. A key that is not entitled must not be able to do more than leave a void entry. So errors,
    /// which stop all readers, are raised last.
    /// Fails if an entitled signer, without being distrusted, names a roster entry that the roster does not have in
    /// this form (`RepoError::RolledBack`).
    pub(super) fn judge(&self, decoded: &DecodedEntry) -> Result<Judgement, RepoError> {
        if let Err(reason) = self.judge_signer(decoded) {
            return Ok(Err(reason));
        }
        if let Err(reason) = self.judge_roster_seen(decoded)? {
            return Ok(Err(reason));
        }
        Ok(self.judge_body(decoded))
    }

    /// Whether an entitled key wrote an entry for this number of this ledger, after whatever entry.
    pub(super) fn is_written_for(&self, number: u64, decoded: &DecodedEntry) -> bool {
        let place = &decoded.entry.place;
        let is_ours = place.repository == self.roster.repository && place.source == self.source;
        is_ours && place.number == number && self.judge_signature(decoded).is_ok()
    }

    /// The roster entry as of which an entry is judged.
    fn position(&self, decoded: &DecodedEntry) -> u64 {
        let seen = decoded.roster_seen();
        self.roster.position_of(seen).unwrap_or(seen.number)
    }

    /// Whether a key that is entitled at this position signed it.
    fn judge_signature(&self, decoded: &DecodedEntry) -> Judgement {
        let signer = decoded.envelope.key();
        let state = self.roster.keys.get(&signer).ok_or("its signer was never enrolled")?;
        if !decoded.is_signed_by(state) {
            return Err("its signature is not valid");
        }
        if !self.is_entitled(signer, state, decoded) {
            return Err("its signer was not entitled to it at this position");
        }
        Ok(())
    }

    fn judge_signer(&self, decoded: &DecodedEntry) -> Judgement {
        self.judge_signature(decoded)?;
        if self.position(decoded) < self.roster_seen {
            return Err("its signer had seen an older roster than the previous entry");
        }
        Ok(())
    }

    fn is_entitled(&self, signer: KeyId, state: &EnrolledKey, decoded: &DecodedEntry) -> bool {
        let position = self.position(decoded);
        self.is_enrolled_at(signer, position)
            && state.serves(self.source, position)
            && self.may_sign(state, &decoded.entry.body, position)
    }

    fn may_sign(&self, state: &EnrolledKey, body: &EntryBody, position: u64) -> bool {
        if self.roster.is_retired_at(self.source, position) {
            return body.may_be_signed_after_retirement(state.role);
        }
        body.may_be_signed_by(state.role)
    }

    fn is_enrolled_at(&self, signer: KeyId, seen: u64) -> bool {
        self.roster.key_at(signer, seen).is_some() && !self.revoked.contains(&signer)
    }

    fn judge_roster_seen(&self, decoded: &DecodedEntry) -> Result<Judgement, RepoError> {
        if self.roster.position_of(decoded.roster_seen()).is_some() {
            return Ok(Ok(()));
        }
        // A thief may name a roster that never existed. Distrust of the key must void the entry.
        if !self.roster.trusts(&decoded.envelope.key()) {
            return Ok(Err("it names a roster that never existed, and its signer is distrusted"));
        }
        Err(self.saw_another_roster(decoded))
    }

    fn saw_another_roster(&self, decoded: &DecodedEntry) -> RepoError {
        let object = Name::Ledger(self.source, decoded.entry.place.number).to_string();
        let seen = decoded.roster_seen().number;
        let reason = format!("it names roster entry {seen} with other content than the one in the store");
        RepoError::RolledBack { object, reason }
    }

    fn judge_body(&self, decoded: &DecodedEntry) -> Judgement {
        match &decoded.entry.body {
            EntryBody::Unlisted(unlisted) if !self.roster.announces(unlisted, self.position(decoded)) => {
                Err("it is of a kind or format that no admin has announced")
            }
            // Written before entries that were then lost and whose numbers others have taken. No writer would commit
            // such an image.
            EntryBody::Snapshot(snapshot) if !self.is_newer_image(snapshot.source_clock) => {
                Err("its image is not newer than the image of an earlier snapshot")
            }
            _ => Ok(()),
        }
    }

    fn is_newer_image(&self, clock: Moment) -> bool {
        self.newest_image.is_none_or(|newest| newest < clock)
    }
}
