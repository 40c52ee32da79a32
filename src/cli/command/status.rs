//! `sidekeep status`

use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::base::id::{Digest, SourceId};
use crate::base::time::Moment;
use crate::cli::context::Context;
use crate::cli::exit::{CliError, Outcome};
use crate::cli::render::{Align, Table, duration, moment, plural, printable, short};
use crate::ops::snapshots::{self, Counts, SnapshotState, SnapshotsOptions, SourceSnapshots};
use crate::ops::verify::Access;

/// Say whether every source has a clean snapshot that is young enough
///
/// Ends with 3 if one has not. How old a snapshot may be is max_age of the section [status] in sidekeep.toml, 26 hours
/// by default.
#[derive(Args)]
#[command(after_help = "\
Examples:
    sidekeep status
    sidekeep status --quiet --key-file auditor.key || mail -s \"no backup\" ops@example.org")]
pub(crate) struct StatusArgs {}

#[derive(Serialize)]
struct Status {
    max_age_seconds: u64,
    sources: Vec<SourceStatus>,
}

#[derive(Serialize)]
struct SourceStatus {
    source: SourceId,
    name: Option<String>,
    state: Freshness,
    /// The newest clean snapshot.
    snapshot: Option<Digest>,
    source_clock: Option<Moment>,
    age_seconds: Option<u64>,
    /// Snapshots that nobody has decided about.
    suspect: usize,
    /// Ledger entries that count for nothing.
    void: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Freshness {
    Fresh,
    Stale,
    /// There is no clean snapshot at all.
    Missing,
}

pub(crate) fn run(_args: &StatusArgs, context: &Context) -> Result<Outcome, CliError> {
    let max_age = context.config()?.status.max_age;
    let options = SnapshotsOptions { sources: Vec::new(), counts: Counts::Skip };
    let report = if context.has_key()? {
        snapshots::run(Access::Key(&context.unlocked()?), &options)?
    } else {
        snapshots::run(Access::Public(&context.repository()?), &options)?
    };
    let now = context.env.now();
    let sources: Vec<SourceStatus> = report.sources.iter().map(|source| judge(source, now, max_age)).collect();
    let is_well = |source: &SourceStatus| source.state == Freshness::Fresh && source.suspect == 0 && source.void == 0;
    let outcome = if !sources.is_empty() && sources.iter().all(is_well) { Outcome::Done } else { Outcome::Findings };
    context.ui.result("status", &Status { max_age_seconds: max_age.as_secs(), sources }, human)?;
    Ok(outcome)
}

fn judge(source: &SourceSnapshots, now: Moment, max_age: Duration) -> SourceStatus {
    let newest = source.snapshots.iter().rfind(|line| line.state != SnapshotState::Suspect);
    // A source whose clock is ahead has an age of nothing.
    let age = newest.map(|line| Duration::from_micros(u64::try_from(now.0 - line.source_clock.0).unwrap_or(0)));
    SourceStatus {
        source: source.source,
        name: source.name.clone(),
        state: match age {
            None => Freshness::Missing,
            Some(age) if age > max_age => Freshness::Stale,
            Some(_) => Freshness::Fresh,
        },
        snapshot: newest.map(|line| line.id),
        source_clock: newest.map(|line| line.source_clock),
        age_seconds: age.map(|age| age.as_secs()),
        suspect: source.snapshots.iter().filter(|line| line.state == SnapshotState::Suspect).count(),
        void: source.voids.len(),
    }
}

fn human(status: &Status) -> String {
    let limit = duration(Duration::from_secs(status.max_age_seconds));
    if status.sources.is_empty() {
        return "STALE: no source has been backed up yet\n".to_owned();
    }
    let mut table = Table::new(&[
        ("source", Align::Left),
        ("state", Align::Left),
        ("age", Align::Right),
        ("snapshot", Align::Left),
        ("as of", Align::Left),
        ("remarks", Align::Left),
    ]);
    for source in &status.sources {
        let id = source.source.to_string();
        let mut remarks = Vec::new();
        if source.suspect > 0 {
            remarks.push(format!("{} to decide about", plural(source.suspect as u64, "suspect snapshot")));
        }
        if source.void > 0 {
            remarks.push(format!("void entries in the ledger: {}", source.void));
        }
        let state = match source.state {
            Freshness::Fresh => "fresh".to_owned(),
            Freshness::Stale => format!("STALE (over {limit})"),
            Freshness::Missing => "MISSING".to_owned(),
        };
        table.row([
            printable(source.name.as_deref().unwrap_or(&id)).into_owned(),
            state,
            source.age_seconds.map(|age| duration(Duration::from_secs(age))).unwrap_or_default(),
            source.snapshot.as_ref().map(short).unwrap_or_default(),
            source.source_clock.map(moment).unwrap_or_default(),
            remarks.join(", "),
        ]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Freshness, judge};
    use crate::base::id::{Digest, KeyId, SourceId};
    use crate::base::time::Moment;
    use crate::ops::snapshots::{SnapshotLine, SnapshotState, SourceSnapshots};

    fn source(snapshots: &[(&str, SnapshotState)]) -> SourceSnapshots {
        let line = |(at, state): &(&str, SnapshotState)| SnapshotLine {
            id: Digest::of(at.as_bytes()),
            number: 1,
            source_clock: at.parse().expect("a time"),
            written: at.parse().expect("a time"),
            signer: KeyId::new([0; 16]),
            signer_label: None,
            rows: None,
            bytes: None,
            gaps: None,
            new_bytes: 0,
            manifest_bytes: 0,
            tags: Vec::new(),
            state: *state,
            unreadable: None,
        };
        SourceSnapshots {
            source: SourceId::new([1; 16]),
            name: None,
            snapshots: snapshots.iter().map(line).collect(),
            forgotten: 0,
            voids: Vec::new(),
            ignored: Vec::new(),
        }
    }

    #[test]
    fn only_clean_snapshots_keep_a_source_fresh() {
        let now: Moment = "2026-11-23T03:00:00Z".parse().expect("a time");
        let state = |snapshots: &[(&str, SnapshotState)], hours| {
            judge(&source(snapshots), now, Duration::from_hours(hours)).state
        };
        let night = ("2026-11-22T03:00:00Z", SnapshotState::Clean);
        assert!(state(&[night], 26) == Freshness::Fresh && state(&[night], 23) == Freshness::Stale);
        let later = |state| ("2026-11-23T02:00:00Z", state);
        assert!(state(&[night, later(SnapshotState::Suspect)], 23) == Freshness::Stale);
        assert!(state(&[night, later(SnapshotState::Accepted)], 23) == Freshness::Fresh);
        assert!(state(&[later(SnapshotState::Suspect)], 26) == Freshness::Missing);
        // A source whose clock is ahead.
        assert!(state(&[("2026-11-23T04:00:00Z", SnapshotState::Clean)], 1) == Freshness::Fresh);
    }
}
