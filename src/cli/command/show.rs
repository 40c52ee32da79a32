//! `sidekeep show`

use clap::Args;

use super::snapshots::state;
use crate::cli::context::CommandContext;
use crate::cli::error::CliError;
use crate::cli::exit::Outcome;
use crate::cli::findings::{human_findings, outcome};
use crate::cli::render::{Align, TextTable, bytes, count, count_or_blank, moment, plural, printable};
use crate::cli::snapshot::SnapshotArgs;
use crate::format::manifest::TableSummary;
use crate::ops::show::{self, ShowOptions, ShowReport};

/// Show what a snapshot contains: tables, row counts, gaps, and its ledger entry
///
/// Shows for each table its rows, the owners that have some, the rows without an owner (unowned), with an owner that
/// does not exist (orphans) and with a duplicate key, and its size.
///
/// Opens no row, so an auditor's key is enough. Exits with 3 if the snapshot is suspect or has gaps: things that could
/// not be captured.
#[derive(Args)]
#[command(after_help = "\
Examples:
    sidekeep show latest
    sidekeep show --at \"yesterday 03:00\" --key-file auditor.key")]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    snapshot: SnapshotArgs,
}

/// Describes a snapshot.
/// Fails if the repository cannot be unlocked, the source or the snapshot is not found, or the manifest cannot be read.
pub(crate) fn run(args: &ShowArgs, context: &CommandContext) -> Result<Outcome, CliError> {
    let snapshot = args.snapshot.selector(context)?;
    let unlocked = context.unlocked()?;
    let source = args.snapshot.source.find(&unlocked, context)?;
    let report = show::run(&unlocked, &ShowOptions { source, snapshot })?;
    context.ui.result("show", &report, human)?;
    Ok(outcome(&report.findings))
}

fn human(report: &ShowReport) -> String {
    let mut text = identity_lines(report) + &tags_line(report) + &contents_line(report) + &entry_lines(report);
    text += &tables(report);
    text + &human_findings(&report.findings)
}

fn identity_lines(report: &ShowReport) -> String {
    let id = report.source.to_string();
    let source = report.source_name.as_deref().unwrap_or(&id);
    let mut text = format!("snapshot  {}\n", report.snapshot);
    text += &format!("source    {} ({})\n", printable(source), printable(&report.engine));
    text += &format!("as of     {}\n", moment(report.source_clock));
    text + &format!("state     {}\n", state(report.state))
}

fn tags_line(report: &ShowReport) -> String {
    if report.tags.is_empty() {
        return String::new();
    }
    format!("tags      {}\n", printable(&report.tags.join(" ")))
}

fn contents_line(report: &ShowReport) -> String {
    let text = format!("contains  {}, {}", plural(report.rows, "row"), bytes(report.bytes));
    if report.streams == 0 {
        return text + "\n";
    }
    let values = plural(report.streams, "large value");
    format!("{text}, of which {} in {values}\n", bytes(report.stream_bytes))
}

/// The ledger entry, and how much it added to the store.
fn entry_lines(report: &ShowReport) -> String {
    let entry = &report.entry;
    let added = entry.packs.bytes + entry.adopted.bytes + entry.ahead.bytes;
    let packs = entry.packs.count + entry.adopted.count + entry.ahead.count;
    let mut text = format!("entry     {}, signed by {}, {}\n", entry.number, signer(report), moment(entry.written));
    text += &format!("added     {} in {}\n\n", bytes(added), plural(packs as u64, "pack"));
    text
}

fn signer(report: &ShowReport) -> String {
    match &report.entry.signer_label {
        Some(label) => printable(label).into_owned(),
        None => report.entry.signer.to_string(),
    }
}

const COLUMNS: [(&str, Align); 7] = [
    ("table", Align::Left),
    ("rows", Align::Right),
    ("owners", Align::Right),
    ("unowned", Align::Right),
    ("orphans", Align::Right),
    ("duplicates", Align::Right),
    ("bytes", Align::Right),
];

fn tables(report: &ShowReport) -> String {
    let mut table = TextTable::new(&COLUMNS);
    for line in &report.tables {
        table.row(table_cells(line));
    }
    table.render()
}

fn table_cells(line: &TableSummary) -> [String; 7] {
    [
        line.name.clone(),
        count(line.rows),
        count_or_blank(line.owners),
        count_or_blank(line.none),
        count_or_blank(line.orphan),
        count_or_blank(line.duplicates),
        bytes(line.bytes),
    ]
}
