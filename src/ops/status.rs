//! Checks that every source has a recent, clean and complete snapshot. Writes nothing. Proves what the given key can
//! prove: with an admin's key, that the newest snapshot can be opened.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::base::finding::{Affected, Finding, FindingKind};
use crate::base::frame::FrameContext;
use crate::base::id::{Digest, SourceId};
use crate::base::role::Role;
use crate::base::time::Moment;
use crate::format::manifest::{GapSummary, Summary};
use crate::ops::error::OpError;
use crate::ops::snapshots::SnapshotState;
use crate::repo::error::RepoError;
use crate::repo::ledger::{Ledger, SnapshotRecord};
use crate::repo::manifest::{self, Depth, OpenManifest};
use crate::repo::open::Unlocked;

/// How far a source's clock may be ahead of this host's clock before that is reported, in microseconds.
const AHEAD_US_MAX: i64 = 300_000_000;

/// Which sources to check, and which age is stale.
#[derive(Clone, Debug)]
pub struct StatusOptions {
    /// Check only these sources. Empty means all sources.
    pub sources: Vec<SourceId>,
    /// Maximum age of the newest clean snapshot.
    pub max_age: Duration,
    /// Maximum age for sources that have their own limit.
    pub max_age_of: BTreeMap<SourceId, Duration>,
}

/// The state of a repository.
#[derive(Clone, Debug, serde::Serialize)]
pub struct StatusReport {
    pub now: Moment,
    pub fingerprint: Digest,
    pub role: Role,
    pub sources: Vec<SourceStatus>,
    /// What somebody should act on.
    pub findings: Vec<Finding>,
}

/// The state of one source.
#[derive(Clone, Debug, serde::Serialize)]
pub struct SourceStatus {
    pub source: SourceId,
    pub name: Option<String>,
    pub snapshots: usize,
    /// The newest clean snapshot.
    pub newest: Option<NewestSnapshot>,
    pub max_age_s: u64,
    pub freshness: Freshness,
    /// Snapshots that nobody has accepted, oldest first.
    pub suspect: Vec<SuspectSnapshot>,
    /// What the newest clean snapshot does not contain, or does not contain exactly.
    pub gaps: Vec<GapSummary>,
    pub opening: NewestSnapshotState,
}

/// The newest clean snapshot.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct NewestSnapshot {
    pub id: Digest,
    pub number: u64,
    pub source_clock: Moment,
    /// Age in seconds by this host's clock. 0 if the source's clock is ahead.
    pub age_s: u64,
}

/// A suspect snapshot.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct SuspectSnapshot {
    pub id: Digest,
    pub number: u64,
    pub source_clock: Moment,
}

/// Whether the newest clean snapshot is recent enough.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Freshness {
    Fresh,
    Stale,
    /// The source has no clean snapshot.
    Empty,
}

/// Whether the newest snapshot can be opened.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
#[serde(rename_all = "lowercase", tag = "state")]
pub enum NewestSnapshotState {
    /// It was opened just now with this key: the data key of its session was unwrapped, and the sections that only an
    /// admin can read were opened.
    Proven,
    /// This key cannot open rows, or nothing of this source. An admin or recovery key can prove it.
    Unproven,
    Failed {
        reason: String,
    },
}

/// Checks every source.
/// Fails if a ledger cannot be read or the store fails. A manifest that cannot be read is a finding.
pub fn run(unlocked: &Unlocked, options: &StatusOptions) -> Result<StatusReport, OpError> {
    let repository = unlocked.repository();
    let now = repository.env().now();
    let mut report = StatusReport {
        now,
        fingerprint: repository.roster().fingerprint(),
        role: unlocked.role(),
        sources: Vec::new(),
        findings: repository.roster().warnings().into_iter().chain(unlocked.names().findings()).collect(),
    };
    for source in chosen_sources(unlocked, options) {
        let max_age = options.max_age_of.get(&source).copied().unwrap_or(options.max_age);
        let check = SourceCheck::new(unlocked, source, now, max_age)?;
        report.sources.push(check.run(&mut report.findings)?);
    }
    report.findings.extend(repository.objects().head_findings());
    Ok(report)
}

