//! The envelope of all ledger entries, and what each kind may say.
//!
//! The members of [`ChainPlace`] keep their names and meanings in every format. So a reader can void an entry in the
//! wrong place even if it does not understand the rest of the entry.

use serde::{Deserialize, Serialize, Serializer};

use crate::base::id::{Digest, RepositoryId, SourceId};
use crate::base::role::Role;
use crate::base::time::Moment;
use crate::format::dsse::{Envelope, FORMAT, Payload, Predicate, StatementError, StatementSubject};
use crate::format::entry::change::{
    Accept, AcceptLoss, Add, Erase, Forget, Hold, Prune, Readmit, Reject, Repack, Revoke, Tag,
};
use crate::format::entry::reference::Numbered;
use crate::format::entry::snapshot::Snapshot;
use crate::format::feature::Unlisted;
use crate::format::name::Name;

/// One entry of a source's ledger.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Its place in the chain.
    pub place: ChainPlace,
    /// The signer's clock. Informative.
    pub written: Moment,
    /// What it says.
    pub body: EntryBody,
}

/// The place of an entry in the chain, and the roster that its signer had seen.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ChainPlace {
    pub repository: RepositoryId,
    pub source: SourceId,
    /// From 1, without gaps.
    pub number: u64,
    /// Digest of the stored bytes of the previous entry. In entry 1, of the roster entry that added the source.
    pub previous: Digest,
    /// The newest roster entry that the signer had seen.
    pub roster: Numbered,
}

/// What an entry states.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum EntryBody {
    Snapshot(Snapshot),
    Forget(Forget),
    Prune(Prune),
    Repack(Repack),
    Accept(Accept),
    Reject(Reject),
    #[serde(rename = "accept_loss")]
    AcceptLoss(AcceptLoss),
    Hold(Hold),
    Tag(Tag),
    Erase(Erase),
    Revoke(Revoke),
    Readmit(Readmit),
    Add(Add),
    /// An entry of a kind or format that the base list does not have.
    #[serde(skip)]
    Unlisted(Unlisted),
}

const KINDS: [&str; 13] = [
    "snapshot",
    "forget",
    "prune",
    "repack",
    "accept",
    "reject",
    "accept_loss",
    "hold",
    "tag",
    "erase",
    "revoke",
    "readmit",
    "add",
];

impl EntryBody {
    /// The kind as stored.
    #[must_use]
    pub fn kind(&self) -> &str {
        match self {
            Self::Snapshot(_) => "snapshot",
            Self::Forget(_) => "forget",
            Self::Prune(_) => "prune",
            Self::Repack(_) => "repack",
            Self::Accept(_) => "accept",
            Self::Reject(_) => "reject",
            Self::AcceptLoss(_) => "accept_loss",
            Self::Hold(_) => "hold",
            Self::Tag(_) => "tag",
            Self::Erase(_) => "erase",
            Self::Revoke(_) => "revoke",
            Self::Readmit(_) => "readmit",
            Self::Add(_) => "add",
            Self::Unlisted(_) => "unlisted",
        }
    }

    /// Whether a key of this role is entitled to sign it after the source was retired.
    #[must_use]
    pub fn may_be_signed_after_retirement(&self, role: Role) -> bool {
        match self {
            Self::Snapshot(_) | Self::Add(_) => false,
            Self::Forget(_) => role.is_admin(),
            _ => self.may_be_signed_by(role),
        }
    }

    /// Whether a key of this role is entitled to sign it.
    #[must_use]
    pub fn may_be_signed_by(&self, role: Role) -> bool {
        match self {
            Self::Snapshot(_) | Self::Add(_) => role == Role::Operator,
            Self::Forget(_) | Self::Prune(_) | Self::Repack(_) | Self::Tag(_) => role == Role::Maintainer,
            Self::Hold(_) => role == Role::Maintainer || role.is_admin(),
            Self::Accept(_)
            | Self::Reject(_)
            | Self::AcceptLoss(_)
            | Self::Erase(_)
            | Self::Revoke(_)
            | Self::Readmit(_) => role.is_admin(),
            Self::Unlisted(_) => role != Role::Auditor,
        }
    }
}

#[derive(Serialize)]
struct StoredEntry<'a> {
    format: u32,
    #[serde(flatten)]
    place: &'a ChainPlace,
    written: Moment,
    #[serde(flatten)]
    body: &'a EntryBody,
}

