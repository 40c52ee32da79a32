//! Describes one snapshot, as far as every role may know it: counts by table, gaps, and its ledger entry. Opens no row
//! and names no column.

use crate::base::finding::Finding;
use crate::base::frame::FrameContext;
use crate::base::id::{Digest, Epoch, KeyId, SessionId, SourceId};
use crate::base::role::Role;
use crate::base::time::Moment;
use crate::format::entry::ObjectRef;
use crate::format::manifest::{Summary, TableSummary};
use crate::ops::access::access_findings;
use crate::ops::error::OpError;
use crate::ops::select::Selector;
use crate::ops::snapshots::{SnapshotState, suspect_finding};
use crate::repo::ledger::{Ledger, SnapshotRecord};
use crate::repo::manifest::{self, Depth, OpenManifest};
use crate::repo::open::Unlocked;

/// Which snapshot to show.
#[derive(Clone, Debug)]
pub struct ShowOptions {
    pub source: SourceId,
    pub snapshot: Selector,
}

/// The description of a snapshot.
#[derive(Clone, Debug, serde::Serialize)]
pub struct ShowReport {
    pub snapshot: Digest,
    pub source: SourceId,
    pub source_name: Option<String>,
    pub engine: String,
    pub source_clock: Moment,
    /// When the backup began, by the clock of its host.
    pub started: Moment,
    pub state: SnapshotState,
    pub tags: Vec<String>,
    pub rows: u64,
    /// Bytes of rows and streams before compression.
    pub bytes: u64,
    pub streams: u64,
    pub stream_bytes: u64,
    pub tables: Vec<TableSummary>,
    /// Rows under owners that do not exist.
    pub orphans: u64,
    /// Rows that share their key with another row.
    pub duplicates: u64,
    /// Whether the snapshot is suspect, what it does not contain, and ledger entries that do not count but may have
    /// been the newer snapshot that the user wanted.
    pub findings: Vec<Finding>,
    pub entry: EntryFacts,
    pub manifest: ManifestFacts,
}

/// The ledger entry that committed the snapshot.
#[derive(Clone, Debug, serde::Serialize)]
pub struct EntryFacts {
    pub number: u64,
    /// Digest of the previous entry, or of the roster entry that added the source.
    pub previous: Digest,
    pub written: Moment,
    pub signer: KeyId,
    pub signer_role: Option<Role>,
    pub signer_label: Option<String>,
    pub epoch: Epoch,
    pub session: SessionId,
    /// Packs that the session wrote.
    pub packs: PackCount,
    /// Packs of interrupted sessions that it reused.
    pub adopted: PackCount,
    /// Packs that earlier entries added for it, because one entry could not name them all.
    pub ahead: PackCount,
}

/// Number of packs and their total size.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
pub struct PackCount {
    pub count: usize,
    pub bytes: u64,
}

impl PackCount {
    fn of(packs: &[ObjectRef]) -> Self {
        Self { count: packs.len(), bytes: packs.iter().fold(0, |sum, pack| sum.saturating_add(pack.size)) }
    }
}

/// The manifest as an object.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct ManifestFacts {
    pub sha256: Digest,
    pub bytes: u64,
}

/// Describes a snapshot.
/// Fails if the ledger or the manifest cannot be read, the snapshot does not exist, or the key has no grant for its
/// epoch.
pub fn run(unlocked: &Unlocked, options: &ShowOptions) -> Result<ShowReport, OpError> {
    let ledger = Ledger::load(unlocked.repository(), options.source)?;
    let record = options.snapshot.find(&ledger)?;
    let manifest = open_manifest(unlocked, options.source, record)?;
    let entry = entry_facts(unlocked, &ledger, record)?;
    let mut findings = snapshot_findings(record, &manifest);
    findings.extend(options.snapshot.uncounted(&ledger, record));
    findings.extend(access_findings(unlocked, &ledger));
    let source_name = unlocked.source_name(options.source);
    let facts = ManifestFacts::of(record, &manifest);
    let summary = manifest.summary;
    let totals = Totals::of(&summary);
    Ok(ShowReport {
        snapshot: record.id,
        source: options.source,
        source_name,
        engine: summary.engine,
        source_clock: record.snapshot.source_clock,
        started: summary.started,
        state: SnapshotState::of(record),
        tags: record.tags.clone(),
        rows: totals.rows,
        bytes: totals.bytes,
        streams: summary.streams,
        stream_bytes: summary.stream_bytes,
        orphans: totals.orphans,
        duplicates: totals.duplicates,
        tables: summary.tables,
        findings,
        entry,
        manifest: facts,
    })
}

fn open_manifest(unlocked: &Unlocked, source: SourceId, record: &SnapshotRecord) -> Result<OpenManifest, OpError> {
    let context = FrameContext { repository: unlocked.repository().id(), source, epoch: record.snapshot.epoch };
    Ok(manifest::open(unlocked, context, record.snapshot.manifest, Depth::Catalog)?)
}

impl ManifestFacts {
    fn of(record: &SnapshotRecord, manifest: &OpenManifest) -> Self {
        Self { sha256: record.snapshot.manifest.sha256, bytes: manifest.size }
    }
}

fn snapshot_findings(record: &SnapshotRecord, manifest: &OpenManifest) -> Vec<Finding> {
    let mut findings = Vec::new();
    if SnapshotState::of(record) == SnapshotState::Suspect {
        findings.push(suspect_finding(record.number));
    }
    findings.extend(manifest.summary.gaps.iter().map(Finding::from));
    findings
}

fn entry_facts(unlocked: &Unlocked, ledger: &Ledger, record: &SnapshotRecord) -> Result<EntryFacts, OpError> {
    let signer = unlocked.repository().roster().keys.get(&record.signer);
    Ok(EntryFacts {
        number: record.number,
        previous: previous_entry(unlocked, ledger, record.number)?,
        written: record.written,
        signer: record.signer,
        signer_role: signer.map(|key| key.role),
        signer_label: signer.map(|key| key.label.clone()),
        epoch: record.snapshot.epoch,
        session: record.snapshot.session,
        packs: PackCount::of(&record.snapshot.packs),
        adopted: PackCount::of(&record.snapshot.adopted),
        ahead: PackCount { count: record.in_advance.packs, bytes: record.in_advance.bytes },
    })
}

/// Digest of the entry before `number`, or of the roster entry that added the source.
fn previous_entry(unlocked: &Unlocked, ledger: &Ledger, number: u64) -> Result<Digest, OpError> {
    let before = usize::try_from(number).unwrap_or(usize::MAX).checked_sub(2);
    match before.and_then(|at| ledger.digests.get(at)) {
        Some(digest) => Ok(*digest),
        None => Ok(Ledger::empty(unlocked.repository().shared_roster(), ledger.source).next_place()?.previous),
    }
}

/// Sums over all tables.
#[derive(Default)]
struct Totals {
    rows: u64,
    bytes: u64,
    orphans: u64,
    duplicates: u64,
}

impl Totals {
    fn of(summary: &Summary) -> Self {
        let mut totals = Self { bytes: summary.stream_bytes, ..Self::default() };
        for table in &summary.tables {
            totals.rows += table.rows;
            totals.bytes += table.bytes;
            totals.orphans += table.orphan;
            totals.duplicates += table.duplicates;
        }
        totals
    }
}