/// The sources to check, sorted by name. Nobody backs up a retired one.
fn chosen_sources(unlocked: &Unlocked, options: &StatusOptions) -> Vec<SourceId> {
    let mut sources = options.sources.clone();
    if sources.is_empty() {
        let all = unlocked.repository().roster().sources.iter();
        sources.extend(all.filter(|(_, state)| state.retired.is_none()).map(|(id, _)| *id));
    }
    sources.sort_by_cached_key(|source| (unlocked.source_name(*source), *source));
    sources
}

/// A source that is being checked.
struct SourceCheck<'a> {
    unlocked: &'a Unlocked,
    source: SourceId,
    /// The source's name if the key can read it, otherwise its id.
    name: String,
    ledger: Ledger,
    now: Moment,
    max_age: Duration,
}

/// The result of opening a manifest.
struct OpenedManifest {
    gaps: Vec<GapSummary>,
    state: NewestSnapshotState,
}

impl<'a> SourceCheck<'a> {
    fn new(unlocked: &'a Unlocked, source: SourceId, now: Moment, max_age: Duration) -> Result<Self, OpError> {
        let ledger = Ledger::load(unlocked.repository(), source)?;
        let name = unlocked.source_name(source).unwrap_or_else(|| source.to_string());
        Ok(Self { unlocked, source, name, ledger, now, max_age })
    }

    fn run(&self, findings: &mut Vec<Finding>) -> Result<SourceStatus, OpError> {
        let record = self.newest_clean();
        let newest = record.map(|record| NewestSnapshot::new(record, self.now));
        let freshness = self.freshness(newest.as_ref());
        findings.extend(self.age_finding(newest.as_ref()));
        findings.extend(self.clock_finding(newest.as_ref()));
        let suspect = self.suspect_snapshots();
        findings.extend(self.suspect_finding(&suspect));
        findings.extend(self.ledger.warnings());
        findings.extend(self.ledger.roster_findings());
        let opened = self.open_newest(record, findings)?;
        Ok(SourceStatus {
            source: self.source,
            name: self.unlocked.source_name(self.source),
            snapshots: self.ledger.live().count(),
            newest,
            max_age_s: self.max_age.as_secs(),
            freshness,
            suspect,
            gaps: opened.gaps,
            opening: opened.state,
        })
    }

    fn newest_clean(&self) -> Option<&SnapshotRecord> {
        let clean = self.ledger.live().filter(|record| record.is_clean());
        clean.max_by_key(|record| record.snapshot.source_clock)
    }

    fn open_newest(
        &self,
        newest: Option<&SnapshotRecord>,
        findings: &mut Vec<Finding>,
    ) -> Result<OpenedManifest, OpError> {
        match newest.filter(|_| self.unlocked.serves(self.source)) {
            Some(record) => self.open(record, findings),
            None => Ok(OpenedManifest { gaps: Vec::new(), state: NewestSnapshotState::Unproven }),
        }
    }

    fn finding(&self, kind: FindingKind, detail: impl ToString) -> Finding {
        Finding::new(kind, &self.name, detail).of_source(self.source)
    }

    fn freshness(&self, newest: Option<&NewestSnapshot>) -> Freshness {
        match newest {
            None => Freshness::Empty,
            Some(newest) if Duration::from_secs(newest.age_s) > self.max_age => Freshness::Stale,
            Some(_) => Freshness::Fresh,
        }
    }

    fn age_finding(&self, newest: Option<&NewestSnapshot>) -> Option<Finding> {
        let Some(newest) = newest else {
            return Some(self.finding(FindingKind::NoSnapshot, "there is no clean snapshot"));
        };
        if self.freshness(Some(newest)) == Freshness::Fresh {
            return None;
        }
        Some(self.stale_finding(newest))
    }

