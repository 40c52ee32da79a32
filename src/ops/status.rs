//! Whether everything is as young, as clean and as complete as it should be. Writes nothing, and proves
//! what the key at hand can prove: with an admin's key that the newest snapshot can be opened.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::base::frame::FrameContext;
use crate::base::id::{Digest, SourceId};
use crate::base::role::Role;
use crate::base::time::Moment;
use crate::format::manifest::GapSummary;
use crate::ops::error::OpError;
use crate::ops::snapshots::SnapshotState;
use crate::repo::error::RepoError;
use crate::repo::ledger::{Ledger, SnapshotRecord};
use crate::repo::manifest::{self, Depth, OpenManifest};
use crate::repo::open::Unlocked;

/// How far a source's clock may be ahead of this host's before that is worth a word.
const AHEAD_US_MAX: i64 = 300_000_000;

/// What counts as stale.
#[derive(Clone, Debug)]
pub struct StatusOptions {
    /// Of these sources; empty: of all.
    pub sources: Vec<SourceId>,
    /// Age of the newest clean snapshot.
    pub max_age: Duration,
    /// The same for sources with a limit of their own.
    pub max_age_of: BTreeMap<SourceId, Duration>,
}

/// The state of a repository.
#[derive(Clone, Debug, serde::Serialize)]
pub struct StatusReport {
    pub now: Moment,
    pub fingerprint: Digest,
    pub role: Role,
    pub sources: Vec<SourceStatus>,
    /// What somebody should look at.
    pub findings: Vec<StatusFinding>,
}

/// The state of one source.
#[derive(Clone, Debug, serde::Serialize)]
pub struct SourceStatus {
    pub source: SourceId,
    pub name: Option<String>,
    pub snapshots: usize,
    /// The newest clean one.
    pub newest: Option<NewestSnapshot>,
    pub max_age_s: u64,
    pub freshness: Freshness,
    /// Snapshots that nobody has accepted, oldest first.
    pub suspect: Vec<SuspectSnapshot>,
    /// What the newest clean snapshot does not have, or not exactly.
    pub gaps: Vec<GapSummary>,
    pub opening: NewestSnapshotState,
}

/// The newest clean snapshot.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct NewestSnapshot {
    pub id: Digest,
    pub number: u64,
    pub source_clock: Moment,
    /// By this host's clock; 0 if the source's is ahead.
    pub age_s: u64,
}

/// A suspect snapshot.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct SuspectSnapshot {
    pub id: Digest,
    pub number: u64,
    pub source_clock: Moment,
}

/// Whether the newest clean snapshot is young enough.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Freshness {
    Fresh,
    Stale,
    /// There is none.
    Empty,
}

/// Whether the newest snapshot can be opened.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
#[serde(rename_all = "lowercase", tag = "state")]
pub enum NewestSnapshotState {
    /// Just now, with this key: its session's data key was unwrapped and the sections that only an admin
    /// reads were opened.
    Proven,
    /// This key opens no row; ask with an admin's or the recovery key.
    Unproven,
    Failed {
        reason: String,
    },
}

/// Something that somebody should look at.
#[derive(Clone, Debug, serde::Serialize)]
pub struct StatusFinding {
    /// The source, by its name where that can be read.
    pub source: String,
    pub kind: FindingKind,
    pub text: String,
}

/// What a finding is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FindingKind {
    Stale,
    Suspect,
    Gap,
    Unopened,
    Ledger,
    Clock,
}

/// Looks at every source.
pub fn run(unlocked: &Unlocked, options: &StatusOptions) -> Result<StatusReport, OpError> {
    let repository = unlocked.repository();
    let mut sources = options.sources.clone();
    if sources.is_empty() {
        sources.extend(repository.roster().sources.keys());
    }
    sources.sort_by_cached_key(|source| (unlocked.source_name(*source), *source));
    let now = repository.env().now();
    let mut findings = Vec::new();
    let sources = sources
        .into_iter()
        .map(|source| {
            let max_age = options.max_age_of.get(&source).copied().unwrap_or(options.max_age);
            let name = unlocked.source_name(source).unwrap_or_else(|| source.to_string());
            let mut found = StatusFindings { source: name, findings: &mut findings };
            of_source(unlocked, source, (now, max_age), &mut found)
        })
        .collect::<Result<_, _>>()?;
    let fingerprint = repository.roster().fingerprint();
    Ok(StatusReport { now, fingerprint, role: unlocked.role(), sources, findings })
}

struct StatusFindings<'a> {
    source: String,
    findings: &'a mut Vec<StatusFinding>,
}

