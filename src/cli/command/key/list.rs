//! `sidekeep key list`

use clap::Args;

use crate::base::id::Epoch;
use crate::cli::context::CommandContext;
use crate::cli::error::CliError;
use crate::cli::exit::Outcome;
use crate::cli::findings::{human_findings, outcome};
use crate::cli::render::{Align, TextTable, printable};
use crate::ops::access::RepositoryAccess;
use crate::ops::keys::list::{self, KeySources, KeysReport, ListedKey};

/// List the keys with their roles and epochs
///
/// Needs no key. With a key, sources have names, and the key is marked with a star.
#[derive(Args)]
#[command(after_help = "Examples:\n    sidekeep key list\n    sidekeep key list --json")]
pub(super) struct KeyListArgs {}

/// Lists the keys.
/// Fails if the repository cannot be opened or unlocked.
pub(super) fn run(_args: &KeyListArgs, context: &CommandContext) -> Result<Outcome, CliError> {
    let report = report(context)?;
    context.ui.result("key-list", &report, human)?;
    Ok(outcome(&report.findings))
}

fn report(context: &CommandContext) -> Result<KeysReport, CliError> {
    if !context.has_key()? {
        return Ok(list::list(RepositoryAccess::WithoutKey(&context.repository()?), None));
    }
    let own = context.key_header()?.key;
    let repository = context.repository()?;
    let is_valid = repository.roster().keys.get(&own).is_some_and(|state| state.revoked.is_none());
    if !is_valid {
        // It cannot name sources any more, but its holder should see why.
        return Ok(list::list(RepositoryAccess::WithoutKey(&repository), Some(own)));
    }
    Ok(list::list(RepositoryAccess::WithKey(&context.unlocked()?), Some(own)))
}

fn human(report: &KeysReport) -> String {
    let columns = ["", "key", "role", "label", "sources", "epochs", "state"].map(|name| (name, Align::Left));
    let mut table = TextTable::new(&columns);
    for line in &report.keys {
        let own = if line.is_own { "*" } else { "" };
        table.row([
            own.to_owned(),
            line.key.to_string(),
            line.role.to_string(),
            printable(&line.label).into_owned(),
            sources(line),
            epochs(&line.epochs),
            state(line),
        ]);
    }
    table.render() + &human_findings(&report.findings)
}

fn sources(line: &ListedKey) -> String {
    match &line.sources {
        None => String::new(),
        Some(KeySources::All) => "all".to_owned(),
        Some(KeySources::Named(sources)) => {
            let names = sources.iter().map(|named| named.name.clone().unwrap_or_else(|| named.source.to_string()));
            printable(&names.collect::<Vec<_>>().join(", ")).into_owned()
        }
    }
}

/// The numbers of epochs, separated by commas.
pub(super) fn epochs(epochs: &[Epoch]) -> String {
    epochs.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn state(line: &ListedKey) -> String {
    match line.revoked {
        None => String::new(),
        Some(revoked) => {
            let reason = serde_json::to_value(revoked.reason).unwrap_or_default();
            let distrusted = if line.is_distrusted { ", distrusted" } else { "" };
            format!("revoked in entry {}: {}{distrusted}", revoked.entry, reason.as_str().unwrap_or_default())
        }
    }
}
