//! The entry that commits a snapshot, and why a snapshot is suspect.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::base::id::{Digest, Epoch, SessionId, SourceId};
use crate::base::limit::THOUSANDTHS_MAX;
use crate::base::time::Moment;
use crate::format::dsse::{StatementError, StatementSubject};
use crate::format::entry::change::{manifest_subject, pack_subjects};
use crate::format::entry::reference::ObjectRef;

/// A snapshot exists. This entry is its commit.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "StoredSnapshot", into = "StoredSnapshot")]
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
    /// Why it is suspect. Empty if it is clean.
    pub reasons: Vec<SnapshotReason>,
    /// Ids of the snapshots that it was compared with.
    pub baselines: Vec<Digest>,
    /// Digest that later versions check proofs about one user with.
    pub proofs: Option<Digest>,
}

/// Why a snapshot is suspect.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SnapshotReason {
    /// A word, such as `rows`. Words of later versions count too.
    pub reason: String,
    /// Number of the table that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
    /// What was found, in thousandths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<u16>,
    /// The most that is tolerated, in thousandths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u16>,
    /// The snapshot that it was compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<Digest>,
}

/// Whether a text counts as a tag. Others would look like an id or like `latest`.
#[must_use]
pub fn is_tag(text: &str) -> bool {
    let is_latest = text == "latest" || text.starts_with("latest~");
    !is_latest && !text.bytes().all(|byte| byte.is_ascii_hexdigit())
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
            reasons: Vec::new(),
            baselines: Vec::new(),
            proofs: None,
        }
    }

    /// Whether its writer found a reason to distrust the image.
    #[must_use]
    pub fn is_suspect(&self) -> bool {
        !self.reasons.is_empty()
    }

    pub(super) fn added_objects(&self, source: SourceId) -> Vec<StatementSubject> {
        let mut subjects = vec![manifest_subject(source, self.manifest.sha256)];
        subjects.extend(pack_subjects(source, &self.packs));
        subjects.extend(pack_subjects(source, &self.adopted));
        subjects
    }
}

/// Longest word of a reason.
const WORD_BYTES_MAX: usize = 32;

impl SnapshotReason {
    fn is_valid(&self, baselines: &[Digest]) -> bool {
        is_word(&self.reason)
            && self.has_valid_shares()
            && self.baseline.is_none_or(|baseline| baselines.contains(&baseline))
    }

    fn has_valid_shares(&self) -> bool {
        let shares = [self.found, self.limit];
        shares.iter().flatten().all(|share| *share <= THOUSANDTHS_MAX)
    }
}

fn is_word(text: &str) -> bool {
    (1..=WORD_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

#[derive(Clone, Serialize, Deserialize)]
struct StoredSnapshot {
    source_clock: Moment,
    manifest: ObjectRef,
    session: SessionId,
    epoch: Epoch,
    packs: Vec<ObjectRef>,
    adopted: Vec<ObjectRef>,
    tags: Vec<String>,
    suspect: bool,
    reasons: Vec<SnapshotReason>,
    baselines: Vec<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    proofs: Option<Digest>,
    #[serde(default)]
    journal: ReservedMember,
}

impl From<Snapshot> for StoredSnapshot {
    fn from(snapshot: Snapshot) -> Self {
        let suspect = snapshot.is_suspect();
        Self {
            source_clock: snapshot.source_clock,
            manifest: snapshot.manifest,
            session: snapshot.session,
            epoch: snapshot.epoch,
            packs: snapshot.packs,
            adopted: snapshot.adopted,
            tags: snapshot.tags,
            suspect,
            reasons: snapshot.reasons,
            baselines: snapshot.baselines,
            proofs: snapshot.proofs,
            journal: ReservedMember,
        }
    }
}

impl TryFrom<StoredSnapshot> for Snapshot {
    type Error = StatementError;

    fn try_from(stored: StoredSnapshot) -> Result<Self, StatementError> {
        if !stored.has_valid_reasons() {
            return Err(StatementError::Invalid { what: "reason why a snapshot is suspect" });
        }
        Ok(Self {
            source_clock: stored.source_clock,
            manifest: stored.manifest,
            session: stored.session,
            epoch: stored.epoch,
            packs: stored.packs,
            adopted: stored.adopted,
            tags: stored.tags,
            reasons: stored.reasons,
            baselines: stored.baselines,
            proofs: stored.proofs,
        })
    }
}

impl StoredSnapshot {
    fn has_valid_reasons(&self) -> bool {
        let are_valid = self.reasons.iter().all(|reason| reason.is_valid(&self.baselines));
        are_valid && self.suspect != self.reasons.is_empty()
    }
}

/// A member that is written as null and whose value is ignored. If a later version gives it a value that a reader must
/// not ignore, it announces that by a feature.
#[derive(Clone, Copy, Debug, Default)]
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
