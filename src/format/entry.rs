//! Ledger entries (`docs/format.md` section 10): signed statements about a source, one struct per kind.
//!
//! The members of [`ChainPlace`] keep their names and meanings in every format. So a reader can void an entry in the
//! wrong place even if it does not understand the rest of the entry.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::base::id::{Digest, Epoch, KeyId, RepositoryId, SessionId, SourceId};
use crate::base::role::Role;
use crate::base::time::Moment;
use crate::format::dsse::{FORMAT, Payload, Predicate, StatementError, StatementSubject};
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

/// An entry of a chain, by number and digest of its stored bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Numbered {
    pub number: u64,
    pub sha256: Digest,
}

/// An object that was added.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct ObjectRef {
    pub sha256: Digest,
    pub size: u64,
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
    Hold(Hold),
    Tag(Tag),
    Erase(Erase),
    Revoke(Revoke),
    Checkpoint(Checkpoint),
    Add(Add),
    /// An entry of a later version. If an entitled key signed it in its place, this version cannot judge the source.
    #[serde(skip)]
    Unsupported(String),
}

const KINDS: [&str; 11] =
    ["snapshot", "forget", "prune", "repack", "accept", "hold", "tag", "erase", "revoke", "checkpoint", "add"];

/// A snapshot exists. This entry is its commit.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Snapshot {
    /// When the image was taken, by the source's clock.
    pub source_clock: Moment,
    pub manifest: ObjectRef,
    pub session: SessionId,
    pub epoch: Epoch,
    /// Added by this session.
    pub packs: Vec<ObjectRef>,
    /// Added by interrupted sessions of the same key.
    pub adopted: Vec<ObjectRef>,
    pub tags: Vec<String>,
    #[serde(rename = "suspect")]
    pub verdict: Verdict,
    #[serde(default)]
    journal: ReservedMember,
}

impl Snapshot {
    /// A clean snapshot without tags.
    #[must_use]
    pub fn new(source_clock: Moment, manifest: ObjectRef, session: SessionId, epoch: Epoch) -> Self {
        Self {
            source_clock,
            manifest,
            session,
            epoch,
            packs: Vec::new(),
            adopted: Vec::new(),
            tags: Vec::new(),
            verdict: Verdict::Clean,
            journal: ReservedMember,
        }
    }
}

/// Whether the image looks plausible.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    Clean,
    /// The source looks as if most of its rows were lost. Retention is frozen until a person decides.
    Suspect,
}

/// Drops snapshots.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Forget {
    pub snapshots: Vec<Digest>,
    pub reason: String,
}

/// Removes packs and manifests. The named objects are absent from here on, whether or not they were in the inventory.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Prune {
    pub packs: Vec<Digest>,
    pub manifests: Vec<Digest>,
}

/// Moves frames from packs into new packs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Repack {
    /// The epoch of all these packs.
    pub epoch: Epoch,
    /// Packs that are removed.
    pub packs: Vec<Digest>,
    pub added: Vec<RepackedPack>,
}

/// A pack of moved frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RepackedPack {
    pub sha256: Digest,
    pub size: u64,
    /// The key that first added the frames. Deduplication trusts that key, not the one that moved them.
    pub signer: KeyId,
}

/// Declares a suspect snapshot clean.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Accept {
    pub snapshot: Digest,
    pub reason: String,
}

/// Protects a snapshot from being forgotten. Only the latest hold of a snapshot counts.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hold {
    pub snapshot: Digest,
    /// `None` holds the snapshot forever. A time in the past releases it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Moment>,
    pub reason: String,
}

/// Adds a tag to a snapshot or removes one.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Tag {
    pub snapshot: Digest,
    pub tag: String,
    #[serde(rename = "remove", default, skip_serializing_if = "TagChange::is_put")]
    pub change: TagChange,
}

/// Whether a tag is added or removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TagChange {
    #[default]
    Put,
    Remove,
}

impl TagChange {
    fn is_put(&self) -> bool {
        *self == Self::Put
    }
}

/// Removes something from snapshots.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Erase {
    /// The epoch of all these manifests and packs.
    pub epoch: Epoch,
    pub manifests: Vec<ReplacedManifest>,
    /// Packs that are added.
    pub packs: Vec<ObjectRef>,
    pub reason: String,
}

/// Replaces one manifest by another.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ReplacedManifest {
    pub old: Digest,
    pub new: ObjectRef,
}

/// From here on, entries of this key are void and its packs are not used for deduplication.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Revoke {
    pub key: KeyId,
}

/// Adds packs of a snapshot that is still to be committed, because one entry cannot name all of them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Add {
    pub session: SessionId,
    pub epoch: Epoch,
    /// Added by this session.
    pub packs: Vec<ObjectRef>,
    /// Added by interrupted sessions of the same key.
    pub adopted: Vec<ObjectRef>,
}

