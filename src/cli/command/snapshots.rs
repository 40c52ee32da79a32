//! `sidekeep snapshots`

use clap::Args;

use crate::cli::context::CommandContext;
use crate::cli::exit::{CliError, Outcome};
use crate::cli::render::{Align, TextTable, bytes, count, moment, printable, short};
use crate::cli::snapshot::SourceArgs;
use crate::ops::snapshots::SourceSnapshots;
use crate::ops::snapshots::{self, Counts, SnapshotLine, SnapshotState, SnapshotsOptions, SnapshotsReport};
use crate::ops::verify::Access;

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
        snapshots::run(Access::Key(&unlocked), &options)?
    } else {
        let repository = context.repository()?;
        let sources = args.source.find_public(&repository)?.into_iter().collect();
        snapshots::run(Access::Public(&repository), &SnapshotsOptions { sources, counts })?
    };
    context.ui.result("snapshots", &report, human)?;
    let is_found = |source: &SourceSnapshots| {
        let odd = |line: &SnapshotLine| line.state == SnapshotState::Suspect || line.unreadable.is_some();
        source.snapshots.iter().any(odd) || !source.voids.is_empty() || !source.ignored.is_empty()
    };
    Ok(if report.sources.iter().any(is_found) || !report.doubts.is_empty() { Outcome::Findings } else { Outcome::Done })
}

fn human(report: &SnapshotsReport) -> String {
    let doubts: String =
        report.doubts.iter().map(|doubt| format!("a source may be missing: {}\n", printable(doubt))).collect();
    if report.sources.is_empty() {
        return format!("no source has been backed up yet\n{doubts}");
    }
    let sources: Vec<String> = report.sources.iter().map(human_source).collect();
    sources.join("\n") + &doubts
}

fn human_source(source: &SourceSnapshots) -> String {
    let id = source.source.to_string();
    let mut text = format!("source {}\n", printable(source.name.as_deref().unwrap_or(&id)));
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
    text += &if table.is_empty() { "no snapshots\n".to_owned() } else { table.render() };
    for line in &source.snapshots {
        if let Some(reason) = &line.unreadable {
            text += &format!("unreadable: {}: {}\n", short(&line.id), printable(reason));
        }
    }
    for void in &source.voids {
        text += &format!("void: ledger entry {}: {}\n", void.number, printable(&void.reason));
    }
    if let (Some(first), Some(last)) = (source.ignored.first(), source.ignored.last()) {
        text += &format!("ignored: ledger entries {first} to {last} stand beyond a gap\n");
    }
    text
}

/// The word for a state.
pub(super) fn state(state: SnapshotState) -> &'static str {
    match state {
        SnapshotState::Clean => "clean",
        SnapshotState::Suspect => "SUSPECT",
        SnapshotState::Accepted => "accepted",
    }
}
