//! Lists snapshots, as far as the caller can read them: everybody can read the ledger, but reading what a snapshot
//! contains needs a key. Reads one manifest per snapshot if asked to, and nothing else.

use crate::base::finding::{Affected, Finding, FindingKind};
use crate::base::frame::FrameContext;
use crate::base::id::{Digest, KeyId, SourceId};
use crate::base::time::Moment;
use crate::format::manifest::Summary;
use crate::ops::access::RepositoryAccess;
use crate::ops::error::OpError;
use crate::repo::error::RepoError;
use crate::repo::ledger::{Decision, Ledger, SnapshotRecord};
use crate::repo::manifest::{self, Depth};
use crate::repo::open::{Repository, Unlocked};

/// What to list.
#[derive(Clone, Debug)]
pub struct SnapshotsOptions {
    /// Only these sources. Empty means all.
    pub sources: Vec<SourceId>,
    pub counts: Counts,
}

/// Whether manifests are read for what the ledger does not contain.
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
    /// Snapshots that are suspect or cannot be read, and entries of ledgers and the roster that do not count.
    pub findings: Vec<Finding>,
}

/// The snapshots of one source, oldest first.
#[derive(Clone, Debug, serde::Serialize)]
pub struct SourceSnapshots {
    pub source: SourceId,
    pub name: Option<String>,
    pub snapshots: Vec<SnapshotLine>,
    /// Snapshots that were forgotten.
    pub forgotten: usize,
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
    /// Why rows and bytes are unknown although they were requested.
    pub unreadable: Option<String>,
}

/// Whether a snapshot counts as the latest state of its source.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SnapshotState {
    Clean,
    Suspect,
    /// Suspect, but accepted by an admin.
    Accepted,
    /// An admin has excluded it.
    Rejected,
}

impl SnapshotState {
    /// The state of a snapshot in the ledger.
    #[must_use]
    pub fn of(record: &SnapshotRecord) -> Self {
        match record.decision {
            Some(Decision::Rejected) => Self::Rejected,
            Some(Decision::Accepted) if record.snapshot.is_suspect() => Self::Accepted,
            _ if record.is_clean() => Self::Clean,
            _ => Self::Suspect,
        }
    }
}

/// Lists snapshots.
/// Fails if a ledger cannot be read or the store fails. A manifest that cannot be read is a finding.
pub fn run(access: RepositoryAccess<'_>, options: &SnapshotsOptions) -> Result<SnapshotsReport, OpError> {
    let mut report = SnapshotsReport { sources: Vec::new(), findings: Vec::new() };
    for source in chosen_sources(access, options) {
        let list = SnapshotList { access, ledger: Ledger::load(access.repository(), source)?, counts: options.counts };
        report.sources.push(list.read(&mut report.findings)?);
    }
    if let RepositoryAccess::WithKey(unlocked) = access {
        report.findings.extend(hidden_note(unlocked));
        report.findings.extend(unlocked.revocation());
    }
    report.findings.extend(roster_findings(access));
    report.findings.extend(access.repository().objects().head_findings());
    Ok(report)
}

/// How many sources the key cannot name.
fn hidden_note(unlocked: &Unlocked) -> Option<Finding> {
    let hidden = unlocked.hidden_sources();
    let detail =
        format!("this key is not enrolled for {hidden} of the sources, so their names and counts are not shown");
    (hidden > 0).then(|| Finding::note("the sources", detail))
}

fn roster_findings(access: RepositoryAccess<'_>) -> Vec<Finding> {
    let mut findings = access.repository().roster().warnings();
    for finding in &mut findings {
        finding.detail += "; a source may be missing";
    }
    findings.extend(access.source_names().findings());
    findings
}

/// The sources to list, sorted by name.
fn chosen_sources(access: RepositoryAccess<'_>, options: &SnapshotsOptions) -> Vec<SourceId> {
    let mut sources = options.sources.clone();
    if sources.is_empty() {
        sources.extend(access.repository().roster().sources.keys());
    }
    sources.sort_by_cached_key(|source| (access.source_name(*source), *source));
    sources
}

