//! The list of snapshots, as far as whoever asks can read it: the ledger for everybody, what a snapshot
//! holds for those with a key. Reads one manifest per snapshot if asked to, and nothing else.

use crate::base::frame::FrameContext;
use crate::base::id::{Digest, KeyId, SourceId};
use crate::base::time::Moment;
use crate::format::entry::Verdict;
use crate::ops::error::OpError;
use crate::ops::verify::Access;
use crate::repo::error::RepoError;
use crate::repo::ledger::{Ledger, SnapshotRecord};
use crate::repo::manifest::{self, Depth};

/// What to list.
#[derive(Clone, Debug)]
pub struct SnapshotsOptions {
    /// Of these sources; empty: of all.
    pub sources: Vec<SourceId>,
    pub counts: Counts,
}

/// Whether manifests are read for what the ledger does not tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Counts {
    /// Rows and bytes stay unknown.
    Skip,
    Read,
}

/// Snapshots by source.
#[derive(Clone, Debug, serde::Serialize)]
pub struct SnapshotsReport {
    pub sources: Vec<SourceSnapshots>,
    /// Entries of the roster that do not count, so that sources may be missing.
    pub doubts: Vec<String>,
}

/// The snapshots of one source, oldest first.
#[derive(Clone, Debug, serde::Serialize)]
pub struct SourceSnapshots {
    pub source: SourceId,
    pub name: Option<String>,
    pub snapshots: Vec<SnapshotLine>,
    /// Snapshots that were forgotten.
    pub forgotten: usize,
    /// Ledger entries that count for nothing, with the reason.
    pub voids: Vec<VoidEntry>,
    /// Ledger numbers beyond a gap.
    pub ignored: Vec<u64>,
}

/// A snapshot in a list.
#[derive(Clone, Debug, serde::Serialize)]
pub struct SnapshotLine {
    pub id: Digest,
    pub number: u64,
    pub source_clock: Moment,
    /// The signer's clock.
    pub written: Moment,
    pub signer: KeyId,
    pub signer_label: Option<String>,
    pub rows: Option<u64>,
    /// Bytes of rows and streams before compression.
    pub bytes: Option<u64>,
    /// Objects that the backup could not capture, or not exactly.
    pub gaps: Option<usize>,
    /// Bytes of packs that this snapshot added.
    pub new_bytes: u64,
    pub manifest_bytes: u64,
    pub tags: Vec<String>,
    pub state: SnapshotState,
    /// Why rows and bytes are not known although they were asked for.
    pub unreadable: Option<String>,
}

/// Whether a snapshot may stand for the latest state of its source.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SnapshotState {
    Clean,
    Suspect,
    /// Suspect, and an admin decided that it is what it should be.
    Accepted,
}

impl SnapshotState {
    /// The state of a snapshot of the ledger.
    #[must_use]
    pub fn of(record: &SnapshotRecord) -> Self {
        match (record.snapshot.verdict, record.accepted) {
            (Verdict::Clean, _) => Self::Clean,
            (Verdict::Suspect, false) => Self::Suspect,
            (Verdict::Suspect, true) => Self::Accepted,
        }
    }
}

/// A void entry of a ledger.
#[derive(Clone, Debug, serde::Serialize)]
pub struct VoidEntry {
    pub number: u64,
    pub sha256: Digest,
    pub reason: String,
}

/// Lists snapshots.
pub fn run(access: Access<'_>, options: &SnapshotsOptions) -> Result<SnapshotsReport, OpError> {
    let roster = access.repository().roster();
    let mut sources: Vec<SourceId> =
        if options.sources.is_empty() { roster.sources.keys().copied().collect() } else { options.sources.clone() };
    sources.sort_by_cached_key(|source| (source_name(access, *source), *source));
    let sources =
        sources.into_iter().map(|source| of_source(access, source, options.counts)).collect::<Result<_, _>>()?;
    Ok(SnapshotsReport { sources, doubts: roster.warnings() })
}

fn source_name(access: Access<'_>, source: SourceId) -> Option<String> {
    match access {
        Access::Public(_) => None,
        Access::Key(unlocked) => unlocked.source_name(source),
    }
}

fn of_source(access: Access<'_>, source: SourceId, counts: Counts) -> Result<SourceSnapshots, OpError> {
    let ledger = Ledger::load(access.repository(), source)?;
    let snapshots = ledger.live().map(|record| line(access, source, record, counts)).collect::<Result<_, _>>()?;
    let voids = ledger.voids.iter().map(|(entry, reason)| VoidEntry {
        number: entry.number,
        sha256: entry.sha256,
        reason: reason.clone(),
    });
    Ok(SourceSnapshots {
        source,
        name: source_name(access, source),
        snapshots,
        forgotten: ledger.snapshots.iter().filter(|record| record.forgotten).count(),
        voids: voids.collect(),
        ignored: ledger.ignored.clone(),
    })
}

fn line(
    access: Access<'_>,
    source: SourceId,
    record: &SnapshotRecord,
    counts: Counts,
) -> Result<SnapshotLine, OpError> {
    let repository = access.repository();
    let mut line = SnapshotLine {
        id: record.id,
        number: record.number,
        source_clock: record.snapshot.source_clock,
        written: record.written,
        signer: record.signer,
        signer_label: repository.roster().keys.get(&record.signer).map(|key| key.label.clone()),
        rows: None,
        bytes: None,
        gaps: None,
        new_bytes: record.new_bytes(),
        manifest_bytes: record.snapshot.manifest.size,
        tags: record.tags.clone(),
        state: SnapshotState::of(record),
        unreadable: None,
    };
    if let (Access::Key(unlocked), Counts::Read) = (access, counts) {
        let context = FrameContext { repository: repository.id(), source, epoch: record.snapshot.epoch };
        match manifest::open(unlocked, context, record.snapshot.manifest, Depth::Catalog) {
            Ok(manifest) => {
                let summary = manifest.summary;
                line.rows = Some(summary.tables.iter().map(|table| table.rows).sum());
                line.bytes = Some(summary.tables.iter().map(|table| table.bytes).sum::<u64>() + summary.stream_bytes);
                line.gaps = Some(summary.gaps.len());
            }
            // One damaged manifest must not hide the other snapshots.
            Err(error @ RepoError::Store(_)) => return Err(error.into()),
            Err(error) => line.unreadable = Some(error.to_string()),
        }
    }
    Ok(line)
}
