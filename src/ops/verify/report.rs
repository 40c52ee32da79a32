//! The options and the report of a check. The whole report can be printed as JSON.

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
    /// Checks chains, names and sizes. Needs no secret key.
    Quick,
    /// Like quick, and compares every stored byte with its digest. Needs no secret key.
    Read,
    /// Like quick, and checks that everything reachable from manifests is at its location. Needs any key.
    Structure,
    /// Like structure, and decodes and recomputes every row and stream. Needs an admin's key.
    Deep,
}

/// What to check.
#[derive(Clone)]
pub struct VerifyOptions {
    pub level: VerifyLevel,
    /// Check only this source. `None` means all sources.
    pub source: Option<SourceId>,
    /// Check only these snapshots, at the levels structure and deep. Empty means all that are not forgotten.
    pub snapshots: Vec<Selector>,
    /// What an earlier check of this repository saw. All of it must still be present and unchanged.
    pub known_heads: Option<Heads>,
    pub progress: SharedProgress,
    pub cancel: Cancel,
}

/// The newest entry of every chain. A later check must find it again.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Heads {
    pub fingerprint: Digest,
    pub roster: Numbered,
    pub ledgers: BTreeMap<SourceId, Numbered>,
}

/// What was checked, and what was found.
#[derive(Clone, Debug, Serialize)]
pub struct VerifyReport {
    pub level: VerifyLevel,
    /// `None` if not even the id could be read.
    pub repository: Option<RepositoryId>,
    /// The fingerprint and the newest entries, if the repository could be opened.
    pub heads: Option<Heads>,
    pub started: Option<Moment>,
    pub sources: Vec<SourceChecked>,
    /// Worst first.
    pub findings: Vec<Finding>,
    /// Number of objects in the store.
    pub objects: u64,
    /// Their total size.
    pub object_bytes: u64,
    /// Number of objects of which every byte was compared with a digest, and their total size.
    pub objects_read: u64,
    pub bytes_read: u64,
    /// Requests to the store, and the bytes that it sent.
    pub requests: u64,
    pub bytes_received: u64,
}

impl VerifyReport {
    /// Creates a report of a check that has not checked anything.
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

    /// Whether stored data is missing or altered.
    #[must_use]
    pub fn has_damage(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Damage)
    }
}

/// What was checked in a source.
#[derive(Clone, Debug, Serialize)]
pub struct SourceChecked {
    pub source: SourceId,
    /// `None` if the key cannot read it.
    pub name: Option<String>,
    /// Number of ledger entries that were folded.
    pub entries: u64,
    /// Number of packs in the inventory and their total size, according to the ledger.
    pub packs: u64,
    pub pack_bytes: u64,
    pub manifests: u64,
    /// Number of frames that the tables of the packs list.
    pub frames: u64,
    pub fragments: u64,
    /// Snapshots that were checked.
    pub snapshots: Vec<SnapshotChecked>,
}

impl SourceChecked {
    /// Creates a report of a check that has not checked anything.
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

/// What was checked in a snapshot. Parts that it shares with a snapshot that was checked before are not counted again.
#[derive(Clone, Debug, Serialize)]
pub struct SnapshotChecked {
    pub snapshot: Digest,
    pub number: u64,
    pub source_clock: Moment,
    /// Whether everything that was checked can be restored.
    pub intact: bool,
    /// What its backup could not capture. The stored data is correct, but it is not everything that the source had.
    pub gaps: Vec<GapSummary>,
    pub tables: Vec<TableChecked>,
    /// Number of nodes and lists that were opened.
    pub nodes: u64,
    /// Number of leaves whose location was checked.
    pub leaves: u64,
    /// Number of streams whose locations were checked.
    pub streams: u64,
    /// Number of leaves and pieces that were opened and decoded, and the size of their content.
    pub opened: u64,
    pub opened_bytes: u64,
}

impl SnapshotChecked {
    /// Creates a report of a check that has not checked anything.
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

/// The totals of a table in a checked snapshot.
#[derive(Clone, Debug, Serialize)]
pub struct TableChecked {
    pub name: String,
    pub rows: u64,
    pub leaves: u64,
    pub bytes: u64,
}