/// The fold up to this entry is stored in an object.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Checkpoint {
    pub fold: Digest,
}

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
            Self::Hold(_) => "hold",
            Self::Tag(_) => "tag",
            Self::Erase(_) => "erase",
            Self::Revoke(_) => "revoke",
            Self::Checkpoint(_) => "checkpoint",
            Self::Add(_) => "add",
            Self::Unsupported(_) => "unsupported",
        }
    }

    /// Whether a key of this role is entitled to sign it.
    #[must_use]
    pub fn may_be_signed_by(&self, role: Role) -> bool {
        match self {
            Self::Snapshot(_) | Self::Add(_) => role == Role::Operator,
            Self::Forget(_) | Self::Prune(_) | Self::Repack(_) | Self::Hold(_) | Self::Tag(_) => {
                role == Role::Maintainer
            }
            Self::Accept(_) | Self::Erase(_) | Self::Revoke(_) => role.is_admin(),
            Self::Checkpoint(_) => matches!(role, Role::Operator | Role::Maintainer),
            Self::Unsupported(_) => role != Role::Auditor,
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
#[derive(Deserialize)]
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

    fn decode(payload: &Payload<'_>) -> Result<Self, StatementError> {
        let head: EntryHead = payload.predicate()?;
        if head.number == 0 {
            return Err(StatementError::Invalid { what: "number of a ledger entry" });
        }
        let body = head.read_body(payload)?;
        let EntryHead { repository, source, number, previous, roster, written, .. } = head;
        Ok(Self { place: ChainPlace { repository, source, number, previous, roster }, written, body })
    }
}

impl EntryHead {
    /// Reads the part that depends on the kind, if this version knows the kind.
    fn read_body(&self, payload: &Payload<'_>) -> Result<EntryBody, StatementError> {
        match payload.unsupported_reason(self.format).or_else(|| unknown_kind(&self.kind)) {
            Some(what) => Ok(EntryBody::Unsupported(what)),
            None => Ok(payload.predicate::<StoredBody>()?.body),
        }
    }
}

/// The part of a stored entry that depends on its kind.
#[derive(Deserialize)]
struct StoredBody {
    #[serde(flatten)]
    body: EntryBody,
}

fn unknown_kind(kind: &str) -> Option<String> {
    (!KINDS.contains(&kind)).then(|| format!("entry kind {kind:?}"))
}

impl ChainPlace {
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
    fn added_objects(&self, source: SourceId) -> Vec<StatementSubject> {
        match self {
            Self::Snapshot(snapshot) => snapshot.added_objects(source),
            Self::Repack(repack) => repack.added_objects(source),
            Self::Erase(erase) => erase.added_objects(source),
            Self::Add(add) => pack_subjects(source, &add.packs).chain(pack_subjects(source, &add.adopted)).collect(),
            Self::Checkpoint(checkpoint) => vec![checkpoint.added_object(source)],
            _ => Vec::new(),
        }
    }
}

impl Snapshot {
    fn added_objects(&self, source: SourceId) -> Vec<StatementSubject> {
        let mut subjects = vec![manifest_subject(source, self.manifest.sha256)];
        subjects.extend(pack_subjects(source, &self.packs));
        subjects.extend(pack_subjects(source, &self.adopted));
        subjects
    }
}

impl Repack {
    fn added_objects(&self, source: SourceId) -> Vec<StatementSubject> {
        self.added.iter().map(|pack| pack_subject(source, pack.sha256)).collect()
    }
}

impl Erase {
    fn added_objects(&self, source: SourceId) -> Vec<StatementSubject> {
        let manifests = self.manifests.iter().map(|replaced| manifest_subject(source, replaced.new.sha256));
        manifests.chain(pack_subjects(source, &self.packs)).collect()
    }
}

impl Checkpoint {
    fn added_object(&self, source: SourceId) -> StatementSubject {
        StatementSubject { name: format!("{source}/folds/{}", self.fold), sha256: self.fold }
    }
}

fn manifest_subject(source: SourceId, sha256: Digest) -> StatementSubject {
    StatementSubject { name: Name::Manifest(source, sha256).to_string(), sha256 }
}

fn pack_subject(source: SourceId, sha256: Digest) -> StatementSubject {
    StatementSubject { name: Name::Pack(source, sha256).to_string(), sha256 }
}

fn pack_subjects(source: SourceId, packs: &[ObjectRef]) -> impl Iterator<Item = StatementSubject> {
    packs.iter().map(move |pack| pack_subject(source, pack.sha256))
}

impl Serialize for Verdict {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bool(*self == Self::Suspect)
    }
}

impl<'de> Deserialize<'de> for Verdict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(if bool::deserialize(deserializer)? { Self::Suspect } else { Self::Clean })
    }
}

impl Serialize for TagChange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bool(*self == Self::Remove)
    }
}

impl<'de> Deserialize<'de> for TagChange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(if bool::deserialize(deserializer)? { Self::Remove } else { Self::Put })
    }
}

/// A member that is written as null and whose value is ignored. If a later version gives it a value that a reader must
/// not ignore, it announces that by a feature.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct ReservedMember;

impl Serialize for ReservedMember {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }
}

impl<'de> Deserialize<'de> for ReservedMember {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde::de::IgnoredAny::deserialize(deserializer).map(|_| Self)
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
