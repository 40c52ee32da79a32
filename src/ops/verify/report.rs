//! What a check is asked for and what it answers. All of the answer can be printed as JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::base::cancel::Cancel;
use crate::base::finding::{Finding, Severity};
use crate::base::id::{Digest, RepositoryId, SourceId};
use crate::base::progress::SharedProgress;
use crate::base::time::Moment;
use crate::format::entry::Numbered;
use crate::format::manifest::GapSummary;
use crate::ops::select::Selector;
use crate::repo::ledger::SnapshotRecord;

/// How thoroughly to check.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum VerifyLevel {
    /// Chains, names, sizes. No secret key.
    Quick,
    /// Quick, and every stored byte. No secret key.
    Read,
    /// Quick, and everything reachable from manifests is where it must be. Any key.
    Structure,
    /// Structure, and every row and stream decoded and computed again. An admin's key.
    Deep,
}

/// What to check.
#[derive(Clone)]
pub struct VerifyOptions {
    pub level: VerifyLevel,
    /// Only this source; `None`: all.
    pub source: Option<SourceId>,
    /// Structure and deep look at these snapshots; empty: all that are not forgotten.
    pub snapshots: Vec<Selector>,
    /// What an earlier check of this repository saw: nothing of it may be gone or changed.
    pub known_heads: Option<Heads>,
    pub progress: SharedProgress,
    pub cancel: Cancel,
}

/// The newest entry of every chain: what a later check must find again.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Heads {
    pub fingerprint: Digest,
    pub roster: Numbered,
    pub ledgers: BTreeMap<SourceId, Numbered>,
}

/// What was checked and found.
#[derive(Clone, Debug, Serialize)]
pub struct VerifyReport {
    pub level: VerifyLevel,
    /// `None` if not even that could be read.
    pub repository: Option<RepositoryId>,
    /// Of the repository, and the newest entries.
    pub heads: Option<Heads>,
    pub started: Option<Moment>,
    pub sources: Vec<SourceChecked>,
    /// The worst first.
    pub findings: Vec<Finding>,
    /// Objects in the store.
    pub objects: u64,
    /// Their bytes.
    pub object_bytes: u64,
    /// Objects whose every byte was compared with a digest, and their bytes.
    pub objects_read: u64,
    pub bytes_read: u64,
    /// What the store was asked for.
    pub requests: u64,
    pub bytes_received: u64,
}

impl VerifyReport {
    /// Nothing is checked yet.
    #[must_use]
    pub fn empty(level: VerifyLevel) -> Self {
        Self {
            level,
            repository: None,
            heads: None,
            started: None,
            sources: Vec::new(),
            findings: Vec::new(),
            objects: 0,
            object_bytes: 0,
            objects_read: 0,
            bytes_read: 0,
            requests: 0,
            bytes_received: 0,
        }
    }

    /// Whether something stored is gone or altered.
    #[must_use]
    pub fn has_damage(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Damage)
    }
}

/// What was checked of a source.
#[derive(Clone, Debug, Serialize)]
pub struct SourceChecked {
    pub source: SourceId,
    /// As far as the key reads it.
    pub name: Option<String>,
    /// Ledger entries folded.
    pub entries: u64,
    /// Packs of the inventory and their bytes, as the ledger has them.
    pub packs: u64,
    pub pack_bytes: u64,
    pub manifests: u64,
    /// Frames that the tables of the packs tell of.
    pub frames: u64,
    pub fragments: u64,
    /// Snapshots looked into.
    pub snapshots: Vec<SnapshotChecked>,
}

impl SourceChecked {
    /// Nothing is checked yet.
    #[must_use]
    pub fn new(source: SourceId, name: Option<String>) -> Self {
        Self {
            source,
            name,
            entries: 0,
            packs: 0,
            pack_bytes: 0,
            manifests: 0,
            frames: 0,
            fragments: 0,
            snapshots: Vec::new(),
        }
    }
}

/// What was checked of a snapshot. What it shares with one checked before is not counted again.
#[derive(Clone, Debug, Serialize)]
pub struct SnapshotChecked {
    pub snapshot: Digest,
    pub number: u64,
    pub source_clock: Moment,
    /// Whether everything that was looked at can be restored.
    pub intact: bool,
    /// What its backup could not capture: nothing is wrong with what is stored, but it is not all there was.
    pub gaps: Vec<GapSummary>,
    pub tables: Vec<TableChecked>,
    /// Nodes and lists opened.
    pub nodes: u64,
    /// Leaves whose place was checked.
    pub leaves: u64,
    /// Streams whose places were checked.
    pub streams: u64,
    /// Leaves and pieces opened and decoded, and their content.
    pub opened: u64,
    pub opened_bytes: u64,
}

impl SnapshotChecked {
    /// Nothing is checked yet.
    #[must_use]
    pub fn new(record: &SnapshotRecord) -> Self {
        Self {
            snapshot: record.id,
            number: record.number,
            source_clock: record.snapshot.source_clock,
            intact: true,
            gaps: Vec::new(),
            tables: Vec::new(),
            nodes: 0,
            leaves: 0,
            streams: 0,
            opened: 0,
            opened_bytes: 0,
        }
    }
}

/// A table of a checked snapshot, all of it.
#[derive(Clone, Debug, Serialize)]
pub struct TableChecked {
    pub name: String,
    pub rows: u64,
    pub leaves: u64,
    pub bytes: u64,
}
