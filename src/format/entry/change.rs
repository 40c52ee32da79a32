//! Entries that change what earlier ones said.

use std::collections::HashSet;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::base::id::{Digest, Epoch, KeyId, SessionId, SourceId};
use crate::base::revocation::RevocationReason;
use crate::base::time::Moment;
use crate::format::dsse::{StatementError, StatementSubject};
use crate::format::entry::reference::{Numbered, ObjectRef};
use crate::format::name::Name;

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
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RepackedPack {
    pub sha256: Digest,
    pub size: u64,
    /// The key that first added the frames. Deduplication trusts that key, not the one that moved them.
    pub signer: KeyId,
    /// Keys that moved them before the signer of this entry did. Deduplication must trust all of them.
    pub movers: Vec<KeyId>,
}

/// Declares a suspect snapshot clean.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Accept {
    pub snapshot: Digest,
    pub reason: String,
}

/// Excludes a snapshot: it is not clean, whatever its writer said.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Reject {
    pub snapshot: Digest,
    pub reason: String,
}

/// Gives up entries that were lost, so that the chain continues without them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "StoredLoss", into = "StoredLoss")]
pub struct AcceptLoss {
    /// Entries that are known to be lost.
    pub lost: Vec<Numbered>,
    pub reason: String,
}

#[derive(Clone, Serialize, Deserialize)]
struct StoredLoss {
    lost: Vec<Numbered>,
    reason: String,
}

impl From<AcceptLoss> for StoredLoss {
    fn from(loss: AcceptLoss) -> Self {
        Self { lost: loss.lost, reason: loss.reason }
    }
}

impl TryFrom<StoredLoss> for AcceptLoss {
    type Error = StatementError;

    fn try_from(stored: StoredLoss) -> Result<Self, StatementError> {
        let StoredLoss { lost, reason } = stored;
        if lost.iter().any(|entry| entry.number == 0) {
            return Err(StatementError::Invalid { what: "number of a lost entry" });
        }
        Ok(Self { lost, reason })
    }
}

/// Protects a snapshot from being forgotten, or ends that.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "StoredHold", into = "StoredHold")]
pub struct Hold {
    pub snapshot: Digest,
    pub end: HoldEnd,
    pub reason: String,
}

/// When a hold ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HoldEnd {
    Never,
    At(Moment),
    /// Releases the snapshot.
    Now,
}

#[derive(Clone, Serialize, Deserialize)]
struct StoredHold {
    snapshot: Digest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<Moment>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    release: Option<bool>,
    reason: String,
}

impl From<Hold> for StoredHold {
    fn from(hold: Hold) -> Self {
        let until = if let HoldEnd::At(end) = hold.end { Some(end) } else { None };
        let release = (hold.end == HoldEnd::Now).then_some(true);
        Self { snapshot: hold.snapshot, until, release, reason: hold.reason }
    }
}

impl TryFrom<StoredHold> for Hold {
    type Error = StatementError;

    fn try_from(stored: StoredHold) -> Result<Self, StatementError> {
        Ok(Self { snapshot: stored.snapshot, end: stored.end()?, reason: stored.reason })
    }
}

impl StoredHold {
    fn end(&self) -> Result<HoldEnd, StatementError> {
        match (self.release.unwrap_or(false), self.until) {
            (false, None) => Ok(HoldEnd::Never),
            (false, Some(end)) => Ok(HoldEnd::At(end)),
            (true, None) => Ok(HoldEnd::Now),
            (true, Some(_)) => Err(StatementError::Invalid { what: "end of a hold" }),
        }
    }
}

/// Adds a tag to a snapshot or removes one.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Tag {
    pub snapshot: Digest,
    pub tag: String,
    /// Absent and null mean `Put`.
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
#[serde(try_from = "StoredErase", into = "StoredErase")]
pub struct Erase {
    /// The epoch of all these manifests and packs.
    pub epoch: Epoch,
    /// The session that wrote them.
    pub session: SessionId,
    /// No digest occurs twice, as old or as new.
    pub manifests: Vec<ReplacedManifest>,
    /// Packs that are added.
    pub packs: Vec<ObjectRef>,
    pub reason: String,
}

#[derive(Clone, Serialize, Deserialize)]
struct StoredErase {
    epoch: Epoch,
    session: SessionId,
    manifests: Vec<ReplacedManifest>,
    packs: Vec<ObjectRef>,
    reason: String,
}

impl From<Erase> for StoredErase {
    fn from(erase: Erase) -> Self {
        let Erase { epoch, session, manifests, packs, reason } = erase;
        Self { epoch, session, manifests, packs, reason }
    }
}

impl TryFrom<StoredErase> for Erase {
    type Error = StatementError;

    fn try_from(stored: StoredErase) -> Result<Self, StatementError> {
        let StoredErase { epoch, session, manifests, packs, reason } = stored;
        let mut digests = HashSet::new();
        if manifests.iter().all(|replaced| digests.insert(replaced.old) && digests.insert(replaced.new.sha256)) {
            return Ok(Self { epoch, session, manifests, packs, reason });
        }
        Err(StatementError::Invalid { what: "list of replaced manifests" })
    }
}

/// Replaces one manifest by another.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ReplacedManifest {
    pub old: Digest,
    pub new: ObjectRef,
}

/// From here on, entries of this key are void. Its packs are not used for deduplication if it was lost or stolen.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Revoke {
    pub key: KeyId,
    pub reason: RevocationReason,
}

/// Takes back what a forget or prune removed. Everything else about these objects is as the entries say that added them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Readmit {
    pub snapshots: Vec<Digest>,
    pub manifests: Vec<Digest>,
    pub packs: Vec<Digest>,
    pub reason: String,
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

impl Repack {
    pub(super) fn added_objects(&self, source: SourceId) -> Vec<StatementSubject> {
        self.added.iter().map(|pack| pack_subject(source, pack.sha256)).collect()
    }
}

impl Add {
    pub(super) fn added_objects(&self, source: SourceId) -> Vec<StatementSubject> {
        pack_subjects(source, &self.packs).chain(pack_subjects(source, &self.adopted)).collect()
    }
}

impl Erase {
    pub(super) fn added_objects(&self, source: SourceId) -> Vec<StatementSubject> {
        let manifests = self.manifests.iter().map(|replaced| manifest_subject(source, replaced.new.sha256));
        manifests.chain(pack_subjects(source, &self.packs)).collect()
    }
}

pub(super) fn manifest_subject(source: SourceId, sha256: Digest) -> StatementSubject {
    StatementSubject { name: Name::Manifest(source, sha256).to_string(), sha256 }
}

fn pack_subject(source: SourceId, sha256: Digest) -> StatementSubject {
    StatementSubject { name: Name::Pack(source, sha256).to_string(), sha256 }
}

pub(super) fn pack_subjects(source: SourceId, packs: &[ObjectRef]) -> impl Iterator<Item = StatementSubject> {
    packs.iter().map(move |pack| pack_subject(source, pack.sha256))
}

impl Serialize for TagChange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bool(*self == Self::Remove)
    }
}

impl<'de> Deserialize<'de> for TagChange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let remove = Option::<bool>::deserialize(deserializer)?;
        Ok(if remove == Some(true) { Self::Remove } else { Self::Put })
    }
}
