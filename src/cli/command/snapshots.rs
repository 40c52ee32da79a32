//! `sidekeep snapshots`

use clap::Args;

use crate::base::id::SourceId;
use crate::cli::context::CommandContext;
use crate::cli::error::CliError;
use crate::cli::exit::Outcome;
use crate::cli::findings::{human_findings, outcome};
use crate::cli::render::{Align, TextTable, bytes, count, moment, printable, short};
use crate::cli::snapshot::SourceArgs;
use crate::ops::access::RepositoryAccess;
use crate::ops::snapshots::{
    self, Counts, SnapshotLine, SnapshotState, SnapshotsOptions, SnapshotsReport, SourceSnapshots,
};

/// List the snapshots, oldest first
///
/// With any key of the repository, the list is complete. Without a key, it shows only what is public: ids, times,
/// sizes, tags and signers. Exits with 3 if a snapshot is suspect or the ledger is not in order.
#[derive(Args)]
#[command(after_help = "\
Examples:
    sidekeep snapshots
    sidekeep snapshots --repo s3://sync-backups/main --key-file auditor.key --json")]
pub(crate) struct SnapshotsArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Read only the ledger; do not show rows, sizes and gaps of each snapshot
    #[arg(long)]
    no_counts: bool,
}

/// Lists snapshots.
/// Fails if the repository cannot be opened or unlocked, the source is not found, or a ledger cannot be read.
pub(crate) fn run(args: &SnapshotsArgs, context: &CommandContext) -> Result<Outcome, CliError> {
    let report = if context.has_key()? { args.list_all(context)? } else { args.list_public(context)? };
    context.ui.result("snapshots", &report, human)?;
    Ok(outcome(&report.findings))
}

impl SnapshotsArgs {
    fn list_all(&self, context: &CommandContext) -> Result<SnapshotsReport, CliError> {
        let unlocked = context.unlocked()?;
        let source = self.source.find_named(&unlocked, context)?;
        Ok(snapshots::run(RepositoryAccess::WithKey(&unlocked), &self.options(source))?)
    }

    fn list_public(&self, context: &CommandContext) -> Result<SnapshotsReport, CliError> {
        let repository = context.repository()?;
        let source = self.source.find_public(&repository, context)?;
        Ok(snapshots::run(RepositoryAccess::WithoutKey(&repository), &self.options(source))?)
    }

    fn options(&self, source: Option<SourceId>) -> SnapshotsOptions {
        let counts = if self.no_counts { Counts::Skip } else { Counts::Read };
        SnapshotsOptions { sources: source.into_iter().collect(), counts }
    }
}

fn human(report: &SnapshotsReport) -> String {
    let sources: Vec<String> = report.sources.iter().map(human_source).collect();
    let text = if sources.is_empty() { "no source has been backed up yet\n".to_owned() } else { sources.join("\n") };
    text + &human_findings(&report.findings)
}

fn human_source(source: &SourceSnapshots) -> String {
    let id = source.source.to_string();
    let name = source.name.as_deref().unwrap_or(&id);
    let table = snapshots_table(source);
    let snapshots = if table.is_empty() { "no snapshots\n".to_owned() } else { table.render() };
    format!("source {}\n{snapshots}", printable(name))
}

const COLUMNS: [(&str, Align); 8] = [
    ("snapshot", Align::Left),
    ("as of", Align::Left),
    ("rows", Align::Right),
    ("bytes", Align::Right),
    ("new", Align::Right),
    ("gaps", Align::Right),
    ("state", Align::Left),
    ("tags", Align::Left),
];

fn snapshots_table(source: &SourceSnapshots) -> TextTable {
    let mut table = TextTable::new(&COLUMNS);
    for line in &source.snapshots {
        table.row(snapshot_cells(line));
    }
    table
}

fn snapshot_cells(line: &SnapshotLine) -> [String; 8] {
    let gaps = line.gaps.filter(|gaps| *gaps > 0);
    [
        short(&line.id),
        moment(line.source_clock),
        line.rows.map(count).unwrap_or_default(),
        line.bytes.map(bytes).unwrap_or_default(),
        bytes(line.new_bytes),
        gaps.map(|gaps| gaps.to_string()).unwrap_or_default(),
        state(line.state).to_owned(),
        line.tags.join(" "),
    ]
}

/// The name of a state.
pub(super) fn state(state: SnapshotState) -> &'static str {
    match state {
        SnapshotState::Clean => "clean",
        SnapshotState::Suspect => "SUSPECT",
        SnapshotState::Accepted => "accepted",
        SnapshotState::Rejected => "REJECTED",
    }
}