/// A source whose snapshots are listed.
struct SnapshotList<'a> {
    access: RepositoryAccess<'a>,
    ledger: Ledger,
    counts: Counts,
}

impl SnapshotList<'_> {
    fn read(&self, findings: &mut Vec<Finding>) -> Result<SourceSnapshots, OpError> {
        let source = self.ledger.source;
        let mut snapshots = Vec::new();
        for record in self.ledger.live() {
            let line = self.line(record)?;
            findings.extend(line.findings(source));
            snapshots.push(line);
        }
        findings.extend(self.ledger.warnings());
        findings.extend(self.ledger.roster_findings());
        Ok(SourceSnapshots { source, name: self.access.source_name(source), snapshots, forgotten: self.forgotten() })
    }

    fn forgotten(&self) -> usize {
        self.ledger.snapshots.iter().filter(|record| record.forgotten).count()
    }

    fn line(&self, record: &SnapshotRecord) -> Result<SnapshotLine, OpError> {
        let mut line = SnapshotLine::new(record, self.access.repository());
        if let (RepositoryAccess::WithKey(unlocked), Counts::Read) = (self.access, self.counts)
            && unlocked.serves(self.ledger.source)
        {
            self.count(unlocked, record, &mut line)?;
        }
        Ok(line)
    }

    /// Adds the counts in the manifest. One damaged manifest must not hide the other snapshots.
    fn count(&self, unlocked: &Unlocked, record: &SnapshotRecord, line: &mut SnapshotLine) -> Result<(), OpError> {
        let repository = unlocked.repository().id();
        let context = FrameContext { repository, source: self.ledger.source, epoch: record.snapshot.epoch };
        match manifest::open(unlocked, context, record.snapshot.manifest, Depth::Catalog) {
            Ok(manifest) => line.count(&manifest.summary),
            Err(error @ RepoError::Store(_)) => return Err(error.into()),
            Err(error) => line.unreadable = Some(error.to_string()),
        }
        Ok(())
    }
}

impl SnapshotLine {
    fn new(record: &SnapshotRecord, repository: &Repository) -> Self {
        let signer = repository.roster().keys.get(&record.signer);
        Self {
            id: record.id,
            number: record.number,
            source_clock: record.snapshot.source_clock,
            written: record.written,
            signer: record.signer,
            signer_label: signer.map(|key| key.label.clone()),
            rows: None,
            bytes: None,
            gaps: None,
            new_bytes: record.new_bytes(),
            manifest_bytes: record.snapshot.manifest.size,
            tags: record.tags.clone(),
            state: SnapshotState::of(record),
            unreadable: None,
        }
    }

    /// Adds the counts in the manifest's summary.
    fn count(&mut self, summary: &Summary) {
        let rows = summary.tables.iter().fold(0u64, |sum, table| sum.saturating_add(table.rows));
        let bytes = summary.tables.iter().fold(0u64, |sum, table| sum.saturating_add(table.bytes));
        self.rows = Some(rows);
        self.bytes = Some(bytes + summary.stream_bytes);
        self.gaps = Some(summary.gaps.len());
    }

    fn findings(&self, source: SourceId) -> Vec<Finding> {
        let mut findings = Vec::new();
        if self.state == SnapshotState::Suspect {
            findings.push(suspect_finding(self.number));
        }
        if let Some(reason) = &self.unreadable {
            findings.push(Finding::new(FindingKind::Unreadable, format!("snapshot {}", self.number), reason));
        }
        let affected = Affected::snapshot(Some(self.id));
        findings.into_iter().map(|finding| finding.of_source(source).affecting(affected)).collect()
    }
}

/// The finding for a suspect snapshot that nobody has accepted.
#[must_use]
pub fn suspect_finding(number: u64) -> Finding {
    let object = format!("snapshot {number}");
    Finding::new(FindingKind::Suspect { snapshots: 1 }, object, "it is suspect: find out what happened to the source")
}
