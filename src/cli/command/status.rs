//! `sidekeep status`

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::base::id::SourceId;
use crate::cli::config::Config;
use crate::cli::context::CommandContext;
use crate::cli::error::CliError;
use crate::cli::exit::Outcome;
use crate::cli::render::{Align, TextTable, duration, moment, printable, short};
use crate::cli::source::choose;
use crate::ops::status::{self, Freshness, NewestSnapshotState, SourceStatus, StatusOptions, StatusReport};
use crate::repo::open::Unlocked;

/// Say whether every source has a clean snapshot that is young enough
///
/// Ends with 3 if one has not, or if anything else should be looked at. How old a snapshot may be is max_age of the
/// section [status] in sidekeep.toml, 26 hours by default, or max_age of a source. With the admin's or the recovery key
/// it also proves that the newest snapshots can be opened.
#[derive(Args)]
#[command(after_help = "\
Examples:
    sidekeep status
    sidekeep status --key-file auditor.key > status.txt || mail -s \"no backup\" ops@example.org < status.txt")]
pub(crate) struct StatusArgs {}

#[derive(Serialize)]
struct StatusDocument {
    #[serde(flatten)]
    report: StatusReport,
    /// Sources of the configuration that the repository does not know.
    never_backed_up: Vec<String>,
}

pub(crate) fn run(_args: &StatusArgs, context: &CommandContext) -> Result<Outcome, CliError> {
    let config = context.config()?;
    let unlocked = context.unlocked()?;
    let (max_age_of, never_backed_up) = configured(config, &unlocked, context)?;
    let options = StatusOptions { sources: Vec::new(), max_age: config.status.max_age, max_age_of };
    let document = StatusDocument { report: status::run(&unlocked, &options)?, never_backed_up };
    context.ui.result("status", &document, human)?;
    let is_well = document.report.findings.is_empty()
        && document.never_backed_up.is_empty()
        && !document.report.sources.is_empty();
    Ok(if is_well { Outcome::Done } else { Outcome::Findings })
}

/// The limits of the sources of the configuration, and those that the repository does not know.
fn configured(
    config: &Config,
    unlocked: &Unlocked,
    context: &CommandContext,
) -> Result<(BTreeMap<SourceId, Duration>, Vec<String>), CliError> {
    let (mut max_age_of, mut unknown) = (BTreeMap::new(), Vec::new());
    for (name, source) in &config.source {
        let label = choose(config, Some(name), context.host_environment())?.label();
        match (unlocked.find_source(Some(&label)), source.max_age) {
            (Ok(id), Some(max_age)) => drop(max_age_of.insert(id, max_age)),
            (Ok(_), None) => {}
            (Err(_), _) => unknown.push(name.clone()),
        }
    }
    Ok((max_age_of, unknown))
}

fn human(document: &StatusDocument) -> String {
    let report = &document.report;
    let mut table = TextTable::new(&[
        ("source", Align::Left),
        ("state", Align::Left),
        ("age", Align::Right),
        ("limit", Align::Right),
        ("snapshot", Align::Left),
        ("as of", Align::Left),
        ("opened", Align::Left),
    ]);
    for source in &report.sources {
        let newest = source.newest.as_ref();
        table.row([
            name(source),
            state(source.freshness).to_owned(),
            newest.map(|newest| duration(Duration::from_secs(newest.age_s))).unwrap_or_default(),
            duration(Duration::from_secs(source.max_age_s)),
            newest.map(|newest| short(&newest.id)).unwrap_or_default(),
            newest.map(|newest| moment(newest.source_clock)).unwrap_or_default(),
            opening(&source.opening).to_owned(),
        ]);
    }
    let mut text = if table.is_empty() { "no source has been backed up yet\n".to_owned() } else { table.render() };
    for finding in &report.findings {
        text += &format!("{}: {}\n", printable(&finding.source), printable(&finding.text));
    }
    for name in &document.never_backed_up {
        text += &format!("{name}: it is in the configuration and was never backed up\n");
    }
    text
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
