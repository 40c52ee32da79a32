//! `sidekeep show`

use clap::Args;

use super::snapshots::state;
use crate::cli::context::CommandContext;
use crate::cli::exit::{CliError, Outcome};
use crate::cli::findings::{human_findings, outcome};
use crate::cli::render::{Align, TextTable, bytes, count, moment, plural, printable};
use crate::cli::snapshot::SnapshotArgs;
use crate::ops::show::{self, ShowOptions, ShowReport};

/// Show what a snapshot holds: tables, rows, what could not be captured, and its ledger entry
///
/// Opens no row, so that an auditor's key will do. Ends with 3 if the snapshot is suspect or something could not be
/// captured.
#[derive(Args)]
#[command(after_help = "\
Examples:
    sidekeep show latest
    sidekeep show --at \"yesterday 03:00\" --key-file auditor.key")]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    snapshot: SnapshotArgs,
}

pub(crate) fn run(args: &ShowArgs, context: &CommandContext) -> Result<Outcome, CliError> {
    let snapshot = args.snapshot.selector(context)?;
    let unlocked = context.unlocked()?;
    let source = args.snapshot.source.find(&unlocked)?;
    let report = show::run(&unlocked, &ShowOptions { source, snapshot })?;
    context.ui.result("show", &report, human)?;
    Ok(outcome(&report.findings))
}

fn human(report: &ShowReport) -> String {
    let entry = &report.entry;
    let id = report.source.to_string();
    let source = report.source_name.as_deref().unwrap_or(&id);
    let mut text = format!("snapshot  {}\n", report.snapshot);
    text += &format!("source    {} ({})\n", printable(source), printable(&report.engine));
    text += &format!("as of     {}\n", moment(report.source_clock));
    text += &format!("state     {}\n", state(report.state));
    if !report.tags.is_empty() {
        text += &format!("tags      {}\n", printable(&report.tags.join(" ")));
    }
    text += &format!("holds     {}, {}", plural(report.rows, "row"), bytes(report.bytes));
    if report.streams > 0 {
        text += &format!(", of which {} in {}", bytes(report.stream_bytes), plural(report.streams, "large value"));
    }
    let signer = entry.signer_label.as_deref().map_or_else(|| entry.signer.to_string(), |l| printable(l).into_owned());
    text += &format!("\nentry     {}, signed by {signer}, {}\n", entry.number, moment(entry.written));
    text += &format!(
        "added     {} in {}\n\n",
        bytes(entry.packs.bytes + entry.adopted.bytes + entry.ahead.bytes),
        plural((entry.packs.count + entry.adopted.count + entry.ahead.count) as u64, "pack")
    );
    text += &tables(report);
    text + &human_findings(&report.findings)
}

fn tables(report: &ShowReport) -> String {
    let mut table = TextTable::new(&[
        ("table", Align::Left),
        ("rows", Align::Right),
        ("owners", Align::Right),
        ("unowned", Align::Right),
        ("orphans", Align::Right),
        ("duplicates", Align::Right),
        ("bytes", Align::Right),
    ]);
    let some = |n: u64| if n == 0 { String::new() } else { count(n) };
    for line in &report.tables {
        table.row([
            line.name.clone(),
            count(line.rows),
            some(line.owners),
            some(line.none),
            some(line.orphan),
            some(line.duplicates),
            bytes(line.bytes),
        ]);
    }
    table.render()
}
