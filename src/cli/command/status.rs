//! `sidekeep status`

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;

use crate::base::finding::{Finding, FindingKind};
use crate::base::id::SourceId;
use crate::cli::config::Config;
use crate::cli::context::CommandContext;
use crate::cli::error::CliError;
use crate::cli::exit::Outcome;
use crate::cli::findings::{human_findings, outcome};
use crate::cli::render::{Align, TextTable, duration, moment, short};
use crate::cli::source::choose;
use crate::ops::status::{self, Freshness, NewestSnapshotState, SourceStatus, StatusOptions, StatusReport};
use crate::repo::open::Unlocked;

/// Check that every source has a recent, clean snapshot
///
/// Needs any key of the repository. With an admin or recovery key, it also proves that the newest snapshots can be
/// opened. Exits with 3 if a source has no such snapshot, or if anything else needs attention.
///
/// Set the maximum age of a snapshot in sidekeep.toml, with max_age in the section [status] or in the section of a
/// source [default: 26 hours].
#[derive(Args)]
#[command(after_help = "\
Examples:
    sidekeep status
    sidekeep status --key-file auditor.key > out || mail -s \"no backup\" ops@example.org < out")]
pub(crate) struct StatusArgs {}

/// Checks every source.
/// Fails if the configuration cannot be read, the repository cannot be unlocked, or a ledger cannot be read.
pub(crate) fn run(_args: &StatusArgs, context: &CommandContext) -> Result<Outcome, CliError> {
    let config = context.config()?;
    let unlocked = context.unlocked()?;
    let configured = ConfiguredSources::read(config, &unlocked, context)?;
    let options =
        StatusOptions { sources: Vec::new(), max_age: config.status.max_age, max_age_of: configured.max_age_of };
    let mut report = status::run(&unlocked, &options)?;
    if report.sources.is_empty() {
        let detail = "no source has been backed up yet";
        report.findings.push(Finding::new(FindingKind::NoSnapshot, "the repository", detail));
    }
    for name in configured.unknown {
        let detail = "it is in the configuration but was never backed up";
        report.findings.push(Finding::new(FindingKind::NoSnapshot, name, detail));
    }
    context.ui.result("status", &report, human)?;
    Ok(outcome(&report.findings))
}

/// The sources in the configuration.
#[derive(Default)]
struct ConfiguredSources {
    /// Sources that have their own limit.
    max_age_of: BTreeMap<SourceId, Duration>,
    /// Names of sources that are not in the repository.
    unknown: Vec<String>,
}

impl ConfiguredSources {
    fn read(config: &Config, unlocked: &Unlocked, context: &CommandContext) -> Result<Self, CliError> {
        let mut configured = Self::default();
        for (name, source) in &config.source {
            let wanted = choose(config, Some(name), context.host_environment())?.wanted();
            match (unlocked.find_source(Some(&wanted)), source.max_age) {
                (Ok(id), Some(max_age)) => drop(configured.max_age_of.insert(id, max_age)),
                (Ok(_), None) => {}
                (Err(_), _) => configured.unknown.push(name.clone()),
            }
        }
        Ok(configured)
    }
}

const COLUMNS: [(&str, Align); 7] = [
    ("source", Align::Left),
    ("state", Align::Left),
    ("age", Align::Right),
    ("limit", Align::Right),
    ("snapshot", Align::Left),
    ("as of", Align::Left),
    ("opened", Align::Left),
];

fn human(report: &StatusReport) -> String {
    let mut table = TextTable::new(&COLUMNS);
    for source in &report.sources {
        table.row(human_source(source));
    }
    let table = if table.is_empty() { String::new() } else { table.render() };
    table + &human_findings(&report.findings)
}

fn human_source(source: &SourceStatus) -> [String; 7] {
    let newest = source.newest.as_ref();
    [
        name(source),
        state(source.freshness).to_owned(),
        newest.map(|newest| duration(Duration::from_secs(newest.age_s))).unwrap_or_default(),
        duration(Duration::from_secs(source.max_age_s)),
        newest.map(|newest| short(&newest.id)).unwrap_or_default(),
        newest.map(|newest| moment(newest.source_clock)).unwrap_or_default(),
        opening(&source.opening).to_owned(),
    ]
}

fn name(source: &SourceStatus) -> String {
    source.name.clone().unwrap_or_else(|| source.source.to_string())
}

fn state(freshness: Freshness) -> &'static str {
    match freshness {
        Freshness::Fresh => "fresh",
        Freshness::Stale => "STALE",
        Freshness::Empty => "EMPTY",
    }
}

fn opening(opening: &NewestSnapshotState) -> &'static str {
    match opening {
        NewestSnapshotState::Proven => "yes",
        NewestSnapshotState::Unproven => "",
        NewestSnapshotState::Failed { .. } => "FAILED",
    }
}