impl StatusFindings<'_> {
    fn add(&mut self, kind: FindingKind, text: String) {
        self.findings.push(StatusFinding { source: self.source.clone(), kind, text });
    }
}

fn of_source(
    unlocked: &Unlocked,
    source: SourceId,
    (now, max_age): (Moment, Duration),
    found: &mut StatusFindings<'_>,
) -> Result<SourceStatus, OpError> {
    let ledger = Ledger::load(unlocked.repository(), source)?;
    let clean = ledger.live().filter(|record| record.is_clean()).max_by_key(|record| record.snapshot.source_clock);
    let newest = clean.map(|record| newest(record, now));
    let freshness = match &newest {
        None => Freshness::Empty,
        Some(newest) if Duration::from_secs(newest.age_s) > max_age => Freshness::Stale,
        Some(_) => Freshness::Fresh,
    };
    match (&newest, freshness) {
        (Some(newest), Freshness::Stale) => {
            found.add(FindingKind::Stale, format!("the newest clean snapshot is as of {}", newest.source_clock));
        }
        (None, _) => found.add(FindingKind::Stale, "there is no clean snapshot".to_owned()),
        _ => {}
    }
    if let Some(newest) = newest.filter(|newest| newest.source_clock.0.saturating_sub(now.0) > AHEAD_US_MAX) {
        let text = format!("the newest snapshot is as of {}, which is in the future of this host", newest.source_clock);
        found.add(FindingKind::Clock, text);
    }
    let suspect = suspects(&ledger, found);
    ledger_findings(&ledger, found);
    let (gaps, opening) = match clean {
        Some(record) => open_newest(unlocked, source, record, found)?,
        None => (Vec::new(), NewestSnapshotState::Unproven),
    };
    Ok(SourceStatus {
        source,
        name: unlocked.source_name(source),
        snapshots: ledger.live().count(),
        newest,
        max_age_s: max_age.as_secs(),
        freshness,
        suspect,
        gaps,
        opening,
    })
}

fn newest(record: &SnapshotRecord, now: Moment) -> NewestSnapshot {
    let source_clock = record.snapshot.source_clock;
    let age_us = u64::try_from(now.0.saturating_sub(source_clock.0)).unwrap_or(0);
    NewestSnapshot { id: record.id, number: record.number, source_clock, age_s: age_us / 1_000_000 }
}

fn suspects(ledger: &Ledger, found: &mut StatusFindings<'_>) -> Vec<SuspectSnapshot> {
    let suspect: Vec<SuspectSnapshot> = ledger
        .live()
        .filter(|record| SnapshotState::of(record) == SnapshotState::Suspect)
        .map(|record| SuspectSnapshot {
            id: record.id,
            number: record.number,
            source_clock: record.snapshot.source_clock,
        })
        .collect();
    if let Some(newest) = suspect.last() {
        let text = match suspect.len() {
            1 => format!("snapshot {} is suspect: find out what happened to the source", newest.number),
            many => format!("{many} snapshots are suspect, the newest has number {}", newest.number),
        };
        found.add(FindingKind::Suspect, text);
    }
    suspect
}

fn ledger_findings(ledger: &Ledger, found: &mut StatusFindings<'_>) {
    for (entry, reason) in &ledger.voids {
        found.add(FindingKind::Ledger, format!("ledger entry {} counts for nothing: {reason}", entry.number));
    }
    if let Some(first) = ledger.ignored.first() {
        let text = format!("{} ledger entries from number {first} on lie beyond a gap", ledger.ignored.len());
        found.add(FindingKind::Ledger, text);
    }
}

fn open_newest(
    unlocked: &Unlocked,
    source: SourceId,
    record: &SnapshotRecord,
    found: &mut StatusFindings<'_>,
) -> Result<(Vec<GapSummary>, NewestSnapshotState), OpError> {
    let context = FrameContext { repository: unlocked.repository().id(), source, epoch: record.snapshot.epoch };
    match manifest::open(unlocked, context, record.snapshot.manifest, Depth::Role) {
        Ok(OpenManifest { summary, secrets, .. }) => {
            for gap in &summary.gaps {
                found.add(FindingKind::Gap, format!("{}: {}", gap.object, gap.reason));
            }
            let opening = if secrets.is_some() { NewestSnapshotState::Proven } else { NewestSnapshotState::Unproven };
            Ok((summary.gaps, opening))
        }
        Err(error @ RepoError::Store(_)) => Err(error.into()),
        Err(error) => {
            let reason = error.to_string();
            found.add(FindingKind::Unopened, format!("snapshot {} cannot be opened: {reason}", record.number));
            Ok((Vec::new(), NewestSnapshotState::Failed { reason }))
        }
    }
}
