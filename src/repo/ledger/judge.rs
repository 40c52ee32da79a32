//! Decides whether an entry in its place counts (rules L2 to L4).

use crate::base::id::{KeyId, SourceId};
use crate::base::time::Moment;
use crate::format::dsse::{Envelope, StatementError};
use crate::format::entry::{Entry, EntryBody, Numbered};
use crate::repo::ledger::revoked::RevokedKeys;
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
    pub(super) revoked: &'a RevokedKeys,
    /// The newest roster entry that any of those entries had seen.
    pub(super) roster_seen: u64,
    pub(super) newest_image: Option<Moment>,
}

impl Judge<'_> {
    /// Judges an entry in its place. Whatever a key signs, it stops no reader.
    pub(super) fn judge(&self, decoded: &DecodedEntry) -> Judgement {
        self.judge_signer(decoded)?;
        self.judge_body(decoded)
    }

    /// Whether an entitled key wrote an entry for this number of this ledger, after whatever entry.
    pub(super) fn is_written_for(&self, number: u64, decoded: &DecodedEntry) -> bool {
        let place = &decoded.entry.place;
        let is_ours = place.repository == self.roster.repository && place.source == self.source;
        is_ours && place.number == number && self.judge_signature(decoded).is_ok() && self.is_announced(decoded)
    }

    /// Whether its kind and format are in the base list, or announced.
    fn is_announced(&self, decoded: &DecodedEntry) -> bool {
        match &decoded.entry.body {
            EntryBody::Unlisted(unlisted) => self.roster.announces(unlisted, self.position(decoded)),
            _ => true,
        }
    }

    /// The roster entry as of which an entry is judged: the newest one, if the roster does not have the one that the
    /// entry names. An honest signer may have seen an entry that was lost, and a thief may name one that never existed.
    fn position(&self, decoded: &DecodedEntry) -> u64 {
        self.roster.position_of(decoded.roster_seen()).unwrap_or(self.roster.head().number)
    }

    /// Whether a key that is entitled at this position signed it.
    fn judge_signature(&self, decoded: &DecodedEntry) -> Judgement {
        let signer = decoded.envelope.key();
        let state = self.roster.keys.get(&signer).ok_or("its signer was never enrolled")?;
        if !decoded.is_signed_by(state) {
            return Err("its signature is not valid");
        }
        if self.revoked.contains(&signer) {
            return Err("its signer was revoked earlier in this ledger");
        }
        if self.position(decoded) < self.source_added() {
            return Err("its signer had not seen the roster entry that added the source");
        }
        if !self.is_entitled(signer, state, decoded) {
            return Err("its signer was not entitled to it at this position");
        }
        Ok(())
    }

    fn judge_signer(&self, decoded: &DecodedEntry) -> Judgement {
        self.judge_signature(decoded)?;
        if decoded.roster_seen().number == 0 {
            return Err("it names no roster entry");
        }
        if self.position(decoded) < self.roster_seen {
            return Err("its signer had seen an older roster than the previous entry");
        }
        Ok(())
    }

    fn is_entitled(&self, signer: KeyId, state: &EnrolledKey, decoded: &DecodedEntry) -> bool {
        let position = self.position(decoded);
        self.roster.key_at(signer, position).is_some()
            && state.serves(self.source, position)
            && self.may_sign(state, &decoded.entry.body, position)
    }

    fn may_sign(&self, state: &EnrolledKey, body: &EntryBody, position: u64) -> bool {
        if self.roster.is_retired_at(self.source, position) {
            return body.may_be_signed_after_retirement(state.role);
        }
        body.may_be_signed_by(state.role)
    }

    /// The roster entry that added the source.
    fn source_added(&self) -> u64 {
        self.roster.sources.get(&self.source).map_or(0, |source| source.added.number)
    }

    fn judge_body(&self, decoded: &DecodedEntry) -> Judgement {
        match &decoded.entry.body {
            _ if !self.is_announced(decoded) => Err("it is of a kind or format that no admin has announced"),
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