    fn stale_finding(&self, newest: &NewestSnapshot) -> Finding {
        let kind = FindingKind::Stale { age_s: newest.age_s, max_age_s: self.max_age.as_secs() };
        let detail = format!("the newest clean snapshot is as of {}", newest.source_clock);
        self.finding(kind, detail).affecting(Affected::snapshot(Some(newest.id)))
    }

    fn clock_finding(&self, newest: Option<&NewestSnapshot>) -> Option<Finding> {
        let newest = newest?;
        let ahead_us = newest.source_clock.0.saturating_sub(self.now.0);
        if ahead_us <= AHEAD_US_MAX {
            return None;
        }
        let clock = newest.source_clock;
        let detail = format!("the newest snapshot is as of {clock}, which is in the future by this host's clock");
        let finding = self.finding(FindingKind::ClockSkew { seconds: ahead_us / 1_000_000 }, detail);
        Some(finding.affecting(Affected::snapshot(Some(newest.id))))
    }

    fn suspect_snapshots(&self) -> Vec<SuspectSnapshot> {
        let mut suspect = Vec::new();
        for record in self.ledger.live() {
            if SnapshotState::of(record) == SnapshotState::Suspect {
                let source_clock = record.snapshot.source_clock;
                suspect.push(SuspectSnapshot { id: record.id, number: record.number, source_clock });
            }
        }
        suspect
    }

    fn suspect_finding(&self, suspect: &[SuspectSnapshot]) -> Option<Finding> {
        let newest = suspect.last()?;
        let kind = FindingKind::Suspect { snapshots: suspect.len() as u64 };
        let mut finding = self.finding(kind, suspect_words(suspect.len(), newest.number));
        finding.snapshots.extend(suspect.iter().map(|snapshot| snapshot.id));
        Some(finding)
    }

    /// Opens the newest snapshot as far as the key permits.
    fn open(&self, record: &SnapshotRecord, findings: &mut Vec<Finding>) -> Result<OpenedManifest, OpError> {
        let epoch = record.snapshot.epoch;
        let context = FrameContext { repository: self.unlocked.repository().id(), source: self.source, epoch };
        match manifest::open(self.unlocked, context, record.snapshot.manifest, Depth::Role) {
            Ok(manifest) => {
                findings.extend(self.gap_findings(record, &manifest.summary));
                Ok(OpenedManifest::of(manifest))
            }
            Err(error @ RepoError::Store(_)) => Err(error.into()),
            Err(error) => {
                findings.push(self.unreadable_finding(record, &error));
                let state = NewestSnapshotState::Failed { reason: error.to_string() };
                Ok(OpenedManifest { gaps: Vec::new(), state })
            }
        }
    }

    fn gap_findings(&self, record: &SnapshotRecord, summary: &Summary) -> Vec<Finding> {
        let affected = Affected::snapshot(Some(record.id));
        let gaps = summary.gaps.iter().map(Finding::from);
        gaps.map(|gap| gap.of_source(self.source).affecting(affected)).collect()
    }

    fn unreadable_finding(&self, record: &SnapshotRecord, error: &RepoError) -> Finding {
        let detail = format!("snapshot {} cannot be opened: {error}", record.number);
        self.finding(FindingKind::Unreadable, detail).affecting(Affected::snapshot(Some(record.id)))
    }
}

impl OpenedManifest {
    fn of(manifest: OpenManifest) -> Self {
        let is_proven = manifest.secrets.is_some();
        let state = if is_proven { NewestSnapshotState::Proven } else { NewestSnapshotState::Unproven };
        Self { gaps: manifest.summary.gaps, state }
    }
}

impl NewestSnapshot {
    fn new(record: &SnapshotRecord, now: Moment) -> Self {
        let source_clock = record.snapshot.source_clock;
        let age_us = u64::try_from(now.0.saturating_sub(source_clock.0)).unwrap_or(0);
        Self { id: record.id, number: record.number, source_clock, age_s: age_us / 1_000_000 }
    }
}

fn suspect_words(count: usize, newest: u64) -> String {
    match count {
        1 => format!("snapshot {newest} is suspect: find out what happened to the source"),
        many => format!("{many} snapshots are suspect, the newest is number {newest}"),
    }
}