impl Serialize for Entry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { place, written, body } = self;
        StoredEntry { format: FORMAT, place, written: *written, body }.serialize(serializer)
    }
}

/// The part that is read from entries of every version, including later ones.
#[derive(Serialize, Deserialize)]
struct EntryHead {
    format: u32,
    repository: RepositoryId,
    source: SourceId,
    number: u64,
    previous: Digest,
    roster: Numbered,
    written: Moment,
    kind: String,
}

impl Predicate for Entry {
    const FAMILY: &'static str = "urn:sidekeep:ledger";
    const WHAT: &'static str = "ledger entry";

    fn subjects(&self) -> Vec<StatementSubject> {
        let mut subjects = self.body.added_objects(self.place.source);
        if subjects.is_empty() {
            subjects.push(self.place.predecessor());
        }
        subjects
    }

    fn decode(payload: &Payload) -> Result<Self, StatementError> {
        let head: EntryHead = payload.predicate()?;
        if head.number == 0 {
            return Err(StatementError::Invalid { what: "number of a ledger entry" });
        }
        let body = head.read_body(payload)?;
        Ok(Self { written: head.written, place: head.place(), body })
    }
}

impl EntryHead {
    fn place(self) -> ChainPlace {
        let Self { repository, source, number, previous, roster, .. } = self;
        ChainPlace { repository, source, number, previous, roster }
    }

    /// Reads the part that depends on the kind, if this version knows the kind.
    fn read_body(&self, payload: &Payload) -> Result<EntryBody, StatementError> {
        match payload.other_format(self.format).or_else(|| unknown_kind(&self.kind)) {
            Some(unlisted) => Ok(EntryBody::Unlisted(unlisted)),
            None => Ok(payload.predicate::<StoredBody>()?.body),
        }
    }
}

/// The part of a stored entry that depends on its kind.
#[derive(Serialize, Deserialize)]
struct StoredBody {
    #[serde(flatten)]
    body: EntryBody,
}

fn unknown_kind(kind: &str) -> Option<Unlisted> {
    (!KINDS.contains(&kind)).then(|| Unlisted::of_kind("entry kind", kind))
}

impl ChainPlace {
    /// The place that an entry of any version claims. `None` if it has none.
    pub(in crate::format) fn claimed_by(envelope: &Envelope) -> Option<Self> {
        Some(envelope.head::<Entry, EntryHead>().ok()?.place())
    }

    /// The previous object in the chain.
    fn predecessor(&self) -> StatementSubject {
        let name = match self.number {
            0 | 1 => "roster".to_owned(),
            number => Name::Ledger(self.source, number - 1).to_string(),
        };
        StatementSubject { name, sha256: self.previous }
    }
}

impl EntryBody {
    /// The objects that the entry adds to `source`.
    #[must_use]
    pub fn added_objects(&self, source: SourceId) -> Vec<StatementSubject> {
        match self {
            Self::Snapshot(snapshot) => snapshot.added_objects(source),
            Self::Repack(repack) => repack.added_objects(source),
            Self::Erase(erase) => erase.added_objects(source),
            Self::Add(add) => add.added_objects(source),
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::BASE64;

    use super::Entry;
    use crate::format::dsse::Envelope;

    fn envelope(payload: &str) -> Envelope {
        let payload = BASE64.encode(payload.as_bytes());
        let signature = format!(r#"{{"keyid":"{}","sig":"{}"}}"#, "0".repeat(32), BASE64.encode(&[0; 64]));
        let payload_type = "application/vnd.in-toto+json";
        let text = format!(r#"{{"payload":"{payload}","payloadType":"{payload_type}","signatures":[{signature}]}}"#);
        Envelope::decode(text.as_bytes()).expect("decodes")
    }

    #[test]
    fn other_statements_are_refused_as_entries() {
        for payload in [
            "",
            "{}",
            r#"{"_type":"https://in-toto.io/Statement/v0.1","predicateType":"urn:sidekeep:ledger:1"}"#,
            r#"{"_type":"https://in-toto.io/Statement/v1","predicateType":"urn:sidekeep:roster:1"}"#,
            r#"{"_type":"https://in-toto.io/Statement/v1","predicateType":"urn:sidekeep:ledger:x"}"#,
            r#"{"_type":"https://in-toto.io/Statement/v1","predicateType":"urn:sidekeep:ledger:2"}"#,
        ] {
            assert!(envelope(payload).predicate::<Entry>().is_err(), "{payload}");
        }
    }
}
