//! `sidekeep snapshots`

use clap::Args;

use crate::cli::context::CommandContext;
use crate::cli::exit::{CliError, Outcome};
use crate::cli::findings::{human_findings, outcome};
use crate::cli::render::{Align, TextTable, bytes, count, moment, printable, short};
use crate::cli::snapshot::SourceArgs;
use crate::ops::access::RepositoryAccess;
use crate::ops::snapshots::{self, Counts, SnapshotState, SnapshotsOptions, SnapshotsReport, SourceSnapshots};

/// List the snapshots, oldest first
///
/// Any key shows everything. Without one, only what is public is shown: ids, times, sizes, tags and signers. Ends with
/// 3 if a snapshot is suspect or the ledger is not in order.
#[derive(Args)]
#[command(after_help = "\
Examples:
    sidekeep snapshots
    sidekeep snapshots --repo s3://sync-backups/main --key-file auditor.key --json")]
pub(crate) struct SnapshotsArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Do not read what each snapshot holds, only the ledger
    #[arg(long)]
    no_counts: bool,
}

pub(crate) fn run(args: &SnapshotsArgs, context: &CommandContext) -> Result<Outcome, CliError> {
    let counts = if args.no_counts { Counts::Skip } else { Counts::Read };
    let report = if context.has_key()? {
        let unlocked = context.unlocked()?;
        let sources = args.source.is_named().then(|| args.source.find(&unlocked)).transpose()?;
        let options = SnapshotsOptions { sources: sources.into_iter().collect(), counts };
        snapshots::run(RepositoryAccess::WithKey(&unlocked), &options)?
    } else {
        let repository = context.repository()?;
        let sources = args.source.find_public(&repository)?.into_iter().collect();
        snapshots::run(RepositoryAccess::WithoutKey(&repository), &SnapshotsOptions { sources, counts })?
    };
    context.ui.result("snapshots", &report, human)?;
    Ok(outcome(&report.findings))
}

fn human(report: &SnapshotsReport) -> String {
    let sources: Vec<String> = report.sources.iter().map(human_source).collect();
    let text = if sources.is_empty() { "no source has been backed up yet\n".to_owned() } else { sources.join("\n") };
    text + &human_findings(&report.findings)
}

fn human_source(source: &SourceSnapshots) -> String {
    let id = source.source.to_string();
    let text = format!("source {}\n", printable(source.name.as_deref().unwrap_or(&id)));
    let mut table = TextTable::new(&[
        ("snapshot", Align::Left),
        ("as of", Align::Left),
        ("rows", Align::Right),
        ("bytes", Align::Right),
        ("new", Align::Right),
        ("gaps", Align::Right),
        ("state", Align::Left),
        ("tags", Align::Left),
    ]);
    for line in &source.snapshots {
        table.row([
            short(&line.id),
            moment(line.source_clock),
            line.rows.map(count).unwrap_or_default(),
            line.bytes.map(bytes).unwrap_or_default(),
            bytes(line.new_bytes),
            line.gaps.filter(|gaps| *gaps > 0).map(|gaps| gaps.to_string()).unwrap_or_default(),
            state(line.state).to_owned(),
            line.tags.join(" "),
        ]);
    }
    text + &if table.is_empty() { "no snapshots\n".to_owned() } else { table.render() }
}

/// The word for a state.
pub(super) fn state(state: SnapshotState) -> &'static str {
    match state {
        SnapshotState::Clean => "clean",
        SnapshotState::Suspect => "SUSPECT",
        SnapshotState::Accepted => "accepted",
    }
}
